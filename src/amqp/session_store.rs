//! Sessions in RabbitMQ: a durable queue of length one for each shard (spec/amqp.md, "Sessions").
//!
//! A record is published persistent and counts as saved when RabbitMQ confirms it; the queue drops the former one. Reading
//! takes the message and puts it back, so it is there for the next process too.

use std::collections::HashSet;
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use lapin::options::{BasicGetOptions, BasicNackOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::admin::{Admin, bounded};
use super::error::AdminError;
use super::topology::{declare_queue, session_queue, short};
use crate::discord::ids::ShardId;
use crate::session_store::{SessionStore, StoreError, StoreFuture, StoredSession};

/// Shards share this many channels, each with one save in flight: RabbitMQ may tell a message's return and its confirm so that
/// lapin hands it to another publish of the channel, and 256 shards at a stop are done within a second all the same.
const CHANNELS: usize = 4;

/// How long a load or a save may take in all, with waiting for its turn and for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// More records than one are in a queue only when somebody changed its limit; so many are looked through for the newest.
const MOST_RECORDS: usize = 16;

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
        let done = timeout(PATIENCE, self.on_channel_in_turn(shard, operation)).await;
        done.unwrap_or_else(|_| Err(AdminError::Unreachable(format!("not done within {} s", PATIENCE.as_secs()))))
    }

    async fn on_channel_in_turn<T>(
        &self,
        shard: ShardId,
        operation: impl AsyncFnOnce(&mut Channel) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        let mut slot = self.channels[shard.get() as usize % CHANNELS].lock().await;
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
            let stored = publish(channel, &queue, body).await;
            if let Err(AdminError::NotStored { reason, .. }) = &stored {
                // Somebody deleted the queue: it is made again.
                debug!(%queue, %reason, "the session was not stored, declaring its queue anew");
                self.forget_declared(shard);
                self.declare(channel, shard, &queue).await?;
                return publish(channel, &queue, body).await;
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
            let name = short(&queue)?;
            let action = format!("read the queue \"{queue}\"");
            let mut records = Vec::new();
            let mut last = None;
            while records.len() < MOST_RECORDS {
                let got = bounded(&action, channel.basic_get(name.clone(), BasicGetOptions::default())).await?;
                let Some(message) = got else { break };
                last = Some(message.delivery.delivery_tag);
                records.push(message.delivery.data);
            }
            if let Some(last) = last {
                // All at once, so that they keep their order.
                let put_back = BasicNackOptions { multiple: true, requeue: true };
                bounded(&action, channel.basic_nack(last, put_back)).await?;
            }
            Ok(records)
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
}

/// Publishes a record to its queue and waits for the confirm. The only one in flight on its channel: what comes back is it.
async fn publish(channel: &Channel, queue: &str, body: &[u8]) -> Result<(), AdminError> {
    let action = format!("store a session in \"{queue}\"");
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_app_id("optic".into());
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let name = short(queue)?;
    let confirmed =
        bounded(&action, async { channel.basic_publish("".into(), name, mandatory, body, properties).await?.await })
            .await?;
    let reason = match confirmed {
        Confirmation::Ack(None) => return Ok(()),
        Confirmation::Ack(Some(_)) => "there is no such queue",
        Confirmation::Nack(_) => "it refused the message (nack)",
        Confirmation::NotRequested => "the channel does not confirm",
    };
    Err(AdminError::NotStored { action, reason: reason.to_owned() })
}

/// For the store's user every failure of RabbitMQ is one: not now.
fn unreachable(error: AdminError) -> StoreError {
    StoreError::Unreachable(error.to_string())
}
