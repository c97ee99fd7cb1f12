//! From Erlang's external term format, without the version byte.

use data_encoding::BASE64;

use super::open::Open;
use super::{Taking, Texts, items, simple};
use crate::encoding::cursor::Cursor;
use crate::encoding::etf::{
    ATOM, ATOM_UTF8, BINARY, EtfError, LARGE_TUPLE, LIST, MAP, NIL, Reader, SMALL_ATOM, SMALL_ATOM_UTF8, SMALL_TUPLE,
    STRING, deeper, end,
};

pub(super) fn transcode<F: Open>(bytes: &[u8], taking: Taking, out: &mut Vec<u8>) -> Result<(), EtfError> {
    let mut cursor = Cursor::new(bytes);
    Transcoder { from: Reader(&mut cursor), taking }.term::<F>(0, out)?;
    end(&cursor)
}

struct Transcoder<'c, 'a> {
    from: Reader<'c, 'a>,
    taking: Taking,
}

impl Transcoder<'_, '_> {
    fn term<F: Open>(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), EtfError> {
        match self.from.u8()? {
            BINARY => self.binary::<F>(out)?,
            kind @ (ATOM | SMALL_ATOM | ATOM_UTF8 | SMALL_ATOM_UTF8) => match &*self.from.atom_utf8(kind)? {
                b"nil" | b"null" => F::null(out),
                b"true" => F::bool(out, true),
                b"false" => F::bool(out, false),
                name => F::utf8(out, name),
            },
            MAP => {
                let (length, depth) = (self.from.len32()?, deeper(depth)?);
                F::begin_map(out, length);
                items::<F, _>(length, out, |out| {
                    self.key::<F>(out)?;
                    F::colon(out);
                    self.term::<F>(depth, out)
                })?;
                F::end_map(out);
            }
            LIST => {
                let length = self.from.len32()?;
                self.list::<F>(length, depth, out)?;
                if self.from.u8()? != NIL {
                    return Err(EtfError::ImproperList);
                }
            }
            NIL => self.list::<F>(0, depth, out)?,
            SMALL_TUPLE => {
                let length = self.from.len8()?;
                self.list::<F>(length, depth, out)?;
            }
            LARGE_TUPLE => {
                let length = self.from.len32()?;
                self.list::<F>(length, depth, out)?;
            }
            STRING => {
                let length = self.from.len16()?;
                let mut bytes = self.from.take(length)?.iter();
                deeper(depth)?;
                F::begin_list(out, length);
                items::<F, EtfError>(length, out, |out| {
                    let byte = bytes.next().expect("as many as its length");
                    F::integer(out, (*byte).into());
                    Ok(())
                })?;
                F::end_list(out);
            }
            kind => simple::<F>(&self.from.number(kind)?, self.taking.integers, out),
        }
        Ok(())
    }

    fn list<F: Open>(&mut self, length: usize, depth: usize, out: &mut Vec<u8>) -> Result<(), EtfError> {
        let depth = deeper(depth)?;
        F::begin_list(out, length);
        items::<F, _>(length, out, |out| self.term::<F>(depth, out))?;
        F::end_list(out);
        Ok(())
    }

    /// A text, whatever it is. Atoms are names here, also `nil` and `true`.
    fn key<F: Open>(&mut self, out: &mut Vec<u8>) -> Result<(), EtfError> {
        match self.from.u8()? {
            kind @ (ATOM | SMALL_ATOM | ATOM_UTF8 | SMALL_ATOM_UTF8) => F::utf8(out, &self.from.atom_utf8(kind)?),
            BINARY => {
                let length = self.from.len32()?;
                let bytes = self.from.take(length)?;
                match self.is_text(bytes)? {
                    true => F::utf8(out, bytes),
                    false => F::text(out, &BASE64.encode(bytes)),
                }
            }
            LIST | NIL | STRING | SMALL_TUPLE | LARGE_TUPLE | MAP => return Err(EtfError::BadKey),
            kind => F::text(out, &self.from.number(kind)?.into_key().expect("a number is a key")),
        }
        Ok(())
    }

    fn binary<F: Open>(&mut self, out: &mut Vec<u8>) -> Result<(), EtfError> {
        let length = self.from.len32()?;
        let bytes = self.from.take(length)?;
        match self.is_text(bytes)? {
            true => F::utf8(out, bytes),
            false => F::bytes(out, bytes),
        }
        Ok(())
    }

    /// Whether a binary is one, where it may be something else.
    fn is_text(&self, bytes: &[u8]) -> Result<bool, EtfError> {
        match is_utf8(bytes) {
            false if self.taking.texts == Texts::NoBytes => Err(EtfError::NoText),
            is_text => Ok(is_text),
        }
    }
}

/// Most texts are short and ASCII, which is known faster.
fn is_utf8(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
}
