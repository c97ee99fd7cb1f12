//! JSON (RFC 8259).
//!
//! Integers of any size stay exact and differ from floats: `1` is no `1.0`. Of one key twice, the last holds. Lone
//! surrogates are refused. Errors are worded as the decoder of the original 신경 words them.

pub(super) mod scan;

use std::io::Write;

use data_encoding::BASE64;

use self::scan::{Number, Scanner, plain};
use super::inspect::inspect;
use super::integer::{LONGEST, MOST_DIGITS, decimal};
use super::value::{BigInteger, Map, Value};
use super::write::Form;
use super::{MOST_DEPTH, MOST_VALUES};

/// What is no JSON. Positions are in bytes, from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It ends too early.
    #[error("unexpected end of input at position {0}")]
    End(usize),
    /// A byte that does not belong there.
    #[error("unexpected byte at position {position}: {byte:#X}{}", shown(*.byte))]
    Byte {
        /// Where.
        position: usize,
        /// Which.
        byte: u8,
    },
    /// Bytes that look right but mean nothing.
    #[error("unexpected sequence at position {position}: {}", inspect(.bytes))]
    Sequence {
        /// Where they begin.
        position: usize,
        /// They themselves, or how they begin.
        bytes: Box<[u8]>,
    },
    /// Lists and maps too deep in each other.
    #[error("lists and maps more than {MOST_DEPTH} deep in each other at position {0}")]
    TooDeep(usize),
    /// More values than are taken, keys included.
    #[error("more than {MOST_VALUES} values and keys at position {0}")]
    TooMany(usize),
    /// An integer too long to be computed with.
    #[error("an integer of more than {MOST_DIGITS} digits at position {0}")]
    TooLong(usize),
}

/// Reads one value; only white space may be around it.
///
/// # Errors
/// It is not JSON, or too much of it.
pub fn read(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut reader = Reader { scanner: Scanner::new(bytes), values: 0 };
    let value = reader.value(0)?;
    reader.scanner.end()?;
    Ok(value)
}

struct Reader<'a> {
    scanner: Scanner<'a>,
    /// So many were begun, keys included.
    values: usize,
}

impl Reader<'_> {
    fn count(&mut self) -> Result<(), JsonError> {
        self.values += 1;
        if self.values > MOST_VALUES { Err(JsonError::TooMany(self.scanner.position())) } else { Ok(()) }
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.count()?;
        match self.scanner.skip_space() {
            Some(b'"') => self.text().map(Value::String),
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'-' | b'0'..=b'9') => self.scanner.number().map(Number::value),
            Some(b'n') => self.scanner.word("null").map(|()| Value::Null),
            Some(b't') => self.scanner.word("true").map(|()| Value::Bool(true)),
            Some(b'f') => self.scanner.word("false").map(|()| Value::Bool(false)),
            _ => Err(self.scanner.unexpected()),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, JsonError> {
        let mut items = Vec::new();
        if self.scanner.enter(depth, b']')? {
            while {
                items.push(self.value(depth + 1)?);
                self.scanner.more(b']')?
            } {}
        }
        Ok(Value::List(items.into()))
    }

    fn map(&mut self, depth: usize) -> Result<Value, JsonError> {
        let mut entries = Vec::new();
        if self.scanner.enter(depth, b'}')? {
            while {
                self.scanner.at_key()?;
                self.count()?;
                let key = self.text()?;
                self.scanner.colon()?;
                entries.push((key, self.value(depth + 1)?));
                self.scanner.more(b'}')?
            } {}
        }
        Ok(Value::Map(Map::new(entries)))
    }

    fn text(&mut self) -> Result<Box<str>, JsonError> {
        Ok(self.scanner.text(&mut String::new())?.into())
    }
}

impl Number<'_> {
    pub(super) fn value(self) -> Value {
        match self {
            Self::Integer(integer) => Value::Integer(integer),
            Self::Float(float) => Value::Float(float),
            Self::Big { negative, digits } => BigInteger::of_digits(negative, digits),
        }
    }
}

/// Writes JSON.
pub(super) struct Json;

impl Form for Json {
    fn null(out: &mut Vec<u8>) {
        out.extend(b"null");
    }

    fn bool(out: &mut Vec<u8>, value: bool) {
        out.extend(if value { &b"true"[..] } else { b"false" });
    }

    fn integer(out: &mut Vec<u8>, value: i64) {
        out.extend_from_slice(decimal(value, &mut [0; LONGEST]));
    }

    fn big(out: &mut Vec<u8>, value: &BigInteger) {
        write!(out, "{value}").expect("a Vec takes everything");
    }

    /// The fewest digits that are read as the same float, with a point or an exponent among them.
    fn float(out: &mut Vec<u8>, value: f64) {
        write!(out, "{value:?}").expect("a Vec takes everything");
    }

    fn utf8(out: &mut Vec<u8>, text: &[u8]) {
        out.push(b'"');
        let mut rest = text;
        loop {
            let (plain, special) = rest.split_at(plain(rest));
            out.extend(plain);
            let Some((&special, behind)) = special.split_first() else { break };
            match special {
                b'\n' => out.extend(b"\\n"),
                b'\r' => out.extend(b"\\r"),
                b'\t' => out.extend(b"\\t"),
                b'"' | b'\\' => out.extend([b'\\', special]),
                _ => write!(out, "\\u{special:04x}").expect("a Vec takes everything"),
            }
            rest = behind;
        }
        out.push(b'"');
    }

    /// JSON has none: as base64.
    fn bytes(out: &mut Vec<u8>, value: &[u8]) {
        out.push(b'"');
        let begin = out.len();
        out.resize(begin + BASE64.encode_len(value.len()), 0);
        BASE64.encode_mut(value, &mut out[begin..]);
        out.push(b'"');
    }

    fn begin_list(out: &mut Vec<u8>, _length: usize) {
        out.push(b'[');
    }

    fn end_list(out: &mut Vec<u8>) {
        out.push(b']');
    }

    fn begin_map(out: &mut Vec<u8>, _length: usize) {
        out.push(b'{');
    }

    fn end_map(out: &mut Vec<u8>) {
        out.push(b'}');
    }

    fn separate(out: &mut Vec<u8>) {
        out.push(b',');
    }

    fn colon(out: &mut Vec<u8>) {
        out.push(b':');
    }
}

/// A byte's character, where it has one.
fn shown(byte: u8) -> String {
    let text = inspect(&[byte]);
    if text.starts_with('"') { format!(" ({text})") } else { String::new() }
}
