//! The packets a session is made of: identify, resume and heartbeat as sent, Hello, READY and Invalid Session as read.
//!
//! The only place in the gateway protocol where the token leaves its [`Secret`]. No reader here builds a tree: of READY
//! two fields are kept and up to megabytes skipped. `json` and `etf` read, with the same names.

mod etf;
mod json;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::compression::Encoding;
use super::ids::{Seq, SessionId, Shard};
use super::intents::Intents;
use super::wire;
use crate::encoding::ReadError;
use crate::secret::Secret;

/// What Discord sent is not what its opcode or event promises. The connection is no longer to be trusted: the driver
/// counts it and calls [`Session::broken`](super::session::Session::broken).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedPacket {
    /// Hello without a usable interval.
    #[error("Hello cannot be read: {0}")]
    Hello(String),
    /// READY without what a session needs.
    #[error("READY cannot be read: {0}")]
    Ready(String),
    /// Invalid Session with something else than a boolean.
    #[error("Invalid Session cannot be read: {0}")]
    InvalidSession(String),
    /// An event on a connection that has no session yet.
    #[error("{0} came before READY or a resume")]
    BeforeReady(String),
    /// READY of another session while one is running.
    #[error("READY of another session came in the middle of one")]
    SecondReady,
}

/// The shortest and the longest heartbeat interval that is believed; Discord's is about 41 s.
const INTERVALS: std::ops::RangeInclusive<u64> = 100..=3_600_000;

/// What an identify says, besides the token.
#[derive(Clone, Copy, Debug)]
pub struct Identify<'a> {
    /// Which shard of how many.
    pub shard: Shard,
    /// Which events to send.
    pub intents: Intents,
    /// Above it offline members are left out of GUILD_CREATE; Discord's default is 50.
    pub large_threshold: Option<u16>,
    /// The bot's presence, as `d` of op 3.
    pub presence: Option<&'a RawValue>,
}

/// Op 2.
///
/// # Errors
/// When the presence cannot be written in that encoding.
pub fn identify(encoding: Encoding, token: &Secret, identify: Identify<'_>) -> Result<Vec<u8>, ReadError> {
    #[derive(Serialize)]
    struct Data<'a> {
        token: &'a str,
        properties: Properties,
        shard: Shard,
        intents: Intents,
        #[serde(skip_serializing_if = "Option::is_none")]
        large_threshold: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        presence: Option<&'a RawValue>,
    }
    #[derive(Serialize)]
    struct Properties {
        os: &'static str,
        browser: &'static str,
        device: &'static str,
    }
    let Identify { shard, intents, large_threshold, presence } = identify;
    let properties = Properties { os: std::env::consts::OS, browser: "optic", device: "optic" };
    packet(encoding, 2, Data { token: token.expose(), properties, shard, intents, large_threshold, presence })
}

/// Op 6. `stored` is the session's stored sequence number (spec/discord.md, "Three sequence numbers").
pub fn resume(encoding: Encoding, token: &Secret, session: &SessionId, stored: Seq) -> Vec<u8> {
    #[derive(Serialize)]
    struct Data<'a> {
        token: &'a str,
        session_id: &'a str,
        seq: Seq,
    }
    let data = Data { token: token.expose(), session_id: session.as_str(), seq: stored };
    packet(encoding, 6, data).expect(PLAIN)
}

/// Op 1. `stored` is the session's stored sequence number; before the first one `d` is null.
pub fn heartbeat(encoding: Encoding, stored: Seq) -> Vec<u8> {
    packet(encoding, 1, (stored != Seq::ZERO).then_some(stored)).expect(PLAIN)
}

/// The interval that Hello asks for.
///
/// # Errors
/// When there is none, or none that a clock could keep.
pub fn hello(encoding: Encoding, data: &[u8]) -> Result<Duration, MalformedPacket> {
    let interval = match encoding {
        Encoding::Json => json::hello(data),
        Encoding::Etf => etf::hello(data),
    };
    let interval = interval.map_err(MalformedPacket::Hello)?;
    match INTERVALS.contains(&interval) {
        true => Ok(Duration::from_millis(interval)),
        false => Err(MalformedPacket::Hello(format!("heartbeat_interval is {interval} ms"))),
    }
}

