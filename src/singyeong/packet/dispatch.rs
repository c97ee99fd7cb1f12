//! What a client asks by op 4, read.

use crate::encoding::Value;
use crate::singyeong::metadata::Changes;
use crate::singyeong::query::Query;

/// A dispatch of a client.
#[derive(Clone, Debug)]
pub enum Dispatch {
    /// `UPDATE_METADATA`, validated.
    UpdateMetadata(Changes),
    /// `SEND`: to one that matches.
    Send(Message),
    /// `BROADCAST`: to all that match.
    Broadcast(Message),
    /// `QUERY_NODES`: who matches.
    QueryNodes(Query),
    /// `QUEUE`: a message into a queue.
    Queue(Queued),
    /// `QUEUE_REQUEST`: one message out of a queue, when there is one.
    QueueRequest(QueueName),
    /// `QUEUE_REQUEST_CANCEL`: no more message out of this queue.
    QueueRequestCancel(QueueName),
    /// `QUEUE_ACK`: a message was worked on.
    QueueAck(QueueName, Box<str>),
    /// Any other: a message to the exchange under this key.
    Publish {
        /// The key.
        name: Box<str>,
        /// The body.
        data: Value,
    },
}

/// A queue's name, as clients know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(pub Box<str>);

/// A message to clients.
#[derive(Clone, Debug)]
pub struct Message {
    /// To whom.
    pub target: Query,
    /// Its sender's name for it; any value.
    pub nonce: Value,
    /// What it says.
    pub payload: Value,
}

/// A message into a queue.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The queue.
    pub queue: QueueName,
    /// Who may receive it.
    pub target: Query,
    /// Its sender's name for it; any value.
    pub nonce: Value,
    /// What it says.
    pub payload: Value,
}
