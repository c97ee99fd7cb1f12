//! Checks what a worker wants sent, so that one bad packet does not cost the shard its connection.
//!
//! A packet comes in JSON. It is sent as it came, byte for byte, on a connection in ETF as the same term; or it is set aside with
//! the reason. Rules: spec/discord.md, "Commands".

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::compression::Encoding;
use super::opcode::Opcode;
use super::wire;

/// The longest packet that Discord takes; a longer one is a close 4002.
pub const MAX_BYTES: usize = 4096;

/// What is longer than this in JSON is too long in every encoding: white space and escapes are gone there, but a packet is not
/// made of these.
const MAX_JSON: usize = 16 * MAX_BYTES;

/// A packet that may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked<'a> {
    /// What it is.
    pub op: Opcode,
    /// As it goes out.
    pub packet: Cow<'a, [u8]>,
}

/// Why a packet is not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Over [`MAX_BYTES`].
    #[error("the packet has {bytes} bytes{}; Discord takes at most {MAX_BYTES}", in_words(*.encoding))]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// In which encoding.
        encoding: Encoding,
    },
    /// Not JSON, or not an object.
    #[error("the packet is not a JSON object {{\"op\", \"d\"}}: {reason}")]
    NotAPacket {
        /// What is wrong with it.
        reason: String,
    },
    /// Half a pair of surrogates, which some writers of JSON make of text that was cut: no reader of UTF-8 can take it.
    #[error(
        "the packet has \"{escape}\", half a character (a surrogate without its pair): text was cut in the middle of it"
    )]
    LoneSurrogate {
        /// As it is written there.
        escape: String,
    },
    /// No `op`, or `null`.
    #[error("the packet has no \"op\"")]
    NoOp,
    /// `op` is something else than a whole number.
    #[error("the packet's \"op\" is not a whole number")]
    OpNotANumber,
    /// Discord has no such opcode for bots.
    #[error("opcode {op} is not known; workers may send 3, 4, 8, 31 and 43")]
    UnknownOp {
        /// The number.
        op: u64,
    },
    /// An opcode that belongs to the session, or that only Discord sends.
    #[error("opcode {} ({:?}) is not for workers; they may send 3, 4, 8, 31 and 43", .op.code(), .op)]
    NotForWorkers {
        /// Which.
        op: Opcode,
    },
    /// `d` is missing or not an object.
    #[error("the packet's \"d\" is not an object, as opcode {} ({:?}) needs", .op.code(), .op)]
    NoData {
        /// Whose.
        op: Opcode,
    },
}

/// Says whether a worker's packet may be sent on connections in this encoding, and what it is there.
///
/// # Errors
/// When Discord would close the connection for it, or when workers have no business sending it.
pub fn check(packet: &[u8], encoding: Encoding) -> Result<Checked<'_>, Rejected> {
    let most = match encoding {
        Encoding::Json => MAX_BYTES,
        Encoding::Etf => MAX_JSON,
    };
    if packet.len() > most {
        return Err(Rejected::TooLarge { bytes: packet.len(), encoding: Encoding::Json });
    }
    // Text first: a JSON reader that only skips over strings does not look whether they are UTF-8.
    let text = std::str::from_utf8(packet).map_err(not_a_packet)?;
    if !text.trim_start().starts_with('{') {
        return Err(not_a_packet("it is not an object"));
    }
    let Packet { op, d } = serde_json::from_str(text).map_err(not_a_packet)?;
    let op = op.ok_or(Rejected::NoOp)?.get().parse().map_err(|_| Rejected::OpNotANumber)?;
    let op = Opcode::from_code(op).ok_or(Rejected::UnknownOp { op })?;
    if !op.is_command() {
        return Err(Rejected::NotForWorkers { op });
    }
    if let Some(escape) = lone_surrogate(text) {
        return Err(Rejected::LoneSurrogate { escape: escape.to_owned() });
    }
    // Every command's `d` is an object; anything else is a close 4001 or 4002.
    if !d.is_some_and(|d| d.get().starts_with('{')) {
        return Err(Rejected::NoData { op });
    }
    let packet = wire::write(encoding, packet).map_err(not_a_packet)?;
    match packet.len() {
        ..=MAX_BYTES => Ok(Checked { op, packet }),
        bytes => Err(Rejected::TooLarge { bytes, encoding }),
    }
}

/// What is to be said of a size that the worker did not see itself.
const fn in_words(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "",
        Encoding::Etf => " in ETF, as the connection has it",
    }
}

