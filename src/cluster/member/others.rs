//! The other processes, as they announced themselves and as the broker says that they live.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cluster::announcement::{Announcement, Mode};
use crate::cluster::node::NodeId;
use crate::discord::ids::ShardId;

/// A process that lives but says nothing for so long takes nothing over: it is paused, or cut off. It keeps what it holds.
pub(super) const SILENCE: Duration = Duration::from_secs(12);
/// More processes than any bot has: further ones are not seen.
const MOST_NODES: usize = 1000;

/// What is known of the others.
#[derive(Debug, Default)]
pub(super) struct Others {
    nodes: BTreeMap<NodeId, Other>,
}

/// A process as it last announced itself.
#[derive(Debug)]
pub(super) struct Other {
    pub said: Announcement,
    pub heard_at: Instant,
}

/// What an announcement changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is old, or of one process too many.
    Nothing,
    /// Nothing but that it lives.
    Alive,
    /// It was not known before.
    New,
    /// It changed; it does not hold these any more.
    Changed { freed: Vec<ShardId> },
}

impl Others {
    /// Takes an announcement in.
    pub fn heard(&mut self, said: Announcement, now: Instant) -> Heard {
        let Some(known) = self.nodes.get_mut(&said.node) else {
            if self.nodes.len() >= MOST_NODES {
                return Heard::Nothing;
            }
            self.nodes.insert(said.node.clone(), Other { said, heard_at: now });
            return Heard::New;
        };
        if said.sequence <= known.said.sequence {
            return Heard::Nothing;
        }
        known.heard_at = now;
        let before = std::mem::replace(&mut known.said, said);
        let said = &known.said;
        let same = Announcement { sequence: said.sequence, hello: said.hello, ..before.clone() } == *said;
        match same {
            true => Heard::Alive,
            false => Heard::Changed { freed: before.owned.difference(&said.owned).copied().collect() },
        }
    }

    /// Forgets a process.
    pub fn gone(&mut self, node: &NodeId) -> Option<Announcement> {
        self.nodes.remove(node).map(|other| other.said)
    }

    /// We were not listening: nobody counts as silent for what it may have said meanwhile.
    pub fn excuse(&mut self, now: Instant) {
        self.nodes.values_mut().for_each(|other| other.heard_at = now);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Other> {
        self.nodes.values()
    }

    pub fn get(&self, node: &NodeId) -> Option<&Other> {
        self.nodes.get(node)
    }

    /// Who says to hold a shard.
    pub fn holder(&self, shard: ShardId) -> Option<&Announcement> {
        self.nodes.values().map(|other| &other.said).find(|said| said.owned.contains(&shard))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
}

impl Other {
    /// Whether it takes its share like us, sooner or later.
    pub fn shares(&self, now: Instant) -> bool {
        self.said.mode == Mode::Leased && !self.said.leaving && now < self.silent_at()
    }

    /// When it will have been silent for too long.
    pub fn silent_at(&self) -> Instant {
        self.heard_at + SILENCE
    }
}
