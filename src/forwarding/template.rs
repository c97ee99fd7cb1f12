//! A target with variables in it: `{{SHARD}}`, `{{CLUSTER}}` and `{{EVENT}}`, compiled to the JSON around them.
//!
//! A text that is one variable and nothing else becomes that variable's value: a number for the first two. Within a text, and
//! in a key, it is written as text.

use std::borrow::Cow;
use std::io::Write as _;

use crate::encoding::{self, Encoding, Value};

/// What the variables stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variables<'a> {
    pub(super) shard: u32,
    pub(super) cluster: u32,
    pub(super) event: &'a str,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template(Box<[Piece]>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    /// JSON as it is.
    Text(Box<str>),
    Variable(Variable),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    Shard,
    Cluster,
    Event,
}

/// A name in double braces that is no variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{{{{{0}}}}}\" is no variable")]
pub(super) struct UnknownVariable(String);

impl Template {
    /// Compiles a target.
    pub(super) fn compile(target: &Value) -> Result<Self, UnknownVariable> {
        let mut compiler = Compiler::default();
        compiler.value(target)?;
        compiler.end_text();
        Ok(Self(compiler.pieces.into()))
    }

    /// The same where the cluster is known: what has no other variable is one text then.
    pub(super) fn in_cluster(&self, cluster: u32) -> Self {
        let mut compiler = Compiler::default();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => compiler.text.push_str(text),
                Piece::Variable(Variable::Cluster) => compiler.text.push_str(&cluster.to_string()),
                Piece::Variable(variable) => compiler.variable(*variable),
            }
        }
        compiler.end_text();
        Self(compiler.pieces.into())
    }

    /// Appends the target as JSON.
    pub(super) fn render(&self, variables: Variables<'_>, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(Variable::Shard) => write!(out, "{}", variables.shard).expect("a Vec takes it"),
                Piece::Variable(Variable::Cluster) => write!(out, "{}", variables.cluster).expect("a Vec takes it"),
                Piece::Variable(Variable::Event) => out.extend_from_slice(inside_quotes(variables.event).as_bytes()),
            }
        }
    }
}

impl Variable {
    const ALL: [(&str, Self); 3] = [("SHARD", Self::Shard), ("CLUSTER", Self::Cluster), ("EVENT", Self::Event)];

    fn of_name(name: &str) -> Result<Self, UnknownVariable> {
        let known = Self::ALL.into_iter().find(|(known, _)| *known == name.trim());
        known.map(|(_, variable)| variable).ok_or_else(|| UnknownVariable(name.to_owned()))
    }
}

#[derive(Default)]
struct Compiler {
    pieces: Vec<Piece>,
    /// Since the last variable.
    text: String,
}

impl Compiler {
    fn value(&mut self, value: &Value) -> Result<(), UnknownVariable> {
        match value {
            Value::String(text) => self.string(text),
            Value::List(values) => self.list("[", &mut values.iter(), "]", Self::value),
            Value::Map(map) => self.list("{", &mut map.iter(), "}", |compiler, (key, value)| {
                compiler.quoted(key)?;
                compiler.text.push(':');
                compiler.value(value)
            }),
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Big(_) | Value::Float(_) | Value::Bytes(_) => {
                let mut json = Vec::new();
                encoding::write(Encoding::Json, value, &mut json);
                self.text.push_str(&String::from_utf8_lossy(&json));
                Ok(())
            }
        }
    }

    fn list<T>(
        &mut self,
        open: &str,
        items: &mut dyn Iterator<Item = T>,
        close: &str,
        each: impl Fn(&mut Self, T) -> Result<(), UnknownVariable>,
    ) -> Result<(), UnknownVariable> {
        self.text.push_str(open);
        for (n, item) in items.enumerate() {
            if n > 0 {
                self.text.push(',');
            }
            each(self, item)?;
        }
        self.text.push_str(close);
        Ok(())
    }

    /// A value that is a text: of one variable alone, that variable's.
    fn string(&mut self, text: &str) -> Result<(), UnknownVariable> {
        if let Some((before, name, after)) = first_variable(text)
            && before.is_empty()
            && after.is_empty()
        {
            let variable = Variable::of_name(name)?;
            if variable != Variable::Event {
                self.variable(variable);
                return Ok(());
            }
        }
        self.quoted(text)
    }

