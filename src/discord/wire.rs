//! What we send, in the encoding of the connection.
//!
//! Packets of ours and of workers are made in JSON. In Erlang's format Discord wants keys as binaries; `nil`, `true` and
//! `false` are atoms, texts binaries, and nothing is compressed. It goes through a value and not by
//! [`convert`](crate::encoding::convert), which keeps keys that come twice: a term with such a map is malformed.

use std::borrow::Cow;

use super::compression::Encoding;
use crate::encoding::{self, ReadError, json};

/// A packet in JSON, as it goes out.
///
/// # Errors
/// It is no JSON, or holds what has no place in that encoding: a number out of all bounds, or lists and maps too deep in each
/// other.
pub fn write(encoding: Encoding, packet: &[u8]) -> Result<Cow<'_, [u8]>, ReadError> {
    match encoding {
        Encoding::Json => Ok(Cow::Borrowed(packet)),
        Encoding::Etf => {
            let value = json::read(packet)?;
            let mut out = Vec::with_capacity(packet.len() + packet.len() / 4);
            encoding::write(encoding.into(), &value, &mut out);
            Ok(Cow::Owned(out))
        }
    }
}
