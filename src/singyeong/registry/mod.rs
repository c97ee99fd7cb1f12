//! Every client of every process, found by query.
//!
//! Knows no clock.

mod members;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use self::members::{Candidate, Members};
use super::client::Client;
use super::ids::{Application, ClientKey};
use super::metadata::Shapes;
use super::query::Query;
use crate::cluster::node::NodeId;

/// Clients, by application.
#[derive(Debug, Default)]
pub struct Registry {
    /// None is empty.
    applications: BTreeMap<Application, Members>,
    shapes: Shapes,
    len: usize,
    /// What chance chooses by.
    rng: RefCell<fastrand::Rng>,
}

/// What became of a client that was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Nobody had its key.
    New,
    /// It is known, and now so.
    Updated,
}

impl Registry {
    /// With nobody in; chance is what this source says.
    pub fn new(rng: fastrand::Rng) -> Self {
        Self { rng: RefCell::new(rng), ..Self::default() }
    }

    /// Puts a client in, or what is new of it. Who of several has a key is not decided here: the last put in.
    pub fn put(&mut self, mut client: Client) -> Put {
        client.metadata.share(&mut self.shapes);
        let Some((application, _)) = self.applications.get_key_value(&client.key.application) else {
            self.len += 1;
            let application = client.key.application.clone();
            self.applications.entry(application).or_default().put(client);
            return Put::New;
        };
        // One text for all clients of it.
        client.key.application = application.clone();
        let members = self.applications.get_mut(client.key.application.as_str()).expect("it was found");
        let put = members.put(client);
        self.len += usize::from(put == Put::New);
        put
    }

    /// Takes a client out, if it is the one of this process.
    pub fn remove(&mut self, key: &ClientKey, node: &NodeId) -> Option<Arc<Client>> {
        let members = self.applications.get_mut(&key.application)?;
        let removed = members.remove(&key.client, node)?;
        if members.is_empty() {
            self.applications.remove(&key.application);
        }
        self.len -= 1;
        Some(removed)
    }

    /// Notes a client's heartbeat. Much cheaper than to put it in anew, and the most frequent change.
    pub fn beat(&mut self, key: &ClientKey, at: u64) {
        if let Some(members) = self.applications.get_mut(&key.application) {
            members.beat(&key.client, at);
        }
    }

    /// A client.
    pub fn get(&self, key: &ClientKey) -> Option<&Arc<Client>> {
        self.applications.get(&key.application)?.get(&key.client)
    }

    /// Everybody, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.applications.values().flat_map(Members::iter)
    }

    /// All of a process, in the order of their keys.
    pub fn of_node(&self, node: &NodeId) -> Vec<Arc<Client>> {
        self.iter().filter(|client| client.node == *node).cloned().collect()
    }

    /// All that match, after selector and `optional`; in the order of their keys.
    pub fn all(&self, query: &Query) -> Vec<Arc<Client>> {
        self.found(query).into_iter().cloned().collect()
    }

    /// One that matches: by the query's `key`, or by chance.
    pub fn choose(&self, query: &Query) -> Option<Arc<Client>> {
        let rng = &mut self.rng.borrow_mut();
        let strict = if query.has_selector() {
            let mut found: Vec<_> = self.matching(query).map(|candidate| candidate.client).collect();
            query.select(&mut found);
            members::choose(found.into_iter().map(Candidate::of), query.key(), rng, |_| true)
        } else {
            self.choose_where(query, rng, |candidate| {
                query.is_visible(candidate.restricted) && query.holds_for(candidate.subject)
            })
        };
        let client = match strict {
            None if query.asks_again() => {
                self.choose_where(query, rng, |candidate| query.is_visible(candidate.restricted))
            }
            strict => strict,
        };
        client.cloned()
    }

    /// Whether this client is one of those that [`all`](Self::all) would give. Cheap without a selector and `optional`.
    pub fn matches(&self, query: &Query, key: &ClientKey) -> bool {
        let Some(client) = self.get(key) else { return false };
        if query.has_selector() || query.is_optional() {
            self.found(query).iter().any(|found| Arc::ptr_eq(found, client))
        } else {
            query.admits(client)
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn choose_where(
        &self,
        query: &Query,
        rng: &mut fastrand::Rng,
        matches: impl Fn(Candidate<'_>) -> bool,
    ) -> Option<&Arc<Client>> {
        if query.key().is_none()
            && let Some(application) = query.application()
            && let Some(drawn) = self.applications.get(application)?.draw(rng, &matches)
        {
            return Some(drawn);
        }
        members::choose(self.scope(query).flat_map(Members::candidates), query.key(), rng, matches)
    }

    fn found(&self, query: &Query) -> Vec<&Arc<Client>> {
        let mut found: Vec<_> = self.matching(query).map(|candidate| candidate.client).collect();
        query.select(&mut found);
        if found.is_empty() && query.asks_again() {
            found.extend(self.visible(query).map(|candidate| candidate.client));
        }
        found
    }

    /// Those of the query's application that it may find.
    fn visible(&self, query: &Query) -> impl Iterator<Item = Candidate<'_>> {
        self.scope(query).flat_map(Members::candidates).filter(|candidate| query.is_visible(candidate.restricted))
    }

    fn matching(&self, query: &Query) -> impl Iterator<Item = Candidate<'_>> {
        self.visible(query).filter(|candidate| query.holds_for(candidate.subject))
    }

    /// The application, or all of them.
    fn scope(&self, query: &Query) -> impl Iterator<Item = &Members> {
        let one = query.application().map(|application| self.applications.get(application));
        let all = (one.is_none() && !query.is_for_nobody()).then(|| self.applications.values());
        one.flatten().into_iter().chain(all.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests;
