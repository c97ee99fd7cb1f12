//! Who is connected, here and to other processes: what connections, router and queues share.
//!
//! Knows no RabbitMQ: it takes messages of other processes in, and gives out those for them.

mod clients;
mod gateway;
mod listeners;
mod news;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use self::clients::Clients;
pub use self::gateway::Gateway;
use super::client::Client;
use super::ids::{ClientKey, ConnectionId};
use super::outbox::{Fate, Outbox, Undeliverable};
use super::packet::outgoing::Outgoing;
use super::query::Query;
use crate::clock::unix_millis;
use crate::cluster::node::NodeId;

/// The one of a process.
#[derive(Debug)]
pub struct Hub {
    own: NodeId,
    clients: Mutex<Clients>,
    /// Tells that there may be news for other processes.
    changed: Notify,
    /// Whether other processes' clients are known as they are now, as far as there are any.
    informed: watch::Sender<bool>,
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
        let clients = Mutex::new(Clients::new(own.clone(), unix_millis()));
        Self { own, clients, changed: Notify::new(), informed: watch::Sender::new(false) }
    }

    /// This process.
    pub fn own(&self) -> &NodeId {
        &self.own
    }

    /// Registers a client of ours; tells those who want client updates, and other processes. If the client itself wants
    /// them, the first is about itself and is in its outbox now: it is to be told that it is ready before that is taken out.
    ///
    /// # Errors
    /// Somebody has its key, and where. A client whose process does not answer for it is to be
    /// [forgotten](Self::forget) first. A restricted one gives way at once to one that is not, and is closed.
    pub fn register(&self, client: Client, connection: ConnectionId, outbox: Outbox) -> Result<(), Place> {
        self.change(|clients| clients.register(client, connection, outbox))
    }

    /// Forgets a client, wherever it is: it did not answer. Ours is closed.
    pub fn forget(&self, key: &ClientKey) {
        self.change(|clients| clients.forget(key));
    }

    /// The connection is gone: its client, too, if it is still that of this connection. Whether it was.
    pub fn unregister(&self, key: &ClientKey, connection: ConnectionId) -> bool {
        self.change(|clients| clients.unregister(key, connection))
    }

    /// Changes what is known of a client of ours; who it is, where and since when, and what it is told, stays. Nothing if
    /// this connection has lost it. `change` must not ask the hub.
    pub fn update(&self, key: &ClientKey, connection: ConnectionId, change: impl FnOnce(&mut Client)) {
        self.change(|clients| clients.update(key, connection, change));
    }

    /// Puts a packet on its way to a client of ours.
    ///
    /// # Errors
    /// It is not connected here, or does not read. `fate` is not called then.
    pub fn deliver(&self, key: &ClientKey, packet: Outgoing, fate: Option<Fate>) -> Result<(), Undeliverable> {
        self.outbox(key).ok_or(Undeliverable::Closed)?.push(packet, fate)
    }

    /// The way to a client of ours.
    pub fn outbox(&self, key: &ClientKey) -> Option<Outbox> {
        self.lock().outbox(key).cloned()
    }

    /// The same, if it is still by this connection: a client may have come back by another.
    pub fn outbox_of(&self, key: &ClientKey, connection: ConnectionId) -> Option<Outbox> {
        self.lock().outbox_of(key, connection).cloned()
    }

    /// See [`Registry::all`](super::registry::Registry::all).
    pub fn all(&self, query: &Query) -> Vec<Arc<Client>> {
        self.lock().registry.all(query)
    }

    /// See [`Registry::choose`](super::registry::Registry::choose).
    pub fn choose(&self, query: &Query) -> Option<Arc<Client>> {
        self.lock().registry.choose(query)
    }

    /// See [`Registry::matches`](super::registry::Registry::matches).
    pub fn matches(&self, query: &Query, key: &ClientKey) -> bool {
        self.lock().registry.matches(query, key)
    }

    /// A client.
    pub fn get(&self, key: &ClientKey) -> Option<Arc<Client>> {
        self.lock().registry.get(key).cloned()
    }

    /// Everybody, in the order of their keys.
    pub fn everybody(&self) -> Vec<Arc<Client>> {
        self.lock().registry.iter().cloned().collect()
    }

    /// How many are connected here.
    pub fn connected_here(&self) -> usize {
        self.lock().connected()
    }

    /// How many of these are restricted.
    pub fn restricted_here(&self) -> usize {
        self.lock().restricted()
    }

    /// Does something after which there may be news for other processes.
    fn change<T>(&self, change: impl FnOnce(&mut Clients) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_one();
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
