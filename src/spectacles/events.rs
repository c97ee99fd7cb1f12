//! Events out: a [`Broker`] over the publishing connection, in the Spectacles layout. Spec: spec/amqp.md, "Events".

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

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
    fn send(&self, name: &str, shard: Shard, seq: Seq, message_id: &str, mandatory: bool, body: &[u8]) -> Option<Position> {
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
        publish_gap(self, gap)
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

fn publish_gap(events: &Events, gap: &Gap) -> Option<Position> {
    let body = serde_json::to_vec(gap).expect("a gap is plain data");
    let id = format!("gap:{}:{}:{}", gap.shard.id(), gap.last_committed, gap.to);
    warn!(
        shard = %gap.shard.id(), reason = ?gap.reason, last_committed = %gap.last_committed,
        old_session = gap.old_session.as_ref().map(SessionId::as_str), new_session = gap.new_session.as_ref().map(SessionId::as_str),
        "events were lost: workers are told by {GAP_EVENT}"
    );
    events.send(GAP_EVENT, gap.shard, gap.last_committed, &id, false, &body)
}
