//! Events in the dialect that workers read, where Discord's is another.

use std::sync::{Mutex, PoisonError};

use crate::encoding::convert::{Taking, convert};
use crate::encoding::{Dialect, Encoding, ReadError, etf};

/// So large a buffer is kept for the next event: most are far smaller, and the few that are not need not cost their memory
/// for ever.
const KEPT: usize = 256 << 10;

/// Gives bodies their dialect.
#[derive(Debug, Default)]
pub struct Speaker {
    /// `None`: as received.
    dialect: Option<Dialect>,
    /// What is converted, one after the other.
    buffer: Mutex<Vec<u8>>,
}

/// What is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    /// What it is declared as.
    pub content_type: &'static str,
    /// A byte that goes before the rest.
    pub prefix: Option<u8>,
    /// The rest.
    pub bytes: &'a [u8],
    /// Why it is not in its dialect, but as it was received.
    pub unconverted: Option<&'a ReadError>,
}

impl<'a> Body<'a> {
    /// As it was received; a term without its version byte.
    fn as_received(encoding: Encoding, bytes: &'a [u8]) -> Self {
        let prefix = (encoding == Encoding::Etf).then_some(etf::VERSION);
        Self { content_type: encoding.content_type(), prefix, bytes, unconverted: None }
    }
}

impl Speaker {
    /// Speaks this dialect; without one, whatever it hears.
    pub const fn new(dialect: Option<Dialect>) -> Self {
        Self { dialect, buffer: Mutex::new(Vec::new()) }
    }

