//! Every client that is known, and the connections of those that are connected here.

use std::collections::BTreeMap;

use super::Place;
use crate::cluster::node::NodeId;
use crate::singyeong::client::{Client, Kind};
use crate::singyeong::close_code::CloseCode;
use crate::singyeong::ids::{Application, ClientKey, ConnectionId};
use crate::singyeong::outbox::Outbox;
use crate::singyeong::packet::outgoing::Outgoing;
use crate::singyeong::registry::Registry;

/// See the module.
#[derive(Debug)]
pub(super) struct Clients {
    node: NodeId,
    registry: Registry,
    /// The connections of our own. Each of these clients is in the registry, as ours.
    connections: BTreeMap<ClientKey, Connection>,
    /// Those of our own who want client updates.
    listeners: BTreeMap<ClientKey, Outbox>,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    outbox: Outbox,
}

impl Clients {
    pub(super) fn new(node: NodeId) -> Self {
        Self { node, registry: Registry::default(), connections: BTreeMap::new(), listeners: BTreeMap::new() }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn connected(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn outbox(&self, key: &ClientKey) -> Option<&Outbox> {
        Some(&self.connections.get(key)?.outbox)
    }

    pub(super) fn register(&mut self, client: Client, id: ConnectionId, outbox: Outbox) -> Result<(), Place> {
        debug_assert_eq!(client.node, self.node, "others' clients are not registered here");
        if let Some(holder) = self.registry.get(&client.key) {
            let is_ours = holder.node == self.node;
            return Err(if is_ours { Place::Here } else { Place::At(holder.node.clone()) });
        }
        if client.receives_client_updates && !client.restricted {
            self.listeners.insert(client.key.clone(), outbox.clone());
        }
        self.connections.insert(client.key.clone(), Connection { id, outbox });
        self.appear(client);
        Ok(())
    }

    pub(super) fn unregister(&mut self, key: &ClientKey, connection: ConnectionId) -> bool {
        let is_its = self.connections.get(key).is_some_and(|held| held.id == connection);
        if is_its {
            self.disconnect(key);
            self.disappear(key);
        }
        is_its
    }

    pub(super) fn forget(&mut self, key: &ClientKey) {
        if let Some(connection) = self.disconnect(key) {
            connection.outbox.close(CloseCode::TimedOut);
        }
        self.disappear(key);
    }

    pub(super) fn update(&mut self, key: &ClientKey, connection: ConnectionId, change: impl FnOnce(&mut Client)) {
        if self.connections.get(key).is_none_or(|held| held.id != connection) {
            return;
        }
        let Some(known) = self.registry.get(key).cloned() else { return };
        let mut changed = Client::clone(&known);
        change(&mut changed);
        if changed != *known {
            self.registry.put(changed);
        }
    }

    fn disconnect(&mut self, key: &ClientKey) -> Option<Connection> {
        self.listeners.remove(key);
        self.connections.remove(key)
    }

    /// A client whose key nobody has is there.
    fn appear(&mut self, client: Client) {
        let told = (client.kind == Kind::Websocket).then(|| client.key.application.clone());
        self.registry.put(client);
        self.tell(told, Outgoing::Connected);
    }

    fn disappear(&mut self, key: &ClientKey) {
        let Some(holder) = self.registry.get(key).map(|holder| holder.node.clone()) else { return };
        let gone = self.registry.remove(key, &holder).expect("it is that process's");
        let told = (gone.kind == Kind::Websocket).then(|| gone.key.application.clone());
        self.tell(told, Outgoing::Disconnected);
    }

    fn tell(&self, application: Option<Application>, packet: impl Fn(Application) -> Outgoing) {
        let Some(application) = application else { return };
        for outbox in self.listeners.values() {
            // Who does not read is closed for it, and whose connection is gone needs it no more.
            let _ = outbox.push(packet(application.clone()), None);
        }
    }
}
