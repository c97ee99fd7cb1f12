//! What carries clients' dispatches: into RabbitMQ, and out of it to the clients, processes and shards that they are for.
//!
//! ```text
//! Dispatcher ── queueing    the seam to queues, which take a part of the dispatches
//! Router ── dispatches      our clients' SEND, BROADCAST and others, published
//! RouterDriver
//!    ├───── arrivals        what comes out of RabbitMQ, routed
//!    │      receivers       to whom; split: by process; recent: what came twice
//!    ├───── commands        messages to the gateway, and their outcome
//!    └───── told, aside     what senders hear; what nobody can do anything with
//! ```
//!
//! The bodies are read by `envelope`, the headers by `origin` and `parcel`.

mod arrivals;
mod aside;
mod backlog;
mod commands;
mod dispatches;
mod envelope;
mod exchange;
mod mail;
mod origin;
mod parcel;
mod probes;
mod queueing;
mod receivers;
mod recent;
mod split;
mod targets;
mod told;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use self::arrivals::Source;
use self::backlog::Backlog;
use self::commands::Asker;
use self::mail::Mail;
use self::origin::Op;
use self::probes::Probes;
pub use self::queueing::{Dispatcher, Forwarded, Queueing};
use self::recent::Recent;
use self::targets::Targets;
use super::exchange::Later;
use super::hub::Hub;
use super::limits::Limits;
use super::waiting::Waiting;
use crate::amqp::admin::Admin;
use crate::amqp::consumer::Consumer;
use crate::amqp::delivery::Delivery;
use crate::amqp::messenger::Messenger;
use crate::amqp::replies::{Replies, RepliesDriver, ReplyEvent};
use crate::amqp::topology::Queue;
use crate::spectacles::tally::Count;

/// So many messages of each queue are under way here at a time: more than wait for one client at most
/// ([`MOST_WAITING`](super::outbox::MOST_WAITING)), so that one that does not read holds up no other.
const PREFETCH: u16 = 1024;
/// So many more of our own queue are queues' messages that found nobody who asks for them any more, and are parked.
const PARKED: u16 = 1024;
/// So many messages are published at a time, each way.
const LANES: usize = 32;
/// So often a message is routed that could not be delivered.
const MOST_TRIES: u32 = 6;
/// Between two looks at what changes in a moment.
const PAUSE: Duration = Duration::from_millis(100);
/// Whose time is up is looked for so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// At the end, for what is under way.
const GOODBYE: Duration = Duration::from_secs(2);

/// A handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Router(Arc<Shared>);

/// Routes what comes out of RabbitMQ: to be run by whoever owns the task.
#[derive(Debug)]
pub struct RouterDriver {
    shared: Arc<Shared>,
    consumers: [Consumer; 3],
    deliveries: [mpsc::Receiver<Delivery>; 3],
    replies: RepliesDriver,
    outcomes: mpsc::Receiver<ReplyEvent>,
}

#[derive(Debug)]
struct Shared {
    group: String,
    hub: Arc<Hub>,
    /// For what our clients dispatch.
    dispatches: Mail,
    /// How much of that is kept in memory now.
    backlog: Backlog,
    /// For a connection's dispatches, one after the other.
    turns: [tokio::sync::Mutex<()>; LANES],
    /// For all else.
    mail: Mail,
    targets: Mutex<Targets>,
    replies: Replies,
    waiting: Mutex<Waiting<Asker>>,
    recent: Recent,
    /// Since when messages to clients are taken; none while they are not.
    consuming: watch::Receiver<Option<Instant>>,
    /// The same of our own queue.
    reached: watch::Receiver<Option<Instant>>,
    /// Our clients are being closed: what is not theirs by now is for others.
    ending: CancellationToken,
    probes: Probes,
    aside: Mutex<Count>,
}

