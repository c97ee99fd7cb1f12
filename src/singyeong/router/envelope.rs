//! Bodies of `SEND` and `BROADCAST` in RabbitMQ, `{target, payload, nonce, sender}`, read and written.
//!
//! In JSON, or in MessagePack where a value holds bytes, which JSON has not. Workers write them, too, in any dialect: nothing is
//! taken for granted.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::targets::Targets;
use crate::encoding::convert::{Taking, to_json};
use crate::encoding::{self, Dialect, Encoding, Map, ReadError, Term, Value};
use crate::singyeong::ids::ClientKey;
use crate::singyeong::packet::outgoing::{Contents, Outgoing};
use crate::singyeong::query::{InvalidQuery, Query};

/// A body, read.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) query: Arc<Query>,
    /// Of all its receivers the same.
    pub(super) contents: Arc<Contents>,
    /// Whom it is for, where that was decided.
    pub(super) clients: Option<Vec<ClientKey>>,
}

/// A body that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// Not what it is declared as, or looks like.
    #[error("the body cannot be read as {0}: {1}")]
    Encoding(Dialect, ReadError),
    /// No JSON, or no map.
    #[error("the body is no map {{\"target\", \"payload\"}}: {0}")]
    Body(String),
    /// A key that has to be there is not.
    #[error("the body has no \"{0}\"")]
    Missing(&'static str),
    /// The target.
    #[error("the body's \"target\" is no query: {0}")]
    Target(#[from] InvalidQuery),
}

impl Malformed {
    /// Its name for machines.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Encoding(..) => "encoding",
            Self::Body(_) => "not_a_map",
            Self::Missing(_) => "no_field",
            Self::Target(_) => "bad_target",
        }
    }
}

impl From<ReadError> for Malformed {
    fn from(error: ReadError) -> Self {
        Self::Body(error.to_string())
    }
}

impl Envelope {
    pub(super) fn read(body: &[u8], content_type: Option<&str>, targets: &mut Targets) -> Result<Self, Malformed> {
        let dialect = Dialect::of_body(content_type, body);
        let unreadable = |error| Malformed::Encoding(dialect, error);
        match dialect {
            Dialect::Plain(Encoding::Json) => Self::of_json(body, targets),
            Dialect::MsgpackText => Self::of_json(&to_json(dialect, body, Taking::EXACT).map_err(unreadable)?, targets),
            // JSON has no bytes.
            Dialect::Plain(encoding) => Self::of_value(encoding::read(encoding, body).map_err(unreadable)?, targets),
        }
    }

    /// The target's text is what its query is known by, and is mostly not read again.
    fn of_json(body: &[u8], targets: &mut Targets) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow, default, deserialize_with = "present")]
            target: Option<&'a RawValue>,
            #[serde(borrow, default, deserialize_with = "present")]
            payload: Option<&'a RawValue>,
            #[serde(borrow)]
            nonce: Option<&'a RawValue>,
            #[serde(borrow)]
            sender: Option<&'a RawValue>,
            #[serde(borrow)]
            clients: Option<&'a RawValue>,
        }
        let body: Body<'_> = serde_json::from_slice(body).map_err(|error| Malformed::Body(error.to_string()))?;
        let read = |raw: &RawValue| encoding::read(Encoding::Json, raw.get().as_bytes()).map_err(Malformed::from);
        let optional = |raw: Option<&RawValue>| raw.map_or(Ok(Value::Null), read);
        let target = body.target.ok_or(Malformed::Missing("target"))?;
        let query = targets.query(target.get().as_bytes(), || read(target))?;
        let payload = read(body.payload.ok_or(Malformed::Missing("payload"))?)?;
        let sender = optional(body.sender)?.as_str().map(Into::into);
        Ok(Self {
            query,
            contents: Arc::new(Contents::new(optional(body.nonce)?, payload, sender)),
            clients: keys(&optional(body.clients)?),
        })
    }

    fn of_value(value: Value, targets: &mut Targets) -> Result<Self, Malformed> {
        let Value::Map(map) = value else { return Err(Malformed::Body("it is something else".to_owned())) };
        let (mut target, mut payload, mut rest) = (None, None, Vec::new());
        for (key, value) in map.into_entries() {
            match &*key {
                "target" => target = Some(value),
                "payload" => payload = Some(value),
                "nonce" | "sender" | "clients" => rest.push((key, value)),
                _ => {}
            }
        }
        let target = target.ok_or(Malformed::Missing("target"))?;
        let payload = payload.ok_or(Malformed::Missing("payload"))?;
        let mut text = Vec::new();
        encoding::write(Encoding::Json, &target, &mut text);
        // Bytes look like a text in JSON.
        let query = match has_bytes(&target) {
            true => targets.query_once(&target)?,
            false => targets.query(&text, || Ok::<_, Malformed>(target))?,
        };
        let rest = Map::new(rest);
        let nonce = rest.get("nonce").cloned().unwrap_or(Value::Null);
        let sender = rest.get("sender").and_then(Value::as_str).map(Into::into);
        let contents = Arc::new(Contents::new(nonce, payload, sender));
        Ok(Self { query, contents, clients: rest.get("clients").and_then(keys) })
    }

    /// The packet for those that it is for.
    pub(super) fn packet(&self, broadcast: bool) -> Outgoing {
        Outgoing::Message { broadcast, contents: self.contents.clone() }
    }

    /// The content type and the body for these clients of those that match.
    pub(super) fn listing(&self, clients: &[ClientKey]) -> (&'static str, Vec<u8>) {
        let pair = |key: &ClientKey| {
            Value::List([Value::string(key.application.as_str()), Value::string(key.client.as_str())].into())
        };
        let clients = Value::List(clients.iter().map(pair).collect());
        let Contents { nonce, payload, sender, .. } = &*self.contents;
        let sender = sender.as_deref().map_or(Value::Null, Value::string);
        body(&[
            ("target", &self.query.to_value()),
            ("payload", payload),
            ("nonce", nonce),
            ("sender", &sender),
            ("clients", &clients),
        ])
    }
}

