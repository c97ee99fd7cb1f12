//! Who waits for the outcome of a command to Discord: bounded in number and time.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::cluster::node::NodeId;
use crate::encoding::Value;
use crate::singyeong::ids::ClientKey;

/// So long an outcome is waited for.
pub(super) const LONGEST: Duration = Duration::from_secs(60);
/// So many wait at most.
const MOST: usize = 10_000;

/// A client that waits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asker {
    pub(super) key: ClientKey,
    /// Where it was.
    pub(super) node: NodeId,
    /// Its name for what it asked.
    pub(super) nonce: Value,
}

/// All who wait, by the number that the outcome will carry.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    askers: HashMap<u64, Asker>,
    /// In the order in which they give up.
    until: VecDeque<(Instant, u64)>,
    last: u64,
}

impl Waiting {
    /// Its number; `None` when too many wait.
    pub(super) fn add(&mut self, asker: Asker, now: Instant) -> Option<u64> {
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
    pub(super) fn take(&mut self, number: u64) -> Option<Asker> {
        self.askers.remove(&number)
    }

    /// Those who have waited long enough.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Asker> {
        let mut expired = Vec::new();
        while let Some((_, number)) = self.until.front().filter(|(until, _)| *until <= now) {
            expired.extend(self.askers.remove(number));
            self.until.pop_front();
        }
        expired
    }

    /// All: no outcome comes any more.
    pub(super) fn take_all(&mut self) -> Vec<Asker> {
        self.until.clear();
        self.askers.drain().map(|(_, asker)| asker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(nonce: i64) -> Asker {
        Asker { key: ClientKey::new("app", "1"), node: NodeId::of_run("web", 1), nonce: Value::Integer(nonce) }
    }

    #[test]
    fn each_is_told_once() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let first = waiting.add(asker(1), now).expect("room");
        let second = waiting.add(asker(2), now + Duration::from_secs(1)).expect("room");
        waiting.add(asker(3), now + Duration::from_secs(2)).expect("room");
        assert_eq!((waiting.take(first), waiting.take(first)), (Some(asker(1)), None));
        assert_eq!(waiting.expired(now + LONGEST), []);
        assert_eq!(waiting.expired(now + LONGEST + Duration::from_secs(1)), [asker(2)]);
        assert_eq!(waiting.take(second), None);
        assert_eq!(waiting.take_all(), [asker(3)]);
        assert_eq!(waiting.expired(now + LONGEST * 2), []);
    }

    #[test]
    fn they_are_bounded_also_when_all_are_told_at_once() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for n in 0..3 * MOST {
            let number = waiting.add(asker(0), now).unwrap_or_else(|| panic!("room for {n}"));
            waiting.take(number);
        }
        assert!(waiting.until.len() <= MOST);
        for _ in 0..MOST {
            waiting.add(asker(0), now).expect("room");
        }
        assert_eq!(waiting.add(asker(0), now), None);
    }
}
