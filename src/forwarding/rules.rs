//! Rules: which events are forwarded, and to whom.
//!
//! Compiled once, from the JSON that sinGateway's users have: an event without a rule costs one look into a table.

use std::collections::{BTreeSet, HashMap};

use super::template::{Template, UnknownVariable, Variables};
use crate::encoding::{self, Encoding, Map, Value};
use crate::singyeong::limits::Limits;
use crate::singyeong::query::{InvalidQuery, Query};

/// The keys of a rule.
const FIELDS: [&str; 3] = ["type", "target", "events"];

/// Which events are forwarded, and to whom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    rules: Box<[Rule]>,
    /// The rules of an event, in their order.
    by_event: HashMap<Box<str>, Box<[usize]>>,
}

/// To how many of those that match an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// To one.
    Send,
    /// To all.
    Broadcast,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) kind: Kind,
    pub(super) target: Template,
}

/// Why a text is no rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Not JSON.
    #[error("it is no JSON: {0}")]
    Json(String),
    /// JSON, but something else.
    #[error(
        "it is neither a list of rules nor one rule: write [{{\"type\": \"send\", \"target\": {{…}}, \"events\": [\"MESSAGE_CREATE\"]}}]"
    )]
    Shape,
    /// One of the rules.
    #[error("rule {rule}: {mistake}")]
    Rule {
        /// Which, from 1.
        rule: usize,
        /// What about it.
        mistake: Mistake,
    },
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// Not an object.
    #[error("it is no object: write {{\"type\": \"send\", \"target\": {{…}}, \"events\": [\"MESSAGE_CREATE\"]}}")]
    NoObject,
    /// A key that means nothing.
    #[error("\"{0}\" is no field of a rule: there are \"type\", \"target\" and \"events\"")]
    UnknownField(String),
    /// Neither of the two.
    #[error("\"type\" is {0}: write \"send\" (to one that matches) or \"broadcast\" (to all)")]
    Type(String),
    /// Nobody is named.
    #[error("\"target\" is missing: write whom the events are for, such as {{\"application\": \"workers\"}}")]
    NoTarget,
    /// A variable that there is not.
    #[error("\"target\": {0}: there are {{{{SHARD}}}}, {{{{CLUSTER}}}} and {{{{EVENT}}}}")]
    Variable(String),
    /// A target that is no query, be it only with an event's name in it.
    #[error("\"target\" is no query of 신경: {0}")]
    Target(#[from] InvalidQuery),
    /// No event is named.
    #[error("\"events\" is missing or empty: write the events' names, such as [\"MESSAGE_CREATE\"]")]
    NoEvents,
    /// No list of names.
    #[error("\"events\" is neither a list of names nor one name: {0}")]
    Events(String),
    /// A name as Discord has none.
    #[error("\"events\": {name:?} is no event's name: write it as Discord does, such as {such_as}")]
    Event {
        /// The name.
        name: String,
        /// How it may have been meant.
        such_as: String,
    },
}

impl Rules {
    /// Reads a list of `{"type", "target", "events"}`, or one such rule.
    ///
    /// # Errors
    /// What is wrong, in which rule and field, and what to write.
    pub fn parse(json: &str) -> Result<Self, RulesError> {
        let read = encoding::read(Encoding::Json, json.as_bytes()).map_err(|error| {
            // Of people's mistakes line and column are told.
            let told = serde_json::from_str::<serde::de::IgnoredAny>(json).err().map(|error| error.to_string());
            RulesError::Json(told.unwrap_or_else(|| error.to_string()))
        })?;
        let list = match read {
            Value::List(rules) => rules,
            one @ Value::Map(_) => [one].into(),
            _ => return Err(RulesError::Shape),
        };
        let (mut rules, mut by_event) = (Vec::with_capacity(list.len()), HashMap::<Box<str>, Vec<usize>>::new());
        for (index, rule) in list.iter().enumerate() {
            let (rule, events) = Rule::read(rule).map_err(|mistake| RulesError::Rule { rule: index + 1, mistake })?;
            rules.push(rule);
            for event in events {
                by_event.entry(event).or_default().push(index);
            }
        }
        let by_event = by_event.into_iter().map(|(event, rules)| (event, rules.into())).collect();
        Ok(Self { rules: rules.into(), by_event })
    }

