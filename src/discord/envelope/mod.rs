//! Finds `op`, `s`, `t` and the bytes of `d` in a packet, without building a tree.
//!
//! `d` is not looked into beyond finding its end, and goes out byte for byte. Knows nothing of what packets mean.
//! Discord's documentation: "Gateway", "Gateway Events: Payload Structure"; spec/discord.md, "Packets".

mod etf;
mod json;

use std::borrow::Cow;

pub(super) use self::json::Members;
use super::compression::Encoding;
use super::ids::Seq;
use crate::encoding::etf::EtfError;

/// The longest event name that is taken for one: an AMQP routing key holds 255 bytes.
const MAX_EVENT_NAME: usize = 128;

/// A packet's fields. Absent and null are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `op`
    pub op: u64,
    /// `s`
    pub seq: Option<Seq>,
    /// `t`
    pub event: Option<Cow<'a, str>>,
    /// `d`, as it stands in the packet (of a term, without a version byte); `null` or `nil` when absent.
    pub data: &'a [u8],
}

/// Why a packet is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedEnvelope {
    /// It is not a JSON object, or is cut off.
    #[error("the packet is not a JSON object (byte {at})")]
    NotAnObject {
        /// Where that showed.
        at: usize,
    },
    /// It is no term that is taken.
    #[error("the packet is not a term: {0}")]
    NotATerm(#[from] EtfError),
    /// There is no `op`, or it is not a whole number.
    #[error("the packet has no valid \"op\"")]
    NoOpcode,
    /// `s` is not a whole number.
    #[error("the packet's \"s\" is not a sequence number")]
    BadSequence,
    /// `t` is not a string, or too long to be a name.
    #[error("the packet's \"t\" is not an event name")]
    BadEventName,
}

/// Reads a packet's envelope.
///
/// # Errors
/// When the envelope is not well formed; that `d` is well formed inside is not checked further than its end needs.
pub fn scan(encoding: Encoding, packet: &[u8]) -> Result<Envelope<'_>, MalformedEnvelope> {
    match encoding {
        Encoding::Json => json::scan(packet),
        Encoding::Etf => etf::scan(packet),
    }
}
