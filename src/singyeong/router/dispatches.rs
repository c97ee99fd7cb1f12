//! Dispatches of our clients on their way into RabbitMQ.

use super::envelope;
use super::mail::{self, Letter, Undone};
use super::origin::{self, Op, Origin};
use super::{LANES, Shared, told};
use crate::amqp::topology::{Queue, singyeong};
use crate::encoding::Value;
use crate::singyeong::exchange::Sender;
use crate::singyeong::packet::dispatch::Message;
use crate::singyeong::packet::outgoing::{Outgoing, Refusal};

impl Shared {
    /// Publishes a `SEND` or `BROADCAST`, to be routed by any process.
    pub(super) async fn publish_message(&self, sender: Sender, op: Op, message: Message) -> Option<Outgoing> {
        let Message { target, nonce, payload } = message;
        let from = Value::string(sender.key.client.as_str());
        let target = target.to_value();
        let (content_type, body) =
            envelope::body(&[("target", &target), ("payload", &payload), ("nonce", &nonce), ("sender", &from)]);
        drop((target, payload, nonce));
        let origin = Origin::new(self.hub.own().clone(), &sender, op).to_header();
        let properties = mail::with_headers(mail::of_type(content_type), [(origin::HEADER, origin)]);
        let queue = match op {
            Op::Send => Queue::singyeong_send(&self.group),
            Op::Broadcast => Queue::singyeong_broadcast(&self.group),
        };
        let letter = Letter { properties: &properties, body: &body };
        let published = self.publish(&sender, op.key(), Some(&queue), letter).await;
        match published {
            Ok(()) => None,
            Err(undone) => Some(failed(op.name(), &sender, &undone)),
        }
    }

    /// Publishes any other dispatch to whoever listens.
    pub(super) async fn publish_other(&self, sender: Sender, name: &str, data: Value) -> Option<Outgoing> {
        let refused = |reason: &str, data: Value| {
            let [t, reason] = [name, reason].map(Value::string);
            let op = Value::string("dispatch");
            let fields = [("op", op), ("t", t), ("ts", sender.ts.clone()), ("d", data), ("reason", reason)];
            Some(Outgoing::Invalid(Refusal::with("invalid dispatch payload", Value::map(fields))))
        };
        if name.is_empty() || singyeong::is_reserved(name) {
            return refused("this key is Optic's own, or another program's that it serves", data);
        }
        if name.len() > LONGEST_KEY {
            return refused("a key has at most 255 bytes", data);
        }
        let (content_type, body) = envelope::plain(&data);
        let properties = mail::of_type(content_type);
        match self.publish(&sender, name, None, Letter { properties: &properties, body: &body }).await {
            Ok(()) => None,
            Err(Undone::Unroutable) => Some(told::no_route(name, sender.ts, data)),
            Err(undone) => Some(failed(name, &sender, &undone)),
        }
    }

    /// After all that its connection has published before, also where that has to be tried again.
    async fn publish(
        &self,
        sender: &Sender,
        key: &str,
        queue: Option<&Queue>,
        letter: Letter<'_>,
    ) -> Result<(), Undone> {
        let lane = usize::try_from(sender.connection.get() % LANES as u64).expect("below the lanes' number");
        let _turn = self.turns[lane].lock().await;
        let is_connected = || self.hub.outbox(&sender.key).is_some();
        match queue {
            Some(queue) => self.dispatches.to_queue(lane, key, queue, letter, is_connected).await,
            None => self.dispatches.to_key(lane, key, letter, is_connected).await,
        }
    }
}

/// As AMQP has it.
const LONGEST_KEY: usize = 255;

/// What was not published, the client is told.
fn failed(t: &str, sender: &Sender, undone: &Undone) -> Outgoing {
    let why = match undone {
        Undone::NotHeld => "the client was gone",
        Undone::GivenUp => "RabbitMQ has not taken it for minutes",
        Undone::Unroutable => "no queue takes it",
        // Its text names what was asked, and no address.
        Undone::Refused(error) => &error.to_string(),
    };
    let fields = [("t", Value::string(t)), ("ts", sender.ts.clone()), ("reason", Value::string(why))];
    Outgoing::Invalid(Refusal::with("internal server error", Value::map(fields)))
}
