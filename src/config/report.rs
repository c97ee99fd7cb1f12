//! What is wrong with a configuration, all of it at once, and what is only doubtful.

use std::fmt;

/// One mistake: which variable, what it was given, what is wrong with that, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The variable's name.
    pub variable: String,
    /// What it was given.
    pub given: Given,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

/// What a variable was given, as far as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// Nothing: it is not set.
    Nothing,
    /// This text, shortened where it is long.
    Text(String),
    /// A secret.
    Secret,
}

impl Given {
    /// As much of a text as a message has room for.
    const SHOWN: usize = 80;

    /// The text, shortened.
    pub(super) fn text(text: &str) -> Self {
        let text = without_credentials(text);
        Self::Text(match text.char_indices().nth(Self::SHOWN) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        })
    }
}

/// Puts `***` in the place of user and password of each URL: one of these may stand where it does not belong.
fn without_credentials(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        shown.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => {
                shown.push_str("***");
                &after[at..]
            }
            None => after,
        };
    }
    shown + rest
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, given, problem, remedy } = self;
        match given {
            Given::Nothing => write!(f, "{variable} is not set: {problem}; {remedy}"),
            Given::Text(text) => write!(f, "{variable}={text:?}: {problem}; {remedy}"),
            Given::Secret => write!(f, "{variable} (not shown): {problem}; {remedy}"),
        }
    }
}

/// Something that does not stop the service, but that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The variable's name.
    pub variable: String,
    /// What is doubtful about it, and what to do.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.text)
    }
}

/// Everything that is wrong with a configuration. Prints a line a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// At least one.
    pub mistakes: Vec<Mistake>,
    /// The warnings that a good configuration would have come with: the reason is often among them.
    pub warnings: Vec<Warning>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => f.write_str("the configuration has a mistake:")?,
            n => write!(f, "the configuration has {n} mistakes:")?,
        }
        for mistake in &self.mistakes {
            write!(f, "\n  {mistake}")?;
        }
        for warning in &self.warnings {
            write!(f, "\n  (warning) {warning}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Gathers what the parsers find. A parser that reports a mistake returns some value to go on with, so that the
/// variables after it are looked at too; [`Report::finish`] lets no such value out.
#[derive(Default)]
pub(super) struct Report {
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
    from_files: Vec<&'static str>,
}

impl Report {
    /// The variable was given this text, and it is wrong.
    pub fn wrong(&mut self, variable: &str, given: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.mistake(variable, Given::text(given), problem.into(), remedy.into());
    }

    /// The variable was given a secret, and it is wrong. Neither text may quote it.
    pub fn wrong_secret(&mut self, variable: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.mistake(variable, Given::Secret, problem.into(), remedy.into());
    }

    /// The variable has to be set, and is not.
    pub fn missing(&mut self, variable: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.mistake(variable, Given::Nothing, problem.into(), remedy.into());
    }

    /// The variable is doubtful.
    pub fn warn(&mut self, variable: &str, text: impl Into<String>) {
        self.warnings.push(Warning { variable: variable.to_owned(), text: without_credentials(&text.into()) });
    }

    /// This variable's value is what the file has that `<NAME>_FILE` names.
    pub fn is_from_file(&mut self, variable: &'static str) {
        self.from_files.push(variable);
    }

    /// The value that was made, if nothing was wrong.
    pub fn finish<T>(mut self, value: T) -> Result<(T, Vec<Warning>), ConfigErrors> {
        let mistakes = self.mistakes.iter_mut().map(|mistake| &mut mistake.variable);
        for variable in mistakes.chain(self.warnings.iter_mut().map(|warning| &mut warning.variable)) {
            if self.from_files.contains(&variable.as_str()) {
                *variable = format!("{variable}, from the file that {variable}_FILE names");
            }
        }
        if self.mistakes.is_empty() {
            Ok((value, self.warnings))
        } else {
            Err(ConfigErrors { mistakes: self.mistakes, warnings: self.warnings })
        }
    }

    fn mistake(&mut self, variable: &str, given: Given, problem: String, remedy: String) {
        let problem = without_credentials(&problem);
        self.mistakes.push(Mistake { variable: variable.to_owned(), given, problem, remedy });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_of_a_url_are_not_shown_wherever_it_stands() {
        for (text, shown) in [
            ("amqp://me:p@ss@mq:5672/v and http://x", "amqp://***@mq:5672/v and http://x"),
            ("a \"https://me:pass@x/y\", b@c", "a \"https://***@x/y\", b@c"),
            ("://@://a:b@", "://***@"),
            ("me@example", "me@example"),
        ] {
            assert_eq!(without_credentials(text), shown, "{text}");
        }
    }

    #[test]
    fn a_long_value_is_shortened_and_a_secret_one_is_not_shown() {
        let mut report = Report::default();
        report.wrong("LONG", &"é".repeat(100), "too long", "write less");
        report.wrong_secret("TOKEN", "empty", "write one");
        report.missing("NEEDED", "nothing works without it", "set it");
        let text = report.finish(()).expect_err("mistakes").to_string();
        let expected = format!(
            "the configuration has 3 mistakes:\n  LONG=\"{}…\": too long; write less\n  TOKEN (not shown): empty; \
             write one\n  NEEDED is not set: nothing works without it; set it",
            "é".repeat(80)
        );
        assert_eq!(text, expected);
    }
}
