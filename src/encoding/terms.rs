//! Looks into a term of Erlang's format without making a tree of it: where it ends, which entries a map has, what a number or a
//! text is.
//!
//! On the way of every event, so nothing is allocated. A length is never trusted further than there are bytes, and nothing
//! calls itself: what is deeper than [`MOST_DEPTH`] is an error, as everywhere. What is only passed over is looked at as far as
//! its end needs: that an atom is UTF-8 or a float a number is for its reader to find out. Terms stand here without the
//! version byte that a term alone begins with.

use std::borrow::Cow;

use super::MOST_DEPTH;
use super::etf::{
    ATOM, ATOM_UTF8, BINARY, EtfError, FLOAT, INTEGER, LARGE_BIG, LARGE_TUPLE, LIST, MAP, NEW_FLOAT, NIL, SMALL_ATOM,
    SMALL_ATOM_UTF8, SMALL_BIG, SMALL_INTEGER, SMALL_TUPLE, STRING,
};

/// The atom `nil`: no value.
pub const NULL: &[u8] = &[ATOM, 0, 3, b'n', b'i', b'l'];

/// Where the term at the beginning of these bytes ends.
///
/// # Errors
/// It does not, or holds something that is not taken.
pub fn end(bytes: &[u8]) -> Result<usize, EtfError> {
    match head(bytes, 0)? {
        (at, 0) if at <= bytes.len() => Ok(at),
        (_, 0) => Err(EtfError::Incomplete),
        (at, terms) => end_of_many(bytes, at, terms),
    }
}

/// Where the list, tuple or map ends whose terms begin at `at`.
fn end_of_many(bytes: &[u8], mut at: usize, mut left: u64) -> Result<usize, EtfError> {
    // What is left of those around it.
    let mut outer = [0; MOST_DEPTH - 1];
    let mut depth = 0;
    loop {
        if left >= 2 {
            left -= 2;
            let (next, terms) = head(bytes, at)?;
            at = next;
            if terms > 0 {
                *outer.get_mut(depth).ok_or(EtfError::TooDeep)? = left;
                depth += 1;
                left = terms;
            }
            continue;
        }
        if left == 1 {
            match bytes.get(at) {
                Some(&NIL) => at += 1,
                Some(_) => return Err(EtfError::ImproperList),
                None => return Err(EtfError::Incomplete),
            }
        }
        if depth == 0 {
            return if at <= bytes.len() { Ok(at) } else { Err(EtfError::Incomplete) };
        }
        depth -= 1;
        left = outer[depth];
    }
}

/// Reads one term's head. Gives where the term ends, or where those in it begin, perhaps behind the last byte; and twice the number of
/// those, and one if it ends like a list.
#[inline(always)]
fn head(bytes: &[u8], at: usize) -> Result<(usize, u64), EtfError> {
    let kind = *bytes.get(at).ok_or(EtfError::Incomplete)?;
    let at = at + 1;
    let (at, terms) = match kind {
        SMALL_INTEGER => return Ok((at + 1, 0)),
        BINARY => return Ok((behind(at + 4, len32(bytes, at)?), 0)),
        ATOM | ATOM_UTF8 | STRING => return Ok((at + 2 + len16(bytes, at)?, 0)),
        SMALL_ATOM | SMALL_ATOM_UTF8 => return Ok((at + 1 + len8(bytes, at)?, 0)),
        SMALL_BIG => return Ok((at + 2 + len8(bytes, at)?, 0)),
        NIL => return Ok((at, 0)),
        INTEGER => return Ok((at + 4, 0)),
        NEW_FLOAT => return Ok((at + 8, 0)),
        FLOAT => return Ok((at + 31, 0)),
        LARGE_BIG => return Ok((behind(at + 5, len32(bytes, at)?), 0)),
        MAP => (at + 4, 4 * u64::from(len32(bytes, at)?)),
        LIST => (at + 4, 2 * u64::from(len32(bytes, at)?) + 1),
        SMALL_TUPLE => (at + 1, 2 * len8(bytes, at)? as u64),
        LARGE_TUPLE => (at + 4, 2 * u64::from(len32(bytes, at)?)),
        kind => return Err(EtfError::of_kind(kind)),
    };
    // Each has a byte at least.
    if terms / 2 > (bytes.len() - at) as u64 { Err(EtfError::Incomplete) } else { Ok((at, terms)) }
}

/// A key's name and its value's term.
pub type Entry<'a> = (&'a [u8], &'a [u8]);

/// The entries of a map, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Entries<'a> {
    /// Of the map at the beginning of these bytes.
    ///
    /// # Errors
    /// There is none.
    pub fn of(bytes: &'a [u8]) -> Result<Self, EtfError> {
        match *bytes {
            [MAP, a, b, c, d, ref rest @ ..] => Ok(Self { rest, left: u32::from_be_bytes([a, b, c, d]) }),
            [] | [MAP, ..] => Err(EtfError::Incomplete),
            [kind, ..] => Err(EtfError::of_kind(kind)),
        }
    }

    /// The next key, if it is a name, and its value; a key that is a number is an empty name. None at the map's end.
    ///
    /// # Errors
    /// What stands there is none.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, EtfError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let (name, rest) = key(self.rest)?;
        let (value, rest) = rest.split_at(end(rest)?);
        self.rest = rest;
        Ok(Some((name, value)))
    }

    /// What stands behind the entries that were read.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// The name at the beginning of these bytes, and what is behind it.