/// The content type and the body of these fields.
pub(super) fn body(fields: &[(&str, &Value)]) -> (&'static str, Vec<u8>) {
    let terms: Vec<(&str, Term<'_>)> = fields.iter().map(|(key, value)| (*key, Term::Value(value))).collect();
    let encoding = encoding_for(fields.iter().map(|(_, value)| *value));
    let mut body = Vec::new();
    encoding::write_term(encoding, &Term::Map(&terms), &mut body);
    (encoding.content_type(), body)
}

/// The content type and the body that a value is.
pub(super) fn plain(value: &Value) -> (&'static str, Vec<u8>) {
    let encoding = encoding_for([value]);
    let mut body = Vec::new();
    encoding::write(encoding, value, &mut body);
    (encoding.content_type(), body)
}

/// A body of ours or of a worker's, as a value.
pub(super) fn read(body: &[u8], content_type: Option<&str>) -> Option<Value> {
    encoding::read(Encoding::of_body(content_type, body), body).ok()
}

fn encoding_for<'a>(values: impl IntoIterator<Item = &'a Value>) -> Encoding {
    if values.into_iter().any(has_bytes) { Encoding::Msgpack } else { Encoding::Json }
}

/// Values are as deep as their readers let them be.
fn has_bytes(value: &Value) -> bool {
    match value {
        Value::Bytes(_) => true,
        Value::List(list) => list.iter().any(has_bytes),
        Value::Map(map) => map.iter().any(|(_, value)| has_bytes(value)),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Big(_) | Value::Float(_) | Value::String(_) => false,
    }
}

/// `[[application, client], …]`.
fn keys(value: &Value) -> Option<Vec<ClientKey>> {
    let Value::List(pairs) = value else { return None };
    let key = |pair: &Value| match pair {
        Value::List(pair) => match &**pair {
            [application, client] => Some(ClientKey::new(application.as_str()?, client.as_str()?)),
            _ => None,
        },
        _ => None,
    };
    pairs.iter().map(key).collect()
}

/// Null is there, unlike what is missing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::encoding::convert::convert;

    fn read(body: &[u8], content_type: Option<&str>) -> Result<Envelope, Malformed> {
        Envelope::read(body, content_type, &mut Targets::new(32))
    }

    #[test]
    fn a_body_says_the_same_in_every_dialect() {
        let json = read(br#" {"x":1,"payload":[1],"nonce":"n","target":{"application":"app"},"sender":"me"}"#, None);
        let pack = b"\x84\xa6target\x81\xabapplication\xa3app\xa7payload\x91\x01\xa5nonce\xa1n\xa6sender\xa2me";
        let json_text = br#"{"payload":[1],"nonce":"n","target":{"application":"app"},"sender":"me"}"#;
        let others = Dialect::ALL.map(|dialect| {
            let mut body = Vec::new();
            convert(Encoding::Json, json_text, dialect, Taking::EXACT, &mut body).expect("JSON");
            read(&body, None)
        });
        let said = [json, read(pack, Some("application/msgpack")), read(pack, None)];
        for read in said.into_iter().chain(others) {
            let Envelope { query, contents, clients } = read.expect("a body");
            assert_eq!((query.application(), clients), (Some("app"), None));
            let payload = Value::List([Value::Integer(1)].into());
            assert_eq!(*contents, Contents::new(Value::string("n"), payload, Some("me".into())));
        }
    }

    #[test]
    fn null_is_there_and_what_is_missing_is_told() {
        let all = read(br#"{"target":null,"payload":null,"sender":7}"#, None).expect("everybody");
        assert_eq!(*all.contents, Contents::default());
        let name = |body: &[u8], content_type| read(body, content_type).expect_err("malformed").name();
        assert_eq!(name(br#"{"target":null}"#, None), "no_field");
        assert_eq!(name(b"\x81\xa7payload\xc0", None), "no_field");
        assert_eq!(name(b"{", None), "not_a_map");
        assert_eq!(name(b"[]", None), "not_a_map");
        assert_eq!(name(b"\x01", Some("application/msgpack")), "not_a_map");
        assert_eq!(name(b"\x83d\x00\x01a", Some("application/vnd.erlang.etf")), "not_a_map");
        assert_eq!(name(b"\x83d\x00\x02a", Some("application/vnd.erlang.etf")), "encoding");
        assert_eq!(name(b"\x82\xa6target", None), "encoding");
        assert_eq!(name(br#"{"target":{"ops":1},"payload":null}"#, None), "bad_target");
    }

    #[test]
    fn those_it_is_for_are_listed_and_bytes_are_kept() {
        let (key, payload) = (ClientKey::new("app", "1"), Value::Bytes([0, 255].into()));
        let whole = read(br#"{"target":{},"payload":1}"#, None).expect("a body");
        for payload in [Value::Integer(1), payload] {
            let contents = Arc::new(Contents::new(Value::Null, payload, None));
            let envelope = Envelope { contents: contents.clone(), ..whole.clone() };
            let (content_type, body) = envelope.listing(std::slice::from_ref(&key));
            let listed = read(&body, Some(content_type)).expect("a body");
            assert_eq!((listed.contents, listed.clients), (contents, Some(vec![key.clone()])));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), pack in any::<bool>()) {
            let _ = read(&bytes, pack.then_some("application/msgpack"));
        }
    }
}