/// What is kept of READY.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ready {
    /// The session's id.
    pub session_id: SessionId,
    /// Where the session is resumed; without it, at the ordinary address.
    #[serde(default)]
    pub resume_gateway_url: Option<String>,
}

/// Reads READY.
///
/// # Errors
/// When it has no session id.
pub fn ready(encoding: Encoding, data: &[u8]) -> Result<Ready, MalformedPacket> {
    let ready = match encoding {
        Encoding::Json => json::ready(data),
        Encoding::Etf => etf::ready(data),
    };
    let ready = ready.map_err(MalformedPacket::Ready)?;
    match ready.session_id.as_str() {
        "" => Err(MalformedPacket::Ready("session_id is empty".to_owned())),
        _ => Ok(ready),
    }
}

/// The ids of the guilds that READY lists; `None`, if that cannot be read: only a count depends on it.
pub fn guilds(encoding: Encoding, ready: &[u8]) -> Option<Vec<u64>> {
    match encoding {
        Encoding::Json => json::guilds(ready),
        Encoding::Etf => etf::guilds(ready),
    }
}

/// The guild of a GUILD_CREATE or GUILD_DELETE, if it can be read. The former may have megabytes: no more is looked at than
/// has to be.
pub fn guild(encoding: Encoding, data: &[u8]) -> Option<GuildSign> {
    match encoding {
        Encoding::Json => json::guild(data),
        Encoding::Etf => etf::guild(data),
    }
}

/// A guild as its event tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuildSign {
    /// Which.
    pub id: u64,
    /// Whether it has an outage.
    pub unavailable: bool,
}

/// Whether an Invalid Session may be resumed. Nothing said is no.
///
/// # Errors
/// When it is neither true, false, null nor absent.
pub fn invalid_session(encoding: Encoding, data: &[u8]) -> Result<bool, MalformedPacket> {
    let resumable = match encoding {
        Encoding::Json => json::invalid_session(data),
        Encoding::Etf => etf::invalid_session(data),
    };
    resumable.ok_or_else(|| MalformedPacket::InvalidSession("d is not a boolean".to_owned()))
}

/// Strings of ours and numbers are written in every encoding.
const PLAIN: &str = "a plain packet";

