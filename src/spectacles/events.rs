//! Events out: a [`Broker`] over the publishing connection, in the Spectacles layout. Spec: spec/amqp.md, "Events".

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tracing::{debug, error, warn};

use super::demand::{Demand, Wanted};
use super::dialect::{Body, Speaker};
use super::forward_id::ForwardId;
use super::tally::Count;
use crate::amqp::publisher::{Abandoned, Field, Message, Observer, Properties, Publisher, Returned};
use crate::amqp::standing::Standing;
use crate::broker::{Broker, BrokerState, Event, GAP_EVENT, Gap, GapCounts, GapReason, Position, Wait};
use crate::clock::unix_millis;
use crate::discord::ids::{Seq, SessionId, Shard, ShardId};
use crate::encoding::{Dialect, Encoding, ReadError};

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
    /// Of events that cannot be converted.
    unconverted: Mutex<Count>,
    /// How many shards the bot has in all; 0 until that is known.
    shard_count: AtomicU32,
    /// Reused for each `message_id`.
    message_id: Mutex<String>,
    /// Events that a rule did not forward: there may be as many as there are events.
    not_forwarded: Mutex<Count>,
    gaps: GapCounts,
}

impl Events {
    /// Events go out by `publisher`, whose [`Observer`] is to be a [`Feedback`] of the same `demand`.
    pub fn new(publisher: Publisher, settings: Settings, demand: Arc<Mutex<Demand>>) -> Self {
        let expiration = settings.message_timeout.map(|timeout| timeout.as_millis().to_string());
        let speaker = Speaker::new(settings.dialect);
        Self {
            publisher,
            settings,
            expiration,
            demand,
            speaker,
            unconverted: Mutex::default(),
            shard_count: AtomicU32::new(0),
            message_id: Mutex::default(),
            not_forwarded: Mutex::default(),
            gaps: GapCounts::default(),
        }
    }

    /// The bot has so many shards from now on.
    pub fn set_shard_count(&self, shard_count: u32) {
        self.shard_count.store(shard_count, Ordering::Relaxed);
    }

    /// How many events went out as they were received, because they cannot be converted.
    pub fn unconverted(&self) -> u64 {
        lock(&self.unconverted).total()
    }

    /// How many gaps were told.
    pub fn gaps(&self) -> &GapCounts {
        &self.gaps
    }

    /// Publishes a body of ours or Discord's, a term without its version byte, in our dialect; `None` when AMQP cannot carry it.
    fn send(
        &self,
        name: &str,
        shard: Shard,
        seq: Seq,
        message_id: &str,
        mandatory: bool,
        (encoding, bytes): (Encoding, &[u8]),
    ) -> Option<Position> {
        self.speaker.say(encoding, bytes, |body| {
            if let Some(reason) = body.unconverted {
                self.tell_unconverted(name, shard, seq, reason);
            }
            self.send_body(name, shard, seq, message_id, mandatory, body)
        })
    }

