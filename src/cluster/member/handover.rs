//! Shards that we give up for others: one after the other, each taken before the next is let go.
//!
//! So a process that joins takes over shard by shard, and one that is said to live but takes nothing leaves few of them
//! dark.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::discord::ids::ShardId;

/// The next one may be given up when the former is not taken within this, if its taker shows that it lives.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of a large surplus several are under way at once: one for so many.
const ONE_IN: usize = 32;

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Handovers {
    /// When each was released, once it is.
    shards: BTreeMap<ShardId, Option<Instant>>,
}

impl Handovers {
    /// The shard is about to be given up.
    pub fn begin(&mut self, shard: ShardId) {
        self.shards.insert(shard, None);
    }

    /// Its lease is free.
    pub fn released(&mut self, shard: ShardId, now: Instant) {
        if let Some(released) = self.shards.get_mut(&shard) {
            *released = Some(now);
        }
    }

    pub fn clear(&mut self) {
        self.shards.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Forgets what is done: taken by somebody, or waited for long enough. `heard` tells when the one who is to take it
    /// was heard last.
    pub fn settle(
        &mut self,
        is_taken: impl Fn(ShardId) -> bool,
        heard: impl Fn(ShardId) -> Option<Instant>,
        now: Instant,
    ) {
        self.shards.retain(|shard, released| match *released {
            None => true,
            Some(_) if is_taken(*shard) => false,
            Some(at) => now < at + PATIENCE || heard(*shard).is_none_or(|heard| heard <= at),
        });
    }

    /// How many more may be given up now, with this much of a surplus left.
    pub fn room(&self, surplus: usize) -> usize {
        (surplus + self.shards.len()).div_ceil(ONE_IN).saturating_sub(self.shards.len()).min(surplus)
    }
}
