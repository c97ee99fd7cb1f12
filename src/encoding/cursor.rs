//! Takes bytes off the front of a slice, none beyond its end.

use super::MOST_VALUES;

/// What is left to read.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, values: 0 }
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Counts so many values that are read; none if they are too many.
    pub(super) fn count(&mut self, values: usize) -> Option<()> {
        self.values = self.values.saturating_add(values);
        (self.values <= MOST_VALUES).then_some(())
    }

    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    /// A length of one byte.
    pub(super) fn len8(&mut self) -> Option<usize> {
        self.u8().map(usize::from)
    }

    /// A length of two bytes.
    pub(super) fn len16(&mut self) -> Option<usize> {
        self.array().map(|bytes| u16::from_be_bytes(bytes).into())
    }

    /// A length of four bytes.
    pub(super) fn len32(&mut self) -> Option<usize> {
        self.array().and_then(|bytes| u32::from_be_bytes(bytes).try_into().ok())
    }
}

/// Room for as many items as were announced, but never much more than came so far: the announcement may be a lie, and lies
/// may lie in each other.
pub(super) fn room<T>(announced: usize) -> Vec<T> {
    Vec::with_capacity(announced.min(64))
}
