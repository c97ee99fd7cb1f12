//! Bodies from one encoding into another, without a tree.
//!
//! Beside [`encoding::read`](super::read) and [`encoding::write`](super::write) this is the second way, for another purpose.
//! Those make a [`Value`](super::Value) that somebody looks into: keys are sorted, of one key twice the last holds, and there are at most
//! [`MOST_VALUES`](super::MOST_VALUES). Here nobody looks: each value is written as soon as it is read. So a body may be as
//! large as RabbitMQ takes it, costs no memory but what comes out, and keeps its order, and keys that come twice. What a value is in each
//! encoding is decided once, by the pieces that both ways share.
//!
//! Nothing is reserved for what a length announces; what comes out is at most some eight times what came in. Lists and maps are at most
//! [`MOST_DEPTH`](super::MOST_DEPTH) deep in each other. Rules: spec/encodings.md, "Conversion".

mod etf;
mod json;
mod msgpack;
mod open;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::etf::{Etf, EtfError, VERSION};
use super::integer::{LONGEST, decimal};
use super::json::Json;
use super::msgpack::{Msgpack, begin_text};
use super::value::Value;
use super::write::{self, Form};
use super::{Dialect, Encoding, ReadError};

/// What becomes of integers that not every reader of JSON takes exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integers {
    /// They stay numbers.
    AsTheyAre,
    /// Those beyond ±(2^53 - 1) become texts, as Discord itself writes ids in JSON.
    IdsAsText,
}

/// The largest integer that a double holds with all its neighbours.
const LARGEST_SAFE: u64 = (1 << 53) - 1;

/// Appends a body to `out`, converted. A term comes in without the version byte 131, and goes out with it. What is in that
/// encoding already is copied as it is, unless ids are to become texts.
///
/// # Errors
/// The bytes are no value of that encoding, or none that is taken; `out` is then as it was.
pub fn convert(
    from: Encoding,
    bytes: &[u8],
    to: Dialect,
    integers: Integers,
    out: &mut Vec<u8>,
) -> Result<(), ReadError> {
    let begin = out.len();
    out.reserve(bytes.len());
    let copied = integers == Integers::AsTheyAre;
    let converted = match to {
        Dialect::Plain(to) => {
            if to == Encoding::Etf {
                out.push(VERSION);
            }
            match to {
                _ if copied && from == to => {
                    out.extend(bytes);
                    Ok(())
                }
                Encoding::Json => transcode::<Json>(from, bytes, integers, out),
                Encoding::Etf => transcode::<Etf>(from, bytes, integers, out),
                Encoding::Msgpack => transcode::<Msgpack>(from, bytes, integers, out),
            }
        }
        Dialect::MsgpackText if copied && from == Encoding::Json => {
            begin_text(out, bytes.len());
            out.extend(bytes);
            Ok(())
        }
        Dialect::MsgpackText => transcode::<Json>(from, bytes, integers, out).map(|()| {
            let mut head = Vec::with_capacity(5);
            begin_text(&mut head, out.len() - begin);
            out.splice(begin..begin, head);
        }),
    };
    if converted.is_err() {
        out.truncate(begin);
    }
    converted
}

/// A whole body as JSON. What JSON it has in it already is not looked at.
///
/// # Errors
/// It is not in this dialect.
pub fn to_json(from: Dialect, body: &[u8]) -> Result<Cow<'_, [u8]>, ReadError> {
    let (from, bytes) = match from {
        Dialect::Plain(Encoding::Json) => return Ok(body.into()),
        Dialect::MsgpackText => return Ok(msgpack::text(body)?.into()),
        Dialect::Plain(Encoding::Msgpack) => (Encoding::Msgpack, body),
        Dialect::Plain(Encoding::Etf) => match body.split_first() {
            Some((&VERSION, term)) => (Encoding::Etf, term),
            Some(_) => return Err(EtfError::Version.into()),
            None => return Err(EtfError::Incomplete.into()),
        },
    };
    let mut json = Vec::new();
    convert(from, bytes, Dialect::Plain(Encoding::Json), Integers::AsTheyAre, &mut json)?;
    Ok(json.into())
}

fn transcode<F: open::Open>(
    from: Encoding,
    bytes: &[u8],
    integers: Integers,
    out: &mut Vec<u8>,
) -> Result<(), ReadError> {
    match from {
        Encoding::Json => Ok(json::transcode::<F>(bytes, integers, out)?),
        Encoding::Etf => Ok(etf::transcode::<F>(bytes, integers, out)?),
        Encoding::Msgpack => Ok(msgpack::transcode::<F>(bytes, integers, out)?),
    }
}

/// Writes null, a boolean or a number.
fn simple<F: Form>(value: &Value, integers: Integers, out: &mut Vec<u8>) {
    match value {
        Value::Integer(id) if integers == Integers::IdsAsText && id.unsigned_abs() > LARGEST_SAFE => {
            F::utf8(out, decimal(*id, &mut [0; LONGEST]));
        }
        Value::Big(id) if integers == Integers::IdsAsText => F::text(out, &id.to_string()),
        Value::Integer(integer) => F::integer(out, *integer),
        value => write::value::<F>(out, value),
    }
}

/// Writes the items of a list or map whose length is known.
fn items<F: Form, E>(
    length: usize,
    out: &mut Vec<u8>,
    mut item: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    for n in 0..length {
        if n > 0 {
            F::separate(out);
        }
        item(out)?;
    }
    Ok(())
}
