//! The bus between the processes of a bot: announcements to all, and who is there (spec/cluster.md, "The bus").
//!
//! A process is there as long as its queue on the bus has a consumer: RabbitMQ itself says so, and no clock. Asking that of
//! all would be many questions, so each process looks at the next few in the order of ids, and tells the others whom it
//! misses; they look for themselves before they believe it.

mod listen;
mod presence;
mod publish;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::presence::Presence;
use self::publish::Outbox;
use super::admin::Admin;
use super::topology::Queue;
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
    outbox: Arc<Outbox>,
    presence: Arc<Presence>,
}

/// Carries the bus: to be run by whoever owns the task.
#[derive(Debug)]
pub struct BusDriver {
    consumption: Admin,
    administration: Admin,
    group: Arc<str>,
    node: NodeId,
    queue: Queue,
    bus: Bus,
    events: mpsc::Sender<BusEvent>,
}

/// Events on their way to whoever decides by them; what does not fit stays in our queue.
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
        let bus = Self { outbox: Arc::default(), presence: Arc::default() };
        let queue = Queue::node(group, &node);
        let driver = BusDriver {
            consumption,
            administration,
            group: group.into(),
            node,
            queue,
            bus: bus.clone(),
            events: sender,
        };
        (bus, driver, events)
    }

    /// Publishes to all processes, ourselves too, as soon as RabbitMQ takes it. Never waits; while RabbitMQ takes nothing, only
    /// the newest is kept.
    pub fn publish(&self, message: Vec<u8>) {
        self.outbox.put(message);
    }

    /// Whose presence to watch, in place of those before. Each of them that is found missing is told as [`BusEvent::Gone`],
    /// once, unless it is found present again or left out here meanwhile.
    pub fn watch(&self, nodes: Vec<NodeId>) {
        self.presence.watch(nodes);
    }
}

impl BusDriver {
    /// Carries the bus until `stop`. What was published before that still goes out, then the process is seen to be gone.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.listen(&stop), self.publish(&stop), self.look_who_is_there(&stop));
        self.leave().await;
    }
}
