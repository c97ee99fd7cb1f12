//! Why a query does not mean a client, in words for whoever wrote it: the part of it that does not hold, and what the client has
//! there.
//!
//! Nothing of this is on the way of messages. It says nothing exactly where [`Query::admits`] says yes.

use std::fmt::{self, Write};
use std::sync::Arc;

use super::operator::{Logic, Operand, Operator};
use super::path::{Found, Path};
use super::term::Term;
use super::{Query, Scope, Subject};
use crate::singyeong::client::Client;

/// Characters of a value, or of a path.
const VALUE: usize = 80;

/// Characters of all that is said.
const ALL: usize = 400;

/// So many parts of an `$or` are told of.
const PARTS: usize = 3;

impl Query {
    /// Why it does not admit this client; none if it does.
    pub fn explain(&self, client: &Client) -> Option<String> {
        let own = client.key.application.as_str();
        match &self.application {
            Scope::In(application) if **application != *own => {
                return Some(format!("its application is {}, not {}", Shown::text(own), Shown::text(application)));
            }
            Scope::Nowhere(other) => {
                return Some(format!("no application is called {}", Shown::term(other.into())));
            }
            Scope::Everywhere | Scope::In(_) => {}
        }
        if !self.is_visible(client.restricted) {
            return Some("it is restricted, and the target does not say \"restricted\": true".to_owned());
        }
        let subject = Subject::of(client);
        let failed = self.operators.iter().find(|operator| operator.evaluate(subject) != Some(true))?;
        let mut said = Cut::new(ALL);
        // Full, it says so itself.
        let _ = why_not(failed, subject, &mut said);
        Some(said.text)
    }

    /// Why the selector passes over a client that is admitted: others are nearer to what it asks for.
    pub(in crate::singyeong) fn explain_selection(
        &self,
        client: &Client,
        chosen: Option<&Arc<Client>>,
    ) -> Option<String> {
        let selector = self.selector.as_ref()?;
        let has = |client: &Client| Shown::term(selector.value(client)).to_string();
        let theirs = chosen.map(|chosen| format!(", and who is chosen {}", has(chosen))).unwrap_or_default();
        Some(format!(
            "it matches, but {} of {} chooses another: it has {}{theirs}",
            selector.name(),
            Shown::text(selector.key()),
            has(client)
        ))
    }
}

/// Why an operator is not true.
fn why_not(operator: &Operator, subject: Subject<'_>, said: &mut Cut) -> fmt::Result {
    let is = |wanted: Option<bool>| move |operator: &&Operator| operator.evaluate(subject) == wanted;
    match operator {
        Operator::Compare { .. } => compared(operator, subject, said),
        Operator::Combine { logic: Logic::And, with } => match with.iter().find(|part| !is(Some(true))(part)) {
            Some(part) => {
                said.write_str("$and: ")?;
                why_not(part, subject, said)
            }
            None => Ok(()),
        },
        Operator::Combine { logic: Logic::Or, with } if with.is_empty() => said.write_str("$or of nothing never holds"),
        Operator::Combine { logic: Logic::Or, with } => {
            said.write_str("none of $or: ")?;
            for (at, part) in with.iter().take(PARTS).enumerate() {
                said.write_str(if at == 0 { "" } else { "; " })?;
                why_not(part, subject, said)?;
            }
            if with.len() > PARTS { write!(said, "; and {} more", with.len() - PARTS) } else { Ok(()) }
        }
        Operator::Combine { logic: Logic::Nor, with } if with.is_empty() => {
            said.write_str("$nor of nothing never holds")
        }
        Operator::Combine { logic: Logic::Nor, with } => {
            if let Some(part) = with.iter().find(is(Some(true))) {
                said.write_str("$nor: this holds: ")?;
                why(part, subject, said)
            } else if let Some(part) = with.iter().find(is(None)) {
                said.write_str("$nor: this is unknown: ")?;
                why_not(part, subject, said)
            } else {
                Ok(())
            }
        }
    }
}

/// Why an operator is true.
fn why(operator: &Operator, subject: Subject<'_>, said: &mut Cut) -> fmt::Result {
    match operator {
        Operator::Compare { .. } => compared(operator, subject, said),
        Operator::Combine { logic: Logic::And, .. } => said.write_str("all of $and"),
        Operator::Combine { logic: Logic::Or, with } => {
            said.write_str("$or: ")?;
            match with.iter().find(|part| part.evaluate(subject) == Some(true)) {
                Some(part) => why(part, subject, said),
                None => Ok(()),
            }
        }
        Operator::Combine { logic: Logic::Nor, .. } => said.write_str("none of $nor"),
    }
}

