//! Every client that is known: our own with their connections, and copies of those of other processes.
//!
//! Two processes may have let in the same client at the same moment. Of these the later holds, but never a restricted one
//! before one that is not; the others are hidden until it is gone. So what is visible follows from what each process says of its own, in whatever order that is heard.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use super::Place;
use super::listeners::{Listeners, Update};
use crate::cluster::node::NodeId;
use crate::singyeong::client::{Client, Kind};
use crate::singyeong::close_code::CloseCode;
use crate::singyeong::ids::{Application, ClientKey, ConnectionId};
use crate::singyeong::outbox::Outbox;
use crate::singyeong::packet::outgoing::{Outgoing, Refusal};
use crate::singyeong::registry::Registry;
use crate::singyeong::replica::{Change, Own, Replica};

/// See the module.
#[derive(Debug)]
pub(super) struct Clients {
    node: NodeId,
    /// When this process began, in Unix milliseconds.
    began: u64,
    pub(super) registry: Registry,
    own: OwnLinks,
    /// Those of our own who want client updates.
    listeners: Listeners,
    /// Of other processes: clients whose key another one has, or that did not answer. One of a process.
    hidden: BTreeMap<ClientKey, Vec<Client>>,
    pub(super) replica: Replica,
}

/// The ways to our own. Each of these clients is in the registry, as ours, and no other of ours is.
type OwnLinks = BTreeMap<ClientKey, Link>;

#[derive(Debug)]
enum Link {
    /// A websocket.
    Connection(ConnectionId, Outbox),
    /// We ourselves.
    Gateway,
}

impl Clients {
    pub(super) fn new(node: NodeId, began: u64) -> Self {
        Self {
            began,
            registry: Registry::default(),
            own: OwnLinks::new(),
            listeners: Listeners::default(),
            hidden: BTreeMap::new(),
            replica: Replica::new(node.clone()),
            node,
        }
    }

    pub(super) fn connected(&self) -> usize {
        self.own.values().filter(|link| matches!(link, Link::Connection(..))).count()
    }

    pub(super) fn restricted(&self) -> usize {
        let clients = self.own.iter().filter(|(_, link)| matches!(link, Link::Connection(..)));
        clients.filter(|(key, _)| self.registry.get(key).is_some_and(|client| client.restricted)).count()
    }

    pub(super) fn outbox(&self, key: &ClientKey) -> Option<&Outbox> {
        match self.own.get(key)? {
            Link::Connection(_, outbox) => Some(outbox),
            Link::Gateway => None,
        }
    }

    pub(super) fn outbox_of(&self, key: &ClientKey, connection: ConnectionId) -> Option<&Outbox> {
        if self.has(key, connection) { self.outbox(key) } else { None }
    }

    /// What the replica takes its messages from.
    pub(super) fn say(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.replica.poll(now, &OwnClients { registry: &self.registry, own: &self.own })
    }

    // ---- our own ----

    pub(super) fn register(&mut self, mut client: Client, id: ConnectionId, outbox: Outbox) -> Result<(), Place> {
        if let Some(node) = self.whose(&client) {
            return Err(if *node == self.node { Place::Here } else { Place::At(node.clone()) });
        }
        self.displace(&client.key);
        client.node = self.node.clone();
        // Whoever did not answer is not to win for its clock.
        let forgotten =
            self.hidden.get(&client.key).into_iter().flatten().map(|hidden| hidden.since.saturating_add(1)).max();
        client.since = client.since.max(forgotten.unwrap_or(0));
        if client.receives_client_updates && !client.restricted {
            self.listeners.add(client.key.clone(), id, outbox.clone());
        }
        self.enter(client, Link::Connection(id, outbox));
        Ok(())
    }

    /// The process of a client that has the key before this newcomer. Ids are no secret: a restricted client has one only as
    /// long as nobody else wants it.
    fn whose(&self, newcomer: &Client) -> Option<&NodeId> {
        let key = &newcomer.key;
        let holder = self.registry.get(key).filter(|holder| newcomer.restricted || !holder.restricted);
        let hidden = self.hidden.get(key).into_iter().flatten();
        let forgotten = || hidden.filter(|hidden| newcomer.restricted && !hidden.restricted).map(|hidden| &hidden.node);
        holder.map(|holder| &holder.node).or_else(|| forgotten().next())
    }

