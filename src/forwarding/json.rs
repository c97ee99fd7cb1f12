//! Events as JSON, in which they are forwarded whatever Discord wrote them in.

use std::borrow::Cow;

use crate::broker::Event;
use crate::encoding::convert::{Taking, convert, mended};
use crate::encoding::{self, Dialect, Encoding, ReadError, Term};

/// An event's `d`. Ids are texts, as they are in Discord's own JSON; half a character becomes U+FFFD, for who reads a message would
/// refuse it whole.
///
/// # Errors
/// It is not what it is said to be.
pub(super) fn of_event<'a>(event: &Event<'a>) -> Result<Cow<'a, [u8]>, ReadError> {
    if event.encoding == Encoding::Json {
        return Ok(mended(event.data));
    }
    let mut json = Vec::new();
    convert(event.encoding, event.data, Dialect::Plain(Encoding::Json), Taking::IDS_AS_TEXT, &mut json)?;
    Ok(json.into())
}

/// Appends a text, with its quotes.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    encoding::write_term(Encoding::Json, &Term::Text(text), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discord::ids::{Seq, SessionId, Shard, ShardId};

    #[test]
    fn an_event_is_json_that_every_reader_takes() {
        let (shard, session) = (Shard::new(ShardId::new(0), 1).expect("the only one"), SessionId::new("s"));
        let data = |encoding, data: &[u8]| {
            let event = Event { shard, session: &session, seq: Seq::new(7), name: "MESSAGE_CREATE", encoding, data };
            of_event(&event).map(|json| String::from_utf8_lossy(&json).into_owned())
        };
        for (json, expected) in [
            (r#" {"n":1.50,"a":"\u00e9"}"#, r#" {"n":1.50,"a":"\u00e9"}"#),
            (r#"{"a":"\ud83d\ude00","b":"\ud83d"}"#, "{\"a\":\"\u{1f600}\",\"b\":\"\u{fffd}\"}"),
        ] {
            assert_eq!(data(Encoding::Json, json.as_bytes()).as_deref(), Ok(expected));
        }
        assert_eq!(data(Encoding::Json, b"\"\xff\"").as_deref(), Ok("\"\u{fffd}\""));
        // 2^53
        let term = b"n\x07\0\0\0\0\0\0\0\x20";
        assert_eq!(data(Encoding::Etf, term).as_deref(), Ok("\"9007199254740992\""));
        assert!(data(Encoding::Etf, b"F\x7f\xf8\0\0\0\0\0\0").is_err(), "a float that is no number");
    }
}
