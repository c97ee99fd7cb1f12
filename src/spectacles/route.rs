//! Where a `SEND` goes, and why a command goes nowhere.
//!
//! A body is `{"guild_id":ID,"packet":{"op":…,"d":…}}` in any of the dialects. Here it becomes JSON, and from here on there is nothing
//! else; a packet that came in JSON is passed on byte for byte. What can be known of it is checked here already, so that
//! whoever asked hears of a mistake at once. Knows no broker and no shard; rules: spec/amqp.md, "Commands".

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::discord::command;
use crate::discord::compression::Encoding as Link;
use crate::discord::ids::ShardId;
use crate::encoding::convert::{self, Taking};
use crate::encoding::{Dialect, ReadError};

/// A body in another encoding than JSON may have so many bytes: no command needs them, and as JSON it may be several times as large.
const MOST_CONVERTED: usize = 1 << 20;

/// A checked `SEND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send<'a> {
    /// The guild that it is about.
    pub guild_id: u64,
    /// What its shard is to send, in JSON.
    pub packet: Cow<'a, str>,
}

/// Why a command is set aside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Not what it is declared as, or looks like.
    #[error("the body cannot be read as {dialect}: {error}")]
    Unreadable {
        /// What it was read as.
        dialect: Dialect,
        /// What is wrong there.
        error: ReadError,
    },
    /// More than is converted.
    #[error("the body has {bytes} bytes of {dialect}; at most {MOST_CONVERTED} are read")]
    TooMuch {
        /// How many it has.
        bytes: usize,
        /// Of what.
        dialect: Dialect,
    },
    /// Something is wrong with the JSON that it became.
    #[error("{rejected} (the body is {dialect}, and is read as the JSON that it stands for)")]
    Converted {
        /// What it was.
        dialect: Dialect,
        /// What is wrong.
        rejected: Box<Rejected>,
    },
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

/// Reads and checks the body of a `SEND`.
///
/// # Errors
/// Why it is to be set aside.
pub fn read<'a>(body: &'a [u8], content_type: Option<&str>, link: Link) -> Result<Send<'a>, Rejected> {
    let dialect = Dialect::of_body(content_type, body);
    let send = match as_json(dialect, body)? {
        Cow::Borrowed(json) => read_json(json, link),
        Cow::Owned(json) => read_json(&json, link)
            .map(|Send { guild_id, packet }| Send { guild_id, packet: packet.into_owned().into() }),
    };
    send.map_err(|rejected| rejected.in_dialect(dialect))
}

fn read_json(body: &[u8], link: Link) -> Result<Send<'_>, Rejected> {
    let text = std::str::from_utf8(body).map_err(|error| Rejected::NotASend(error.to_string()))?;
    if !text.trim_start().starts_with('{') {
        return Err(Rejected::NotASend("it is not an object".to_owned()));
    }
    let Body { guild_id, packet } =
        serde_json::from_str(text).map_err(|error| Rejected::NotASend(error.to_string()))?;
    let guild_id = id(guild_id.ok_or(Rejected::NoGuildId)?)?;
    let packet = packet.ok_or(Rejected::NoPacket)?.get();
    command::check(packet.as_bytes(), link)?;
    Ok(Send { guild_id, packet: packet.into() })
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
    let dialect = Dialect::of_body(content_type, packet);
    let checked = match as_json(dialect, packet)? {
        Cow::Borrowed(json) => command::check(json, link).map(|checked| checked.packet),
        Cow::Owned(json) => command::check(&json, link).map(|checked| checked.packet.into_owned().into()),
    };
    checked.map_err(|rejected| Rejected::Packet(rejected).in_dialect(dialect))
}

/// The guild that a packet names itself, if it does.
pub fn guild_of(packet: &[u8], content_type: Option<&str>) -> Option<u64> {
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
    let packet = as_json(Dialect::of_body(content_type, packet), packet).ok()?;
    let packet: Packet<'_> = serde_json::from_slice(&packet).ok()?;
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

/// The body as JSON, or what stands where JSON should.
fn as_json(dialect: Dialect, body: &[u8]) -> Result<Cow<'_, [u8]>, Rejected> {
    if !dialect.is_json() && body.len() > MOST_CONVERTED {
        return Err(Rejected::TooMuch { bytes: body.len(), dialect });
    }
    convert::to_json(dialect, body, Taking::NO_BYTES).map_err(|error| Rejected::Unreadable { dialect, error })
}

