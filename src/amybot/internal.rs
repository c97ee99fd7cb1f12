//! What processes of a group tell the one that coordinates amybot's services, and its answers: JSON with a version.
//!
//! It goes to the exchange of the group with the key [`KEY`]. What a process tells of one connection, it tells in order.

use serde::{Deserialize, Serialize};

use super::message::{Message, ServiceName, Topics};
use super::optics::Runs;
use crate::cluster::node::NodeId;
use crate::discord::ids::ShardId;

/// The routing key; the queue is `<group>:optic:amybot`.
pub const KEY: &str = "optic:amybot";

/// Read and written. A process that knows more may add fields; who changes what is there writes another version.
const VERSION: u32 = 1;

/// The `message_id` of what a process tells of its connections: of each connection the later the larger. Told again, because
/// whether RabbitMQ has it was not known, it has the same.
pub fn message_id(node: &NodeId, number: u64) -> String {
    format!("{node}:{number}")
}

/// The number in a `message_id`, if it is one of this process.
pub fn number_of(node: &NodeId, message_id: &str) -> Option<u64> {
    message_id.strip_prefix(&format!("{node}:"))?.parse().ok()
}

/// AMQP's names are not longer.
const LONGEST_QUEUE: usize = 255;

/// What a process tells, or asks.
#[derive(Clone, Debug)]
pub enum Internal {
    /// A websocket client of this process said this.
    Said(Client, Message),
    /// A websocket client of this process is gone. Of one that never said anything, nothing needs to be told.
    Left(Client),
    /// All instances of a service are to do something: answered by [`InternalAnswer::Told`].
    Order(Order, ServiceName),
    /// Who is there: answered by [`InternalAnswer::Services`].
    List,
    /// This process runs these shards itself.
    Runs(NodeId, Runs),
}

/// A websocket connection, and how it is reached: its process's queue for answers, where messages to it carry its number as
/// `correlation_id`. A process that gets a message for a connection that it does not have any more says once more that it left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The process that it is connected to.
    pub node: NodeId,
    /// Its number there, never used again.
    pub connection: u64,
    /// The process's queue for answers.
    pub reply_to: String,
}

/// What a service is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Stop.
    Shutdown,
    /// Stop and start anew.
    Reboot,
}

/// What the coordinator answers to [`Internal::Order`] and [`Internal::List`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InternalAnswer {
    /// So many instances were told; none: there is no such service.
    Told {
        /// How many.
        instances: usize,
    },
    /// Who is there.
    Services(Services),
    /// It cannot be done.
    Failed {
        /// Why.
        error: String,
    },
}

/// All services, and how many shards there are for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// In how many shards the bot is split.
    pub shard_count: u32,
    /// How many of these no service has, and Optic does not run itself.
    pub free: u32,
    /// By name.
    pub services: Vec<Service>,
    /// What was passed on by the coordinator since its process began, by source and topic.
    #[serde(default)]
    pub proxied: Vec<Proxied>,
}

/// How many messages of a source under a topic were passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxied {
    /// Who said it.
    pub source: Box<str>,
    /// Under which topic.
    pub topic: Box<str>,
    /// So many went to somebody.
    pub delivered: u64,
    /// So many were wanted by nobody, and set aside.
    pub set_aside: u64,
}

/// The instances of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// In the order of their coming.
    pub instances: Vec<Instance>,
}

/// One running service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// How it is connected.
    pub over: Over,
    /// The shards it has.
    pub shards: Vec<ShardId>,
    /// For how many shards it waits.
    pub waiting: usize,
    /// The topics it wants.
    pub topics: Vec<Topics>,
}

/// How a service is connected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// By a queue.
    Amqp {
        /// The queue's name.
        queue: String,
    },
    /// By a connection to a process.
    Websocket {
        /// The process.
        node: NodeId,
        /// The connection's number.
        connection: u64,
    },
}

/// Why a message of another process cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Another Optic's.
    #[error("it is of version {0}, and this Optic knows {VERSION}")]
    Version(u32),
    /// Not what this version looks like.
    #[error("{0}")]
    Malformed(String),
}

/// All that a message may have.
#[derive(Serialize, Deserialize)]
struct Wire {
    version: u32,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<NodeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    op: Option<Order>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<ServiceName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    runs: Option<Runs>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Said,
    Left,
    Order,
    List,
    Runs,
}

