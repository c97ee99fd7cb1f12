//! The process's part in coordinating services: it tries to get the seat, and has the coordinator for as long as it keeps it.
//!
//! ```text
//! Office ─ term ─┬─ books    what comes out of the queues, one after the other, with all that follows from it
//!                ├─ carrier  messages that are passed on, many at a time
//!                └─ rounds   who is still there
//! ```
//!
//! What came is acknowledged only when what follows from it is stored and said. Whatever fails ends the term: the rest goes
//! back to the queues, and whoever gets the seat next, this process or another, begins with what is stored.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::absences::Absences;
use self::books::Books;
use self::carrier::Carrier;
use super::coordinator::{Coordinator, Unrestorable};
use super::optics::Runs;
use super::post::Post;
use super::proxy::Counts;
use crate::amqp::admin::Admin;
use crate::amqp::error::AdminError;
use crate::amqp::messenger::Messenger;
use crate::amqp::seat::{Intake, Seat};
use crate::amqp::topology::{self, Queue};
use crate::cluster::node::NodeId;
use crate::cluster::ranges;
use crate::discord::identify_gate::IdentifyGate;
use crate::discord::ids::ShardId;
use crate::discord::turnstile::Pass;

mod absences;
mod books;
mod carrier;
mod letters;

/// So many messages of the queues that operations come out of are under way at a time, each. RabbitMQ hands out so many whatever
/// their size: it is also the bound of what is in memory.
const PREFETCH: u16 = 128;
/// So many of those that are passed on.
const PROXY_PREFETCH: u16 = 64;
const _: () = assert!(carrier::MOST_HELD < PREFETCH as usize, "there is room for operations beside what is held");
/// So many are published at a time.
const LANES: usize = 16;
/// How often it is looked whether the seat is free. A little by chance, so that not all come in one moment.
const LOOK_FOR_SEAT: Duration = Duration::from_millis(1000);
/// How often it is looked who is still there.
const ROUND: Duration = Duration::from_secs(5);
/// Those who were found gone, on their way to the books.
const FOUND: usize = 64;

/// What the pool is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The group.
    pub group: String,
    /// In how many shards the bot is split; `None`: as another process says, or said.
    pub shard_count: Option<u32>,
    /// This process,
    pub node: NodeId,
    /// and what it runs. What others run, they tell.
    pub runs: watch::Receiver<Runs>,
    /// Where it is kept how many shards Discord lets identify at a time, for whoever paces without a bot; 0: nobody told.
    pub max_concurrency: Arc<AtomicU32>,
}

/// A future behind a trait object.
pub type Turn<'a> = Pin<Box<dyn Future<Output = Pass> + Send + 'a>>;

/// Whose turn it is to identify.
pub trait Turns: Send + Sync + 'static {
    /// Waits for the shard's turn. Asked for a shard at most once at a time.
    fn turn(&self, shard: ShardId) -> Turn<'_>;
}

impl Turns for IdentifyGate {
    fn turn(&self, shard: ShardId) -> Turn<'_> {
        Box::pin(Self::turn(self, shard))
    }
}

/// Coordinates services, while this process has the seat: to be run by whoever owns the task.
#[derive(Debug)]
pub struct Office {
    settings: Settings,
    administration: Admin,
    consumption: Admin,
    counts: Counts,
}

/// Why a term ended, or none began.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum End {
    #[error(transparent)]
    Amqp(#[from] AdminError),
    #[error("{0}; who has which shard is not known without it. Once no service runs, delete the queue \"{1}\"")]
    Unrestorable(Unrestorable, String),
}

/// What the parts of a term share.
struct Term<'a> {
    office: &'a Office,
    turns: &'a dyn Turns,
    seat: &'a Seat,
    post: Post,
    coordinator: Mutex<Coordinator>,
    /// Shards that Optic was found to run beside those it said.
    noticed: Mutex<BTreeSet<ShardId>>,
}

