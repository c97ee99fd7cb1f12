//! A message of amybot, `{s,t,d}`, and what it asks for.
//!
//! Knows no queue and no connection. `d` stays as its sender wrote it, byte for byte where that was JSON.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::amqp::topology::singyeong::is_reserved;
use crate::discord::ids::ShardId;
use crate::encoding::convert::{self, Taking};
use crate::encoding::{Dialect, Encoding, ReadError};

/// The `t` of messages to and from the gateway itself.
pub const OPCODE: &str = "gateway:opcode";
/// How the `t` of messages that are passed on begins.
pub const PROXY: &str = "gateway-proxy:";
/// The `s` of what the gateway says.
pub const GATEWAY: &str = "gateway";

/// The bytes of the longest name of a service.
pub const MOST_NAME: usize = 128;
/// The bytes of the longest topic: RabbitMQ's keys are no longer.
pub const MOST_TOPIC: usize = 255;
/// So many topics one service may declare.
pub const MOST_TOPICS: usize = 256;

/// A message, read but not understood.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Its sender, as it says.
    pub s: Box<str>,
    /// What it is.
    pub t: Box<str>,
    /// What it carries.
    pub d: Box<RawValue>,
}

/// What a service asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To be known, with the topics it wants.
    Identify(Vec<Topics>),
    /// A shard to run.
    ShardConnect,
    /// It does not run this shard any more.
    ShardDeath(ShardId),
    /// To pass the message on under this topic.
    Proxy(Box<str>),
}

/// A service's name: [`MOST_NAME`] bytes at most, and a routing key that is not used otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(Arc<str>);

/// Topics that a service wants: one, or all that begin alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Topics {
    text: Box<str>,
    is_prefix: bool,
}

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not in the dialect that it is declared as, or looks like.
    #[error("it cannot be read as {dialect}: {error}")]
    Unreadable {
        /// The dialect.
        dialect: Dialect,
        /// What is wrong with it.
        error: ReadError,
    },
    /// Not what a message looks like.
    #[error("it is no message {{\"s\",\"t\",\"d\"}}: {0}")]
    Shape(String),
}

/// A message that is not understood, or whose sender may not say that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its `s` is no name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A `t` that means nothing here.
    #[error("\"t\" is {0:?}: neither \"{OPCODE}\" nor \"{PROXY}<source>:<topic>\"")]
    Kind(Box<str>),
    /// Without a number as `opcode`.
    #[error("\"d\" has no \"opcode\" that is a number from 0, or a text of one")]
    NoOpcode,
    /// An opcode that there is not.
    #[error("there is no opcode {0}")]
    UnknownOpcode(u64),
    /// An opcode that only the gateway sends.
    #[error("opcode {} ({}) is sent by the gateway only", .0.number(), .0.name())]
    GatewayOnly(Opcode),
    /// An operation without what it needs.
    #[error("{} needs {what}", .opcode.name())]
    Incomplete {
        /// The operation.
        opcode: Opcode,
        /// What it needs.
        what: &'static str,
    },
    /// A topic under which nobody may publish.
    #[error("{0:?} is no topic: {1}")]
    Topic(Box<str>, &'static str),
    /// A proxied message that names another source than its sender.
    #[error("it names the source {source_named:?}, but is sent by {sender:?}")]
    Forged {
        /// The source that it names.
        source_named: Box<str>,
        /// Who sent it.
        sender: Box<str>,
    },
}

/// What is no [`ServiceName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a service: 1 to {MOST_NAME} bytes, no control characters, and no key that Optic uses itself"
)]
pub struct InvalidName(Box<str>);

/// The operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A service says who it is; answered.
    Identify,
    /// The gateway has it stop.
    Shutdown,
    /// The gateway has it start anew.
    Reboot,
    /// A service wants a shard.
    ShardConnect,
    /// The gateway gives it one.
    ShardAccept,
    /// A service has given a shard up.
    ShardDeath,
}

impl Opcode {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Identify, Self::Shutdown, Self::Reboot, Self::ShardConnect, Self::ShardAccept, Self::ShardDeath];

    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Identify => 0,
            Self::Shutdown => 1,
            Self::Reboot => 2,
            Self::ShardConnect => 10,
            Self::ShardAccept => 11,
            Self::ShardDeath => 12,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identify => "IDENTIFY",
            Self::Shutdown => "SHUTDOWN",
            Self::Reboot => "REBOOT",
            Self::ShardConnect => "SHARD_CONNECT",
            Self::ShardAccept => "SHARD_ACCEPT",
            Self::ShardDeath => "SHARD_DEATH",
        }
    }

    fn of_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|opcode| u64::from(opcode.number()) == number)
    }
}

