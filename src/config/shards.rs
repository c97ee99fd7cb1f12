//! Which shards this process runs: all, some, or a cluster's share.

use std::collections::BTreeSet;

use crate::discord::ids::{Shard, ShardId};

use super::cluster::is_leased;
use super::report::Report;
use super::values::{list, number};
use super::variables::Raw;

/// More shards than any bot has; bounds what a slip of the finger makes us allocate.
pub const MOST_SHARDS: u32 = 65_536;

/// Which shards to run, as far as it can be known before Discord has told its advice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardPlan {
    count: Option<u32>,
    ids: Option<BTreeSet<u32>>,
}

/// The plan and Discord's advice do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "DISCORD_SHARD_IDS names shard {id}, but Discord advises {count} shards: set DISCORD_SHARD_COUNT, or other ids"
)]
pub struct NoSuchShard {
    /// The first shard there is not.
    pub id: ShardId,
    /// Discord's advice.
    pub count: u32,
}

impl ShardPlan {
    /// How many shards the bot has in all; `None`: as Discord advises.
    pub fn count(&self) -> Option<u32> {
        self.count
    }

    /// The ids to run, in order; `None`: all.
    pub fn ids(&self) -> Option<impl Iterator<Item = u32> + '_> {
        self.ids.as_ref().map(|ids| ids.iter().copied())
    }

    /// The shards to run, in order, never none. `advised` counts where no count was set.
    ///
    /// # Errors
    ///
    /// Ids were set without a count, and Discord advises fewer shards than they need.
    pub fn shards(&self, advised: u32) -> Result<Vec<Shard>, NoSuchShard> {
        self.shards_of(self.count.unwrap_or(advised).max(1))
    }

    /// The same with this count, whichever was set: it was changed for all processes since.
    ///
    /// # Errors
    ///
    /// Ids were set, and one of them is not there.
    pub fn shards_of(&self, count: u32) -> Result<Vec<Shard>, NoSuchShard> {
        let shard = |id| Shard::new(ShardId::new(id), count).ok_or(NoSuchShard { id: ShardId::new(id), count });
        match &self.ids {
            Some(ids) => ids.iter().copied().map(shard).collect(),
            None => (0..count).map(shard).collect(),
        }
    }
}

pub(super) fn parse(raw: &Raw, report: &mut Report) -> ShardPlan {
    if is_leased(raw) {
        return shared(raw, report);
    }
    let cluster = [&raw.cluster_id, &raw.cluster_count, &raw.cluster_shards];
    if cluster.iter().all(|variable| variable.is_none()) {
        return by_count_and_ids(raw, report);
    }
    for (variable, text) in
        [("DISCORD_SHARD_COUNT", &raw.discord_shard_count), ("DISCORD_SHARD_IDS", &raw.discord_shard_ids)]
    {
        if let Some(text) = text {
            let problem = "CLUSTER_ID, CLUSTER_COUNT and CLUSTER_SHARDS already say which shards to run";
            report.wrong(variable, text, problem, "unset it, or those three");
        }
    }
    by_cluster(raw, report)
}

/// All shards, of which the processes agree who runs which.
fn shared(raw: &Raw, report: &mut Report) -> ShardPlan {
    for (variable, text) in [
        ("DISCORD_SHARD_IDS", &raw.discord_shard_ids),
        ("CLUSTER_ID", &raw.cluster_id),
        ("CLUSTER_COUNT", &raw.cluster_count),
        ("CLUSTER_SHARDS", &raw.cluster_shards),
    ] {
        if let Some(text) = text {
            let problem = "with CLUSTER_MODE=leased the processes share the shards out among themselves";
            report.wrong(variable, text, problem, "unset it, or set CLUSTER_MODE=static");
        }
    }
    ShardPlan { count: count(raw, report).unwrap_or_default(), ids: None }
}

