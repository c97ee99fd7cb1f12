//! Who had turns to identify lately: it goes behind those who had fewer, so that a shard that identifies again and again keeps
//! no other one of its bucket waiting for ever.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::ids::ShardId;

/// How long a turn counts.
const LATELY: Duration = Duration::from_secs(600);
/// So many turns are known.
const MOST: usize = 4096;

/// The turns of the last ten minutes, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Lately {
    turns: VecDeque<(ShardId, Instant)>,
    counts: HashMap<ShardId, usize>,
}

impl Lately {
    /// The shard has its turn.
    pub fn had_turn(&mut self, shard: ShardId, now: Instant) {
        self.forget(now);
        if self.turns.len() >= MOST {
            self.forget_first();
        }
        self.turns.push_back((shard, now));
        *self.counts.entry(shard).or_default() += 1;
    }

    /// Those of long ago do not count any more.
    pub fn forget(&mut self, now: Instant) {
        while self.turns.front().is_some_and(|&(_, at)| at + LATELY <= now) {
            self.forget_first();
        }
    }

    /// How many it had.
    pub fn turns(&self, shard: ShardId) -> usize {
        self.counts.get(&shard).copied().unwrap_or_default()
    }

    fn forget_first(&mut self) {
        let Some((shard, _)) = self.turns.pop_front() else { return };
        if let Entry::Occupied(mut count) = self.counts.entry(shard) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_count_for_their_time_and_are_bounded() {
        let (mut lately, start) = (Lately::default(), Instant::now());
        let (zero, one) = (ShardId::new(0), ShardId::new(1));
        lately.had_turn(zero, start);
        lately.had_turn(zero, start + LATELY / 2);
        assert_eq!((lately.turns(zero), lately.turns(one)), (2, 0));
        lately.forget(start + LATELY);
        assert_eq!(lately.turns(zero), 1);
        for _ in 0..2 * MOST {
            lately.had_turn(one, start + LATELY);
        }
        assert_eq!((lately.turns(one), lately.turns(zero)), (MOST, 0));
        lately.forget(start + 2 * LATELY);
        assert!(lately.turns.is_empty() && lately.counts.is_empty());
    }
}
