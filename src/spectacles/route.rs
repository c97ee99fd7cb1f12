//! Where a `SEND` goes, and why a command goes nowhere.
//!
//! A body is JSON, `{"guild_id":ID,"packet":{"op":…,"d":…}}`; the packet is passed on byte for byte. What can be known of it
//! is checked here already, so that whoever asked hears of a mistake at once. Knows no broker and no shard; rules:
//! spec/amqp.md, "Commands".

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::discord::command;
use crate::discord::compression::Encoding as Link;
use crate::discord::ids::ShardId;

/// A checked `SEND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send<'a> {
    /// The guild that it is about.
    pub guild_id: u64,
    /// What its shard is to send, as it came.
    pub packet: &'a str,
}

/// Why a command is set aside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Not in JSON.
    #[error("the body is {0}; send it as JSON text (content-type application/json)")]
    Encoding(Encoding),
    /// Not JSON, or not an object.
    #[error("the body is not a JSON object {{\"guild_id\", \"packet\"}}: {0}")]
    NotASend(String),
    /// No `guild_id`, or `null`.
    #[error("the body has no \"guild_id\"")]
    NoGuildId,
    /// `guild_id` is something else than an id.
    #[error("\"guild_id\" is not an id, a whole number of up to 64 bits as text or number: {0}")]
    NotAnId(String),
    /// No `packet`, or `null`.
    #[error("the body has no \"packet\"")]
    NoPacket,
    /// The packet itself.
    #[error(transparent)]
    Packet(#[from] command::Rejected),
    /// There are not so many shards.
    #[error("there is no shard {shard}: the bot has {count}, from 0")]
    NoSuchShard {
        /// The one that it was sent to.
        shard: ShardId,
        /// How many there are.
        count: u32,
    },
}

/// What a body is that is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// What Spectacles' JavaScript and Go clients send unless told otherwise.
    MessagePack,
    /// Erlang's external term format.
    Etf,
}

/// Reads and checks the body of a `SEND`.
///
/// # Errors
/// Why it is to be set aside.
pub fn read<'a>(body: &'a [u8], content_type: Option<&str>, link: Link) -> Result<Send<'a>, Rejected> {
    let text = as_json(body, content_type)?.map_err(|error| Rejected::NotASend(error.to_string()))?;
    if !text.trim_start().starts_with('{') {
        return Err(Rejected::NotASend("it is not an object".to_owned()));
    }
    let Body { guild_id, packet } =
        serde_json::from_str(text).map_err(|error| Rejected::NotASend(error.to_string()))?;
    let guild_id = id(guild_id.ok_or(Rejected::NoGuildId)?)?;
    let packet = packet.ok_or(Rejected::NoPacket)?.get();
    command::check(packet.as_bytes(), link)?;
    Ok(Send { guild_id, packet })
}

/// Checks a packet that was sent to shard `shard` of `count`; gives it as it goes out to Discord.
///
/// # Errors
/// Why it is to be set aside.
pub fn check<'a>(
    packet: &'a [u8],
    content_type: Option<&str>,
    shard: ShardId,
    count: u32,
    link: Link,
) -> Result<Cow<'a, [u8]>, Rejected> {
    if shard.get() >= count {
        return Err(Rejected::NoSuchShard { shard, count });
    }
    // Text that is not UTF-8 is told by the check itself.
    let _ = as_json(packet, content_type)?;
    Ok(command::check(packet, link)?.packet)
}

/// The guild that a packet names itself, if it does.
pub fn guild_of(packet: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Packet<'a> {
        #[serde(borrow)]
        d: Data<'a>,
    }
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        guild_id: &'a RawValue,
    }
    let packet: Packet<'_> = serde_json::from_slice(packet).ok()?;
    id(packet.d.guild_id).ok()
}

/// Read without a tree; a field that comes twice is an error, so that what is checked is what is sent.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    guild_id: Option<&'a RawValue>,
    #[serde(borrow)]
    packet: Option<&'a RawValue>,
}

