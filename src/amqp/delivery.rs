//! A message out of a queue, on its way to whoever does what it asks, and the giving of it back.
//!
//! Settling never waits and never fails: RabbitMQ has what was not acknowledged again as soon as the channel is gone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, message};

use crate::discord::ids::ShardId;

/// The headers that are ours begin so; others' are not looked at.
const OUR_HEADERS: [&str; 2] = ["x-optic-", "x-singyeong-"];

/// A message that was delivered and is not acknowledged yet.
///
/// Dropped without [`ack`](Self::ack) or [`requeue`](Self::requeue) it stays ours: for its shard or its place in the prefetch
/// nothing more comes until the lease or the consumer ends.
#[derive(Debug)]
#[must_use = "who takes a delivery acknowledges it or gives it back"]
pub struct Delivery {
    /// Where it was.
    pub from: From,
    /// What it says.
    pub body: Vec<u8>,
    /// What goes with it.
    pub properties: Properties,
    /// Whether it was delivered before, to us or to another.
    pub redelivered: bool,
    receipt: Receipt,
}

/// The queue of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// The commands of a shard that we hold.
    Shard(ShardId),
    /// A queue that several processes share, by its name.
    Queue(Arc<str>),
}

/// The properties of a message that Optic reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Of the body.
    pub content_type: Option<String>,
    /// The queue that waits for the outcome.
    pub reply_to: Option<String>,
    /// What the outcome is to carry, so that it is known for the answer to this.
    pub correlation_id: Option<String>,
    /// Its sender's name for it.
    pub message_id: Option<String>,
    /// Its place in a queue that has priorities.
    pub priority: Option<u8>,
    /// After how many milliseconds in a queue it is dropped, as text.
    pub expiration: Option<String>,
    /// The headers whose names begin with `x-optic-` or `x-singyeong-`; numbers as text.
    pub headers: BTreeMap<String, String>,
}

impl Delivery {
    /// Done with it: it is not delivered again.
    pub fn ack(self) {
        self.receipt.ack();
    }

    /// Gives it back to its queue, to the place where it was. It is delivered again, maybe at once and to us.
    pub fn requeue(self) {
        self.receipt.requeue();
    }

    /// Whether it is still ours: RabbitMQ has not got it back, be it that the lease was released or the connection lost.
    /// What it asks is better not begun when it is not: another process gets it.
    pub fn is_held(&self) -> bool {
        self.receipt.is_held()
    }

    /// What lapin delivered, on its channel.
    pub(super) fn of(from: From, delivered: message::Delivery, channel: &Arc<Channel>) -> Self {
        Self {
            from,
            body: delivered.data,
            properties: Properties::of(&delivered.properties),
            redelivered: delivered.redelivered,
            receipt: Receipt::new(Some(Arc::downgrade(channel)), delivered.delivery_tag),
        }
    }

    /// What settles it as well as the delivery itself; whoever is first counts.
    pub(super) fn receipt(&self) -> Receipt {
        self.receipt.clone()
    }

    /// A delivery of no channel, and what becomes of it: for tests of those who take deliveries.
    pub fn unattached(from: From, body: &[u8], properties: Properties) -> (Self, Receipt) {
        let receipt = Receipt::new(None, 0);
        (Self { from, body: body.to_owned(), properties, redelivered: false, receipt: receipt.clone() }, receipt)
    }
}

impl Properties {
    fn of(properties: &BasicProperties) -> Self {
        let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
        Self {
            content_type: text(properties.content_type()),
            reply_to: text(properties.reply_to()),
            correlation_id: text(properties.correlation_id()),
            message_id: text(properties.message_id()),
            priority: *properties.priority(),
            expiration: text(properties.expiration()),
            headers: properties.headers().as_ref().map(our_headers).unwrap_or_default(),
        }
    }
}

fn our_headers(headers: &FieldTable) -> BTreeMap<String, String> {
    let ours = headers.inner().iter().filter(|(name, _)| is_ours(name.as_str()));
    ours.filter_map(|(name, value)| Some((name.to_string(), as_text(value)?))).collect()
}

fn is_ours(header: &str) -> bool {
    OUR_HEADERS.iter().any(|ours| header.starts_with(ours))
}

/// Texts and the integers of whatever size a publisher chose.
fn as_text(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(n) => n.to_string(),
        AMQPValue::ShortShortUInt(n) => n.to_string(),
        AMQPValue::ShortInt(n) => n.to_string(),
        AMQPValue::ShortUInt(n) => n.to_string(),
        AMQPValue::LongInt(n) => n.to_string(),
        AMQPValue::LongUInt(n) => n.to_string(),
        AMQPValue::LongLongInt(n) => n.to_string(),
        _ => return None,
    })
}

