//! The publisher as shards see it: a cheap handle on the outbox.
//!
//! A publish appends to the outbox and, if nobody did since the driver last looked, wakes the driver. It never waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::codec::publish::{Message, Unpublishable};
use super::outbox::{Outbox, OutboxCounters, Window};
use crate::broker::{BrokerState, Position};
use crate::cluster::fence::Fence;
use crate::discord::ids::ShardId;

/// The publisher's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// What went through the outbox.
    pub outbox: OutboxCounters,
    /// Messages not settled now.
    pub unconfirmed: usize,
    /// The bytes that are kept for them.
    pub unconfirmed_bytes: usize,
    /// When a message was given up last, in Unix milliseconds.
    pub last_abandoned: Option<u64>,
    /// Mandatory messages that no queue took.
    pub returned: u64,
    /// Connections made, the first included.
    pub connections: u64,
    /// From the write of a recent message to the reading of its confirm; confirms are read a few times in 100 ms only.
    pub confirm_latency: Option<Duration>,
}

/// What handle and driver share.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// Tells the driver that there is something to write, or that somebody waits.
    pub(super) work: Notify,
    /// Tells those that wait that something was settled.
    pub(super) progress: Notify,
    /// How many wait.
    waiting: AtomicUsize,
    pub(super) state: watch::Sender<BrokerState>,
    /// While it is closed, no message is begun.
    pub(super) fence: Fence,
}

/// The outbox, and what is counted beside it.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) outbox: Outbox,
    /// The driver was told and did not look yet.
    pub(super) told: bool,
    pub(super) last_abandoned: Option<u64>,
    pub(super) returned: u64,
    pub(super) connections: u64,
    pub(super) confirm_latency: Option<Duration>,
}

impl Shared {
    pub(super) fn new(window: Window, fence: Fence) -> Self {
        let queue = Queue {
            outbox: Outbox::new(window),
            told: false,
            last_abandoned: None,
            returned: 0,
            connections: 0,
            confirm_latency: None,
        };
        Self {
            queue: Mutex::new(queue),
            work: Notify::new(),
            progress: Notify::new(),
            waiting: AtomicUsize::new(0),
            state: watch::Sender::new(BrokerState::Disconnected),
            fence,
        }
    }

    /// A panic under this lock is a bug that its task reports; the others go on with what there is.
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn somebody_waits(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// Publishes messages; clones share one connection.
#[derive(Clone, Debug)]
pub struct Publisher {
    pub(super) shared: Arc<Shared>,
}

impl Publisher {
    /// Takes a message, copies its body and wakes the driver. To be called only while [`has_room`](Self::has_room): the
    /// window is bounded by its callers' asking.
    ///
    /// # Errors
    /// When the message cannot be put into AMQP's frames; nothing was taken then.
    pub fn publish(&self, message: &Message<'_>) -> Result<Position, Unpublishable> {
        let mut queue = self.shared.lock();
        let position = queue.outbox.push(message)?;
        let told = std::mem::replace(&mut queue.told, true);
        drop(queue);
        if !told {
            self.shared.work.notify_one();
        }
        Ok(position)
    }

    /// Everything before this is settled: confirmed, or given up and told to the [`Observer`](super::Observer).
    pub fn settled(&self) -> Position {
        self.shared.lock().outbox.settled()
    }

    /// Whether another message may be published.
    pub fn has_room(&self) -> bool {
        self.shared.lock().outbox.has_room()
    }

    /// Waits until there is room; woken when a good part of the window is free, so that it is not for one message only.
    pub async fn room(&self) {
        if !self.has_room() {
            self.wait_until(Outbox::has_ample_room).await;
        }
    }

    /// Waits until all that was published before the call is settled. It may take for ever: set a time limit.
    pub async fn flushed(&self) {
        let end = self.shared.lock().outbox.end();
        self.wait_until(|outbox| outbox.settled() >= end).await;
    }

    /// Forgets what is not confirmed of a shard, for another process has it: it is settled, and not written again.
    pub fn discard(&self, shard: ShardId) {
        self.shared.lock().outbox.discard(shard.get());
        self.shared.progress.notify_waiters();
    }

    /// How the connection is.
    pub fn state(&self) -> BrokerState {
        *self.shared.state.borrow()
    }

    /// How the connection is, to be awaited.
    pub fn watch_state(&self) -> watch::Receiver<BrokerState> {
        self.shared.state.subscribe()
    }

    /// The numbers.
    pub fn counters(&self) -> Counters {
        let queue = self.shared.lock();
        Counters {
            outbox: queue.outbox.counters(),
            unconfirmed: queue.outbox.unsettled(),
            unconfirmed_bytes: queue.outbox.held(),
            last_abandoned: queue.last_abandoned,
            returned: queue.returned,
            connections: queue.connections,
            confirm_latency: queue.confirm_latency,
        }
    }

    async fn wait_until(&self, reached: impl Fn(&Outbox) -> bool) {
        let waiting = Waiting::new(&self.shared);
        loop {
            let mut progress = std::pin::pin!(self.shared.progress.notified());
            // In line before the look: what is settled after it is not missed.
            progress.as_mut().enable();
            if reached(&self.shared.lock().outbox) {
                drop(waiting);
                return;
            }
            progress.await;
        }
    }
}

/// One that waits; the driver reads confirms as they come while there is any.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        shared.work.notify_one();
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