/// What the rounds, and who passes messages on, found out.
#[derive(Debug)]
enum Found {
    /// This queue was gone when so many shards were given.
    Gone { queue: String, given: u64 },
    /// A round is over.
    Round,
    /// Optic is seen to run others than before.
    OpticRuns(BTreeSet<ShardId>),
}

impl Office {
    /// With a connection that publishes, and one that never does.
    pub fn new(settings: Settings, administration: Admin, consumption: Admin) -> Self {
        Self { settings, administration, consumption, counts: Counts::default() }
    }

    /// What was passed on, by this process.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// Coordinates while it has the seat, until `stop`. `turns` paces what is accepted.
    pub async fn run(self, turns: Arc<dyn Turns>, stop: CancellationToken) {
        let (mut last, mut told) = (None, None);
        while !stop.is_cancelled() {
            let why = match stop.run_until_cancelled(self.take_seat()).await {
                None => return,
                Some(Ok(Some((seat, intakes)))) => {
                    let ended = stop.run_until_cancelled(self.term(&seat, intakes, &*turns)).await;
                    // What is not settled goes back.
                    seat.resign().await;
                    ended
                }
                Some(Ok(None)) => None,
                Some(Err(why)) => Some(End::Amqp(why)),
            };
            if let Some(why) = &why {
                match why {
                    // The connection tells of itself.
                    End::Amqp(AdminError::Unreachable(_)) => debug!(%why, "not coordinating services"),
                    // Who had the seat before may have the other queues a moment longer.
                    _ if last.as_ref() != Some(why) => debug!(%why, "not coordinating services"),
                    _ if told.as_ref() == Some(why) => {}
                    End::Amqp(_) => warn!(%why, "not coordinating services, trying on"),
                    End::Unrestorable(..) => error!(%why, "not coordinating services, trying on"),
                }
                if last.as_ref() == Some(why) {
                    told = Some(why.clone());
                }
            }
            last = why;
            let pause = LOOK_FOR_SEAT.mul_f64(0.5 + fastrand::f64());
            let _ = stop.run_until_cancelled(sleep(pause)).await;
        }
    }

    async fn take_seat(&self) -> Result<Option<(Seat, [Intake; 3])>, AdminError> {
        let group = self.settings.group.as_str();
        let queues = [
            (Queue::amybot(group), PREFETCH),
            (Queue::amybot_internal(group), PREFETCH),
            (Queue::amybot_proxy(group), PROXY_PREFETCH),
        ];
        Seat::take(&self.administration, &queues, &Queue::amybot_pool(group)).await
    }

    /// The time in the seat; why it ended.
    async fn term(&self, seat: &Seat, intakes: [Intake; 3], turns: &dyn Turns) -> End {
        let coordinator = match self.coordinator(seat).await {
            Ok(coordinator) => coordinator,
            Err(why) => return why,
        };
        let group = self.settings.group.as_str();
        let (shard_count, free) = (coordinator.shard_count().unwrap_or(0), coordinator.free().len());
        let instances = coordinator.queues().len();
        info!(shard_count, instances, free, "coordinating amybot's services");
        let term = Term {
            office: self,
            turns,
            seat,
            post: Post::new(Messenger::with_lanes(self.administration.clone(), LANES), group),
            coordinator: Mutex::new(coordinator),
            noticed: Mutex::default(),
        };
        term.runs(self.settings.node.clone(), self.settings.runs.borrow().clone());
        let (to_carrier, parcels) = mpsc::channel(2 * usize::from(PREFETCH) + usize::from(PROXY_PREFETCH));
        let (to_books, found) = mpsc::channel(FOUND);
        let carrier = Carrier::new(&term);
        let why = tokio::select! {
            why = Books::new(&term, intakes, found, to_carrier).keep() => why,
            () = carrier.carry(parcels) => unreachable!("the books end before"),
            () = term.rounds(&to_books) => unreachable!("they go on for ever"),
        };
        info!(%why, "not coordinating amybot's services any more");
        why.into()
    }

