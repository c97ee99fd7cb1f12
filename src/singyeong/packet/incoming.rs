//! What a client says: a frame, read.

use super::dispatch::Dispatch;
use super::identify::Identify;
use super::refusal::{Refusal, Refused, UNRECOVERABLE};
use crate::encoding::{self, Encoding, ReadError, Value};
use crate::websocket::frames::FrameKind;

/// A packet of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// What it is.
    pub op: Op,
    /// What is in it; [`Value::Null`] also if nothing is.
    pub d: Value,
    /// A dispatch's name.
    pub t: Value,
    /// When the client says that it sent it. Only ever told back.
    pub ts: Value,
}

/// What a packet is. Most have no business coming from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// 0
    Hello,
    /// 1
    Identify,
    /// 2
    Ready,
    /// 3
    Invalid,
    /// 4
    Dispatch,
    /// 5
    Heartbeat,
    /// 6
    HeartbeatAck,
    /// 7
    Goodbye,
    /// 8
    Error,
    /// Any other, or none.
    Unknown,
}

impl Packet {
    /// Reads a frame.
    ///
    /// # Errors
    /// It is no packet: op 8.
    pub fn read(encoding: Encoding, kind: FrameKind, bytes: &[u8]) -> Result<Self, Refusal> {
        if kind != FrameKind::of(encoding) {
            return Err(Refusal::wrong_frame(kind, encoding));
        }
        let value = encoding::read(encoding, bytes).map_err(|error| match error {
            ReadError::Json(_) | ReadError::Msgpack(_) => Refusal::new(&error.to_string()),
            ReadError::Etf(_) => Refusal::new(UNRECOVERABLE),
        })?;
        // Nothing at all is a packet of no op.
        if !matches!(value, Value::Map(_) | Value::Null) {
            return Err(Refusal::new(UNRECOVERABLE));
        }
        let [op, d, t, ts] = fields(value, ["op", "d", "t", "ts"]).map(Option::unwrap_or_default);
        Ok(Self { op: Op::of(&op), d, t, ts })
    }

    /// What an identify says.
    ///
    /// # Errors
    /// It is not well formed: op 8.
    pub fn identify(self) -> Result<Identify, Refusal> {
        Identify::read(self.d)
    }

    /// What a dispatch asks for. Operators of its query may lie `query_depth` deep in each other.
    ///
    /// # Errors
    /// It is not well formed.
    pub fn dispatch(self, query_depth: usize) -> Result<Dispatch, Refused> {
        Dispatch::read(self, query_depth)
    }
}

impl Op {
    const KNOWN: [(Self, &'static str); 9] = [
        (Self::Hello, ":hello"),
        (Self::Identify, ":identify"),
        (Self::Ready, ":ready"),
        (Self::Invalid, ":invalid"),
        (Self::Dispatch, ":dispatch"),
        (Self::Heartbeat, ":heartbeat"),
        (Self::HeartbeatAck, ":heartbeat_ack"),
        (Self::Goodbye, ":goodbye"),
        (Self::Error, ":error"),
    ];

    fn of(value: &Value) -> Self {
        let Value::Integer(number) = value else { return Self::Unknown };
        let known = usize::try_from(*number).ok().and_then(|number| Self::KNOWN.get(number));
        known.map_or(Self::Unknown, |(op, _)| *op)
    }

    /// It has no business coming from a client: op 8.
    pub fn refusal(self) -> Refusal {
        let name = Self::KNOWN.iter().find(|(op, _)| *op == self).map_or("nil", |(_, name)| name);
        Refusal::new(&format!("invalid client op {name}"))
    }
}

/// The values of these keys, taken out.
pub(super) fn fields<const N: usize>(value: Value, names: [&str; N]) -> [Option<Value>; N] {
    let mut fields = [const { None }; N];
    if let Value::Map(map) = value {
        for (key, value) in map.into_entries() {
            if let Some(at) = names.iter().position(|name| **name == *key) {
                fields[at] = Some(value);
            }
        }
    }
    fields
}