    pub(super) fn unregister(&mut self, key: &ClientKey, connection: ConnectionId) -> bool {
        let is_its = self.has(key, connection);
        if is_its {
            self.leave(key);
            self.settle(key);
        }
        is_its
    }

    pub(super) fn forget(&mut self, key: &ClientKey) {
        if let Some(link) = self.leave(key) {
            if let Link::Connection(_, outbox) = link {
                outbox.close(CloseCode::TimedOut);
            }
        } else if let Some(holder) = self.registry.get(key).map(|holder| holder.node.clone()) {
            // It may be alive yet: its process says so, or that it is gone.
            let client = self.disappear(key, &holder);
            self.hide(client);
        }
    }

    pub(super) fn update(&mut self, key: &ClientKey, connection: ConnectionId, change: impl FnOnce(&mut Client)) {
        if !self.has(key, connection) {
            return;
        }
        let known = Arc::clone(self.registry.get(key).expect("what is ours is registered"));
        let mut changed = Client::clone(&known);
        change(&mut changed);
        let changed = Client {
            key: known.key.clone(),
            node: known.node.clone(),
            since: known.since,
            kind: known.kind,
            restricted: known.restricted,
            receives_client_updates: known.receives_client_updates,
            ..changed
        };
        if !is_as_before(&changed, &known) {
            self.replica.changed(key);
            self.registry.put(changed);
        } else if changed.last_heartbeat != known.last_heartbeat {
            // In place, as long as nobody else looks at it.
            drop(known);
            self.replica.beat(key);
            self.registry.beat(key, changed.last_heartbeat);
        }
    }

    /// Puts in, or changes, what we ourselves are.
    pub(super) fn put_gateway(&mut self, client: Client) {
        if let Some(known) = self.registry.get(&client.key) {
            let client = Client { since: known.since, ..client };
            if known.metadata == client.metadata {
                self.replica.beat(&client.key);
            } else {
                self.replica.changed(&client.key);
            }
            self.registry.put(client);
        } else {
            self.enter(client, Link::Gateway);
        }
    }

    fn has(&self, key: &ClientKey, connection: ConnectionId) -> bool {
        matches!(self.own.get(key), Some(Link::Connection(id, _)) if *id == connection)
    }

    fn enter(&mut self, client: Client, link: Link) {
        let key = client.key.clone();
        self.replica.changed(&key);
        self.appear(client);
        // With the texts that the registry shares among clients.
        let key = self.registry.get(&key).map_or(key, |known| known.key.clone());
        self.own.insert(key, link);
    }

    /// Takes out one of ours, if it is.
    fn leave(&mut self, key: &ClientKey) -> Option<Link> {
        let link = self.own.remove(key)?;
        self.listeners.remove(key);
        self.replica.changed(key);
        self.disappear(key, &self.node.clone());
        Some(link)
    }