    async fn coordinator(&self, seat: &Seat) -> Result<Coordinator, End> {
        let Settings { group, shard_count, .. } = &self.settings;
        let Some(record) = seat.stored().await? else { return Ok(Coordinator::new(*shard_count, BTreeSet::new())) };
        let unrestorable = |why| End::Unrestorable(why, Queue::amybot_pool(group).name().to_owned());
        if let (Some(ours), Some(theirs)) = (*shard_count, Coordinator::recorded_count(&record).map_err(unrestorable)?)
            && ours != theirs
        {
            error!(
                AMYBOT_SHARD_COUNT = ours,
                before = theirs,
                "the process that coordinated before had another AMYBOT_SHARD_COUNT: set the same in all; services with shards of before keep them"
            );
        }
        Coordinator::restored(&record, *shard_count, BTreeSet::new()).map_err(unrestorable)
    }
}

impl Term<'_> {
    fn coordinator(&self) -> std::sync::MutexGuard<'_, Coordinator> {
        self.coordinator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn group(&self) -> &str {
        &self.office.settings.group
    }

    /// Looks again and again who is still there, and whether Optic still runs what it was found to run.
    async fn rounds(&self, found: &mpsc::Sender<Found>) {
        let mut ticks = interval(ROUND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut absences = Absences::default();
        loop {
            ticks.tick().await;
            let (queues, given) = {
                let coordinator = self.coordinator();
                (coordinator.queues(), coordinator.given())
            };
            absences.only_of(&queues);
            for queue in queues {
                let presence = match self.presence(&queue).await {
                    Ok(presence) => presence,
                    Err(why) => {
                        debug!(%queue, %why, "whether a service is there is not known");
                        continue;
                    }
                };
                let is_of_clients = self.coordinator().is_of_clients(&queue);
                if absences.is_gone(&queue, presence, is_of_clients, Instant::now()) {
                    // The books live as long as this does.
                    let _ = found.send(Found::Gone { queue, given }).await;
                }
            }
            let _ = found.send(Found::Round).await;
            let noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for shard in noticed {
                if matches!(self.is_run_by_optic(shard).await, Ok(false)) {
                    let optics = self.notice(|noticed| _ = noticed.remove(&shard));
                    let _ = found.send(Found::OpticRuns(optics)).await;
                }
            }
        }
    }

    /// Whether a process of the group has the lease of a shard.
    async fn is_run_by_optic(&self, shard: ShardId) -> Result<bool, AdminError> {
        let commands = Queue::commands(self.group(), shard);
        topology::consumers(&self.office.consumption, &commands).await.map(|consumers| consumers > 0)
    }

    /// All that Optic was found to run, with what changed.
    fn notice(&self, change: impl FnOnce(&mut BTreeSet<ShardId>)) -> BTreeSet<ShardId> {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut noticed);
        noticed.clone()
    }

    /// A process says what it runs.
    fn runs(&self, node: NodeId, runs: Runs) {
        let (shard_count, services) = (runs.shard_count, runs.services);
        let mut coordinator = self.coordinator();
        if !coordinator.runs(node.clone(), runs) {
            return;
        }
        self.keep_concurrency(&coordinator);
        let ours = coordinator.shard_count();
        for (theirs, name) in [(services, "AMYBOT_SHARD_COUNT"), (shard_count, "shard count")] {
            if let (Some(theirs), Some(ours)) = (theirs, ours.filter(|ours| *ours > 0))
                && theirs != ours
            {
                error!(
                    %node, theirs, AMYBOT_SHARD_COUNT = ours,
                    "a process of the group has another {name}: guilds may be missing, or there twice"
                );
            }
        }
        let contested = coordinator.contested();
        if !contested.is_empty() {
            error!(%node, shards = %ranges::to_text(&contested), "Optic runs shards that services have: stop one of both");
        }
    }

    fn round(&self) {
        let mut coordinator = self.coordinator();
        coordinator.round();
        self.keep_concurrency(&coordinator);
    }

    fn keep_concurrency(&self, coordinator: &Coordinator) {
        let max_concurrency = coordinator.max_concurrency().unwrap_or(0);
        self.office.settings.max_concurrency.store(max_concurrency, Ordering::Relaxed);
    }
}
