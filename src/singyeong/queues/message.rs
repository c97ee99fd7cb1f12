//! What a queued message says, in RabbitMQ's terms: the payload is the body, the rest is headers.
//!
//! Workers publish without our headers, and in whatever form they like: such a message is for anybody, and is handed on.

use std::borrow::Cow;
use std::sync::Once;

use tracing::warn;

use super::Source;
use crate::amqp::delivery::Properties;
use crate::encoding::convert::{Taking, convert, mended, to_json};
use crate::encoding::{self, Dialect, Encoding, ReadError, Value, etf};
use crate::singyeong::limits::MOST_QUERY_DEPTH;
use crate::singyeong::packet::dispatch::Queued;
use crate::singyeong::packet::outgoing::Outgoing;
use crate::singyeong::query::Query;

/// The sender's name for a message, as JSON.
const NONCE: &str = "x-singyeong-nonce";
/// The sender's id.
const SENDER: &str = "x-singyeong-sender";
/// Who may receive it, as JSON.
const TARGET: &str = "x-singyeong-target";
/// Of another process that forwards it; not the message's own.
const PARCEL: &str = "x-singyeong-parcel";

/// So many bytes nonce, target and sender may take together: RabbitMQ has all headers in one frame.
pub const MOST_IN_HEADERS: usize = 6_000;

/// Properties and body of a message; nothing where nonce and target take more than [`MOST_IN_HEADERS`].
pub fn write(queued: &Queued, sender: &str) -> Option<(Properties, Vec<u8>)> {
    let mut headers = vec![(SENDER, sender.to_owned())];
    if !queued.nonce.is_null() {
        headers.push((NONCE, json(&queued.nonce)));
    }
    if !queued.target.is_plain() {
        headers.push((TARGET, json(&queued.target.to_value())));
    }
    if headers.iter().map(|(_, value)| value.len()).sum::<usize>() > MOST_IN_HEADERS {
        return None;
    }
    let encoding = if holds_bytes(&queued.payload) { Encoding::Msgpack } else { Encoding::Json };
    let mut body = Vec::new();
    encoding::write(encoding, &queued.payload, &mut body);
    let properties = Properties {
        content_type: Some(encoding.content_type().to_owned()),
        message_id: Some(fresh_id()),
        headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        ..Properties::default()
    };
    Some((properties, body))
}

/// A name that no other message has.
pub fn fresh_id() -> String {
    format!("{:032x}", fastrand::Rng::new().u128(..))
}

/// Who may receive a message; none for anybody. What is no query asks for nobody in particular.
pub fn target(properties: &Properties) -> Option<Query> {
    static TOLD: Once = Once::new();
    let text = properties.headers.get(TARGET)?;
    let read = encoding::read(Encoding::Json, text.as_bytes()).map_err(|error| error.to_string());
    let query = read.and_then(|target| Query::compile(&target, MOST_QUERY_DEPTH).map_err(|error| error.to_string()));
    match query {
        // Nobody could ever receive it.
        Ok(query) if query.is_for_nobody() || query.is_plain() => None,
        Ok(query) => Some(query),
        Err(error) => {
            TOLD.call_once(|| warn!(%error, "a queued message's {TARGET} is no query: anybody may receive such"));
            None
        }
    }
}

/// The packet for its receiver.
pub fn packet(source: &Source, id: &str, properties: &Properties, body: &[u8]) -> Outgoing {
    let nonce = properties.headers.get(NONCE).map_or(Value::Null, |nonce| {
        encoding::read(Encoding::Json, nonce.as_bytes()).unwrap_or_else(|_| Value::string(nonce))
    });
    Outgoing::Queue {
        queue: source.queue.clone(),
        id: id.into(),
        nonce,
        payload: payload(source, properties.content_type.as_deref(), body),
        sender: properties.headers.get(SENDER).map(|sender| sender.as_str().into()),
    }
}

