//! Who waits for the outcome of a command to Discord: bounded in number and time.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// So long an outcome is waited for.
pub(in crate::singyeong) const LONGEST: Duration = Duration::from_secs(60);
/// So many wait at most.
const MOST: usize = 10_000;

/// All who wait, by the number that the outcome will carry.
#[derive(Debug)]
pub(in crate::singyeong) struct Waiting<A> {
    askers: HashMap<u64, A>,
    /// In the order in which they give up.
    until: VecDeque<(Instant, u64)>,
    last: u64,
}

impl<A> Default for Waiting<A> {
    fn default() -> Self {
        Self { askers: HashMap::new(), until: VecDeque::new(), last: 0 }
    }
}

impl<A> Waiting<A> {
    /// Its number; `None` when too many wait.
    pub(in crate::singyeong) fn add(&mut self, asker: A, now: Instant) -> Option<u64> {
        if self.until.len() >= MOST {
            self.until.retain(|(_, number)| self.askers.contains_key(number));
        }
        if self.askers.len() >= MOST {
            return None;
        }
        self.last += 1;
        self.askers.insert(self.last, asker);
        self.until.push_back((now + LONGEST, self.last));
        Some(self.last)
    }

    /// Who waits under this number, no longer.
    pub(in crate::singyeong) fn take(&mut self, number: u64) -> Option<A> {
        self.askers.remove(&number)
    }

    /// Those who have waited long enough.
    pub(in crate::singyeong) fn expired(&mut self, now: Instant) -> Vec<A> {
        let mut expired = Vec::new();
        while let Some((_, number)) = self.until.front().filter(|(until, _)| *until <= now) {
            expired.extend(self.askers.remove(number));
            self.until.pop_front();
        }
        expired
    }

    /// All: no outcome comes any more.
    pub(in crate::singyeong) fn take_all(&mut self) -> Vec<A> {
        self.until.clear();
        self.askers.drain().map(|(_, asker)| asker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let first = waiting.add(1, now).expect("room");
        let second = waiting.add(2, now + Duration::from_secs(1)).expect("room");
        waiting.add(3, now + Duration::from_secs(2)).expect("room");
        assert_eq!((waiting.take(first), waiting.take(first)), (Some(1), None));
        assert_eq!(waiting.expired(now + LONGEST), [0; 0]);
        assert_eq!(waiting.expired(now + LONGEST + Duration::from_secs(1)), [2]);
        assert_eq!(waiting.take(second), None);
        assert_eq!(waiting.take_all(), [3]);
        assert_eq!(waiting.expired(now + LONGEST * 2), [0; 0]);
    }

    #[test]
    fn they_are_bounded_also_when_all_are_told_at_once() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for n in 0..3 * MOST {
            let number = waiting.add(0, now).unwrap_or_else(|| panic!("room for {n}"));
            waiting.take(number);
        }
        assert!(waiting.until.len() <= MOST);
        for _ in 0..MOST {
            waiting.add(0, now).expect("room");
        }
        assert_eq!(waiting.add(0, now), None);
    }
}
