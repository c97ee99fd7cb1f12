//! Which client a message in RabbitMQ is from, in its headers: who is told when nobody matches.

use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::cluster::node::NodeId;
use crate::encoding::Value;
use crate::singyeong::exchange::Sender;
use crate::singyeong::ids::{Application, ClientId, ClientKey};

/// The header.
pub(super) const HEADER: &str = "x-singyeong-origin";
/// Of what we write.
const VERSION: u32 = 1;

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Op {
    /// One that matches gets it.
    #[serde(rename = "SEND")]
    Send,
    /// All that match get it.
    #[serde(rename = "BROADCAST")]
    Broadcast,
}

/// A client's name in a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Address {
    pub(super) application: String,
    pub(super) client: String,
}

/// Where a message is from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Origin {
    version: u32,
    /// The process that took it.
    pub(super) node: NodeId,
    #[serde(flatten)]
    client: Address,
    connection: u64,
    /// The message's number, which no other has: the same message may come twice.
    pub(super) message: u64,
    pub(super) op: Op,
    /// The packet's, if it was a number.
    ts: Option<Number>,
}

impl Op {
    /// Its routing key, and the end of its queue's name.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Send => "SINGYEONG_SEND",
            Self::Broadcast => "SINGYEONG_BROADCAST",
        }
    }

    /// The `t` of its packets.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Send => "SEND",
            Self::Broadcast => "BROADCAST",
        }
    }
}

impl Address {
    pub(super) fn of(key: &ClientKey) -> Self {
        Self { application: key.application.to_string(), client: key.client.to_string() }
    }

    pub(super) fn key(&self) -> ClientKey {
        ClientKey { application: Application::new(&self.application), client: ClientId::new(&self.client) }
    }
}

impl Origin {
    pub(super) fn new(node: NodeId, sender: &Sender, op: Op) -> Self {
        Self {
            version: VERSION,
            node,
            client: Address::of(&sender.key),
            connection: sender.connection.get(),
            message: fastrand::u64(..),
            op,
            ts: number(&sender.ts),
        }
    }

    /// From a header, if it is one that we can read: without, nobody is told.
    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|origin: &Self| origin.version == VERSION)
    }

    pub(super) fn to_header(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts are JSON")
    }

    /// The client.
    pub(super) fn key(&self) -> ClientKey {
        self.client.key()
    }

    /// The packet's `ts`.
    pub(super) fn ts(&self) -> Value {
        match &self.ts {
            None => Value::Null,
            Some(number) => match number.as_i64() {
                Some(integer) => Value::Integer(integer),
                None => number.as_f64().map_or(Value::Null, Value::Float),
            },
        }
    }
}

/// Headers are small: any other value as `ts` is told back as null.
fn number(ts: &Value) -> Option<Number> {
    match ts {
        Value::Integer(integer) => Some((*integer).into()),
        Value::Float(float) => Number::from_f64(*float),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::singyeong::ids::ConnectionId;

    #[test]
    fn an_origin_is_read_as_it_was_written_and_another_version_is_none() {
        for (ts, told) in [
            (Value::Integer(7), Value::Integer(7)),
            (Value::Float(1.5), Value::Float(1.5)),
            (Value::Null, Value::Null),
            (Value::string(&"x".repeat(100_000)), Value::Null),
        ] {
            let sender = Sender { key: ClientKey::new("a\"b", "ü"), connection: ConnectionId::new(9), ts };
            let origin = Origin::new(NodeId::of_run("web", 1), &sender, Op::Broadcast);
            let header = origin.to_header();
            assert!(header.len() < 200, "{header}");
            let read = Origin::read(&header).expect("an origin");
            assert_eq!((read.key(), read.ts()), (sender.key, told));
            assert_eq!(read, origin);
            assert_eq!(Origin::read(&header.replace("\"version\":1", "\"version\":2")), None);
        }
        assert_eq!(Origin::read("{}"), None);
    }
}