#[derive(Serialize, Deserialize)]
struct WireAnswer {
    version: u32,
    #[serde(flatten)]
    answer: InternalAnswer,
}

/// What all versions have.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Internal {
    /// Reads a body.
    ///
    /// # Errors
    /// It is of another version, or nothing at all.
    pub fn read(body: &[u8]) -> Result<Self, Unreadable> {
        check_version(body)?;
        let wire: Wire = serde_json::from_slice(body).map_err(|error| Unreadable::Malformed(error.to_string()))?;
        let missing = |what: &str| Unreadable::Malformed(format!("\"{what}\" is missing"));
        let queue = |name: String| match name.len() {
            1..=LONGEST_QUEUE => Ok(name),
            _ => Err(Unreadable::Malformed(format!("\"reply_to\" has not 1 to {LONGEST_QUEUE} bytes"))),
        };
        let client = |node: Option<NodeId>, connection: Option<u64>, reply_to: Option<String>| {
            Ok(Client {
                node: node.ok_or_else(|| missing("node"))?,
                connection: connection.ok_or_else(|| missing("connection"))?,
                reply_to: reply_to.ok_or_else(|| missing("reply_to")).and_then(queue)?,
            })
        };
        Ok(match wire.kind {
            Kind::Said => Self::Said(
                client(wire.node, wire.connection, wire.reply_to)?,
                wire.message.ok_or_else(|| missing("message"))?,
            ),
            Kind::Left => Self::Left(client(wire.node, wire.connection, wire.reply_to)?),
            Kind::Order => {
                Self::Order(wire.op.ok_or_else(|| missing("op"))?, wire.service.ok_or_else(|| missing("service"))?)
            }
            Kind::List => Self::List,
            Kind::Runs => {
                Self::Runs(wire.node.ok_or_else(|| missing("node"))?, wire.runs.ok_or_else(|| missing("runs"))?)
            }
        })
    }

    /// As a body.
    pub fn to_json(&self) -> Vec<u8> {
        let empty = |kind| Wire {
            version: VERSION,
            kind,
            node: None,
            connection: None,
            reply_to: None,
            message: None,
            op: None,
            service: None,
            runs: None,
        };
        let of = |client: &Client, kind| Wire {
            node: Some(client.node.clone()),
            connection: Some(client.connection),
            reply_to: Some(client.reply_to.clone()),
            ..empty(kind)
        };
        let wire = match self {
            Self::Said(client, message) => Wire { message: Some(message.clone()), ..of(client, Kind::Said) },
            Self::Left(client) => of(client, Kind::Left),
            Self::Order(op, service) => Wire { op: Some(*op), service: Some(service.clone()), ..empty(Kind::Order) },
            Self::List => empty(Kind::List),
            Self::Runs(node, runs) => Wire { node: Some(node.clone()), runs: Some(runs.clone()), ..empty(Kind::Runs) },
        };
        serde_json::to_vec(&wire).expect("all keys are texts")
    }
}

impl InternalAnswer {
    /// Reads a body.
    ///
    /// # Errors
    /// It is of another version, or nothing at all.
    pub fn read(body: &[u8]) -> Result<Self, Unreadable> {
        check_version(body)?;
        let wire: WireAnswer =
            serde_json::from_slice(body).map_err(|error| Unreadable::Malformed(error.to_string()))?;
        Ok(wire.answer)
    }

    /// As a body.
    pub fn to_json(&self) -> Vec<u8> {
        let wire = WireAnswer { version: VERSION, answer: self.clone() };
        serde_json::to_vec(&wire).expect("all keys are texts")
    }
}

