//! The bus between the processes of a bot: announcements to all, and who is there (spec/cluster.md, "The bus").

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::admin::Admin;
use crate::cluster::node::NodeId;

/// What the bus tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusEvent {
    /// Our queue is bound and consumed: what others publish from now on is heard, and they see us.
    Up,
    /// The connection is lost: nothing is heard, and others take us for gone.
    Down,
    /// What a process published, maybe we ourselves.
    Message(Vec<u8>),
    /// The broker says that this process is not there any more.
    Gone(NodeId),
}

/// A handle on the bus. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    newest: watch::Sender<Option<Arc<[u8]>>>,
    watched: watch::Sender<Vec<NodeId>>,
}

/// Carries the bus: to be run by whoever owns the task.
#[derive(Debug)]
pub struct BusDriver {
    consumption: Admin,
    administration: Admin,
    group: Arc<str>,
    node: NodeId,
    bus: Bus,
    events: mpsc::Sender<BusEvent>,
}

/// Events on their way to whoever decides by them.
const EVENTS: usize = 64;

impl Bus {
    /// The bus of a group for the process `node`: it listens over `consumption` and publishes over `administration`.
    pub fn new(
        consumption: Admin,
        administration: Admin,
        group: &str,
        node: NodeId,
    ) -> (Self, BusDriver, mpsc::Receiver<BusEvent>) {
        let (sender, events) = mpsc::channel(EVENTS);
        let bus = Self { newest: watch::Sender::default(), watched: watch::Sender::default() };
        let driver =
            BusDriver { consumption, administration, group: group.into(), node, bus: bus.clone(), events: sender };
        (bus, driver, events)
    }

    /// Publishes to all processes, ourselves too, as soon as RabbitMQ takes it. Never waits; while RabbitMQ takes nothing, only
    /// the newest is kept.
    pub fn publish(&self, message: Vec<u8>) {
        self.newest.send_replace(Some(message.into()));
    }

    /// Whose presence to watch. Each of them that is not there is told once as [`BusEvent::Gone`].
    pub fn watch(&self, nodes: Vec<NodeId>) {
        self.watched.send_replace(nodes);
    }
}

impl BusDriver {
    /// Carries the bus until `stop`; then the process is seen to be gone.
    pub async fn run(self, stop: CancellationToken) {
        let _ = (&self.consumption, &self.administration, &self.group, &self.node, &self.bus, &self.events);
        stop.cancelled().await;
    }
}
