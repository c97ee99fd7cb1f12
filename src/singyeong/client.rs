//! A client, as it is known to all processes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ids::ClientKey;
use super::metadata::{Metadata, Reserved};
use super::packet::dispatch::QueueName;
use crate::cluster::node::NodeId;
use crate::encoding::{Encoding, Map, Value};

/// What is known of a client. The process that has its connection owns this; others have copies.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Which.
    pub key: ClientKey,
    /// The process that has its connection.
    pub node: NodeId,
    /// When it was registered, in Unix milliseconds. Of two with one key the later holds: it was let in because the earlier
    /// did not answer.
    pub since: u64,
    /// What it is.
    pub kind: Kind,
    /// Whether it may only be looked at.
    pub restricted: bool,
    /// What it speaks.
    pub encoding: Encoding,
    /// Where REST requests to it go: `host:port` or an `http(s)://` base; none for a restricted client.
    pub ip: Option<Box<str>>,
    /// Whatever it said at identify; never changed, and shared by what is known of it from moment to moment.
    pub namespace: Arc<Value>,
    /// Whether it is told of others that come and go.
    pub receives_client_updates: bool,
    /// In Unix milliseconds.
    pub last_heartbeat: u64,
    /// The queues that it has asked for messages of, and not cancelled.
    pub queues: BTreeSet<QueueName>,
    /// What it says of itself.
    pub metadata: Metadata,
}

impl Client {
    /// As REST and `QUERY_NODES` show it.
    pub fn to_value(&self) -> Value {
        let own = self.metadata.iter().map(|(key, _, value)| (key.into(), value.clone()));
        let reserved = Reserved::ALL.into_iter().map(|reserved| (reserved.key().into(), self.reserved(reserved)));
        let types = self.metadata.iter().map(|(key, of, _)| (key.into(), Value::string(of.name())));
        let queues = self.queues.iter().map(|queue| Value::String(queue.0.clone()));
        Value::map([
            ("app_id", Value::string(self.key.application.as_str())),
            ("client_id", Value::string(self.key.client.as_str())),
            ("metadata", Value::Map(Map::new(own.chain(reserved).collect()))),
            ("metadata_types", Value::Map(Map::new(types.collect()))),
            ("queues", Value::List(queues.collect())),
            ("socket_ip", self.reserved(Reserved::Ip)),
        ])
    }

    /// What the server says of it.
    fn reserved(&self, reserved: Reserved) -> Value {
        match reserved {
            Reserved::Ip => self.ip.clone().map_or(Value::Null, Value::String),
            Reserved::Restricted => Value::Bool(self.restricted),
            Reserved::Encoding => Value::string(self.encoding.name()),
            Reserved::Namespace => Value::clone(&self.namespace),
            Reserved::LastHeartbeatTime => Value::Integer(self.last_heartbeat.try_into().unwrap_or(i64::MAX)),
            Reserved::ReceiveClientUpdates => Value::Bool(self.receives_client_updates),
        }
    }
}

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody at a websocket.
    Websocket,
    /// Optic itself, with its shards: messages to it are commands to Discord.
    Gateway,
}