/// A comparison and what the client has there: `/shards $contains 3: it has [0,1]`.
fn compared(operator: &Operator, subject: Subject<'_>, said: &mut Cut) -> fmt::Result {
    let Operator::Compare { path, comparison, to } = operator else { return Ok(()) };
    let has = |found: Option<Found<'_>>| found.map_or(Shown::nothing(), |found| Shown::term(found.term));
    write!(said, "{} {} ", Shown::path(path), comparison.name())?;
    match to {
        Operand::Fixed(fixed) => write!(said, "{}: it has {}", Shown::term(fixed.term()), has(path.find(subject))),
        Operand::Path(other, default) => {
            let there = other.find(subject).map_or_else(|| fixed_or(default.term()), |found| Shown::term(found.term));
            write!(said, "{}: it has {}, and there {there}", Shown::path(other), has(path.find(subject)))
        }
    }
}

fn fixed_or(default: Term<'_>) -> Shown {
    let mut cut = Cut::new(VALUE);
    let _ = write!(cut, "nothing, so {}", Shown::term(default));
    Shown(cut.text)
}

/// A value as JSON, or another text, short enough to be read.
struct Shown(String);

impl Shown {
    fn nothing() -> Self {
        Self("nothing there".to_owned())
    }

    fn term(term: Term<'_>) -> Self {
        let mut cut = Cut::new(VALUE);
        let _ = write_term(term, &mut cut);
        Self(cut.text)
    }

    fn text(text: &str) -> Self {
        Self::term(text.into())
    }

