//! The fence: while it is closed, this process publishes no event and stores no session.
//!
//! A lease is only known to be ours as far as RabbitMQ answered lately. Whoever publishes asks the fence first, so that a
//! process that was cut off or paused does not publish beside the one that took its shards over. Open means two things:
//! no lease is in doubt, and RabbitMQ answered within [`VALID`] or less. Rules: spec/cluster.md, "The fence".

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// For how long an answer of RabbitMQ stands for our leases, at most. RabbitMQ frees a silent connection's leases after two of
/// its heartbeats, 30 s, at the earliest; where a shorter heartbeat was agreed upon, [`Fence::set_heartbeat`] tells.
pub const VALID: Duration = Duration::from_secs(12);

/// Shared by who holds leases and who must not publish without them.
#[derive(Clone, Debug)]
pub struct Fence {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// No lease is in doubt.
    certain: bool,
    /// Until when the last answer counts; `None`: for ever.
    valid_until: Option<Instant>,
    /// For how long an answer counts.
    valid_for: Duration,
}

impl Fence {
    /// A fence that is closed until leases are held.
    pub fn closed(now: Instant) -> Self {
        Self::with(false, Some(now))
    }

    /// A fence that is always open: nobody else can run our shards.
    pub fn open() -> Self {
        Self::with(true, None)
    }

    fn with(certain: bool, valid_until: Option<Instant>) -> Self {
        let state = State { certain, valid_until, valid_for: VALID };
        Self { state: Arc::new(Mutex::new(state)), changed: watch::Sender::new(0) }
    }

    /// Whether events may be published and sessions stored now.
    pub fn is_open(&self, now: Instant) -> bool {
        let state = self.lock();
        state.certain && state.valid_until.is_none_or(|until| now < until)
    }

    /// Whether all leases that we act on are ours, as far as is known.
    pub fn set_certain(&self, certain: bool) {
        self.lock().certain = certain;
        self.tell();
    }

    /// What was agreed upon for the connection that holds the leases, where there are heartbeats at all: RabbitMQ frees the leases of
    /// a silent process after two of them, and before that the fence has to be closed. Gives for how long an answer counts now.
    pub fn set_heartbeat(&self, heartbeat: Option<Duration>) -> Duration {
        let valid_for = heartbeat.map_or(VALID, |heartbeat| VALID.min(heartbeat * 3 / 2));
        self.lock().valid_for = valid_for;
        valid_for
    }

    /// RabbitMQ answered to what was asked at `asked`, on the connection that holds the leases.
    pub fn answered(&self, asked: Instant) {
        let mut state = self.lock();
        let until = asked + state.valid_for;
        let later = state.valid_until.is_some_and(|known| known < until);
        if later {
            state.valid_until = Some(until);
        }
        drop(state);
        if later {
            self.tell();
        }
    }

    /// The connection that holds the leases is lost: no answer counts any more.
    pub fn lost(&self, now: Instant) {
        let mut state = self.lock();
        state.certain = false;
        if let Some(until) = &mut state.valid_until {
            *until = now.min(*until);
        }
        drop(state);
        self.tell();
    }

    /// Waits until the fence is open; at once, if it is.
    pub async fn opened(&self) {
        let mut changed = self.changed.subscribe();
        while !self.is_open(Instant::now()) {
            // Never an error: we hold the sender.
            let _ = changed.changed().await;
        }
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn open_needs_both_leases_without_doubt_and_an_answer_of_late() {
        let start = Instant::now();
        let fence = Fence::closed(start);
        assert!(!fence.is_open(start));
        fence.answered(start);
        assert!(!fence.is_open(start), "leases are in doubt");
        fence.set_certain(true);
        assert!(fence.is_open(start) && fence.is_open(start + VALID - SECOND));
        assert!(!fence.is_open(start + VALID), "a paused process finds it closed");
        fence.answered(start + 5 * SECOND);
        assert!(fence.is_open(start + VALID));
        fence.answered(start);
        assert!(fence.is_open(start + VALID), "an older answer takes nothing away");
        fence.lost(start + 6 * SECOND);
        assert!(!fence.is_open(start + 6 * SECOND));
        fence.answered(start + 7 * SECOND);
        assert!(!fence.is_open(start + 7 * SECOND), "leases are in doubt again");
    }

    #[test]
    fn it_closes_before_two_heartbeats_are_over_however_short_they_are() {
        let start = Instant::now();
        let fence = Fence::closed(start);
        fence.set_certain(true);
        assert_eq!(fence.set_heartbeat(Some(4 * SECOND)), 6 * SECOND);
        fence.answered(start);
        assert!(fence.is_open(start + 5 * SECOND) && !fence.is_open(start + 6 * SECOND));
        for long in [Some(8 * SECOND), Some(15 * SECOND), None] {
            assert_eq!(fence.set_heartbeat(long), VALID);
        }
        fence.answered(start);
        assert!(fence.is_open(start + VALID - SECOND));
    }

    #[test]
    fn without_others_it_is_open_for_ever() {
        let fence = Fence::open();
        assert!(fence.is_open(Instant::now() + 1000 * VALID));
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let fence = Fence::closed(Instant::now());
        let open = async {
            fence.set_certain(true);
            fence.answered(Instant::now());
        };
        tokio::join!(fence.opened(), open);
    }
}
