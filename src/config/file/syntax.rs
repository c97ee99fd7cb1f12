//! YAML, JSON and TOML, with errors that say where and quote nothing.

use serde_json::Value;

use super::FileError;

pub(super) fn json(text: &str) -> Result<Value, FileError> {
    serde_json::from_str(text).map_err(|error| {
        let told = error.to_string();
        let at = format!(" at line {} column {}", error.line(), error.column());
        FileError::Syntax {
            line: error.line(),
            column: error.column(),
            problem: format!("not JSON: {}", told.strip_suffix(&at).unwrap_or(&told)),
        }
    })
}

pub(super) fn toml(text: &str) -> Result<Value, FileError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        FileError::Syntax {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            problem: format!("not TOML: {}", error.message()),
        }
    })
}

pub(super) fn yaml(text: &str) -> Result<Value, FileError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error: serde_saphyr::Error| {
        if let Some(comma) = comma(text) {
            return comma;
        }
        let at = error.location();
        let place = |place: Option<u64>| place.and_then(|place| usize::try_from(place).ok()).unwrap_or(1);
        FileError::Syntax {
            line: place(at.map(|at| at.line())),
            column: place(at.map(|at| at.column())),
            problem: format!("not YAML: {}", first_line(&error.to_string())),
        }
    })
}

/// A library's message may go on with an excerpt, and the token may be in that.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A comma behind a quoted value, as sinGateway's own example has it: YAML's readers tell of something else then, a line
/// further down. In a text that they can read it is right.
fn comma(text: &str) -> Option<FileError> {
    for (index, line) in text.lines().enumerate() {
        let Some(before) = line.trim_end().strip_suffix(',') else { continue };
        let item = before.trim_start().trim_start_matches("- ").trim_start();
        let Some((key, value)) = item.split_once(": ") else { continue };
        let (key, value) = (key.trim_end(), value.trim());
        let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        let is_quoted = ['"', '\''].into_iter().any(|quote| {
            value.len() > 1 && value.strip_prefix(quote).and_then(|rest| rest.find(quote)) == Some(value.len() - 2)
        });
        if is_key && is_quoted {
            return Some(FileError::Syntax {
                line: index + 1,
                column: before.chars().count() + 1,
                problem:
                    "not YAML: a comma stands behind a quoted value; take it away, here and wherever a line ends so"
                        .to_owned(),
            });
        }
    }
    None
}
