//! What others may know of a shard: health, logs, metrics, the page.
//!
//! ```text
//! status    how it is now, and what happened to its connections and sessions
//! packets   what it received and sent, by opcode and name    names: names as small numbers
//! guilds    how many guilds it has
//! ```

pub mod guilds;
pub mod names;
pub mod packets;

use std::mem::discriminant;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::packets::{Count, Packets};
use crate::clock::unix_millis;
use crate::discord::ids::{SessionId, Shard};
use crate::discord::opcode::Opcode;
use crate::discord::session::State;

/// How many heartbeats' latencies are kept.
pub const LATEST_PINGS: usize = 32;

/// A shard's state as others see it. Written by its driver, read by whoever asks.
#[derive(Debug)]
pub struct Status {
    shard: Shard,
    now: Mutex<Now>,
    /// In Unix milliseconds.
    since: AtomicU64,
    history: Mutex<History>,
    pings: Mutex<Pings>,
    packets: Packets,
    guilds: AtomicU64,
    malformed: Count,
    gaps: Count,
    /// In Unix milliseconds; 0: never.
    last_gap: AtomicU64,
    commands_sent: Count,
    commands_delayed: Count,
}

/// A shard at one moment.
#[derive(Clone, Debug)]
pub struct Now {
    /// Where its session stands.
    pub state: State,
    /// The session, if there is one.
    pub session: Option<SessionId>,
    /// From heartbeat to acknowledgement.
    pub latency: Option<Duration>,
    /// Whether the shard does not read because the broker takes no more, or does not connect because its lease is in doubt.
    pub paused: bool,
}

/// What happened to a shard's connections and sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// How often a session was resumed.
    pub resumes: u64,
    /// When that was last, in Unix milliseconds.
    pub last_resume: Option<u64>,
    /// How often a connection ended.
    pub disconnects: u64,
    /// Why the last one did, or the last attempt at one, in words.
    pub last_disconnect: Option<String>,
}

/// How Discord answered heartbeats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pings {
    /// How many it answered.
    pub count: u64,
    /// After how long in all.
    pub sum: Duration,
    latest: [Duration; LATEST_PINGS],
}

/// Stands for a number of guilds that is not known.
const UNKNOWN: u64 = u64::MAX;

impl Status {
    /// A shard that has not begun.
    pub fn new(shard: Shard) -> Self {
        let now = Now { state: State::Suspended, session: None, latency: None, paused: false };
        Self {
            shard,
            now: Mutex::new(now),
            since: AtomicU64::new(unix_millis()),
            history: Mutex::default(),
            pings: Mutex::default(),
            packets: Packets::default(),
            guilds: AtomicU64::new(UNKNOWN),
            malformed: Count::default(),
            gaps: Count::default(),
            last_gap: AtomicU64::new(0),
            commands_sent: Count::default(),
            commands_delayed: Count::default(),
        }
    }

    /// Which shard.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// How it is.
    pub fn now(&self) -> Now {
        lock(&self.now).clone()
    }

    /// Since when its state is what it is, in Unix milliseconds.
    pub fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// What happened to its connections and sessions.
    pub fn history(&self) -> History {
        lock(&self.history).clone()
    }

    /// How its heartbeats were answered.
    pub fn pings(&self) -> Pings {
        lock(&self.pings).clone()
    }

    /// What it received and sent.
    pub fn packets(&self) -> &Packets {
        &self.packets
    }

    /// How many events it received, replays included.
    pub fn events(&self) -> u64 {
        self.packets.total()
    }

    /// How often it identified.
    pub fn identifies(&self) -> u64 {
        self.packets.sent_of(Opcode::Identify)
    }

    /// How many guilds it has, as far as is known.
    pub fn guilds(&self) -> Option<u32> {
        u32::try_from(self.guilds.load(Ordering::Relaxed)).ok()
    }

    /// How often a connection was given up because Discord sent what cannot be read.
    pub fn malformed(&self) -> u64 {
        self.malformed.get()
    }

