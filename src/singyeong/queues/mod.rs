//! Queues: what clients put into them and receive out of them (spec/singyeong.md, "Queues").
//!
//! ```text
//! Queues ── publish     QUEUE: a message into RabbitMQ, confirmed
//!    └───── driver      what is taken out of RabbitMQ, and to whom it goes
//!             ├─ core   the decisions; requests: who waits; room: how much is kept
//!             └─ message what a message says, in RabbitMQ's terms
//! ```

mod core;
mod driver;
mod message;
mod publish;
mod requests;
mod room;

pub use self::driver::{Queues, QueuesDriver};
use super::exchange::Later;
use super::ids::Application;
use super::packet::dispatch::QueueName;
use crate::amqp::delivery::Properties;
use crate::cluster::node::NodeId;

/// The way of a queue's messages to other processes.
pub trait Forward: Send + Sync + 'static {
    /// Sends a message to a process whose clients want it; done when RabbitMQ has it there.
    fn queued(&self, node: &NodeId, message: ForwardedMessage) -> Later<Result<(), NotForwarded>>;
}

/// A message for clients of another process.
#[derive(Clone, Debug)]
pub struct ForwardedMessage {
    /// The application whose queue it was in; none for that of no application.
    pub application: Option<Application>,
    /// The queue.
    pub queue: QueueName,
    /// What goes with it; its id is there.
    pub properties: Properties,
    /// What it says.
    pub body: Vec<u8>,
}

/// It may be in the other process's queue or not; it is given back here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message was not forwarded")]
pub struct NotForwarded;

/// A queue of RabbitMQ, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The application whose clients it is for; none for those of all.
    pub application: Option<Application>,
    /// Its name there.
    pub queue: QueueName,
}

impl Source {
    /// The queues out of which clients of this application receive when they ask for `queue`.
    fn of_client(application: &Application, queue: &QueueName) -> [Self; 2] {
        [Some(application.clone()), None].map(|application| Self { application, queue: queue.clone() })
    }
}
