//! MessagePack.
//!
//! `str` is a text, or bytes where it is not UTF-8; `bin` is bytes. Extension types are refused. Integers that need more than
//! 64 bits, which MessagePack has not, are written as text. Errors are worded as the decoder of the original 신경 words them.

use super::cursor::{Cursor, room};
use super::inspect::inspect;
use super::value::{BigInteger, Map, Value};
use super::write::Form;
use super::{MOST_DEPTH, MOST_VALUES};

/// What is no MessagePack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MsgpackError {
    /// It ends before a value begins.
    #[error("given binary is incomplete")]
    Incomplete,
    /// A value of a type that there is not, or one that ends too early.
    #[error("invalid format, first byte: {0}")]
    InvalidFormat(u8),
    /// Something is behind it.
    #[error("found excess bytes: {}", inspect(.0))]
    Excess(Box<[u8]>),
    /// An application's own type.
    #[error("extension types are not supported, first byte: {0}")]
    Extension(u8),
    /// Bytes that are not UTF-8, for a reader of JSON.
    #[error("it holds bytes that are no text, which JSON has not")]
    NoText,
    /// A list or a map as a key.
    #[error("a list or a map as a key")]
    BadKey,
    /// Lists and maps too deep in each other.
    #[error("lists and maps more than {MOST_DEPTH} deep in each other")]
    TooDeep,
    /// More values than are taken.
    #[error("more than {MOST_VALUES} values")]
    TooMany,
}

/// So many excess bytes are told.
const MOST_EXCESS: usize = 64;

/// Reads one value, and nothing behind it.
///
/// # Errors
/// It is not MessagePack, or something of it that is not taken.
pub fn read(bytes: &[u8]) -> Result<Value, MsgpackError> {
    let mut cursor = Cursor::new(bytes);
    let value = value(&mut cursor, 0)?;
    end(&cursor)?;
    Ok(value)
}

/// Nothing may be left.
pub(super) fn end(cursor: &Cursor<'_>) -> Result<(), MsgpackError> {
    match cursor.rest() {
        [] => Ok(()),
        excess => Err(MsgpackError::Excess(excess[..excess.len().min(MOST_EXCESS)].into())),
    }
}

fn value(from: &mut Cursor<'_>, depth: usize) -> Result<Value, MsgpackError> {
    let head = head(from)?;
    from.count(1).ok_or(MsgpackError::TooMany)?;
    Ok(match head {
        Head::Simple(value) => value,
        Head::Text(text) => Value::String(text.into()),
        Head::Bytes(bytes) => Value::Bytes(bytes.into()),
        Head::List(length) => {
            let depth = deeper(depth)?;
            let mut items = room(length);
            for _ in 0..length {
                items.push(value(from, depth)?);
            }
            Value::List(items.into())
        }
        Head::Map(length) => {
            let depth = deeper(depth)?;
            let mut entries = room(length);
            for _ in 0..length {
                let key = value(from, depth)?.into_key().ok_or(MsgpackError::BadKey)?;
                entries.push((key, value(from, depth)?));
            }
            Value::Map(Map::new(entries))
        }
    })
}

/// A value, but for what is in it.
pub(super) enum Head<'a> {
    /// Null, a boolean or a number.
    Simple(Value),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// So many items follow.
    List(usize),
    /// So many keys follow, each with its value.
    Map(usize),
}

/// Reads the head of a value.
pub(super) fn head<'a>(from: &mut Cursor<'a>) -> Result<Head<'a>, MsgpackError> {
    let first = from.u8().ok_or(MsgpackError::Incomplete)?;
    let length = match first {
        0x80..=0x9f => Some(usize::from(first & 0x0f)),
        0xa0..=0xbf => Some(usize::from(first & 0x1f)),
        0xc4 | 0xd9 => from.len8(),
        0xc5 | 0xda | 0xdc | 0xde => from.len16(),
        0xc6 | 0xdb | 0xdd | 0xdf => from.len32(),
        0xc7..=0xc9 | 0xd4..=0xd8 => return Err(MsgpackError::Extension(first)),
        _ => return simple(first, from).map(Head::Simple).ok_or(MsgpackError::InvalidFormat(first)),
    };
    let length = length.ok_or(MsgpackError::InvalidFormat(first))?;
    match first {
        0x90..=0x9f | 0xdc | 0xdd => return Ok(Head::List(length)),
        0x80..=0x8f | 0xde | 0xdf => return Ok(Head::Map(length)),
        _ => {}
    }
    let bytes = from.take(length).ok_or(MsgpackError::InvalidFormat(first))?;
    match std::str::from_utf8(bytes) {
        Ok(text) if !matches!(first, 0xc4..=0xc6) => Ok(Head::Text(text)),
        _ => Ok(Head::Bytes(bytes)),
    }
}

