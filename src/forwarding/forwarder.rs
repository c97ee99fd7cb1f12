//! The shards' broker where there are rules: it publishes each event as ever, and once more for every rule that lists it.
//!
//! All goes by the one publisher, so that an event counts as settled only when those it is forwarded to are certain to get it,
//! too: the position that is given back is the last message's. An event that no rule lists costs one look into a table.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::error;

use super::json;
use super::rules::{Kind, Rule, Rules};
use super::template::Variables;
use crate::amqp::topology::{FORWARD, Queue, singyeong};
use crate::broker::{Broker, BrokerState, Event, GAP_EVENT, Gap, Position, Wait};
use crate::clock::unix_millis;
use crate::discord::ids::{Seq, SessionId, Shard, ShardId};
use crate::spectacles::events::{Events, Forward, not_forwarded};

/// A buffer larger than this is given back after use.
const KEPT: usize = 256 << 10;

/// Where forwarded events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To clients of the 신경 server of this group, be it this process that serves it or another.
    BuiltIn,
    /// To the queue out of which one process of the group sends to another server.
    Elsewhere,
}

/// See the module.
pub struct Forwarder {
    events: Arc<Events>,
    rules: Rules,
    cluster: u32,
    destination: Destination,
    /// Reused for each body.
    body: Mutex<Vec<u8>>,
}

/// What is forwarded.
#[derive(Clone, Copy)]
struct Packet<'a> {
    shard: Shard,
    session: Option<&'a SessionId>,
    /// Its number in the ledger.
    seq: Seq,
    /// Its `s`, if it is Discord's.
    s: Option<Seq>,
    name: &'a str,
    /// Its `d`, in JSON.
    data: &'a [u8],
    /// By which a client knows what it has had already.
    nonce: &'a str,
}

impl Destination {
    /// Where messages of this kind are to be published.
    const fn key(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::BuiltIn, Kind::Send) => singyeong::SEND,
            (Self::BuiltIn, Kind::Broadcast) => singyeong::BROADCAST,
            (Self::Elsewhere, Kind::Send | Kind::Broadcast) => FORWARD,
        }
    }

    /// The queues that have to be there before the first event, and then.
    pub fn queues(self, group: &str) -> Vec<Queue> {
        match self {
            Self::BuiltIn => vec![Queue::singyeong_send(group), Queue::singyeong_broadcast(group)],
            Self::Elsewhere => vec![Queue::forward(group)],
        }
    }
}

impl Forwarder {
    /// Forwards what goes out by `events`.
    pub fn new(events: Arc<Events>, rules: Rules, cluster: u32, destination: Destination) -> Self {
        Self { events, rules: rules.in_cluster(cluster), cluster, destination, body: Mutex::default() }
    }

    /// Publishes a packet for each rule that lists it. Gives the last position; a rule by which it cannot be is told as a gap.
    fn forward(&self, packet: Packet<'_>) -> Option<Position> {
        let mut last = None;
        for (number, rule) in self.rules.of(packet.name)? {
            let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
            self.write(rule, packet, &mut body);
            let Packet { shard, session, seq, name: event, .. } = packet;
            let key = self.destination.key(rule.kind);
            let published =
                self.events.forward(&Forward { rule: number, key, event, session, shard, seq, body: &body });
            if body.capacity() > KEPT {
                *body = Vec::new();
            }
            body.clear();
            drop(body);
            match published {
                Ok(position) => last = Some(position),
                // Of a notice there is no notice.
                Err(gap) if packet.name != GAP_EVENT => last = self.publish_gap(&gap).or(last),
                Err(_) => {}
            }
        }
        last
    }

