//! Dispatches of our clients on their way into RabbitMQ.

use super::envelope;
use super::mail::{self, Letter, Undone};
use super::origin::{self, Op, Origin};
use super::{LANES, Shared};
use crate::amqp::messenger::brief;
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
        published.err().map(|not_kept| failed(op.name(), sender, letter, &not_kept))
    }

    /// Publishes any other dispatch to whoever listens.
    pub(super) async fn publish_other(&self, sender: Sender, name: &str, data: Value) -> Option<Outgoing> {
        if name.is_empty() || name.len() > LONGEST_KEY || singyeong::is_reserved(name) {
            let refusal = Refusal::invalid_dispatch(Value::string(name), sender.ts, data);
            return Some(Outgoing::Invalid(refusal));
        }
        let (content_type, body) = envelope::plain(&data);
        // It may wait for long, and once is enough.
        drop(data);
        let properties = mail::of_type(content_type);
        let letter = Letter { properties: &properties, body: &body };
        match self.publish(&sender, name, None, letter).await {
            Ok(()) => None,
            Err(NotKept::Undone(Undone::Unroutable)) => {
                let data = envelope::read(&body, Some(content_type)).unwrap_or_default();
                Some(Outgoing::Invalid(Refusal::no_route(name, sender.ts, data)))
            }
            Err(not_kept) => Some(failed(name, sender, letter, &not_kept)),
        }
    }

    /// After all that its connection has published before, also where that has to be tried again. Whether the client is still
    /// there does not matter: its connection's task drops this when it has waited long enough.
    async fn publish(
        &self,
        sender: &Sender,
        key: &str,
        queue: Option<&Queue>,
        letter: Letter<'_>,
    ) -> Result<(), NotKept> {
        let _place = self.backlog.place(letter.body.len()).ok_or(NotKept::NoRoom)?;
        let lane = usize::try_from(sender.connection.get() % LANES as u64).expect("below the lanes' number");
        let _turn = self.turns[lane].lock().await;
        match queue {
            Some(queue) => self.dispatches.to_queue(lane, key, queue, letter, || true).await?,
            None => self.dispatches.to_key(lane, key, letter, || true).await?,
        }
        Ok(())
    }
}

/// As AMQP has it.
const LONGEST_KEY: usize = 255;

/// Why a dispatch is not in RabbitMQ.
enum NotKept {
    /// Others wait already, more than is kept in memory.
    NoRoom,
    Undone(Undone),
}

impl From<Undone> for NotKept {
    fn from(undone: Undone) -> Self {
        Self::Undone(undone)
    }
}

/// What was not published, the client is told.
fn failed(t: &str, sender: Sender, letter: Letter<'_>, not_kept: &NotKept) -> Outgoing {
    let why = match not_kept {
        NotKept::NoRoom => "too many messages wait for RabbitMQ",
        NotKept::Undone(Undone::NotHeld | Undone::Ending) => "this process ends",
        NotKept::Undone(Undone::GivenUp) => "RabbitMQ has not taken it for minutes",
        NotKept::Undone(Undone::Unroutable) => "no queue takes it",
        // Its text names what was asked, and no address.
        NotKept::Undone(Undone::Refused(error)) => &error.to_string(),
    };
    let body = envelope::read(letter.body, letter.properties.content_type.as_deref()).unwrap_or_default();
    let nonce = body.get("nonce").cloned().unwrap_or_default();
    let fields = [("nonce", nonce), ("t", Value::string(t)), ("ts", sender.ts), ("reason", Value::string(brief(why)))];
    Outgoing::Invalid(Refusal::with("message not kept", Value::map(fields)))
}
