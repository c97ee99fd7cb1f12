//! Where workers' commands go in: the way to the drivers of the shards that this process runs.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};

use super::ids::ShardId;
use super::shard::Command;

/// How many commands wait for a shard beside the one it is at: whoever sends more waits.
pub const QUEUE: usize = 16;

/// Ways to the shards of this process.
#[derive(Debug)]
pub struct Commands {
    shard_count: u32,
    shards: BTreeMap<ShardId, mpsc::Sender<Command>>,
}

/// This process does not run the shard, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard {shard} does not run here")]
pub struct NotRun {
    /// The shard.
    pub shard: ShardId,
}

impl Commands {
    /// Ways to these shards, of `shard_count` in all.
    pub fn new(shard_count: u32, shards: BTreeMap<ShardId, mpsc::Sender<Command>>) -> Self {
        Self { shard_count, shards }
    }

    /// The shard that a guild belongs to. Discord's documentation: "Gateway", "Sharding Formula".
    pub fn shard_of(&self, guild_id: u64) -> ShardId {
        let shard = (guild_id >> 22) % u64::from(self.shard_count.max(1));
        ShardId::new(u32::try_from(shard).expect("less than the count, which is a u32"))
    }

    /// Hands a checked packet over; waits while the shard's queue is full. What comes back is told once the packet is
    /// written to Discord's socket.
    ///
    /// # Errors
    /// When the shard does not run here.
    pub async fn send(&self, shard: ShardId, packet: Vec<u8>) -> Result<oneshot::Receiver<()>, NotRun> {
        let (written, outcome) = oneshot::channel();
        let way = self.shards.get(&shard).ok_or(NotRun { shard })?;
        way.send(Command { packet, written }).await.map_err(|_| NotRun { shard })?;
        Ok(outcome)
    }
}
