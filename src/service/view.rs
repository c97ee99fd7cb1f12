//! What can be seen of a running service: where its parts leave what they count. Written by the service, read by anybody;
//! [`Observer`](super::observer::Observer) makes reports of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::queues::QueueBook;
use crate::amqp::admin::Admin;
use crate::amqp::publisher::{Counters, Publisher};
use crate::amybot::bridge::{AskError, Bridge};
use crate::amybot::internal::{Internal, InternalAnswer};
use crate::amybot::proxy::Counts;
use crate::broker::{Broker, BrokerState, GapCounts};
use crate::cluster::fence::Fence;
use crate::discord::identify_gate::IdentifyGate;
use crate::discord::ids::ShardId;
use crate::discord::session::State;
use crate::discord::shard::status::Status;
use crate::discord::shard::status::names::{self, NameId};
use crate::http::{Health, Services, ShardHealth, Snapshot};
use crate::seen::clients::Nerve;
use crate::seen::report::QueueReport;
use crate::singyeong::hub::Hub;
use crate::singyeong::outbound;
use crate::singyeong::router::Router;
use crate::spectacles::demand::Demand;
use crate::spectacles::events::Events;
use crate::spectacles::post::Post;

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
    /// Who knows 신경's clients, if they are served here.
    pub(super) nerve: OnceLock<Arc<dyn Nerve>>,
    /// What was passed on between them by this process.
    pub(super) proxied: OnceLock<Counts>,
    pub(super) events: OnceLock<Arc<Events>>,
    /// Gaps told, by whatever carries events.
    pub(super) gaps: OnceLock<GapCounts>,
    pub(super) demand: OnceLock<Arc<Mutex<Demand>>>,
    /// Where shards wait to identify.
    pub(super) gate: OnceLock<IdentifyGate>,
    /// What becomes of workers' commands.
    pub(super) post: OnceLock<Arc<Post>>,
    /// 신경's server: who is connected, and what carries their messages.
    pub(super) singyeong: OnceLock<(Arc<Hub>, Router)>,
    /// What goes to another 신경 server.
    pub(super) outbound: OnceLock<Arc<outbound::Counters>>,
    /// How many shards the bot has over all processes; 0: not known.
    shard_count: AtomicU32,
    /// Queues that were looked at lately.
    queues: QueueBook,
    /// What shards counted that run here no more.
    former: Mutex<Totals>,
    pub(super) stopping: CancellationToken,
}

/// What all shards counted together, those included that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Events received, by the numbers of their names.
    pub events: Box<[u64]>,
    /// Sessions resumed.
    pub resumes: u64,
    /// Commands written to Discord's sockets,
    pub commands_sent: u64,
    /// and of these, or of those that will be, how many had to wait for Discord's limit.
    pub commands_delayed: u64,
}

impl Default for Totals {
    fn default() -> Self {
        Self { events: [0; names::COUNT].into(), resumes: 0, commands_sent: 0, commands_delayed: 0 }
    }
}

impl Totals {
    fn add(&mut self, shard: &Status) {
        for name in NameId::all() {
            self.events[name.index()] += shard.packets().dispatches(name);
        }
        self.resumes += shard.history().resumes;
        self.commands_sent += shard.commands_sent();
        self.commands_delayed += shard.commands_delayed();
    }
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

    /// What the shards of this process counted together since it began.
    pub fn totals(&self) -> Totals {
        let shards = lock(&self.shards);
        // Under both locks: a shard that leaves just now counts once.
        let mut totals = lock(&self.former).clone();
        shards.values().for_each(|shard| totals.add(shard));
        totals
    }

    /// How many shards the bot has over all processes; 0 while that is not known.
    pub fn shard_count(&self) -> u32 {
        self.shard_count.load(Ordering::Relaxed)
    }

    /// The queues that were looked at lately.
    pub fn queues(&self) -> Vec<QueueReport> {
        self.queues.latest()
    }

    /// Where that is written down, and who wants to know.
    pub fn queue_book(&self) -> &QueueBook {
        &self.queues
    }

    pub(super) fn set_shard_count(&self, shard_count: u32) {
        self.shard_count.store(shard_count, Ordering::Relaxed);
    }

    pub(super) fn shard_starts(&self, status: &Arc<Status>) {
        let shard = status.shard().id();
        let mut shards = lock(&self.shards);
        if let Some(former) = shards.insert(shard, status.clone()) {
            lock(&self.former).add(&former);
        }
        drop(shards);
        lock(&self.missing).held.remove(&shard);
    }

    pub(super) fn shard_left(&self, shard: ShardId) {
        let mut shards = lock(&self.shards);
        if let Some(former) = shards.remove(&shard) {
            lock(&self.former).add(&former);
        }
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
