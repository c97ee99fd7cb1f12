//! A service's instance, as the coordinator knows it: where it is reached, and what it said of itself.

use serde::{Deserialize, Serialize};

use super::internal::{Client, Over};
use super::message::{ServiceName, Topics};
use crate::encoding::Dialect;

/// Where an instance is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// In the queue that it named for answers.
    Queue(String),
    /// By a key, the service's name, where it named none; and the queue of that key.
    Key(ServiceName, String),
    /// Over a process.
    Client(Client),
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its service.
    pub name: ServiceName,
    /// Where it is reached.
    pub address: Address,
    /// In which form it is spoken to: as it spoke last.
    #[serde(with = "dialect")]
    pub dialect: Dialect,
    /// What it wants to hear; of interest where it is connected by websocket.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<Topics>,
    /// Who came before it has a lower one.
    pub order: u64,
    /// The number of what was told of it last, where it is connected by websocket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<u64>,
    /// The number of its last request that got a shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<u64>,
}

impl Address {
    /// Which instance is reached there.
    pub fn over(&self) -> Over {
        match self {
            Self::Queue(queue) | Self::Key(_, queue) => Over::Amqp { queue: queue.clone() },
            Self::Client(client) => Over::Websocket { node: client.node.clone(), connection: client.connection },
        }
    }

    /// The queue that it needs: without it, the instance is gone.
    pub fn queue(&self) -> &str {
        match self {
            Self::Queue(queue) | Self::Key(_, queue) => queue,
            Self::Client(client) => &client.reply_to,
        }
    }
}

impl Member {
    /// The bytes of its topics.
    pub fn topic_bytes(&self) -> usize {
        self.topics.iter().map(Topics::bytes).sum()
    }

    /// Whether it wants messages of this topic from the gateway. Who is connected to RabbitMQ binds its queue instead.
    pub fn wants(&self, topic: &str) -> Option<&Client> {
        let Address::Client(client) = &self.address else { return None };
        self.topics.iter().any(|topics| topics.contains(topic)).then_some(client)
    }
}

mod dialect {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use crate::encoding::Dialect;

    pub(super) fn serialize<S: Serializer>(dialect: &Dialect, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(dialect.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Dialect, D::Error> {
        let name = String::deserialize(deserializer)?;
        Dialect::of_name(&name).ok_or_else(|| D::Error::custom(format_args!("there is no dialect {name:?}")))
    }
}