fn key(bytes: &[u8]) -> Result<(&[u8], &[u8]), EtfError> {
    let (kind, rest) = bytes.split_first().ok_or(EtfError::Incomplete)?;
    let (head, length) = match *kind {
        ATOM | ATOM_UTF8 => (2, len16(rest, 0)?),
        SMALL_ATOM | SMALL_ATOM_UTF8 => (1, len8(rest, 0)?),
        BINARY => (4, len32(rest, 0)? as usize),
        SMALL_TUPLE | LARGE_TUPLE | NIL | STRING | LIST | MAP => return Err(EtfError::BadKey),
        _ => return Ok((&[], &bytes[end(bytes)?..])),
    };
    rest[head..].split_at_checked(length).ok_or(EtfError::Incomplete)
}

/// The terms of a list, one after the other, as far as they are whole; none of what is no list. A list of small numbers packed
/// as a string counts as none.
pub fn items(list: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let (mut rest, length) = match *list {
        [NIL] => (&list[1..], 0),
        [LIST, a, b, c, d, ref rest @ ..] => (rest, u32::from_be_bytes([a, b, c, d])),
        _ => return None,
    };
    let next = move |_| {
        let (item, behind) = rest.split_at_checked(end(rest).ok()?)?;
        rest = behind;
        Some(item)
    };
    Some((0..length).map_while(next))
}

// ---- what a whole term is ----

/// Whether it is no value.
pub fn is_null(term: &[u8]) -> bool {
    matches!(atom(term), Some((_, b"nil" | b"null")))
}

/// The truth value, if it is one.
pub fn boolean(term: &[u8]) -> Option<bool> {
    match atom(term)?.1 {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// The number, if it is a whole one of 64 bits, not below zero.
pub fn unsigned(term: &[u8]) -> Option<u64> {
    let (sign, digits) = match *term {
        [SMALL_INTEGER, number] => return Some(number.into()),
        [INTEGER, a, b, c, d] => return u64::try_from(i32::from_be_bytes([a, b, c, d])).ok(),
        [SMALL_BIG, length, sign, ref digits @ ..] if digits.len() == usize::from(length) => (sign, digits),
        [LARGE_BIG, _, _, _, _, sign, ref digits @ ..] if len32(term, 1).ok()? as usize == digits.len() => {
            (sign, digits)
        }
        _ => return None,
    };
    // The lowest first; beyond the eighth only zeros fit.
    let (low, high) = digits.split_at(digits.len().min(8));
    let mut number = [0; 8];
    number[..low.len()].copy_from_slice(low);
    let number = u64::from_le_bytes(number);
    (high.iter().all(|digit| *digit == 0) && (sign == 0 || sign == 1 && number == 0)).then_some(number)
}

/// The text, if it is one: a binary that is UTF-8, or an atom that stands for itself.
pub fn text(term: &[u8]) -> Option<Cow<'_, str>> {
    if let [BINARY, _, _, _, _, bytes @ ..] = term {
        return (len32(term, 1).ok()? as usize == bytes.len())
            .then(|| std::str::from_utf8(bytes).ok())?
            .map(Cow::Borrowed);
    }
    match atom(term)? {
        (_, b"nil" | b"null" | b"true" | b"false") => None,
        (ATOM | SMALL_ATOM, latin_1) if !latin_1.is_ascii() => Some(latin_1.iter().copied().map(char::from).collect()),
        (_, name) => std::str::from_utf8(name).ok().map(Cow::Borrowed),
    }
}

/// An atom's kind and name.
fn atom(term: &[u8]) -> Option<(u8, &[u8])> {
    let (name, length) = match *term {
        [ATOM | ATOM_UTF8, a, b, ref name @ ..] => (name, u16::from_be_bytes([a, b]).into()),
        [SMALL_ATOM | SMALL_ATOM_UTF8, length, ref name @ ..] => (name, usize::from(length)),
        _ => return None,
    };
    (name.len() == length).then_some((term[0], name))
}

// ---- lengths ----

fn len8(bytes: &[u8], at: usize) -> Result<usize, EtfError> {
    bytes.get(at).map(|length| usize::from(*length)).ok_or(EtfError::Incomplete)
}

fn len16(bytes: &[u8], at: usize) -> Result<usize, EtfError> {
    let length = bytes.get(at..).and_then(|bytes| bytes.first_chunk()).ok_or(EtfError::Incomplete)?;
    Ok(u16::from_be_bytes(*length).into())
}

fn len32(bytes: &[u8], at: usize) -> Result<u32, EtfError> {
    let length = bytes.get(at..).and_then(|bytes| bytes.first_chunk()).ok_or(EtfError::Incomplete)?;
    Ok(u32::from_be_bytes(*length))
}

/// So many bytes further; where that cannot be counted, further than there are bytes.
fn behind(at: usize, length: u32) -> usize {
    usize::try_from(length).ok().and_then(|length| at.checked_add(length)).unwrap_or(usize::MAX - 64)
}