    /// Appends the body for a rule: for the server of this group what its workers write, for another the dispatch as it is said.
    fn write(&self, rule: &Rule, packet: Packet<'_>, out: &mut Vec<u8>) {
        let variables = Variables { shard: packet.shard.id().get(), cluster: self.cluster, event: packet.name };
        let target = |out: &mut Vec<u8>| rule.target.render(variables, out);
        match self.destination {
            Destination::BuiltIn => write_message(packet, target, out),
            Destination::Elsewhere => {
                let (t, ts) = (rule.kind.name(), unix_millis());
                write!(out, r#"{{"op":4,"t":"{t}","ts":{ts},"d":"#).expect("a Vec takes it");
                write_message(packet, target, out);
                out.push(b'}');
            }
        }
    }
}

/// `{"target":…,"nonce":…,"payload":…}`, the payload being the whole packet.
fn write_message(packet: Packet<'_>, target: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"target":"#);
    target(out);
    out.extend_from_slice(br#","nonce":"#);
    json::text(packet.nonce, out);
    out.extend_from_slice(br#","payload":{"op":0,"s":"#);
    match packet.s {
        Some(seq) => write!(out, "{seq}").expect("a Vec takes it"),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","t":"#);
    json::text(packet.name, out);
    out.extend_from_slice(br#","d":"#);
    out.extend_from_slice(packet.data);
    out.extend_from_slice(b"}}");
}

impl Broker for Forwarder {
    fn publish(&self, event: &Event<'_>) -> Option<Position> {
        let published = self.events.try_publish(event).unwrap_or_else(|gap| self.publish_gap(&gap));
        if !self.rules.lists(event.name) {
            return published;
        }
        let nonce = format!("{}:{}", event.session, event.seq);
        let data = match json::of_event(event) {
            Ok(data) => data,
            Err(reason) => {
                let (shard, seq) = (event.shard.id(), event.seq);
                error!(%shard, event = event.name, %seq, %reason, "an event cannot be forwarded: it is no JSON");
                let rules = self.rules.of(event.name).into_iter().flatten();
                let gaps = rules.map(|(rule, _)| not_forwarded(event, rule)).map(|gap| self.publish_gap(&gap));
                return gaps.fold(published, |last, gap| gap.or(last));
            }
        };
        let packet = Packet {
            shard: event.shard,
            session: Some(event.session),
            seq: event.seq,
            s: Some(event.seq),
            name: event.name,
            data: &data,
            nonce: &nonce,
        };
        self.forward(packet).or(published)
    }

    fn publish_gap(&self, gap: &Gap) -> Option<Position> {
        let published = self.events.publish_gap(gap);
        if !self.rules.lists(GAP_EVENT) {
            return published;
        }
        let data = serde_json::to_vec(gap).expect("a gap is plain data");
        let packet = Packet {
            shard: gap.shard,
            session: gap.old_session.as_ref(),
            seq: gap.last_committed,
            s: None,
            name: GAP_EVENT,
            data: &data,
            nonce: &format!("gap:{}:{}:{}", gap.shard.id(), gap.last_committed, gap.to),
        };
        self.forward(packet).or(published)
    }

    fn discard(&self, shard: ShardId) {
        self.events.discard(shard);
    }

    fn settled(&self) -> Position {
        self.events.settled()
    }

    fn has_room(&self) -> bool {
        self.events.has_room()
    }

    fn room(&self) -> Wait<'_> {
        self.events.room()
    }

    fn flushed(&self) -> Wait<'_> {
        self.events.flushed()
    }

    fn state(&self) -> BrokerState {
        self.events.state()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::address::Address;
    use crate::amqp::publisher::{Publisher, PublisherSettings, Window};
    use crate::cluster::fence::Fence;
    use crate::encoding::Encoding;
    use crate::spectacles::demand::Demand;
    use crate::spectacles::events::{Feedback, Settings};

    const RULES: &str = r#"[
        {"target": {"application": "s{{SHARD}}", "key": "{{CLUSTER}}"}, "events": ["MESSAGE_CREATE", "OPTIC_GAP"]},
        {"type": "broadcast", "target": {}, "events": ["MESSAGE_CREATE", "TYPING_START"]}
    ]"#;

    /// Over a connection that is never made; of the events in the rules workers want MESSAGE_CREATE alone.
    fn forwarder(destination: Destination) -> (Forwarder, Publisher) {
        let demand = Arc::new(Mutex::new(Demand::listed(["MESSAGE_CREATE", "READY"])));
        let settings = PublisherSettings {
            address: Address::parse("amqp://localhost").expect("an address"),
            exchange: "gateway".to_owned(),
            connection_name: "test".to_owned(),
            window: Window { messages: 10, bytes: 1 << 20 },
            fence: Fence::open(),
        };
        let (publisher, _) = Publisher::new(settings, Arc::new(Feedback::new(demand.clone())));
        let settings = Settings { group: "gateway".to_owned(), persistent: true, message_timeout: None, dialect: None };
        let events = Arc::new(Events::new(publisher.clone(), settings, demand));
        let rules = Rules::parse(RULES).expect("rules");
        (Forwarder::new(events, rules, 2, destination), publisher)
    }

    fn event<'a>(session: &'a SessionId, name: &'a str, data: &'a [u8]) -> Event<'a> {
        let shard = Shard::new(ShardId::new(5), 8).expect("of eight");
        Event { shard, session, seq: Seq::new(7), name, encoding: Encoding::Json, data }
    }

    #[test]
    fn an_event_is_settled_with_the_last_that_it_is_forwarded_to() {
        let (forwarder, publisher) = forwarder(Destination::BuiltIn);
        let session = SessionId::new("2a41");
        let publish = |name| {
            let position = forwarder.publish(&event(&session, name, b"{}")).map(Position::get);
            (position, publisher.counters().outbox.published)
        };
        assert_eq!(publish("MESSAGE_CREATE"), (Some(2), 3), "to workers, and by two rules");
        assert_eq!(publish("TYPING_START"), (Some(3), 4), "by a rule, though no worker wants it");
        assert_eq!(publish("READY"), (Some(4), 5), "to workers alone");
        assert_eq!(publish("RESUMED"), (None, 5));
    }

    #[test]
    fn a_gap_is_forwarded_where_a_rule_lists_it() {
        let (forwarder, publisher) = forwarder(Destination::BuiltIn);
        let session = SessionId::new("s".repeat(300));
        let position = forwarder.publish(&event(&session, "TYPING_START", b"{}"));
        assert_eq!(position, Some(Position::new(0)), "no message id is so long: only the gap can be told, to workers");
        assert_eq!(publisher.counters().outbox.published, 1);
        let gap = not_forwarded(&event(&SessionId::new("2a41"), "TYPING_START", b"{}"), 2);
        assert_eq!(forwarder.publish_gap(&gap), Some(Position::new(2)));
    }

    #[test]
    fn bodies_have_the_whole_packet_and_a_nonce_by_which_a_client_knows_it() {
        let shard = Shard::new(ShardId::new(5), 8).expect("of eight");
        let packet = Packet {
            shard,
            session: None,
            seq: Seq::new(7),
            s: Some(Seq::new(7)),
            name: "MESSAGE_CREATE",
            data: br#"{"id":"1"}"#,
            nonce: "2a41:7",
        };
        let written = |destination| {
            let (forwarder, _) = forwarder(destination);
            let (_, rule) = forwarder.rules.of("MESSAGE_CREATE").expect("listed").next().expect("the first");
            let mut out = Vec::new();
            forwarder.write(rule, packet, &mut out);
            String::from_utf8(out).expect("text")
        };
        let message = r#"{"target":{"application":"s5","key":2},"nonce":"2a41:7","payload":{"op":0,"s":7,"t":"MESSAGE_CREATE","d":{"id":"1"}}}"#;
        assert_eq!(written(Destination::BuiltIn), message);
        let dispatch = written(Destination::Elsewhere);
        assert!(dispatch.starts_with(r#"{"op":4,"t":"SEND","ts":1"#), "{dispatch}");
        assert!(dispatch.ends_with(&format!(r#","d":{message}}}"#)), "{dispatch}");
    }

    #[test]
    fn an_event_in_another_encoding_is_forwarded_as_json_or_told_as_a_gap() {
        let (forwarder, publisher) = forwarder(Destination::BuiltIn);
        let session = SessionId::new("2a41");
        let of = |data| Event { encoding: Encoding::Etf, ..event(&session, "TYPING_START", data) };
        assert_eq!(forwarder.publish(&of(&[97, 3])), Some(Position::new(0)));
        // The gap, and the rule that lists it.
        assert_eq!(forwarder.publish(&of(&[255])), Some(Position::new(2)));
        assert_eq!(publisher.counters().outbox.published, 3);
    }
}