    /// Has a value published, a term given without its version byte. Nothing is copied that is in its dialect already. What
    /// cannot be converted goes out as it was received: a worker may know what to do with it, and it is not lost.
    pub fn say<T>(&self, encoding: Encoding, bytes: &[u8], publish: impl FnOnce(Body<'_>) -> T) -> T {
        let Some(dialect) = self.dialect.filter(|dialect| *dialect != Dialect::Plain(encoding)) else {
            return publish(Body::as_received(encoding, bytes));
        };
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.clear();
        let said = match convert(encoding, bytes, dialect, Taking::event_in(encoding), &mut buffer) {
            Ok(()) => {
                let content_type = dialect.content_type();
                publish(Body { content_type, prefix: None, bytes: &buffer, unconverted: None })
            }
            Err(error) => publish(Body { unconverted: Some(&error), ..Body::as_received(encoding, bytes) }),
        };
        if buffer.capacity() > KEPT {
            *buffer = Vec::new();
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(speaker: &Speaker, encoding: Encoding, bytes: &[u8]) -> (&'static str, Vec<u8>) {
        let whole = |body: Body<'_>| (body.content_type, body.prefix.iter().chain(body.bytes).copied().collect());
        speaker.say(encoding, bytes, whole)
    }

    /// `{"id":2^53}` without a version.
    const TERM: &[u8] = b"t\0\0\0\x01d\0\x02idn\x07\0\0\0\0\0\0\0\x20";

    #[test]
    fn what_is_in_its_dialect_already_goes_out_byte_for_byte() {
        for dialect in [None, Some(Dialect::Plain(Encoding::Json))] {
            let speaker = Speaker::new(dialect);
            assert_eq!(said(&speaker, Encoding::Json, b" {x"), ("application/json", b" {x".to_vec()));
        }
        for dialect in [None, Some(Dialect::Plain(Encoding::Etf))] {
            let term = [&[131], TERM].concat();
            let speaker = Speaker::new(dialect);
            assert_eq!(said(&speaker, Encoding::Etf, TERM), ("application/vnd.erlang.etf", term));
        }
    }

    #[test]
    fn anything_else_is_converted_and_ids_are_what_they_are_in_discords_json() {
        for (dialect, content_type, of_json, of_etf) in [
            ("json", "application/json", &br#"{"id":9007199254740992}"#[..], &br#"{"id":"9007199254740992"}"#[..]),
            (
                "etf",
                "application/vnd.erlang.etf",
                b"\x83t\0\0\0\x01m\0\0\0\x02idn\x07\0\0\0\0\0\0\0\x20",
                &[&[131], TERM].concat(),
            ),
            (
                "msgpack",
                "application/msgpack",
                b"\xde\0\x01\xa2id\xcf\0\x20\0\0\0\0\0\0",
                b"\x81\xa2id\xb09007199254740992",
            ),
            (
                "msgpack-text",
                "application/msgpack",
                br#"\xb7{"id":9007199254740992}"#,
                br#"\xb9{"id":"9007199254740992"}"#,
            ),
        ] {
            let speaker = Speaker::new(Some(Dialect::of_name(dialect).expect("a dialect")));
            let json = said(&speaker, Encoding::Json, br#"{"id":9007199254740992}"#);
            assert_eq!(json, (content_type, unescaped(of_json)), "{dialect}");
            assert_eq!(said(&speaker, Encoding::Etf, TERM), (content_type, unescaped(of_etf)), "{dialect}");
        }
    }

    /// Raw texts above have their first byte escaped.
    fn unescaped(bytes: &[u8]) -> Vec<u8> {
        match bytes {
            [b'\\', b'x', b'b', low, rest @ ..] => [&[0xb0 | (low - b'0')], rest].concat(),
            bytes => bytes.to_vec(),
        }
    }

    #[test]
    fn what_cannot_be_converted_goes_out_as_it_came_and_spoils_nothing() {
        let speaker = Speaker::new(Some(Dialect::Plain(Encoding::Msgpack)));
        let deep = "[".repeat(1000);
        for json in ["{\"a\":1e400}", "{\"a\":", &deep] {
            assert_eq!(said(&speaker, Encoding::Json, json.as_bytes()), ("application/json", json.into()));
        }
        assert_eq!(said(&speaker, Encoding::Etf, b"P"), ("application/vnd.erlang.etf", b"\x83P".to_vec()));
        assert!(speaker.say(Encoding::Etf, b"P", |body| body.unconverted.is_some()));
        assert_eq!(said(&speaker, Encoding::Json, b"{}"), ("application/msgpack", vec![0x80]));
        assert!(speaker.say(Encoding::Json, b"{}", |body| body.unconverted.is_none()));
    }

    #[test]
    fn half_a_character_arrives_in_every_dialect() {
        let json = br#"{"a":"\ud83d"}"#;
        for (dialect, body) in [
            ("json", &json[..]),
            ("etf", b"\x83t\0\0\0\x01m\0\0\0\x01am\0\0\0\x03\xef\xbf\xbd"),
            ("msgpack", b"\xde\0\x01\xa1a\xa3\xef\xbf\xbd"),
            ("msgpack-text", &[&[0xae], &json[..]].concat()),
        ] {
            let dialect = Dialect::of_name(dialect).expect("a dialect");
            let speaker = Speaker::new(Some(dialect));
            assert_eq!(said(&speaker, Encoding::Json, json), (dialect.content_type(), body.to_vec()), "{dialect}");
            // As it came, if JSON is what is spoken.
            let not_utf8 = if dialect.is_json() { &b"\xff"[..] } else { "\u{fffd}".as_bytes() };
            let (_, body) = said(&speaker, Encoding::Json, b"\"\xff\"");
            assert!(body.windows(not_utf8.len()).any(|part| part == not_utf8), "{dialect}: {body:?}");
        }
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        let speaker = Speaker::new(Some(Dialect::MsgpackText));
        let kept = || speaker.buffer.lock().expect("no panic").capacity();
        said(&speaker, Encoding::Json, &vec![b' '; KEPT / 2]);
        assert!((KEPT / 2..=KEPT).contains(&kept()));
        said(&speaker, Encoding::Json, &vec![b' '; 2 * KEPT]);
        assert_eq!(kept(), 0);
    }
}
