//! Erlang's external term format.
//!
//! Binaries are texts where they are UTF-8, else bytes. Atoms are texts but for `true`, `false`, `nil` and `null`; tuples are
//! lists. Compressed terms are refused: the largest message would be no limit. So are improper lists, and whatever means
//! something to a running node only: pids, references, functions. What is written, OTP of any version reads.

use std::borrow::Cow;

use super::cursor::{Cursor, room};
use super::integer::MOST_DIGITS;
use super::value::{BigInteger, Map, Value};
use super::write::Form;
use super::{MOST_DEPTH, MOST_VALUES};

/// What is no term that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EtfError {
    /// It ends too early.
    #[error("the term is cut short")]
    Incomplete,
    /// It does not begin with 131.
    #[error("a term begins with 131")]
    Version,
    /// Something is behind it.
    #[error("{0} bytes behind the term")]
    Excess(usize),
    /// A compressed term.
    #[error("compressed terms are not taken")]
    Compressed,
    /// A term of another kind that is not taken.
    #[error("a term of the kind {0}, which is not taken")]
    Kind(u8),
    /// A binary that is not UTF-8, for a reader of JSON.
    #[error("it holds bytes that are no text, which JSON has not")]
    NoText,
    /// An atom that is not UTF-8.
    #[error("an atom that is not UTF-8")]
    BadAtom,
    /// A float that is no number, or not finite.
    #[error("a float that is no number")]
    BadFloat,
    /// A sign that is neither 0 nor 1.
    #[error("a sign that is neither 0 nor 1")]
    BadSign,
    /// A list that does not end in an empty one.
    #[error("an improper list")]
    ImproperList,
    /// A list, a tuple or a map as a key.
    #[error("a list, a tuple or a map as a key")]
    BadKey,
    /// Lists, tuples and maps too deep in each other.
    #[error("lists, tuples and maps more than {MOST_DEPTH} deep in each other")]
    TooDeep,
    /// More terms than are taken.
    #[error("more than {MOST_VALUES} terms")]
    TooMany,
    /// An integer too long to be computed with.
    #[error("an integer of more than {MOST_DIGITS} digits")]
    TooLong,
}

impl EtfError {
    /// Of a term of a kind that is not taken.
    pub(super) const fn of_kind(kind: u8) -> Self {
        match kind {
            COMPRESSED => Self::Compressed,
            kind => Self::Kind(kind),
        }
    }
}

/// What a term alone begins with.
pub const VERSION: u8 = 131;

// The kinds of terms, by the names that Erlang's documentation has for them.
pub(crate) const NEW_FLOAT: u8 = 70;
pub(crate) const COMPRESSED: u8 = 80;
pub(crate) const SMALL_INTEGER: u8 = 97;
pub(crate) const INTEGER: u8 = 98;
pub(crate) const FLOAT: u8 = 99;
pub(crate) const ATOM: u8 = 100;
pub(crate) const SMALL_TUPLE: u8 = 104;
pub(crate) const LARGE_TUPLE: u8 = 105;
pub(crate) const NIL: u8 = 106;
pub(crate) const STRING: u8 = 107;
pub(crate) const LIST: u8 = 108;
pub(crate) const BINARY: u8 = 109;
pub(crate) const SMALL_BIG: u8 = 110;
pub(crate) const LARGE_BIG: u8 = 111;
pub(crate) const SMALL_ATOM: u8 = 115;
pub(crate) const MAP: u8 = 116;
pub(crate) const ATOM_UTF8: u8 = 118;
pub(crate) const SMALL_ATOM_UTF8: u8 = 119;

/// Reads one term with its version byte, and nothing behind it.
///
/// # Errors
/// It is no term, or none that is taken.
pub fn read(bytes: &[u8]) -> Result<Value, EtfError> {
    let mut cursor = Cursor::new(bytes);
    if cursor.u8().ok_or(EtfError::Incomplete)? != VERSION {
        return Err(EtfError::Version);
    }
    let value = Reader(&mut cursor).term(0)?;
    end(&cursor)?;
    Ok(value)
}

/// Nothing may be left.
pub(super) fn end(cursor: &Cursor<'_>) -> Result<(), EtfError> {
    match cursor.rest().len() {
        0 => Ok(()),
        excess => Err(EtfError::Excess(excess)),
    }
}

/// Reads terms, and the pieces they consist of.
pub(super) struct Reader<'c, 'a>(pub(super) &'c mut Cursor<'a>);

/// Values of terms.
impl Reader<'_, '_> {
    fn term(&mut self, depth: usize) -> Result<Value, EtfError> {
        let kind = self.u8()?;
        self.term_of(kind, depth)
    }

