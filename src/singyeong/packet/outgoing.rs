//! What the server says.

use super::dispatch::QueueName;
use crate::encoding::Value;
use crate::singyeong::ids::{Application, ClientId};

/// A packet to a client, in no encoding yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    /// Op 0.
    Hello {
        /// In milliseconds.
        heartbeat_interval: u64,
    },
    /// Op 2.
    Ready {
        /// Whose.
        client: ClientId,
        /// Whether it may only be looked at.
        restricted: bool,
    },
    /// Op 3: something was refused, and the connection goes on.
    Invalid(Refusal),
    /// Op 4, `SEND` or `BROADCAST`.
    Message {
        /// Whether to all that match.
        broadcast: bool,
        /// Of the message.
        nonce: Value,
        /// What it says.
        payload: Value,
        /// Who sent it, if that is known: a client's id.
        sender: Option<Box<str>>,
    },
    /// Op 4, `QUEUE`.
    Queue {
        /// Where it was.
        queue: QueueName,
        /// Its name when it is acknowledged.
        id: Box<str>,
        /// Of the message.
        nonce: Value,
        /// What it says.
        payload: Value,
        /// Who sent it, if that is known: a client's id.
        sender: Option<Box<str>>,
    },
    /// Op 4, `QUEUE_CONFIRM`.
    QueueConfirm(QueueName),
    /// Op 4, `QUERY_NODES`: by node, its clients as the REST query shows them.
    Nodes(Value),
    /// Op 4, `CLIENT_CONNECTED`.
    Connected(Application),
    /// Op 4, `CLIENT_DISCONNECTED`.
    Disconnected(Application),
    /// Op 6.
    HeartbeatAck(ClientId),
    /// Op 7.
    Goodbye,
    /// Op 8: the connection is closed after it.
    Error(Refusal),
}

/// What was refused, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The text that clients match on.
    pub error: Box<str>,
    /// More about it; `None` where the original has no such key.
    pub extra_info: Option<Value>,
}

impl Refusal {
    /// Nothing more to say.
    pub fn new(error: &str) -> Self {
        Self { error: error.into(), extra_info: Some(Value::Null) }
    }

    /// With more about it.
    pub fn with(error: &str, extra_info: Value) -> Self {
        Self { error: error.into(), extra_info: Some(extra_info) }
    }
}
