//! What Optic's own processes run, as each says of itself: what services are not to get, also while a process is only away.
//!
//! Knows no queue and no clock: time passes by rounds.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cluster::node::NodeId;
use crate::discord::ids::ShardId;

/// A process of which nothing was heard for so many rounds is not waited for any more. With rounds of 5 s it is ten minutes: a
/// restart takes less, be it one with a new image.
pub const MOST_SILENT: u32 = 120;
/// So many processes are known, those that were heard of last.
const MOST_PROCESSES: usize = 1024;

/// What a process tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// The shards that it runs or is to run; in leased mode all, for its group runs them all.
    #[serde(with = "ranges", default)]
    pub shards: BTreeSet<ShardId>,
    /// In how many shards it splits the bot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_count: Option<u32>,
    /// How many shards Discord lets identify at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// How many shards services have, as it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<u32>,
}

/// What each process told last.
#[derive(Clone, Debug, Default)]
pub struct Optics(BTreeMap<NodeId, Told>);

#[derive(Clone, Debug)]
struct Told {
    runs: Runs,
    /// For so many rounds.
    silent: u32,
}

impl Optics {
    /// A process said so; whether that is news.
    pub fn told(&mut self, node: NodeId, runs: Runs) -> bool {
        if self.0.len() >= MOST_PROCESSES && !self.0.contains_key(&node) {
            let most_silent = self.0.iter().max_by_key(|(_, told)| told.silent).map(|(node, _)| node.clone());
            self.0.remove(&most_silent.expect("it is full"));
        }
        let former = self.0.insert(node, Told { runs: runs.clone(), silent: 0 });
        former.is_none_or(|former| former.runs != runs)
    }

    /// A round is over: whether a process is not waited for any more.
    pub fn round(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|_, told| {
            told.silent += 1;
            told.silent <= MOST_SILENT
        });
        self.0.len() < before
    }

    /// The shards that any of them runs.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.all().flat_map(|runs| runs.shards.iter().copied())
    }

    /// How many shards may identify at a time, as far as it is known.
    pub fn max_concurrency(&self) -> Option<u32> {
        self.all().filter_map(|runs| runs.max_concurrency).min()
    }

    /// How many shards services have, as far as any is set so.
    pub fn services(&self) -> Option<u32> {
        self.all().find_map(|runs| runs.services)
    }

    /// For whoever takes over.
    pub fn record(&self) -> BTreeMap<NodeId, Runs> {
        self.0.iter().map(|(node, told)| (node.clone(), told.runs.clone())).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Runs> {
        self.0.values().map(|told| &told.runs)
    }
}

impl From<BTreeMap<NodeId, Runs>> for Optics {
    /// As it was recorded. All were heard of just now: how long ago it was is not known.
    fn from(record: BTreeMap<NodeId, Runs>) -> Self {
        Self(record.into_iter().map(|(node, runs)| (node, Told { runs, silent: 0 })).collect())
    }
}

mod ranges {
    use std::collections::BTreeSet;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use crate::cluster::ranges::{from_text, to_text};
    use crate::discord::ids::ShardId;

    pub(super) fn serialize<S: Serializer>(shards: &BTreeSet<ShardId>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_text(shards))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<ShardId>, D::Error> {
        from_text(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32) -> NodeId {
        NodeId::of_run("web", number)
    }

    fn runs(shards: &[u32]) -> Runs {
        Runs { shards: shards.iter().copied().map(ShardId::new).collect(), ..Runs::default() }
    }

    fn shards(optics: &Optics) -> Vec<u32> {
        optics.shards().map(ShardId::get).collect()
    }

    #[test]
    fn what_a_process_runs_is_its_own_while_it_is_away_and_not_for_ever() {
        let mut optics = Optics::default();
        assert!(optics.told(node(1), runs(&[0, 1])) && optics.told(node(2), runs(&[4])));
        assert!(!optics.told(node(2), runs(&[4])), "it says it again");
        for _ in 0..MOST_SILENT {
            assert!(!optics.round());
            optics.told(node(2), runs(&[4]));
        }
        assert_eq!(shards(&optics), [0, 1, 4]);
        assert!(optics.round());
        assert_eq!(shards(&optics), [4]);
        assert!(optics.told(node(2), runs(&[5])), "it says another");
        assert_eq!(shards(&optics), [5]);
    }

    #[test]
    fn of_too_many_the_most_silent_goes() {
        let mut optics = Optics::default();
        optics.told(node(9), runs(&[9]));
        optics.round();
        for n in 0..MOST_PROCESSES {
            optics.told(node(100 + u32::try_from(n).expect("few")), runs(&[]));
        }
        assert_eq!((optics.0.len(), shards(&optics)), (MOST_PROCESSES, vec![]));
    }

    #[test]
    fn a_record_reads_back() {
        let mut optics = Optics::default();
        optics.told(node(1), Runs { shard_count: Some(16), max_concurrency: Some(2), ..runs(&[0, 1, 2, 7]) });
        optics.told(node(2), Runs { services: Some(8), ..Runs::default() });
        let json = serde_json::to_string(&optics.record()).expect("plain");
        let expected = r#"{"web.00000001":{"shards":"0-2,7","shard_count":16,"max_concurrency":2},"web.00000002":{"shards":"","services":8}}"#;
        assert_eq!(json, expected);
        let restored = Optics::from(serde_json::from_str::<BTreeMap<NodeId, Runs>>(&json).expect("readable"));
        assert_eq!(restored.record(), optics.record());
        assert_eq!((restored.max_concurrency(), restored.services()), (Some(2), Some(8)));
    }
}
