//! The codes with which connections are closed, and what known clients make of them (spec/singyeong.md, "Close codes").
//!
//! The original knows 1000 alone, after which some clients never come back. shinkei stays away after 1000, 4004, 4010 and
//! 4011 and comes back after any other; the others come back always.

use crate::websocket::frames::Fault;

/// Why the server closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// 1012: this server goes, another is there, or will be.
    GoingAway,
    /// 4002: a packet that cannot be read, or is not to be sent.
    BadPacket,
    /// 4003: a packet before identify, or no identify in time.
    NotIdentified,
    /// 4004: what the same identify will not mend: ids that are no texts, metadata that is not valid.
    BadIdentify,
    /// 4005: a healthy client has this id.
    AlreadyRegistered,
    /// 4008: it does not read what is sent to it.
    TooSlow,
    /// 4009: no heartbeat, or no frame at all.
    TimedOut,
    /// 1013: too many wrong passwords came from its address just now.
    TryAgainLater,
    /// 1009: a message larger than is taken.
    TooLarge,
    /// 1002: no websocket frames.
    BadFrame,
    /// 1007: a text message that is no text.
    NotText,
    /// Never sent: the connection was gone first.
    Gone,
}

impl From<Fault> for CloseCode {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooLarge(_) => Self::TooLarge,
            Fault::NotText => Self::NotText,
            Fault::Protocol(_) => Self::BadFrame,
        }
    }
}

impl CloseCode {
    /// The number.
    pub const fn number(self) -> u16 {
        match self {
            Self::GoingAway => 1012,
            Self::BadPacket => 4002,
            Self::NotIdentified => 4003,
            Self::BadIdentify => 4004,
            Self::AlreadyRegistered => 4005,
            Self::TooSlow => 4008,
            Self::TimedOut => 4009,
            Self::TryAgainLater => 1013,
            Self::TooLarge => 1009,
            Self::BadFrame => 1002,
            Self::NotText => 1007,
            Self::Gone => 1006,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_the_websocket_protocol_is_closed_by_its_own_codes() {
        for fault in [Fault::TooLarge(1), Fault::NotText, Fault::Protocol("")] {
            assert_eq!(CloseCode::from(fault).number(), fault.close_code());
        }
    }
}
