//! Events in the dialect that workers read, where Discord's is another.

use std::sync::{Mutex, PoisonError};

use crate::encoding::convert::{Integers, convert};
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
}

impl<'a> Body<'a> {
    /// As it was received; a term without its version byte.
    fn as_received(encoding: Encoding, bytes: &'a [u8]) -> Self {
        let prefix = (encoding == Encoding::Etf).then_some(etf::VERSION);
        Self { content_type: encoding.content_type(), prefix, bytes }
    }
}

impl Speaker {
    /// Speaks this dialect; without one, whatever it hears.
    pub const fn new(dialect: Option<Dialect>) -> Self {
        Self { dialect, buffer: Mutex::new(Vec::new()) }
    }

    /// Has a value published, a term given without its version byte. Nothing is copied that is in its dialect already.
    ///
    /// # Errors
    /// It cannot be converted: nothing is published.
    pub fn say<T>(
        &self,
        encoding: Encoding,
        bytes: &[u8],
        publish: impl FnOnce(Body<'_>) -> T,
    ) -> Result<T, ReadError> {
        let Some(dialect) = self.dialect.filter(|dialect| *dialect != Dialect::Plain(encoding)) else {
            return Ok(publish(Body::as_received(encoding, bytes)));
        };
        // Discord writes ids as integers in ETF, which they are not in its JSON: no reader of that shall have to round them.
        let integers = if encoding == Encoding::Etf { Integers::IdsAsText } else { Integers::AsTheyAre };
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.clear();
        let said = convert(encoding, bytes, dialect, integers, &mut buffer)
            .map(|()| publish(Body { content_type: dialect.content_type(), prefix: None, bytes: &buffer }));
        if buffer.capacity() > KEPT {
            *buffer = Vec::new();
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(speaker: &Speaker, encoding: Encoding, bytes: &[u8]) -> Option<(&'static str, Vec<u8>)> {
        let whole = |body: Body<'_>| (body.content_type, body.prefix.iter().chain(body.bytes).copied().collect());
        speaker.say(encoding, bytes, whole).ok()
    }

    /// `{"id":2^53}` without a version.
    const TERM: &[u8] = b"t\0\0\0\x01d\0\x02idn\x07\0\0\0\0\0\0\0\x20";

    #[test]
    fn what_is_in_its_dialect_already_goes_out_byte_for_byte() {
        for dialect in [None, Some(Dialect::Plain(Encoding::Json))] {
            let speaker = Speaker::new(dialect);
            assert_eq!(said(&speaker, Encoding::Json, b" {x"), Some(("application/json", b" {x".to_vec())));
        }
        for dialect in [None, Some(Dialect::Plain(Encoding::Etf))] {
            let term = [&[131], TERM].concat();
            let speaker = Speaker::new(dialect);
            assert_eq!(said(&speaker, Encoding::Etf, TERM), Some(("application/vnd.erlang.etf", term)));
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
            assert_eq!(json, Some((content_type, unescaped(of_json))), "{dialect}");
            assert_eq!(said(&speaker, Encoding::Etf, TERM), Some((content_type, unescaped(of_etf))), "{dialect}");
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
    fn what_cannot_be_converted_is_not_published_and_spoils_nothing() {
        let speaker = Speaker::new(Some(Dialect::Plain(Encoding::Msgpack)));
        assert_eq!(said(&speaker, Encoding::Json, b"{\"a\":"), None);
        assert_eq!(said(&speaker, Encoding::Etf, b"P"), None);
        assert_eq!(said(&speaker, Encoding::Json, b"{}"), Some(("application/msgpack", vec![0x80])));
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        let speaker = Speaker::new(Some(Dialect::MsgpackText));
        let kept = || speaker.buffer.lock().expect("no panic").capacity();
        said(&speaker, Encoding::Json, &vec![b' '; KEPT / 2]).expect("it is copied");
        assert!((KEPT / 2..=KEPT).contains(&kept()));
        said(&speaker, Encoding::Json, &vec![b' '; 2 * KEPT]).expect("it is copied");
        assert_eq!(kept(), 0);
    }
}