    /// How often a session's end was told by a gap.
    pub fn gaps(&self) -> u64 {
        self.gaps.get()
    }

    /// When that was last, in Unix milliseconds.
    pub fn last_gap(&self) -> Option<u64> {
        Some(self.last_gap.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// How many commands were written to Discord's socket.
    pub fn commands_sent(&self) -> u64 {
        self.commands_sent.get()
    }

    /// How many of the commands had to wait for Discord's limit on what one connection may send.
    pub fn commands_delayed(&self) -> u64 {
        self.commands_delayed.get()
    }

    // ---- what its driver tells ----

    pub(super) fn set(&self, now: Now) {
        let mut known = lock(&self.now);
        let is_other = discriminant(&known.state) != discriminant(&now.state) || known.paused != now.paused;
        *known = now;
        drop(known);
        if is_other {
            self.since.store(unix_millis(), Ordering::Relaxed);
        }
    }

    pub(super) fn dispatch(&self, name: &str) {
        self.packets.dispatch(name);
    }

    pub(super) fn received(&self, op: u64) {
        self.packets.received(op);
    }

    pub(super) fn sent(&self, op: u64) {
        self.packets.sent(op);
    }

    pub(super) fn acknowledged(&self, latency: Duration) {
        lock(&self.now).latency = Some(latency);
        let mut pings = lock(&self.pings);
        let at = pings.count as usize % LATEST_PINGS;
        pings.latest[at] = latency;
        pings.count += 1;
        pings.sum += latency;
    }

    pub(super) fn resumed(&self) {
        let mut history = lock(&self.history);
        history.resumes += 1;
        history.last_resume = Some(unix_millis());
    }

    /// A connection ended, or, if it `was_open` never, the attempt at one.
    pub(super) fn disconnected(&self, why: String, was_open: bool) {
        let mut history = lock(&self.history);
        history.disconnects += u64::from(was_open);
        history.last_disconnect = Some(why);
    }

    pub(super) fn set_guilds(&self, guilds: Option<u32>) {
        self.guilds.store(guilds.map_or(UNKNOWN, u64::from), Ordering::Relaxed);
    }

    pub(super) fn broken(&self) {
        self.malformed.add();
    }

    pub(super) fn gap(&self) {
        self.gaps.add();
        self.last_gap.store(unix_millis(), Ordering::Relaxed);
    }

    pub(super) fn command_sent(&self) {
        self.commands_sent.add();
    }

    pub(super) fn command_delayed(&self) {
        self.commands_delayed.add();
    }
}

impl Pings {
    /// The latest of them, in no order.
    pub fn latest(&self) -> &[Duration] {
        let kept = usize::try_from(self.count).unwrap_or(usize::MAX).min(LATEST_PINGS);
        &self.latest[..kept]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discord::ids::ShardId;

    #[test]
    fn when_a_gap_was_told_last_is_known() {
        let status = Status::new(Shard::new(ShardId::new(0), 1).expect("one of one"));
        assert_eq!((status.gaps(), status.last_gap()), (0, None));
        let before = unix_millis();
        status.gap();
        assert_eq!(status.gaps(), 1);
        assert!(status.last_gap().is_some_and(|at| at >= before));
    }

    #[test]
    fn of_heartbeats_the_latest_are_kept_and_all_are_counted() {
        let status = Status::new(Shard::new(ShardId::new(0), 1).expect("one of one"));
        assert!(status.pings().latest().is_empty());
        for millis in 1..=40 {
            status.acknowledged(Duration::from_millis(millis));
        }
        let pings = status.pings();
        assert_eq!((pings.count, pings.sum), (40, Duration::from_millis(820)));
        let mut latest: Vec<u128> = pings.latest().iter().map(Duration::as_millis).collect();
        latest.sort_unstable();
        assert_eq!(latest, (9..=40).collect::<Vec<_>>());
        assert_eq!(status.now().latency, Some(Duration::from_millis(40)));
    }
}
