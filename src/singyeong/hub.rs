//! Who is connected, here and to other processes: what connections, router and queues share.
//!
//! Knows no RabbitMQ: it takes messages of other processes in, and gives out those for them.

use std::sync::{Arc, Mutex};

use super::client::Client;
use super::ids::{ClientKey, ConnectionId};
use super::outbox::{Fate, Outbox, Undeliverable};
use super::packet::outgoing::Outgoing;
use super::query::Query;
use crate::cluster::node::NodeId;

/// The one of a process.
#[derive(Debug)]
pub struct Hub {
    own: NodeId,
    state: Mutex<()>,
}

/// Where a client's connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this process.
    Here,
    /// In another one.
    At(NodeId),
}

impl Hub {
    /// Of the process `own`, with nobody connected.
    pub fn new(own: NodeId) -> Self {
        Self { own, state: Mutex::default() }
    }

    /// This process.
    pub fn own(&self) -> &NodeId {
        &self.own
    }

    /// Registers a client of ours; tells those who want client updates, and other processes.
    ///
    /// # Errors
    /// Somebody has its key, and where. A client whose process does not answer for it is to be
    /// [`forgotten`](Self::forget) first.
    pub fn register(&self, _client: Client, _connection: ConnectionId, _outbox: Outbox) -> Result<(), Place> {
        unimplemented!()
    }

    /// Forgets a client, wherever it is: it did not answer. Ours is closed.
    pub fn forget(&self, _key: &ClientKey) {
        unimplemented!()
    }

    /// The connection is gone: its client, too, if it is still that of this connection.
    pub fn unregister(&self, _key: &ClientKey, _connection: ConnectionId) -> bool {
        unimplemented!()
    }

    /// Changes what is known of a client of ours. Nothing if this connection has lost it.
    pub fn update(&self, _key: &ClientKey, _connection: ConnectionId, _change: impl FnOnce(&mut Client)) {
        unimplemented!()
    }

    /// Puts a packet on its way to a client of ours.
    ///
    /// # Errors
    /// It is not connected here, or does not read. `fate` is not called then.
    pub fn deliver(&self, _key: &ClientKey, _packet: Outgoing, _fate: Option<Fate>) -> Result<(), Undeliverable> {
        unimplemented!()
    }

    /// The way to a client of ours.
    pub fn outbox(&self, _key: &ClientKey) -> Option<Outbox> {
        unimplemented!()
    }

    /// See [`Registry::all`](super::registry::Registry::all).
    pub fn all(&self, _query: &Query) -> Vec<Arc<Client>> {
        unimplemented!()
    }

    /// See [`Registry::choose`](super::registry::Registry::choose).
    pub fn choose(&self, _query: &Query) -> Option<Arc<Client>> {
        unimplemented!()
    }

    /// See [`Registry::matches`](super::registry::Registry::matches).
    pub fn matches(&self, _query: &Query, _key: &ClientKey) -> bool {
        unimplemented!()
    }

    /// A client.
    pub fn get(&self, _key: &ClientKey) -> Option<Arc<Client>> {
        unimplemented!()
    }

    /// How many are connected here.
    pub fn connected_here(&self) -> usize {
        unimplemented!()
    }
}
