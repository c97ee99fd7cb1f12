//! What a demo's worker received: each event once, however often it came.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use optic::amqp::tail::Delivery;
use optic::broker::GAP_EVENT;

/// Counts deliveries.
#[derive(Debug, Default)]
pub struct Tally {
    /// Different events.
    pub received: u64,
    /// Deliveries of what had come before.
    pub again: u64,
    /// Deliveries without a message id: not Optic's.
    pub nameless: u64,
    /// Gaps told.
    gaps: HashSet<String>,
    sessions: HashMap<String, Runs>,
}

/// How many events came by each station of their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Made by the simulator; the real Discord does not say.
    pub sent: Option<u64>,
    /// Taken by the publisher.
    pub published: u64,
    /// Confirmed by RabbitMQ.
    pub confirmed: u64,
    /// Different ones received by the worker.
    pub received: u64,
}

impl Counts {
    /// Whether nothing is missing, and nothing too much.
    pub fn are_equal(&self) -> bool {
        self.sent.is_none_or(|sent| sent == self.published)
            && self.published == self.confirmed
            && self.confirmed == self.received
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(sent) = self.sent {
            write!(f, "sent={sent} ")?;
        }
        write!(f, "published={} confirmed={} received={}", self.published, self.confirmed, self.received)
    }
}

impl Tally {
    /// Counts a delivery, by its message id.
    pub fn count(&mut self, delivery: &Delivery) {
        let Some(id) = &delivery.message_id else {
            self.nameless += 1;
            return;
        };
        if delivery.event == GAP_EVENT {
            self.gaps.insert(id.clone());
            return;
        }
        let Some((session, seq)) = id.rsplit_once(':').and_then(|(session, seq)| Some((session, seq.parse().ok()?)))
        else {
            self.nameless += 1;
            return;
        };
        let runs = match self.sessions.get_mut(session) {
            Some(runs) => runs,
            None => self.sessions.entry(session.to_owned()).or_default(),
        };
        match runs.insert(seq) {
            true => self.received += 1,
            false => self.again += 1,
        }
    }

    /// How many gaps were told, each of them a message that is no event.
    pub fn gaps(&self) -> u64 {
        self.gaps.len() as u64
    }
}

/// A set of numbers that mostly follow each other, as its unbroken runs: it stays small however long the demo runs.
#[derive(Debug, Default)]
struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// Adds a number; whether it was not there yet.
    fn insert(&mut self, number: u64) -> bool {
        let before = self.0.range(..=number).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= number) {
            return false;
        }
        let first = match before {
            Some((first, last)) if last + 1 == number => first,
            _ => number,
        };
        let last = number.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(number);
        self.0.insert(first, last);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn delivery(event: &str, id: Option<&str>) -> Delivery {
        Delivery {
            event: event.to_owned(),
            message_id: id.map(str::to_owned),
            shard: Some(0),
            content_type: None,
            redelivered: false,
            body: Vec::new(),
        }
    }

    #[test]
    fn an_event_counts_once_and_a_gap_is_none() {
        let mut tally = Tally::default();
        for id in ["a:1", "a:2", "b:1", "a:1"] {
            tally.count(&delivery("TYPING_START", Some(id)));
        }
        tally.count(&delivery("OPTIC_GAP", Some("gap:0:1:2")));
        tally.count(&delivery("TYPING_START", None));
        tally.count(&delivery("TYPING_START", Some("no number")));
        assert_eq!((tally.received, tally.again, tally.gaps(), tally.nameless), (3, 1, 1, 2));
    }

    #[test]
    fn numbers_in_any_order_are_counted_once_and_end_as_one_run() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut numbers: Vec<u64> = (1..=500).chain(1..=500).collect();
        random.shuffle(&mut numbers);
        let (mut runs, mut seen) = (Runs::default(), HashSet::new());
        for number in numbers {
            assert_eq!(runs.insert(number), seen.insert(number), "{number}");
        }
        assert_eq!(runs.0, BTreeMap::from([(1, 500)]));
        assert!(runs.insert(u64::MAX) && !runs.insert(u64::MAX));
    }

    #[test]
    fn the_summary_is_one_line_and_equal_only_if_all_are() {
        let mut counts = Counts { sent: Some(9), published: 9, confirmed: 9, received: 9 };
        assert_eq!(counts.to_string(), "sent=9 published=9 confirmed=9 received=9");
        assert!(counts.are_equal());
        counts.received = 8;
        assert!(!counts.are_equal());
        let counts = Counts { sent: None, published: 9, confirmed: 9, received: 9 };
        assert_eq!(counts.to_string(), "published=9 confirmed=9 received=9");
        assert!(counts.are_equal());
    }
}