    /// The events that any rule lists.
    pub fn events(&self) -> BTreeSet<&str> {
        self.by_event.keys().map(AsRef::as_ref).collect()
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The same in a cluster of this number.
    #[must_use]
    pub(super) fn in_cluster(mut self, cluster: u32) -> Self {
        for rule in &mut self.rules {
            rule.target = rule.target.in_cluster(cluster);
        }
        self
    }

    /// Whether any rule lists this event.
    pub(super) fn lists(&self, event: &str) -> bool {
        self.by_event.contains_key(event)
    }

    /// The rules that list this event, by their numbers from 1.
    pub(super) fn of(&self, event: &str) -> Option<impl Iterator<Item = (u32, &Rule)>> {
        let rules = self.by_event.get(event)?;
        Some(rules.iter().map(|index| (*index as u32 + 1, &self.rules[*index])))
    }
}

impl Kind {
    /// The `t` of its dispatches.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Send => "SEND",
            Self::Broadcast => "BROADCAST",
        }
    }

    fn read(value: Option<&Value>) -> Result<Self, Mistake> {
        let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(Self::Send) };
        let text = value.as_str().unwrap_or_default();
        let known =
            [Self::Send, Self::Broadcast].into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text.trim()));
        known.ok_or_else(|| Mistake::Type(shown(value)))
    }
}

impl Rule {
    /// A rule, and its events.
    fn read(rule: &Value) -> Result<(Self, BTreeSet<Box<str>>), Mistake> {
        let rule = rule.as_map().ok_or(Mistake::NoObject)?;
        if let Some((unknown, _)) = rule.iter().find(|(key, _)| !FIELDS.contains(key)) {
            return Err(Mistake::UnknownField(unknown.to_owned()));
        }
        let kind = Kind::read(rule.get("type"))?;
        let events = events(rule)?;
        let target = rule.get("target").ok_or(Mistake::NoTarget)?;
        let target =
            Template::compile(target).map_err(|error: UnknownVariable| Mistake::Variable(error.to_string()))?;
        for event in &events {
            let mut rendered = Vec::new();
            target.render(Variables { shard: 0, cluster: 0, event }, &mut rendered);
            let rendered = encoding::read(Encoding::Json, &rendered).expect("a template renders JSON");
            Query::compile(&rendered, Limits::default().query_depth)?;
        }
        Ok((Self { kind, target }, events))
    }
}

fn events(rule: &Map) -> Result<BTreeSet<Box<str>>, Mistake> {
    let value = rule.get("events").unwrap_or(&Value::Null);
    let names = match value {
        Value::Null => return Err(Mistake::NoEvents),
        Value::List(names) => names,
        one => std::slice::from_ref(one),
    };
    if names.is_empty() {
        return Err(Mistake::NoEvents);
    }
    names.iter().map(|name| event(name.as_str().ok_or_else(|| Mistake::Events(shown(value)))?)).collect()
}

/// Names are letters, digits and underscores: any other would wait in vain.
fn event(name: &str) -> Result<Box<str>, Mistake> {
    let trimmed = name.trim();
    let is_name = |name: &str| {
        let is_of_one = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        !name.is_empty() && name.len() <= 100 && name.bytes().all(is_of_one)
    };
    if is_name(trimmed) {
        return Ok(trimmed.into());
    }
    let meant = trimmed.to_ascii_uppercase().replace([' ', '-'], "_");
    let such_as = if is_name(&meant) { meant } else { "MESSAGE_CREATE".to_owned() };
    Err(Mistake::Event { name: name.chars().take(100).collect(), such_as })
}

