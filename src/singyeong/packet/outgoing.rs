//! What the server says.

use std::sync::{Arc, OnceLock};

use super::dispatch::QueueName;
use super::refusal::NO_ROUTE;
pub use super::refusal::Refusal;
use crate::encoding::{Encoding, Term, Value, write_term};
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
        /// What is in it; all receivers share it.
        contents: Arc<Contents>,
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

/// A message to clients.
#[derive(Debug, Default)]
pub struct Contents {
    /// Of the message.
    pub nonce: Value,
    /// What it says.
    pub payload: Value,
    /// Who sent it, if that is known: a client's id.
    pub sender: Option<Box<str>>,
    /// A broadcast's packet, by encoding: encoded for the first who gets it, and then only copied.
    written: [OnceLock<Box<[u8]>>; 3],
}

impl Contents {
    /// A message.
    pub const fn new(nonce: Value, payload: Value, sender: Option<Box<str>>) -> Self {
        Self { nonce, payload, sender, written: [const { OnceLock::new() }; 3] }
    }
}

/// What it says counts, and not who has got it already.
impl PartialEq for Contents {
    fn eq(&self, other: &Self) -> bool {
        (&self.nonce, &self.payload, &self.sender) == (&other.nonce, &other.payload, &other.sender)
    }
}

impl Outgoing {
    /// A message to one client, or to all that match.
    pub fn message(broadcast: bool, nonce: Value, payload: Value, sender: Option<Box<str>>) -> Self {
        Self::Message { broadcast, contents: Arc::new(Contents::new(nonce, payload, sender)) }
    }

    /// Appends the packet as it is sent at `ts`, in Unix milliseconds; a broadcast has the time of its first receiver.
    ///
    /// What is a struct in the original has atoms as keys in ETF; what is a map there has not.
    pub fn write(&self, encoding: Encoding, ts: u64, out: &mut Vec<u8>) {
        let ts = Term::Integer(i64::try_from(ts).unwrap_or(i64::MAX));
        let write = |op, t: Option<&'static str>, d: Term<'_>, out: &mut Vec<u8>| {
            let t = t.map_or(Term::NULL, Term::Text);
            write_term(encoding, &Term::Struct(&[("op", Term::Integer(op)), ("d", d), ("t", t), ("ts", ts)]), out);
        };
        let mut packet = |op, t, d: Term<'_>| write(op, t, d, out);
        match self {
            Self::Hello { heartbeat_interval } => {
                let interval = i64::try_from(*heartbeat_interval).unwrap_or(i64::MAX);
                packet(0, None, Term::Map(&[("heartbeat_interval", Term::Integer(interval))]));
            }
            Self::Ready { client, restricted } => {
                let restricted = Term::Bool(*restricted);
                packet(2, None, Term::Map(&[("client_id", Term::Text(client.as_str())), ("restricted", restricted)]));
            }
            Self::Invalid(refusal) => self::refusal(refusal, |d| packet(3, None, d)),
            Self::Message { broadcast, contents } => {
                let Contents { nonce, payload, sender, written } = &**contents;
                let d = message(nonce, Term::Value(payload), sender.as_deref());
                if !broadcast {
                    return packet(4, Some("SEND"), Term::Struct(&d));
                }
                let written = written[encoding as usize].get_or_init(|| {
                    let mut written = Vec::new();
                    write(4, Some("BROADCAST"), Term::Struct(&d), &mut written);
                    written.into()
                });
                out.extend_from_slice(written);
            }
            Self::Queue { queue, id, nonce, payload, sender } => {
                let payload =
                    [("queue", Term::Text(&queue.0)), ("id", Term::Text(id)), ("payload", Term::Value(payload))];
                packet(4, Some("QUEUE"), Term::Struct(&message(nonce, Term::Struct(&payload), sender.as_deref())));
            }
            Self::QueueConfirm(queue) => {
                packet(4, Some("QUEUE_CONFIRM"), Term::Struct(&[("queue", Term::Text(&queue.0))]));
            }
            Self::Nodes(nodes) => packet(4, Some("QUERY_NODES"), Term::Map(&[("nodes", Term::Value(nodes))])),
            Self::Connected(application) | Self::Disconnected(application) => {
                let connected = matches!(self, Self::Connected(_));
                let t = if connected { "CLIENT_CONNECTED" } else { "CLIENT_DISCONNECTED" };
                let payload = Term::Struct(&[("app", Term::Text(application.as_str()))]);
                packet(
                    4,
                    Some(t),
                    Term::Struct(&[("nonce", Term::NULL), ("payload", payload), ("target", Term::NULL)]),
                );
            }
            Self::HeartbeatAck(client) => {
                packet(6, None, Term::Map(&[("client_id", Term::Text(client.as_str()))]));
            }
            Self::Goodbye => packet(7, None, Term::Map(&[("reason", Term::Text("load balancing"))])),
            Self::Error(refusal) => self::refusal(refusal, |d| packet(8, None, d)),
        }
    }
}

/// A delivered message. Its sender is told as before 2020, its target not.
fn message<'a>(nonce: &'a Value, payload: Term<'a>, sender: Option<&'a str>) -> [(&'static str, Term<'a>); 4] {
    let sender = sender.map_or(Term::NULL, Term::Text);
    [("nonce", Term::Value(nonce)), ("payload", payload), ("sender", sender), ("target", Term::NULL)]
}

fn refusal(refusal: &Refusal, write: impl FnOnce(Term<'_>)) {
    let error = if *refusal.error == *NO_ROUTE { Term::Atom(NO_ROUTE) } else { Term::Text(&refusal.error) };
    let Some(extra_info) = &refusal.extra_info else {
        return write(Term::Map(&[("error", error)]));
    };
    let told = |extra_info| write(Term::Struct(&[("error", error), ("extra_info", extra_info)]));
    let Some([op, d, t, ts]) = all(extra_info, ["op", "d", "t", "ts"]).filter(|_| refusal.tells_packet()) else {
        return told(Term::Value(extra_info));
    };
    let op = if op.as_str() == Some("dispatch") { Term::Atom("dispatch") } else { Term::Value(op) };
    let message =
        all(d, MESSAGE).map(|values| std::array::from_fn::<_, 3, _>(|n| (MESSAGE[n], Term::Value(values[n]))));
    let d = message.as_ref().map_or(Term::Value(d), |message| Term::Struct(message));
    told(Term::Struct(&[("op", op), ("d", d), ("t", Term::Value(t)), ("ts", Term::Value(ts))]));
}

/// The keys of a message, and no others.
const MESSAGE: [&str; 3] = ["nonce", "payload", "target"];

/// The values of these keys, if the value has exactly them.
fn all<'a, const N: usize>(value: &'a Value, keys: [&str; N]) -> Option<[&'a Value; N]> {
    let map = value.as_map().filter(|map| map.len() == N)?;
    let mut values = [&Value::Null; N];
    for (value, key) in values.iter_mut().zip(keys) {
        *value = map.get(key)?;
    }
    Some(values)
}
