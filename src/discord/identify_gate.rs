//! The identify gate of this process: shards ask, and are let through as [`IdentifyQueue`] says.
//!
//! A shard waits for its turn by a future; dropping the future withdraws. One task, owned by the service, lets through.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::identify_queue::IdentifyQueue;
use super::ids::ShardId;
use super::rest_types::SessionStartLimit;

/// The gate, shared by all shards of the process.
#[derive(Clone, Debug)]
pub struct IdentifyGate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    queue: IdentifyQueue,
    waiting: HashMap<ShardId, oneshot::Sender<()>>,
}

impl IdentifyGate {
    /// A gate that lets through by these rules.
    pub fn new(queue: IdentifyQueue) -> Self {
        let state = Mutex::new(State { queue, waiting: HashMap::new() });
        Self { shared: Arc::new(Shared { state, changed: Notify::new() }) }
    }

    /// Waits for the shard's turn. The identify is to be sent at once; it is counted whether it is sent or not.
    pub async fn turn(&self, shard: ShardId) {
        let (granted, turn) = oneshot::channel();
        let _withdrawal = {
            let mut state = self.state();
            state.queue.ask(shard);
            state.waiting.insert(shard, granted);
            Withdrawal { gate: self, shard }
        };
        self.shared.changed.notify_one();
        if turn.await.is_err() {
            // Another waiter of the same shard took this one's place; a shard has one driver, and it dropped this future.
            std::future::pending::<()>().await;
        }
    }

    /// How many sessions may still be started before the limit is reset.
    pub fn remaining(&self) -> u32 {
        self.state().queue.remaining()
    }

    /// Takes the limit as Discord just told it.
    pub fn refresh(&self, limit: SessionStartLimit) {
        self.state().queue.refresh(limit, Instant::now());
        self.shared.changed.notify_one();
    }

    /// Lets shards through until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut told_until = None;
        loop {
            let now = Instant::now();
            let deadline = {
                let mut state = self.state();
                while let Some(shard) = state.queue.poll(now) {
                    if let Some(granted) = state.waiting.remove(&shard) {
                        // A waiter that has gone wasted its turn: Discord may have seen the identify.
                        let _ = granted.send(());
                    }
                }
                let exhausted = state.queue.exhausted_until(now).filter(|_| state.queue.waiting() > 0);
                if exhausted != told_until {
                    told_until = exhausted;
                    if let Some(until) = exhausted {
                        let wait = until - now;
                        warn!(
                            shards = state.queue.waiting(),
                            until = %humane_time(wait),
                            "no session may be started any more (session start limit): shards that must identify wait"
                        );
                    }
                }
                state.queue.deadline()
            };
            let sleep = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.shared.changed.notified() => {}
                () = sleep => {}
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wall-clock moment `wait` from now, for people.
fn humane_time(wait: Duration) -> String {
    let at = crate::clock::unix_millis() / 1000 + wait.as_secs();
    let (hours, minutes, seconds) = (at / 3600 % 24, at / 60 % 60, at % 60);
    let minutes_left = wait.as_secs().div_ceil(60);
    format!("{hours:02}:{minutes:02}:{seconds:02} UTC, in {} h {} min", minutes_left / 60, minutes_left % 60)
}

/// Takes the shard out of the queue when its future is dropped, granted or not.
struct Withdrawal<'a> {
    gate: &'a IdentifyGate,
    shard: ShardId,
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.queue.withdraw(self.shard);
        state.waiting.remove(&self.shard);
    }
}
