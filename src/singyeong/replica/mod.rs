//! What processes tell each other of their clients: each owns those that are connected to it, and has copies of the others'.
//!
//! Messages go to all processes. A process numbers its own: whoever finds a number missing asks for a snapshot, and so does
//! who comes anew. Nothing is kept to be said later but the keys of clients that changed: what a message says is taken from
//! the clients themselves when it can go out, each once, however often it changed.
//!
//! Knows no RabbitMQ and no connection. Messages may be lost, doubled, and come out of order; in the end all agree.

mod message;
mod peers;
mod record;
mod voice;

use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

use tracing::warn;

use self::message::{Message, Says, Unreadable};
use self::peers::Peers;
use self::voice::Voice;
use super::client::Client;
use super::ids::ClientKey;
use crate::cluster::node::NodeId;

/// A process's part in it.
#[derive(Debug)]
pub struct Replica {
    node: NodeId,
    voice: Voice,
    peers: Peers,
    /// Whoever was there before us has told us of its clients.
    is_introduced: bool,
    complaints: Complaints,
}

/// The clients that a process tells of: its own.
pub trait Own {
    /// A client of ours.
    fn get(&self, key: &ClientKey) -> Option<&Client>;

    /// The first of ours behind this key, in the order of keys; the first of all without one.
    fn after(&self, key: Option<&ClientKey>) -> Option<&Client>;
}

/// What is new of another process's clients.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A client is there, and so.
    Put(Client),
    /// The same of one that may have been there long before we were: if so, nobody is told that it came.
    Found(Client),
    /// This process's client sent a heartbeat, at this time in Unix milliseconds.
    Heartbeat(NodeId, ClientKey, u64),
    /// This process's client is gone.
    Gone(NodeId, ClientKey),
    /// The process has these clients and no other.
    Only(NodeId, HashSet<ClientKey>),
    /// The process is gone, and all its clients.
    Left(NodeId),
}

impl Replica {
    /// Of the process `node`, which knows of no other yet.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            voice: Voice::default(),
            peers: Peers::default(),
            is_introduced: false,
            complaints: Complaints::default(),
        }
    }

    /// A client of ours is there, or changed, or gone.
    pub fn changed(&mut self, key: &ClientKey) {
        self.voice.changed(key);
    }

    /// Nothing about a client of ours is new but that it sent a heartbeat.
    pub fn beat(&mut self, key: &ClientKey) {
        self.voice.beat(key);
    }

    /// From now on we hear what others say, maybe after a time in which we did not.
    pub fn joined(&mut self) {
        self.voice.joined();
    }

    /// Who was there before us has told us of its clients; who is heard of from now on came later.
    pub fn introduced(&mut self) {
        self.is_introduced = true;
    }

    /// Another process is gone: somebody else found out. Nothing if we do not know it.
    pub fn gone(&mut self, node: &NodeId) -> Option<Change> {
        self.peers.forget(node).then(|| Change::Left(node.clone()))
    }

    /// Whether all that was heard of is known as it is, and no snapshot is missing.
    pub fn is_whole(&self) -> bool {
        self.peers.are_whole()
    }

    /// The other processes that we have heard of.
    pub fn others(&self) -> impl Iterator<Item = &NodeId> {
        self.peers.nodes()
    }

    /// Whether we have heard of this other process.
    pub fn knows(&self, node: &NodeId) -> bool {
        self.peers.knows(node)
    }

    /// Takes a message in, maybe our own; gives what is to be done, in this order.
    pub fn hear(&mut self, message: &[u8], now: Instant) -> Vec<Change> {
        let message = match Message::read(message) {
            Ok(message) => message,
            Err(why) => {
                self.complaints.tell(why);
                return Vec::new();
            }
        };
        if message.node == self.node {
            return Vec::new();
        }
        match &message.says {
            Says::Hello { heard } => self.voice.greeted(heard.get(&self.node).copied()),
            Says::Want { of, heard } if *of == self.node => self.voice.wanted(*heard),
            _ => {}
        }
        self.peers.hear(message, now, self.is_introduced, &mut self.complaints)
    }

    /// The next message, when there is one to say. Whoever takes it says it to all, before the next is taken.
    pub fn poll(&mut self, now: Instant, own: &impl Own) -> Option<Vec<u8>> {
        let says = if self.voice.takes_hello() {
            Says::Hello { heard: self.peers.heard() }
        } else if let Some((of, heard)) = self.peers.ask(now) {
            Says::Want { of, heard }
        } else {
            self.voice.say(now, own)?
        };
        Some(self.write(says))
    }

    /// When [`poll`](Self::poll), which had nothing to say, is to be asked again, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        [self.voice.deadline(), self.peers.deadline()].into_iter().flatten().min()
    }

    /// Our last message: that we and all our clients are gone.
    pub fn farewell(&mut self) -> Vec<u8> {
        self.voice.count();
        self.write(Says::Goodbye {})
    }

    fn write(&self, says: Says) -> Vec<u8> {
        Message { node: self.node.clone(), number: self.voice.number(), says }.write()
    }
}

/// What others say and we cannot read: told once, not each time.
#[derive(Debug, Default)]
struct Complaints {
    versions: BTreeSet<u32>,
    is_malformed_told: bool,
}

impl Complaints {
    /// More versions than there will ever be at a time.
    const VERSIONS: usize = 16;

    fn tell(&mut self, why: Unreadable) {
        let is_new = match why {
            Unreadable::Version(version) => self.versions.len() < Self::VERSIONS && self.versions.insert(version),
            Unreadable::Malformed(_) => !std::mem::replace(&mut self.is_malformed_told, true),
        };
        if is_new {
            warn!(%why, "what another process tells of its websocket clients cannot be read");
        }
    }
}

#[cfg(test)]
mod tests;
