//! What is stored of the coordinator's knowledge, so that another process goes on with it: JSON with a version.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Coordinator;
use crate::amybot::internal::Over;
use crate::amybot::member::Member;
use crate::amybot::optics::{Optics, Runs};
use crate::amybot::pool::{Holding, Pool};
use crate::cluster::node::NodeId;
use crate::discord::ids::ShardId;

/// Of what is stored.
const VERSION: u32 = 1;

/// What was kept cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrestorable {
    /// Another Optic's.
    #[error("what is stored of services is of version {0}, and this Optic knows {VERSION}")]
    Version(u32),
    /// Nothing of ours.
    #[error("what is stored of services cannot be read: {0}")]
    Malformed(String),
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    came: u64,
    members: Vec<Member>,
    shards: BTreeMap<ShardId, Holding>,
    #[serde(default)]
    shard_count: Option<u32>,
    #[serde(default)]
    optics: BTreeMap<NodeId, Runs>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Coordinator {
    /// Who takes over, with what was stored; without a count with that which was. Everybody in it is to be looked for.
    ///
    /// # Errors
    /// It cannot be read. Nobody is to go on without it: shards could be given twice.
    pub fn restored(
        record: &[u8],
        shard_count: impl Into<Option<u32>>,
        noticed: BTreeSet<ShardId>,
    ) -> Result<Self, Unrestorable> {
        let malformed = |error: serde_json::Error| Unrestorable::Malformed(error.to_string());
        let version: Version = serde_json::from_slice(record).map_err(malformed)?;
        if version.version != VERSION {
            return Err(Unrestorable::Version(version.version));
        }
        let record: Record = serde_json::from_slice(record).map_err(malformed)?;
        let members: BTreeMap<Over, Member> =
            record.members.into_iter().map(|member| (member.address.over(), member)).collect();
        let is_known = |holding: &Holding| members.contains_key(&holding.by);
        let shards: BTreeMap<ShardId, Holding> =
            record.shards.into_iter().filter(|(_, holding)| is_known(holding)).collect();
        let shard_count = shard_count.into().or(record.shard_count);
        let optics = Optics::from(record.optics);
        let all = noticed.iter().copied().chain(optics.shards()).collect();
        let pool = Pool::restored(shard_count.unwrap_or(0), all, shards);
        let mut restored = Self { shard_count, optics, noticed, ..Self::with(pool, members, record.came) };
        restored.go_on();
        Ok(restored)
    }

    /// In how many shards the bot was split by who stored this, if it knew.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn recorded_count(record: &[u8]) -> Result<Option<u32>, Unrestorable> {
        #[derive(Deserialize)]
        struct Counted {
            #[serde(default)]
            shard_count: Option<u32>,
        }
        let counted: Result<Counted, _> = serde_json::from_slice(record);
        counted.map(|counted| counted.shard_count).map_err(|error| Unrestorable::Malformed(error.to_string()))
    }

    pub(super) fn record(&self) -> Vec<u8> {
        let record = Record {
            version: VERSION,
            came: self.came,
            members: self.members.values().cloned().collect(),
            shards: self.pool.held().clone(),
            shard_count: self.shard_count,
            optics: self.optics.record(),
        };
        serde_json::to_vec(&record).expect("all keys are texts")
    }
}
