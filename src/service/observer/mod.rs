//! Makes reports of what the service's parts count, and keeps what happened lately.
//!
//! ```text
//! view        what the parts left ─┐
//! resources   what the process takes ─┴─► observer ─► recent    rates and samples, a look every five seconds
//!                                            │       summary   a line of the log a minute
//!                                            └► report(), samples(), packets() for whoever asks
//! ```
//!
//! While nobody asks, a look costs some microseconds a shard, and nothing else is done.

mod recent;
mod resources;
mod summary;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::recent::{Look, Recent};
use self::resources::Taken;
use self::summary::Summary;
use super::view::{Totals, View};
use crate::broker::{GapCounts, GapReason};
use crate::clock::unix_millis;
use crate::cluster::node::NodeId;
use crate::config::{self, ClusterMode, Config, EventFilter};
use crate::discord::session::State;
use crate::discord::shard::status::names::NameId;
use crate::discord::shard::status::{Now, Status};
use crate::http::Health;
use crate::seen::report::{
    Amybot, Commands, Counted, EventReport, Fate, Forwarding, Identifies, Mode, Proxied, Publishing, RejectedCommand,
    Report, Resources, ShardReport, ShardState, Singyeong, VERSION,
};
use crate::seen::sample::SECONDS;
use crate::seen::{Packets, Reporter, Sample, ShardPackets};
use crate::spectacles::demand::Demand;
use crate::spectacles::route::Kind;

/// Makes reports of this process.
pub struct Observer {
    view: Arc<View>,
    about: About,
    recent: Mutex<Recent>,
}

/// Looks every few seconds: to be run by whoever owns the task.
pub struct Watching {
    observer: Arc<Observer>,
    summary: Summary,
}

/// What stays as it is.
struct About {
    node: NodeId,
    name: String,
    group: String,
    mode: Mode,
    started_at: u64,
    /// The events that are published; none: whatever is consumed.
    listed: Option<HashSet<String>>,
    amybot: bool,
}

impl Observer {
    /// Of the process `node`, whose parts write what they count into `view`.
    pub fn new(view: Arc<View>, config: &Config, node: &NodeId) -> (Arc<Self>, Watching) {
        let (group, mode) = match (&config.broker, &config.discord) {
            (config::Broker::Stdio, _) => (String::new(), Mode::Alone),
            (config::Broker::Amqp(amqp), None) => (amqp.group.as_str().to_owned(), Mode::NoBot),
            (config::Broker::Amqp(amqp), Some(_)) => {
                let mode = match config.cluster.mode {
                    ClusterMode::Static => Mode::Static,
                    ClusterMode::Leased => Mode::Leased,
                };
                (amqp.group.as_str().to_owned(), mode)
            }
        };
        let about = About {
            node: node.clone(),
            name: config.cluster.node.clone(),
            group,
            mode,
            started_at: unix_millis(),
            listed: config.discord.as_ref().and_then(|bot| match &bot.events {
                EventFilter::Auto => None,
                EventFilter::Listed(names) => Some(names.iter().cloned().collect()),
            }),
            amybot: config.amybot.is_some(),
        };
        let observer = Arc::new(Self { view, about, recent: Mutex::new(Recent::new(Instant::now())) });
        (observer.clone(), Watching { observer, summary: Summary::default() })
    }

    /// Looks how things are, at the end of a sample in Unix seconds.
    fn look(&self, end: u64) {
        let shards = self.view.shards();
        let publisher = self.view.publisher();
        let look = Look {
            at: Instant::now(),
            events: self.view.totals().events,
            shards: shards.iter().map(|shard| (shard.shard().id(), shard.events())).collect(),
            cpu_seconds: Taken::now().cpu_seconds,
            unconfirmed: publisher.map_or(0, |counters| u32::try_from(counters.unconfirmed).unwrap_or(u32::MAX)),
            latency_ms: publisher.and_then(|counters| counters.confirm_latency).map(|latency| millis(latency) as f32),
            connected: connected(&shards),
        };
        self.recent().look(end, look);
    }