fn check_version(body: &[u8]) -> Result<(), Unreadable> {
    let version: Version = serde_json::from_slice(body).map_err(|error| Unreadable::Malformed(error.to_string()))?;
    if version.version == VERSION { Ok(()) } else { Err(Unreadable::Version(version.version)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client { node: NodeId::of_run("web-1", 1), connection: 7, reply_to: "amq.gen-x".to_owned() }
    }

    #[test]
    fn what_processes_tell_has_these_forms_and_reads_back() {
        let message =
            Message::read_json(br#"{"s":"bot","t":"gateway-proxy:bot:x","d":{"a": 1.0}}"#).expect("a message");
        let bot = ServiceName::new("bot").expect("a name");
        let shards = [0, 1].map(ShardId::new).into();
        let runs = Runs { shards, shard_count: Some(16), max_concurrency: Some(1), services: None };
        for (internal, json) in [
            (
                Internal::Said(client(), message),
                r#"{"version":1,"kind":"said","node":"web-1.00000001","connection":7,"reply_to":"amq.gen-x","message":{"s":"bot","t":"gateway-proxy:bot:x","d":{"a": 1.0}}}"#,
            ),
            (
                Internal::Left(client()),
                r#"{"version":1,"kind":"left","node":"web-1.00000001","connection":7,"reply_to":"amq.gen-x"}"#,
            ),
            (Internal::Order(Order::Reboot, bot), r#"{"version":1,"kind":"order","op":"reboot","service":"bot"}"#),
            (Internal::List, r#"{"version":1,"kind":"list"}"#),
            (
                Internal::Runs(NodeId::of_run("web-1", 1), runs),
                r#"{"version":1,"kind":"runs","node":"web-1.00000001","runs":{"shards":"0-1","shard_count":16,"max_concurrency":1}}"#,
            ),
        ] {
            assert_eq!(String::from_utf8_lossy(&internal.to_json()), json);
            let read = Internal::read(json.as_bytes()).expect("it reads back");
            assert_eq!(read.to_json(), internal.to_json());
        }
    }

    #[test]
    fn the_number_of_a_message_is_its_own_processs() {
        let node = NodeId::of_run("web-1", 1);
        assert_eq!(number_of(&node, &message_id(&node, 7)), Some(7));
        for other in ["7", "web-1:7", "web-1.00000002:7", "web-1.00000001:", "web-1.00000001:x"] {
            assert_eq!(number_of(&node, other), None, "{other}");
        }
    }

    #[test]
    fn answers_have_these_forms_and_read_back() {
        let service = Service {
            name: ServiceName::new("bot").expect("a name"),
            instances: vec![Instance {
                over: Over::Amqp { queue: "bot.1".to_owned() },
                shards: vec![ShardId::new(3)],
                waiting: 1,
                topics: vec!["music.*".to_owned().into()],
            }],
        };
        let proxied = Proxied { source: "bot".into(), topic: "x".into(), delivered: 2, set_aside: 1 };
        let services = Services { shard_count: 16, free: 15, services: vec![service], proxied: vec![proxied] };
        for (answer, json) in [
            (InternalAnswer::Told { instances: 2 }, r#"{"version":1,"told":{"instances":2}}"#),
            (
                InternalAnswer::Services(services),
                r#"{"version":1,"services":{"shard_count":16,"free":15,"services":[{"name":"bot","instances":[{"over":{"amqp":{"queue":"bot.1"}},"shards":[3],"waiting":1,"topics":["music.*"]}]}],"proxied":[{"source":"bot","topic":"x","delivered":2,"set_aside":1}]}}"#,
            ),
            (InternalAnswer::Failed { error: "no".to_owned() }, r#"{"version":1,"failed":{"error":"no"}}"#),
        ] {
            assert_eq!(String::from_utf8_lossy(&answer.to_json()), json);
            assert_eq!(InternalAnswer::read(json.as_bytes()), Ok(answer));
        }
    }

    #[test]
    fn a_queue_for_answers_has_a_name_that_amqp_takes() {
        let left = |reply_to: String| Internal::read(&Internal::Left(Client { reply_to, ..client() }).to_json());
        assert!(left("q".repeat(255)).is_ok());
        for name in [String::new(), "q".repeat(256)] {
            assert!(matches!(left(name), Err(Unreadable::Malformed(why)) if why.contains("reply_to")));
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert_eq!(Internal::read(br#"{"version":2,"kind":"new"}"#).expect_err("another"), Unreadable::Version(2));
        for body in
            [&b""[..], b"{}", br#"{"version":1,"kind":"left"}"#, br#"{"version":1,"kind":"order","op":"dance"}"#]
        {
            assert!(matches!(Internal::read(body), Err(Unreadable::Malformed(_))));
        }
    }
}