/// As it is written, and not much of it.
fn shown(value: &Value) -> String {
    let mut json = Vec::new();
    encoding::write(Encoding::Json, value, &mut json);
    let text = String::from_utf8_lossy(&json);
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(json: &str) -> String {
        Rules::parse(json).expect_err(json).to_string()
    }

    fn rendered(rules: &Rules, event: &str, shard: u32) -> Vec<(u32, Kind, String)> {
        let render = |(number, rule): (u32, &Rule)| {
            let mut out = Vec::new();
            rule.target.render(Variables { shard, cluster: 9, event }, &mut out);
            (number, rule.kind, String::from_utf8(out).expect("text"))
        };
        rules.of(event).into_iter().flatten().map(render).collect()
    }

    #[test]
    fn rules_are_found_by_event_in_their_order() {
        let rules = Rules::parse(
            r#"[
                {"target": {"application": "a", "ops": [{"path": "/shard", "op": "$eq", "to": {"value": "{{SHARD}}"}}]},
                 "events": ["MESSAGE_CREATE", "MESSAGE_CREATE", "READY"]},
                {"type": "Broadcast", "target": {"application": "{{EVENT}}-{{CLUSTER}}"}, "events": "MESSAGE_CREATE"},
                {"type": "SEND", "target": null, "events": ["READY"]}
            ]"#,
        )
        .expect("rules");
        assert_eq!(rules.events(), BTreeSet::from(["MESSAGE_CREATE", "READY"]));
        assert_eq!((rules.len(), rules.is_empty()), (3, false));
        assert_eq!(
            rendered(&rules.clone().in_cluster(4), "MESSAGE_CREATE", 3),
            [
                (
                    1,
                    Kind::Send,
                    r#"{"application":"a","ops":[{"op":"$eq","path":"/shard","to":{"value":3}}]}"#.to_owned()
                ),
                (2, Kind::Broadcast, r#"{"application":"MESSAGE_CREATE-4"}"#.to_owned()),
            ]
        );
        assert_eq!(rendered(&rules, "READY", 0).iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [1, 3]);
        assert!(rules.of("TYPING_START").is_none());
    }

    #[test]
    fn one_rule_alone_and_no_rule_are_rules() {
        let one = Rules::parse(r#"{"target":{"application":"a"},"events":"READY"}"#).expect("one");
        assert_eq!(one.len(), 1);
        assert!(Rules::parse("[]").expect("none").is_empty());
    }

    #[test]
    fn targets_have_the_old_form_of_ops_and_the_new() {
        for ops in [
            r#"[{"guilds":{"$contains":"{{SHARD}}"}}]"#,
            r#"[{"op":"$or","with":[{"path":"/a/{{SHARD}}","op":"$in","to":{"value":["{{EVENT}}"]}}]}]"#,
            r#"[{"{{EVENT}}":{"$eq":true}}]"#,
        ] {
            Rules::parse(&format!(r#"{{"target":{{"ops":{ops}}},"events":["READY"]}}"#)).expect(ops);
        }
    }

    #[test]
    fn mistakes_name_the_rule_the_field_and_the_remedy() {
        let target = r#""target":{"application":"a"}"#;
        for (json, told) in [
            ("[{\n  \"type\": ]", "it is no JSON: expected value at line 2 column 11"),
            ("7", "it is neither a list of rules nor one rule: write"),
            ("[7]", "rule 1: it is no object: write {\"type\": \"send\""),
            (
                r#"[{"target":{},"events":["READY"]},{"target":{},"event":"READY"}]"#,
                "rule 2: \"event\" is no field of a rule",
            ),
            (
                &format!(r#"[{{"type":"sned",{target},"events":["READY"]}}]"#),
                "rule 1: \"type\" is \"sned\": write \"send\"",
            ),
            (&format!(r#"[{{"type":4,{target},"events":["READY"]}}]"#), "rule 1: \"type\" is 4: write \"send\""),
            (r#"[{"events":["READY"]}]"#, "rule 1: \"target\" is missing: write whom"),
            (
                r#"[{"target":"a","events":["READY"]}]"#,
                "rule 1: \"target\" is no query of 신경: a target is neither an object nor null",
            ),
            (
                r#"[{"target":{"ops":[{"op":"$foo","path":"/a","to":{"value":1}}]},"events":["READY"]}]"#,
                "there is no operator $foo",
            ),
            (
                r#"[{"target":{"application":"{{SHRAD}}"},"events":["READY"]}]"#,
                "rule 1: \"target\": \"{{SHRAD}}\" is no variable: there are {{SHARD}}",
            ),
            (&format!(r#"[{{{target}}}]"#), "rule 1: \"events\" is missing or empty: write"),
            (&format!(r#"[{{{target},"events":[]}}]"#), "rule 1: \"events\" is missing or empty: write"),
            (
                &format!(r#"[{{{target},"events":{{"a":1}}}}]"#),
                "rule 1: \"events\" is neither a list of names nor one name: {\"a\":1}",
            ),
            (
                &format!(r#"[{{{target},"events":["message create"]}}]"#),
                "\"message create\" is no event's name: write it as Discord does, such as MESSAGE_CREATE",
            ),
            (&format!(r#"[{{{target},"events":["*"]}}]"#), "rule 1: \"events\": \"*\" is no event's name"),
        ] {
            let is = mistake(json);
            assert!(is.contains(told), "{json}: {is}");
        }
    }
}
