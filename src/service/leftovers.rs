//! What shards left behind that the bot has no more: their sessions, told as gaps, and commands that wait for them.
//!
//! Whoever runs shard `n % count` sees to former shard `n`. What it tells or passes on is forgotten after that and not before:
//! done by halves it is done again, by whoever comes next.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tracing::{info, warn};

use super::{FIRST_RETRY, LONGEST_RETRY};
use crate::broker::{Broker, Gap, GapReason};
use crate::clock::unix_millis;
use crate::discord::ids::{Shard, ShardId};
use crate::session_store::{SessionStore, StoreError, StoredSession};
use crate::spectacles;
use crate::spectacles::leftovers::LeftoverError;

/// Clears away what former shards left behind.
pub(super) struct Leftovers {
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) commands: spectacles::leftovers::Leftovers,
}

/// A clearing under way.
pub(super) type Clearing = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Debug, thiserror::Error)]
enum Uncleared {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commands(#[from] LeftoverError),
}

impl Leftovers {
    /// Clears away after these, until it is done.
    pub(super) fn clear(self: Arc<Self>, former: Vec<ShardId>) -> Clearing {
        Box::pin(async move {
            for shard in former {
                let mut delay = FIRST_RETRY;
                while let Err(error) = self.clear_one(shard).await {
                    warn!(%shard, %error, again_in = ?delay, "what a former shard left behind is not cleared away yet");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LONGEST_RETRY);
                }
            }
        })
    }

    async fn clear_one(&self, shard: ShardId) -> Result<(), Uncleared> {
        match self.store.load(shard).await {
            Ok(Some(session)) => self.tell_gap(session).await,
            Ok(None) => {}
            Err(error @ StoreError::Unreadable { .. }) => {
                warn!(%shard, %error, "a former shard's session is thrown away")
            }
            Err(error @ StoreError::Unreachable(_)) => return Err(error.into()),
        }
        self.store.remove(shard).await?;
        Ok(self.commands.clear(shard).await?)
    }

    /// Done when the broker has it.
    async fn tell_gap(&self, session: StoredSession) {
        let Some(shard) = Shard::new(session.shard_id, session.shard_count) else { return };
        info!(shard = %shard.id(), of = shard.count(), "the bot has no such shard any more; its gap is told");
        let gap = Gap {
            shard,
            reason: GapReason::SessionNotUsable,
            old_session: Some(session.session_id),
            new_session: None,
            last_committed: session.sequence,
            from: session.saved_at,
            to: unix_millis(),
            event: None,
            rule: None,
        };
        self.broker.room().await;
        self.broker.publish_gap(&gap);
        self.broker.flushed().await;
    }
}