    fn shard(&self, status: &Status, recent: &Recent) -> ShardReport {
        let (now, history) = (status.now(), status.history());
        let id = status.shard().id();
        ShardReport {
            id: id.get(),
            state: state(&now),
            since: status.since(),
            latency_ms: now.latency.map(millis),
            guilds: status.guilds(),
            events: status.events(),
            rate: recent.shard_rate(id),
            resumes: history.resumes,
            last_resume: history.last_resume,
            identifies: status.identifies(),
            disconnects: history.disconnects,
            last_disconnect: history.last_disconnect,
            gaps: status.gaps(),
            last_gap: status.last_gap(),
            malformed: status.malformed(),
        }
    }

    fn events(&self, counts: &[u64], recent: &Recent) -> Vec<EventReport> {
        let unrouted: BTreeSet<String> =
            self.view.demand.get().map_or_else(BTreeSet::new, |demand: &Arc<Mutex<Demand>>| {
                lock(demand).unrouted().into_iter().map(str::to_owned).collect()
            });
        let fate = |name: &str| match &self.about.listed {
            Some(listed) if !listed.contains(name) => Fate::NotListed,
            _ if unrouted.contains(name) => Fate::NoQueue,
            _ => Fate::Published,
        };
        let seen = NameId::all().filter(|name| counts[name.index()] > 0);
        let mut events: Vec<EventReport> = seen
            .map(|id| {
                let name = id.name();
                let (received, rate) = (counts[id.index()], recent.event_rate(id));
                EventReport { fate: fate(&name), name: name.as_ref().to_owned(), received, rate }
            })
            .collect();
        events.sort_by(|a, b| a.name.cmp(&b.name));
        events
    }

    fn gaps(&self) -> Vec<Counted> {
        let counted =
            |counts: &GapCounts| GapReason::ALL.map(|of| Counted { kind: of.name().to_owned(), count: counts.of(of) });
        self.view.gaps.get().map(counted).into_iter().flatten().collect()
    }

    fn publishing(&self) -> Option<Publishing> {
        let counters = self.view.publisher()?;
        Some(Publishing {
            confirmed: counters.outbox.confirmed,
            refused: counters.outbox.nacked,
            returned: counters.returned,
            abandoned: counters.outbox.abandoned,
            last_abandoned: counters.last_abandoned,
            again: counters.outbox.republished,
            unconverted: self.view.events.get().map_or(0, |events| events.unconverted()),
            unconfirmed: counters.unconfirmed as u64,
            unconfirmed_bytes: counters.unconfirmed_bytes as u64,
            latency_ms: counters.confirm_latency.map(millis),
            connections: counters.connections,
        })
    }

    fn identifies(&self) -> Option<Identifies> {
        let limit = self.view.gate.get()?.limit();
        let until = limit.resets_at.saturating_duration_since(Instant::now());
        Some(Identifies {
            remaining: limit.remaining,
            total: limit.total,
            resets_at: unix_millis() + u64::try_from(until.as_millis()).unwrap_or(u64::MAX / 2),
            max_concurrency: limit.max_concurrency,
            waiting: u32::try_from(limit.waiting).unwrap_or(u32::MAX),
        })
    }

    fn singyeong(&self) -> Option<Singyeong> {
        let (hub, router) = self.view.singyeong.get()?;
        Some(Singyeong {
            clients: hub.connected_here() as u64,
            restricted: hub.restricted_here() as u64,
            set_aside: router.set_aside(),
        })
    }

    fn forwarding(&self) -> Option<Forwarding> {
        let counters = self.view.outbound.get()?;
        Some(Forwarding {
            sent: counters.total_sent(),
            sent_again: counters.total_sent_again(),
            covered: counters.total_covered(),
            set_aside: counters.total_set_aside(),
            no_route: counters.total_no_route(),
            unreadable: counters.total_unreadable(),
            connections: counters.total_connections(),
        })
    }

    fn amybot(&self) -> Option<Amybot> {
        let counts = self.view.proxied.get().map(|counts| counts.listed()).unwrap_or_default();
        let proxied = counts
            .into_iter()
            .map(|pair| Proxied {
                source: pair.source.into(),
                topic: pair.topic.into(),
                delivered: pair.delivered,
                set_aside: pair.set_aside,
            })
            .collect();
        self.about.amybot.then_some(Amybot { proxied })
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        lock(&self.recent)
    }
}

