//! Nacked messages: when each is tried again, and when it has had its chances.

use std::time::{Duration, Instant};

use crate::broker::Position;

/// The first wait; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The longest wait.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// From the first nack on, a message is tried for this long.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What follows a nack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Again,
    GiveUp,
}

#[derive(Clone, Copy, Debug)]
struct Retry {
    position: Position,
    first_nack: Instant,
    delay: Duration,
    /// `None`: it was written again.
    due: Option<Instant>,
}

/// The nacked messages that are not settled. There are few or none, so a list does.
#[derive(Debug, Default)]
pub(super) struct Retries(Vec<Retry>);

impl Retries {
    pub(super) fn nacked(&mut self, position: Position, now: Instant) -> Verdict {
        let Some(retry) = self.0.iter_mut().find(|retry| retry.position == position) else {
            let due = Some(now + FIRST_DELAY);
            self.0.push(Retry { position, first_nack: now, delay: FIRST_DELAY, due });
            return Verdict::Again;
        };
        let end = retry.first_nack + PATIENCE;
        if now >= end {
            return Verdict::GiveUp;
        }
        retry.delay = (retry.delay * 2).min(MAX_DELAY);
        retry.due = Some((now + retry.delay).min(end));
        Verdict::Again
    }

    /// The message that has been due longest.
    pub(super) fn due(&self, now: Instant) -> Option<Position> {
        self.0
            .iter()
            .filter_map(|retry| retry.due.map(|due| (due, retry.position)))
            .filter(|(due, _)| *due <= now)
            .min()
            .map(|(_, position)| position)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.0.is_empty() && self.due(now).is_some()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.iter().filter_map(|retry| retry.due).min()
    }

    /// It is being written again.
    pub(super) fn take(&mut self, position: Position) {
        if let Some(retry) = self.0.iter_mut().find(|retry| retry.position == position) {
            retry.due = None;
        }
    }

    /// It is settled.
    pub(super) fn forget(&mut self, position: Position) {
        if !self.0.is_empty() {
            self.0.retain(|retry| retry.position != position);
        }
    }

    /// The connection is gone, all are written again in order. Their first nack is remembered.
    pub(super) fn stop_waiting(&mut self) {
        for retry in &mut self.0 {
            retry.due = None;
        }
    }
}
