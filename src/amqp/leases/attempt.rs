//! One attempt to take leases: their queues are declared, looked at, and those that nobody consumes are consumed on a channel of
//! their own.
//!
//! A refused consumer closes its channel, so leases that are held are on other channels; and since a channel costs RabbitMQ
//! and us more than a consumer, what one attempt takes shares one.

use std::sync::Arc;

use futures_util::future::join_all;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use super::super::admin::{Admin, bounded};
use super::super::error::AdminError;
use super::super::topology::{Queue, declare_all, short};
use crate::discord::ids::ShardId;

/// One command of a shard at a time: they are carried out in order, and what one shard cannot take now is no other's to hold.
pub(super) const PREFETCH: u16 = 1;

/// So many consumers are asked for at a time: enough to hide the round trips.
const PIPELINED: usize = 64;

/// What an attempt took. Dropped, its channel closes, and what it took is free.
#[derive(Debug)]
pub(super) struct Taken {
    /// The channel of all these consumers.
    pub(super) channel: Arc<Channel>,
    pub(super) consumers: Vec<(ShardId, Consumer)>,
}

/// Takes what is free of these.
///
/// # Errors
/// What keeps us from taking any: the connection is lost, or a right is missing.
pub(super) async fn take(admin: &Admin, group: &str, shards: &[ShardId]) -> Result<Taken, AdminError> {
    let queues: Vec<Queue> = shards.iter().map(|shard| Queue::commands(group, *shard)).collect();
    let consumed = declare_all(admin, group, &queues).await?;
    let looked_at = shards.iter().copied().zip(queues).zip(consumed);
    let mut free: Vec<_> = looked_at.filter(|(_, consumers)| *consumers == 0).map(|(free, _)| free).collect();
    loop {
        let channel = Arc::new(admin.channel().await?);
        match consume(&channel, &free).await? {
            Consumed::All(consumers) => return Ok(Taken { channel, consumers }),
            // Somebody was faster. RabbitMQ has closed the channel and freed what we had on it, on which nothing runs yet.
            Consumed::Refused(at) => drop(free.remove(at)),
        }
    }
}

enum Consumed {
    All(Vec<(ShardId, Consumer)>),
    /// The place of the first that was refused.
    Refused(usize),
}

async fn consume(channel: &Channel, queues: &[(ShardId, Queue)]) -> Result<Consumed, AdminError> {
    bounded("limit the prefetch", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
    let mut consumers = Vec::with_capacity(queues.len());
    for queues in queues.chunks(PIPELINED) {
        let asked = queues.iter().map(|(shard, queue)| consume_one(channel, *shard, queue.name()));
        // Answers come in the order of the questions: the first error is the refusal, the others are its consequence.
        for consumed in join_all(asked).await {
            match consumed {
                Ok(consumer) => consumers.push(consumer),
                // A queue that was deleted in this moment is declared by the next attempt.
                Err(error) if error.is_held_by_another() || matches!(error, AdminError::NotFound { .. }) => {
                    return Ok(Consumed::Refused(consumers.len()));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Consumed::All(consumers))
}

async fn consume_one(channel: &Channel, shard: ShardId, queue: &str) -> Result<(ShardId, Consumer), AdminError> {
    let exclusive = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
    let tag = short(&shard.to_string())?;
    let consumed = channel.basic_consume(short(queue)?, tag, exclusive, FieldTable::default());
    Ok((shard, bounded(&format!("consume the queue \"{queue}\""), consumed).await?))
}