    fn tell_unconverted(&self, name: &str, shard: Shard, seq: Seq, reason: &ReadError) {
        if let Some(more) = lock(&self.unconverted).count(Instant::now()) {
            let shard = shard.id();
            warn!(%shard, event = name, %seq, %reason, more, "an event cannot be converted: it is published as it was received");
        }
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

    /// Publishes an event, and leaves it to the caller to tell that it cannot be. `None`: nobody wants it.
    ///
    /// # Errors
    /// The gap to be told: settled is the event only with that.
    pub fn try_publish(&self, event: &Event<'_>) -> Result<Option<Position>, Gap> {
        let (wanted, mandatory) = {
            let mut demand = lock(&self.demand);
            (demand.wants(event.name, self.publisher.settled(), Instant::now), demand.is_mandatory())
        };
        if wanted == Wanted::No {
            return Ok(None);
        }
        let position = {
            let mut message_id = lock(&self.message_id);
            message_id.clear();
            write!(message_id, "{}:{}", event.session, event.seq).expect("a String takes it");
            self.send(event.name, event.shard, event.seq, &message_id, mandatory, (event.encoding, event.data))
        };
        let Some(position) = position else {
            // Not what nobody wants, but a loss.
            return Err(refused(event.shard, Some(event.session.clone()), event.seq, event.name, None));
        };
        if wanted == Wanted::Probe {
            lock(&self.demand).probed(event.name, position);
        }
        Ok(Some(position))
    }

    /// Publishes a message that forwards an event, under another key. Whether workers want the event is no question here.
    ///
    /// # Errors
    /// The gap to be told, as with [`try_publish`](Self::try_publish).
    pub fn forward(&self, forward: &Forward<'_>) -> Result<Position, Gap> {
        let Forward { rule, key, event, session, shard, seq, body } = *forward;
        let message_id = ForwardId { rule, event, session: session.map(SessionId::as_str) }.with(seq);
        let message = Message {
            exchange: &self.settings.group,
            routing_key: key,
            // Should its queue be gone, it comes back: see `Feedback`.
            mandatory: true,
            properties: Properties {
                content_type: Some("application/json"),
                headers: &[("shard", Field::Int(i64::from(shard.id().get())))],
                persistent: self.settings.persistent,
                expiration: self.expiration.as_deref(),
                message_id: Some(&message_id),
                timestamp: Some(unix_millis() / 1000),
                kind: Some(event),
                app_id: Some("optic"),
            },
            prefix: None,
            body,
            shard: shard.id().get(),
            seq: seq.get(),
        };
        self.publisher.publish(&message).map_err(|reason| {
            error!(shard = %shard.id(), event, %seq, rule, %reason, "an event cannot be forwarded");
            refused(shard, session.cloned(), seq, event, Some(rule))
        })
    }
}

/// A message that forwards an event.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// The number of the rule that wants it.
    pub rule: u32,
    /// Where it goes.
    pub key: &'a str,
    /// The event's name.
    pub event: &'a str,
    /// Of the event.
    pub session: Option<&'a SessionId>,
    /// Of the event.
    pub shard: Shard,
    /// Of the event.
    pub seq: Seq,
    /// JSON.
    pub body: &'a [u8],
}

impl Broker for Events {
    fn publish(&self, event: &Event<'_>) -> Option<Position> {
        self.try_publish(event).unwrap_or_else(|gap| self.publish_gap(&gap))
    }

    fn publish_gap(&self, gap: &Gap) -> Option<Position> {
        self.gaps.count(gap.reason);
        let (shard, last_committed) = (gap.shard.id(), gap.last_committed);
        match gap.rule {
            None => warn!(
                %shard, reason = ?gap.reason, %last_committed,
                old_session = gap.old_session.as_ref().map(SessionId::as_str),
                new_session = gap.new_session.as_ref().map(SessionId::as_str),
                "events were lost: workers are told by {GAP_EVENT}"
            ),
            Some(rule) => {
                let event = gap.event.as_deref();
                if let Some(more) = lock(&self.not_forwarded).count(Instant::now()) {
                    warn!(%shard, rule, event, %last_committed, more, "an event was not forwarded: workers are told by {GAP_EVENT}");
                }
            }
        }
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
    /// By whom gaps are told, where it is not the events' own broker.
    gaps: OnceLock<Weak<dyn Broker>>,
    /// The queues of forwarded events.
    forwarded: OnceLock<Standing>,
}

impl Feedback {
    /// Feedback for this demand.
    pub fn new(demand: Arc<Mutex<Demand>>) -> Self {
        let (events, gaps, forwarded) = Default::default();
        Self { demand, events, gaps, forwarded }
    }

    /// Where gaps are to be told.
    pub fn tell(&self, events: &Arc<Events>) {
        // Set twice would be a mistake of the wiring; the first stays.
        let _ = self.events.set(Arc::downgrade(events));
    }

    /// By whom gaps are to be told, if that is not the events' own broker: one around it.
    pub fn tell_by(&self, broker: Weak<dyn Broker>) {
        let _ = self.gaps.set(broker);
    }