impl Router {
    /// A handle and the driver that it needs, for the clients of `hub`.
    pub fn new(
        group: &str,
        hub: Arc<Hub>,
        limits: &Limits,
        administration: &Admin,
        consumption: &Admin,
    ) -> (Self, RouterDriver) {
        let mail = || Mail::new(Messenger::with_lanes(administration.clone(), LANES), group);
        // What queues' messages are there for clients of ours is kept until they acknowledge it: each asked for one, and none
        // of those may keep sends and probes from coming.
        let asked_for = u16::try_from(limits.connections).unwrap_or(u16::MAX);
        let own = PREFETCH.saturating_add(PARKED).saturating_add(asked_for);
        let queues = [
            (Queue::singyeong_send(group), PREFETCH),
            (Queue::singyeong_broadcast(group), PREFETCH),
            (Queue::singyeong(group, hub.own()), own),
        ];
        let (consumers, deliveries): (Vec<_>, Vec<_>) =
            queues.map(|(queue, prefetch)| Consumer::new(consumption.clone(), queue, prefetch)).into_iter().unzip();
        let consumers: [Consumer; 3] = consumers.try_into().expect("of three queues");
        let [consuming, _, reached] = consumers.each_ref().map(Consumer::consuming);
        let (replies, replies_driver, outcomes) = Replies::new(consumption.clone());
        let shared = Arc::new(Shared {
            group: group.to_owned(),
            hub,
            dispatches: mail(),
            backlog: Backlog::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            mail: mail(),
            targets: Mutex::new(Targets::new(limits.query_depth)),
            replies,
            waiting: Mutex::default(),
            recent: Recent::default(),
            consuming,
            reached,
            ending: CancellationToken::new(),
            probes: Probes::default(),
            aside: Mutex::default(),
        });
        let driver = RouterDriver {
            shared: shared.clone(),
            consumers,
            deliveries: deliveries.try_into().expect("of three queues"),
            replies: replies_driver,
            outcomes,
        };
        (Self(shared), driver)
    }

    /// How many messages between clients were set aside.
    pub fn set_aside(&self) -> u64 {
        self.0.aside.lock().unwrap_or_else(PoisonError::into_inner).total()
    }

    /// Waits until other processes reach this one, for the first time: before they hear of our clients.
    pub async fn is_reached(&self) {
        let mut reached = self.0.reached.clone();
        // Without its driver nobody ever reaches it.
        if reached.wait_for(Option::is_some).await.is_err() {
            std::future::pending().await
        }
    }
}

impl RouterDriver {
    /// Takes what other processes send, and routes messages once it is known whom the other processes have; hands to `queues`
    /// what is for them.
    ///
    /// From `intake` on our clients are being closed: no message is taken that others or our next start can take. What is on
    /// its way to our clients goes on until `stop`, is then settled within a bound, and the rest given back.
    pub async fn run(self, queues: Arc<dyn Queueing>, intake: CancellationToken, stop: CancellationToken) {
        let Self { shared, consumers, deliveries, replies, mut outcomes } = self;
        let end = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let [sends, broadcasts, own] = consumers;
        tasks.spawn(own.run(end.clone()));
        tasks.spawn(replies.run(end.clone()));
        for consumer in [sends, broadcasts] {
            let (hub, intake, end) = (shared.hub.clone(), intake.clone(), end.clone());
            tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = end.cancelled() => return,
                    () = hub.knows_others() => {}
                }
                consumer.run_until(intake, end).await;
            });
        }
        let [mut sends, mut broadcasts, mut own] = deliveries;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = UnderWay::new();
        loop {
            let begun: Later<()> = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = intake.cancelled(), if !shared.ending.is_cancelled() => {
                    shared.ending.cancel();
                    continue;
                }
                Some(ended) = tasks.join_next() => {
                    ended.expect("a consumer does not panic");
                    break;
                }
                Some(()) = under_way.next() => continue,
                Some(event) = outcomes.recv() => Box::pin(shared.clone().outcome(event)),
                Some(parcel) = own.recv() => match arrivals::for_queues(parcel) {
                    Ok(forwarded) => {
                        queues.forwarded(forwarded);
                        continue;
                    }
                    Err(parcel) => Box::pin(shared.clone().take(Source::Own, *parcel)),
                },
                Some(send) = sends.recv() => Box::pin(shared.clone().route(Op::Send, send)),
                Some(broadcast) = broadcasts.recv() => Box::pin(shared.clone().route(Op::Broadcast, broadcast)),
                _ = looks.tick() => Box::pin(shared.clone().expire()),
            };
            begin(begun, &mut under_way);
        }
        shared.ending.cancel();
        // What is not taken any more goes back with its consumer.
        let settled = async { while under_way.next().await.is_some() {} };
        let _ = timeout(GOODBYE, settled).await;
        end.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a consumer does not panic");
        }
    }
}

/// What is under way: not more than was delivered, and a little.
type UnderWay = FuturesUnordered<Later<()>>;

/// Begins at once, so that messages are put on their way in the order in which they came.
fn begin(mut later: Later<()>, under_way: &mut UnderWay) {
    if (&mut later).now_or_never().is_none() {
        under_way.push(later);
    }
}

impl Shared {
    /// Takes what everybody takes, unless our clients are being closed.
    async fn route(self: Arc<Self>, op: Op, delivery: Delivery) {
        if self.ending.is_cancelled() {
            return delivery.requeue();
        }
        self.take(Source::Shared(op), delivery).await;
    }

    fn targets(&self) -> MutexGuard<'_, Targets> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<Asker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a message that is set aside; when the log is to tell of it, how many more there were.
    fn count_aside(&self) -> Option<u64> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now())
    }
}
