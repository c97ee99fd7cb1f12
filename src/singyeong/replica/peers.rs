//! What we know of other processes: up to where we have heard them, and whether we miss something.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::message::{Message, News, Says};
use super::{Change, Complaints, record};
use crate::cluster::node::NodeId;
use crate::singyeong::client::Client;
use crate::singyeong::ids::ClientKey;

/// How long a snapshot that was asked for may not begin before it is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<NodeId, Peer>);

#[derive(Debug)]
struct Peer {
    /// The highest number heard.
    heard: u64,
    knowledge: Knowledge,
}

#[derive(Debug)]
enum Knowledge {
    /// Something was missed, and a snapshot is to be asked for at this time.
    Missing(Instant),
    /// A snapshot is being read; these clients were in it or in news since it began.
    Reading(HashSet<ClientKey>),
    /// All its clients are known as they are.
    Whole,
}

impl Peers {
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.0.keys()
    }

    pub(super) fn knows(&self, node: &NodeId) -> bool {
        self.0.contains_key(node)
    }

    pub(super) fn are_whole(&self) -> bool {
        self.0.values().all(|peer| matches!(peer.knowledge, Knowledge::Whole))
    }

    pub(super) fn forget(&mut self, node: &NodeId) -> bool {
        self.0.remove(node).is_some()
    }

    /// Up to which number each was heard, of those of which nothing was missed.
    pub(super) fn heard(&self) -> BTreeMap<NodeId, u64> {
        let whole = self.0.iter().filter(|(_, peer)| matches!(peer.knowledge, Knowledge::Whole));
        whole.map(|(node, peer)| (node.clone(), peer.heard)).collect()
    }

    /// Whom to ask for a snapshot, and what was heard of it.
    pub(super) fn ask(&mut self, now: Instant) -> Option<(NodeId, u64)> {
        self.0.iter_mut().find_map(|(node, peer)| match &mut peer.knowledge {
            Knowledge::Missing(at) if *at <= now => {
                *at = now + ASK_AGAIN;
                Some((node.clone(), peer.heard))
            }
            _ => None,
        })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let asks = self.0.values().filter_map(|peer| match peer.knowledge {
            Knowledge::Missing(at) => Some(at),
            Knowledge::Reading(_) | Knowledge::Whole => None,
        });
        asks.min()
    }

    /// What a message of another process changes; `is_introduced` if those that were there before us have told of their
    /// clients.
    pub(super) fn hear(
        &mut self,
        message: Message,
        now: Instant,
        is_introduced: bool,
        complaints: &mut Complaints,
    ) -> Vec<Change> {
        let Message { node, number, says } = message;
        if matches!(says, Says::Goodbye {}) {
            self.0.remove(&node);
            return vec![Change::Left(node)];
        }
        // The first of all that it says, or nothing of that yet: then nothing was missed.
        let peer = self.0.entry(node.clone()).or_insert(Peer { heard: 0, knowledge: Knowledge::Whole });
        let is_counted = says.is_counted();
        if is_counted && number <= peer.heard {
            // Doubled, or overtaken: what overtook it showed that it is missing.
            return Vec::new();
        }
        if number > peer.heard + u64::from(is_counted) {
            peer.miss(now);
        }
        peer.heard = peer.heard.max(number);
        let are_new = is_introduced || matches!(peer.knowledge, Knowledge::Whole);
        let mut clients = Clients { node, are_new, complaints, changes: Vec::new() };
        match says {
            Says::News(news) => peer.news(news, &mut clients),
            Says::Snapshot { begins, ends, clients: records } => peer.snapshot(begins, ends, &records, &mut clients),
            Says::Hello { .. } | Says::Want { .. } | Says::Goodbye {} => {}
        }
        clients.changes
    }
}

impl Peer {
    fn miss(&mut self, now: Instant) {
        // Who waits for one asks no sooner for having missed even more.
        if !matches!(self.knowledge, Knowledge::Missing(_)) {
            self.knowledge = Knowledge::Missing(now);
        }
    }

    /// Is right whatever was missed before: it says how a client is now.
    fn news(&mut self, news: News, clients: &mut Clients<'_>) {
        for record in &news.clients {
            if let Some(client) = clients.read(record) {
                self.mention(&client);
                clients.put(client);
            }
        }
        for key in &news.gone {
            let key = key.read();
            if let Knowledge::Reading(mentioned) = &mut self.knowledge {
                mentioned.remove(&key);
            }
            clients.changes.push(Change::Gone(clients.node.clone(), key));
        }
        let node = &clients.node;
        let beats = news.heartbeats.iter().map(|(key, at)| Change::Heartbeat(node.clone(), key.read(), *at));
        clients.changes.extend(beats);
    }

    fn snapshot(&mut self, begins: bool, ends: bool, records: &[Box<RawValue>], clients: &mut Clients<'_>) {
        match &self.knowledge {
            // Somebody else asked for it.
            Knowledge::Whole => return,
            Knowledge::Missing(_) if !begins => return,
            Knowledge::Reading(_) if !begins => {}
            Knowledge::Missing(_) | Knowledge::Reading(_) => self.knowledge = Knowledge::Reading(HashSet::new()),
        }
        for record in records {
            if let Some(client) = clients.read(record) {
                self.mention(&client);
                clients.put(client);
            }
        }
        if ends && let Knowledge::Reading(mentioned) = std::mem::replace(&mut self.knowledge, Knowledge::Whole) {
            clients.changes.push(Change::Only(clients.node.clone(), mentioned));
        }
    }

    fn mention(&mut self, client: &Client) {
        if let Knowledge::Reading(mentioned) = &mut self.knowledge {
            mentioned.insert(client.key.clone());
        }
    }
}

/// What a message changes of a process's clients.
struct Clients<'a> {
    node: NodeId,
    /// Those that we did not know have come only now.
    are_new: bool,
    complaints: &'a mut Complaints,
    changes: Vec<Change>,
}

impl Clients<'_> {
    fn put(&mut self, client: Client) {
        self.changes.push(if self.are_new { Change::Put(client) } else { Change::Found(client) });
    }

    fn read(&mut self, record: &RawValue) -> Option<Client> {
        match record::read(record, &self.node) {
            Ok(client) => Some(client),
            Err(why) => {
                self.complaints.tell(why);
                None
            }
        }
    }
}
