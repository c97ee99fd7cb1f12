//! From MessagePack.

use super::open::Open;
use super::{Taking, Texts, items, simple};
use crate::encoding::cursor::Cursor;
use crate::encoding::msgpack::{Head, MsgpackError, deeper, end, head};
use crate::encoding::value::Value;

pub(super) fn transcode<F: Open>(bytes: &[u8], taking: Taking, out: &mut Vec<u8>) -> Result<(), MsgpackError> {
    let mut cursor = Cursor::new(bytes);
    value::<F>(&mut cursor, 0, taking, out)?;
    end(&cursor)
}

/// The text, or the bytes, that is all there is.
pub(super) fn text(bytes: &[u8]) -> Result<&[u8], MsgpackError> {
    let mut cursor = Cursor::new(bytes);
    let text = match head(&mut cursor)? {
        Head::Text(text) => text.as_bytes(),
        Head::Bytes(bytes) => bytes,
        Head::Simple(_) | Head::List(_) | Head::Map(_) => return Err(MsgpackError::InvalidFormat(bytes[0])),
    };
    end(&cursor)?;
    Ok(text)
}

fn value<F: Open>(from: &mut Cursor<'_>, depth: usize, taking: Taking, out: &mut Vec<u8>) -> Result<(), MsgpackError> {
    match head(from)? {
        Head::Text(text) => F::text(out, text),
        Head::Simple(value) => simple::<F>(&value, taking.integers, out),
        Head::Bytes(bytes) if taking.texts == Texts::NoBytes => F::text(out, as_text(bytes)?),
        Head::Bytes(bytes) => F::bytes(out, bytes),
        Head::Map(length) => {
            let depth = deeper(depth)?;
            F::begin_map(out, length);
            items::<F, _>(length, out, |out| {
                key::<F>(from, taking.texts, out)?;
                F::colon(out);
                value::<F>(from, depth, taking, out)
            })?;
            F::end_map(out);
        }
        Head::List(length) => {
            let depth = deeper(depth)?;
            F::begin_list(out, length);
            items::<F, _>(length, out, |out| value::<F>(from, depth, taking, out))?;
            F::end_list(out);
        }
    }
    Ok(())
}

/// A text, whatever it is.
fn key<F: Open>(from: &mut Cursor<'_>, texts: Texts, out: &mut Vec<u8>) -> Result<(), MsgpackError> {
    let value = match head(from)? {
        Head::Text(text) => {
            F::text(out, text);
            return Ok(());
        }
        Head::Simple(value) => value,
        Head::Bytes(bytes) if texts == Texts::NoBytes => {
            F::text(out, as_text(bytes)?);
            return Ok(());
        }
        Head::Bytes(bytes) => Value::Bytes(bytes.into()),
        Head::List(_) | Head::Map(_) => return Err(MsgpackError::BadKey),
    };
    F::text(out, &value.into_key().expect("neither a list nor a map"));
    Ok(())
}

fn as_text(bytes: &[u8]) -> Result<&str, MsgpackError> {
    std::str::from_utf8(bytes).map_err(|_| MsgpackError::NoText)
}
