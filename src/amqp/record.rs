//! The cluster's record in RabbitMQ: one message that all processes of a bot agree on, changed by one at a time
//! (spec/cluster.md, "The record").
//!
//! The lock is an exclusive consumer. It lies on the channel that also reads and writes, so that who lost the lock with its
//! connection cannot write any more.

use std::time::Duration;

use lapin::Channel;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use tokio::time::{sleep, timeout};

use super::admin::{Admin, bounded};
use super::error::AdminError;
use super::stored::{read, store};
use super::topology::{Queue, short};

/// How long it may take in all. The lock is held for some milliseconds, by as many processes as start in one moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// The record of a group.
#[derive(Clone, Debug)]
pub struct ClusterRecord {
    admin: Admin,
    group: String,
}

impl ClusterRecord {
    /// The record of a group. Who only reads it may use the connection that never publishes.
    pub fn new(administration: Admin, group: &str) -> Self {
        Self { admin: administration, group: group.to_owned() }
    }

    /// What the record says, if there is one.
    ///
    /// # Errors
    /// What RabbitMQ said, or that the lock was not free within 10 s.
    pub async fn read(&self) -> Result<Option<Vec<u8>>, AdminError> {
        self.update(|record| (None, record)).await
    }

    /// Under the lock: `decide` sees the record and gives another to be stored in its place, or `None` to leave it.
    ///
    /// # Errors
    /// What RabbitMQ said, or that the lock was not free within 10 s. Where the new record was sent and not confirmed, it is
    /// unknown whether it is stored.
    pub async fn update<T>(
        &self,
        decide: impl FnOnce(Option<Vec<u8>>) -> (Option<Vec<u8>>, T),
    ) -> Result<T, AdminError> {
        let updated = timeout(PATIENCE, self.update_in_turn(decide)).await;
        updated.unwrap_or_else(|_| {
            Err(AdminError::Unreachable(format!("the cluster's record was not free within {} s", PATIENCE.as_secs())))
        })
    }

    async fn update_in_turn<T>(
        &self,
        decide: impl FnOnce(Option<Vec<u8>>) -> (Option<Vec<u8>>, T),
    ) -> Result<T, AdminError> {
        // lapin sends nothing at all on a blocked connection.
        self.admin.unblocked().await?;
        let queue = Queue::record(&self.group);
        // The lock goes with its consumer, when that is dropped.
        let (channel, _lock) = self.locked(&queue).await?;
        let record = read(&channel, queue.name()).await?.pop();
        let (new, decided) = decide(record);
        if let Some(new) = new {
            store(&channel, queue.name(), &new, "the cluster's record").await?;
        }
        // Freed before we say that it is done. Lost or refused, it is closed all the same.
        let _ = bounded("close a channel", channel.close(200, "OK".into())).await;
        Ok(decided)
    }

    /// A confirming channel with the lock, which is not free when another process is at it.
    async fn locked(&self, record: &Queue) -> Result<(Channel, lapin::Consumer), AdminError> {
        let lock = Queue::lock(&self.group);
        let mut channel = self.admin.channel().await?;
        for queue in [record, &lock] {
            queue.declare(&self.admin, &mut channel).await?;
        }
        drop(channel);
        let name = short(lock.name())?;
        loop {
            let channel = self.admin.confirming_channel().await?;
            let exclusive = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
            let consumed = channel.basic_consume(name.clone(), "".into(), exclusive, FieldTable::default());
            match bounded("lock the cluster's record", consumed).await {
                Ok(lock) => return Ok((channel, lock)),
                Err(error) if error.is_held_by_another() => {
                    sleep(Duration::from_millis(fastrand::u64(50..150))).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