impl Message {
    /// Reads a body in this dialect.
    ///
    /// # Errors
    /// It is no message.
    pub fn read(dialect: Dialect, body: &[u8]) -> Result<Self, Malformed> {
        let json =
            convert::to_json(dialect, body, Taking::EXACT).map_err(|error| Malformed::Unreadable { dialect, error })?;
        Self::read_json(&json)
    }

    /// In this dialect.
    ///
    /// # Errors
    /// It holds what the dialect has no form for, or too much of it. Nothing of ours does.
    pub fn to_dialect(&self, dialect: Dialect) -> Result<Vec<u8>, ReadError> {
        let mut body = Vec::new();
        convert::convert(Encoding::Json, &self.to_json(), dialect, Taking::EXACT, &mut body)?;
        Ok(body)
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// It is no message.
    pub fn read_json(json: &[u8]) -> Result<Self, Malformed> {
        serde_json::from_slice(json).map_err(|error| Malformed::Shape(error.to_string()))
    }

    /// As JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and JSON")
    }

    /// Who says it.
    ///
    /// # Errors
    /// A name that no service may have.
    pub fn sender(&self) -> Result<ServiceName, Refusal> {
        Ok(ServiceName::new(&self.s)?)
    }

    /// The number of its operation as far as it has one, understood or not: for the answer.
    pub fn opcode(&self) -> Option<u64> {
        let fields: Fields = serde_json::from_str(self.d.get()).ok()?;
        fields.opcode.filter(|_| *self.t == *OPCODE)?.get()
    }

    /// What it asks for.
    ///
    /// # Errors
    /// Why that is not done.
    pub fn request(&self) -> Result<Request, Refusal> {
        let sender = self.sender()?;
        if let Some(proxied) = self.t.strip_prefix(PROXY) {
            // A source may have colons: what the sender says of itself tells where it ends.
            let topic = proxied.strip_prefix(sender.as_str()).and_then(|rest| rest.strip_prefix(':'));
            let Some(topic) = topic else {
                let source_named = proxied.split(':').next().unwrap_or_default().into();
                return Err(Refusal::Forged { source_named, sender: self.s.clone() });
            };
            return checked_topic(topic).map(|topic| Request::Proxy(topic.into()));
        }
        if *self.t != *OPCODE {
            return Err(Refusal::Kind(shown(&self.t)));
        }
        let number = self.opcode().ok_or(Refusal::NoOpcode)?;
        let opcode = Opcode::of_number(number).ok_or(Refusal::UnknownOpcode(number))?;
        match opcode {
            Opcode::Identify => self.topics().map(Request::Identify),
            Opcode::ShardConnect => Ok(Request::ShardConnect),
            Opcode::ShardDeath => self.shard_id().map(Request::ShardDeath),
            Opcode::Shutdown | Opcode::Reboot | Opcode::ShardAccept => Err(Refusal::GatewayOnly(opcode)),
        }
    }

    fn topics(&self) -> Result<Vec<Topics>, Refusal> {
        #[derive(Deserialize)]
        struct Declared {
            #[serde(default)]
            topics: Option<Vec<String>>,
        }
        const WANTED: &str = "\"topics\", if it has them, to be a list of at most 256 texts of 1 to 255 bytes";
        let wrong = || Refusal::Incomplete { opcode: Opcode::Identify, what: WANTED };
        let declared: Declared = serde_json::from_str(self.d.get()).map_err(|_| wrong())?;
        let topics = declared.topics.unwrap_or_default();
        let fits = |topic: &String| (1..=MOST_TOPIC).contains(&topic.len());
        if topics.len() > MOST_TOPICS || !topics.iter().all(fits) {
            return Err(wrong());
        }
        Ok(topics.into_iter().map(Topics::from).collect())
    }

    fn shard_id(&self) -> Result<ShardId, Refusal> {
        #[derive(Deserialize)]
        struct Died {
            shard_id: Number,
        }
        let died: Option<Died> = serde_json::from_str(self.d.get()).ok();
        let number = died.and_then(|died| died.shard_id.get()).and_then(|number| u32::try_from(number).ok());
        const WANTED: &str = "\"shard_id\", a number or a text of one";
        number.map(ShardId::new).ok_or(Refusal::Incomplete { opcode: Opcode::ShardDeath, what: WANTED })
    }
}

impl ServiceName {
    /// A name.
    ///
    /// # Errors
    /// It is none.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let fits = (1..=MOST_NAME).contains(&name.len()) && !name.chars().any(char::is_control) && !is_reserved(name);
        if fits { Ok(Self(name.into())) } else { Err(InvalidName(shown(name))) }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Topics {
    /// Whether this topic is one of them.
    pub fn contains(&self, topic: &str) -> bool {
        if self.is_prefix { topic.starts_with(&*self.text) } else { *topic == *self.text }
    }
}

impl Topics {
    /// How long it is, as it was declared.
    pub fn bytes(&self) -> usize {
        self.text.len() + usize::from(self.is_prefix)
    }
}

impl From<String> for Topics {
    /// A topic, or with `*` at its end all that begin so.
    fn from(text: String) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self { text: prefix.into(), is_prefix: true },
            None => Self { text: text.into(), is_prefix: false },
        }
    }
}

