//! Whether a queue is missing for so long that who was behind it is gone.
//!
//! Knows no clock: it is told what was found, and when.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::amqp::topology::Presence;

/// A queue that nobody consumes in so many rounds has nobody.
const SILENT_ROUNDS: u32 = 2;
/// So long after its queue a process that is cut off may still have its services: until it knows, until it has pinged them in
/// vain, and a little more.
const GRACE: Duration = Duration::from_secs(60);

/// The queues that were missing when they were looked for last.
#[derive(Debug, Default)]
pub(super) struct Absences(HashMap<String, Absence>);

#[derive(Debug)]
struct Absence {
    since: Instant,
    rounds: u32,
}

impl Absences {
    /// Nobody needs others than these any more.
    pub(super) fn only_of(&mut self, queues: &BTreeSet<String>) {
        self.0.retain(|queue, _| queues.contains(queue));
    }

    /// What was found of a queue; whether that is enough for its being gone.
    pub(super) fn is_gone(&mut self, queue: &str, found: Presence, is_of_clients: bool, now: Instant) -> bool {
        if found == Presence::There {
            self.0.remove(queue);
            return false;
        }
        let absence = self.0.entry(queue.to_owned()).or_insert(Absence { since: now, rounds: 0 });
        absence.rounds += 1;
        let is_gone = match found {
            _ if is_of_clients => now >= absence.since + GRACE,
            Presence::Gone => true,
            Presence::Silent | Presence::There => absence.rounds >= SILENT_ROUNDS,
        };
        if is_gone {
            self.0.remove(queue);
        }
        is_gone
    }
}

#[cfg(test)]
mod tests {
    use Presence::{Gone, Silent, There};

    use super::*;

    #[test]
    fn a_queue_without_a_consumer_is_gone_in_the_second_round_and_one_that_is_none_at_once() {
        let (mut absences, now) = (Absences::default(), Instant::now());
        let mut look = |found| absences.is_gone("bot", found, false, now);
        assert_eq!([Silent, There, Silent, Silent].map(&mut look), [false, false, false, true]);
        assert_eq!([Silent, Gone].map(&mut look), [false, true]);
        assert_eq!([Gone, There].map(&mut look), [true, false]);
    }

    #[test]
    fn what_was_forgotten_begins_anew() {
        let (mut absences, now) = (Absences::default(), Instant::now());
        assert!(!absences.is_gone("bot", Silent, false, now));
        absences.only_of(&BTreeSet::new());
        assert!(!absences.is_gone("bot", Silent, false, now));
    }

    #[test]
    fn the_services_of_a_process_are_gone_a_grace_after_its_queue() {
        let (mut absences, now) = (Absences::default(), Instant::now());
        let mut look = |found, after| absences.is_gone("front", found, true, now + after);
        let second = Duration::from_secs(1);
        assert!(!look(Gone, Duration::ZERO));
        assert!(!look(Gone, GRACE - second));
        assert!(look(Gone, GRACE));
    }
}
