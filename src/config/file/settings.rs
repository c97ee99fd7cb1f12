//! A file's settings, taken out one by one: each becomes a variable, and what is left over is told.

use serde_json::{Map, Value};

use super::super::nearest::nearest;
use super::super::report::Warning;
use super::{FileError, FileSettings, FileVariable};

/// The settings of one section.
pub(super) struct Settings<'a> {
    /// The section's name and a dot; empty at the top.
    path: String,
    rest: Map<String, Value>,
    /// Every key that was asked for.
    known: Vec<&'static str>,
    found: &'a mut FileSettings,
}

impl<'a> Settings<'a> {
    pub fn new(map: Map<String, Value>, found: &'a mut FileSettings) -> Self {
        Self { path: String::new(), rest: map, known: Vec::new(), found }
    }

    /// Takes a setting; what is null is not set.
    pub fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.rest.remove(key).filter(|value| !value.is_null())
    }

    /// A text or a number is the variable's value; an empty text is none.
    pub fn text(&mut self, key: &'static str, variable: &'static str) -> Result<(), FileError> {
        match self.take(key) {
            None => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(Value::String(text)) => self.put(variable, key, text),
            Some(Value::Number(number)) => self.put(variable, key, number.to_string()),
            Some(other) => return Err(self.wrong(key, &other, "a text")),
        }
        Ok(())
    }

    /// A list of texts or numbers, or one of them, is the variable's value with commas between; an empty list is none.
    pub fn list(&mut self, key: &'static str, variable: &'static str) -> Result<(), FileError> {
        let items = match self.take(key) {
            None => return Ok(()),
            Some(Value::Array(items)) => items,
            Some(one) => vec![one],
        };
        let mut texts = Vec::new();
        for item in items {
            match item {
                Value::String(text) => texts.push(text),
                Value::Number(number) => texts.push(number.to_string()),
                other => return Err(self.wrong(key, &other, "a list of names or numbers")),
            }
        }
        if !texts.is_empty() {
            self.put(variable, key, texts.join(","));
        }
        Ok(())
    }

    /// Reads a section by itself, if it is there.
    pub fn section(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Settings<'_>) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        match self.take(key) {
            None => Ok(()),
            Some(Value::Object(map)) => {
                let path = format!("{}{key}.", self.path);
                let mut section = Settings { path, rest: map, known: Vec::new(), found: &mut *self.found };
                read(&mut section)?;
                section.warn_of_the_rest();
                Ok(())
            }
            Some(other) => Err(self.wrong(key, &other, "settings of its own, \"key: value\"")),
        }
    }

    /// The variable has this value, because of this key.
    pub fn put(&mut self, variable: &'static str, key: &str, text: String) {
        self.found.variables.push(FileVariable { name: variable, text, key: format!("{}{key}", self.path) });
    }

    pub fn warn(&mut self, key: &str, text: impl Into<String>) {
        self.found.warnings.push(Warning { variable: format!("{}{key}", self.path), text: text.into() });
    }

    pub fn wrong(&self, key: &str, found: &Value, wanted: &'static str) -> FileError {
        let found = match found {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "settings of its own",
        };
        FileError::Setting { key: format!("{}{key}", self.path), found, wanted }
    }

    /// Tells of what nobody asked for.
    pub fn warn_of_the_rest(self) {
        for key in self.rest.keys() {
            let meant = nearest(key, self.known.iter().copied()).map(|meant| format!("; did you mean {meant}?"));
            let text = format!("not a setting that is known, and not read{}", meant.unwrap_or_default());
            self.found.warnings.push(Warning { variable: format!("{}{key}", self.path), text });
        }
    }
}
