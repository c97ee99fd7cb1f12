//! Leases: owning shard *n* is holding the exclusive consumer on `G:<n>` (spec/cluster.md, "Leases").
//!
//! [`Leases`] is a cheap handle that asks; [`LeasesDriver::run`] owns the consumers, keeps the fence alive and tells all that
//! becomes of the leases as [`LeaseEvent`]s, in the one order in which it happened. The commands that come with the leases are
//! [`Delivery`]s of a channel of their own.

mod attempt;
mod driver;
mod held;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::admin::Admin;
use super::delivery::Delivery;
use super::error::AdminError;
use super::topology::{Queue, consumers_of, declare_all};
use crate::cluster::fence::Fence;
use crate::discord::ids::ShardId;

/// Deliveries on their way to whoever carries commands out. Each shard has one at most, the rest waits at the driver.
const DELIVERIES: usize = 32;
/// Events on their way; while they are not taken, the driver begins nothing that would tell more.
const EVENTS: usize = 16;

/// What became of leases. Told in order: what was granted before a connection was lost comes before [`Disconnected`].
///
/// [`Disconnected`]: LeaseEvent::Disconnected
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// The connection is up: leases can be asked for.
    Connected,
    /// The connection is lost, and all leases with it.
    Disconnected,
    /// The answer to [`Leases::acquire`], one for each. What is in neither is as it was, and may be asked for again: the attempt
    /// failed (the log says why), or the connection was lost meanwhile or is down.
    Acquired {
        /// Ours from now on.
        granted: Vec<ShardId>,
        /// Another has them, or their queue excludes nobody, which is in the log.
        refused: Vec<ShardId>,
    },
    /// The answer to [`Leases::release`]: what was held is back in its queue, and another may take the lease.
    Released(ShardId),
    /// These are ours no more, though the connection stands: their queue was deleted, or their channel closed.
    Lost(Vec<ShardId>),
}

/// A handle that asks for leases and gives them back. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leases {
    admin: Admin,
    group: Arc<str>,
    requests: Arc<Requests>,
}

/// What was asked and not begun: sets of shards, so that it is bounded by their number.
#[derive(Debug, Default)]
struct Requests {
    asked: Mutex<Asked>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Asked {
    acquire: Option<BTreeSet<ShardId>>,
    release: BTreeSet<ShardId>,
}

/// Holds the leases: to be run by whoever owns the task.
#[derive(Debug)]
pub struct LeasesDriver {
    leases: Leases,
    fence: Fence,
    events: mpsc::Sender<LeaseEvent>,
    deliveries: mpsc::Sender<Delivery>,
}

/// The ends at which leases are told of.
#[derive(Debug)]
pub struct LeaseReceivers {
    /// What becomes of the leases.
    pub events: mpsc::Receiver<LeaseEvent>,
    /// The commands of the shards that we hold, one of each shard at a time.
    pub deliveries: mpsc::Receiver<Delivery>,
}

impl Leases {
    /// The leases of a group over the connection `consumption`, which publishes nothing. The fence is closed when it is lost.
    pub fn new(consumption: Admin, group: &str, fence: Fence) -> (Self, LeasesDriver, LeaseReceivers) {
        let (to_events, events) = mpsc::channel(EVENTS);
        let (to_deliveries, deliveries) = mpsc::channel(DELIVERIES);
        let leases = Self { admin: consumption, group: group.into(), requests: Arc::default() };
        let driver = LeasesDriver { leases: leases.clone(), fence, events: to_events, deliveries: to_deliveries };
        (leases, driver, LeaseReceivers { events, deliveries })
    }

    /// Asks for leases: their queues are declared and bound, and consumed where nobody does. Answered by one
    /// [`LeaseEvent::Acquired`]; what is asked before that is asked of RabbitMQ after it.
    pub fn acquire(&self, shards: &[ShardId]) {
        self.requests.ask(|asked| asked.acquire.get_or_insert_default().extend(shards));
    }

    /// Gives a lease back, and what was delivered and not settled, to the place where it was (a quorum queue, if a worker made it
    /// one, may put it behind). Answered by [`LeaseEvent::Released`], also for a lease that is not held.
    pub fn release(&self, shard: ShardId) {
        self.requests.ask(|asked| _ = asked.release.insert(shard));
    }

    /// Which of these have a consumer, be it ours or another's: cheaper than to ask for them and be refused.
    ///
    /// # Errors
    /// What RabbitMQ said; nothing is known then.
    pub async fn held_by_anyone(&self, shards: &[ShardId]) -> Result<BTreeSet<ShardId>, AdminError> {
        let queues: Vec<Queue> = shards.iter().map(|shard| Queue::commands(&self.group, *shard)).collect();
        let consumers = match consumers_of(&self.admin, &queues).await {
            Err(AdminError::NotFound { .. }) => {
                let declared = declare_all(&self.admin, &self.group, &queues).await?;
                declared.into_iter().map(|declared| declared.consumers).collect()
            }
            looked => looked?,
        };
        Ok(shards.iter().zip(consumers).filter(|(_, consumers)| *consumers > 0).map(|(shard, _)| *shard).collect())
    }
}

impl Requests {
    /// What was asked since it was last taken; without `may_acquire` what is to be acquired is left for later.
    fn take(&self, may_acquire: bool) -> Asked {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let acquire = if may_acquire { asked.acquire.take() } else { None };
        Asked { acquire, release: std::mem::take(&mut asked.release) }
    }

    fn ask(&self, ask: impl FnOnce(&mut Asked)) {
        ask(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }
}

impl LeasesDriver {
    /// Holds leases until `stop`, then gives all back.
    pub async fn run(self, stop: CancellationToken) {
        driver::run(self, stop).await;
    }
}