    /// Who declares the queues of forwarded events when one is gone.
    pub fn forward_to(&self, queues: Standing) {
        let _ = self.forwarded.set(queues);
    }
}

impl Observer for Feedback {
    fn returned(&self, routing_key: &str, message_id: Option<&str>) -> Returned {
        // Whoever wants an event declares its queue; that of a forwarded one is ours.
        if message_id.and_then(ForwardId::of).is_some() {
            return self.forwarded.get().map_or(Returned::Again, Standing::missed);
        }
        if lock(&self.demand).returned(routing_key, Instant::now()) {
            debug!(event = routing_key, "no queue for this event: it is tried once a second");
        }
        Returned::Settled
    }

    fn abandoned(&self, message: &Abandoned) -> Option<Position> {
        // A forwarded event is known by its message's id, any other by its key.
        let id = message.message_id.as_deref();
        let forwarded = id.and_then(ForwardId::of);
        let name = forwarded.map_or(message.routing_key.as_str(), |id| id.event);
        // A notice that was itself given up is not told by another.
        if name == GAP_EVENT {
            return None;
        }
        let events = self.events.get().and_then(Weak::upgrade)?;
        let shard = Shard::new(ShardId::new(message.shard), events.shard_count.load(Ordering::Relaxed))?;
        let session = match forwarded {
            Some(id) => id.session,
            // Session and number; see `try_publish`.
            None => id.and_then(|id| Some(id.rsplit_once(':')?.0)),
        };
        let rule = forwarded.map(|id| id.rule);
        let gap = refused(shard, session.map(SessionId::new), Seq::new(message.seq), name, rule);
        match self.gaps.get().and_then(Weak::upgrade) {
            Some(broker) => broker.publish_gap(&gap),
            None => events.publish_gap(&gap),
        }
    }
}

/// The notice of an event that cannot be forwarded by this rule.
pub fn not_forwarded(event: &Event<'_>, rule: u32) -> Gap {
    refused(event.shard, Some(event.session.clone()), event.seq, event.name, Some(rule))
}

/// The notice of one event that the broker does not take, or does not forward by this rule.
fn refused(shard: Shard, session: Option<SessionId>, seq: Seq, name: &str, rule: Option<u32>) -> Gap {
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
        rule,
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

    /// A broker that keeps the gaps it is told.
    #[derive(Default)]
    struct Gaps(Mutex<Vec<Gap>>);

    impl Broker for Gaps {
        fn publish(&self, _: &Event<'_>) -> Option<Position> {
            unreachable!("only gaps are told")
        }

        fn publish_gap(&self, gap: &Gap) -> Option<Position> {
            lock(&self.0).push(gap.clone());
            Some(Position::new(40))
        }

        fn discard(&self, _: ShardId) {}

        fn settled(&self) -> Position {
            Position::new(0)
        }

        fn has_room(&self) -> bool {
            true
        }

        fn room(&self) -> Wait<'_> {
            Box::pin(std::future::ready(()))
        }

        fn flushed(&self) -> Wait<'_> {
            self.room()
        }