/// An id is a number of 64 bits, exactly, and JSON from some languages can only hold it as text.
fn id(value: &RawValue) -> Result<u64, Rejected> {
    let value = value.get();
    let text = if value.starts_with('"') { serde_json::from_str(value).ok() } else { Some(value.to_owned()) };
    let digits = text.filter(|text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| Rejected::NotAnId(short(value)))
}

/// As much of a value as a message to people needs.
fn short(value: &str) -> String {
    const LONGEST: usize = 40;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// The body as text; the inner error is only that it is not UTF-8.
///
/// Many clients do not say what they send, and some say the wrong thing: what looks like an object in JSON is one.
fn as_json<'a>(body: &'a [u8], content_type: Option<&str>) -> Result<Result<&'a str, std::str::Utf8Error>, Rejected> {
    if body.trim_ascii_start().first() != Some(&b'{')
        && let Some(encoding) = Encoding::of_type(content_type).or_else(|| Encoding::of_bytes(body))
    {
        return Err(Rejected::Encoding(encoding));
    }
    Ok(std::str::from_utf8(body))
}

impl Encoding {
    fn of_type(content_type: Option<&str>) -> Option<Self> {
        let name = content_type?.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Some(Self::MessagePack),
            "application/vnd.erlang.etf" | "application/x-erlang-binary" | "application/etf" => Some(Self::Etf),
            _ => None,
        }
    }

    /// By the first bytes, which no JSON text has.
    fn of_bytes(body: &[u8]) -> Option<Self> {
        match *body {
            // ETF's version, which is also a MessagePack map of three: there, the first key follows, a text.
            [131, tag, ..] if tag.is_ascii() => Some(Self::Etf),
            // Maps, and texts in which the Go client wraps JSON.
            [0x80..=0x8f | 0xde | 0xdf | 0xa0..=0xbf | 0xd9..=0xdb, ..] => Some(Self::MessagePack),
            _ => None,
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessagePack => "MessagePack, which is not read here",
            Self::Etf => "Erlang's term format, which is not read here",
        })
    }
}

/// The kinds of rejection: what is counted, and what the log tells once a minute each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MessagePack or ETF.
    Encoding,
    /// No JSON object.
    NotJson,
    /// No `guild_id`.
    NoGuildId,
    /// A `guild_id` that is no id.
    BadGuildId,
    /// No `packet`.
    NoPacket,
    /// No `op`, or one that is not a number.
    NoOp,
    /// An opcode that Discord does not have.
    UnknownOp,
    /// An opcode that is not for workers.
    ForbiddenOp,
    /// `d` is not what the opcode needs.
    NoData,
    /// More bytes than Discord takes.
    TooLarge,
    /// A shard's number from the count up.
    NoSuchShard,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Encoding,
        Self::NotJson,
        Self::NoGuildId,
        Self::BadGuildId,
        Self::NoPacket,
        Self::NoOp,
        Self::UnknownOp,
        Self::ForbiddenOp,
        Self::NoData,
        Self::TooLarge,
        Self::NoSuchShard,
    ];

    /// Its name for machines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::NotJson => "not_json",
            Self::NoGuildId => "no_guild_id",
            Self::BadGuildId => "bad_guild_id",
            Self::NoPacket => "no_packet",
            Self::NoOp => "no_op",
            Self::UnknownOp => "unknown_op",
            Self::ForbiddenOp => "forbidden_op",
            Self::NoData => "no_data",
            Self::TooLarge => "too_large",
            Self::NoSuchShard => "no_such_shard",
        }
    }
}