impl From<Topics> for String {
    fn from(topics: Topics) -> Self {
        topics.to_string()
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.is_prefix { "*" } else { "" })
    }
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(&name)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What every operation has.
#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    opcode: Option<Number>,
}

/// A number, or a text of one; anything else is read, too, and is none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Number {
    fn get(&self) -> Option<u64> {
        match self {
            Self::Plain(number) => Some(*number),
            // `parse` alone would take a sign.
            Self::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            Self::Text(_) | Self::Other(_) => None,
        }
    }
}

/// A topic under which a service may publish.
fn checked_topic(topic: &str) -> Result<&str, Refusal> {
    let why = if topic.is_empty() || topic.len() > MOST_TOPIC {
        "it must have 1 to 255 bytes"
    } else if is_reserved(topic) {
        "Optic uses that key itself"
    } else if topic.starts_with("gateway:") || topic.starts_with(PROXY) {
        "only the gateway says that"
    } else {
        return Ok(topic);
    };
    Err(Refusal::Topic(shown(topic), why))
}

/// What a service sent, as much of it as an answer quotes.
fn shown(text: &str) -> Box<str> {
    const MOST: usize = 160;
    let end = (0..=text.len().min(MOST)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    if end == text.len() { text.into() } else { format!("{}…", &text[..end]).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(s: &str, t: &str, d: &str) -> Message {
        let json = format!(r#"{{"s":{},"t":{},"d":{d}}}"#, serde_json::json!(s), serde_json::json!(t));
        Message::read_json(json.as_bytes()).expect("a message")
    }

    fn op(d: &str) -> Result<Request, Refusal> {
        message("music", OPCODE, d).request()
    }

    #[test]
    fn opcodes_are_numbers_or_texts_of_numbers() {
        assert_eq!(op(r#"{"opcode":10}"#), Ok(Request::ShardConnect));
        assert_eq!(op(r#"{"opcode":"10"}"#), Ok(Request::ShardConnect));
        assert_eq!(op(r#"{"opcode":12,"shard_id":"3"}"#), Ok(Request::ShardDeath(ShardId::new(3))));
        let topics = vec![Topics::from("now".to_owned()), Topics::from("music.*".to_owned())];
        assert_eq!(op(r#"{"opcode":"0","topics":["now","music.*"]}"#), Ok(Request::Identify(topics)));
        assert_eq!(op(r#"{"opcode":0}"#), Ok(Request::Identify(Vec::new())));
        for none in ["1.5", "-1", "null", "true", "\"\"", "\"+1\"", "\"ten\"", "[0]", "\"99999999999999999999\""] {
            assert_eq!(op(&format!(r#"{{"opcode":{none}}}"#)), Err(Refusal::NoOpcode), "{none}");
        }
        assert_eq!(op("null"), Err(Refusal::NoOpcode));
    }

    #[test]
    fn what_only_the_gateway_sends_and_what_there_is_not_is_refused() {
        for opcode in [Opcode::Shutdown, Opcode::Reboot, Opcode::ShardAccept] {
            let refused = op(&format!(r#"{{"opcode":{}}}"#, opcode.number()));
            assert_eq!(refused, Err(Refusal::GatewayOnly(opcode)));
        }
        assert_eq!(op(r#"{"opcode":3}"#), Err(Refusal::UnknownOpcode(3)));
        let refusal = op(r#"{"opcode":"2"}"#).expect_err("refused").to_string();
        assert_eq!(refusal, "opcode 2 (REBOOT) is sent by the gateway only");
    }

    #[test]
    fn operations_without_what_they_need_are_refused() {
        for d in [r#"{"opcode":12}"#, r#"{"opcode":12,"shard_id":-1}"#, r#"{"opcode":12,"shard_id":4294967296}"#] {
            assert!(matches!(op(d), Err(Refusal::Incomplete { opcode: Opcode::ShardDeath, .. })), "{d}");
        }
        let many = serde_json::json!({"opcode": 0, "topics": vec!["x"; MOST_TOPICS + 1]}).to_string();
        for d in
            [r#"{"opcode":0,"topics":"x"}"#, r#"{"opcode":0,"topics":[""]}"#, r#"{"opcode":0,"topics":[1]}"#, &many]
        {
            assert!(matches!(op(d), Err(Refusal::Incomplete { opcode: Opcode::Identify, .. })), "{d}");
        }
    }

    #[test]
    fn a_proxied_message_names_its_sender_and_a_topic() {
        let proxied = |s: &str, t: &str| message(s, t, "1").request();
        assert_eq!(proxied("bot", "gateway-proxy:bot:music.play"), Ok(Request::Proxy("music.play".into())));
        assert_eq!(proxied("bot", "gateway-proxy:bot:a:b"), Ok(Request::Proxy("a:b".into())));
        assert_eq!(proxied("a:b", "gateway-proxy:a:b:c"), Ok(Request::Proxy("c".into())));
        for forged in ["gateway-proxy:other:x", "gateway-proxy:bot", "gateway-proxy:bots:x", "gateway-proxy:"] {
            assert!(matches!(proxied("bot", forged), Err(Refusal::Forged { .. })), "{forged}");
        }
        let long = "x".repeat(MOST_TOPIC + 1);
        for topic in [
            "",
            "7",
            "SEND",
            "REJECTED",
            "gateway",
            "gateway-proxy",
            "gateway:opcode",
            "gateway:x",
            "gateway-proxy:bot:x",
            "optic:x",
            "SINGYEONG_SEND",
            &long,
        ] {
            let refused = proxied("bot", &format!("gateway-proxy:bot:{topic}"));
            assert!(matches!(refused, Err(Refusal::Topic(..))), "{topic}");
        }
        assert!(matches!(proxied("bot", "hello"), Err(Refusal::Kind(_))));
    }

    #[test]
    fn names_are_keys_that_optic_does_not_use() {
        for name in ["bot", "a b", "눈", "a:b", "1a", &"x".repeat(MOST_NAME)] {
            assert!(ServiceName::new(name).is_ok(), "{name}");
        }
        let long = "x".repeat(MOST_NAME + 1);
        for none in ["", "gateway", "gateway-proxy", "optic:x", "SEND", "12", "a\nb", "SINGYEONG_SEND", &long] {
            assert!(ServiceName::new(none).is_err(), "{none}");
            assert!(matches!(message(none, OPCODE, "{}").request(), Err(Refusal::Name(_))), "{none}");
        }
    }

    #[test]
    fn what_it_carries_is_kept_byte_for_byte() {
        let d = r#"{ "id": 12345678901234567890123, "x":1.00,"x":"\u00e4 \ud800" }"#;
        let json = format!(r#" {{"x":1,"d":{d} , "t":"t", "s":"s"}} "#);
        let read = Message::read(Dialect::of_body(None, json.as_bytes()), json.as_bytes()).expect("a message");
        assert_eq!(read.d.get(), d);
        assert_eq!(read.to_json(), format!(r#"{{"s":"s","t":"t","d":{d}}}"#).as_bytes());
    }

    #[test]
    fn every_dialect_is_read_and_written() {
        let json = br#"{"s":"bot","t":"gateway:opcode","d":{"opcode":10}}"#;
        let message = Message::read_json(json).expect("a message");
        for dialect in Dialect::ALL {
            let body = message.to_dialect(dialect).expect("plain");
            for declared in [None, Some(dialect.content_type()), Some("application/octet-stream")] {
                assert_eq!(Dialect::of_body(declared, &body), dialect, "{declared:?}");
            }
            let read = Message::read(dialect, &body).expect("a message");
            assert_eq!((read.request(), &*read.to_json()), (Ok(Request::ShardConnect), &json[..]), "{dialect}");
        }
    }

    #[test]
    fn what_is_no_message_says_why() {
        const SHAPE: &str = "it is no message {\"s\",\"t\",\"d\"}: ";
        for (content_type, body, why) in [
            (None, &b""[..], format!("{SHAPE}EOF")),
            (None, br#"{"s":"a","t":"b"}"#, format!("{SHAPE}missing field `d`")),
            (None, br#"{"s":1,"t":"b","d":1}"#, format!("{SHAPE}invalid type")),
            (Some("application/vnd.erlang.etf"), b"x", "it cannot be read as Erlang's term format: ".to_owned()),
            (Some("application/msgpack"), b"\xc1", "it cannot be read as MessagePack: ".to_owned()),
            (None, b"\x83\x61", "it cannot be read as Erlang's term format: ".to_owned()),
        ] {
            let error = Message::read(Dialect::of_body(content_type, body), body).expect_err("no message").to_string();
            assert!(error.starts_with(&why), "{error}");
        }
    }

    #[test]
    fn a_topic_is_wanted_exactly_or_by_its_beginning() {
        let wants = |wanted: &str, topic: &str| Topics::from(wanted.to_owned()).contains(topic);
        assert!(wants("a", "a") && !wants("a", "ab") && !wants("a", ""));
        assert!(wants("a*", "a") && wants("a*", "ab") && !wants("a*", "b"));
        assert!(wants("*", "anything") && !wants("a*b", "a*c"));
        assert!(wants("a**", "a*x") && !wants("a**", "ax"));
    }
}
