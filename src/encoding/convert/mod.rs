//! Bodies from one encoding into another, without a tree.
//!
//! Beside [`encoding::read`](super::read()) and [`encoding::write`](super::write()) this is the second way, for another purpose.
//! Those make a [`Value`] that somebody looks into: keys are sorted, of one key twice the last holds, and there are at most
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

/// How what is not the same everywhere is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taking {
    /// Integers.
    pub integers: Integers,
    /// Texts, and bytes that are none.
    pub texts: Texts,
}

/// What becomes of integers that not every reader of JSON takes exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integers {
    /// They stay numbers.
    AsTheyAre,
    /// Those beyond ±(2^53 - 1) become texts, as Discord itself writes ids in JSON.
    IdsAsText,
}

/// What becomes of texts that are none everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts {
    /// JSON has to be one, and bytes stay bytes.
    Strict,
    /// In JSON, U+FFFD stands for half a character, and for bytes that are not UTF-8: an event is not lost by that.
    Lossy,
    /// Bytes are the text that they are; those that are none are refused. JSON has no bytes, and what comes of them there nobody means.
    NoBytes,
}

impl Taking {
    /// Everything is what it is.
    pub const EXACT: Self = Self { integers: Integers::AsTheyAre, texts: Texts::Strict };
    /// The same, but that ids are texts.
    pub const IDS_AS_TEXT: Self = Self { integers: Integers::IdsAsText, ..Self::EXACT };
    /// Out of an encoding that has bytes, for a reader of JSON.
    pub const NO_BYTES: Self = Self { texts: Texts::NoBytes, ..Self::EXACT };

    /// For events as Discord writes them: in ETF it has ids as integers, which they are not in its JSON. No reader of that shall
    /// have to round them.
    pub const fn event_in(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Json => Self { texts: Texts::Lossy, ..Self::EXACT },
            Encoding::Etf | Encoding::Msgpack => Self::IDS_AS_TEXT,
        }
    }
}

/// The largest integer that a double holds with all its neighbours.
const LARGEST_SAFE: u64 = (1 << 53) - 1;

/// Appends a body to `out`, converted. A term comes in without the version byte 131, and goes out with it. What is in that
/// encoding already is copied as it is, unless ids are to become texts.
///
/// # Errors
/// The bytes are no value of that encoding, or none that is taken; `out` is then as it was.
pub fn convert(from: Encoding, bytes: &[u8], to: Dialect, taking: Taking, out: &mut Vec<u8>) -> Result<(), ReadError> {
    let begin = out.len();
    out.reserve(bytes.len());
    let copied = taking.integers == Integers::AsTheyAre;
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
                Encoding::Json => transcode::<Json>(from, bytes, taking, out),
                Encoding::Etf => transcode::<Etf>(from, bytes, taking, out),
                Encoding::Msgpack => transcode::<Msgpack>(from, bytes, taking, out),
            }
        }
        Dialect::MsgpackText if copied && from == Encoding::Json => {
            // A MessagePack text is UTF-8. Half a character is none of its business: the escape of one is a text.
            let lossy = (taking.texts == Texts::Lossy).then(|| String::from_utf8_lossy(bytes));
            let text = lossy.as_ref().map_or(bytes, |lossy| lossy.as_bytes());
            begin_text(out, text.len());
            out.extend(text);
            Ok(())
        }
        Dialect::MsgpackText => transcode::<Json>(from, bytes, taking, out).map(|()| {
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
/// It is not in this dialect, or has what is not taken so.
pub fn to_json(from: Dialect, body: &[u8], taking: Taking) -> Result<Cow<'_, [u8]>, ReadError> {
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
    convert(from, bytes, Dialect::Plain(Encoding::Json), taking, &mut json)?;
    Ok(json.into())
}

/// JSON whose texts are all texts, [`Texts::Lossy`] where they are not. What is not JSON stays as it is, whatever is wrong with it.
pub fn mended(json: &[u8]) -> Cow<'_, [u8]> {
    // Whether an escape is half a character only a reader knows.
    let has_surrogate = |text: &str| text.contains("\\ud") || text.contains("\\uD");
    if std::str::from_utf8(json).is_ok_and(|text| !has_surrogate(text)) {
        return json.into();
    }
    let mut out = Vec::with_capacity(json.len());
    match transcode::<Json>(Encoding::Json, json, Taking::event_in(Encoding::Json), &mut out) {
        Ok(()) => out.into(),
        Err(_) => json.into(),
    }
}

fn transcode<F: open::Open>(from: Encoding, bytes: &[u8], taking: Taking, out: &mut Vec<u8>) -> Result<(), ReadError> {
    match from {
        Encoding::Json => Ok(json::transcode::<F>(bytes, taking, out)?),
        Encoding::Etf => Ok(etf::transcode::<F>(bytes, taking, out)?),
        Encoding::Msgpack => Ok(msgpack::transcode::<F>(bytes, taking, out)?),
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
