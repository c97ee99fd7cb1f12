//! Paces the identifies of this process's shards: one in 5 s for each `shard_id % max_concurrency`, and none beyond the
//! session start limit, for that costs the bot its token.
//!
//! Shards ask, and the queue says which may go. It knows this process alone; of other processes it knows only that they
//! may use the same limit. Rules: spec/discord.md, "Identify pacing".

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::ids::ShardId;
use super::lately::Lately;
use super::rest_types::SessionStartLimit;

/// Discord's 5 s and a little more: an identify that was held up on the way is followed more closely by the next.
pub const PACE: Duration = Duration::from_millis(5_500);

/// Who waits for an identify, and who had one lately.
#[derive(Debug)]
pub struct IdentifyQueue {
    pace: Duration,
    waiting: BTreeSet<ShardId>,
    /// Let through here, and waiting for the turn among all processes: one in each bucket.
    outside: BTreeSet<ShardId>,
    /// Grants younger than `pace`, oldest first.
    granted: VecDeque<(ShardId, Instant)>,
    lately: Lately,
    max_concurrency: u32,
    total: u32,
    remaining: u32,
    resets_at: Instant,
    last_poll: Instant,
    /// Whether other processes start sessions, too.
    shared: bool,
    /// What remained when Discord was last asked, and when that was.
    told: (u32, Instant),
    /// Nobody goes before then: buckets were others lately.
    not_before: Instant,
}

impl IdentifyQueue {
    /// An empty queue with the limit as Discord just told it. `pace` is [`PACE`], save in tests.
    pub fn new(limit: SessionStartLimit, pace: Duration, now: Instant) -> Self {
        let mut queue = Self {
            pace,
            waiting: BTreeSet::new(),
            outside: BTreeSet::new(),
            granted: VecDeque::new(),
            lately: Lately::default(),
            max_concurrency: 1,
            total: 0,
            remaining: 0,
            resets_at: now,
            last_poll: now,
            shared: false,
            told: (0, now),
            not_before: now,
        };
        queue.refresh(limit, now, now);
        queue.not_before = now;
        queue
    }

    /// The same limit, told when Discord was asked at `asked`, is used by other processes, which an identify gate over all of
    /// them paces. A shard that is let through holds its bucket until it [withdraws](Self::withdraw), its turn there over or
    /// not wanted any more.
    #[must_use]
    pub fn shared(mut self, asked: Instant) -> Self {
        self.shared = true;
        self.told.1 = asked;
        self
    }

    /// Takes the limit as Discord told it now, `asked` being when the question was sent. What was granted lately still counts.
    pub fn refresh(&mut self, limit: SessionStartLimit, asked: Instant, now: Instant) {
        let max_concurrency = limit.max_concurrency.max(1);
        if std::mem::replace(&mut self.max_concurrency, max_concurrency) != max_concurrency {
            // Who went by the old buckets, just now perhaps, may be in the same new one as the next.
            self.not_before = now + self.pace;
        }
        self.total = limit.total;
        self.remaining = limit.remaining;
        self.resets_at = now + limit.reset_after();
        self.told = (limit.remaining, asked);
    }

    /// The shard wants to identify. Asking twice is asking once.
    pub fn ask(&mut self, shard: ShardId) {
        self.waiting.insert(shard);
    }

    /// The shard no longer wants to. Its bucket it keeps, if it was let through before.
    pub fn unask(&mut self, shard: ShardId) {
        self.waiting.remove(&shard);
    }

    /// The shard no longer wants to, or has had its turn.
    pub fn withdraw(&mut self, shard: ShardId) {
        self.waiting.remove(&shard);
        self.outside.remove(&shard);
    }

    /// The next shard that may identify now; to be asked until it says `None`.
    pub fn poll(&mut self, now: Instant) -> Option<ShardId> {
        self.last_poll = now;
        while self.granted.front().is_some_and(|&(_, at)| at + self.pace <= now) {
            self.granted.pop_front();
        }
        if now >= self.resets_at {
            self.remaining = self.total;
            self.told = (self.total, now);
            self.resets_at = now + SessionStartLimit::PERIOD;
        }
        if self.remaining == 0 || self.is_in_doubt(now) || now < self.not_before {
            return None;
        }
        self.lately.forget(now);
        // Lower ones first, but who identifies again and again does not keep the others waiting.
        let free = self.next_in_buckets().filter(|&shard| self.free_at(shard).is_none());
        let shard = free.min_by_key(|&shard| (self.lately.turns(shard), shard))?;
        self.waiting.remove(&shard);
        if self.shared {
            self.outside.insert(shard);
        }
        self.granted.push_back((shard, now));
        self.lately.had_turn(shard, now);
        self.remaining -= 1;
        Some(shard)
    }

    /// When [`poll`](Self::poll) may have another answer; `None`: not before someone asks.
    pub fn deadline(&self) -> Option<Instant> {
        let first = self.next_in_buckets().map(|shard| self.free_at(shard)).min()?;
        if self.remaining == 0 || self.is_in_doubt(self.last_poll) {
            return Some(self.resets_at);
        }
        // Nothing in its way: at once, and a moment that has passed says so.
        Some(first.unwrap_or(self.last_poll).max(self.not_before))
    }

