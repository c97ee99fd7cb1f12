//! What a client asks by op 4, read.

use super::incoming::{Packet, fields};
use super::refusal::{INTERNAL_ERROR, INVALID_METADATA, Refusal, Refused, UNRECOVERABLE};
use crate::encoding::Value;
use crate::singyeong::metadata::{Changes, InvalidMetadata};
use crate::singyeong::query::{InvalidQuery, Query};

/// The bytes of the longest name of a dispatch or of a queue: RabbitMQ's keys are no longer.
const MOST_NAME: usize = 255;

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

impl Dispatch {
    /// Reads what a packet of op 4 asks for.
    ///
    /// # Errors
    /// What of it is not as it has to be: op 3 where the original goes on, op 8 where it does not.
    pub(super) fn read(packet: Packet, query_depth: usize) -> Result<Self, Refused> {
        match packet.t.as_str() {
            Some("UPDATE_METADATA") => changes(&packet.d).map(Self::UpdateMetadata),
            Some("SEND") => message(packet.d, query_depth).map(Self::Send),
            Some("BROADCAST") => message(packet.d, query_depth).map(Self::Broadcast),
            Some("QUERY_NODES") => query(&packet.d, query_depth).map(Self::QueryNodes),
            Some("QUEUE") => queued(packet, query_depth).map(Self::Queue),
            Some("QUEUE_REQUEST") => queue(packet).map(Self::QueueRequest),
            Some("QUEUE_REQUEST_CANCEL") => queue(packet).map(Self::QueueRequestCancel),
            Some("QUEUE_ACK") => acknowledged(packet),
            Some(name) if is_name(name) => Ok(Self::Publish { name: name.into(), data: packet.d }),
            _ => Err(invalid(packet)),
        }
    }
}

fn changes(d: &Value) -> Result<Changes, Refused> {
    Changes::read(d).map_err(|invalid| match invalid {
        InvalidMetadata::Malformed => Refused::Error(Refusal::new(INTERNAL_ERROR)),
        InvalidMetadata::Keys(keys) => Refused::Invalid(Refusal::with(INVALID_METADATA, keys)),
    })
}

fn message(d: Value, query_depth: usize) -> Result<Message, Refused> {
    let [Some(target), nonce, Some(payload)] = fields(d, ["target", "nonce", "payload"]) else {
        return Err(Refused::Error(Refusal::new(INTERNAL_ERROR)));
    };
    Ok(Message { target: query(&target, query_depth)?, nonce: nonce.unwrap_or_default(), payload })
}

fn queued(packet: Packet, query_depth: usize) -> Result<Queued, Refused> {
    let Some(queue) = queue_name(&packet.d) else { return Err(invalid(packet)) };
    if ["target", "nonce", "payload"].into_iter().any(|key| packet.d.get(key).is_none()) {
        return Err(invalid(packet));
    }
    let message = message(packet.d, query_depth)?;
    Ok(Queued { queue, target: message.target, nonce: message.nonce, payload: message.payload })
}

fn queue(packet: Packet) -> Result<QueueName, Refused> {
    queue_name(&packet.d).ok_or_else(|| invalid(packet))
}

fn acknowledged(packet: Packet) -> Result<Dispatch, Refused> {
    match (queue_name(&packet.d), packet.d.get("id").and_then(Value::as_str)) {
        (Some(queue), Some(id)) => Ok(Dispatch::QueueAck(queue, id.into())),
        _ => Err(invalid(packet)),
    }
}

fn queue_name(d: &Value) -> Option<QueueName> {
    let name = d.get("queue")?.as_str().filter(|name| is_name(name))?;
    Some(QueueName(name.into()))
}

fn is_name(name: &str) -> bool {
    (1..=MOST_NAME).contains(&name.len())
}

fn query(target: &Value, depth: usize) -> Result<Query, Refused> {
    Query::compile(target, depth).map_err(|invalid| {
        Refused::Error(match invalid {
            InvalidQuery::Malformed(_) => Refusal::new(UNRECOVERABLE),
            // A limit that the original has not: said in words.
            limit => Refusal::new(&limit.to_string()),
        })
    })
}

fn invalid(packet: Packet) -> Refused {
    Refused::Invalid(Refusal::invalid_dispatch(packet.t, packet.ts, packet.d))
}
