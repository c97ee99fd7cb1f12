//! Where sessions outlive the process: what a store keeps for a shard, and the store in memory and in files.
//!
//! The store in RabbitMQ is in [`crate::amqp`].

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::discord::ids::{Seq, SessionId, ShardId};
use crate::discord::intents::Intents;

mod file;
mod memory;

pub use file::FileSessionStore;
pub use memory::MemorySessionStore;

/// What is needed to take a session up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSession {
    /// The layout of this record: [`StoredSession::VERSION`].
    pub version: u32,
    /// The shard.
    pub shard_id: ShardId,
    /// The count the session belongs to; with another it cannot be resumed.
    pub shard_count: u32,
    /// The intents it was identified with, for the same reason.
    pub intents: Intents,
    /// Discord's id of the session.
    pub session_id: SessionId,
    /// Where it is resumed.
    pub resume_url: String,
    /// The committed sequence number.
    pub sequence: Seq,
    /// When this was written, in Unix milliseconds.
    pub saved_at: u64,
    /// How many guilds were there at that sequence number, without those that had an outage. Whoever does not know it, or
    /// does not write it, can read the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guilds: Option<u32>,
}

impl StoredSession {
    /// The layout that this program writes; another is not read.
    pub const VERSION: u32 = 1;

    /// The record as every store writes it.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record is numbers and strings")
    }

    /// Reads what a store holds for `shard`.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] for another layout or another shard's record, too.
    pub fn from_json(shard: ShardId, text: &[u8]) -> Result<Self, StoreError> {
        /// A later layout may have other fields: its number is read first.
        #[derive(Deserialize)]
        struct Layout {
            version: u32,
        }
        let unreadable = |reason: String| StoreError::Unreadable { shard, reason };
        let layout: Layout = serde_json::from_slice(text).map_err(|error| unreadable(error.to_string()))?;
        if layout.version != Self::VERSION {
            return Err(unreadable(format!("its layout is {}, this program reads {}", layout.version, Self::VERSION)));
        }
        let record: Self = serde_json::from_slice(text).map_err(|error| unreadable(error.to_string()))?;
        if record.shard_id != shard {
            return Err(unreadable(format!("it is of shard {}", record.shard_id)));
        }
        Ok(record)
    }
}

/// Why a store did not do its work. The text holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached now; the same call may succeed later.
    #[error("the session store cannot be reached: {0}")]
    Unreachable(String),
    /// What was stored cannot be read.
    #[error("the stored session of shard {shard} cannot be read: {reason}")]
    Unreadable {
        /// Whose.
        shard: ShardId,
        /// What is wrong with it.
        reason: String,
    },
}

/// A future behind a trait object.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Keeps one record a shard.
pub trait SessionStore: Send + Sync + 'static {
    /// The shard's record, if there is one.
    fn load(&self, shard: ShardId) -> StoreFuture<'_, Option<StoredSession>>;

    /// Puts the record in the place of the shard's former one; done when it is safe.
    fn save(&self, record: StoredSession) -> StoreFuture<'_, ()>;

    /// Forgets the shard: the bot has no such shard any more. Nothing to forget is no error.
    fn remove(&self, shard: ShardId) -> StoreFuture<'_, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of a shard at a sequence number.
    pub(super) fn record(shard: u32, sequence: u64) -> StoredSession {
        StoredSession {
            version: StoredSession::VERSION,
            shard_id: ShardId::new(shard),
            shard_count: 8,
            intents: Intents::GUILDS,
            session_id: SessionId::new("abc"),
            resume_url: "wss://gateway-us-east1-b.discord.gg".to_owned(),
            sequence: Seq::new(sequence),
            saved_at: 1_700_000_000_000 + sequence,
            guilds: Some(3),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        assert_eq!(StoredSession::from_json(ShardId::new(2), &record(2, 7).to_json()).expect("read"), record(2, 7));
    }

    #[test]
    fn a_record_without_its_guilds_is_read_too() {
        let record = StoredSession { guilds: None, ..record(2, 7) };
        let text = record.to_json();
        assert!(!String::from_utf8_lossy(&text).contains("guilds"));
        assert_eq!(StoredSession::from_json(ShardId::new(2), &text).expect("read"), record);
    }

    #[test]
    fn a_record_of_another_layout_or_shard_is_refused_with_the_reason() {
        let shard = ShardId::new(2);
        for (text, reason) in [
            (br#"{"version":2,"shard":"two"}"#.to_vec(), "its layout is 2"),
            (record(3, 7).to_json(), "it is of shard 3"),
            (br#"{"version":1}"#.to_vec(), "missing field"),
            (b"[".to_vec(), "EOF"),
        ] {
            let error = StoredSession::from_json(shard, &text).expect_err("refused").to_string();
            assert!(error.contains("shard 2") && error.contains(reason), "{error}");
        }
    }
}
