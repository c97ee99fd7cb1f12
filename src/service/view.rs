//! What can be seen of a running service: health now, whatever shows more later. Written by the service, read by anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::amqp::admin::Admin;
use crate::amqp::publisher::{Counters, Publisher};
use crate::amybot::bridge::{AskError, Bridge};
use crate::amybot::internal::{Internal, InternalAnswer};
use crate::broker::{Broker, BrokerState};
use crate::clock::unix_millis;
use crate::cluster::fence::Fence;
use crate::cluster::node::NodeId;
use crate::discord::ids::ShardId;
use crate::discord::session::State;
use crate::discord::shard::status::Status;
use crate::http::{ClientsError, Health, Lookout, Services, ShardHealth, Snapshot};
use crate::seen::Whole;
use crate::seen::clients::{ClientsAnswer, ClientsQuestion, Nerve};

/// What can be seen of a running service.
#[derive(Default)]
pub struct View {
    shards: Mutex<BTreeMap<ShardId, Arc<Status>>>,
    /// What is missing before shards can start, or instead of shards, in words.
    missing: Mutex<Missing>,
    pub(super) broker: OnceLock<Arc<dyn Broker>>,
    pub(super) publisher: OnceLock<Publisher>,
    pub(super) admin: OnceLock<Admin>,
    /// Where leases are held.
    pub(super) fence: OnceLock<Fence>,
    /// The way to the coordinator of amybot's services.
    pub(super) amybot: OnceLock<Bridge>,
    /// How all processes are.
    pub(super) lookout: OnceLock<Arc<dyn Lookout>>,
    /// Who knows 신경's clients, if they are served here.
    pub(super) nerve: OnceLock<Arc<dyn Nerve>>,
    pub(super) stopping: CancellationToken,
}

#[derive(Default)]
struct Missing {
    /// Set once it is known which shards are to run here, be it none.
    joined: bool,
    /// Why the process waits with it.
    waits_for: Option<String>,
    /// Shards that are to run here and are held elsewhere, in words.
    held: BTreeMap<ShardId, String>,
}

impl View {
    /// The publishing connection's numbers, once there is one.
    pub fn publisher(&self) -> Option<Counters> {
        self.publisher.get().map(Publisher::counters)
    }

    /// The shards that run here now, in order.
    pub fn shards(&self) -> Vec<Arc<Status>> {
        lock(&self.shards).values().cloned().collect()
    }

    pub(super) fn shard_starts(&self, status: &Arc<Status>) {
        let shard = status.shard().id();
        lock(&self.shards).insert(shard, status.clone());
        lock(&self.missing).held.remove(&shard);
    }

    pub(super) fn shard_left(&self, shard: ShardId) {
        lock(&self.shards).remove(&shard);
    }

    /// It is known which shards are to run here.
    pub(super) fn joined(&self) {
        let mut missing = lock(&self.missing);
        missing.joined = true;
        missing.waits_for = None;
    }

    /// The process cannot run shards yet, or for now, for this reason.
    pub(super) fn waits_for(&self, reason: String) {
        *lock(&self.missing) = Missing { waits_for: Some(reason), ..Missing::default() };
    }

    /// These shards run elsewhere, as they are to.
    pub(super) fn run_elsewhere(&self, shards: &BTreeSet<ShardId>) {
        lock(&self.missing).held.retain(|shard, _| !shards.contains(shard));
    }

    /// A shard that is to run here is held by another process.
    pub(super) fn held(&self, shard: ShardId, by: String) {
        lock(&self.missing).held.insert(shard, by);
    }
}

impl Health for View {
    fn snapshot(&self) -> Snapshot {
        let shards: Vec<ShardHealth> = self
            .shards()
            .iter()
            .map(|status| {
                let now = status.now();
                ShardHealth {
                    id: status.shard().id(),
                    state: if now.paused { "waiting for the broker" } else { word(now.state) },
                    connected: now.state == State::Connected,
                }
            })
            .collect();
        // Without a bot nobody publishes events, and the connection for what is small tells how RabbitMQ is.
        let broker = match (self.broker.get(), self.admin.get()) {
            (Some(broker), _) => broker.state(),
            (None, Some(admin)) if admin.is_taking_messages() => BrokerState::Connected,
            (None, _) => BrokerState::Disconnected,
        };
        // RabbitMQ tells a connection of an alarm only once it publishes; the other one may have heard of it before.
        let blocked = self.admin.get().is_some_and(Admin::is_blocked)
            && (broker == BrokerState::Connected || self.broker.get().is_none());
        let mut also_missing = Vec::new();
        {
            let missing = lock(&self.missing);
            if missing.joined {
                if self.fence.get().is_some_and(|fence| !fence.is_open(Instant::now())) {
                    also_missing.push("its leases are in doubt, and nothing is published".to_owned());
                }
            } else {
                also_missing.push(missing.waits_for.clone().unwrap_or_else(|| "no shard is started yet".to_owned()));
            }
            also_missing.extend(missing.held.iter().map(|(shard, by)| format!("shard {shard} is held by {by}")));
        }
        if self.stopping.is_cancelled() {
            also_missing.push("it is stopping".to_owned());
        }
        Snapshot { shards, broker: if blocked { BrokerState::Blocked } else { broker }, also_missing }
    }
}

impl Services for View {
    fn ask(&self, what: Internal) -> BoxFuture<'static, Result<InternalAnswer, AskError>> {
        let bridge = self.amybot.get().cloned();
        Box::pin(async move { bridge.ok_or(AskError::Off)?.ask(what).await })
    }
}

impl Lookout for View {
    fn look(&self) -> watch::Receiver<Arc<Whole>> {
        let unknown = || {
            let here = NodeId::of_run("", 0);
            let whole = Whole { at: unix_millis(), here, processes: Vec::new(), history: Arc::default() };
            // Its end is told at once: who looks comes back.
            watch::Sender::new(Arc::new(whole)).subscribe()
        };
        self.lookout.get().map_or_else(unknown, |lookout| lookout.look())
    }

    fn clients(&self, question: ClientsQuestion) -> BoxFuture<'static, Result<ClientsAnswer, ClientsError>> {
        match self.lookout.get() {
            Some(lookout) => lookout.clients(question),
            None => Box::pin(std::future::ready(Err(ClientsError::NoAnswer))),
        }
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Disconnected { .. } => "disconnected",
        State::Connecting => "connecting",
        State::AwaitingHello => "awaiting hello",
        State::AwaitingIdentify => "waiting to identify",
        State::Identifying => "identifying",
        State::Resuming => "resuming",
        State::Connected => "connected",
        State::Suspended => "suspended",
        State::Ended => "ended",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