/// Into a list or a map that `depth` others are around.
pub(super) fn deeper(depth: usize) -> Result<usize, MsgpackError> {
    if depth >= MOST_DEPTH { Err(MsgpackError::TooDeep) } else { Ok(depth + 1) }
}

/// What is of a fixed length. None: it ends too early, or there is no such type, or the float is no number.
fn simple(first: u8, from: &mut Cursor<'_>) -> Option<Value> {
    let integer = match first {
        0xc0 => return Some(Value::Null),
        0xc2 => return Some(Value::Bool(false)),
        0xc3 => return Some(Value::Bool(true)),
        0xca => return float(f32::from_be_bytes(from.array()?).into()),
        0xcb => return float(f64::from_be_bytes(from.array()?)),
        0xcf => return Some(Value::from(u64::from_be_bytes(from.array()?))),
        0x00..=0x7f => first.into(),
        0xe0..=0xff => first.cast_signed().into(),
        0xcc => from.u8()?.into(),
        0xcd => u16::from_be_bytes(from.array()?).into(),
        0xce => u32::from_be_bytes(from.array()?).into(),
        0xd0 => i8::from_be_bytes(from.array()?).into(),
        0xd1 => i16::from_be_bytes(from.array()?).into(),
        0xd2 => i32::from_be_bytes(from.array()?).into(),
        0xd3 => i64::from_be_bytes(from.array()?),
        _ => return None,
    };
    Some(Value::Integer(integer))
}

fn float(value: f64) -> Option<Value> {
    value.is_finite().then_some(Value::Float(value))
}

/// Writes MessagePack, each value in its shortest form.
pub(super) struct Msgpack;

impl Form for Msgpack {
    fn null(out: &mut Vec<u8>) {
        out.push(0xc0);
    }

    fn bool(out: &mut Vec<u8>, value: bool) {
        out.push(if value { 0xc3 } else { 0xc2 });
    }

    fn integer(out: &mut Vec<u8>, value: i64) {
        match value {
            -0x20..=0x7f => out.push(value as u8),
            0x80..=0xff => out.extend([0xcc, value as u8]),
            0x100..=0xffff => tagged(out, 0xcd, (value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => tagged(out, 0xce, (value as u32).to_be_bytes()),
            0x1_0000_0000.. => tagged(out, 0xcf, value.to_be_bytes()),
            -0x80.. => out.extend([0xd0, value as u8]),
            -0x8000.. => tagged(out, 0xd1, (value as i16).to_be_bytes()),
            -0x8000_0000.. => tagged(out, 0xd2, (value as i32).to_be_bytes()),
            _ => tagged(out, 0xd3, value.to_be_bytes()),
        }
    }

    fn big(out: &mut Vec<u8>, value: &BigInteger) {
        match value.as_u64() {
            Some(number) => tagged(out, 0xcf, number.to_be_bytes()),
            None => Self::text(out, &value.to_string()),
        }
    }

    fn float(out: &mut Vec<u8>, value: f64) {
        tagged(out, 0xcb, value.to_be_bytes());
    }

    fn utf8(out: &mut Vec<u8>, text: &[u8]) {
        begin_text(out, text.len());
        out.extend_from_slice(text);
    }

    fn bytes(out: &mut Vec<u8>, value: &[u8]) {
        match value.len() {
            length @ ..0x100 => out.extend([0xc4, length as u8]),
            length => length16(out, 0xc5, length),
        }
        out.extend(value);
    }

    fn begin_list(out: &mut Vec<u8>, length: usize) {
        match length {
            ..0x10 => out.push(0x90 | length as u8),
            _ => length16(out, 0xdc, length),
        }
    }

    fn end_list(_out: &mut Vec<u8>) {}

    fn begin_map(out: &mut Vec<u8>, length: usize) {
        match length {
            ..0x10 => out.push(0x80 | length as u8),
            _ => length16(out, 0xde, length),
        }
    }

    fn end_map(_out: &mut Vec<u8>) {}
}

/// Before a text of so many bytes.
pub(super) fn begin_text(out: &mut Vec<u8>, length: usize) {
    match length {
        0..0x20 => out.push(0xa0 | length as u8),
        0x20..0x100 => out.extend([0xd9, length as u8]),
        _ => length16(out, 0xda, length),
    }
}

fn tagged<const N: usize>(out: &mut Vec<u8>, tag: u8, bytes: [u8; N]) {
    out.push(tag);
    out.extend(bytes);
}

/// A length of two bytes, or by the next tag one of four.
fn length16(out: &mut Vec<u8>, tag: u8, length: usize) {
    match u16::try_from(length) {
        Ok(length) => tagged(out, tag, length.to_be_bytes()),
        Err(_) => {
            let length = u32::try_from(length).expect("nothing here has 4 GiB");
            tagged(out, tag + 1, length.to_be_bytes());
        }
    }
}