    fn term_of(&mut self, kind: u8, depth: usize) -> Result<Value, EtfError> {
        self.count(1)?;
        match kind {
            ATOM | SMALL_ATOM | ATOM_UTF8 | SMALL_ATOM_UTF8 => self.atom(kind).map(|name| match &*name {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "nil" | "null" => Value::Null,
                _ => Value::String(name),
            }),
            BINARY => {
                let length = self.len32()?;
                let bytes = self.take(length)?;
                Ok(match std::str::from_utf8(bytes) {
                    Ok(text) => Value::String(text.into()),
                    Err(_) => Value::Bytes(bytes.into()),
                })
            }
            NIL => Ok(Value::List([].into())),
            // A list of integers below 256, packed.
            STRING => {
                let length = self.len16()?;
                let bytes = self.take(length)?;
                self.count(length)?;
                Ok(Value::List(bytes.iter().map(|byte| Value::Integer((*byte).into())).collect()))
            }
            SMALL_TUPLE => self.len8().and_then(|length| self.items(length, depth)),
            LARGE_TUPLE => self.len32().and_then(|length| self.items(length, depth)),
            LIST => {
                let length = self.len32()?;
                let list = self.items(length, depth)?;
                if self.u8()? != NIL {
                    return Err(EtfError::ImproperList);
                }
                Ok(list)
            }
            MAP => {
                let length = self.len32()?;
                self.map(length, depth)
            }
            kind => self.number(kind),
        }
    }

    fn items(&mut self, length: usize, depth: usize) -> Result<Value, EtfError> {
        let depth = deeper(depth)?;
        let mut items = room(length);
        for _ in 0..length {
            items.push(self.term(depth)?);
        }
        Ok(Value::List(items.into()))
    }

    fn map(&mut self, length: usize, depth: usize) -> Result<Value, EtfError> {
        let depth = deeper(depth)?;
        let mut entries = room(length);
        for _ in 0..length {
            let kind = self.u8()?;
            let key = match kind {
                // Also `nil` and `true`, as names.
                ATOM | SMALL_ATOM | ATOM_UTF8 | SMALL_ATOM_UTF8 => {
                    self.count(1)?;
                    self.atom(kind)?
                }
                kind => self.term_of(kind, depth)?.into_key().ok_or(EtfError::BadKey)?,
            };
            entries.push((key, self.term(depth)?));
        }
        Ok(Value::Map(Map::new(entries)))
    }

    fn count(&mut self, terms: usize) -> Result<(), EtfError> {
        self.0.count(terms).ok_or(EtfError::TooMany)
    }
}

/// What terms consist of.
impl<'a> Reader<'_, 'a> {
    /// A number of this kind, the only ones that are left.
    pub(super) fn number(&mut self, kind: u8) -> Result<Value, EtfError> {
        match kind {
            SMALL_INTEGER => Ok(Value::Integer(self.u8()?.into())),
            INTEGER => Ok(Value::Integer(i32::from_be_bytes(self.array()?).into())),
            SMALL_BIG => self.len8().and_then(|length| self.big(length)),
            LARGE_BIG => self.len32().and_then(|length| self.big(length)),
            NEW_FLOAT => float(f64::from_be_bytes(self.array()?)),
            FLOAT => self.old_float(),
            kind => Err(EtfError::of_kind(kind)),
        }
    }

    fn big(&mut self, length: usize) -> Result<Value, EtfError> {
        let negative = match self.u8()? {
            0 => false,
            1 => true,
            _ => return Err(EtfError::BadSign),
        };
        let magnitude = self.take(length)?;
        BigInteger::bounded(negative, magnitude).ok_or(EtfError::TooLong)
    }

    /// As text of 31 bytes, zeros behind it.
    fn old_float(&mut self) -> Result<Value, EtfError> {
        let bytes = self.take(31)?;
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| EtfError::BadFloat)?;
        float(text.parse().map_err(|_| EtfError::BadFloat)?)
    }

    /// The name of an atom of this kind.
    fn atom(&mut self, kind: u8) -> Result<Box<str>, EtfError> {
        let name = self.atom_utf8(kind)?;
        Ok(std::str::from_utf8(&name).expect("that is what it gives").into())
    }

    /// The same in UTF-8.
    pub(super) fn atom_utf8(&mut self, kind: u8) -> Result<Cow<'a, [u8]>, EtfError> {
        let length = match kind {
            SMALL_ATOM | SMALL_ATOM_UTF8 => self.len8()?,
            _ => self.len16()?,
        };
        let name = self.take(length)?;
        match kind {
            _ if name.is_ascii() => Ok(name.into()),
            ATOM | SMALL_ATOM => {
                // Latin-1.
                let name: String = name.iter().map(|byte| char::from(*byte)).collect();
                Ok(name.into_bytes().into())
            }
            _ if std::str::from_utf8(name).is_ok() => Ok(name.into()),
            _ => Err(EtfError::BadAtom),
        }
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], EtfError> {
        self.0.take(n).ok_or(EtfError::Incomplete)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EtfError> {
        self.0.array().ok_or(EtfError::Incomplete)
    }

    pub(super) fn u8(&mut self) -> Result<u8, EtfError> {
        self.0.u8().ok_or(EtfError::Incomplete)
    }

    pub(super) fn len8(&mut self) -> Result<usize, EtfError> {
        self.0.len8().ok_or(EtfError::Incomplete)
    }

    pub(super) fn len16(&mut self) -> Result<usize, EtfError> {
        self.0.len16().ok_or(EtfError::Incomplete)
    }

    pub(super) fn len32(&mut self) -> Result<usize, EtfError> {
        self.0.len32().ok_or(EtfError::Incomplete)
    }
}

