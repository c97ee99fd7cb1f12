//! A file of `KEY=VALUE` lines, as Docker and Compose read them.

/// Lines that are not `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; write such as DISCORD_SHARD_COUNT=8, without spaces in the name, or # before a comment", in_words(.lines))]
pub struct EnvFileError {
    /// The lines' numbers, from 1. What stands there may be a secret, and is not shown.
    pub lines: Vec<usize>,
}

fn in_words(lines: &[usize]) -> String {
    match lines {
        [line] => format!("line {line} is neither KEY=VALUE nor a comment"),
        lines => {
            let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            format!("lines {} are neither KEY=VALUE nor comments", lines.join(", "))
        }
    }
}

/// The pairs of a file, in order. Empty lines, and those that begin with `#`, say nothing; `export` before a name is
/// passed over; quotes around a whole value are taken off; nothing in a value is replaced, and what follows ` #` after
/// a value without quotes is a comment.
///
/// # Errors
///
/// Every line that is not `KEY=VALUE`.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, EnvFileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pairs = Vec::new();
    let mut wrong = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let pair = line.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        match pair.filter(|(name, _)| !name.is_empty() && !name.contains(char::is_whitespace)) {
            Some((name, value)) => pairs.push((name.to_owned(), value_of(value).to_owned())),
            None => wrong.push(number + 1),
        }
    }
    if wrong.is_empty() { Ok(pairs) } else { Err(EnvFileError { lines: wrong }) }
}

fn value_of(text: &str) -> &str {
    for quote in ['"', '\''] {
        let Some(rest) = text.strip_prefix(quote) else { continue };
        // The first quote that ends the value; the last, where others stand within it.
        for (inside, after) in rest.split_once(quote).into_iter().chain(rest.rsplit_once(quote)) {
            if after.trim().is_empty() || after.trim_start().starts_with('#') {
                return inside;
            }
        }
    }
    // `#` alone may be a part of a value; after white space it begins a comment.
    match text.find(" #") {
        Some(end) => text[..end].trim_end(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_comments_quotes_and_export_are_read() {
        let text = "\u{feff}# a comment\n\nA=1\r\nexport B = two words \nC=\"x # y\" # comment\nD='{\"a\":1}'\nE=a#b # c\nF=\nG=a=b\nH='x' # it's";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "x # y"),
            ("D", "{\"a\":1}"),
            ("E", "a#b"),
            ("F", ""),
            ("G", "a=b"),
            ("H", "x"),
        ];
        assert_eq!(parse(text), Ok(expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into()));
    }

    #[test]
    fn a_line_that_is_no_pair_is_told_by_its_number_alone() {
        assert_eq!(parse("A=1\nsecret\n"), Err(EnvFileError { lines: vec![2] }));
        assert_eq!(parse("=x\nA=1\nset B=2"), Err(EnvFileError { lines: vec![1, 3] }));
        assert!(!parse("secret").expect_err("no pair").to_string().contains("secret"));
    }
}
