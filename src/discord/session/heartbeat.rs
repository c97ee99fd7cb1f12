//! One connection's heartbeats: when the next is due, whether anything came since the last, how long acks take.
//!
//! Knows no packets. Rules: spec/discord.md, "Heartbeats".

use std::time::{Duration, Instant};

/// So long before a heartbeat the session is stored, so that the heartbeat carries a fresh number; a quarter of the
/// interval if that is less.
const STORE_LEAD: Duration = Duration::from_secs(2);

/// The heartbeats of one connection, from Hello on.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    due: Instant,
    store_due: Option<Instant>,
    /// Whether a packet came since the last beat; before the first beat nothing is asked for.
    heard: bool,
    unacknowledged: Option<Instant>,
    latency: Option<Duration>,
    answered: u64,
}

/// What a due heartbeat finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// Send it.
    Beat,
    /// Nothing came since the last one: the connection is dead.
    Silence,
}

impl Heartbeat {
    /// Begins: the first is due after `interval × jitter`, which is in `[0, 1)` and keeps shards from beating together.
    pub(super) fn new(interval: Duration, jitter: f64, now: Instant) -> Self {
        let due = now + interval.mul_f64(jitter);
        let mut heartbeat =
            Self { interval, due, store_due: None, heard: true, unacknowledged: None, latency: None, answered: 0 };
        heartbeat.plan_store();
        heartbeat
    }

    /// A packet came. Called for each event: one write.
    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    /// A heartbeat was sent, due or asked for.
    pub(super) fn sent(&mut self, now: Instant) {
        self.unacknowledged.get_or_insert(now);
    }

    /// Op 11 came.
    pub(super) fn acknowledged(&mut self, now: Instant) {
        if let Some(sent) = self.unacknowledged.take() {
            self.latency = Some(now.saturating_duration_since(sent));
            self.answered += 1;
        }
    }

    /// From the last acknowledged heartbeat to its ack.
    pub(super) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// How many were acknowledged.
    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Instant {
        self.store_due.unwrap_or(self.due)
    }

    /// Whether the session is to be stored for the next heartbeat; says so once a heartbeat.
    pub(super) fn wants_store(&mut self, now: Instant) -> bool {
        self.store_due.take_if(|due| *due <= now).is_some()
    }

    /// The heartbeat, if it is due. While reading is paused nothing can be heard, and silence means nothing.
    pub(super) fn tick(&mut self, reading_paused: bool, now: Instant) -> Option<Pulse> {
        if now < self.due {
            return None;
        }
        // So late that we slept ourselves (a stopped process, a suspended machine): what came meanwhile is not read yet.
        let slept = now - self.due > self.interval / 2;
        let alive = self.heard || reading_paused || slept;
        self.heard = reading_paused;
        self.due = if slept { now } else { self.due } + self.interval;
        self.plan_store();
        Some(if alive { Pulse::Beat } else { Pulse::Silence })
    }

    fn plan_store(&mut self) {
        let lead = STORE_LEAD.min(self.interval / 4);
        self.store_due = Some(self.due.checked_sub(lead).unwrap_or(self.due));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(40);

    #[test]
    fn the_first_comes_after_the_jittered_interval_and_then_every_interval() {
        let start = Instant::now();
        let mut beats = Heartbeat::new(INTERVAL, 0.25, start);
        assert_eq!(beats.tick(false, start + INTERVAL / 4 - Duration::from_millis(1)), None);
        assert_eq!(beats.tick(false, start + INTERVAL / 4), Some(Pulse::Beat));
        assert_eq!(beats.tick(false, start + INTERVAL), None);
        beats.heard();
        assert_eq!(beats.tick(false, start + INTERVAL * 5 / 4), Some(Pulse::Beat));
    }

    #[test]
    fn a_late_timer_does_not_shift_the_following_beats() {
        let start = Instant::now();
        let mut beats = Heartbeat::new(INTERVAL, 0.0, start);
        assert_eq!(beats.tick(false, start + Duration::from_secs(3)), Some(Pulse::Beat));
        beats.heard();
        assert_eq!(beats.tick(false, start + INTERVAL), Some(Pulse::Beat));
    }

    #[test]
    fn after_our_own_sleep_silence_means_nothing_once() {
        let start = Instant::now();
        let mut beats = Heartbeat::new(INTERVAL, 0.0, start);
        assert_eq!(beats.tick(false, start), Some(Pulse::Beat));
        let woken = start + 10 * INTERVAL;
        assert_eq!(beats.tick(false, woken), Some(Pulse::Beat));
        assert_eq!(beats.tick(false, woken + INTERVAL), Some(Pulse::Silence));
    }

    #[test]
    fn the_store_is_wanted_once_two_seconds_before_a_beat_or_a_quarter_of_a_short_interval() {
        let start = Instant::now();
        let mut beats = Heartbeat::new(INTERVAL, 0.5, start);
        let at = start + INTERVAL / 2 - Duration::from_secs(2);
        assert_eq!(beats.deadline(), at);
        assert!(!beats.wants_store(at - Duration::from_millis(1)));
        assert!(beats.wants_store(at));
        assert!(!beats.wants_store(at));
        assert_eq!(beats.deadline(), start + INTERVAL / 2);

        let short = Heartbeat::new(Duration::from_secs(4), 0.5, start);
        assert_eq!(short.deadline(), start + Duration::from_secs(1));
    }

    #[test]
    fn latency_is_from_a_beat_to_its_acknowledgement() {
        let start = Instant::now();
        let mut beats = Heartbeat::new(INTERVAL, 0.0, start);
        beats.acknowledged(start);
        assert_eq!(beats.latency(), None);
        beats.sent(start);
        beats.acknowledged(start + Duration::from_millis(80));
        assert_eq!(beats.latency(), Some(Duration::from_millis(80)));
    }
}