fn float(value: f64) -> Result<Value, EtfError> {
    if value.is_finite() { Ok(Value::Float(value)) } else { Err(EtfError::BadFloat) }
}

/// Into a list, a tuple or a map that `depth` others are around.
pub(super) fn deeper(depth: usize) -> Result<usize, EtfError> {
    if depth >= MOST_DEPTH { Err(EtfError::TooDeep) } else { Ok(depth + 1) }
}

/// Writes terms, without the version byte.
pub(super) struct Etf;

/// Before a term.
pub(super) fn begin(out: &mut Vec<u8>) {
    out.push(VERSION);
}

impl Form for Etf {
    fn null(out: &mut Vec<u8>) {
        Self::atom(out, "nil");
    }

    fn bool(out: &mut Vec<u8>, value: bool) {
        Self::atom(out, if value { "true" } else { "false" });
    }

    fn integer(out: &mut Vec<u8>, value: i64) {
        if let Ok(small) = u8::try_from(value) {
            out.extend([SMALL_INTEGER, small]);
        } else if let Ok(integer) = i32::try_from(value) {
            out.push(INTEGER);
            out.extend(integer.to_be_bytes());
        } else {
            let magnitude = value.unsigned_abs().to_le_bytes();
            let length = magnitude.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
            big(out, value < 0, &magnitude[..length]);
        }
    }

    fn big(out: &mut Vec<u8>, value: &BigInteger) {
        big(out, value.negative, &value.magnitude);
    }

    fn float(out: &mut Vec<u8>, value: f64) {
        out.push(NEW_FLOAT);
        out.extend(value.to_be_bytes());
    }

    fn utf8(out: &mut Vec<u8>, text: &[u8]) {
        Self::bytes(out, text);
    }

    fn bytes(out: &mut Vec<u8>, value: &[u8]) {
        let [a, b, c, d] = u32::try_from(value.len()).expect("nothing here has 4 GiB").to_be_bytes();
        out.extend_from_slice(&[BINARY, a, b, c, d]);
        out.extend_from_slice(value);
    }

    /// As the oldest kind, which every decoder knows. Names are short and ASCII.
    fn atom(out: &mut Vec<u8>, name: &str) {
        out.extend([ATOM, 0, u8::try_from(name.len()).expect("our names are short")]);
        out.extend(name.as_bytes());
    }

    /// An empty one is its end alone.
    fn begin_list(out: &mut Vec<u8>, length: usize) {
        if length > 0 {
            out.push(LIST);
            self::length(out, length);
        }
    }

    fn end_list(out: &mut Vec<u8>) {
        out.push(NIL);
    }

    fn begin_map(out: &mut Vec<u8>, length: usize) {
        out.push(MAP);
        self::length(out, length);
    }

    fn end_map(_out: &mut Vec<u8>) {}
}

fn big(out: &mut Vec<u8>, negative: bool, magnitude: &[u8]) {
    match u8::try_from(magnitude.len()) {
        Ok(length) => out.extend([SMALL_BIG, length]),
        Err(_) => {
            out.push(LARGE_BIG);
            length(out, magnitude.len());
        }
    }
    out.push(negative.into());
    out.extend(magnitude);
}

fn length(out: &mut Vec<u8>, length: usize) {
    out.extend(u32::try_from(length).expect("nothing here has 4 GiB").to_be_bytes());
}
