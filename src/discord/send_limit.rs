//! Discord's limit on what one connection may send: 120 packets in 60 s, of any kind; beyond it, close 4008.
//!
//! A log of the times of what was sent, so that the limit holds in every window of 60 s, wherever Discord's begins. Part
//! of it is kept for heartbeats: workers' commands never use that up. Rules: spec/discord.md, "Limits".

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many packets Discord takes in 60 s.
pub const CAPACITY: usize = 120;

/// Discord's 60 s and one more: packets that were held up on the way arrive closer together than they were sent.
pub const WINDOW: Duration = Duration::from_secs(61);

/// Kept free for heartbeats that Discord asks for.
const ANSWERS: usize = 3;

/// At most this much is kept for our own heartbeats, however short Discord's interval is.
const BEATS_AT_MOST: usize = 60;

/// Kept free for the one identify or resume of the connection.
const START: usize = 1;

/// What a packet is, and so how much of the limit it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A worker's command: leaves room for all the others.
    Command,
    /// A heartbeat that Discord asked for: leaves room for our own.
    Answer,
    /// Our own heartbeat.
    Heartbeat,
    /// The identify or resume: always has room, if all others ask for theirs.
    Start,
}

/// What one connection sent in the last minute.
#[derive(Debug)]
pub struct SendLimit {
    sent: VecDeque<Instant>,
    beats: usize,
}

impl Default for SendLimit {
    /// Of a new connection: nothing sent, and the heartbeat interval not known.
    fn default() -> Self {
        Self { sent: VecDeque::new(), beats: BEATS_AT_MOST }
    }
}

impl SendLimit {
    /// Keeps room for the heartbeats of this interval.
    pub fn reserve_for(&mut self, interval: Duration) {
        let beats = WINDOW.as_millis().div_ceil(interval.as_millis().max(1));
        self.beats = usize::try_from(beats).map_or(BEATS_AT_MOST, |beats| (beats + 1).min(BEATS_AT_MOST));
    }

    /// Whether a packet may be sent now.
    ///
    /// # Errors
    /// When it may.
    pub fn room(&self, purpose: Purpose, now: Instant) -> Result<(), Instant> {
        // The packet that must leave the window before this one may enter it.
        match self.sent.len().checked_sub(self.limit(purpose)).and_then(|index| self.sent.get(index)) {
            Some(&sent) if sent + WINDOW > now => Err(sent + WINDOW),
            _ => Ok(()),
        }
    }

    /// A packet was sent.
    pub fn sent(&mut self, now: Instant) {
        while self.sent.len() >= CAPACITY || self.sent.front().is_some_and(|&sent| sent + WINDOW <= now) {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
    }

    fn limit(&self, purpose: Purpose) -> usize {
        match purpose {
            Purpose::Start => CAPACITY,
            Purpose::Heartbeat => CAPACITY - START,
            Purpose::Answer => CAPACITY - START - self.beats,
            Purpose::Command => CAPACITY - START - self.beats - ANSWERS,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn usual() -> SendLimit {
        let mut limit = SendLimit::default();
        limit.reserve_for(Duration::from_millis(41_250));
        limit
    }

    fn send_all(limit: &mut SendLimit, purpose: Purpose, now: Instant) -> usize {
        std::iter::repeat_with(|| limit.room(purpose, now).map(|()| limit.sent(now))).take_while(Result::is_ok).count()
    }

    #[test]
    fn commands_leave_room_for_heartbeats_asked_for_and_those_for_our_own() {
        let (mut limit, now) = (usual(), Instant::now());
        assert_eq!(send_all(&mut limit, Purpose::Command, now), 113);
        assert_eq!(send_all(&mut limit, Purpose::Answer, now), 3);
        assert_eq!(send_all(&mut limit, Purpose::Heartbeat, now), 3);
        assert_eq!(send_all(&mut limit, Purpose::Start, now), 1);
    }

    #[test]
    fn a_full_window_says_when_there_is_room_again() {
        let (mut limit, start) = (usual(), Instant::now());
        limit.sent(start);
        send_all(&mut limit, Purpose::Command, start + 10 * SECOND);
        assert_eq!(limit.room(Purpose::Command, start + 20 * SECOND), Err(start + WINDOW));
        assert_eq!(limit.room(Purpose::Command, start + WINDOW), Ok(()));
        limit.sent(start + WINDOW);
        assert_eq!(limit.room(Purpose::Command, start + WINDOW), Err(start + 10 * SECOND + WINDOW));
    }

    #[test]
    fn however_short_the_interval_nearly_half_of_the_limit_is_left_to_commands() {
        let mut limit = SendLimit::default();
        limit.reserve_for(Duration::from_millis(1));
        assert_eq!(send_all(&mut limit, Purpose::Command, Instant::now()), 56);
    }

    proptest! {
        #[test]
        fn no_window_of_a_minute_holds_more_than_the_limit(steps in prop::collection::vec((0..4_u8, 0..1_000_u64), 1..600)) {
            let (mut limit, mut now) = (usual(), Instant::now());
            let mut sent: Vec<Instant> = Vec::new();
            for (purpose, millis) in steps {
                now += Duration::from_millis(millis);
                let purpose = [Purpose::Command, Purpose::Answer, Purpose::Heartbeat, Purpose::Start][usize::from(purpose)];
                match limit.room(purpose, now) {
                    Ok(()) => {
                        limit.sent(now);
                        sent.push(now);
                    }
                    Err(until) => prop_assert!(until > now),
                }
            }
            for (index, &last) in sent.iter().enumerate().skip(CAPACITY) {
                prop_assert!(last - sent[index - CAPACITY] > 60 * SECOND);
            }
        }
    }
}
