//! Discord's limits as it keeps them: sends, identifies, session starts, members of a guild.
//!
//! Sans-I/O: `now` is handed in. A refusal is an answer, not an error.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// At most so many in a sliding window.
#[derive(Debug)]
pub struct SlidingWindow {
    limit: usize,
    window: Duration,
    taken: VecDeque<Instant>,
}

impl SlidingWindow {
    /// `limit` in any `window`.
    pub fn new(limit: usize, window: Duration) -> Self {
        Self { limit, window, taken: VecDeque::new() }
    }

    /// Counts one; whether it was still allowed. One that was not does not count.
    pub fn take(&mut self, now: Instant) -> bool {
        while self.taken.front().is_some_and(|&at| now.duration_since(at) >= self.window) {
            self.taken.pop_front();
        }
        let allowed = self.taken.len() < self.limit;
        if allowed {
            self.taken.push_back(now);
        }
        allowed
    }
}

/// At most one in a window for each key: identifies, requests for all members.
#[derive(Debug)]
pub struct Gate<K> {
    window: Duration,
    last: HashMap<K, Instant>,
}

impl<K: std::hash::Hash + Eq> Gate<K> {
    /// One in `window` a key.
    pub fn new(window: Duration) -> Self {
        Self { window, last: HashMap::new() }
    }

    /// Takes the key's place, or says how long it is still taken.
    pub fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        self.last.retain(|_, at| now.duration_since(*at) < self.window);
        match self.last.get(&key) {
            Some(&at) => Err(self.window - now.duration_since(at)),
            None => {
                self.last.insert(key, now);
                Ok(())
            }
        }
    }
}

/// Session starts of a day.
#[derive(Debug)]
pub struct SessionStarts {
    total: u32,
    used: u32,
    since: Option<Instant>,
}

/// How long session starts are counted.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl SessionStarts {
    /// `total` a day.
    pub fn new(total: u32) -> Self {
        Self { total, used: 0, since: None }
    }

    /// Uses one; whether there was one left.
    pub fn take(&mut self, now: Instant) -> bool {
        self.renew(now);
        self.since.get_or_insert(now);
        let left = self.used < self.total;
        self.used += u32::from(left);
        left
    }

    /// Starts in all.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Starts left.
    pub fn remaining(&mut self, now: Instant) -> u32 {
        self.renew(now);
        self.total - self.used
    }

    /// When they are counted anew.
    pub fn reset_after(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| DAY.saturating_sub(now.duration_since(since)))
    }

    fn renew(&mut self, now: Instant) {
        if self.since.is_some_and(|since| now.duration_since(since) >= DAY) {
            self.since = None;
            self.used = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_121st_packet_in_60_seconds_is_too_many_and_the_window_slides() {
        let start = Instant::now();
        let mut sends = SlidingWindow::new(120, Duration::from_secs(60));
        assert!((0..120).all(|n| sends.take(start + Duration::from_millis(n * 100))));
        assert!(!sends.take(start + Duration::from_secs(59)));
        assert!(sends.take(start + Duration::from_secs(60)));
        assert!(!sends.take(start + Duration::from_secs(60)));
    }

    #[test]
    fn a_key_is_free_again_after_its_window_and_others_at_once() {
        let start = Instant::now();
        let mut gate = Gate::new(Duration::from_secs(5));
        assert_eq!(gate.take(0, start), Ok(()));
        assert_eq!(gate.take(0, start + Duration::from_secs(2)), Err(Duration::from_secs(3)));
        assert_eq!(gate.take(1, start + Duration::from_secs(2)), Ok(()));
        assert_eq!(gate.take(0, start + Duration::from_secs(5)), Ok(()));
    }

    #[test]
    fn session_starts_run_out_and_come_back_after_a_day() {
        let start = Instant::now();
        let mut starts = SessionStarts::new(2);
        assert!(starts.take(start) && starts.take(start) && !starts.take(start));
        assert_eq!(starts.remaining(start), 0);
        assert_eq!(starts.reset_after(start), DAY);
        assert_eq!(starts.remaining(start + DAY), 2);
    }
}
