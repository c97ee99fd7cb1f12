//! A bus between the processes of a bot: messages to all, and who is there (spec/cluster.md, "The bus").
//!
//! There are two, alike but for their [`Line`]: one for who runs which shard, one for what processes tell each other of
//! websocket clients.
//!
//! A process is there as long as its queue on the bus has a consumer: RabbitMQ itself says so, and no clock. Asking that of
//! all would be many questions, so each process looks at the next few in the order of ids, and tells the others whom it
//! misses; they look for themselves before they believe it.

mod listen;
mod presence;
mod publish;

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::presence::Presence;
use self::publish::{Given, Outbox};
use super::admin::Admin;
use super::topology::{Queue, cluster_exchange, singyeong_exchange};
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
    given: mpsc::Sender<Given>,
    presence: Arc<Presence>,
}

/// Which bus of a group: its names in RabbitMQ.
#[derive(Clone, Debug)]
pub struct Line {
    exchange: String,
    group: Arc<str>,
    queue: fn(&str, &NodeId) -> Queue,
}

/// Carries the bus: to be run by whoever owns the task.
#[derive(Debug)]
pub struct BusDriver {
    consumption: Admin,
    administration: Admin,
    line: Line,
    node: NodeId,
    queue: Queue,
    /// Locked by who publishes, as long as the driver runs.
    given: Mutex<mpsc::Receiver<Given>>,
    bus: Bus,
    events: mpsc::Sender<BusEvent>,
}

/// Events on their way to whoever decides by them; what does not fit stays in our queue.
const EVENTS: usize = 64;

impl Line {
    /// The one of the cluster: `G:optic:cluster`, `G:optic:node.<id>`.
    pub fn cluster(group: &str) -> Self {
        Self { exchange: cluster_exchange(group), group: group.into(), queue: Queue::node }
    }

    /// The one of websocket clients: `G:optic:singyeong`, `G:optic:singyeong-news.<id>`.
    pub fn singyeong(group: &str) -> Self {
        Self { exchange: singyeong_exchange(group), group: group.into(), queue: Queue::singyeong_news }
    }

    fn exchange(&self) -> &str {
        &self.exchange
    }

    fn queue(&self, node: &NodeId) -> Queue {
        (self.queue)(&self.group, node)
    }
}

impl Bus {
    /// The bus of a group's cluster for the process `node`: it listens over `consumption` and publishes over `administration`.
    pub fn new(
        consumption: Admin,
        administration: Admin,
        group: &str,
        node: NodeId,
    ) -> (Self, BusDriver, mpsc::Receiver<BusEvent>) {
        Self::on(Line::cluster(group), consumption, administration, node)
    }

    /// A bus for the process `node`.
    pub fn on(
        line: Line,
        consumption: Admin,
        administration: Admin,
        node: NodeId,
    ) -> (Self, BusDriver, mpsc::Receiver<BusEvent>) {
        let (sender, events) = mpsc::channel(EVENTS);
        // One: who has more waits until it is asked for.
        let (give, given) = mpsc::channel(1);
        let bus = Self { outbox: Arc::default(), given: give, presence: Arc::default() };
        let queue = line.queue(&node);
        let driver = BusDriver {
            consumption,
            administration,
            line,
            node,
            queue,
            given: Mutex::new(given),
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

    /// Publishes to all processes, ourselves too, and is done when RabbitMQ has it: for who has more to say than one would
    /// keep in memory, and says it as fast as it is taken. It is tried until then, and so may be published twice. Whether it
    /// was; not when the driver ends first.
    pub async fn deliver(&self, message: Vec<u8>) -> bool {
        let (published, confirm) = oneshot::channel();
        self.given.send(Given { message, published }).await.is_ok() && confirm.await.is_ok()
    }

    /// Whose presence to watch, in place of those before. Each of them that is found missing is told as [`BusEvent::Gone`],
    /// once, unless it is found present again or left out here meanwhile.
    pub fn watch(&self, nodes: Vec<NodeId>) {
        self.presence.watch(nodes);
    }

    /// Looks again, soon, whether these are there, if they are watched; who is not is told as [`BusEvent::Gone`] once more.
    pub fn look_again(&self, nodes: impl IntoIterator<Item = NodeId>) {
        nodes.into_iter().for_each(|node| self.presence.look_again(node));
    }
}

impl BusDriver {
    /// Carries the bus until `stop`. What was published before that still goes out, then the process is seen to be gone.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.listen(&stop), self.publish(&stop), self.look_who_is_there(&stop));
        self.leave().await;
    }
}
