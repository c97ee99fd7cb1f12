//! How connections, sessions and shards end, and what is told about it.

use std::fmt;
use std::time::Instant;

use super::Settings;
use crate::broker::GapReason;
use crate::discord::close_code::{CloseCode, Fate};
use crate::discord::ids::{Seq, SessionId};
use crate::discord::intents::Intents;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// TCP, TLS or the HTTP upgrade failed.
    ConnectFailed,
    /// The connection was not open in time.
    ConnectTimeout,
    /// No Hello came in time.
    HelloTimeout,
    /// The connection ended without a close code.
    Lost,
    /// Discord closed it.
    Closed(CloseCode),
    /// Discord asked for it (op 7).
    Reconnect,
    /// Discord called the session invalid (op 9).
    InvalidSession {
        /// Whether it may be resumed.
        resumable: bool,
    },
    /// Nothing came between two heartbeats.
    Zombie,
    /// The resume was answered by silence.
    ResumeSilent,
    /// What came cannot be read.
    Broken(String),
}

impl Cause {
    /// What becomes of the session.
    pub(super) fn fate(&self) -> Fate {
        match self {
            Self::Closed(code) => code.fate(),
            Self::InvalidSession { resumable: false } | Self::ResumeSilent => Fate::Identify,
            Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::HelloTimeout
            | Self::Lost
            | Self::Reconnect
            | Self::InvalidSession { resumable: true }
            | Self::Zombie
            | Self::Broken(_) => Fate::Resume,
        }
    }

    /// Whether we end it, and a close frame is ours to send.
    pub(super) fn is_ours(&self) -> bool {
        !matches!(self, Self::ConnectFailed | Self::Lost | Self::Closed(_))
    }

    /// Whether a connection ended, and not the attempt at one.
    pub fn was_open(&self) -> bool {
        !matches!(self, Self::ConnectFailed | Self::ConnectTimeout)
    }

    /// Whether the address may be to blame, for it did not bring us to a Hello.
    pub(super) fn blames_address(&self) -> bool {
        matches!(
            self,
            Self::ConnectFailed
                | Self::ConnectTimeout
                | Self::HelloTimeout
                | Self::Lost
                | Self::Closed(_)
                | Self::Broken(_)
        )
    }

    /// Whether everything that Discord sent until now has come in. Of a dead connection nobody knows.
    pub(super) fn is_prompt(&self) -> bool {
        !matches!(self, Self::Lost | Self::Zombie | Self::Broken(_))
    }

    /// Whether the session gets one resume and no more: nothing is documented about these closes, and libraries differ.
    pub(super) fn is_doubtful(&self) -> bool {
        matches!(self, Self::Closed(CloseCode::Other(1000 | 1001 | 4000..=4999)))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailed => f.write_str("could not connect"),
            Self::ConnectTimeout => f.write_str("could not connect in time"),
            Self::HelloTimeout => f.write_str("no Hello came"),
            Self::Lost => f.write_str("connection lost"),
            Self::Closed(code) => write!(f, "closed by Discord: {} {}", code.code(), code.name()),
            Self::Reconnect => f.write_str("Discord asked to reconnect"),
            Self::InvalidSession { resumable: true } => f.write_str("session invalid, may be resumed"),
            Self::InvalidSession { resumable: false } => f.write_str("session invalid"),
            Self::Zombie => f.write_str("nothing came between two heartbeats"),
            Self::ResumeSilent => f.write_str("the resume was not answered"),
            Self::Broken(why) => write!(f, "unreadable: {why}"),
        }
    }
}

/// A session that ended without being resumed: what its gap is told with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldSession {
    /// The session.
    pub session: SessionId,
    /// The number that was stored for it. What is committed may be more.
    pub stored: Seq,
    /// When the gap began.
    pub last_sign: LastSign,
    /// Why it ended.
    pub reason: GapReason,
}

/// When a session was last known to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastSign {
    /// Then, in this process.
    At(Instant),
    /// When a former process stored it, in Unix milliseconds.
    Stored(u64),
}

/// Why the shard runs no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was shut down; its session is kept.
    ShutDown,
    /// Discord refuses this configuration.
    Fatal {
        /// How Discord said so.
        code: CloseCode,
        /// What to change, as a sentence.
        advice: String,
    },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutDown => f.write_str("shut down"),
            Self::Fatal { code, advice } => write!(f, "Discord closed with {} {}: {advice}", code.code(), code.name()),
        }
    }
}

/// What to change after a close, if it is a fatal one.
pub(super) fn advice(code: CloseCode, settings: &Settings) -> Option<String> {
    let shard = settings.shard;
    Some(match code {
        CloseCode::AuthenticationFailed => {
            "the token is wrong or was reset; set DISCORD_TOKEN to the bot's token from \
            https://discord.com/developers/applications, page \"Bot\""
                .to_owned()
        }
        CloseCode::InvalidShard => format!(
            "shard {shard} is not one this bot may run; unset DISCORD_SHARD_COUNT to take Discord's count, or set it to \
             a multiple of that"
        ),
        CloseCode::ShardingRequired => format!(
            "shard {shard} would have more than 2,500 guilds; raise DISCORD_SHARD_COUNT above {}, or unset it to take \
             Discord's count",
            shard.count()
        ),
        CloseCode::InvalidApiVersion => {
            format!("Discord no longer speaks API version {}; set DISCORD_API_VERSION to 10", settings.api_version)
        }
        CloseCode::InvalidIntents => {
            let unknown = settings.intents.without(Intents::ALL);
            match unknown == Intents::NONE {
                true => format!(
                    "Discord does not know one of the intents {}; take it out of DISCORD_INTENTS",
                    settings.intents
                ),
                false => format!(
                    "the intents hold unknown bits ({}); take them out of DISCORD_INTENTS or DISCORD_RAW_INTENTS",
                    bits(unknown)
                ),
            }
        }
        CloseCode::DisallowedIntents => {
            let privileged = settings.intents.intersection(Intents::PRIVILEGED);
            let asked: Vec<&str> = privileged.names().collect();
            let asked = if asked.is_empty() { format!("{}", settings.intents) } else { asked.join(", ") };
            format!(
                "the bot may not have all of these privileged intents: {asked}; switch them on at \
                 https://discord.com/developers/applications, page \"Bot\", \"Privileged Gateway Intents\", or ask for less by \
                 DISCORD_INTENTS or DISCORD_EVENTS"
            )
        }
        CloseCode::UnknownError
        | CloseCode::UnknownOpcode
        | CloseCode::DecodeError
        | CloseCode::NotAuthenticated
        | CloseCode::AlreadyAuthenticated
        | CloseCode::InvalidSeq
        | CloseCode::RateLimited
        | CloseCode::SessionTimedOut
        | CloseCode::Other(_) => return None,
    })
}

/// `bit 40, bit 41`
fn bits(intents: Intents) -> String {
    let set: Vec<String> =
        (0..64).filter(|bit| intents.bits() >> bit & 1 == 1).map(|bit| format!("bit {bit}")).collect();
    set.join(", ")
}