/// What goes with a message that is published once more.
pub fn again(properties: &Properties, id: &str) -> Properties {
    let mut again = properties.clone();
    again.message_id = Some(id.to_owned());
    again.headers.remove(PARCEL);
    again
}

/// A body is never a reason to lose a message: what cannot be read is handed on as text, as JSON if it is more than a message may hold,
/// or else as bytes.
fn payload(source: &Source, content_type: Option<&str>, body: &[u8]) -> Value {
    static TOLD: Once = Once::new();
    let encoding = match content_type {
        None | Some("application/octet-stream") => Some(Encoding::of_body(None, body)),
        Some(declared) => Encoding::of_content_type(declared),
    };
    let why = match encoding {
        Some(encoding) => match read(encoding, body) {
            Ok(value) => return value,
            Err(error) => error.to_string(),
        },
        None => "its content type is unknown".to_owned(),
    };
    TOLD.call_once(|| {
        let queue = &source.queue.0;
        warn!(%queue, content_type, %why, "a message's body cannot be read: it is handed on as text, or bytes");
    });
    let converted = encoding.and_then(|encoding| to_json(Dialect::Plain(encoding), body, taking(encoding)).ok());
    let rest = converted.unwrap_or(Cow::Borrowed(body));
    std::str::from_utf8(&rest).map_or_else(|_| Value::Bytes((*rest).into()), Value::string)
}

/// A body's value. Of a term by way of MessagePack, which has all that it has: ids become texts on that way. In events half a character
/// is no reason to hand on the whole as text.
fn read(encoding: Encoding, body: &[u8]) -> Result<Value, ReadError> {
    match (encoding, body.split_first()) {
        (Encoding::Etf, Some((&etf::VERSION, term))) => {
            let mut packed = Vec::new();
            convert(encoding, term, Dialect::Plain(Encoding::Msgpack), taking(encoding), &mut packed)?;
            encoding::read(Encoding::Msgpack, &packed)
        }
        (Encoding::Json, _) => encoding::read(encoding, body).or_else(|error| match mended(body) {
            Cow::Owned(json) => encoding::read(encoding, &json),
            Cow::Borrowed(_) => Err(error),
        }),
        _ => encoding::read(encoding, body),
    }
}

/// Events of a link in ETF have ids as integers, which clients in JavaScript would round.
const fn taking(encoding: Encoding) -> Taking {
    match encoding {
        Encoding::Etf => Taking::IDS_AS_TEXT,
        Encoding::Json | Encoding::Msgpack => Taking::EXACT,
    }
}

fn json(value: &Value) -> String {
    let mut bytes = Vec::new();
    encoding::write(Encoding::Json, value, &mut bytes);
    String::from_utf8(bytes).expect("JSON is text")
}

