//! How many messages were passed on, by source and topic: as many pairs as one can look at, and one for all others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::internal::Proxied;

/// So many pairs are counted each for itself.
pub const MOST_PAIRS: usize = 1000;
/// The source and the topic of all others.
pub const OTHER: &str = "other";

/// Counts. Cheap to clone: all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<Pairs>>);

#[derive(Debug, Default)]
struct Pairs {
    pairs: BTreeMap<(Box<str>, Box<str>), Passed>,
    others: Passed,
}

/// What became of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// So many went to somebody.
    pub on: u64,
    /// So many were wanted by nobody, and set aside.
    pub aside: u64,
}

/// The count of a source and a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Who said it; [`OTHER`] for those beyond [`MOST_PAIRS`].
    pub source: Box<str>,
    /// Under which topic; the same.
    pub topic: Box<str>,
    /// How many.
    pub passed: Passed,
}

impl Counts {
    /// Counts a message.
    pub fn count(&self, source: &str, topic: &str, is_on: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = &mut *all;
        let pair = (Box::from(source), Box::from(topic));
        let passed = if all.pairs.len() < MOST_PAIRS {
            all.pairs.entry(pair).or_default()
        } else {
            all.pairs.get_mut(&pair).unwrap_or(&mut all.others)
        };
        *(if is_on { &mut passed.on } else { &mut passed.aside }) += 1;
    }

    /// The same, as it is told.
    pub fn listed(&self) -> Vec<Proxied> {
        let told =
            |Count { source, topic, passed }| Proxied { source, topic, delivered: passed.on, set_aside: passed.aside };
        self.all().into_iter().map(told).collect()
    }

    /// All counts, by source and topic; the others last, if there are any.
    pub fn all(&self) -> Vec<Count> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let each = all.pairs.iter().map(|((source, topic), passed)| Count {
            source: source.clone(),
            topic: topic.clone(),
            passed: *passed,
        });
        let others = Count { source: OTHER.into(), topic: OTHER.into(), passed: all.others };
        each.chain(Some(others).filter(|others| others.passed != Passed::default())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_each_for_itself_until_there_are_too_many() {
        let counts = Counts::default();
        for n in 0..MOST_PAIRS + 5 {
            counts.count("bot", &format!("{n:04}"), true);
        }
        counts.count("bot", "0003", false);
        let all = counts.all();
        assert_eq!(all.len(), MOST_PAIRS + 1);
        let fourth = Count { source: "bot".into(), topic: "0003".into(), passed: Passed { on: 1, aside: 1 } };
        assert_eq!(all[3], fourth);
        let others = Count { source: OTHER.into(), topic: OTHER.into(), passed: Passed { on: 5, aside: 0 } };
        assert_eq!(all.last(), Some(&others));
    }
}
