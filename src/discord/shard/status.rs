//! What others may know of a shard: health, logs, the page.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::discord::ids::{SessionId, Shard};
use crate::discord::session::State;

/// A shard's state as others see it. Written by its driver, read by whoever asks.
#[derive(Debug)]
pub struct Status {
    shard: Shard,
    now: Mutex<Now>,
    events: Arc<AtomicU64>,
    malformed: Arc<AtomicU64>,
}

/// A shard at one moment.
#[derive(Clone, Debug)]
pub struct Now {
    /// Where its session stands.
    pub state: State,
    /// The session, if there is one.
    pub session: Option<SessionId>,
    /// From heartbeat to acknowledgement.
    pub latency: Option<Duration>,
    /// Whether the shard does not read because the broker takes no more.
    pub paused: bool,
}

impl Status {
    /// A shard that has not begun.
    pub fn new(shard: Shard) -> Self {
        let now = Now { state: State::Suspended, session: None, latency: None, paused: false };
        Self { shard, now: Mutex::new(now), events: Arc::default(), malformed: Arc::default() }
    }

    /// Which shard.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// How it is.
    pub fn now(&self) -> Now {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many events it received, replays included.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// How often a connection was given up because Discord sent what cannot be read.
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    pub(super) fn events_counter(&self) -> Arc<AtomicU64> {
        self.events.clone()
    }

    pub(super) fn malformed_counter(&self) -> Arc<AtomicU64> {
        self.malformed.clone()
    }

    pub(super) fn set(&self, now: Now) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}