    /// Until when no session may be started at all, if that is so.
    pub fn exhausted_until(&self, now: Instant) -> Option<Instant> {
        let none_left = self.remaining == 0 || self.shared && self.told.0 < self.max_concurrency;
        (none_left && now < self.resets_at).then_some(self.resets_at)
    }

    /// Whether other processes may have used up what Discord told: it has to be asked again first.
    ///
    /// The gate over all processes lets one through in each pace and bucket, so that bounds what they can have used
    /// since Discord was asked, the next identify included.
    pub fn is_in_doubt(&self, now: Instant) -> bool {
        let (told, asked) = self.told;
        let paces = now.saturating_duration_since(asked).as_nanos() / self.pace.as_nanos().max(1);
        self.shared && u128::from(told) < u128::from(self.max_concurrency) * (paces + 1)
    }

    /// How many shards may identify at a time.
    pub const fn max_concurrency(&self) -> u32 {
        self.max_concurrency
    }

    /// The shard's bucket: `shard_id % max_concurrency`.
    pub fn bucket(&self, shard: ShardId) -> u32 {
        shard.get() % self.max_concurrency
    }

    /// How many sessions may still be started before the limit is reset.
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// The same as of `now`: after the reset all, though nobody has asked since.
    pub fn remaining_at(&self, now: Instant) -> u32 {
        if now < self.resets_at { self.remaining } else { self.total }
    }

    /// How many sessions may be started before any was.
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// When the limit is reset.
    pub const fn resets_at(&self) -> Instant {
        self.resets_at
    }

    /// How many shards wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Those who wait in a bucket that nobody of this process holds.
    fn next_in_buckets(&self) -> impl Iterator<Item = ShardId> {
        let is_held = |shard| self.outside.iter().any(|&other| self.bucket(other) == self.bucket(shard));
        self.waiting.iter().copied().filter(move |&shard| !is_held(shard))
    }

    /// When the shard's bucket is free again; `None`: it is.
    fn free_at(&self, shard: ShardId) -> Option<Instant> {
        let bucket = self.bucket(shard);
        self.granted.iter().rev().find(|&&(other, _)| self.bucket(other) == bucket).map(|&(_, at)| at + self.pace)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOBODY: [u32; 0] = [];

    fn limit(remaining: u32, max_concurrency: u32) -> SessionStartLimit {
        SessionStartLimit { total: 1000, remaining, reset_after: 3_600_000, max_concurrency }
    }

    fn granted(queue: &mut IdentifyQueue, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| queue.poll(now)).map(ShardId::get).collect()
    }

    fn queue_of(shards: &[u32], limit: SessionStartLimit, now: Instant) -> IdentifyQueue {
        let mut queue = IdentifyQueue::new(limit, PACE, now);
        shards.iter().for_each(|&id| queue.ask(ShardId::new(id)));
        queue
    }

    #[test]
    fn with_one_key_shards_go_one_by_one_in_order() {
        let start = Instant::now();
        let mut queue = queue_of(&[2, 0, 1], limit(1000, 1), start);
        assert_eq!(queue.deadline(), Some(start), "at once");
        assert_eq!(granted(&mut queue, start), [0]);
        assert_eq!(queue.deadline(), Some(start + PACE));
        assert_eq!(granted(&mut queue, start + 5 * SECOND), NOBODY);
        assert_eq!(granted(&mut queue, start + PACE), [1]);
        assert_eq!(granted(&mut queue, start + 2 * PACE), [2]);
        assert_eq!(queue.deadline(), None);
    }

    #[test]
    fn who_identifies_again_and_again_goes_behind_the_others() {
        let start = Instant::now();
        let mut queue = queue_of(&[0, 1, 2], limit(1000, 1), start);
        let mut order = Vec::new();
        for n in 0..5 {
            order.extend(granted(&mut queue, start + n * PACE));
            queue.ask(ShardId::new(0));
        }
        assert_eq!(order, [0, 1, 2, 0, 0]);
        queue.ask(ShardId::new(1));
        assert_eq!(granted(&mut queue, start + 5 * PACE), [1], "it had fewer");
    }

    #[test]
    fn keys_run_side_by_side_and_lower_shards_first() {
        let start = Instant::now();
        let mut queue = queue_of(&[5, 4, 3, 2, 1, 0], limit(1000, 4), start);
        assert_eq!(granted(&mut queue, start), [0, 1, 2, 3]);
        assert_eq!(granted(&mut queue, start + PACE), [4, 5]);
    }

    #[test]
    fn a_shard_that_withdraws_leaves_its_place() {
        let start = Instant::now();
        let mut queue = queue_of(&[0, 1, 2], limit(1000, 1), start);
        assert_eq!(granted(&mut queue, start), [0]);
        queue.withdraw(ShardId::new(1));
        assert_eq!(granted(&mut queue, start + PACE), [2]);
    }