/// The kinds of rejection: what is counted, and what the log tells once a minute each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No MessagePack, or no term, though it is declared as that or looks like it.
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
    /// Said of a body in this dialect.
    fn in_dialect(self, dialect: Dialect) -> Self {
        if dialect.is_json() { self } else { Self::Converted { dialect, rejected: Box::new(self) } }
    }

    /// What kind of reason it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreadable { .. } => Kind::Encoding,
            Self::Converted { rejected, .. } => rejected.kind(),
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
            Self::TooMuch { .. } | Self::Packet(command::Rejected::TooLarge { .. }) => Kind::TooLarge,
            Self::NoSuchShard { .. } => Kind::NoSuchShard,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::encoding::{Encoding, etf};

    const PACKET: &str = r#"{ "op": 8, "d": {"guild_id": "1", "query": "", "limit": 0} }"#;

    fn rejected(body: &str) -> Rejected {
        read(body.as_bytes(), None, Link::Json).expect_err(body)
    }

    #[test]
    fn a_packet_may_name_its_guild() {
        assert_eq!(guild_of(br#"{"op":4,"d":{"guild_id":"41771983423143937"}}"#, None), Some(41_771_983_423_143_937));
        assert_eq!(guild_of(br#"{"op":8,"d":{"guild_id":7,"limit":0}}"#, None), Some(7));
        assert_eq!(guild_of(b"\x82\xa2op\x08\xa1d\x81\xa8guild_id\x07", None), Some(7));
        for text in [r#"{"op":3,"d":{}}"#, r#"{"op":3}"#, r#"{"op":8,"d":{"guild_id":["7"]}}"#, "no"] {
            assert_eq!(guild_of(text.as_bytes(), None), None, "{text}");
        }
    }

    #[test]
    fn the_packet_is_kept_byte_for_byte_and_unknown_fields_are_passed_over() {
        let body = format!(r#" {{"shard": null, "packet": {PACKET} , "guild_id": "41771983423143937", "x": [1]}} "#);
        let send = read(body.as_bytes(), Some("application/json"), Link::Json).expect("a send");
        assert_eq!(send, Send { guild_id: 41_771_983_423_143_937, packet: PACKET.into() });
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

    /// A body in this dialect.
    fn in_dialect(dialect: Dialect, json: &str) -> Vec<u8> {
        let mut body = Vec::new();
        convert::convert(Encoding::Json, json.as_bytes(), dialect, Taking::EXACT, &mut body).expect(json);
        body
    }

    #[test]
    fn every_dialect_says_the_same() {
        let packet = r#"{"op":8,"d":{"guild_id":41771983423143937,"query":"é","limit":0}}"#;
        let body = format!(r#"{{"guild_id":"41771983423143937","packet":{packet},"x":1.5}}"#);
        for dialect in Dialect::ALL {
            let content_type = Some(dialect.content_type());
            for declared in [None, Some("application/octet-stream"), Some("application/x"), content_type] {
                let body = in_dialect(dialect, &body);
                let expected = Send { guild_id: 41_771_983_423_143_937, packet: packet.into() };
                assert_eq!(read(&body, declared, Link::Json), Ok(expected), "{dialect} as {declared:?}");
                let packet = in_dialect(dialect, packet);
                let checked = check(&packet, declared, ShardId::new(0), 1, Link::Json);
                assert_eq!(checked.as_deref(), Ok(packet_bytes()), "{dialect} as {declared:?}");
                let in_etf = check(&packet, declared, ShardId::new(0), 1, Link::Etf).expect("it may be sent");
                assert_eq!(in_etf[0], etf::VERSION);
            }
        }
    }

    fn packet_bytes() -> &'static [u8] {
        r#"{"op":8,"d":{"guild_id":41771983423143937,"query":"é","limit":0}}"#.as_bytes()
    }

    #[test]
    fn what_is_wrong_is_said_of_the_body_as_it_came() {
        let said = |body: &[u8], content_type| {
            let rejected = read(body, content_type, Link::Json).expect_err("rejected");
            (rejected.to_string(), rejected.kind())
        };
        for (body, content_type, reason) in [
            (&b"\x82\xa8guild_id\xa11"[..], None, "the body cannot be read as MessagePack: given binary is incomplete"),
            (b"\x83t\0\0\0\x02", None, "the body cannot be read as Erlang's term format: the term is cut short"),
            (b"t", Some("application/etf"), "the body cannot be read as Erlang's term format: a term begins with 131"),
            (
                b"\xd9\x20{",
                None,
                "the body cannot be read as JSON in a MessagePack text: invalid format, first byte: 217",
            ),
        ] {
            assert_eq!(said(body, content_type), (reason.to_owned(), Kind::Encoding));
        }
        for dialect in [Dialect::Plain(Encoding::Etf), Dialect::Plain(Encoding::Msgpack), Dialect::MsgpackText] {
            for (json, reason, kind) in [
                ("[1]", "it is not an object", Kind::NotJson),
                (r#"{"packet":{}}"#, "the body has no \"guild_id\"", Kind::NoGuildId),
                (r#"{"guild_id":1,"guild_id":2,"packet":{}}"#, "duplicate field", Kind::NotJson),
                (
                    r#"{"guild_id":1,"packet":{"op":2,"d":{}}}"#,
                    "opcode 2 (Identify) is not for workers",
                    Kind::ForbiddenOp,
                ),
            ] {
                let body = in_dialect(dialect, json);
                let (said, of_kind) = said(&body, Some(dialect.content_type()));
                assert!(said.contains(reason) && said.contains(&format!("(the body is {dialect}, ")), "{said}");
                assert_eq!(of_kind, kind);
                let (words, of_kind) = {
                    let packet = in_dialect(dialect, r#"{"op":2,"d":{}}"#);
                    let rejected = check(&packet, None, ShardId::new(0), 1, Link::Json).expect_err("rejected");
                    (rejected.to_string(), rejected.kind())
                };
                assert!(words.starts_with("opcode 2 (Identify)") && words.contains("the body is"), "{words}");
                assert_eq!(of_kind, Kind::ForbiddenOp);
            }
            let mut large = in_dialect(dialect, "{}");
            large.resize(MOST_CONVERTED + 1, 0);
            assert_eq!(said(&large, Some(dialect.content_type())).1, Kind::TooLarge);
        }
        assert_eq!(said(b"\xa5hello", None).1, Kind::NotJson, "a text that is no JSON");
    }

    #[test]
    fn bytes_of_message_pack_are_the_text_that_they_are() {
        let command =
            |id: &[u8]| [b"\x82\xc4\x08guild_id", id, b"\xa6packet\x82\xa2op\x08\xa1d\x81\xc4\x01q\xc4\x02hi"].concat();
        let expected = Send { guild_id: 42, packet: r#"{"op":8,"d":{"q":"hi"}}"#.into() };
        for id in [&b"\xc4\x0242"[..], b"\xa242", b"\x2a"] {
            assert_eq!(read(&command(id), None, Link::Json).as_ref(), Ok(&expected));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_and_not_made_one() {
        for (dialect, packet) in [
            (Dialect::Plain(Encoding::Msgpack), &b"\x82\xa2op\x03\xa1d\x81\xa1a\xc4\x01\xff"[..]),
            (Dialect::Plain(Encoding::Msgpack), b"\x82\xa2op\x03\xa1d\x81\xc4\x01\xff\x01"),
            (Dialect::Plain(Encoding::Msgpack), b"\x82\xa2op\x03\xa1d\x81\xa1a\xa1\xff"),
            (Dialect::Plain(Encoding::Etf), b"\x83t\0\0\0\x02d\0\x02opa\x03d\0\x01dm\0\0\0\x01\xff"),
            (Dialect::Plain(Encoding::Etf), b"\x83t\0\0\0\x02d\0\x02opa\x03m\0\0\0\x01\xffa\x01"),
        ] {
            let rejected = check(packet, None, ShardId::new(0), 1, Link::Json).expect_err("no text");
            let reason =
                format!("the body cannot be read as {dialect}: it holds bytes that are no text, which JSON has not");
            assert_eq!((rejected.to_string(), rejected.kind()), (reason, Kind::Encoding));
        }
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
            prop_assert_eq!(read(body.as_bytes(), None, Link::Json), Ok(Send { guild_id: id, packet: PACKET.into() }));
        }
    }
}
