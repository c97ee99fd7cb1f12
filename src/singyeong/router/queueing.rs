//! The seam to queues: what of clients' dispatches is theirs, and messages of theirs that travel between processes.

use std::future::ready;
use std::sync::Arc;

use super::mail::{Letter, Undone};
use super::parcel::{Kind, Parcel};
use super::{Router, Shared, mail};
use crate::amqp::delivery::Delivery;
use crate::amqp::topology::{Queue, singyeong};
use crate::cluster::node::NodeId;
use crate::singyeong::exchange::{Exchange, Later, Sender};
use crate::singyeong::ids::{Application, ClientKey, ConnectionId};
use crate::singyeong::packet::dispatch::{Dispatch, QueueName, Queued};
use crate::singyeong::packet::outgoing::{Outgoing, Refusal};
use crate::singyeong::queues::{Forward, ForwardedMessage, NotForwarded, Queues};

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

impl Queueing for Queues {
    fn publish(&self, sender: Sender, queued: Queued) -> Later<Option<Outgoing>> {
        self.publish(sender, queued)
    }

    fn request(&self, sender: &Sender, queue: QueueName) {
        self.request(sender, queue);
    }

    fn cancel(&self, sender: &Sender, queue: QueueName) {
        self.cancel(sender, queue);
    }

    fn ack(&self, sender: &Sender, queue: QueueName, id: &str) {
        self.ack(sender, queue, id);
    }

    fn gone(&self, key: &ClientKey, connection: ConnectionId) {
        self.gone(key, connection);
    }

    fn forwarded(&self, parcel: Forwarded) {
        let Forwarded { application, queue, delivery } = parcel;
        self.forwarded(delivery, application, queue);
    }
}

impl Forward for Router {
    fn queued(&self, node: &NodeId, message: ForwardedMessage) -> Later<Result<(), NotForwarded>> {
        let (shared, node) = (self.0.clone(), node.clone());
        Box::pin(async move {
            let ForwardedMessage { application, queue, properties, body } = message;
            let kind = Kind::Queued {
                application: application.as_ref().map(ToString::to_string),
                queue: queue.0.clone().into_string(),
            };
            let letter = Letter { properties: &properties, body: &body };
            // Whether it is still ours is the queues' business: what is not, comes twice.
            let forwarded = shared.to_node(&queue, &node, &Parcel::new(kind), letter, || true).await;
            forwarded.map_err(|_| NotForwarded)
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
