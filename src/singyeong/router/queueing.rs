//! The seam to queues: what of clients' dispatches is theirs, and messages of theirs that travel between processes.

use std::future::ready;
use std::sync::Arc;

use super::mail::{Letter, Undone};
use super::parcel::{Kind, Parcel};
use super::{Router, Shared, mail};
use crate::amqp::delivery::{Delivery, Properties};
use crate::amqp::topology::{Queue, singyeong};
use crate::cluster::node::NodeId;
use crate::singyeong::exchange::{Exchange, Later, Sender};
use crate::singyeong::ids::{Application, ClientKey, ConnectionId};
use crate::singyeong::packet::dispatch::{Dispatch, QueueName, Queued};
use crate::singyeong::packet::outgoing::{Outgoing, Refusal};

/// What queues do.
pub trait Queueing: Send + Sync + 'static {
    /// `QUEUE`; see [`Exchange::dispatch`].
    fn publish(&self, sender: Sender, queued: Queued) -> Later<Option<Outgoing>>;

    /// `QUEUE_REQUEST`.
    fn request(&self, sender: &Sender, queue: QueueName);

    /// `QUEUE_REQUEST_CANCEL`.
    fn cancel(&self, sender: &Sender, queue: QueueName);

    /// `QUEUE_ACK`.
    fn ack(&self, sender: &Sender, queue: QueueName, id: &str);

    /// See [`Exchange::gone`].
    fn gone(&self, key: &ClientKey, connection: ConnectionId);

    /// Another process sent a queue's message for clients of this one. It is the queues' now, to be acknowledged when it is
    /// worked on.
    fn forwarded(&self, parcel: Forwarded);
}

/// A queue's message out of another process.
#[derive(Debug)]
pub struct Forwarded {
    /// Whose queue; none, when it is nobody's alone.
    pub application: Option<Application>,
    /// Its name.
    pub queue: QueueName,
    /// The message, with the properties that it had.
    pub delivery: Delivery,
}

/// Why a queue's message did not get to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotForwarded {
    /// It is not ours any more.
    #[error("the message is not ours any more")]
    NotHeld,
    /// The process is gone, or RabbitMQ takes nothing.
    #[error("the other process does not get it")]
    Unreachable,
}

/// Takes all dispatches: what is for queues, and what is routed.
#[derive(Clone)]
pub struct Dispatcher {
    router: Router,
    queues: Arc<dyn Queueing>,
}

impl Dispatcher {
    /// Joins both.
    pub const fn new(router: Router, queues: Arc<dyn Queueing>) -> Self {
        Self { router, queues }
    }
}

impl Exchange for Dispatcher {
    fn dispatch(&self, sender: Sender, dispatch: Dispatch) -> Later<Option<Outgoing>> {
        match dispatch {
            Dispatch::Send(message) => return self.router.send(sender, message),
            Dispatch::Broadcast(message) => return self.router.broadcast(sender, message),
            Dispatch::Publish { name, data } => return self.router.publish(sender, name, data),
            Dispatch::Queue(queued) => return self.queues.publish(sender, queued),
            Dispatch::QueueRequest(queue) => self.queues.request(&sender, queue),
            Dispatch::QueueRequestCancel(queue) => self.queues.cancel(&sender, queue),
            Dispatch::QueueAck(queue, id) => self.queues.ack(&sender, queue, &id),
            // By the contract they do not come here.
            Dispatch::UpdateMetadata(_) | Dispatch::QueryNodes(_) => {
                let refused = Outgoing::Invalid(Refusal::new("internal server error"));
                return Box::pin(ready(Some(refused)));
            }
        }
        Box::pin(ready(None))
    }

    fn gone(&self, key: &ClientKey, connection: ConnectionId) {
        self.queues.gone(key, connection);
    }

    fn probe(&self, node: &NodeId, key: &ClientKey) -> Later<bool> {
        self.router.probe(node, key)
    }
}

impl Router {
    /// Sends a queue's message to a process, for clients of its own. Done when it is there, and this delivery may be
    /// acknowledged.
    ///
    /// # Errors
    /// It is not known to be there.
    pub async fn forward_queued(
        &self,
        node: &NodeId,
        application: Option<&Application>,
        queue: &QueueName,
        properties: &Properties,
        body: &[u8],
        is_held: impl Fn() -> bool,
    ) -> Result<(), NotForwarded> {
        let kind =
            Kind::Queued { application: application.map(ToString::to_string), queue: queue.0.clone().into_string() };
        let letter = Letter { properties, body };
        let forwarded = self.0.mail.to_node(queue, node, &Parcel::new(kind), letter, is_held).await;
        forwarded.map_err(|undone| match undone {
            Undone::NotHeld => NotForwarded::NotHeld,
            Undone::GivenUp | Undone::Unroutable | Undone::Refused(_) => NotForwarded::Unreachable,
        })
    }
}

impl Shared {
    /// Puts a queue's message that its process did not take back: behind the others, for whoever asks next.
    pub(super) async fn queue_again(
        &self,
        application: Option<&str>,
        queue: &str,
        delivery: &Delivery,
    ) -> Result<(), Undone> {
        let (letter, lane) = (Letter { properties: &delivery.properties, body: &delivery.body }, mail::lane_of(queue));
        match application {
            Some(application) => {
                let key = singyeong::queue_key(application, queue);
                let declared = Queue::of_application(&self.group, application, queue).map_err(Undone::Refused)?;
                self.mail.to_queue(lane, &key, &declared, letter, || delivery.is_held()).await
            }
            None => {
                let declared = Queue::of_no_application(&self.group, queue).map_err(Undone::Refused)?;
                self.mail.to_declared(lane, &declared, letter, || delivery.is_held()).await
            }
        }
    }
}
