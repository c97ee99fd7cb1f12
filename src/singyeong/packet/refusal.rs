//! What was refused, and why: in the original's words, which clients match on.

use crate::encoding::{Encoding, Value};
use crate::singyeong::ids::ClientKey;
use crate::websocket::frames::FrameKind;

/// A packet that is none, and an identify or a query that is not well formed.
pub const UNRECOVERABLE: &str = "decode: payload: unrecoverable";
/// What the original stumbles over.
pub const INTERNAL_ERROR: &str = "internal server error";
/// Something else than an identify came first.
pub const NOT_IDENTIFIED: &str = "sent payload with non-identify opcode without identifying first";
/// Ids that are no texts; a heartbeat of a client that is not registered any more.
pub const NO_DATA: &str = "payload has no data";
/// The last heartbeat is too long ago.
pub const LATE_HEARTBEAT: &str = "heartbeat took too long";
/// A frame in ETF of a client that may only be looked at.
pub const RESTRICTED_ETF: &str = "restricted clients may not use ETF";
/// Metadata in an identify that fits no type.
pub const INVALID_INITIAL_METADATA: &str = "initial metadata: invalid";
/// Metadata in an `UPDATE_METADATA` that fits no type.
pub const INVALID_METADATA: &str = "invalid metadata";
/// A dispatch without a name, or without what belongs to it.
pub const INVALID_DISPATCH: &str = "invalid dispatch payload";
/// Nobody is there to whom a dispatch could go.
pub const NO_ROUTE: &str = "no_route";

/// What was refused, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The text that clients match on.
    pub error: Box<str>,
    /// More about it; `None` where the original has no such key.
    pub extra_info: Option<Value>,
}

/// What a client said is refused; and what follows.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// Op 3: it goes on.
    Invalid(Refusal),
    /// Op 8: its connection is closed.
    Error(Refusal),
}

impl Refusal {
    /// Nothing more to say.
    pub fn new(error: &str) -> Self {
        Self::with(error, Value::Null)
    }

    /// With more about it.
    pub fn with(error: &str, extra_info: Value) -> Self {
        Self { error: error.into(), extra_info: Some(extra_info) }
    }

    /// A frame of a kind that the connection's encoding does not have.
    pub fn wrong_frame(kind: FrameKind, encoding: Encoding) -> Self {
        let kind = match kind {
            FrameKind::Text => "text",
            FrameKind::Binary => "binary",
        };
        let encoding = encoding.name();
        Self::new(&format!("decode: payload: invalid websocket opcode/encoding combo: {{{kind}, {encoding}}}"))
    }

    /// Somebody healthy has the client's id.
    pub fn already_registered(key: &ClientKey) -> Self {
        Self::new(&format!("{}: already registered for app {}", key.client, key.application))
    }

    /// A restricted client's dispatch of this `t`.
    pub fn restricted(t: &Value) -> Self {
        let error = format!("invalid dispatch type {} (are you restricted?)", t.as_str().unwrap_or_default());
        Self { error: error.into(), extra_info: None }
    }

    /// A dispatch that is not well formed, or whose name is reserved; the packet is told back.
    pub fn invalid_dispatch(t: Value, ts: Value, d: Value) -> Self {
        Self::with(INVALID_DISPATCH, packet(Value::string("dispatch"), t, ts, d))
    }

    /// A dispatch that nobody receives; it is told back.
    pub fn no_route(t: &str, ts: Value, d: Value) -> Self {
        Self::with(NO_ROUTE, packet(Value::Integer(4), Value::string(t), ts, d))
    }

    /// A message that nobody matches; it is told back. `target` is the query with all its keys.
    pub fn no_route_of_message(t: &str, ts: Value, nonce: Value, payload: Value, target: Value) -> Self {
        Self::no_route(t, ts, Value::map([("nonce", nonce), ("payload", payload), ("target", target)]))
    }

    /// Whether more about it is a whole packet, told back.
    pub(super) fn tells_packet(&self) -> bool {
        matches!(&*self.error, INVALID_DISPATCH | NO_ROUTE)
    }
}

fn packet(op: Value, t: Value, ts: Value, d: Value) -> Value {
    Value::map([("op", op), ("t", t), ("ts", ts), ("d", d)])
}
