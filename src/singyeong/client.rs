//! A client, as it is known to all processes.

use std::collections::BTreeSet;

use super::ids::ClientKey;
use super::metadata::Metadata;
use super::packet::dispatch::QueueName;
use crate::cluster::node::NodeId;
use crate::encoding::{Encoding, Value};

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
    /// Whatever it said at identify.
    pub namespace: Value,
    /// Whether it is told of others that come and go.
    pub receives_client_updates: bool,
    /// In Unix milliseconds.
    pub last_heartbeat: u64,
    /// The queues that it has asked for messages of, and not cancelled.
    pub queues: BTreeSet<QueueName>,
    /// What it says of itself.
    pub metadata: Metadata,
}

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody at a websocket.
    Websocket,
    /// Optic itself, with its shards: messages to it are commands to Discord.
    Gateway,
}