/// What settles a delivery, once, whoever does it. An acknowledgement of a message that is not ours any more would make RabbitMQ
/// close the channel, and with it all its consumers.
#[derive(Clone)]
pub struct Receipt(Arc<State>);

struct State {
    /// Gone with the channel's owner: a delivery that somebody forgot keeps no channel open. None for an unattached one.
    channel: Option<Weak<Channel>>,
    tag: u64,
    outcome: AtomicU8,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Neither yet.
    Held,
    /// Acknowledged.
    Acknowledged,
    /// Given back.
    Requeued,
    /// Lost with its channel, as far as [`Receipt::lose`] says so.
    Lost,
}

impl Receipt {
    fn new(channel: Option<Weak<Channel>>, tag: u64) -> Self {
        Self(Arc::new(State { channel, tag, outcome: AtomicU8::new(Outcome::Held as u8) }))
    }

    /// What became of it as far as we did it; a lost channel changes nothing here.
    pub fn outcome(&self) -> Outcome {
        match self.0.outcome.load(Ordering::Acquire) {
            acknowledged if acknowledged == Outcome::Acknowledged as u8 => Outcome::Acknowledged,
            requeued if requeued == Outcome::Requeued as u8 => Outcome::Requeued,
            lost if lost == Outcome::Lost as u8 => Outcome::Lost,
            _ => Outcome::Held,
        }
    }

    pub(super) fn is_held(&self) -> bool {
        let is_lost = |channel: &Weak<Channel>| channel.upgrade().is_none_or(|channel| !channel.status().connected());
        self.outcome() == Outcome::Held && !self.0.channel.as_ref().is_some_and(is_lost)
    }

    /// What a lost channel does to the delivery, for one that has none.
    pub fn lose(&self) {
        self.settle(Outcome::Lost);
    }

    fn ack(&self) {
        if let Some(channel) = self.settle(Outcome::Acknowledged) {
            // Queued for the socket at the first poll; what comes later is only that it was written.
            let _ = channel.basic_ack(self.0.tag, BasicAckOptions::default()).now_or_never();
        }
    }

    /// Gives it back; whether there was anything to give back.
    pub(super) fn requeue(&self) -> bool {
        let Some(channel) = self.settle(Outcome::Requeued) else { return false };
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        let _ = channel.basic_nack(self.0.tag, options).now_or_never();
        true
    }

    /// The channel, for the first who settles.
    fn settle(&self, outcome: Outcome) -> Option<Arc<Channel>> {
        let held = Outcome::Held as u8;
        self.0.outcome.compare_exchange(held, outcome as u8, Ordering::AcqRel, Ordering::Acquire).ok()?;
        self.0.channel.as_ref()?.upgrade()
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("tag", &self.0.tag).field("outcome", &self.outcome()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_settles_first_counts_and_nobody_settles_twice() {
        let (delivery, receipt) = Delivery::unattached(From::Shard(ShardId::new(3)), b"{}", Properties::default());
        assert_eq!(receipt.outcome(), Outcome::Held);
        let second = delivery.receipt();
        delivery.ack();
        assert!(!second.requeue());
        assert_eq!(receipt.outcome(), Outcome::Acknowledged);
    }

    #[test]
    fn a_lost_delivery_is_not_held_and_not_given_back() {
        let (delivery, receipt) = Delivery::unattached(From::Queue("g:SEND".into()), b"{}", Properties::default());
        assert!(delivery.is_held());
        receipt.lose();
        assert!(!delivery.is_held());
        delivery.requeue();
        assert_eq!(receipt.outcome(), Outcome::Lost, "there is nothing to give back");
    }

    #[test]
    fn only_our_headers_are_read_and_numbers_are_text() {
        let mut headers = FieldTable::default();
        headers.insert("x-optic-reason".into(), AMQPValue::LongString("no such shard".into()));
        headers.insert("x-optic-attempt".into(), AMQPValue::LongLongInt(2));
        headers.insert("x-singyeong-sender".into(), AMQPValue::LongString("worker 1".into()));
        headers.insert("x-death".into(), AMQPValue::LongString("theirs".into()));
        headers.insert("x-optic-table".into(), AMQPValue::FieldTable(FieldTable::default()));
        let properties = BasicProperties::default().with_headers(headers).with_reply_to("amq.rabbitmq.reply-to".into());
        let read = Properties::of(&properties);
        assert_eq!(read.reply_to.as_deref(), Some("amq.rabbitmq.reply-to"));
        let headers: Vec<_> = read.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let ours = [("x-optic-attempt", "2"), ("x-optic-reason", "no such shard"), ("x-singyeong-sender", "worker 1")];
        assert_eq!(headers, ours);
    }
}