    fn quoted(&mut self, text: &str) -> Result<(), UnknownVariable> {
        self.text.push('"');
        let mut rest = text;
        while let Some((before, name, after)) = first_variable(rest) {
            self.text.push_str(&inside_quotes(before));
            self.variable(Variable::of_name(name)?);
            rest = after;
        }
        self.text.push_str(&inside_quotes(rest));
        self.text.push('"');
        Ok(())
    }

    fn variable(&mut self, variable: Variable) {
        self.end_text();
        self.pieces.push(Piece::Variable(variable));
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            self.pieces.push(Piece::Text(std::mem::take(&mut self.text).into()));
        }
    }
}

/// What is before, in and after the first double braces.
fn first_variable(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (name, after) = rest.split_once("}}")?;
    Some((before, name, after))
}

/// As JSON has it between quotes.
fn inside_quotes(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        return text.into();
    }
    let mut json = Vec::new();
    encoding::write(Encoding::Json, &Value::string(text), &mut json);
    String::from_utf8_lossy(&json[1..json.len() - 1]).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLES: Variables<'_> = Variables { shard: 3, cluster: 7, event: "MESSAGE_CREATE" };

    fn compile(target: &str) -> Result<Template, UnknownVariable> {
        Template::compile(&encoding::read(Encoding::Json, target.as_bytes()).expect("JSON"))
    }

    fn rendered(target: &str) -> String {
        let template = compile(target).expect("known variables");
        let (mut at_once, mut in_cluster) = (Vec::new(), Vec::new());
        template.render(VARIABLES, &mut at_once);
        template.in_cluster(VARIABLES.cluster).render(Variables { cluster: 0, ..VARIABLES }, &mut in_cluster);
        assert_eq!(at_once, in_cluster);
        String::from_utf8(at_once).expect("text")
    }

    #[test]
    fn a_variable_alone_keeps_its_type_and_within_a_text_it_is_text() {
        assert_eq!(rendered(r#""{{SHARD}}""#), "3");
        assert_eq!(rendered(r#"["{{CLUSTER}}","{{EVENT}}","{{ SHARD }}"]"#), r#"[7,"MESSAGE_CREATE",3]"#);
        assert_eq!(rendered(r#"{"a":"s{{SHARD}}/{{CLUSTER}}","b":" {{SHARD}}"}"#), r#"{"a":"s3/7","b":" 3"}"#);
    }

    #[test]
    fn keys_have_variables_too_and_these_are_text() {
        assert_eq!(
            rendered(r#"{"{{SHARD}}":1,"x-{{EVENT}}":{"{{CLUSTER}}":[]}}"#),
            r#"{"x-MESSAGE_CREATE":{"7":[]},"3":1}"#
        );
    }

    #[test]
    fn everything_else_stays_what_it_is() {
        for target in
            [r#"{"a":[1,1.5,-0.0,null,true,"ü\n\"{{","}}"],"b":123456789012345678901234567890}"#, "null", "[]"]
        {
            assert_eq!(rendered(target), target);
        }
    }

    #[test]
    fn an_event_s_name_cannot_break_out_of_its_quotes() {
        let template = compile(r#""{{EVENT}}""#).expect("a variable");
        let mut out = Vec::new();
        template.render(Variables { event: "a\"b\\c\u{1}ü", ..VARIABLES }, &mut out);
        let read: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(read, "a\"b\\c\u{1}ü");
    }

    #[test]
    fn what_has_no_variable_is_one_text() {
        let template = compile(r#"{"application":"a","ops":[],"n":"{{CLUSTER}}"}"#).expect("known");
        assert_eq!(template.in_cluster(2).0.len(), 1);
    }

    #[test]
    fn an_unknown_variable_is_told() {
        assert_eq!(compile(r#""{{SHRAD}}""#), Err(UnknownVariable("SHRAD".to_owned())));
        assert_eq!(compile(r#"{"a{{}}":1}"#).expect_err("no name").to_string(), r#""{{}}" is no variable"#);
    }
}