    #[test]
    fn with_no_session_start_left_nobody_goes_before_the_reset() {
        let start = Instant::now();
        let reset = start + 3600 * SECOND;
        let mut queue = queue_of(&[0, 1, 2], limit(1, 16), start);
        assert_eq!(granted(&mut queue, start), [0]);
        assert_eq!(queue.exhausted_until(start), Some(reset));
        assert_eq!(queue.deadline(), Some(reset));
        assert_eq!(granted(&mut queue, reset - SECOND), NOBODY);
        assert_eq!(granted(&mut queue, reset), [1, 2]);
        assert_eq!((queue.exhausted_until(reset), queue.remaining()), (None, 998));
    }

    #[test]
    fn a_refreshed_limit_counts_at_once_and_forgets_no_grant() {
        let start = Instant::now();
        let mut queue = queue_of(&[0, 2], limit(0, 4), start);
        assert_eq!(granted(&mut queue, start), NOBODY);
        queue.refresh(limit(5, 4), start, start);
        assert_eq!(granted(&mut queue, start), [0, 2]);
        queue.ask(ShardId::new(4));
        queue.refresh(limit(5, 4), start, start);
        assert_eq!(granted(&mut queue, start), NOBODY, "4 has the bucket of 0");
    }

    #[test]
    fn when_buckets_become_others_nobody_goes_for_a_pace() {
        let start = Instant::now();
        let mut queue = queue_of(&[0, 1, 16], limit(5, 1), start);
        assert_eq!(granted(&mut queue, start), [0]);
        queue.refresh(limit(5, 16), start, start + SECOND);
        assert_eq!(granted(&mut queue, start + SECOND), NOBODY);
        assert_eq!(queue.deadline(), Some(start + SECOND + PACE));
        assert_eq!(granted(&mut queue, start + SECOND + PACE), [1, 16]);
    }

    #[test]
    fn what_others_may_have_started_since_discord_was_asked_is_left_to_them() {
        let start = Instant::now();
        let mut queue = IdentifyQueue::new(limit(5, 2), PACE, start).shared(start);
        queue.ask(ShardId::new(0));
        assert_eq!(granted(&mut queue, start), [0]);
        queue.withdraw(ShardId::new(0));
        queue.ask(ShardId::new(2));
        assert_eq!(granted(&mut queue, start + PACE), [2], "at most 2 of before are gone, and 2 may go now");
        queue.withdraw(ShardId::new(2));
        queue.ask(ShardId::new(4));
        let later = start + 2 * PACE;
        assert_eq!(granted(&mut queue, later), NOBODY, "4 may be gone, and 2 do not fit");
        assert!(queue.is_in_doubt(later) && queue.exhausted_until(later).is_none() && queue.remaining() == 3);
        queue.refresh(limit(3, 2), later, later + SECOND);
        assert_eq!(granted(&mut queue, later + SECOND), [4]);
        queue.refresh(limit(1, 2), later + PACE, later + PACE);
        assert!(
            queue.exhausted_until(later + PACE).is_some(),
            "the last ones, less than there are buckets, stay unused"
        );
    }

    #[test]
    fn with_other_processes_one_of_each_bucket_is_let_out_at_a_time() {
        let start = Instant::now();
        let mut queue = queue_of(&[0, 1, 2, 3, 4], limit(1000, 2), start).shared(start);
        assert_eq!(granted(&mut queue, start), [0, 1]);
        let later = start + 3 * PACE;
        assert_eq!(granted(&mut queue, later), NOBODY);
        assert_eq!(queue.deadline(), None, "that is told by who comes back");
        queue.withdraw(ShardId::new(1));
        assert_eq!(granted(&mut queue, later), [3]);
        queue.withdraw(ShardId::new(0));
        assert_eq!(granted(&mut queue, later), [2]);
        queue.withdraw(ShardId::new(2));
        assert_eq!(granted(&mut queue, later), NOBODY, "the pace counts all the same");
        assert_eq!(queue.deadline(), Some(later + PACE));
    }

    proptest! {
        #[test]
        fn never_two_of_a_key_within_the_pace_and_never_more_than_remain(
            max_concurrency in 1..5_u32,
            remaining in 0..12_u32,
            steps in prop::collection::vec((0..20_u32, any::<bool>(), 0..4_000_u64), 1..80),
        ) {
            let mut now = Instant::now();
            let mut queue = IdentifyQueue::new(limit(remaining, max_concurrency), PACE, now);
            let mut grants: Vec<(u32, Instant)> = Vec::new();
            for (id, asks, millis) in steps {
                now += Duration::from_millis(millis);
                if asks { queue.ask(ShardId::new(id)) } else { queue.withdraw(ShardId::new(id)) }
                for id in granted(&mut queue, now) {
                    let key = id % max_concurrency;
                    let last = grants.iter().rev().find(|(other, _)| other % max_concurrency == key);
                    prop_assert!(last.is_none_or(|&(_, at)| now - at >= PACE));
                    grants.push((id, now));
                }
                prop_assert!(queue.deadline().is_none_or(|at| at > now), "what may go, went");
            }
            prop_assert!(grants.len() <= remaining as usize);
        }
    }
}
