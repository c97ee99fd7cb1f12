//! The queue of a shard that the bot has no more: emptied one command after the other, and deleted.

use std::sync::Arc;

use lapin::Channel;
use lapin::options::{BasicGetOptions, QueueDeleteOptions};

use super::admin::{Admin, bounded};
use super::delivery::{Delivery, From};
use super::error::AdminError;
use super::topology::{Queue, short};
use crate::discord::ids::ShardId;

/// What is left in a queue that nobody consumes.
#[derive(Debug)]
pub struct Leftover {
    channel: Arc<Channel>,
    name: Arc<str>,
}

impl Leftover {
    /// What is left of the commands of a shard; nothing, if there was no such queue.
    ///
    /// # Errors
    /// What RabbitMQ said.
    pub async fn of(consumption: &Admin, group: &str, shard: ShardId) -> Result<Self, AdminError> {
        let queue = Queue::commands(group, shard);
        let mut channel = consumption.channel().await?;
        queue.declare(consumption, &mut channel).await?;
        Ok(Self { channel: Arc::new(channel), name: queue.name().into() })
    }

    /// Takes the first one out, to be settled before the next.
    ///
    /// # Errors
    /// What RabbitMQ said.
    pub async fn next(&self) -> Result<Option<Delivery>, AdminError> {
        let got = self.channel.basic_get(short(&self.name)?, BasicGetOptions::default());
        let got = bounded(&format!("empty the queue \"{}\"", self.name), got).await?;
        Ok(got.map(|message| Delivery::of(From::Queue(self.name.clone()), message.delivery, &self.channel)))
    }

    /// Deletes the queue, if nothing came into it meanwhile and nobody consumes it.
    ///
    /// # Errors
    /// It is not empty, somebody consumes it, or what else RabbitMQ said.
    pub async fn delete(self) -> Result<(), AdminError> {
        let unused = QueueDeleteOptions { if_empty: true, if_unused: true, ..QueueDeleteOptions::default() };
        let deleted = self.channel.queue_delete(short(&self.name)?, unused);
        bounded(&format!("delete the queue \"{}\"", self.name), deleted).await.map(drop)
    }
}
