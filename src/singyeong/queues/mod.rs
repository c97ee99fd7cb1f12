//! Queues: what clients put into them and receive out of them (spec/singyeong.md, "Queues").
//!
//! ```text
//! Queues ── publish     QUEUE: a message into RabbitMQ, confirmed
//!    └───── driver      what is taken out of RabbitMQ, and to whom it goes
//!             ├─ core   the decisions; requests: who waits
//!             └─ message what a message says, in RabbitMQ's terms
//! ```

mod core;
mod requests;

use super::ids::Application;
use super::packet::dispatch::QueueName;

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
