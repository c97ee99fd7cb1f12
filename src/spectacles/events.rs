//! Events out: a [`Broker`] over the publishing connection, in the Spectacles layout. Spec: spec/amqp.md, "Events".

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tracing::{debug, error, warn};

use super::demand::{Demand, Wanted};
use crate::amqp::publisher::{Abandoned, Field, Message, Observer, Properties, Publisher};
use crate::broker::{Broker, BrokerState, Event, GAP_EVENT, Gap, GapReason, Position, Wait};
use crate::clock::unix_millis;
use crate::discord::ids::{Seq, SessionId, Shard, ShardId};

/// What all events of a process have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `BROKER_GROUP`: the exchange.
    pub group: String,
    /// `BROKER_PERSISTENT`: whether queues keep events over a broker's restart.
    pub persistent: bool,
    /// `BROKER_MESSAGE_TIMEOUT`: after how long in a queue an event is dropped.
    pub message_timeout: Option<Duration>,
    /// How many shards the bot has in all.
    pub shard_count: u32,
}

/// The broker that shards publish to.
pub struct Events {
    publisher: Publisher,
    settings: Settings,
    /// The `expiration` property: milliseconds as text.
    expiration: Option<String>,
    demand: Arc<Mutex<Demand>>,
    /// Reused for each `message_id`.
    message_id: Mutex<String>,
}

impl Events {
    /// Events go out by `publisher`, whose [`Observer`] is to be a [`Feedback`] of the same `demand`.
    pub fn new(publisher: Publisher, settings: Settings, demand: Arc<Mutex<Demand>>) -> Self {
        let expiration = settings.message_timeout.map(|timeout| timeout.as_millis().to_string());
        Self { publisher, settings, expiration, demand, message_id: Mutex::new(String::new()) }
    }

    /// Publishes a body of ours or Discord's; `None` when AMQP cannot carry it, which is told.
    fn send(
        &self,
        name: &str,
        shard: Shard,
        seq: Seq,
        message_id: &str,
        mandatory: bool,
        body: &[u8],
    ) -> Option<Position> {
        let message = Message {
            exchange: &self.settings.group,
            routing_key: name,
            mandatory,
            properties: Properties {
                content_type: Some("application/json"),
                headers: &[("shard", Field::Int(i64::from(shard.id().get())))],
                persistent: self.settings.persistent,
                expiration: self.expiration.as_deref(),
                message_id: Some(message_id),
                timestamp: Some(unix_millis() / 1000),
                kind: Some(name),
                app_id: Some("optic"),
            },
            body,
            shard: shard.id().get(),
            seq: seq.get(),
        };
        match self.publisher.publish(&message) {
            Ok(position) => Some(position),
            Err(reason) => {
                error!(shard = %shard.id(), event = name, %seq, %reason, "an event cannot be published, and is lost");
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
            self.send(event.name, event.shard, event.seq, &message_id, mandatory, event.data)?
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
        self.send(GAP_EVENT, gap.shard, gap.last_committed, &id, false, &body)
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

    fn abandoned(&self, message: &Abandoned) {
        error!(shard = message.shard, seq = message.seq, event = message.routing_key, reason = ?message.reason, "the broker does not take an event");
        let Some(events) = self.events.get().and_then(Weak::upgrade) else { return };
        // A notice that was itself given up is not told by another.
        let Some(shard) = Shard::new(ShardId::new(message.shard), events.settings.shard_count) else { return };
        if message.routing_key == GAP_EVENT {
            return;
        }
        let now = unix_millis();
        let _ = events.publish_gap(&Gap {
            shard,
            reason: GapReason::Refused,
            // A message id is session and number; see `publish`.
            old_session: message.message_id.as_deref().and_then(|id| Some(SessionId::new(id.rsplit_once(':')?.0))),
            new_session: None,
            last_committed: Seq::new(message.seq),
            from: now,
            to: now,
            event: Some(message.routing_key.clone()),
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