fn holds_bytes(value: &Value) -> bool {
    match value {
        Value::Bytes(_) => true,
        Value::List(values) => values.iter().any(holds_bytes),
        Value::Map(map) => map.iter().any(|(_, value)| holds_bytes(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::MOST_VALUES;
    use crate::singyeong::packet::dispatch::QueueName;

    fn queued(target: &Value, nonce: Value, payload: Value) -> Queued {
        let target = Query::compile(target, MOST_QUERY_DEPTH).expect("a query");
        Queued { queue: QueueName("jobs".into()), target, nonce, payload }
    }

    fn source() -> Source {
        Source { application: None, queue: QueueName("jobs".into()) }
    }

    fn target_of(application: Value) -> Value {
        Value::map([("application", application), ("ops", Value::List(Box::default()))])
    }

    #[test]
    fn what_is_written_is_read_again() {
        for payload in [Value::map([("n", Value::Integer(7))]), Value::List([Value::Bytes([0xff].into())].into())] {
            let nonce = Value::List([Value::Integer(1), Value::string("two")].into());
            let queued = queued(&target_of(Value::string("logs")), nonce.clone(), payload.clone());
            let (properties, body) = write(&queued, "me").expect("small");
            assert_eq!(target(&properties).is_some(), !queued.target.is_plain());
            let id = properties.message_id.clone().expect("it has an id");
            let packet = packet(&source(), &id, &properties, &body);
            let sender = Some("me".into());
            let queue = QueueName("jobs".into());
            assert_eq!(packet, Outgoing::Queue { queue, id: id.into(), nonce, payload, sender });
        }
    }

    #[test]
    fn a_nonce_larger_than_a_frame_is_refused() {
        let nonce = Value::string(&"x".repeat(MOST_IN_HEADERS));
        assert!(write(&queued(&target_of(Value::string("a")), nonce, Value::Null), "me").is_none());
    }

    #[test]
    fn no_body_is_a_reason_to_lose_a_message() {
        let payload = |content_type, body: &[u8]| payload(&source(), content_type, body);
        let map = Value::map([("a", Value::Integer(1))]);
        for undeclared in [&b"{\"a\":1}"[..], b"\x81\xa1a\x01", b"\x83t\0\0\0\x01m\0\0\0\x01aa\x01"] {
            assert_eq!(payload(None, undeclared), map);
        }
        let half = payload(Some("application/json"), br#"{"a":"\ud83d"}"#);
        assert_eq!(half, Value::map([("a", Value::string("\u{fffd}"))]));
        assert_eq!(payload(None, b"hi"), Value::string("hi"));
        assert_eq!(payload(Some("application/json"), b"{\"a\":"), Value::string("{\"a\":"));
        assert_eq!(payload(Some("application/vnd.erlang.etf"), b"\x83\xff"), Value::Bytes(b"\x83\xff"[..].into()));
        assert_eq!(payload(Some("text/plain; charset=utf-8"), b"hi"), Value::string("hi"));
    }

    #[test]
    fn an_id_of_a_term_is_a_text_whatever_the_client_reads() {
        let term = b"\x83t\0\0\0\x03d\0\x02idn\x08\0\x01\0\0\0\0\0\0\x80d\0\x01na\x01m\0\0\0\x01bm\0\0\0\x01\xff";
        let expected = Value::map([
            ("id", Value::string("9223372036854775809")),
            ("n", Value::Integer(1)),
            ("b", Value::Bytes([0xff].into())),
        ]);
        for content_type in [None, Some("application/octet-stream"), Some("application/vnd.erlang.etf")] {
            assert_eq!(payload(&source(), content_type, term), expected, "{content_type:?}");
        }
    }

    #[test]
    fn more_than_a_message_may_hold_is_handed_on_as_json() {
        let list = format!("[{}0]", "0,".repeat(MOST_VALUES));
        for encoding in [Encoding::Json, Encoding::Msgpack, Encoding::Etf] {
            let mut body = Vec::new();
            convert(Encoding::Json, list.as_bytes(), Dialect::Plain(encoding), Taking::EXACT, &mut body).expect("JSON");
            assert_eq!(payload(&source(), Some(encoding.content_type()), &body), Value::string(&list), "{encoding:?}");
        }
    }

    #[test]
    fn a_target_that_is_no_query_asks_for_nobody_in_particular() {
        let properties = |target: &str| Properties {
            headers: [(TARGET.to_owned(), target.to_owned())].into(),
            ..Properties::default()
        };
        assert!(target(&properties("{\"ops\":7")).is_none());
        assert!(target(&Properties::default()).is_none());
    }

    #[test]
    fn a_message_published_again_keeps_its_id_and_loses_what_the_forwarder_said() {
        let headers = [(PARCEL.to_owned(), "{}".to_owned()), (NONCE.to_owned(), "7".to_owned())];
        let properties = Properties { headers: headers.into(), ..Properties::default() };
        let again = again(&properties, "7f");
        assert_eq!(again.message_id.as_deref(), Some("7f"));
        assert_eq!(again.headers.keys().collect::<Vec<_>>(), [NONCE]);
    }
}
