//! The samples of many processes as one history: summed by the five seconds that they are of.
//!
//! Sans-I/O: the time is handed in. Of each process it is known up to when its samples are in the sum, so that none counts
//! twice, and one that comes late still counts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::sample::{KEPT, SECONDS, Sample};
use crate::cluster::node::NodeId;

/// The latest five seconds are shown after this, in seconds: by then all were asked for them.
const SETTLES: u64 = 4;

/// Clocks of processes may differ by as much, in seconds: a sample of later than that would be of a broken clock.
const SKEW: u64 = 60;

/// Names of events beyond so many in five seconds are added up as [`OTHERS`]: Discord has some 80.
const MOST_NAMES: usize = 256;
const OTHERS: &str = "other";

/// See the module. Times are Unix seconds.
#[derive(Debug, Default)]
pub struct History {
    /// The sums, by their beginning.
    slots: BTreeMap<u64, Sample>,
    /// The latest sample of each process that is in them.
    latest: HashMap<NodeId, u64>,
    /// What was shown last, and up to when, if nothing changed since.
    shown: Option<(u64, Arc<[Sample]>)>,
}

impl History {
    /// Takes in what came from a process: all its samples after `after`. Nothing, if there is a hole between these and what is
    /// known; whether there was none.
    pub fn take(&mut self, node: &NodeId, after: u64, samples: &[Sample], now: u64) -> bool {
        let known = self.latest(node);
        if after > known {
            return false;
        }
        let oldest = oldest(now);
        let news = samples.iter().filter(|sample| sample.at > known && sample.at <= now.saturating_add(SKEW));
        let mut latest = known;
        for sample in news {
            latest = latest.max(sample.at);
            let at = sample.at - sample.at % SECONDS;
            if at >= oldest {
                add(self.slots.entry(at).or_insert_with(|| Sample { at, ..Sample::default() }), sample);
                self.shown = None;
            }
        }
        if latest > known {
            self.latest.insert(node.clone(), latest);
        }
        true
    }

    /// The beginning of a process's latest sample that is known; 0: none is.
    pub fn latest(&self, node: &NodeId) -> u64 {
        self.latest.get(node).copied().unwrap_or_default()
    }

    /// All that is known, oldest first and without holes.
    pub fn shown(&mut self, now: u64) -> Arc<[Sample]> {
        let oldest = oldest(now);
        // Bounded here: half an hour of slots, and the processes that were heard in it.
        if self.slots.first_key_value().is_some_and(|(at, _)| *at < oldest) {
            self.slots = self.slots.split_off(&oldest);
        }
        self.latest.retain(|_, at| *at >= oldest);
        let newest = newest(now);
        match &self.shown {
            Some((until, shown)) if *until == newest => shown.clone(),
            _ => {
                let first = self.slots.first_key_value().map_or(u64::MAX, |(at, _)| *at);
                let empty = |at| Sample { at, ..Sample::default() };
                let slots = (first..=newest).step_by(SECONDS as usize);
                let shown: Arc<[Sample]> =
                    slots.map(|at| self.slots.get(&at).cloned().unwrap_or_else(|| empty(at))).collect();
                self.shown = Some((newest, shown.clone()));
                shown
            }
        }
    }
}

/// The beginning of the newest that is shown.
fn newest(now: u64) -> u64 {
    let settled = now.saturating_sub(SECONDS + SETTLES);
    settled - settled % SECONDS
}

/// The beginning of the oldest that is kept.
fn oldest(now: u64) -> u64 {
    newest(now).saturating_sub((KEPT as u64 - 1) * SECONDS)
}

