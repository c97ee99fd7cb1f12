//! Events as JSON, in which they are forwarded whatever Discord wrote them in.

use std::borrow::Cow;

use crate::broker::Event;
use crate::encoding::{self, Encoding, ReadError, Term, Value};

/// What JSON's readers can compute with; beyond it Discord writes ids, and in JSON these are texts.
const MOST_EXACT: u64 = (1 << 53) - 1;

/// An event's `d`.
///
/// # Errors
/// It is not what it is said to be.
pub(super) fn of_event<'a>(event: &Event<'a>) -> Result<Cow<'a, [u8]>, ReadError> {
    if event.encoding == Encoding::Json {
        return Ok(event.data.into());
    }
    let version: &[u8] = if event.encoding == Encoding::Etf { &[131] } else { &[] };
    let value = encoding::read(event.encoding, &[version, event.data].concat())?;
    let mut out = Vec::with_capacity(event.data.len());
    encoding::write(Encoding::Json, &with_ids_as_text(value), &mut out);
    Ok(out.into())
}

fn with_ids_as_text(value: Value) -> Value {
    match value {
        Value::Integer(integer) if integer.unsigned_abs() > MOST_EXACT => Value::string(&integer.to_string()),
        Value::Big(integer) => Value::string(&integer.to_string()),
        Value::List(values) => Value::List(values.into_iter().map(with_ids_as_text).collect()),
        Value::Map(map) => {
            let entries = map.into_entries().into_iter();
            Value::Map(encoding::Map::new(entries.map(|(key, value)| (key, with_ids_as_text(value))).collect()))
        }
        other => other,
    }
}

/// Appends a text, with its quotes.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    encoding::write_term(Encoding::Json, &Term::Text(text), out);
}
