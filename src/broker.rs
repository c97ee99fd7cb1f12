//! The seam between shards and whatever carries their events: AMQP in production, standard output without a server.
//!
//! A shard hands an event over and goes on reading; it never waits for one event. What became of the events comes back as
//! one number, the [`Position`] below which everything is settled, read when it is needed and not event by event.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::discord::ids::{Seq, SessionId, Shard, ShardId};
use crate::encoding::Encoding;

/// An event's place in the order in which a broker took events, over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// The `n`-th place, from 0.
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One event, as a shard received it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The shard it came to.
    pub shard: Shard,
    /// The session whose sequence `seq` counts.
    pub session: &'a SessionId,
    /// Its `s`.
    pub seq: Seq,
    /// Its `t`.
    pub name: &'a str,
    /// How Discord wrote `data`.
    pub encoding: Encoding,
    /// Its `d`, byte for byte. A term stands here without the version byte that a term alone begins with.
    pub data: &'a [u8],
}

/// The name, and routing key, under which a [`Gap`] is told.
pub const GAP_EVENT: &str = "OPTIC_GAP";

/// Something was lost for good, and workers are told: the body of an `OPTIC_GAP` message (spec/amqp.md, "Gaps").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The shard that has the gap.
    pub shard: Shard,
    /// Why.
    pub reason: GapReason,
    /// The session that has the gap; its last number below.
    pub old_session: Option<SessionId>,
    /// The session that took its place; none where the session goes on.
    pub new_session: Option<SessionId>,
    /// Every event of the old session up to this one reached the broker, or, for `refused`, the number of the event that did not.
    pub last_committed: Seq,
    /// When the gap began, in Unix milliseconds: the last sign of the old session.
    pub from: u64,
    /// When it ended, in Unix milliseconds.
    pub to: u64,
    /// The one event that was lost, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The number of the rule by which that event was to be forwarded: those have missed it, and not workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
}

/// Why there is a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// Discord refused the resume, or ended the session: op 9 false, 4007, 4009 and the like.
    SessionInvalidated,
    /// The stored session belongs to another shard count, intents or the like, and was not tried.
    SessionNotUsable,
    /// The broker refused an event for a minute (nack), or can never take it: its size, its names.
    Refused,
}

impl GapReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SessionInvalidated, Self::SessionNotUsable, Self::Refused];

    /// Its name for machines, as in the message.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SessionInvalidated => "session_invalidated",
            Self::SessionNotUsable => "session_not_usable",
            Self::Refused => "refused",
        }
    }
}

/// How many gaps were told, by reason: counted where they are published, whoever tells of them. Cheap to clone: all clones count
/// together.
#[derive(Clone, Debug, Default)]
pub struct GapCounts(Arc<[AtomicU64; GapReason::ALL.len()]>);

impl GapCounts {
    /// Counts one.
    pub fn count(&self, reason: GapReason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were for this reason.
    pub fn of(&self, reason: GapReason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }
}

/// How the broker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerState {
    /// Not connected, or not yet.
    Disconnected,
    /// Connected, but the broker takes nothing: memory or disk alarm.
    Blocked,
    /// Connected and taking events.
    Connected,
}

impl fmt::Display for BrokerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "disconnected",
            Self::Blocked => "blocked",
            Self::Connected => "connected",
        })
    }
}

/// A future behind a trait object.
pub type Wait<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What carries events. Shards share one.
pub trait Broker: Send + Sync + 'static {
    /// Takes an event; never waits. `None`: nobody wants it, it is settled.
    ///
    /// To be called only while [`has_room`](Self::has_room): what is in flight is bounded by its caller's asking.
    fn publish(&self, event: &Event<'_>) -> Option<Position>;

    /// Takes the notice of a gap, to be settled like an event.
    fn publish_gap(&self, gap: &Gap) -> Option<Position>;

    /// Forgets what is not confirmed of a shard, and counts it as settled: another process has the shard, and Discord sends it
    /// what was not confirmed.
    fn discard(&self, shard: ShardId);

    /// Everything before this position is settled: confirmed, or given up for good and told as a gap.
    fn settled(&self) -> Position;

    /// Whether another event may be published now.
    fn has_room(&self) -> bool;

    /// Waits until [`has_room`](Self::has_room).
    fn room(&self) -> Wait<'_>;

    /// Waits until everything that was published before the call is settled, or never will be.
    fn flushed(&self) -> Wait<'_>;

    /// How the broker is.
    fn state(&self) -> BrokerState;
}
