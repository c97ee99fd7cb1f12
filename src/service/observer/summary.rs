//! A line of the log a minute, of what happened in it; while nothing happens, one every ten minutes.

use std::time::{Duration, Instant};

use tracing::info;

use super::{Observer, connected};
use crate::spectacles::route::Kind;

const EVERY: Duration = Duration::from_secs(60);
const EVERY_WHEN_IDLE: Duration = Duration::from_secs(600);
/// Looks come a little early or late.
const SLACK: Duration = Duration::from_secs(2);

/// When a line is due, and what the last one told.
#[derive(Debug, Default)]
pub(super) struct Summary {
    told: Option<(Instant, Counts)>,
}

/// Counts of all that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    received: u64,
    published: u64,
    confirmed: u64,
    resumes: u64,
    commands_sent: u64,
    commands_rejected: u64,
}

impl Summary {
    /// Tells, if it is time to.
    pub fn look(&mut self, observer: &Observer, now: Instant) {
        // Told from the first look on.
        let is_time = self.told.is_none_or(|(at, _)| now + SLACK >= at + EVERY);
        if !is_time {
            return;
        }
        let counts = Counts::of(observer);
        let Some((more, seconds)) = self.tell(counts, now) else { return };
        let shards = observer.view.shards();
        let rate = (more.received as f64 / seconds * 10.0).round() / 10.0;
        let clients = observer.view.singyeong.get().map(|(hub, _)| hub.connected_here());
        info!(
            received = more.received,
            published = more.published,
            confirmed = more.confirmed,
            events_per_second = rate,
            shards_connected = connected(&shards),
            shards = shards.len(),
            unconfirmed = observer.view.publisher().map(|counters| counters.unconfirmed),
            resumes = more.resumes,
            commands_sent = more.commands_sent,
            commands_rejected = more.commands_rejected,
            clients,
            "the last {} s",
            seconds.round()
        );
    }

    /// What happened since the last line, and in how many seconds, if a line is due.
    fn tell(&mut self, counts: Counts, now: Instant) -> Option<(Counts, f64)> {
        let Some((at, before)) = self.told else {
            self.told = Some((now, counts));
            return None;
        };
        let since = now.saturating_duration_since(at) + SLACK;
        let due = since >= EVERY_WHEN_IDLE || since >= EVERY && counts != before;
        if !due {
            return None;
        }
        self.told = Some((now, counts));
        Some((counts.less(before), (since - SLACK).as_secs_f64()))
    }
}

impl Counts {
    fn of(observer: &Observer) -> Self {
        let view = &observer.view;
        let totals = view.totals();
        let outbox = view.publisher().map(|counters| counters.outbox).unwrap_or_default();
        let rejected = |post: &std::sync::Arc<crate::spectacles::post::Post>| {
            Kind::ALL.into_iter().map(|kind| post.set_aside_for(kind)).sum()
        };
        Self {
            received: totals.events.iter().sum(),
            published: outbox.published,
            confirmed: outbox.confirmed,
            resumes: totals.resumes,
            commands_sent: totals.commands_sent,
            commands_rejected: view.post.get().map_or(0, rejected),
        }
    }

    fn less(self, before: Self) -> Self {
        Self {
            received: self.received - before.received,
            published: self.published - before.published,
            confirmed: self.confirmed - before.confirmed,
            resumes: self.resumes - before.resumes,
            commands_sent: self.commands_sent - before.commands_sent,
            commands_rejected: self.commands_rejected - before.commands_rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_secs(5);

    #[test]
    fn a_minute_in_which_something_happened_is_told_and_ten_in_which_nothing_did() {
        let begin = Instant::now();
        let mut summary = Summary::default();
        let mut told = Vec::new();
        for n in 0..=240 {
            let now = begin + LOOK * n;
            // Something happens in the first two minutes.
            let counts = Counts { received: u64::from(n.min(20)), ..Counts::default() };
            if let Some((more, seconds)) = summary.tell(counts, now) {
                told.push(((now - begin).as_secs(), more.received, seconds));
            }
        }
        assert_eq!(told, [(60, 12, 60.0), (120, 8, 60.0), (720, 0, 600.0)]);
    }
}
