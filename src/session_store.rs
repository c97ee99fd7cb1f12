//! Where sessions outlive the process: what a store keeps for a shard, and the store in memory and in files.
//!
//! The store in RabbitMQ is in [`crate::amqp`].

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::discord::ids::{Seq, SessionId, ShardId};
use crate::discord::intents::Intents;

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
}

impl StoredSession {
    /// The layout that this program writes; another is not read.
    pub const VERSION: u32 = 1;
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
}