/// The number that was set, none for Discord's advice; `Err` for a mistake, which is reported.
fn count(raw: &Raw, report: &mut Report) -> Result<Option<u32>, ()> {
    match raw.discord_shard_count.as_deref() {
        None => Ok(None),
        Some(text) if matches!(text.trim(), "0" | "auto") => Ok(None),
        Some(text) => number("DISCORD_SHARD_COUNT", text, 1..=MOST_SHARDS, report).map(Some).ok_or(()),
    }
}

fn by_count_and_ids(raw: &Raw, report: &mut Report) -> ShardPlan {
    let (count, broken) = match count(raw, report) {
        Ok(count) => (count, false),
        Err(()) => (None, true),
    };
    // A broken count says nothing about the ids: they are held against what is possible at all.
    let least_that_is_not = count.unwrap_or(MOST_SHARDS);
    let ids = raw.discord_shard_ids.as_deref().and_then(|text| ids(text, least_that_is_not, report));
    if ids.is_some() && count.is_none() && !broken {
        let text = "holds among as many shards as Discord advises, and that number changes as the bot grows; set \
                    DISCORD_SHARD_COUNT";
        report.warn("DISCORD_SHARD_IDS", text);
    }
    ShardPlan { count, ids }
}

/// Reads `0,1,4-7`.
fn ids(text: &str, count: u32, report: &mut Report) -> Option<BTreeSet<u32>> {
    const NAME: &str = "DISCORD_SHARD_IDS";
    let mut ids = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for part in list(text) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else {
            let problem = format!("{part:?} is neither a shard's number nor a range");
            report.wrong(NAME, text, problem, "write numbers and ranges such as 0,1,4-7");
            return None;
        };
        if first > last {
            report.wrong(NAME, text, format!("the range {part} runs backwards"), format!("write {last}-{first}"));
            return None;
        }
        if last >= count {
            let problem = format!("there is no shard {last} among {count}");
            report.wrong(NAME, text, problem, format!("write numbers from 0 to {}", count - 1));
            return None;
        }
        for id in first..=last {
            if !ids.insert(id) {
                twice.insert(id);
            }
        }
    }
    match (twice.first(), twice.len()) {
        (None, _) => {}
        (Some(id), 1) => report.warn(NAME, format!("shard {id} is named twice; it runs once")),
        (Some(id), n) => report.warn(NAME, format!("{n} shards from {id} on are named twice; each runs once")),
    }
    if ids.is_empty() {
        report.wrong(NAME, text, "no shard is named", "write numbers and ranges such as 0,1,4-7, or unset it");
        return None;
    }
    Some(ids)
}

/// Cluster k of n runs shards k*s .. k*s+s-1 of n*s.
fn by_cluster(raw: &Raw, report: &mut Report) -> ShardPlan {
    let mut field = |variable: &str, text: &Option<String>, least: u32, most: u32| match text {
        Some(text) => number(variable, text, least..=most, report),
        None => {
            report.missing(
                variable,
                "CLUSTER_ID, CLUSTER_COUNT and CLUSTER_SHARDS go together",
                "set all three, or none (--cluster NUMBER sets CLUSTER_ID; in sinGateway's file, with clustering.enabled, \
                 clusterCount and clusterShards are the others)",
            );
            None
        }
    };
    let count = field("CLUSTER_COUNT", &raw.cluster_count, 1, MOST_SHARDS);
    let shards = field("CLUSTER_SHARDS", &raw.cluster_shards, 1, MOST_SHARDS);
    let id = field("CLUSTER_ID", &raw.cluster_id, 0, count.unwrap_or(MOST_SHARDS) - 1);
    let (Some(id), Some(count), Some(shards)) = (id, count, shards) else {
        return ShardPlan::default();
    };
    match count.checked_mul(shards).filter(|total| *total <= MOST_SHARDS) {
        Some(total) => ShardPlan { count: Some(total), ids: Some((id * shards..(id + 1) * shards).collect()) },
        None => {
            let given = shards.to_string();
            let problem = format!("{count} clusters of {shards} are more than {MOST_SHARDS} shards");
            report.wrong("CLUSTER_SHARDS", &given, problem, "write fewer shards or fewer clusters");
            ShardPlan::default()
        }
    }
}
