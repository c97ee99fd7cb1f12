//! What a member is made with, and what it wants done.

use std::collections::BTreeSet;
use std::fmt;

use crate::cluster::announcement::Announcement;
use crate::cluster::node::NodeId;
use crate::cluster::ranges;
use crate::discord::ids::ShardId;

/// What a member is, for as long as it lives.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This run of this process.
    pub node: NodeId,
    /// The process's name, for people.
    pub name: String,
    /// How many shards the bot has.
    pub shard_count: u32,
    /// Which change of that number it is.
    pub generation: u64,
    /// How it comes by its shards.
    pub want: Want,
    /// Shards whose drivers run already: their leases are asked for first.
    pub running: BTreeSet<ShardId>,
}

/// Which shards a process is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// These, whoever else there is.
    These(BTreeSet<ShardId>),
    /// A fair share of all.
    Fair,
}

/// What the driver is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell all others. Lost when it cannot be told now: another follows within seconds.
    Announce(Announcement),
    /// Ask for these leases; exactly one [`acquired`](super::Member::acquired) answers, and until then there is no other.
    Acquire(Vec<ShardId>),
    /// The lease is held: run the shard, from its stored session.
    Start(ShardId),
    /// Hand the shard over: flush what is unconfirmed, store the session, close resumable. Then
    /// [`stopped`](super::Member::stopped).
    Stop(ShardId),
    /// The lease is not ours any more: publish nothing of this shard from now on, throw away what is unconfirmed, store
    /// nothing. May follow [`Stop`](Self::Stop). Then [`stopped`](super::Member::stopped), once.
    Abandon(ShardId),
    /// Give the lease back. Then [`released`](super::Member::released), unless the connection is lost.
    Release(ShardId),
    /// Another process has a shard whose driver ended here for good: what was kept in sight of it is to go.
    Forget(ShardId),
    /// For the fence: whether every running shard's lease is ours, as far as is known.
    Certain(bool),
    /// Whose presence to ask the broker for, from now on.
    Watch(Vec<NodeId>),
    /// For the log.
    Notice(Notice),
    /// After `leave`: nothing runs, nothing is held, goodbye is said. The last action.
    Left,
}

/// What people should know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Leases that we want are somebody else's: said once, and again every minute.
    HeldByOther {
        /// Which.
        shards: BTreeSet<ShardId>,
        /// The holder's name, if it announces itself.
        holder: Option<String>,
    },
    /// A process runs another count: it is not counted, and its shards are not touched. Said once for each.
    CountDiffers {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// Its count.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// A process announces itself in a version that is not read. Said once for each version.
    OtherVersion(u64),
    /// A process is there now.
    Joined {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// What it owns already.
        owned: usize,
    },
    /// A process is not there any more.
    Gone {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// What it owned, which is free now.
        owned: usize,
    },
    /// Leases were granted.
    Taken(BTreeSet<ShardId>),
    /// A shard is being handed over to others.
    GivenUp(ShardId),
    /// Leases that we held are somebody else's now.
    Lost(BTreeSet<ShardId>),
}

impl Notice {
    /// Whether a person may have to act.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::HeldByOther { .. } | Self::CountDiffers { .. } | Self::OtherVersion(_) | Self::Lost(_) => true,
            Self::Joined { .. } | Self::Gone { .. } | Self::Taken(_) | Self::GivenUp(_) => false,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeldByOther { shards, holder: Some(name) } => {
                write!(f, "{} held by {name}; waiting until it is gone", are(shards))
            }
            Self::HeldByOther { shards, holder: None } => {
                let are = are(shards);
                write!(f, "{are} held by a consumer that does not announce itself; waiting until it is gone")
            }
            Self::CountDiffers { node, name, theirs, ours } => {
                write!(f, "{name} ({node}) runs another count: {theirs} shards there, {ours} here; it is not counted")
            }
            Self::OtherVersion(version) => write!(
                f,
                "a process announces itself in version {version}, which is not read; it is not counted: run the same \
                 version of Optic everywhere"
            ),
            Self::Joined { node, name, owned } => write!(f, "{name} ({node}) is there, with {owned} shards"),
            Self::Gone { node, name, owned } => write!(f, "{name} ({node}) is gone, {owned} shards are free"),
            Self::Taken(shards) => write!(f, "{} ours now", are(shards)),
            Self::GivenUp(shard) => write!(f, "shard {shard} is handed over"),
            Self::Lost(shards) => write!(f, "{} somebody else's now: what is unconfirmed is thrown away", are(shards)),
        }
    }
}

fn are(shards: &BTreeSet<ShardId>) -> String {
    match shards.len() {
        1 => format!("shard {} is", ranges::to_text(shards)),
        _ => format!("shards {} are", ranges::to_text(shards)),
    }
}