fn packet(encoding: Encoding, op: u8, d: impl Serialize) -> Result<Vec<u8>, ReadError> {
    #[derive(Serialize)]
    struct Packet<D> {
        op: u8,
        d: D,
    }
    let json = serde_json::to_vec(&Packet { op, d }).expect("strings, numbers and raw JSON can always be written");
    Ok(wire::write(encoding, &json)?.into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Encoding::{Etf, Json};
    use super::*;
    use crate::discord::ids::ShardId;
    use crate::encoding;

    fn shard() -> Shard {
        Shard::new(ShardId::new(3), 16).expect("3 of 16")
    }

    /// The same in both encodings.
    fn identified(fields: Identify<'_>) -> Value {
        let written = |encoding| identify(encoding, &Secret::new("t"), fields).expect("it can be written");
        let packet = serde_json::from_slice(&written(Json)).expect("JSON");
        assert_eq!(in_json(&written(Etf)), packet);
        packet
    }

    /// What our decoder makes of a term.
    fn in_json(term: &[u8]) -> Value {
        let mut json = Vec::new();
        encoding::write(encoding::Encoding::Json, &encoding::etf::read(term).expect("a term"), &mut json);
        serde_json::from_slice(&json).expect("JSON")
    }

    /// The term of a JSON text, without its version byte.
    fn term(json: &str) -> Vec<u8> {
        wire::write(Etf, json.as_bytes()).expect("JSON").into_owned().split_off(1)
    }

    #[test]
    fn a_guild_is_found_among_whatever_else_its_event_tells() {
        let sign = |id, unavailable| Some(GuildSign { id, unavailable });
        for (text, expected) in [
            (r#"{"id":"7","name":"x"}"#, sign(7, false)),
            (r#"{"unavailable":true,"id":"7"}"#, sign(7, true)),
            (r#"{"id":"7","unavailable":true}"#, sign(7, true)),
            (r#"{"unavailable":false,"id":"7"}"#, sign(7, false)),
            // Members, channels and threads have ids of their own, and what people write may look like anything.
            (
                r#"{"members":[{"user":{"id":"1"}}],"name":"\"id\":\"2\"}","id":"18446744073709551615"}"#,
                sign(u64::MAX, false),
            ),
            (r#"{"stage":{"unavailable":true,"id":"3"},"id":"7"}"#, sign(7, false)),
            (r#"{ "a" : [ 1 ] , "id" : "7" }"#, sign(7, false)),
            (r#"{"name":"x"}"#, None),
            (r#"{"id":"x"}"#, None),
            (r#"{"id":null}"#, None),
            ("{}", None),
            ("null", None),
        ] {
            assert_eq!(guild(Json, text.as_bytes()), expected, "{text}");
            assert_eq!(guild(Etf, &term(text)), expected, "{text}");
        }
        // Ids are numbers in terms of Discord's.
        assert_eq!(guild(Etf, &term(r#"{"id":1500621592580050945}"#)), sign(1_500_621_592_580_050_945, false));
        for text in ["", "{", r#"{"id"#, r#"{"id":"7"#, r#"{"id":"#] {
            assert_eq!(guild(Json, text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn ready_lists_the_guilds() {
        let text = r#"{"v":10,"guilds":[{"unavailable":true,"id":"7"},{"id":"8"}],"session_id":"s"}"#;
        assert_eq!((guilds(Json, text.as_bytes()), guilds(Etf, &term(text))), (Some(vec![7, 8]), Some(vec![7, 8])));
        let none = r#"{"guilds":[]}"#;
        assert_eq!((guilds(Json, none.as_bytes()), guilds(Etf, &term(none))), (Some(vec![]), Some(vec![])));
        for unreadable in [r#"{"guilds":null}"#, r#"{"guilds":[{"id":"x"}]}"#, "{}", "null"] {
            let read = (guilds(Json, unreadable.as_bytes()), guilds(Etf, &term(unreadable)));
            assert_eq!(read, (None, None), "{unreadable}");
        }
    }

    #[test]
    fn an_identify_says_what_the_reference_lists() {
        let presence =
            RawValue::from_string(r#"{"since":null,"activities":[],"status":"idle","afk":false}"#.to_owned())
                .expect("JSON");
        let fields = Identify {
            shard: shard(),
            intents: Intents::GUILDS,
            large_threshold: Some(250),
            presence: Some(&presence),
        };
        let packet: Value = identified(fields);
        assert_eq!(
            packet,
            json!({"op": 2, "d": {
                "token": "t",
                "properties": {"os": std::env::consts::OS, "browser": "optic", "device": "optic"},
                "shard": [3, 16],
                "intents": 1,
                "large_threshold": 250,
                "presence": {"since": null, "activities": [], "status": "idle", "afk": false},
            }})
        );
    }

    #[test]
    fn what_is_not_set_is_left_out_of_an_identify() {
        let fields = Identify { shard: shard(), intents: Intents::NONE, large_threshold: None, presence: None };
        let packet: Value = identified(fields);
        assert!(packet["d"].get("large_threshold").is_none() && packet["d"].get("presence").is_none());
        assert_eq!(packet["d"]["intents"], 0);
    }

    #[test]
    fn resumes_and_heartbeats_are_these_bytes() {
        let packet = resume(Json, &Secret::new("t"), &SessionId::new("s"), Seq::new(7));
        assert_eq!(packet, br#"{"op":6,"d":{"token":"t","session_id":"s","seq":7}}"#);
        assert_eq!(heartbeat(Json, Seq::new(7)), br#"{"op":1,"d":7}"#);
        assert_eq!(heartbeat(Json, Seq::ZERO), br#"{"op":1,"d":null}"#);
        assert_eq!(heartbeat(Etf, Seq::new(7)), b"\x83\x74\0\0\0\x02\x6d\0\0\0\x01d\x61\x07\x6d\0\0\0\x02op\x61\x01");
        assert_eq!(
            heartbeat(Etf, Seq::ZERO),
            b"\x83\x74\0\0\0\x02\x6d\0\0\0\x01d\x64\0\x03nil\x6d\0\0\0\x02op\x61\x01"
        );
    }

    #[test]
    fn ready_gives_the_session_and_where_to_resume_it() {
        let both = |json: &str| {
            let read = ready(Json, json.as_bytes());
            assert_eq!(ready(Etf, &term(json)).ok(), read.clone().ok(), "{json}");
            read
        };
        let read = both(r#"{"v":10,"guilds":[{"id":"1"}],"session_id":"abc","resume_gateway_url":"wss://r"}"#);
        let read = read.expect("a READY");
        assert_eq!((read.session_id.as_str(), read.resume_gateway_url.as_deref()), ("abc", Some("wss://r")));
        for without in [r#"{"session_id":"abc"}"#, r#"{"session_id":"abc","resume_gateway_url":null}"#] {
            assert_eq!(both(without).expect("a READY").resume_gateway_url, None);
        }
        for bad in ["null", "{}", r#"{"session_id":""}"#, r#"{"session_id":3}"#, r#"{"session_id":null}"#] {
            assert!(matches!(both(bad), Err(MalformedPacket::Ready(_))), "{bad}");
        }
        assert!(matches!(ready(Json, b""), Err(MalformedPacket::Ready(_))));
        assert!(matches!(ready(Etf, b""), Err(MalformedPacket::Ready(_))));
        // {session_id: <<"a">>, guilds: cut short}
        let cut = b"\x74\0\0\0\x02\x64\0\x0asession_id\x6d\0\0\0\x01a\x64\0\x06guilds\x6c\0\0";
        assert!(matches!(ready(Etf, cut), Err(MalformedPacket::Ready(_))));
    }

    #[test]
    fn an_interval_that_no_clock_could_keep_is_refused() {
        let both = |json: &str| {
            let read = hello(Json, json.as_bytes());
            assert_eq!(hello(Etf, &term(json)).ok(), read.clone().ok(), "{json}");
            read
        };
        assert_eq!(both(r#"{"heartbeat_interval":41250,"_trace":[]}"#), Ok(Duration::from_millis(41_250)));
        for bad in ["0", "-1", "18446744073709551615", "null", "\"a\""] {
            let data = format!(r#"{{"heartbeat_interval":{bad}}}"#);
            assert!(matches!(both(&data), Err(MalformedPacket::Hello(_))), "{bad}");
        }
        assert!(matches!(hello(Json, b""), Err(MalformedPacket::Hello(_))));
        assert!(matches!(hello(Etf, b""), Err(MalformedPacket::Hello(_))));
    }

    #[test]
    fn an_invalid_session_that_says_nothing_cannot_be_resumed() {
        assert_eq!(invalid_session(Json, b" true"), Ok(true));
        assert_eq!(invalid_session(Etf, b"\x64\0\x04true"), Ok(true));
        assert_eq!(invalid_session(Etf, b"\x77\x04true"), Ok(true));
        for no in [&b"false"[..], b"null", b""] {
            assert_eq!(invalid_session(Json, no), Ok(false));
        }
        for no in [&b"\x64\0\x05false"[..], b"\x64\0\x03nil", b""] {
            assert_eq!(invalid_session(Etf, no), Ok(false));
        }
        assert!(matches!(invalid_session(Json, b"{}"), Err(MalformedPacket::InvalidSession(_))));
        assert!(matches!(invalid_session(Etf, b"\x6d\0\0\0\x04true"), Err(MalformedPacket::InvalidSession(_))));
    }
}
