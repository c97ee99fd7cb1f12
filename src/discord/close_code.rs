//! Close codes and what each means for the session: one table, asked by the session, the simulator and the docs.
//!
//! Discord's documentation: "Opcodes and Status Codes"; where it is silent, spec/discord.md "Closes" says what we do and why.

/// The code that we close with when the session is to be kept: any but 1000 and 1001 keeps it.
pub const KEEP_SESSION: u16 = 4000;

/// Why Discord closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 4000
    UnknownError,
    /// 4001
    UnknownOpcode,
    /// 4002
    DecodeError,
    /// 4003
    NotAuthenticated,
    /// 4004
    AuthenticationFailed,
    /// 4005
    AlreadyAuthenticated,
    /// 4007
    InvalidSeq,
    /// 4008
    RateLimited,
    /// 4009
    SessionTimedOut,
    /// 4010
    InvalidShard,
    /// 4011
    ShardingRequired,
    /// 4012
    InvalidApiVersion,
    /// 4013
    InvalidIntents,
    /// 4014
    DisallowedIntents,
    /// Any other code: WebSocket's own (1000-1015) and what the table does not know.
    Other(u16),
}

/// What follows a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The session may live: try to resume.
    Resume,
    /// As [`Fate::Resume`], but first let the 60 s of the send limit pass.
    PauseThenResume,
    /// The session is gone: identify anew.
    Identify,
    /// Never reconnect with this configuration.
    Fatal,
}

impl CloseCode {
    /// Every code of Discord's table.
    pub const KNOWN: [Self; 14] = [
        Self::UnknownError,
        Self::UnknownOpcode,
        Self::DecodeError,
        Self::NotAuthenticated,
        Self::AuthenticationFailed,
        Self::AlreadyAuthenticated,
        Self::InvalidSeq,
        Self::RateLimited,
        Self::SessionTimedOut,
        Self::InvalidShard,
        Self::ShardingRequired,
        Self::InvalidApiVersion,
        Self::InvalidIntents,
        Self::DisallowedIntents,
    ];

    /// The code's meaning.
    pub fn from_code(code: u16) -> Self {
        Self::KNOWN.into_iter().find(|known| known.code() == code).unwrap_or(Self::Other(code))
    }

    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::UnknownError => 4000,
            Self::UnknownOpcode => 4001,
            Self::DecodeError => 4002,
            Self::NotAuthenticated => 4003,
            Self::AuthenticationFailed => 4004,
            Self::AlreadyAuthenticated => 4005,
            Self::InvalidSeq => 4007,
            Self::RateLimited => 4008,
            Self::SessionTimedOut => 4009,
            Self::InvalidShard => 4010,
            Self::ShardingRequired => 4011,
            Self::InvalidApiVersion => 4012,
            Self::InvalidIntents => 4013,
            Self::DisallowedIntents => 4014,
            Self::Other(code) => code,
        }
    }

    /// What to do next. A needless resume costs a round trip, a needless identify costs a session start and every
    /// missed event: in doubt, resume.
    pub const fn fate(self) -> Fate {
        match self {
            Self::UnknownError | Self::UnknownOpcode | Self::DecodeError | Self::Other(_) => Fate::Resume,
            Self::RateLimited => Fate::PauseThenResume,
            Self::NotAuthenticated | Self::AlreadyAuthenticated | Self::InvalidSeq | Self::SessionTimedOut => {
                Fate::Identify
            }
            Self::AuthenticationFailed
            | Self::InvalidShard
            | Self::ShardingRequired
            | Self::InvalidApiVersion
            | Self::InvalidIntents
            | Self::DisallowedIntents => Fate::Fatal,
        }
    }

    /// Discord's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownError => "Unknown error",
            Self::UnknownOpcode => "Unknown opcode",
            Self::DecodeError => "Decode error",
            Self::NotAuthenticated => "Not authenticated",
            Self::AuthenticationFailed => "Authentication failed",
            Self::AlreadyAuthenticated => "Already authenticated",
            Self::InvalidSeq => "Invalid seq",
            Self::RateLimited => "Rate limited",
            Self::SessionTimedOut => "Session timed out",
            Self::InvalidShard => "Invalid shard",
            Self::ShardingRequired => "Sharding required",
            Self::InvalidApiVersion => "Invalid API version",
            Self::InvalidIntents => "Invalid intent(s)",
            Self::DisallowedIntents => "Disallowed intent(s)",
            Self::Other(1000) => "Normal closure",
            Self::Other(1001) => "Going away",
            Self::Other(_) => "not in Discord's table",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_name_and_fate_of_the_reference() {
        let tables = crate::discord::reference();
        let listed = tables["close_codes"].as_array().expect("close_codes");
        assert_eq!(listed.len(), CloseCode::KNOWN.len());
        for row in listed {
            let code = CloseCode::from_code(row["code"].as_u64().expect("code") as u16);
            assert!(!matches!(code, CloseCode::Other(_)), "{row}");
            assert_eq!(code.name(), row["name"]);
            let action = match code.fate() {
                Fate::Resume | Fate::PauseThenResume => "resume",
                Fate::Identify => "identify",
                Fate::Fatal => "fatal",
            };
            assert_eq!(action, row["action"], "{code:?}");
        }
    }

    #[test]
    fn codes_outside_the_table_are_resumed() {
        for code in [1000, 1001, 1006, 1011, 4006, 4999] {
            assert_eq!(CloseCode::from_code(code).fate(), Fate::Resume, "{code}");
        }
    }
}
