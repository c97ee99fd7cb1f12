//! What a session is given, where it can be, and what it has its driver do.

use std::time::Instant;

use serde_json::value::RawValue;

#[cfg(doc)]
use super::Session;
use super::{Cause, End, OldSession};
use crate::discord::command::MAX_BYTES;
use crate::discord::compression::{Compression, Encoding};
use crate::discord::ids::{SessionId, Shard};
use crate::discord::intents::Intents;
use crate::discord::payload::{self, Identify};
use crate::encoding::ReadError;
use crate::secret::Secret;

/// What a session is started with.
#[derive(Debug)]
pub struct Settings {
    /// Which shard of how many.
    pub shard: Shard,
    /// The bot's token, without `Bot `.
    pub token: Secret,
    /// Which events Discord is to send.
    pub intents: Intents,
    /// Above how many members the offline ones are left out of GUILD_CREATE.
    pub large_threshold: Option<u16>,
    /// The bot's presence, as `d` of op 3.
    pub presence: Option<Box<RawValue>>,
    /// Discord's API version.
    pub api_version: u8,
    /// How packets are written.
    pub encoding: Encoding,
    /// How Discord compresses them.
    pub compression: Compression,
}

/// Discord would not take the identify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentify {
    /// It would be too long, and every connection end in a close 4002.
    #[error(
        "the identify would have {bytes} bytes, and Discord takes at most {MAX_BYTES}: make DISCORD_PRESENCE shorter"
    )]
    TooLong {
        /// How many it would have.
        bytes: usize,
    },
    /// The presence cannot be written in the connection's encoding.
    #[error("DISCORD_PRESENCE cannot be written in the encoding of the connection: {0}")]
    Presence(#[from] ReadError),
}

impl Settings {
    /// Whether Discord would take the identify; to be asked once before a session is made.
    ///
    /// # Errors
    /// When the presence makes it too long, or cannot be written.
    pub fn check(&self) -> Result<(), BadIdentify> {
        let bytes = self.write_identify()?.len();
        if bytes <= MAX_BYTES { Ok(()) } else { Err(BadIdentify::TooLong { bytes }) }
    }

    pub(super) fn identify(&self) -> Vec<u8> {
        self.write_identify().expect("the settings were checked")
    }

    fn write_identify(&self) -> Result<Vec<u8>, ReadError> {
        let Self { shard, intents, large_threshold, .. } = *self;
        let identify = Identify { shard, intents, large_threshold, presence: self.presence.as_deref() };
        payload::identify(self.encoding, &self.token, identify)
    }
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Without a connection; the next is tried then.
    Disconnected {
        /// When.
        until: Instant,
    },
    /// The driver connects.
    Connecting,
    /// Open, and Hello has not come.
    AwaitingHello,
    /// Waits for its turn to identify.
    AwaitingIdentify,
    /// Identify is sent; READY may be long in coming.
    Identifying,
    /// Resume is sent; what was missed comes, then RESUMED.
    Resuming,
    /// The session is live.
    Connected,
    /// Without a connection on purpose, until [`Session::wake`].
    Suspended,
    /// For good.
    Ended,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect, then call [`Session::connected`] or [`Session::connect_failed`].
    Connect {
        /// The whole URL, query included.
        url: String,
        /// Whether a session is to be resumed.
        resume: bool,
    },
    /// Send this packet, which is in the connection's encoding.
    Send(Vec<u8>),
    /// Ask the identify gate for this shard's turn; its grant is [`Session::identify_granted`].
    AskIdentify,
    /// The turn is no longer wanted.
    WithdrawIdentify,
    /// Send a close frame with this code and drop the connection, or the attempt. [`Session::closed`] need not follow.
    Close {
        /// The code; never one that ends the session.
        code: u16,
    },
    /// Save [`Session::record`] with the committed number now, then call [`Session::stored`].
    Store,
    /// READY came. Its dispatch is published like any other.
    Started {
        /// The new session.
        session: SessionId,
        /// Where it is resumed.
        resume_url: String,
        /// The session before it, if there was one and it was not resumed: its gap is to be told.
        old: Option<OldSession>,
    },
    /// RESUMED came. Its dispatch is published like any other.
    Resumed {
        /// The session.
        session: SessionId,
    },
    /// A connection, or the attempt at one, ended; for the log.
    Disconnected {
        /// Why.
        cause: Cause,
        /// When the next is tried.
        until: Instant,
        /// Whether the session is to be resumed.
        resume: bool,
    },
    /// The shard runs no more; always the last action.
    Ended(End),
}

/// What a dispatch is to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Dispatched {
    /// An event of the session: to be published.
    Event,
    /// The connection it came on is already given up: not to be published. It is above the committed number, so that a
    /// resume brings it again.
    Stale,
}

/// Why no command may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandWait {
    /// The session is not live.
    NotConnected,
    /// The send limit is reached; there is room then.
    Until(Instant),
}
