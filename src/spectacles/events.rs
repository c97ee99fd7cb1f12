//! Events out: a [`Broker`] over the publishing connection, in the Spectacles layout. Spec: spec/amqp.md, "Events".

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tracing::{debug, error, warn};

use super::demand::{Demand, Wanted};
use super::dialect::{Body, Speaker};
use crate::amqp::publisher::{Abandoned, Field, Message, Observer, Properties, Publisher};
use crate::broker::{Broker, BrokerState, Event, GAP_EVENT, Gap, GapReason, Position, Wait};
use crate::clock::unix_millis;
use crate::discord::ids::{Seq, SessionId, Shard, ShardId};
use crate::encoding::{Dialect, Encoding};

/// What all events of a process have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `BROKER_GROUP`: the exchange.
    pub group: String,
    /// `BROKER_PERSISTENT`: whether queues keep events over a broker's restart.
    pub persistent: bool,
    /// `BROKER_MESSAGE_TIMEOUT`: after how long in a queue an event is dropped.
    pub message_timeout: Option<Duration>,
    /// `BROKER_ENCODING`: how bodies are written. `None`: as they were received; what nobody received, `OPTIC_GAP`, is JSON then.
    pub dialect: Option<Dialect>,
}

/// The broker that shards publish to.
pub struct Events {
    publisher: Publisher,
    settings: Settings,
    /// The `expiration` property: milliseconds as text.
    expiration: Option<String>,
    demand: Arc<Mutex<Demand>>,
    speaker: Speaker,
    /// How many shards the bot has in all; 0 until that is known.
    shard_count: AtomicU32,
    /// Reused for each `message_id`.
    message_id: Mutex<String>,
}

impl Events {
    /// Events go out by `publisher`, whose [`Observer`] is to be a [`Feedback`] of the same `demand`.
    pub fn new(publisher: Publisher, settings: Settings, demand: Arc<Mutex<Demand>>) -> Self {
        let expiration = settings.message_timeout.map(|timeout| timeout.as_millis().to_string());
        let speaker = Speaker::new(settings.dialect);
        let (shard_count, message_id) = (AtomicU32::new(0), Mutex::default());
        Self { publisher, settings, expiration, demand, speaker, shard_count, message_id }
    }

    /// The bot has so many shards from now on.
    pub fn set_shard_count(&self, shard_count: u32) {
        self.shard_count.store(shard_count, Ordering::Relaxed);
    }

    /// Publishes a body of ours or Discord's, a term without its version byte, in our dialect; `None` when it cannot be put into that, or
    /// AMQP cannot carry it.
    fn send(
        &self,
        name: &str,
        shard: Shard,
        seq: Seq,
        message_id: &str,
        mandatory: bool,
        (encoding, bytes): (Encoding, &[u8]),
    ) -> Option<Position> {
        let publish = |body: Body<'_>| self.send_body(name, shard, seq, message_id, mandatory, body);
        self.speaker.say(encoding, bytes, publish).unwrap_or_else(|reason| {
            error!(shard = %shard.id(), event = name, %seq, %reason, "an event cannot be converted");
            None
        })
    }

    fn send_body(
        &self,
        name: &str,
        shard: Shard,
        seq: Seq,
        message_id: &str,
        mandatory: bool,
        body: Body<'_>,
    ) -> Option<Position> {
        let message = Message {
            exchange: &self.settings.group,
            routing_key: name,
            mandatory,
            properties: Properties {
                content_type: Some(body.content_type),
                headers: &[("shard", Field::Int(i64::from(shard.id().get())))],
                persistent: self.settings.persistent,
                expiration: self.expiration.as_deref(),
                message_id: Some(message_id),
                timestamp: Some(unix_millis() / 1000),
                kind: Some(name),
                app_id: Some("optic"),
            },
            prefix: body.prefix,
            body: body.bytes,
            shard: shard.id().get(),
            seq: seq.get(),
        };
        match self.publisher.publish(&message) {
            Ok(position) => Some(position),
            Err(reason) => {
                error!(shard = %shard.id(), event = name, %seq, %reason, "an event cannot be published");
                None
            }
        }
    }
}

impl Broker for Events {
    fn publish(&self, event: &Event<'_>) -> Option<Position> {
        let (wanted, mandatory) = {
            let mut demand = lock(&self.demand);
            (demand.wants(event.name, self.publisher.settled(), Instant::now), demand.is_mandatory())
        };
        if wanted == Wanted::No {
            return None;
        }
        let position = {
            let mut message_id = lock(&self.message_id);
            message_id.clear();
            write!(message_id, "{}:{}", event.session, event.seq).expect("a String takes it");
            self.send(event.name, event.shard, event.seq, &message_id, mandatory, (event.encoding, event.data))
        };
        let Some(position) = position else {
            // Not what nobody wants, but a loss: settled once that is told.
            return self.publish_gap(&refused(event.shard, Some(event.session.clone()), event.seq, event.name));
        };
        if wanted == Wanted::Probe {
            lock(&self.demand).probed(event.name, position);
        }
        Some(position)
    }