/// Read without a tree; a field that comes twice is an error, so that what is checked is what Discord sees.
#[derive(Deserialize)]
struct Packet<'a> {
    #[serde(borrow)]
    op: Option<&'a RawValue>,
    #[serde(borrow)]
    d: Option<&'a RawValue>,
}

/// The first escape in a JSON text that is half a character. A reader that skips over strings does not look at this either.
fn lone_surrogate(json: &str) -> Option<&str> {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut at = 0;
    // Outside of strings there is no backslash.
    while let Some(found) = json[at..].find('\\') {
        at += found;
        let (high, low) = (0xd800..=0xdbff, 0xdc00..=0xdfff);
        at += match unit(at) {
            Some(first) if high.contains(&first) && unit(at + 6).is_some_and(|second| low.contains(&second)) => 12,
            Some(first) if high.contains(&first) || low.contains(&first) => return json.get(at..at + 6),
            Some(_) => 6,
            // The backslash and the one that it is for, which may be a backslash.
            None => 2,
        };
    }
    None
}

fn not_a_packet(reason: impl ToString) -> Rejected {
    Rejected::NotAPacket { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(packet: &str) -> String {
        let in_json = check(packet.as_bytes(), Encoding::Json).expect_err(packet);
        // But for sizes it is the same in ETF.
        if !matches!(in_json, Rejected::TooLarge { .. }) {
            assert_eq!(check(packet.as_bytes(), Encoding::Etf), Err(in_json.clone()));
        }
        in_json.to_string()
    }

    fn op(packet: &str) -> Result<Opcode, Rejected> {
        check(packet.as_bytes(), Encoding::Json).map(|checked| checked.op)
    }

    #[test]
    fn what_workers_may_send_passes() {
        for op in Opcode::ALL {
            let text = format!(r#" {{"d": {{"a": [1]}}, "op": {}, "s": null}} "#, op.code());
            let checked = check(text.as_bytes(), Encoding::Json);
            match op.is_command() {
                true => assert_eq!(checked, Ok(Checked { op, packet: text.as_bytes().into() })),
                false => assert_eq!(checked, Err(Rejected::NotForWorkers { op })),
            }
        }
    }

    #[test]
    fn a_rejection_says_what_is_wrong() {
        assert_eq!(
            reason(r#"{"op":2,"d":{}}"#),
            "opcode 2 (Identify) is not for workers; they may send 3, 4, 8, 31 and 43"
        );
        assert_eq!(reason(r#"{"op":14,"d":{}}"#), "opcode 14 is not known; workers may send 3, 4, 8, 31 and 43");
        assert_eq!(reason(r#"{"op":"3","d":{}}"#), "the packet's \"op\" is not a whole number");
        assert_eq!(reason(r#"{"op":-3,"d":{}}"#), "the packet's \"op\" is not a whole number");
        assert_eq!(reason(r#"{"d":{}}"#), "the packet has no \"op\"");
        assert_eq!(reason(r#"{"op":null,"d":{}}"#), "the packet has no \"op\"");
        assert_eq!(reason("[3]"), "the packet is not a JSON object {\"op\", \"d\"}: it is not an object");
        assert!(reason(r#"{"op":3,"#).contains("EOF while parsing"));
        assert!(reason("").contains("it is not an object"));
        for no_object in [r#"{"op":3}"#, r#"{"op":3,"d":null}"#, r#"{"op":3,"d":[]}"#] {
            assert_eq!(reason(no_object), "the packet's \"d\" is not an object, as opcode 3 (PresenceUpdate) needs");
        }
    }

    #[test]
    fn a_field_that_comes_twice_does_not_smuggle_an_opcode() {
        assert!(reason(r#"{"op":3,"op":2,"d":{}}"#).contains("duplicate field"));
        assert!(reason(r#"{"op":3,"\u006fp":2,"d":{}}"#).contains("duplicate field"));
    }

    #[test]
    fn text_that_is_not_utf_8_is_rejected() {
        assert!(matches!(
            check(b"{\"op\":3,\"d\":{\"a\":\"\xff\"}}", Encoding::Json),
            Err(Rejected::NotAPacket { .. })
        ));
    }

    #[test]
    fn half_a_character_is_rejected_and_a_whole_one_is_not() {
        let packet = |text: &str| format!(r#"{{"op":3,"d":{{"a":"{text}"}}}}"#);
        for whole in [r"\ud83d\ude00", r"\\ud800", r"\\\\udc00", r#"\n\u00e9\uD83D\uDE00\""#, r"\\\ud83d\ude00", "😀"]
        {
            assert_eq!(op(&packet(whole)), Ok(Opcode::PresenceUpdate), "{whole}");
        }
        for (half, escape) in [
            (r"\ud800", r"\ud800"),
            (r"x\uDFFFx", r"\uDFFF"),
            (r"\ud83d\ud83d\ude00", r"\ud83d"),
            (r"\ude00\ud83d", r"\ude00"),
            (r"\ud83d\\ude00", r"\ud83d"),
            (r"\\\udbff", r"\udbff"),
            (r"\ud83d\n", r"\ud83d"),
        ] {
            assert_eq!(op(&packet(half)), Err(Rejected::LoneSurrogate { escape: escape.to_owned() }));
        }
        assert!(reason(r#"{"op":3,"d":{"\udc00":1}}"#).contains(r#"has "\udc00", half a character"#));
    }

    #[test]
    fn four_thousand_and_ninety_six_bytes_pass_and_one_more_does_not() {
        let empty = r#"{"op":3,"d":{"a":""}}"#;
        let packet = |bytes: usize| empty.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - empty.len())));
        assert_eq!(packet(MAX_BYTES).len(), MAX_BYTES);
        assert_eq!(op(&packet(MAX_BYTES)), Ok(Opcode::PresenceUpdate));
        assert_eq!(reason(&packet(MAX_BYTES + 1)), "the packet has 4097 bytes; Discord takes at most 4096");
    }

    #[test]
    fn in_etf_what_counts_is_what_goes_out() {
        let sent =
            check(br#" { "op" : 8, "d" : {"guild_id": "1", "limit": 0, "a": [null, true, -1.5]} }"#, Encoding::Etf);
        let sent = sent.expect("fine");
        let d = [
            &b"\x74\0\0\0\x03\x6d\0\0\0\x01a\x6c\0\0\0\x03\x64\0\x03nil\x64\0\x04true\x46\xbf\xf8\0\0\0\0\0\0\x6a"[..],
            b"\x6d\0\0\0\x08guild_id\x6d\0\0\0\x011\x6d\0\0\0\x05limit\x61\0",
        ];
        let packet = [b"\x83\x74\0\0\0\x02\x6d\0\0\0\x01d", &d.concat()[..], b"\x6d\0\0\0\x02op\x61\x08"].concat();
        assert_eq!((sent.op, &*sent.packet), (Opcode::RequestGuildMembers, &packet[..]));

        // White space does not go out, and of many short texts each has a longer head.
        let spaced = format!(r#"{{"op":3,{}"d":{{}}}}"#, " ".repeat(MAX_BYTES));
        assert!(check(spaced.as_bytes(), Encoding::Etf).is_ok());
        let list = format!(r#"{{"op":8,"d":{{"user_ids":[{}""]}}}}"#, r#""1","#.repeat(800));
        assert!(list.len() < MAX_BYTES && check(list.as_bytes(), Encoding::Json).is_ok());
        let error = check(list.as_bytes(), Encoding::Etf).expect_err("too long").to_string();
        assert_eq!(error, "the packet has 4850 bytes in ETF, as the connection has it; Discord takes at most 4096");
        let spaced = format!(r#"{{"op":3,{}"d":{{}}}}"#, " ".repeat(MAX_JSON));
        let error = check(spaced.as_bytes(), Encoding::Etf).expect_err("too long").to_string();
        assert_eq!(error, "the packet has 65551 bytes; Discord takes at most 4096");
        let error = check(br#"{"op":3,"d":{"since":1e999}}"#, Encoding::Etf).expect_err("no float").to_string();
        assert!(error.contains("1e999"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes, Encoding::Json);
            let _ = check(&bytes, Encoding::Etf);
        }

        #[test]
        fn what_passes_is_json_with_that_opcode(op in 0..50_u64, d in "[{\\[\"a-z0-9:,}\\]]{0,12}") {
            let text = format!(r#"{{"op":{op},"d":{d}}}"#);
            if let Ok(Checked { op: passed, .. }) = check(text.as_bytes(), Encoding::Json) {
                let tree: serde_json::Value = serde_json::from_str(&text).expect("what passes is JSON");
                prop_assert_eq!(&tree["op"], passed.code());
                prop_assert!(tree["d"].is_object());
            }
        }
    }
}
