//! The codes with which connections of services are closed (spec/amybot.md, "Websocket").

use crate::websocket::frames::Fault;

/// Why the server closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// 1012: this process goes, or the coordinator cannot reach it any more. Who comes back identifies anew.
    ComeBack,
    /// 1003: a binary message.
    Binary,
    /// 4002: a text that is no message.
    Malformed,
    /// 4003: no IDENTIFY in time, or something else before it.
    NotIdentified,
    /// 4004: an IDENTIFY that the same words will not mend.
    BadIdentify,
    /// 4008: it does not read what is sent to it.
    TooSlow,
    /// 4009: nothing was heard of it, no answer to a ping either.
    TimedOut,
    /// 1002, 1007, 1009: no websocket frames, no text, too large.
    Fault(Fault),
}

impl CloseCode {
    /// The number.
    pub const fn number(self) -> u16 {
        match self {
            Self::ComeBack => 1012,
            Self::Binary => 1003,
            Self::Malformed => 4002,
            Self::NotIdentified => 4003,
            Self::BadIdentify => 4004,
            Self::TooSlow => 4008,
            Self::TimedOut => 4009,
            Self::Fault(fault) => fault.close_code(),
        }
    }
}
