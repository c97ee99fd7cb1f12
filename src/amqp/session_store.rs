//! Sessions in RabbitMQ: a durable queue of length one for each shard (spec/amqp.md, "Sessions").
//!
//! How they are kept there: `stored.rs`.

use std::collections::HashSet;
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeleteOptions;
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::admin::{Admin, bounded};
use super::error::AdminError;
use super::stored::{read, store};
use super::topology::{declare_queue, session_queue, short};
use crate::discord::ids::ShardId;
use crate::session_store::{SessionStore, StoreError, StoreFuture, StoredSession};

/// Shards share this many channels, each with one save in flight: RabbitMQ may tell a message's return and its confirm so that
/// lapin hands it to another publish of the channel, and 256 shards at a stop are done within a second all the same.
const CHANNELS: usize = 4;

/// How long a load or a save may take once it is its turn, with waiting for a connection. Not counted is the time in line: where
/// many wait, the last of them are no less entitled to it, and each before them takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// The session store in RabbitMQ.
#[derive(Debug)]
pub struct AmqpSessionStore {
    admin: Admin,
    group: String,
    prefix: String,
    channels: [Mutex<Option<Channel>>; CHANNELS],
    /// The queues that were declared and, as far as is known, still are.
    declared: StdMutex<HashSet<ShardId>>,
}

impl AmqpSessionStore {
    /// The prefix unless `SHARD_STORE_PREFIX` says another.
    pub const DEFAULT_PREFIX: &str = "optic:session";

    /// The sessions of a group, in queues `<group>:<prefix>.<shard>`.
    pub fn new(admin: Admin, group: &str, prefix: &str) -> Self {
        Self {
            admin,
            group: group.to_owned(),
            prefix: prefix.to_owned(),
            channels: [const { Mutex::const_new(None) }; CHANNELS],
            declared: StdMutex::default(),
        }
    }

    /// Runs an operation on the shard's channel, alone; a channel that failed is not used again.
    async fn on_channel<T>(
        &self,
        shard: ShardId,
        operation: impl AsyncFnOnce(&mut Channel) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        let mut slot = self.channels[shard.get() as usize % CHANNELS].lock().await;
        let done = timeout(PATIENCE, self.on_channel_in_turn(&mut slot, operation)).await;
        done.unwrap_or_else(|_| Err(AdminError::Unreachable(format!("not done within {} s", PATIENCE.as_secs()))))
    }

    async fn on_channel_in_turn<T>(
        &self,
        slot: &mut Option<Channel>,
        operation: impl AsyncFnOnce(&mut Channel) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        // lapin sends nothing at all on a blocked connection, and would keep all of it in memory.
        self.admin.unblocked().await?;
        // Taken out: a caller that stops waiting in the middle leaves no channel of unknown state behind.
        let mut channel = match slot.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => self.admin.confirming_channel().await?,
        };
        let done = operation(&mut channel).await?;
        *slot = Some(channel);
        Ok(done)
    }

    async fn declare(&self, channel: &mut Channel, shard: ShardId, queue: &str) -> Result<(), AdminError> {
        if self.declared.lock().unwrap_or_else(PoisonError::into_inner).contains(&shard) {
            return Ok(());
        }
        let mut limits = FieldTable::default();
        limits.insert("x-max-length".into(), AMQPValue::LongInt(1));
        limits.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
        declare_queue(&self.admin, channel, queue, limits).await?;
        if !channel.status().confirm() {
            *channel = self.admin.confirming_channel().await?;
        }
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).insert(shard);
        Ok(())
    }

    fn forget_declared(&self, shard: ShardId) {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).remove(&shard);
    }

    async fn put(&self, record: &StoredSession, body: &[u8]) -> Result<(), AdminError> {
        let shard = record.shard_id;
        let queue = session_queue(&self.group, &self.prefix, shard);
        self.on_channel(shard, async |channel| {
            self.declare(channel, shard, &queue).await?;
            let stored = store(channel, &queue, body, "a session").await;
            if let Err(AdminError::NotStored { reason, .. }) = &stored {
                // Somebody deleted the queue: it is made again.
                debug!(%queue, %reason, "the session was not stored, declaring its queue anew");
                self.forget_declared(shard);
                self.declare(channel, shard, &queue).await?;
                return store(channel, &queue, body, "a session").await;
            }
            stored
        })
        .await
    }

    async fn get(&self, shard: ShardId) -> Result<Vec<Vec<u8>>, AdminError> {
        let queue = session_queue(&self.group, &self.prefix, shard);
        self.on_channel(shard, async |channel| {
            // Without a declaration of its own, a first start would end in a 404 and a closed channel.
            self.forget_declared(shard);
            self.declare(channel, shard, &queue).await?;
            read(channel, &queue).await
        })
        .await
    }
}

impl SessionStore for AmqpSessionStore {
    fn load(&self, shard: ShardId) -> StoreFuture<'_, Option<StoredSession>> {
        Box::pin(async move {
            let bodies = self.get(shard).await.map_err(unreachable)?;
            if bodies.len() > 1 {
                warn!(%shard, records = bodies.len(), "the shard's session queue holds more than one record: its x-max-length is not 1");
            }
            let mut newest: Option<StoredSession> = None;
            for body in &bodies {
                let record = StoredSession::from_json(shard, body)?;
                if newest.as_ref().is_none_or(|newest| record.saved_at >= newest.saved_at) {
                    newest = Some(record);
                }
            }
            Ok(newest)
        })
    }

    fn save(&self, record: StoredSession) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.put(&record, &record.to_json()).await.map_err(unreachable) })
    }

    fn remove(&self, shard: ShardId) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let queue = session_queue(&self.group, &self.prefix, shard);
            let removed = self.on_channel(shard, async |channel| {
                self.forget_declared(shard);
                let deleted = channel.queue_delete(short(&queue)?, QueueDeleteOptions::default());
                bounded(&format!("delete the queue \"{queue}\""), deleted).await.map(drop)
            });
            removed.await.map_err(unreachable)
        })
    }
}

/// For the store's user every failure of RabbitMQ is one: not now.
fn unreachable(error: AdminError) -> StoreError {
    StoreError::Unreachable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[tokio::test(start_paused = true)]
    async fn patience_is_counted_from_ones_turn() {
        let (admin, _driver) = Admin::new(&Secret::new("amqp://127.0.0.1:1/%2f"), "test").expect("valid");
        let store = AmqpSessionStore::new(admin, "g", AmqpSessionStore::DEFAULT_PREFIX);
        let asked = async |shard: u32| store.on_channel(ShardId::new(shard), async |channel| Ok(channel.id())).await;
        let turn = store.channels[0].lock().await;
        let began = tokio::time::Instant::now();
        let held_up = async {
            tokio::time::sleep(2 * PATIENCE).await;
            drop(turn);
        };
        let (waited, ()) = tokio::join!(asked(0), held_up);
        assert!(matches!(waited, Err(AdminError::Unreachable(_))), "there is no RabbitMQ");
        assert_eq!(began.elapsed(), 3 * PATIENCE, "it had its time, after its turn had come");
    }
}