    /// As it is written in a target; a key with a slash as a text.
    fn path(path: &Path) -> Self {
        let mut cut = Cut::new(VALUE);
        let _ = match path.to_text() {
            Some(text) => cut.write_str(&text),
            None => write_term(path.key().into(), &mut cut),
        };
        Self(cut.text)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn write_term(term: Term<'_>, to: &mut Cut) -> fmt::Result {
    match term {
        Term::Null => to.write_str("null"),
        Term::Bool(is) => write!(to, "{is}"),
        Term::Integer(number) => write!(to, "{number}"),
        Term::Big(number) => write!(to, "{number}"),
        Term::Float(number) => write!(to, "{number:?}"),
        Term::Binary(bytes) => match std::str::from_utf8(bytes) {
            // No more of it is looked at than is shown.
            Ok(text) => {
                let end = text.char_indices().nth(to.left + 1).map_or(text.len(), |(end, _)| end);
                write!(to, "{:?}", &text[..end])
            }
            Err(_) => write!(to, "{} bytes", bytes.len()),
        },
        Term::List(values) => {
            to.write_str("[")?;
            for (at, value) in values.iter().enumerate() {
                to.write_str(if at == 0 { "" } else { "," })?;
                write_term(value.into(), to)?;
            }
            to.write_str("]")
        }
        Term::Map(map) => {
            to.write_str("{")?;
            for (at, (key, value)) in map.iter().enumerate() {
                to.write_str(if at == 0 { "" } else { "," })?;
                write_term(key.into(), to)?;
                to.write_str(":")?;
                write_term(value.into(), to)?;
            }
            to.write_str("}")
        }
    }
}

/// Takes so many characters and then an ellipsis. Full, it fails: what writes to it need not go on.
struct Cut {
    text: String,
    left: usize,
}

impl Cut {
    fn new(most: usize) -> Self {
        Self { text: String::new(), left: most }
    }
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match text.char_indices().nth(self.left) {
            None => {
                self.left -= text.chars().count();
                self.text.push_str(text);
                Ok(())
            }
            Some((end, _)) => {
                self.text.push_str(&text[..end]);
                self.text.push('…');
                self.left = 0;
                Err(fmt::Error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{client, example, operators, query, value};
    use super::*;
    use crate::encoding::Value;

    fn said(target: &str) -> String {
        let query = query(target);
        assert!(!query.admits(&example()), "{target}");
        query.explain(&example()).unwrap_or_else(|| panic!("{target}"))
    }

    #[test]
    fn the_part_that_does_not_hold_is_named_and_what_the_client_has_there() {
        let path = |path: &str, op: &str, to: &str| format!(r#"{{"path": "{path}", "op": "{op}", "to": {to}}}"#);
        let eq = |at: &str, to: &str| path(at, "$eq", &format!(r#"{{"value": {to}}}"#));
        let ops = |operators: &[String]| format!(r#"{{"ops": [{}]}}"#, operators.join(","));
        let combined = |op: &str, with: &[String]| ops(&[format!(r#"{{"op": "{op}", "with": [{}]}}"#, with.join(","))]);
        let (good, bad, none) = (eq("/n", "5"), eq("/s", r#""x""#), eq("/x", "1"));
        for (target, expected) in [
            (r#"{"application": "other"}"#.to_owned(), r#"its application is "app", not "other""#),
            (r#"{"application": ["app"]}"#.to_owned(), r#"no application is called ["app"]"#),
            (ops(&[good.clone(), bad.clone()]), r#"/s $eq "x": it has "text""#),
            (ops(std::slice::from_ref(&none)), "/x $eq 1: it has nothing there"),
            (ops(&[path("/l", "$contains", r#"{"value": 3}"#)]), r#"/l $contains 3: it has [1,"a",null,{"k":[7]}]"#),
            (r#"{"ops": [{"a/b": {"$gt": 3}}]}"#.to_owned(), r#""a/b" $gt 3: it has 3"#),
            (ops(&[path("/n", "$lt", r#"{"path": "/f", "default": 1}"#)]), "/n $lt /f: it has 5, and there 1.5"),
            (
                ops(&[path("/n", "$lt", r#"{"path": "/x", "default": 1}"#)]),
                "/n $lt /x: it has 5, and there nothing, so 1",
            ),
            (combined("$and", &[good.clone(), bad.clone()]), r#"$and: /s $eq "x": it has "text""#),
            (
                combined("$or", &[bad.clone(), none.clone()]),
                r#"none of $or: /s $eq "x": it has "text"; /x $eq 1: it has nothing there"#,
            ),
            (combined("$nor", &[bad.clone(), good.clone()]), "$nor: this holds: /n $eq 5: it has 5"),
            (combined("$nor", &[bad.clone(), none.clone()]), "$nor: this is unknown: /x $eq 1: it has nothing there"),
            (combined("$or", &[]), "$or of nothing never holds"),
            (combined("$nor", &[]), "$nor of nothing never holds"),
        ] {
            assert_eq!(said(&target), expected, "{target}");
        }
        let restricted = Client { restricted: true, ..example() };
        let why = query("{}").explain(&restricted).expect("not meant");
        assert_eq!(why, "it is restricted, and the target does not say \"restricted\": true");
        assert_eq!(query(r#"{"restricted": true}"#).explain(&restricted), None);
    }

    #[test]
    fn what_is_long_is_cut() {
        let long = client(&format!(r#"{{"s": {{"type": "string", "value": "{}"}}}}"#, "ü".repeat(10_000)));
        let why = query(r#"{"ops": [{"path": "/s", "op": "$eq", "to": {"value": "x"}}]}"#).explain(&long);
        let why = why.expect("not meant");
        assert!(why.starts_with(r#"/s $eq "x": it has "üüü"#) && why.ends_with("ü…"), "{why}");
        assert!(why.chars().count() < 120, "{why}");
        let part = r#"{"path": "/s", "op": "$eq", "to": {"value": "x"}}"#;
        let nested = format!(r#"{{"op": "$or", "with": [{part}, {part}, {part}, {part}]}}"#);
        let target = format!(r#"{{"ops": [{{"op": "$or", "with": [{nested}, {nested}, {nested}]}}]}}"#);
        let why = query(&target).explain(&long).expect("not meant");
        assert!(why.chars().count() <= ALL + 1 && why.ends_with('…'), "{why}");
    }

    /// Those that the registry is held against, too.
    #[test]
    fn the_cases_of_the_original_are_explained_where_they_do_not_match() {
        let cases: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../../tests/data/singyeong-queries.json")).expect("JSON");
        let (mut meant, mut explained) = (0, 0);
        for case in &cases {
            let client = client(&case["metadata"].to_string());
            let Ok(compiled) = Query::compile(&value(&case["query"].to_string()), 8) else { continue };
            let why = compiled.explain(&client);
            assert_eq!(why.is_none(), compiled.admits(&client), "{}: {why:?}", case["name"]);
            *if why.is_none() { &mut meant } else { &mut explained } += 1;
        }
        assert!(meant >= 20 && explained >= 20, "{meant} and {explained} of {}", cases.len());
    }

    proptest! {
        #[test]
        fn nothing_is_said_exactly_of_those_who_are_admitted(
            ops in prop::collection::vec(operators(), 0..3),
            application in prop::sample::select(vec!["null", "\"app\"", "\"other\"", "[]"]),
            sees_restricted: bool,
            restricted: bool,
        ) {
            let target = Value::map([
                ("application", value(application)),
                ("restricted", Value::Bool(sees_restricted)),
                ("ops", Value::List(ops.into())),
            ]);
            if let Ok(query) = Query::compile(&target, 8) {
                let client = Client { restricted, ..example() };
                let why = query.explain(&client);
                prop_assert_eq!(why.is_none(), query.admits(&client), "{:?}", why);
                prop_assert!(why.is_none_or(|why| !why.is_empty() && why.chars().count() <= ALL + 1));
            }
        }
    }
}