fn add(sum: &mut Sample, sample: &Sample) {
    for (name, count) in &sample.events {
        let known = if let Some(known) = sum.events.get_mut(name) {
            known
        } else if sum.events.len() < MOST_NAMES {
            sum.events.entry(name.clone()).or_default()
        } else {
            sum.events.entry(OTHERS.into()).or_default()
        };
        *known = known.saturating_add(*count);
    }
    sum.unconfirmed = sum.unconfirmed.saturating_add(sample.unconfirmed);
    sum.connected = sum.connected.saturating_add(sample.connected);
    sum.heard = sum.heard.saturating_add(sample.heard);
    sum.latency_ms = match (sum.latency_ms, sample.latency_ms) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn node(name: &str) -> NodeId {
        NodeId::of_run(name, 1)
    }

    fn sample(at: u64, ready: u32, latency_ms: Option<f32>) -> Sample {
        Sample { at, events: [("READY".into(), ready)].into(), unconfirmed: 1, latency_ms, connected: 2, heard: 1 }
    }

    /// When, and how many READY; 0 where nothing was heard.
    fn counts(history: &mut History, now: u64) -> Vec<(u64, u32)> {
        let shown = history.shown(now);
        shown.iter().map(|sample| (sample.at, sample.events.get("READY").copied().unwrap_or_default())).collect()
    }

    #[test]
    fn processes_are_summed_and_the_longest_latency_counts() {
        let mut history = History::default();
        let at = NOW - 10;
        assert!(history.take(&node("a"), 0, &[sample(at, 3, Some(2.0))], NOW));
        assert!(history.take(&node("b"), 0, &[sample(at, 4, Some(7.5))], NOW));
        assert!(history.take(&node("c"), 0, &[sample(at, 0, None)], NOW));
        let sum = Sample { unconfirmed: 3, connected: 6, heard: 3, ..sample(at, 7, Some(7.5)) };
        assert_eq!(history.shown(NOW)[..], [sum]);
    }

    #[test]
    fn holes_are_filled_and_what_comes_late_still_counts() {
        let mut history = History::default();
        history.take(&node("a"), 0, &[sample(NOW - 30, 1, None), sample(NOW - 15, 1, None)], NOW);
        let expected = [(NOW - 30, 1), (NOW - 25, 0), (NOW - 20, 0), (NOW - 15, 1), (NOW - 10, 0)];
        assert_eq!(counts(&mut history, NOW), expected);
        let heard: Vec<u32> = history.shown(NOW).iter().map(|sample| sample.heard).collect();
        assert_eq!(heard, [1, 0, 0, 1, 0]);
        history.take(&node("b"), 0, &[sample(NOW - 35, 5, None), sample(NOW - 20, 5, None)], NOW);
        let expected = [(NOW - 35, 5), (NOW - 30, 1), (NOW - 25, 0), (NOW - 20, 5), (NOW - 15, 1), (NOW - 10, 0)];
        assert_eq!(counts(&mut history, NOW), expected);
    }

    #[test]
    fn nothing_counts_twice() {
        let mut history = History::default();
        let both = [sample(NOW - 15, 1, None), sample(NOW - 10, 1, None)];
        history.take(&node("a"), 0, &both[..1], NOW);
        assert!(history.take(&node("a"), 0, &both, NOW), "what is known is told again");
        assert!(history.take(&node("a"), NOW - 15, &both[1..], NOW));
        assert_eq!(counts(&mut history, NOW), [(NOW - 15, 1), (NOW - 10, 1)]);
    }

    #[test]
    fn with_a_hole_before_it_nothing_is_taken() {
        let mut history = History::default();
        history.take(&node("a"), 0, &[sample(NOW - 30, 1, None)], NOW);
        assert!(!history.take(&node("a"), NOW - 20, &[sample(NOW - 10, 1, None)], NOW));
        assert!(!history.take(&node("b"), NOW - 20, &[sample(NOW - 10, 1, None)], NOW));
        assert_eq!((history.latest(&node("a")), history.latest(&node("b"))), (NOW - 30, 0));
        assert!(history.take(&node("b"), 0, &[sample(NOW - 10, 1, None)], NOW));
    }

    #[test]
    fn the_latest_is_shown_once_all_were_asked_for_it() {
        let mut history = History::default();
        history.take(&node("a"), 0, &[sample(NOW - 5, 1, None), sample(NOW, 9, None)], NOW);
        assert_eq!(counts(&mut history, NOW + SETTLES - 1), []);
        assert_eq!(counts(&mut history, NOW + SETTLES), [(NOW - 5, 1)]);
        assert_eq!(counts(&mut history, NOW + 5 + SETTLES), [(NOW - 5, 1), (NOW, 9)]);
    }

    #[test]
    fn half_an_hour_is_kept_and_clocks_that_are_far_off_change_nothing() {
        let mut history = History::default();
        let samples: Vec<Sample> = (0..400).map(|n| sample(NOW + n * SECONDS, 1, None)).collect();
        let now = NOW + 400 * SECONDS + SETTLES;
        history.take(&node("a"), 0, &samples, now);
        assert_eq!((history.shown(now).len(), history.slots.len()), (KEPT, KEPT));
        history.take(&node("b"), 0, &[sample(now + SKEW + 5, 1, None)], now);
        assert_eq!((history.latest(&node("b")), history.slots.len()), (0, KEPT));
        // Nobody is heard of any more.
        let later = now + KEPT as u64 * SECONDS;
        assert!(history.shown(later).is_empty() && history.latest.is_empty());
    }

    #[test]
    fn names_are_bounded() {
        let names = |from: usize| (from..from + MOST_NAMES).map(|n| (format!("N{n}").into(), 1)).collect();
        let mut history = History::default();
        for (process, from) in [("a", 0), ("b", 1000), ("c", 2000)] {
            let many = Sample { at: NOW - 10, events: names(from), ..Sample::default() };
            history.take(&node(process), 0, &[many], NOW);
        }
        let shown = history.shown(NOW);
        assert_eq!((shown[0].events.len(), shown[0].events[OTHERS]), (MOST_NAMES + 1, 2 * MOST_NAMES as u32));
    }

    #[test]
    fn what_did_not_change_is_not_made_anew() {
        let mut history = History::default();
        history.take(&node("a"), 0, &[sample(NOW - 10, 1, None)], NOW);
        let shown = history.shown(NOW);
        assert!(Arc::ptr_eq(&shown, &history.shown(NOW)));
        history.take(&node("b"), 0, &[sample(NOW - 10, 1, None)], NOW);
        assert!(!Arc::ptr_eq(&shown, &history.shown(NOW)));
    }
}
