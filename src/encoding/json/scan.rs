//! The tokens of a JSON text, for whoever makes something of them: a tree, or the same in another encoding.

use super::JsonError;
use crate::encoding::{MOST_DEPTH, MOST_DIGITS};

/// Goes over a text from token to token.
pub(in crate::encoding) struct Scanner<'a> {
    bytes: &'a [u8],
    /// As much of the bytes, from their beginning, as is UTF-8.
    text: &'a str,
    at: usize,
    /// Half a character stands for U+FFFD.
    lossy: bool,
}

/// A number as it is written.
pub(in crate::encoding) enum Number<'a> {
    Integer(i64),
    /// One that does not fit, of at most [`MOST_DIGITS`] digits.
    Big {
        negative: bool,
        digits: &'a [u8],
    },
    /// Finite, with a point or an exponent.
    Float(f64),
}

impl<'a> Scanner<'a> {
    pub(in crate::encoding) fn new(bytes: &'a [u8]) -> Self {
        // Once for all: texts are many and short.
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid so far"),
        };
        Self { bytes, text, at: 0, lossy: false }
    }

    /// The same, and half a character, which an escape may be, stands for U+FFFD.
    pub(in crate::encoding) const fn lossy(self) -> Self {
        Self { lossy: true, ..self }
    }

    /// Whether all of it is.
    pub(in crate::encoding) const fn is_utf8(&self) -> bool {
        self.text.len() == self.bytes.len()
    }

    pub(in crate::encoding) const fn position(&self) -> usize {
        self.at
    }

    /// So many bytes are left.
    pub(in crate::encoding) const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What stands here does not belong here.
    pub(in crate::encoding) fn unexpected(&self) -> JsonError {
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

    /// Over white space; what is behind it.
    pub(in crate::encoding) fn skip_space(&mut self) -> Option<u8> {
        loop {
            let byte = self.peek()?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Nothing but white space may be here.
    pub(in crate::encoding) fn end(&mut self) -> Result<(), JsonError> {
        match self.skip_space() {
            None => Ok(()),
            Some(_) => Err(self.unexpected()),
        }
    }

    /// Over this word.
    pub(in crate::encoding) fn word(&mut self, word: &str) -> Result<(), JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected());
        }
        self.at += word.len();
        Ok(())
    }

    /// Over the bracket that opens a list or a map, `depth` others being open. Whether something is in it; if not, also over
    /// the one that closes it.
    pub(in crate::encoding) fn enter(&mut self, depth: usize, close: u8) -> Result<bool, JsonError> {
        if depth >= MOST_DEPTH {
            return Err(JsonError::TooDeep(self.at));
        }
        self.at += 1;
        let is_empty = self.skip_space() == Some(close);
        self.at += usize::from(is_empty);
        Ok(!is_empty)
    }

    /// Over the comma behind an item, or the bracket behind the last; whether there is another.
    pub(in crate::encoding) fn more(&mut self, close: u8) -> Result<bool, JsonError> {
        let more = match self.skip_space() {
            Some(b',') => true,
            Some(byte) if byte == close => false,
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(more)
    }

    /// A key begins here, behind white space.
    pub(in crate::encoding) fn at_key(&mut self) -> Result<(), JsonError> {
        if self.skip_space() == Some(b'"') { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Over the colon behind a key.
    pub(in crate::encoding) fn colon(&mut self) -> Result<(), JsonError> {
        if self.skip_space() != Some(b':') {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    /// A number, at its sign or its first digit.
    pub(in crate::encoding) fn number(&mut self) -> Result<Number<'a>, JsonError> {
        /// So many digits fit into 64 bits, whichever they are.
        const FITTING: usize = 18;
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
        let bytes = self.bytes;
        if self.at == end_of_digits {
            let digits = &bytes[digits..self.at];
            if digits.len() <= FITTING {
                let absolute = digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
                return Ok(Number::Integer(if negative { -absolute } else { absolute }));
            }
            return match self.text[begin..self.at].parse() {
                Ok(integer) => Ok(Number::Integer(integer)),
                Err(_) if digits.len() > MOST_DIGITS => Err(JsonError::TooLong(begin)),
                Err(_) => Ok(Number::Big { negative, digits }),
            };
        }
        match self.text[begin..self.at].parse() {
            Ok(float) if f64::is_finite(float) => Ok(Number::Float(float)),
            _ => Err(self.meaningless(begin, self.at - begin)),
        }
    }

    /// Over one digit or more.
    fn digits(&mut self) -> Result<(), JsonError> {
        let length = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += length;
        if length == 0 { Err(self.unexpected()) } else { Ok(()) }
    }

    /// A text, at its opening quotation mark. One that has escapes is put together in `scratch`.
    pub(in crate::encoding) fn text<'s>(&mut self, scratch: &'s mut String) -> Result<&'s str, JsonError>
    where
        'a: 's,
    {
        self.at += 1;
        let first = self.plain()?;
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(first);
        }
        scratch.clear();
        scratch.push_str(first);
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => scratch.push(self.escape()?),
                _ => return Err(self.unexpected()),
            }
            scratch.push_str(self.plain()?);
        }
        self.at += 1;
        Ok(scratch)
    }

    /// Over what stands for itself. Behind it is a quotation mark, an escape, or what is wrong.
    fn plain(&mut self) -> Result<&'a str, JsonError> {
        let begin = self.at;
        let end = begin + plain(&self.bytes[begin..]);
        let text = self.text;
        let plain = text.get(begin..end).ok_or_else(|| self.unexpected_at(text.len()))?;
        self.at = end;
        Ok(plain)
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
                    return self.half(|| self.unexpected());
                }
                let second = self.unit(self.at)?;
                let (0xDC00..=0xDFFF) = second else { return self.half(|| self.meaningless(begin, 12)) };
                self.at += 6;
                let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                Ok(char::from_u32(code).expect("a pair of surrogates is a character"))
            }
            code => char::from_u32(code).map_or_else(|| self.half(|| self.meaningless(begin, 6)), Ok),
        }
    }

    /// What half a character is.
    fn half(&self, error: impl FnOnce() -> JsonError) -> Result<char, JsonError> {
        if self.lossy { Ok(char::REPLACEMENT_CHARACTER) } else { Err(error()) }
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
}

/// How many bytes at the front stand for themselves in a text of JSON: up to a quotation mark, a backslash or a control
/// character. Eight at a time, for most texts are longer than that.
pub(super) fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    /// The highest bit of each byte below `limit`; beyond the first such byte others may be marked, too.
    const fn below(word: u64, limit: u8) -> u64 {
        word.wrapping_sub(ONES * limit as u64) & !word & HIGH
    }
    let words = bytes.chunks_exact(8);
    let rest = words.remainder();
    for (n, word) in words.enumerate() {
        let word = u64::from_le_bytes(word.try_into().expect("eight"));
        let quote = below(word ^ (ONES * b'"' as u64), 1);
        let backslash = below(word ^ (ONES * b'\\' as u64), 1);
        let special = quote | backslash | below(word, 0x20);
        if special != 0 {
            return n * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let tail = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).unwrap_or(rest.len());
    bytes.len() - rest.len() + tail
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_stands_for_itself_is_found_wherever_it_ends(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x1e..0x24_u8, 0x5a..0x5e_u8, Just(b'a')], 0..40)
        ) {
            let simply = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).unwrap_or(bytes.len());
            prop_assert_eq!(plain(&bytes), simply);
        }
    }
}