        fn state(&self) -> BrokerState {
            BrokerState::Connected
        }
    }

    #[test]
    fn what_is_given_up_is_told_by_the_event_s_name_and_by_the_rule_if_it_was_forwarded() {
        let events = Arc::new(events(&[], None));
        events.set_shard_count(8);
        let feedback = Feedback::new(events.demand.clone());
        feedback.tell(&events);
        let gaps = Arc::new(Gaps::default());
        let broker: Arc<dyn Broker> = gaps.clone();
        feedback.tell_by(Arc::downgrade(&broker));
        let abandoned = |routing_key: &str, message_id: &str| Abandoned {
            position: Position::new(3),
            shard: 5,
            seq: 7,
            routing_key: routing_key.to_owned(),
            message_id: Some(message_id.to_owned()),
            reason: crate::amqp::publisher::AbandonReason::Refused,
        };
        for (key, id) in [
            ("MESSAGE_CREATE", "2a41:7"),
            ("SINGYEONG_SEND", "forward:2:TYPING_START:2a41:7"),
            ("optic:forward", "forward:1:READY::7"),
        ] {
            assert_eq!(feedback.abandoned(&abandoned(key, id)), Some(Position::new(40)), "{key}");
        }
        // Of a notice there is no notice, be it forwarded.
        for (key, id) in [("OPTIC_GAP", "gap:5:7:1"), ("SINGYEONG_SEND", "forward:2:OPTIC_GAP:2a41:7")] {
            assert_eq!(feedback.abandoned(&abandoned(key, id)), None, "{key}");
        }
        // Told by the events' own broker it is counted, of whichever shard it is.
        let feedback = Feedback::new(events.demand.clone());
        feedback.tell(&events);
        assert!(feedback.abandoned(&abandoned("MESSAGE_CREATE", "2a41:7")).is_some());
        assert_eq!(GapReason::ALL.map(|reason| events.gaps().of(reason)), [0, 0, 1]);
        let told: Vec<_> = lock(&gaps.0)
            .iter()
            .map(|gap| {
                let session = gap.old_session.as_ref().map(|session| session.as_str().to_owned());
                (gap.event.clone().unwrap_or_default(), gap.rule, session, gap.last_committed.get())
            })
            .collect();
        let told: Vec<_> = told.iter().map(|(e, r, s, n)| (e.as_str(), *r, s.as_deref(), *n)).collect();
        assert_eq!(
            told,
            [
                ("MESSAGE_CREATE", None, Some("2a41"), 7),
                ("TYPING_START", Some(2), Some("2a41"), 7),
                ("READY", Some(1), None, 7)
            ]
        );
    }

    #[test]
    fn of_what_no_queue_took_only_what_was_forwarded_is_tried_again() {
        let feedback = Feedback::new(Arc::new(Mutex::new(Demand::auto())));
        assert_eq!(feedback.returned("MESSAGE_CREATE", Some("2a41:7")), Returned::Settled);
        assert_eq!(feedback.returned("READY", None), Returned::Settled);
        assert_eq!(feedback.returned("optic:forward", Some("forward:1:READY:2a41:7")), Returned::Again);
        assert_eq!(lock(&feedback.demand).unrouted().len(), 2);
    }

    #[test]
    fn what_amqp_cannot_carry_is_told_and_not_passed_over() {
        let events = events(&["MESSAGE_CREATE"], None);
        let shard = Shard::new(ShardId::new(0), 1).expect("the only one");
        let session = SessionId::new("s".repeat(300));
        let (seq, name, encoding) = (Seq::new(7), "MESSAGE_CREATE", Encoding::Json);
        let event = Event { shard, session: &session, seq, name, encoding, data: b"{}" };
        assert_eq!(events.publish(&event), Some(Position::new(0)), "the notice's place");
        assert_eq!(events.gaps().of(GapReason::Refused), 1);
        assert_eq!(events.publish(&Event { name: "TYPING_START", ..event }), None, "nobody wants it");
        assert_eq!(events.publisher.counters().outbox.published, 1);
    }

    #[test]
    fn what_cannot_be_converted_is_published_as_it_came_and_counted() {
        let events = events(&["MESSAGE_CREATE"], Some(Dialect::Plain(Encoding::Msgpack)));
        let shard = Shard::new(ShardId::new(0), 1).expect("the only one");
        let session = SessionId::new("s".to_owned());
        let (seq, name, encoding) = (Seq::new(7), "MESSAGE_CREATE", Encoding::Json);
        let event = Event { shard, session: &session, seq, name, encoding, data: b"{\"a\":1e400}" };
        assert_eq!(events.try_publish(&event), Ok(Some(Position::new(0))), "no gap");
        assert_eq!(events.try_publish(&Event { data: b"{}", ..event }), Ok(Some(Position::new(1))));
        assert_eq!((events.publisher.counters().outbox.published, events.unconverted()), (2, 1));
    }
}