impl Reporter for Observer {
    fn report(&self) -> Report {
        let snapshot = self.view.snapshot();
        let missing = snapshot.missing();
        let totals = self.view.totals();
        let taken = Taken::now();
        let recent = self.recent();
        Report {
            version: VERSION,
            node: self.about.node.clone(),
            name: self.about.name.clone(),
            group: self.about.group.clone(),
            optic: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.about.started_at,
            at: unix_millis(),
            mode: self.about.mode,
            ready: missing.is_empty(),
            missing,
            broker: snapshot.broker.to_string(),
            shard_count: self.view.shard_count(),
            shards: self.view.shards().iter().map(|shard| self.shard(shard, &recent)).collect(),
            events: self.events(&totals.events, &recent),
            gaps: self.gaps(),
            publishing: self.publishing(),
            commands: commands(&self.view, &totals),
            identifies: self.identifies(),
            queues: self.view.queues(),
            singyeong: self.singyeong(),
            forwarding: self.forwarding(),
            amybot: self.amybot(),
            resources: Resources {
                cpu_seconds: taken.cpu_seconds,
                cpu: recent.cpu(),
                resident_bytes: taken.resident_bytes,
            },
        }
    }

    fn samples(&self, after: u64) -> Vec<Sample> {
        self.recent().samples(after)
    }

    fn packets(&self) -> Vec<ShardPackets> {
        // The metrics alone ask for it, and tell of queues, too.
        self.view.queue_book().note_asked();
        self.view.shards().iter().map(|status| packets(status)).collect()
    }
}

impl Watching {
    /// Looks at every multiple of [`SECONDS`] of Unix time, as all processes do, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let step = SECONDS * 1000;
        let after = |millis: u64| (millis / step + 1) * step;
        let mut end = after(unix_millis());
        loop {
            let wait = Duration::from_millis(end.saturating_sub(unix_millis()));
            if stop.run_until_cancelled(sleep(wait)).await.is_none() {
                return;
            }
            self.observer.look(end / 1000);
            self.summary.look(&self.observer, Instant::now());
            // A machine that slept, or whose clock was set, begins anew where it is.
            end = after(unix_millis()).max(end + step).min(after(unix_millis()) + step);
        }
    }
}

fn commands(view: &View, totals: &Totals) -> Commands {
    let mut commands = Commands { sent: totals.commands_sent, delayed: totals.commands_delayed, ..Commands::default() };
    if let Some(post) = view.post.get() {
        let counted = |kind: Kind| Counted { kind: kind.name().to_owned(), count: post.set_aside_for(kind) };
        commands.rejected = Kind::ALL.into_iter().map(counted).filter(|counted| counted.count > 0).collect();
        commands.held_up = post.held_up();
        let told = |last: crate::spectacles::post::LastRejected| RejectedCommand {
            at: last.at,
            source: last.source,
            kind: last.kind.name().to_owned(),
            reason: last.reason,
            bytes: last.bytes as u64,
        };
        commands.last_rejected = post.last_set_aside().into_iter().map(told).collect();
    }
    commands
}

fn packets(status: &Status) -> ShardPackets {
    let (packets, pings) = (status.packets(), status.pings());
    let received = packets.all_received();
    ShardPackets {
        shard: status.shard().id().get(),
        received: received.map(|(op, name, count)| Packets { op, name: name.map(NameId::name), count }).collect(),
        sent: packets.all_sent().map(|(op, count)| Packets { op, name: None, count }).collect(),
        pings: pings.count,
        ping_sum_ms: millis(pings.sum),
        latest_pings_ms: pings.latest().iter().copied().map(millis).collect(),
    }
}

/// How many of them have a session whose events come.
fn connected(shards: &[Arc<Status>]) -> u32 {
    let connected = shards.iter().filter(|shard| state(&shard.now()) == ShardState::Connected).count();
    u32::try_from(connected).unwrap_or(u32::MAX)
}

fn state(now: &Now) -> ShardState {
    match now.state {
        State::Suspended => ShardState::Suspended,
        State::Ended => ShardState::Ended,
        _ if now.paused => ShardState::Paused,
        State::Connected => ShardState::Connected,
        State::Disconnected { .. } => ShardState::Disconnected,
        State::Connecting | State::AwaitingHello => ShardState::Connecting,
        State::AwaitingIdentify => ShardState::Waiting,
        State::Identifying => ShardState::Identifying,
        State::Resuming => ShardState::Resuming,
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
