//! Every client of every process, found by query.

use std::sync::Arc;

use super::client::Client;
use super::ids::ClientKey;
use super::query::Query;
use crate::cluster::node::NodeId;

/// Clients, by application.
#[derive(Debug, Default)]
pub struct Registry {}

/// What became of a client that was put in.
#[derive(Debug, PartialEq)]
pub enum Put {
    /// Nobody had its key.
    New,
    /// It is known, and now so.
    Updated,
    /// Another process (or another connection) had its key, and is forgotten for this later one.
    Replaced(Arc<Client>),
    /// A later one has its key: this one is not taken.
    Outdated,
}

impl Registry {
    /// Puts a client in, or what is new of it.
    pub fn put(&mut self, _client: Client) -> Put {
        unimplemented!()
    }

    /// Takes a client out, if it is the one of this process.
    pub fn remove(&mut self, _key: &ClientKey, _node: &NodeId) -> Option<Arc<Client>> {
        unimplemented!()
    }

    /// Takes all clients of a process out.
    pub fn remove_node(&mut self, _node: &NodeId) -> Vec<Arc<Client>> {
        unimplemented!()
    }

    /// A client.
    pub fn get(&self, _key: &ClientKey) -> Option<&Arc<Client>> {
        unimplemented!()
    }

    /// All of a process, in no order.
    pub fn of_node(&self, _node: &NodeId) -> Vec<Arc<Client>> {
        unimplemented!()
    }

    /// All that match, after selector and `optional`; in the order of their keys.
    pub fn all(&self, _query: &Query) -> Vec<Arc<Client>> {
        unimplemented!()
    }

    /// One that matches: by the query's `key`, or by chance.
    pub fn choose(&self, _query: &Query) -> Option<Arc<Client>> {
        unimplemented!()
    }

    /// Whether this client is one of those that [`all`](Self::all) would give. Cheap without a selector and `optional`.
    pub fn matches(&self, _query: &Query, _key: &ClientKey) -> bool {
        unimplemented!()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
