//! Who waits for a message out of which queue, in the order in which they began.

use std::collections::{BTreeMap, HashMap};

use super::Source;
use crate::singyeong::ids::{Application, ClientKey, ConnectionId};
use crate::singyeong::packet::dispatch::QueueName;

/// A place in the order of waiting.
type Turn = u64;

/// A client that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub key: ClientKey,
    /// Its connection.
    pub connection: ConnectionId,
}

/// All that wait.
#[derive(Debug, Default)]
pub struct Requests {
    next: Turn,
    queues: HashMap<QueueName, HashMap<Application, BTreeMap<Turn, Waiting>>>,
    connections: HashMap<ConnectionId, HashMap<QueueName, (Application, Turn)>>,
}

impl Requests {
    /// A client waits now. False: it did before, and keeps its place.
    pub fn add(&mut self, key: &ClientKey, connection: ConnectionId, queue: &QueueName) -> bool {
        let own = self.connections.entry(connection).or_default();
        if own.contains_key(queue) {
            return false;
        }
        let turn = self.next;
        self.next += 1;
        own.insert(queue.clone(), (key.application.clone(), turn));
        let of_queue = self.queues.entry(queue.clone()).or_default();
        let of_application = of_queue.entry(key.application.clone()).or_default();
        of_application.insert(turn, Waiting { key: key.clone(), connection });
        true
    }

    /// It does not wait any more, for this queue; its application, if it did.
    pub fn remove(&mut self, connection: ConnectionId, queue: &QueueName) -> Option<Application> {
        let own = self.connections.get_mut(&connection)?;
        let (application, turn) = own.remove(queue)?;
        if own.is_empty() {
            self.connections.remove(&connection);
        }
        let of_queue = self.queues.get_mut(queue)?;
        let of_application = of_queue.get_mut(&application)?;
        of_application.remove(&turn);
        if of_application.is_empty() {
            of_queue.remove(&application);
        }
        if of_queue.is_empty() {
            self.queues.remove(queue);
        }
        Some(application)
    }

    /// For which queues it waits.
    pub fn of(&self, connection: ConnectionId) -> Vec<QueueName> {
        self.connections.get(&connection).map(|own| own.keys().cloned().collect()).unwrap_or_default()
    }

    /// All queues that somebody waits for.
    pub fn sources(&self) -> impl Iterator<Item = Source> {
        self.queues.iter().flat_map(|(queue, applications)| {
            let of = |application| Source { application, queue: queue.clone() };
            applications.keys().cloned().map(Some).chain([None]).map(of)
        })
    }

    /// How many wait for messages of this queue.
    pub fn waiting(&self, source: &Source) -> usize {
        let Some(of_queue) = self.queues.get(&source.queue) else { return 0 };
        match &source.application {
            Some(application) => of_queue.get(application).map_or(0, BTreeMap::len),
            None => of_queue.values().map(BTreeMap::len).sum(),
        }
    }

    /// The one that has waited longest of those for whom this holds.
    pub fn first(&self, source: &Source, mut holds: impl FnMut(&ClientKey) -> bool) -> Option<Waiting> {
        let of_queue = self.queues.get(&source.queue)?;
        if let Some(application) = &source.application {
            return of_queue.get(application)?.values().find(|waiting| holds(&waiting.key)).cloned();
        }
        let mut all: Vec<(&Turn, &Waiting)> = of_queue.values().flatten().collect();
        all.sort_unstable_by_key(|(turn, _)| **turn);
        all.into_iter().map(|(_, waiting)| waiting).find(|waiting| holds(&waiting.key)).cloned()
    }
}
