//! Where workers' commands go in: the ways to the drivers of the shards that this process runs now.
//!
//! Shards come and go while the process runs; who has a command for one that is not there yet waits for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use super::compression::Encoding;
use super::ids::ShardId;
use super::shard::Command;

/// How many commands wait for a shard beside the one it is at: whoever sends more waits.
pub const QUEUE: usize = 16;

/// Ways to the shards of this process.
#[derive(Debug)]
pub struct Commands {
    state: Mutex<State>,
    encoding: Encoding,
    /// Changes when a shard was added.
    added: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
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
    /// No ways yet, in a bot of `shard_count` shards.
    pub fn new(shard_count: u32) -> Self {
        let state = State { shard_count, shards: BTreeMap::new() };
        Self { state: Mutex::new(state), encoding: Encoding::Json, added: watch::Sender::new(()) }
    }

    /// To shards whose connections are in this encoding; without it in JSON.
    #[must_use]
    pub fn in_encoding(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// What packets are to be checked for, and sent in.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Makes the way to a shard that starts now: what comes out goes to its driver. A former way to it ends.
    pub fn add(&self, shard: ShardId) -> mpsc::Receiver<Command> {
        let (way, commands) = mpsc::channel(QUEUE);
        self.lock().shards.insert(shard, way);
        self.added.send_replace(());
        commands
    }

    /// Ends the way to a shard that runs here no more.
    pub fn remove(&self, shard: ShardId) {
        self.lock().shards.remove(&shard);
    }

    /// The bot has so many shards from now on.
    pub fn set_shard_count(&self, shard_count: u32) {
        self.lock().shard_count = shard_count;
    }

    /// How many shards the bot has.
    pub fn shard_count(&self) -> u32 {
        self.lock().shard_count
    }

    /// The shard that a guild belongs to.
    pub fn shard_of(&self, guild_id: u64) -> ShardId {
        ShardId::of_guild(guild_id, self.shard_count())
    }

    /// Hands over a packet as it goes out, checked by [`check`](super::command::check); waits while the shard's queue is full. What comes back is told once the packet is
    /// written to Discord's socket, and dropped when the shard ends before that.
    ///
    /// # Errors
    /// When the shard does not run here.
    pub async fn send(&self, shard: ShardId, packet: Vec<u8>) -> Result<oneshot::Receiver<()>, NotRun> {
        let way = self.lock().shards.get(&shard).cloned().ok_or(NotRun { shard })?;
        let (written, outcome) = oneshot::channel();
        way.send(Command { packet, written }).await.map_err(|_| NotRun { shard })?;
        Ok(outcome)
    }

    /// Waits until the shard runs here; at once, if it does.
    pub async fn running(&self, shard: ShardId) {
        let mut added = self.added.subscribe();
        // A driver that has ended has closed its way before anybody removes it.
        while self.lock().shards.get(&shard).is_none_or(mpsc::Sender::is_closed) {
            // Never an error: we hold the sender.
            let _ = added.changed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    const SHARD: ShardId = ShardId::new(3);

    #[tokio::test]
    async fn shards_come_and_go() {
        let commands = Commands::new(8);
        assert_eq!(commands.send(SHARD, vec![]).await.err(), Some(NotRun { shard: SHARD }));

        let mut driver = commands.add(SHARD);
        let written = commands.send(SHARD, b"packet".to_vec()).await.expect("it runs");
        let command = driver.recv().await.expect("handed over");
        assert_eq!(command.packet, b"packet");
        command.written.send(()).expect("waited for");
        assert_eq!(written.await, Ok(()));

        let unwritten = commands.send(SHARD, vec![]).await.expect("it runs");
        drop(driver);
        assert!(unwritten.await.is_err(), "the driver ended before");
        assert!(commands.send(SHARD, vec![]).await.is_err(), "even before it is removed");

        let mut again = commands.add(SHARD);
        commands.remove(SHARD);
        assert!(again.recv().await.is_none());
    }

    #[tokio::test]
    async fn who_waits_for_a_shard_is_woken_by_that_one() {
        let commands = Commands::new(8);
        let mut running = pin!(commands.running(SHARD));
        assert!(running.as_mut().now_or_never().is_none());
        let _other = commands.add(ShardId::new(4));
        assert!(running.as_mut().now_or_never().is_none());
        drop(commands.add(SHARD));
        assert!(running.as_mut().now_or_never().is_none(), "it has ended already");
        let _driver = commands.add(SHARD);
        running.await;
        commands.running(SHARD).await;
    }

    #[test]
    fn the_count_decides_where_a_guild_belongs() {
        let commands = Commands::new(16);
        // 41771983423143937 >> 22 is 9959216934, and that modulo 16 is 6.
        let guild = 41_771_983_423_143_937;
        assert_eq!(commands.shard_of(guild), ShardId::new(6));
        assert_eq!(commands.shard_of(u64::MAX), ShardId::new(15));
        commands.set_shard_count(1);
        assert_eq!((commands.shard_count(), commands.shard_of(guild)), (1, ShardId::new(0)));
    }
}