    // ---- others ----

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Put(client) => self.put(client, true),
            // One that came while we were finding our way may have somebody here who waits to hear of it.
            Change::Found(client) => {
                let is_new = client.since >= self.began;
                self.put(client, is_new);
            }
            Change::Heartbeat(node, key, at) => self.heartbeat(&node, &key, at),
            Change::Gone(node, key) => self.gone(&node, &key),
            Change::Only(node, keys) => self.only(&node, &keys),
            Change::Left(node) => self.only(&node, &HashSet::new()),
        }
    }

    fn put(&mut self, client: Client, is_told: bool) {
        match self.registry.get(&client.key) {
            None if !self.hidden.contains_key(&client.key) => {
                if is_told {
                    self.appear(client);
                } else {
                    self.registry.put(client);
                }
            }
            Some(holder) if holder.node == client.node && holder.since == client.since => {
                self.registry.put(client);
            }
            holder => {
                // Its connection is another one, and we did not hear that the one before ended.
                if holder.is_some_and(|holder| holder.node == client.node) {
                    self.disappear(&client.key, &client.node);
                }
                let key = client.key.clone();
                self.hide(client);
                self.settle(&key);
            }
        }
    }

    fn heartbeat(&mut self, node: &NodeId, key: &ClientKey, at: u64) {
        if self.registry.get(key).is_some_and(|holder| holder.node == *node) {
            self.registry.beat(key, at);
        } else if let Some(client) = self.hidden.get_mut(key).into_iter().flatten().find(|hidden| hidden.node == *node)
        {
            client.last_heartbeat = at;
            self.settle(key);
        }
    }

    fn gone(&mut self, node: &NodeId, key: &ClientKey) {
        self.unhide(node, key);
        if self.registry.get(key).is_some_and(|holder| holder.node == *node) {
            self.disappear(key, node);
            self.settle(key);
        }
    }

    /// The process has no other clients than these.
    fn only(&mut self, node: &NodeId, keys: &HashSet<ClientKey>) {
        let visible = self.registry.of_node(node);
        let gone = visible.iter().map(|client| &client.key).filter(|key| !keys.contains(key));
        for key in gone {
            self.gone(node, key);
        }
        let hidden: Vec<ClientKey> = self.hidden.keys().filter(|key| !keys.contains(key)).cloned().collect();
        for key in hidden {
            self.unhide(node, &key);
        }
    }

    // ---- who of several holds a key ----

    fn hide(&mut self, client: Client) {
        self.unhide(&client.node, &client.key);
        self.hidden.entry(client.key.clone()).or_default().push(client);
    }

    fn unhide(&mut self, node: &NodeId, key: &ClientKey) -> Option<Client> {
        let hidden = self.hidden.get_mut(key)?;
        let at = hidden.iter().position(|client| client.node == *node);
        let client = at.map(|at| hidden.swap_remove(at));
        if hidden.is_empty() {
            self.hidden.remove(key);
        }
        client
    }

    /// The latest of those who have the key and are not restricted holds it, or the latest.
    fn settle(&mut self, key: &ClientKey) {
        let rank = |client: &Client| (!client.restricted, client.since, client.node.clone());
        let Some(latest) = self.hidden.get(key).into_iter().flatten().map(rank).max() else { return };
        if self.registry.get(key).is_some_and(|holder| rank(holder) > latest) {
            return;
        }
        self.displace(key);
        let (.., node) = latest;
        if let Some(client) = self.unhide(&node, key) {
            self.appear(client);
        }
    }

    /// Whoever holds the key gives way to another.
    fn displace(&mut self, key: &ClientKey) {
        match self.leave(key) {
            Some(Link::Connection(_, outbox)) => {
                // If it does not read, it is being closed anyway.
                let _ = outbox.push(Outgoing::Error(Refusal::already_registered(key)), None);
                outbox.close(CloseCode::AlreadyRegistered);
            }
            Some(Link::Gateway) => {}
            None => {
                if let Some(holder) = self.registry.get(key).map(|holder| holder.node.clone()) {
                    let before = self.disappear(key, &holder);
                    self.hide(before);
                }
            }
        }
    }

    // ---- who is visible ----

    /// A client whose key nobody has is there.
    fn appear(&mut self, client: Client) {
        let told = (client.kind == Kind::Websocket).then(|| client.key.application.clone());
        self.registry.put(client);
        self.tell(told, Update::Connected);
    }

    /// The client of this process, which has the key, is not there any more.
    fn disappear(&mut self, key: &ClientKey, node: &NodeId) -> Client {
        let gone = self.registry.remove(key, node).expect("that process's client has the key");
        let told = (gone.kind == Kind::Websocket).then(|| gone.key.application.clone());
        self.tell(told, Update::Disconnected);
        Arc::unwrap_or_clone(gone)
    }

    fn tell(&self, application: Option<Application>, update: impl Fn(Application) -> Update) {
        if let Some(application) = application {
            self.listeners.tell(update(application));
        }
    }
}

/// Whether nothing is new of a client but its heartbeat. Who it is cannot change.
fn is_as_before(now: &Client, before: &Client) -> bool {
    let has_namespace = Arc::ptr_eq(&now.namespace, &before.namespace) || now.namespace == before.namespace;
    has_namespace
        && now.metadata == before.metadata
        && now.queues == before.queues
        && now.ip == before.ip
        && now.encoding == before.encoding
}

/// Our own clients, for the replica.
struct OwnClients<'a> {
    registry: &'a Registry,
    own: &'a OwnLinks,
}

impl Own for OwnClients<'_> {
    fn get(&self, key: &ClientKey) -> Option<&Client> {
        self.own.contains_key(key).then(|| self.registry.get(key).map(|client| &**client))?
    }

    fn after(&self, key: Option<&ClientKey>) -> Option<&Client> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let (key, _) = self.own.range::<ClientKey, _>((from, Bound::Unbounded)).next()?;
        self.get(key)
    }
}