impl Rejected {
    /// What kind of reason it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Encoding(_) => Kind::Encoding,
            Self::NotASend(_)
            | Self::Packet(command::Rejected::NotAPacket { .. } | command::Rejected::LoneSurrogate { .. }) => {
                Kind::NotJson
            }
            Self::NoGuildId => Kind::NoGuildId,
            Self::NotAnId(_) => Kind::BadGuildId,
            Self::NoPacket => Kind::NoPacket,
            Self::Packet(command::Rejected::NoOp | command::Rejected::OpNotANumber) => Kind::NoOp,
            Self::Packet(command::Rejected::UnknownOp { .. }) => Kind::UnknownOp,
            Self::Packet(command::Rejected::NotForWorkers { .. }) => Kind::ForbiddenOp,
            Self::Packet(command::Rejected::NoData { .. }) => Kind::NoData,
            Self::Packet(command::Rejected::TooLarge { .. }) => Kind::TooLarge,
            Self::NoSuchShard { .. } => Kind::NoSuchShard,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACKET: &str = r#"{ "op": 8, "d": {"guild_id": "1", "query": "", "limit": 0} }"#;

    fn rejected(body: &str) -> Rejected {
        read(body.as_bytes(), None, Link::Json).expect_err(body)
    }

    #[test]
    fn a_packet_may_name_its_guild() {
        assert_eq!(guild_of(br#"{"op":4,"d":{"guild_id":"41771983423143937"}}"#), Some(41_771_983_423_143_937));
        assert_eq!(guild_of(br#"{"op":8,"d":{"guild_id":7,"limit":0}}"#), Some(7));
        for text in [r#"{"op":3,"d":{}}"#, r#"{"op":3}"#, r#"{"op":8,"d":{"guild_id":["7"]}}"#, "no"] {
            assert_eq!(guild_of(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_packet_is_kept_byte_for_byte_and_unknown_fields_are_passed_over() {
        let body = format!(r#" {{"shard": null, "packet": {PACKET} , "guild_id": "41771983423143937", "x": [1]}} "#);
        let send = read(body.as_bytes(), Some("application/json"), Link::Json).expect("a send");
        assert_eq!(send, Send { guild_id: 41_771_983_423_143_937, packet: PACKET });
    }

    #[test]
    fn an_id_is_text_or_number_and_exact_to_the_last_bit() {
        for (id, expected) in [
            ("0", 0),
            ("18446744073709551615", u64::MAX),
            (r#""18446744073709551615""#, u64::MAX),
            (r#""9007199254740993""#, 9_007_199_254_740_993),
            ("9007199254740993", 9_007_199_254_740_993),
            (r#""\u0034\u0032""#, 42),
        ] {
            let body = format!(r#"{{"guild_id":{id},"packet":{PACKET}}}"#);
            assert_eq!(read(body.as_bytes(), None, Link::Json).map(|send| send.guild_id), Ok(expected), "{id}");
        }
        for id in ["18446744073709551616", "-1", "1.0", "4e3", r#""""#, r#"" 1""#, r#""+1""#, r#""x""#, "[1]", "true"] {
            let body = format!(r#"{{"guild_id":{id},"packet":{PACKET}}}"#);
            assert_eq!(rejected(&body), Rejected::NotAnId(id.to_owned()));
        }
        let long = format!("\"{}\"", "ü".repeat(500));
        assert!(rejected(&format!(r#"{{"guild_id":{long},"packet":{PACKET}}}"#)).to_string().len() < 200);
    }

    #[test]
    fn a_rejection_says_what_is_wrong() {
        let cases = [
            ("", "it is not an object", Kind::NotJson),
            ("[]", "it is not an object", Kind::NotJson),
            (r#"{"guild_id":1"#, "EOF while parsing", Kind::NotJson),
            (r#"{"packet":{"op":3,"d":{}}}"#, "the body has no \"guild_id\"", Kind::NoGuildId),
            (r#"{"guild_id":null,"packet":{"op":3,"d":{}}}"#, "the body has no \"guild_id\"", Kind::NoGuildId),
            (r#"{"guild_id":1}"#, "the body has no \"packet\"", Kind::NoPacket),
            (r#"{"guild_id":1,"packet":null}"#, "the body has no \"packet\"", Kind::NoPacket),
            (r#"{"guild_id":1,"packet":"{}"}"#, "the packet is not a JSON object", Kind::NotJson),
            (r#"{"guild_id":1,"packet":{"d":{}}}"#, "the packet has no \"op\"", Kind::NoOp),
            (r#"{"guild_id":1,"packet":{"op":2,"d":{}}}"#, "opcode 2 (Identify) is not for workers", Kind::ForbiddenOp),
            (r#"{"guild_id":1,"packet":{"op":14,"d":{}}}"#, "opcode 14 is not known", Kind::UnknownOp),
            (r#"{"guild_id":1,"packet":{"op":8}}"#, "\"d\" is not an object", Kind::NoData),
            (r#"{"guild_id":1,"guild_id":2,"packet":{}}"#, "duplicate field", Kind::NotJson),
            (r#"{"guild_id":1,"packet":{},"p\u0061cket":{}}"#, "duplicate field", Kind::NotJson),
        ];
        for (body, text, kind) in cases {
            let rejected = rejected(body);
            assert!(rejected.to_string().contains(text), "{body}: {rejected}");
            assert_eq!(rejected.kind(), kind, "{body}");
        }
        let large = format!(r#"{{"guild_id":1,"packet":{{"op":3,"d":{{"a":"{}"}}}}}}"#, "x".repeat(5000));
        assert_eq!(rejected(&large).kind(), Kind::TooLarge);
        let not_utf_8 =
            read(b"{\"guild_id\":1,\"x\":\"\xff\",\"packet\":{}}", None, Link::Json).expect_err("not UTF-8");
        assert!(matches!(not_utf_8, Rejected::NotASend(_)));
    }

    #[test]
    fn other_encodings_are_known_by_their_name_or_their_first_bytes() {
        let message_pack = Err(Rejected::Encoding(Encoding::MessagePack));
        let etf = Err(Rejected::Encoding(Encoding::Etf));
        // {"guild_id": "1", "packet": …} in a map of two, one of three, and JSON in a text, as Go's client does it.
        for body in [&b"\x82\xa8guild_id\xa11"[..], b"\x83\xa8guild_id\xa11", b"\xd9\x20{\"guild_id\"", b"\xa2{}"] {
            assert_eq!(read(body, None, Link::Json), message_pack, "{body:?}");
        }
        assert_eq!(read(b"\x83t\x00\x00\x00\x02", None, Link::Json), etf);
        assert_eq!(read(b"\x01", Some("application/x-msgpack; charset=binary"), Link::Json), message_pack);
        assert_eq!(read(b"\x01", Some("application/vnd.erlang.etf"), Link::Json), etf);
        let shard = ShardId::new(0);
        assert_eq!(check(b"\x82\xa2op\x08", None, shard, 1, Link::Json), message_pack.map(|_| Cow::Borrowed(&b""[..])));
        // A wrong name harms nobody.
        assert_eq!(
            check(PACKET.as_bytes(), Some("application/msgpack"), shard, 1, Link::Json),
            Ok(PACKET.as_bytes().into())
        );
    }

    #[test]
    fn a_shard_that_the_bot_does_not_have_gets_nothing() {
        let refused = check(PACKET.as_bytes(), None, ShardId::new(8), 8, Link::Json).expect_err("from 0 to 7");
        assert_eq!(refused.to_string(), "there is no shard 8: the bot has 8, from 0");
        assert_eq!(check(PACKET.as_bytes(), None, ShardId::new(7), 8, Link::Json), Ok(PACKET.as_bytes().into()));
        assert_eq!(check(b"\xff{", None, ShardId::new(7), 8, Link::Json).expect_err("not JSON").kind(), Kind::NotJson);
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        // Counters are kept in this order.
        assert!(Kind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, None, Link::Json);
            let _ = check(&bytes, None, ShardId::new(0), 1, Link::Json);
        }

        #[test]
        fn every_id_arrives_as_it_was_sent(id in any::<u64>(), as_text in any::<bool>()) {
            let id_text = if as_text { format!("\"{id}\"") } else { id.to_string() };
            let body = format!(r#"{{"packet":{PACKET},"guild_id":{id_text}}}"#);
            prop_assert_eq!(read(body.as_bytes(), None, Link::Json), Ok(Send { guild_id: id, packet: PACKET }));
        }
    }
}
