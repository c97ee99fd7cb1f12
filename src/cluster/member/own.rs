//! This process's own shards: for each, whether its lease is held and what its driver does.

use std::collections::{BTreeMap, BTreeSet};

use crate::discord::ids::ShardId;

/// Where one of our shards is between the broker's lease and its driver.
///
/// ```text
///                granted            stop            stopped         released
///   (not ours) ─────────► Running ───────► Stopping ───────► Releasing ────────► (not ours)
///       ▲                 │     ▲                │               ▲
///       │       lease lost│     │granted         │lease lost     │give back
///       │                 ▼     │                ▼               │
///       │                Doubtful ──refused──► Abandoning      Ended ◄── the driver ended by itself
///       └───────────────────────────────stopped──┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The lease is held, the driver runs.
    Running,
    /// The driver runs, the lease was lost and is being asked for again.
    Doubtful,
    /// The lease is held, the driver was told to hand over.
    Stopping,
    /// The lease is being given back, no driver runs.
    Releasing,
    /// The lease is somebody else's, the driver was told to throw away.
    Abandoning,
    /// The lease is held so that nobody else tries in vain: the driver ended for good.
    Ended,
}

impl State {
    /// Whether others are told that we hold it.
    pub fn is_owned(self) -> bool {
        self != Self::Abandoning
    }

    /// Whether it is part of our share, and not on its way out.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::Running | Self::Doubtful | Self::Ended)
    }

    /// Whether it will be free in a moment.
    pub fn is_leaving(self) -> bool {
        matches!(self, Self::Stopping | Self::Releasing)
    }
}

/// All shards of ours.
#[derive(Debug, Default)]
pub(super) struct Own {
    states: BTreeMap<ShardId, State>,
}

impl Own {
    /// Shards that run, and whose leases nobody has asked for yet.
    pub fn running(shards: BTreeSet<ShardId>) -> Self {
        Self { states: shards.into_iter().map(|shard| (shard, State::Doubtful)).collect() }
    }

    pub fn get(&self, shard: ShardId) -> Option<State> {
        self.states.get(&shard).copied()
    }

    pub fn set(&mut self, shard: ShardId, state: State) {
        self.states.insert(shard, state);
    }

    pub fn remove(&mut self, shard: ShardId) {
        self.states.remove(&shard);
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (ShardId, State)> + '_ {
        self.states.iter().map(|(shard, state)| (*shard, *state))
    }

    /// The shards in a state, in order.
    pub fn all(&self, state: State) -> Vec<ShardId> {
        self.iter().filter(|(_, is)| *is == state).map(|(shard, _)| shard).collect()
    }

    pub fn count(&self, of: impl Fn(State) -> bool) -> usize {
        self.states.values().filter(|state| of(**state)).count()
    }

    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// What others are told that we hold.
    pub fn owned(&self) -> BTreeSet<ShardId> {
        self.iter().filter(|(_, state)| state.is_owned()).map(|(shard, _)| shard).collect()
    }
}
