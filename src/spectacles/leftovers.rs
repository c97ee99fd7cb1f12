//! Commands for shards that the bot has no more: on to the shard that the guild has now, or set aside.

use std::sync::Arc;

use super::post::{Post, Undone, Way};
use super::route::{self, Rejected};
use crate::amqp::admin::Admin;
use crate::amqp::delivery::Delivery;
use crate::amqp::error::AdminError;
use crate::amqp::leftover::Leftover;
use crate::discord::commands::Commands;
use crate::discord::ids::ShardId;

/// Empties the queues of former shards.
#[derive(Debug)]
pub struct Leftovers {
    consumption: Admin,
    group: String,
    commands: Arc<Commands>,
    post: Arc<Post>,
}

/// Why a queue is not cleared away yet.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    /// What RabbitMQ said.
    #[error(transparent)]
    Amqp(#[from] AdminError),
    /// The connection was lost meanwhile, or RabbitMQ takes nothing.
    #[error("a command could not be passed on")]
    Undone,
}

impl Leftovers {
    /// Those of `group`, by the count of `commands`.
    pub fn new(consumption: Admin, group: &str, commands: Arc<Commands>, post: Arc<Post>) -> Self {
        Self { consumption, group: group.to_owned(), commands, post }
    }

    /// Passes on or sets aside, in order, what waits for a shard, and deletes its queue.
    ///
    /// # Errors
    /// Not all of it is done; what is left can be done later.
    pub async fn clear(&self, shard: ShardId) -> Result<(), LeftoverError> {
        let leftover = Leftover::of(&self.consumption, &self.group, shard).await?;
        while let Some(delivery) = leftover.next().await? {
            match self.pass_on(&delivery, shard).await {
                Ok(()) => delivery.ack(),
                Err(Undone::GivenUp) => {
                    delivery.requeue();
                    return Err(LeftoverError::Undone);
                }
                Err(Undone::NotHeld) => return Err(LeftoverError::Undone),
            }
        }
        Ok(leftover.delete().await?)
    }

    async fn pass_on(&self, delivery: &Delivery, shard: ShardId) -> Result<(), Undone> {
        let Delivery { body, properties, .. } = delivery;
        let (count, is_held) = (self.commands.shard_count(), || delivery.is_held());
        let former = Way::of(properties);
        let guild_id =
            former.map(|way| way.guild_id).or_else(|| route::guild_of(body, properties.content_type.as_deref()));
        match guild_id {
            Some(guild_id) => {
                let moves = former.map_or(0, |way| way.moves).saturating_add(1);
                self.post.forward(Way { guild_id, shard_count: count, moves }, body, properties, is_held).await
            }
            None => {
                let rejected = Rejected::NoSuchShard { shard, count };
                self.post.set_aside(&rejected, &shard.to_string(), body, properties, is_held).await
            }
        }
    }
}
