//! Asking for leases: one question at a time, and when to ask again for what was refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::discord::ids::ShardId;

/// What was refused to one that shares is asked for again after this, then after twice as long, up to the longest.
const RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(2);
/// What was refused to one that must have it is asked for again each time after this.
const STATIC_RETRY: Duration = Duration::from_millis(500);
/// One that shares is refused at times, when two saw different things: it is told only when it lasts.
const TOLD_AFTER: Duration = Duration::from_secs(10);
/// A refusal that lasts is told again after this.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// What is being asked for, and what was refused.
#[derive(Debug)]
pub(super) struct Asking {
    /// Whether we ask for shards that we must have.
    is_static: bool,
    question: Option<Question>,
    refused: BTreeMap<ShardId, Refused>,
}

#[derive(Debug)]
struct Question {
    shards: BTreeSet<ShardId>,
    /// The connection it was asked on is lost: what it grants is not ours any more.
    is_void: bool,
}

#[derive(Debug)]
struct Refused {
    since: Instant,
    next: Instant,
    wait: Duration,
    told: Option<Instant>,
}

/// An answer, as far as it counts.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub granted: Vec<ShardId>,
    pub refused: Vec<ShardId>,
}

impl Asking {
    pub fn new(is_static: bool) -> Self {
        Self { is_static, question: None, refused: BTreeMap::new() }
    }

    /// Whether an answer is awaited, be it one that does not count any more.
    pub fn is_busy(&self) -> bool {
        self.question.is_some()
    }

    /// Whether an answer is awaited that counts, for this shard.
    pub fn awaits(&self, shard: ShardId) -> bool {
        self.question.as_ref().is_some_and(|question| !question.is_void && question.shards.contains(&shard))
    }

    /// Whether any answer that counts is awaited.
    pub fn awaits_any(&self) -> bool {
        self.question.as_ref().is_some_and(|question| !question.is_void)
    }

    /// These are asked for now.
    pub fn ask(&mut self, shards: &[ShardId]) {
        self.question = Some(Question { shards: shards.iter().copied().collect(), is_void: false });
    }

    /// The answer came. What was not asked for, or on a connection that is lost, is nothing.
    pub fn answered(&mut self, granted: &[ShardId], refused: &[ShardId], now: Instant) -> Answer {
        let Some(mut question) = self.question.take().filter(|question| !question.is_void) else {
            return Answer::default();
        };
        let mut take = |shards: &[ShardId]| -> Vec<ShardId> {
            shards.iter().copied().filter(|shard| question.shards.remove(shard)).collect()
        };
        let answer = Answer { granted: take(granted), refused: take(refused) };
        for shard in &answer.granted {
            self.refused.remove(shard);
        }
        // What got no answer is asked for again, as if refused.
        for shard in question.shards.iter().chain(&answer.refused) {
            self.refused(*shard, now);
        }
        answer
    }

    fn refused(&mut self, shard: ShardId, now: Instant) {
        let first = if self.is_static { STATIC_RETRY } else { RETRY };
        let new = Refused { since: now, next: now, wait: first, told: None };
        let refused = self.refused.entry(shard).or_insert(new);
        refused.next = now + refused.wait;
        if !self.is_static {
            refused.wait = (refused.wait * 2).min(LONGEST_RETRY);
        }
    }

    /// A shard may be free now, or is not worth asking for any more: forget that it was refused.
    pub fn forget(&mut self, shard: ShardId) {
        self.refused.remove(&shard);
    }

    /// A lease that may just have been granted is lost.
    pub fn lost(&mut self, shard: ShardId) {
        if let Some(question) = &mut self.question {
            question.shards.remove(&shard);
        }
    }

    /// The connection is lost.
    pub fn disconnected(&mut self) {
        if let Some(question) = &mut self.question {
            question.is_void = true;
        }
        self.refused.clear();
    }

    /// Of these, what may be asked for now; and when the next of them may.
    pub fn due(&self, shards: impl IntoIterator<Item = ShardId>, now: Instant) -> (Vec<ShardId>, Option<Instant>) {
        let (mut due, mut next) = (Vec::new(), None::<Instant>);
        for shard in shards {
            match self.refused.get(&shard) {
                Some(refused) if now < refused.next => {
                    next = Some(next.map_or(refused.next, |at| at.min(refused.next)))
                }
                _ => due.push(shard),
            }
        }
        (due, next)
    }

    /// Which of these refusals should be told now; they count as told.
    pub fn tell_now(&mut self, shards: &[ShardId], now: Instant) -> Vec<ShardId> {
        let patience = if self.is_static { Duration::ZERO } else { TOLD_AFTER };
        let mut tell = Vec::new();
        for shard in shards {
            let Some(refused) = self.refused.get_mut(shard) else { continue };
            if now >= refused.since + patience && refused.told.is_none_or(|told| now >= told + TOLD_AGAIN) {
                refused.told = Some(now);
                tell.push(*shard);
            }
        }
        tell
    }
}