    fn publish_gap(&self, gap: &Gap) -> Option<Position> {
        warn!(
            shard = %gap.shard.id(), reason = ?gap.reason, last_committed = %gap.last_committed,
            old_session = gap.old_session.as_ref().map(SessionId::as_str),
            new_session = gap.new_session.as_ref().map(SessionId::as_str),
            "events were lost: workers are told by {GAP_EVENT}"
        );
        let body = serde_json::to_vec(gap).expect("a gap is plain data");
        let id = format!("gap:{}:{}:{}", gap.shard.id(), gap.last_committed, gap.to);
        self.send(GAP_EVENT, gap.shard, gap.last_committed, &id, false, (Encoding::Json, &body))
    }

    fn discard(&self, shard: ShardId) {
        self.publisher.discard(shard);
    }

    fn settled(&self) -> Position {
        self.publisher.settled()
    }

    fn has_room(&self) -> bool {
        self.publisher.has_room()
    }

    fn room(&self) -> Wait<'_> {
        Box::pin(self.publisher.room())
    }

    fn flushed(&self) -> Wait<'_> {
        Box::pin(self.publisher.flushed())
    }

    fn state(&self) -> BrokerState {
        self.publisher.state()
    }
}

/// What the broker says of single messages, made use of: returns teach the demand, refusals become gaps.
pub struct Feedback {
    demand: Arc<Mutex<Demand>>,
    /// Set once the publisher exists, which wants this first.
    events: OnceLock<Weak<Events>>,
}

impl Feedback {
    /// Feedback for this demand.
    pub fn new(demand: Arc<Mutex<Demand>>) -> Self {
        Self { demand, events: OnceLock::new() }
    }

    /// Where gaps are to be told.
    pub fn tell(&self, events: &Arc<Events>) {
        // Set twice would be a mistake of the wiring; the first stays.
        let _ = self.events.set(Arc::downgrade(events));
    }
}

impl Observer for Feedback {
    fn returned(&self, routing_key: &str) {
        if lock(&self.demand).returned(routing_key, Instant::now()) {
            debug!(event = routing_key, "no queue for this event: it is tried once a second");
        }
    }

    fn abandoned(&self, message: &Abandoned) -> Option<Position> {
        // A notice that was itself given up is not told by another.
        if message.routing_key == GAP_EVENT {
            return None;
        }
        let events = self.events.get().and_then(Weak::upgrade)?;
        let shard = Shard::new(ShardId::new(message.shard), events.shard_count.load(Ordering::Relaxed))?;
        // A message id is session and number; see `publish`.
        let session = message.message_id.as_deref().and_then(|id| Some(SessionId::new(id.rsplit_once(':')?.0)));
        events.publish_gap(&refused(shard, session, Seq::new(message.seq), &message.routing_key))
    }
}

/// The notice of one event that the broker does not take.
fn refused(shard: Shard, session: Option<SessionId>, seq: Seq, name: &str) -> Gap {
    let now = unix_millis();
    Gap {
        shard,
        reason: GapReason::Refused,
        old_session: session,
        new_session: None,
        last_committed: seq,
        from: now,
        to: now,
        event: Some(name.to_owned()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::address::Address;
    use crate::amqp::publisher::{PublisherSettings, Window};
    use crate::cluster::fence::Fence;

    /// Events over a connection that is never made, listed ones only.
    fn events(names: &[&str], dialect: Option<Dialect>) -> Events {
        let demand = Arc::new(Mutex::new(Demand::listed(names.iter().copied())));
        let settings = PublisherSettings {
            address: Address::parse("amqp://localhost").expect("an address"),
            exchange: "gateway".to_owned(),
            connection_name: "test".to_owned(),
            window: Window { messages: 10, bytes: 1 << 20 },
            fence: Fence::open(),
        };
        let (publisher, _) = Publisher::new(settings, Arc::new(Feedback::new(demand.clone())));
        let settings = Settings { group: "gateway".to_owned(), persistent: true, message_timeout: None, dialect };
        Events::new(publisher, settings, demand)
    }

    #[test]
    fn what_amqp_cannot_carry_is_told_and_not_passed_over() {
        let events = events(&["MESSAGE_CREATE"], None);
        let shard = Shard::new(ShardId::new(0), 1).expect("the only one");
        let session = SessionId::new("s".repeat(300));
        let (seq, name, encoding) = (Seq::new(7), "MESSAGE_CREATE", Encoding::Json);
        let event = Event { shard, session: &session, seq, name, encoding, data: b"{}" };
        assert_eq!(events.publish(&event), Some(Position::new(0)), "the notice's place");
        assert_eq!(events.publish(&Event { name: "TYPING_START", ..event }), None, "nobody wants it");
        assert_eq!(events.publisher.counters().outbox.published, 1);
    }

    #[test]
    fn what_cannot_be_converted_is_told_too() {
        let events = events(&["MESSAGE_CREATE"], Some(Dialect::Plain(Encoding::Msgpack)));
        let shard = Shard::new(ShardId::new(0), 1).expect("the only one");
        let session = SessionId::new("s".to_owned());
        let (seq, name, encoding) = (Seq::new(7), "MESSAGE_CREATE", Encoding::Json);
        let event = Event { shard, session: &session, seq, name, encoding, data: b"{\"a\":}" };
        assert_eq!(events.publish(&event), Some(Position::new(0)), "the notice's place");
        assert_eq!(events.publish(&Event { data: b"{}", ..event }), Some(Position::new(1)));
        assert_eq!(events.publisher.counters().outbox.published, 2);
    }
}
