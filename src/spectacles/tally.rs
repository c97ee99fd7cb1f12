//! How many commands were set aside, by kind, and how often the log is to tell of that and of other things.

use std::time::{Duration, Instant};

use super::route::Kind;

/// How often the log tells of each kind, however many there are.
const TELL: Duration = Duration::from_secs(60);

/// The counts of all kinds.
#[derive(Debug, Default)]
pub struct Tally {
    counts: [Count; Kind::ALL.len()],
}

/// How often something happened that the log tells of once a minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    total: u64,
    untold: u64,
    told_at: Option<Instant>,
}

impl Tally {
    /// Counts one. When the log is to tell of it: how many there were since the last that it told of.
    pub fn count(&mut self, kind: Kind, now: Instant) -> Option<u64> {
        self.counts[kind as usize].count(now)
    }

    /// How many of a kind there were in all.
    pub const fn total(&self, kind: Kind) -> u64 {
        self.counts[kind as usize].total
    }
}

impl Count {
    /// How many there were in all.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Counts one. When the log is to tell of it: how many there were since the last that it told of.
    pub fn count(&mut self, now: Instant) -> Option<u64> {
        self.total += 1;
        if self.told_at.is_some_and(|told| now < told + TELL) {
            self.untold += 1;
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once_a_minute_with_how_many_more() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(tally.count(Kind::NoOp, start), Some(0));
        assert_eq!(tally.count(Kind::NoOp, start + second), None);
        assert_eq!(tally.count(Kind::TooLarge, start + second), Some(0), "of another kind");
        assert_eq!(tally.count(Kind::NoOp, start + TELL - second), None);
        assert_eq!(tally.count(Kind::NoOp, start + TELL), Some(2));
        assert_eq!(tally.count(Kind::NoOp, start + 3 * TELL), Some(0));
        assert_eq!([Kind::NoOp, Kind::TooLarge, Kind::NoData].map(|kind| tally.total(kind)), [5, 1, 0]);
    }
}
