//! Which events are worth publishing: those that are listed, or, with `DISCORD_EVENTS=auto`, those that have a queue.
//!
//! Sans-I/O. With `auto` every event goes out with the mandatory flag. A return tells that its key has no queue; from then on
//! only a probe a second goes out under that key, until a probe is settled without having been returned.
//! Spec: spec/amqp.md, "Publish what will be consumed".

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::broker::Position;

/// How often an event without a queue is tried.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Discord has some 80 events. Names beyond this many are published untracked, so that odd names cannot grow the table.
const MAX_NAMES: usize = 512;

/// What is published.
#[derive(Debug)]
pub enum Demand {
    /// These events and no others.
    Listed(HashSet<Box<str>>),
    /// What has a queue; the table holds what has none.
    Auto(HashMap<Box<str>, Unrouted>),
}

/// An event that has no queue, as far as is known.
#[derive(Debug)]
pub struct Unrouted {
    /// When one of its name last went out.
    tried: Instant,
    /// Where, unless it has come back.
    probe: Option<Position>,
}

/// Whether an event is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is.
    Yes,
    /// It is, to find out whether there is a queue now: its position goes to [`Demand::probed`].
    Probe,
    /// It is not.
    No,
}

impl Demand {
    /// Publish these.
    pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Listed(names.into_iter().map(Into::into).collect())
    }

    /// Publish what has a queue.
    pub fn auto() -> Self {
        Self::Auto(HashMap::new())
    }

    /// Whether messages are to carry the mandatory flag.
    pub fn is_mandatory(&self) -> bool {
        matches!(self, Self::Auto(_))
    }

    /// Whether an event of this name is to be published. `now` is asked for only where it matters.
    pub fn wants(&mut self, name: &str, settled: Position, now: impl FnOnce() -> Instant) -> Wanted {
        match self {
            Self::Listed(names) if names.contains(name) => Wanted::Yes,
            Self::Listed(_) => Wanted::No,
            // Nearly always empty or small, and most events are wanted.
            Self::Auto(unrouted) if unrouted.is_empty() => Wanted::Yes,
            Self::Auto(unrouted) => {
                let Some(entry) = unrouted.get_mut(name) else { return Wanted::Yes };
                if entry.probe.is_some_and(|probe| probe < settled) {
                    // A return comes before its message is settled: this one was routed.
                    unrouted.remove(name);
                    return Wanted::Yes;
                }
                let now = now();
                if now.saturating_duration_since(entry.tried) < PROBE_INTERVAL {
                    return Wanted::No;
                }
                entry.tried = now;
                Wanted::Probe
            }
        }
    }

    /// The probe for this name went out at this position.
    pub fn probed(&mut self, name: &str, position: Position) {
        if let Self::Auto(unrouted) = self
            && let Some(entry) = unrouted.get_mut(name)
        {
            entry.probe = Some(position);
        }
    }

    /// The broker returned a message of this name. Whether it is news that there is no queue.
    pub fn returned(&mut self, name: &str, now: Instant) -> bool {
        let Self::Auto(unrouted) = self else { return false };
        if let Some(entry) = unrouted.get_mut(name) {
            entry.probe = None;
            return false;
        }
        if unrouted.len() >= MAX_NAMES {
            return false;
        }
        unrouted.insert(name.into(), Unrouted { tried: now, probe: None });
        true
    }

    /// The events that have no queue, as far as is known.
    pub fn unrouted(&self) -> Vec<&str> {
        match self {
            Self::Listed(_) => Vec::new(),
            Self::Auto(unrouted) => unrouted.keys().map(AsRef::as_ref).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE_SETTLED: Position = Position::new(0);

    fn wants(demand: &mut Demand, name: &str, settled: Position, now: Instant) -> Wanted {
        demand.wants(name, settled, || now)
    }

    #[test]
    fn a_list_is_kept_to() {
        let mut demand = Demand::listed(["MESSAGE_CREATE"]);
        let now = Instant::now();
        assert_eq!(wants(&mut demand, "MESSAGE_CREATE", NONE_SETTLED, now), Wanted::Yes);
        assert_eq!(wants(&mut demand, "TYPING_START", NONE_SETTLED, now), Wanted::No);
        assert!(!demand.is_mandatory() && !demand.returned("MESSAGE_CREATE", now));
    }

    #[test]
    fn an_event_without_a_queue_is_tried_once_a_second() {
        let mut demand = Demand::auto();
        let start = Instant::now();
        assert_eq!(wants(&mut demand, "TYPING_START", NONE_SETTLED, start), Wanted::Yes);
        assert!(demand.returned("TYPING_START", start));
        assert!(!demand.returned("TYPING_START", start), "told once");
        assert_eq!(wants(&mut demand, "TYPING_START", NONE_SETTLED, start), Wanted::No);
        assert_eq!(wants(&mut demand, "MESSAGE_CREATE", NONE_SETTLED, start), Wanted::Yes);
        let later = start + PROBE_INTERVAL;
        assert_eq!(wants(&mut demand, "TYPING_START", NONE_SETTLED, later), Wanted::Probe);
        assert_eq!(wants(&mut demand, "TYPING_START", NONE_SETTLED, later), Wanted::No);
    }

    #[test]
    fn a_probe_that_was_routed_opens_the_way_again() {
        let mut demand = Demand::auto();
        let start = Instant::now();
        demand.returned("TYPING_START", start);
        let later = start + PROBE_INTERVAL;
        assert_eq!(wants(&mut demand, "TYPING_START", NONE_SETTLED, later), Wanted::Probe);
        demand.probed("TYPING_START", Position::new(7));
        assert_eq!(wants(&mut demand, "TYPING_START", Position::new(7), later), Wanted::No);
        assert_eq!(wants(&mut demand, "TYPING_START", Position::new(8), later), Wanted::Yes);
        assert_eq!(demand.unrouted(), Vec::<&str>::new());
    }

    #[test]
    fn a_probe_that_came_back_does_not() {
        let mut demand = Demand::auto();
        let start = Instant::now();
        demand.returned("TYPING_START", start);
        let later = start + PROBE_INTERVAL;
        assert_eq!(wants(&mut demand, "TYPING_START", NONE_SETTLED, later), Wanted::Probe);
        demand.probed("TYPING_START", Position::new(7));
        demand.returned("TYPING_START", later);
        assert_eq!(wants(&mut demand, "TYPING_START", Position::new(8), later), Wanted::No);
    }

    #[test]
    fn odd_names_do_not_grow_the_table_for_ever() {
        let mut demand = Demand::auto();
        for i in 0..2 * MAX_NAMES {
            demand.returned(&format!("EVENT_{i}"), Instant::now());
        }
        assert_eq!(demand.unrouted().len(), MAX_NAMES);
    }
}
