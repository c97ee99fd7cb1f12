//! JSON (RFC 8259).
//!
//! Integers of any size stay exact and differ from floats: `1` is no `1.0`. Of one key twice, the last holds. Lone
//! surrogates are refused. Errors are worded as the decoder of the original 신경 words them.

use std::io::Write;

use data_encoding::BASE64;

use super::inspect::inspect;
use super::integer::MOST_DIGITS;
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
    let mut reader = Reader { bytes, at: 0, values: 0 };
    let value = reader.value(0)?;
    match reader.skip_space() {
        None => Ok(value),
        Some(_) => Err(reader.unexpected()),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// So many were begun, keys included.
    values: usize,
}

impl Reader<'_> {
    /// What stands here does not belong here.
    fn unexpected(&self) -> JsonError {
        self.unexpected_at(self.at)
    }

    fn unexpected_at(&self, position: usize) -> JsonError {
        match self.bytes.get(position) {
            Some(&byte) => JsonError::Byte { position, byte },
            None => JsonError::End(position),
        }
    }

    /// The sequence of `length` bytes there, or how it begins: more of it is not shown.
    fn meaningless(&self, position: usize, length: usize) -> JsonError {
        const MOST: usize = 8192;
        let rest = &self.bytes[position..];
        JsonError::Sequence { position, bytes: rest[..length.min(rest.len()).min(MOST)].into() }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) -> Option<u8> {
        loop {
            let byte = self.peek()?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn skip(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.skip_space() != Some(byte) {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    fn count(&mut self) -> Result<(), JsonError> {
        self.values += 1;
        if self.values > MOST_VALUES { Err(JsonError::TooMany(self.at)) } else { Ok(()) }
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.count()?;
        match self.skip_space() {
            Some(b'"') => self.text().map(Value::String),
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            _ => Err(self.unexpected()),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected());
        }
        self.at += word.len();
        Ok(value)
    }

    /// Over the bracket that opens a list or a map.
    fn enter(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth >= MOST_DEPTH {
            return Err(JsonError::TooDeep(self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.enter(depth)?;
        let mut items = Vec::new();
        if self.skip_space() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items.into()));
        }
        loop {
            items.push(self.value(depth + 1)?);
            match self.skip_space() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.unexpected()),
            }
        }
        self.at += 1;
        Ok(Value::List(items.into()))
    }

    fn map(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.enter(depth)?;
        let mut entries = Vec::new();
        if self.skip_space() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Map(Map::default()));
        }
        loop {
            if self.skip_space() != Some(b'"') {
                return Err(self.unexpected());
            }
            self.count()?;
            let key = self.text()?;
            self.skip(b':')?;
            entries.push((key, self.value(depth + 1)?));
            match self.skip_space() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.unexpected()),
            }
        }
        self.at += 1;
        Ok(Value::Map(Map::new(entries)))
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let begin = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let digits = self.at;
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let end_of_digits = self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let all = &self.bytes[begin..self.at];
        if self.at == end_of_digits {
            let text = std::str::from_utf8(all).expect("digits are ASCII");
            return match text.parse() {
                Ok(integer) => Ok(Value::Integer(integer)),
                Err(_) if self.at - digits > MOST_DIGITS => Err(JsonError::TooLong(begin)),
                Err(_) => Ok(BigInteger::of_digits(negative, &self.bytes[digits..self.at])),
            };
        }
        let text = std::str::from_utf8(all).expect("digits are ASCII");
        match text.parse() {
            Ok(float) if f64::is_finite(float) => Ok(Value::Float(float)),
            _ => Err(self.meaningless(begin, all.len())),
        }
    }

    /// Over one digit or more.
    fn digits(&mut self) -> Result<(), JsonError> {
        let length = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += length;
        if length == 0 { Err(self.unexpected()) } else { Ok(()) }
    }

    /// A text, at its opening quotation mark.
    fn text(&mut self) -> Result<Box<str>, JsonError> {
        self.at += 1;
        let first = self.plain()?;
        if self.peek() == Some(b'"') {
            let text = self.slice(first).into();
            self.at += 1;
            return Ok(text);
        }
        let mut text = self.slice(first).to_owned();
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => text.push(self.escape()?),
                _ => return Err(self.unexpected()),
            }
            let more = self.plain()?;
            text.push_str(self.slice(more));
        }
        self.at += 1;
        Ok(text.into())
    }

    /// Over what stands for itself; gives where that began. Behind it is a quotation mark, an escape, or what is wrong.
    fn plain(&mut self) -> Result<usize, JsonError> {
        let begin = self.at;
        let rest = &self.bytes[begin..];
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).unwrap_or(rest.len());
        match std::str::from_utf8(&rest[..length]) {
            Ok(_) => {
                self.at += length;
                Ok(begin)
            }
            Err(error) => Err(self.unexpected_at(begin + error.valid_up_to())),
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let escaped = match self.bytes.get(self.at + 1) {
            Some(b'u') => return self.unicode_escape(),
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte.into(),
            _ => return Err(self.unexpected_at(self.at + 1)),
        };
        self.at += 2;
        Ok(escaped)
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let begin = self.at;
        let first = self.unit(begin)?;
        self.at += 6;
        match first {
            0xD800..=0xDBFF => {
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    return Err(self.unexpected());
                }
                let second = self.unit(self.at)?;
                let (0xDC00..=0xDFFF) = second else { return Err(self.meaningless(begin, 12)) };
                self.at += 6;
                let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                Ok(char::from_u32(code).expect("a pair of surrogates is a character"))
            }
            code => char::from_u32(code).ok_or_else(|| self.meaningless(begin, 6)),
        }
    }

    /// The four hexadecimal digits of the escape at `at`.
    fn unit(&self, at: usize) -> Result<u32, JsonError> {
        let Some(digits) = self.bytes.get(at + 2..at + 6) else {
            return Err(JsonError::End(self.bytes.len()));
        };
        digits
            .iter()
            .try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
            .ok_or_else(|| self.meaningless(at, 6))
    }

    fn slice(&self, begin: usize) -> &str {
        std::str::from_utf8(&self.bytes[begin..self.at]).expect("`plain` has looked at it")
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
        write!(out, "{value}").expect("a Vec takes everything");
    }

    fn big(out: &mut Vec<u8>, value: &BigInteger) {
        write!(out, "{value}").expect("a Vec takes everything");
    }

    /// The fewest digits that are read as the same float, with a point or an exponent among them.
    fn float(out: &mut Vec<u8>, value: f64) {
        write!(out, "{value:?}").expect("a Vec takes everything");
    }

    fn text(out: &mut Vec<u8>, value: &str) {
        out.push(b'"');
        let mut rest = value.as_bytes();
        while let Some(plain) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)) {
            out.extend(&rest[..plain]);
            match rest[plain] {
                b'\n' => out.extend(b"\\n"),
                b'\r' => out.extend(b"\\r"),
                b'\t' => out.extend(b"\\t"),
                byte @ (b'"' | b'\\') => out.extend([b'\\', byte]),
                byte => write!(out, "\\u{byte:04x}").expect("a Vec takes everything"),
            }
            rest = &rest[plain + 1..];
        }
        out.extend(rest);
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
