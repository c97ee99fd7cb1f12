//! Reads the protocol's simple types off a slice, none beyond its end.

use super::ProtocolError;

/// What is left to read, and what it is called in an error.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn bytes(&mut self, n: usize) -> Result<&'a [u8], ProtocolError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(ProtocolError::Truncated(self.what))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(ProtocolError::Truncated(self.what))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, ProtocolError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, ProtocolError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, ProtocolError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, ProtocolError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(super) fn short_str(&mut self) -> Result<&'a str, ProtocolError> {
        let length = self.u8()?;
        std::str::from_utf8(self.bytes(length.into())?).map_err(|_| ProtocolError::NotUtf8(self.what))
    }

    /// A `longstr`, or a table: both are a length and that many bytes.
    pub(super) fn long(&mut self) -> Result<&'a [u8], ProtocolError> {
        let length = self.u32()?;
        self.bytes(length as usize)
    }
}

/// The text under `name` in a field table, when it is there and is one. Other fields are stepped over.
pub(super) fn table_text<'a>(table: &'a [u8], name: &str) -> Result<Option<&'a str>, ProtocolError> {
    let mut reader = Reader::new(table, "a field table");
    while !reader.is_empty() {
        let key = reader.short_str()?;
        let value = match reader.u8()? {
            b't' | b'b' | b'B' => reader.bytes(1)?,
            b's' | b'u' | b'U' => reader.bytes(2)?,
            b'I' | b'i' | b'f' => reader.bytes(4)?,
            b'l' | b'L' | b'd' | b'T' => reader.bytes(8)?,
            b'D' => reader.bytes(5)?,
            b'V' => &[],
            b'S' => {
                let text = reader.long()?;
                if key == name {
                    return Ok(std::str::from_utf8(text).ok());
                }
                text
            }
            b'x' | b'A' | b'F' => reader.long()?,
            _ => return Err(ProtocolError::Truncated("a field of an unknown type")),
        };
        let _ = value;
    }
    Ok(None)
}
