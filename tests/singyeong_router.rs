//! spec/singyeong.md, "Messages", against a real RabbitMQ: routers of several processes, whose clients are bare outboxes.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{FaultyLink, Worker, broker, eventually, must, unique_group};
use futures_util::future::join_all;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{BasicProperties, ConnectionProperties};
use optic::amqp::admin::Admin;
use optic::amqp::delivery::Properties;
use optic::amqp::messenger::Messenger;
use optic::amqp::topology::Queue;
use optic::cluster::node::NodeId;
use optic::encoding::{self, Encoding, Value};
use optic::secret::Secret;
use optic::singyeong::client::{Client, Kind};
use optic::singyeong::exchange::{Later, Sender};
use optic::singyeong::hub::Gateway;
use optic::singyeong::hub::Hub;
use optic::singyeong::ids::{Application, ClientKey, ConnectionId};
use optic::singyeong::limits::Limits;
use optic::singyeong::metadata::{Changes, Metadata};
use optic::singyeong::outbox::{Outbox, Parcel};
use optic::singyeong::packet::dispatch::{Message, QueueName, Queued};
use optic::singyeong::packet::outgoing::Outgoing;
use optic::singyeong::query::Query;
use optic::singyeong::queues::{Forward, ForwardedMessage, NotForwarded};
use optic::singyeong::router::{Forwarded, Queueing, Router};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

fn value(json: &serde_json::Value) -> Value {
    encoding::read(Encoding::Json, json.to_string().as_bytes()).expect("JSON")
}

fn json(value: &Value) -> serde_json::Value {
    let mut text = Vec::new();
    encoding::write(Encoding::Json, value, &mut text);
    serde_json::from_slice(&text).expect("JSON")
}

/// A process: its router, and what that needs.
struct Process {
    hub: Arc<Hub>,
    router: Router,
    administration: Admin,
    /// What came for its queues.
    forwarded: mpsc::UnboundedReceiver<Forwarded>,
    intake: CancellationToken,
    stop: CancellationToken,
    routing: JoinSet<()>,
    stop_connections: CancellationToken,
    connections: JoinSet<()>,
}

impl Process {
    async fn start(group: &str, name: &str) -> Self {
        let process = Self::begin(group, name, broker()).await;
        process.hub.informed();
        process
    }

    /// One that does not know yet whom others have; it publishes by this address.
    async fn begin(group: &str, name: &str, url: String) -> Self {
        let (intake, stop, stop_connections) = <(CancellationToken, CancellationToken, CancellationToken)>::default();
        let (mut routing, mut connections) = (JoinSet::new(), JoinSet::new());
        let mut connect = |name: &str, url: String| {
            let (admin, driver) = Admin::new(&Secret::new(url), name).expect("an address");
            connections.spawn(driver.run(stop_connections.clone()));
            admin
        };
        let (administration, consumption) = (connect("administration", url), connect("consumption", broker()));
        administration.connected().await.expect("RabbitMQ is there");
        let hub = Arc::new(Hub::new(NodeId::of_run(name, 1)));
        let (router, driver) = Router::new(group, hub.clone(), &Limits::default(), &administration, &consumption);
        let (queues, forwarded) = mpsc::unbounded_channel();
        routing.spawn(driver.run(Arc::new(Queues(queues)), intake.clone(), stop.clone()));
        Self { hub, router, administration, forwarded, intake, stop, routing, stop_connections, connections }
    }

    /// A client with a number as metadata `n`.
    fn connect(&self, id: &str, n: i64) -> Bare {
        let (key, connection) = (ClientKey::new("app", id), ConnectionId::new(fastrand::u64(..)));
        let changes = Changes::read(&value(&json!({"n": {"type": "integer", "value": n}}))).expect("metadata");
        let mut metadata = Metadata::default();
        metadata.merge(changes);
        let client = Client {
            key: key.clone(),
            node: self.hub.own().clone(),
            since: 1,
            kind: Kind::Websocket,
            restricted: false,
            encoding: Encoding::Json,
            ip: None,
            namespace: Value::Null.into(),
            receives_client_updates: false,
            last_heartbeat: 1,
            queues: BTreeSet::new(),
            metadata,
        };
        let outbox = Outbox::default();
        self.hub.register(client, connection, outbox.clone()).expect("nobody has its key");
        Bare { key, connection, outbox, hub: self.hub.clone(), router: self.router.clone() }
    }

    async fn stop(mut self) {
        self.intake.cancel();
        self.stop.cancel();
        while let Some(ended) = self.routing.join_next().await {
            ended.expect("no panic");
        }
        self.stop_connections.cancel();
        while let Some(ended) = self.connections.join_next().await {
            ended.expect("no panic");
        }
    }
}

/// No queues: only what other processes send for them.
struct Queues(mpsc::UnboundedSender<Forwarded>);

impl Queueing for Queues {
    fn publish(&self, _: Sender, _: Queued) -> Later<Option<Outgoing>> {
        unreachable!("nobody does here")
    }

    fn request(&self, _: &Sender, _: QueueName) {}
    fn cancel(&self, _: &Sender, _: QueueName) {}
    fn ack(&self, _: &Sender, _: QueueName, _: &str) {}
    fn gone(&self, _: &ClientKey, _: ConnectionId) {}

    fn forwarded(&self, parcel: Forwarded) {
        self.0.send(parcel).expect("the test listens");
    }
}

/// All processes hear of each other's clients.
fn tell_news(hubs: &[&Hub]) {
    let later = Instant::now() + Duration::from_secs(1);
    loop {
        let mut silent = true;
        for hub in hubs {
            while let Some(message) = hub.next_message(later) {
                silent = false;
                hubs.iter().for_each(|hub| hub.hear(&message, Instant::now()));
            }
        }
        if silent {
            return;
        }
    }
}

/// A client that is an outbox.
struct Bare {
    key: ClientKey,
    connection: ConnectionId,
    outbox: Outbox,
    hub: Arc<Hub>,
    router: Router,
}

impl Bare {
    fn sender(&self) -> Sender {
        Sender { key: self.key.clone(), connection: self.connection, ts: Value::Integer(7) }
    }

    fn message(ops: serde_json::Value, n: i64) -> Message {
        let target = value(&json!({"application": "app", "ops": ops}));
        let target = Query::compile(&target, 32).expect("a query");
        Message { target, nonce: Value::Integer(n), payload: value(&json!({"said": n})) }
    }

    /// Sends to whoever has this `n`.
    async fn send(&self, to: i64, n: i64) {
        let message = Self::message(json!([{"path": "/n", "op": "$eq", "to": {"value": to}}]), n);
        assert_eq!(must("a dispatch", self.router.send(self.sender(), message)).await, None);
    }

    async fn publish(&self, name: &str, data: serde_json::Value) -> Option<Outgoing> {
        must("a dispatch", self.router.publish(self.sender(), name.into(), value(&data))).await
    }

    /// The next that is on its way to it, not written yet.
    async fn take(&self) -> Parcel {
        must(&format!("a packet for {}", self.key), async {
            loop {
                if let Some(parcel) = self.outbox.take() {
                    return parcel;
                }
                self.outbox.filled().await;
            }
        })
        .await
    }

    async fn next(&self) -> Outgoing {
        let parcel = self.take().await;
        let packet = parcel.packet.clone();
        parcel.written();
        packet
    }

    /// The number of the next message.
    async fn hears(&self) -> i64 {
        let packet = self.next().await;
        let Outgoing::Message { contents, .. } = &packet else { panic!("{packet:?}") };
        let Value::Integer(n) = contents.nonce else { panic!("{packet:?}") };
        assert_eq!(json(&contents.payload), json!({"said": n}));
        n
    }

    /// What the next refusal says.
    async fn refused(&self) -> serde_json::Value {
        let packet = self.next().await;
        let Outgoing::Invalid(refusal) = &packet else { panic!("{packet:?}") };
        json!({"error": refusal.error, "extra_info": refusal.extra_info.as_ref().map(json)})
    }

    fn disconnect(self) {
        assert!(self.hub.unregister(&self.key, self.connection));
        self.outbox.end();
    }
}

#[tokio::test]
async fn a_message_reaches_one_who_matches_here_and_elsewhere() {
    let group = unique_group();
    let (one, two) = (Process::start(&group, "one").await, Process::start(&group, "two").await);
    let (here, there) = (one.connect("here", 1), two.connect("there", 2));
    tell_news(&[&one.hub, &two.hub]);
    // Either process may route each of them.
    for n in 0..10 {
        here.send(1, n).await;
        here.send(2, n).await;
        there.send(1, 100 + n).await;
    }
    let (mut at_here, mut at_there) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..20 {
        at_here.insert(here.hears().await);
    }
    for _ in 0..10 {
        at_there.insert(there.hears().await);
    }
    assert_eq!(at_here, (0..10).chain(100..110).collect());
    assert_eq!(at_there, (0..10).collect());
    let message = Message {
        target: Query::compile(&value(&json!({})), 32).expect("a query"),
        nonce: Value::Null,
        payload: Value::Bytes([0, 255].into()),
    };
    assert_eq!(there.router.broadcast(there.sender(), message).await, None);
    for client in [&here, &there] {
        let expected = Outgoing::message(true, Value::Null, Value::Bytes([0, 255].into()), Some("there".into()));
        assert_eq!(client.next().await, expected, "bytes are kept");
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_broadcast_reaches_all_who_match_once_and_its_sender_too() {
    let group = unique_group();
    let mut processes = Vec::new();
    for name in ["one", "two", "three"] {
        processes.push(Process::start(&group, name).await);
    }
    let clients: Vec<Bare> = (0..6).map(|n| processes[n % 3].connect(&n.to_string(), n as i64)).collect();
    let hubs: Vec<&Hub> = processes.iter().map(|process| &*process.hub).collect();
    tell_news(&hubs);
    // Of the last one only those hear whom the selector leaves.
    for n in 0..6 {
        let message = Bare::message(json!([{"path": "/n", "op": "$gte", "to": {"value": 2}}]), n);
        assert_eq!(clients[2].router.broadcast(clients[2].sender(), message).await, None);
    }
    let target = value(&json!({"application": "app", "selector": {"$max": "n"}}));
    let message = Message { target: Query::compile(&target, 32).expect("a query"), ..Bare::message(json!([]), 6) };
    assert_eq!(clients[2].router.broadcast(clients[2].sender(), message).await, None);
    let mut heard = Vec::new();
    for client in &clients[2..] {
        let mut numbers = BTreeSet::new();
        for _ in 0..if client.key.client.as_str() == "5" { 7 } else { 6 } {
            numbers.insert(client.hears().await);
        }
        heard.push(numbers);
    }
    let six: BTreeSet<i64> = (0..6).collect();
    assert_eq!(heard, [six.clone(), six.clone(), six, (0..7).collect()]);
    for process in processes {
        process.stop().await;
    }
    assert!(clients.iter().all(|client| client.outbox.take().is_none()), "nobody heard more");
}

#[tokio::test]
async fn who_sends_to_nobody_hears_so_whoever_routed() {
    let group = unique_group();
    let (one, two) = (Process::start(&group, "one").await, Process::start(&group, "two").await);
    let here = one.connect("here", 1);
    tell_news(&[&one.hub, &two.hub]);
    for n in 0..10 {
        here.send(2, n).await;
    }
    let mut refused = BTreeMap::new();
    for _ in 0..10 {
        let said = here.refused().await;
        refused.insert(said["extra_info"]["d"]["nonce"].as_i64().expect("a nonce"), said);
    }
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    let first = &refused[&0];
    assert_eq!(first["error"], "no_route");
    let told = &first["extra_info"];
    assert_eq!((&told["op"], &told["t"], &told["ts"]), (&json!(4), &json!("SEND"), &json!(7)));
    assert_eq!(told["d"]["payload"], json!({"said": 0}));
    let keys: Vec<_> = told["d"]["target"].as_object().expect("a map").keys().cloned().collect();
    assert_eq!(keys, ["application", "droppable", "key", "ops", "optional", "restricted", "selector"]);
    // Nobody hears of one that may be dropped; what comes after it shows that it was routed.
    let target = value(&json!({"application": "nobody's", "droppable": true}));
    let message = Message { target: Query::compile(&target, 32).expect("a query"), ..Bare::message(json!([]), 98) };
    assert_eq!(here.router.send(here.sender(), message.clone()).await, None);
    assert_eq!(here.router.broadcast(here.sender(), message).await, None);
    let message = Bare::message(json!([{"path": "/n", "op": "$eq", "to": {"value": 3}}]), 99);
    assert_eq!(here.router.broadcast(here.sender(), message).await, None);
    let last = here.refused().await;
    assert_eq!((&last["extra_info"]["t"], &last["extra_info"]["d"]["nonce"]), (&json!("BROADCAST"), &json!(99)));
    one.stop().await;
    two.stop().await;
    assert!(here.outbox.take().is_none());
}

#[tokio::test]
async fn a_senders_messages_keep_their_order_in_one_process() {
    let one = Process::start(&unique_group(), "one").await;
    let (from, to) = (one.connect("from", 1), one.connect("to", 2));
    let mut under_way = Vec::new();
    for n in 0..300 {
        let message = Bare::message(json!([{"path": "/n", "op": "$eq", "to": {"value": 2}}]), n);
        under_way.push(from.router.send(from.sender(), message));
    }
    // Whatever is polled first.
    let told = must("the dispatches", join_all(under_way.into_iter().rev())).await;
    assert!(told.iter().all(Option::is_none));
    for n in 0..300 {
        assert_eq!(to.hears().await, n);
    }
    one.stop().await;
}

#[tokio::test]
async fn one_who_does_not_read_holds_up_nobody_and_what_was_not_written_is_routed_again() {
    let group = unique_group();
    let one = Process::start(&group, "one").await;
    let (slow, fast) = (one.connect("slow", 1), one.connect("fast", 2));
    for n in 0..100 {
        fast.send(1, n).await;
    }
    fast.send(2, 100).await;
    assert_eq!(fast.hears().await, 100);
    // One that matches instead gets what the other has not read.
    let heir = one.connect("heir", 1);
    assert_eq!(slow.hears().await, 0);
    slow.disconnect();
    let mut heard = BTreeSet::new();
    for _ in 1..100 {
        heard.insert(heir.hears().await);
    }
    assert_eq!(heard, (1..100).collect());
    // What is not written when the process stops is there for the next one.
    fast.send(1, 7).await;
    let unwritten = heir.take().await;
    one.stop().await;
    drop(unwritten);
    let two = Process::start(&group, "two").await;
    assert_eq!(two.connect("heir", 1).hears().await, 7);
    two.stop().await;
}

#[tokio::test]
async fn what_others_send_is_taken_before_it_is_known_whom_they_have() {
    let group = unique_group();
    let one = Process::start(&group, "one").await;
    let new = Process::begin(&group, "new", broker()).await;
    must("others reach it", new.router.is_reached()).await;
    let (from, there) = (one.connect("from", 1), new.connect("there", 2));
    tell_news(&[&one.hub, &new.hub]);
    // Only the one routes.
    for n in 0..10 {
        from.send(2, n).await;
        assert_eq!(there.hears().await, n);
    }
    one.stop().await;
    // Routed by whoever knows all, and not before.
    there.send(2, 10).await;
    assert_eq!(messages_in(&format!("{group}:SINGYEONG_SEND")).await, 1);
    new.hub.informed();
    assert_eq!(there.hears().await, 10);
    new.stop().await;
}

#[tokio::test]
async fn what_waited_is_for_clients_that_come_back_and_who_sends_now_hears_now() {
    let group = unique_group();
    let one = Process::begin(&group, "one", broker()).await;
    let messenger = Messenger::new(one.administration.clone());
    for queue in [Queue::singyeong_send(&group), Queue::singyeong_broadcast(&group)] {
        messenger.declare(&queue).await.expect("declared");
    }
    let worker = Worker::connect(&broker(), &group).await;
    let to = json!({"application": "app", "ops": [{"path": "/n", "op": "$eq", "to": {"value": 2}}]});
    for (key, n) in [("SINGYEONG_SEND", 1), ("SINGYEONG_BROADCAST", 2)] {
        let body = json!({"target": to, "payload": {"said": n}, "nonce": n}).to_string();
        worker.publish(key, &body).await;
    }
    one.hub.informed();
    let from = one.connect("from", 1);
    // Behind what waits: that was looked at before.
    from.send(2, 3).await;
    let message = Bare::message(json!([{"path": "/n", "op": "$eq", "to": {"value": 2}}]), 4);
    assert_eq!(from.router.broadcast(from.sender(), message).await, None);
    for _ in 0..2 {
        assert_eq!(from.refused().await["error"], "no_route");
    }
    let back = one.connect("back", 2);
    assert_eq!(BTreeSet::from([back.hears().await, back.hears().await]), BTreeSet::from([1, 2]));
    one.stop().await;
}

#[tokio::test]
async fn at_the_end_nothing_is_taken_from_those_who_come_after() {
    let group = unique_group();
    let worker = Worker::connect(&broker(), &group).await;
    let one = Process::start(&group, "one").await;
    let (from, to) = (one.connect("from", 1), one.connect("to", 2));
    from.send(2, 1).await;
    let unwritten = to.take().await;
    one.intake.cancel();
    to.disconnect();
    drop(unwritten);
    // A client's last word.
    from.send(2, 2).await;
    worker.declare("SINGYEONG_SEND").await;
    let queue = format!("{group}:SINGYEONG_SEND");
    must("both are there", async { while messages_in(&queue).await < 2 {} }).await;
    assert!(from.outbox.take().is_none(), "nobody is told that nobody is there");
    one.stop().await;
    let two = Process::start(&group, "two").await;
    let to = two.connect("to", 2);
    assert_eq!(BTreeSet::from([to.hears().await, to.hears().await]), BTreeSet::from([1, 2]));
    two.stop().await;
}

#[tokio::test]
async fn who_sends_and_leaves_has_sent() {
    let group = unique_group();
    let link = FaultyLink::to_the_broker().await;
    let one = Process::begin(&group, "one", link.through(&broker())).await;
    one.hub.informed();
    let (from, to) = (one.connect("from", 1), one.connect("to", 2));
    link.refuse();
    link.cut();
    let to_two = || Bare::message(json!([{"path": "/n", "op": "$eq", "to": {"value": 2}}]), 5);
    let sent = tokio::spawn(from.router.send(from.sender(), to_two()));
    from.disconnect();
    link.resume();
    assert_eq!(must("the dispatch", sent).await.expect("no panic"), None);
    assert_eq!(to.hears().await, 5);
    one.stop().await;
}

#[tokio::test]
async fn a_message_that_comes_twice_is_written_once() {
    let group = unique_group();
    let (one, two) = (Process::start(&group, "one").await, Process::start(&group, "two").await);
    let (here, there) = (one.connect("here", 1), two.connect("there", 2));
    tell_news(&[&one.hub, &two.hub]);
    let worker = Worker::connect(&broker(), &group).await;
    worker.declare("SINGYEONG_SEND").await;
    worker.declare("SINGYEONG_BROADCAST").await;
    let again = async |op: &str, message: u64, target: serde_json::Value| {
        let origin = json!({
            "version": 1, "node": one.hub.own(), "application": "app", "client": "here", "connection": 1,
            "message": message, "op": op, "ts": null
        });
        let mut headers = FieldTable::default();
        let origin = lapin::types::AMQPValue::LongString(origin.to_string().into());
        headers.insert("x-singyeong-origin".into(), origin);
        let body = json!({"target": target, "payload": {"said": message}, "nonce": message}).to_string();
        let properties = BasicProperties::default().with_headers(headers);
        worker.publish_with(&format!("SINGYEONG_{op}"), body.as_bytes(), properties).await;
    };
    let to = json!({"application": "app", "ops": [{"path": "/n", "op": "$eq", "to": {"value": 2}}]});
    for (op, message) in [("SEND", 1), ("SEND", 1), ("SEND", 1), ("BROADCAST", 2), ("BROADCAST", 2), ("SEND", 3)] {
        again(op, message, if op == "SEND" { to.clone() } else { json!({}) }).await;
    }
    let heard = [there.hears().await, there.hears().await, there.hears().await];
    assert_eq!(BTreeSet::from(heard), BTreeSet::from([1, 2, 3]));
    assert_eq!(here.hears().await, 2);
    one.stop().await;
    two.stop().await;
    assert!(here.outbox.take().is_none() && there.outbox.take().is_none());
}

#[tokio::test]
async fn all_receivers_of_a_broadcast_share_what_it_says() {
    let one = Process::start(&unique_group(), "one").await;
    let clients: Vec<Bare> = (0..250).map(|n| one.connect(&n.to_string(), n)).collect();
    assert_eq!(clients[0].router.broadcast(clients[0].sender(), Bare::message(json!([]), 1)).await, None);
    let mut first = None;
    for client in &clients {
        let Outgoing::Message { broadcast: true, contents } = client.next().await else { panic!("a broadcast") };
        assert!(Arc::ptr_eq(&contents, first.get_or_insert(contents.clone())));
    }
    one.stop().await;
}

#[tokio::test]
async fn the_gateway_takes_part_only_where_it_is_asked_for() {
    let group = unique_group();
    let one = Process::start(&group, "one").await;
    one.hub.put_gateway(&group, &Gateway { shards: vec![3], shard_count: 4, latency: None }, 1);
    let client = one.connect("here", 1);
    let worker = Worker::connect(&broker(), &group).await;
    worker.declare("REJECTED").await;
    for (n, target) in (0..).zip([json!({}), json!({"key": "k"}), json!({}), json!({"key": 2}), json!({}), json!({})]) {
        let target = Query::compile(&value(&target), 32).expect("a query");
        let message = Message { target, ..Bare::message(json!([]), n) };
        assert_eq!(client.router.send(client.sender(), message.clone()).await, None);
        assert_eq!(client.hears().await, n);
        assert_eq!(client.router.broadcast(client.sender(), message).await, None);
        assert_eq!(client.hears().await, n);
    }
    one.stop().await;
    assert_eq!(worker.take("REJECTED").await, None);
}

async fn messages_in(queue: &str) -> u32 {
    let connection = lapin::Connection::connect(&broker(), ConnectionProperties::default()).await.expect("it is there");
    let channel = connection.create_channel().await.expect("a channel");
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.expect("it is there");
    found.message_count()
}

#[tokio::test]
async fn what_a_dead_process_had_comes_back_to_those_who_live() {
    let group = unique_group();
    let one = Process::start(&group, "one").await;
    let from = one.connect("from", 1);
    // A process that takes nothing.
    let dead = Hub::new(NodeId::of_run("dead", 1));
    let queue = Queue::singyeong(&group, dead.own());
    let there = Process { hub: Arc::new(dead), ..Process::start(&unique_group(), "unused").await };
    let gone = there.connect("gone", 2);
    tell_news(&[&one.hub, &there.hub]);
    for n in 0..20 {
        from.send(2, n).await;
    }
    let message = Bare::message(json!([{"path": "/n", "op": "$eq", "to": {"value": 2}}]), 20);
    assert_eq!(from.router.broadcast(from.sender(), message).await, None);
    // Its queue is declared by whoever is the first to have something for it.
    must("the dead process's mail", async { while messages_in(queue.name()).await < 21 {} }).await;
    one.hub.process_gone(there.hub.own());
    let heir = one.connect("heir", 2);
    let mut heard = BTreeSet::new();
    for _ in 0..20 {
        heard.insert(heir.hears().await);
    }
    assert_eq!(heard, (0..20).collect());
    drop(gone);
    there.stop().await;
    one.stop().await;
    assert!(heir.outbox.take().is_none(), "the dead process's part of a broadcast is nobody else's");
}

#[tokio::test]
async fn a_queues_message_goes_to_the_queues_of_a_process_and_back_when_that_is_dead() {
    let group = unique_group();
    let (one, mut two) = (Process::start(&group, "one").await, Process::start(&group, "two").await);
    let dead = NodeId::of_run("dead", 1);
    Messenger::new(one.administration.clone()).declare(&Queue::singyeong(&group, &dead)).await.expect("declared");
    let properties = Properties {
        message_id: Some("id".to_owned()),
        headers: BTreeMap::from([("x-singyeong-nonce".to_owned(), "1".to_owned())]),
        ..Properties::default()
    };
    let (app, jobs) = (Application::new("app"), QueueName("jobs".into()));
    let forward = |node| {
        let (application, queue) = (Some(app.clone()), jobs.clone());
        let message = ForwardedMessage { application, queue, properties: properties.clone(), body: b"body".to_vec() };
        one.router.queued(node, message)
    };
    // Its queue may not be there yet.
    must("the other process", async { while forward(two.hub.own()).await.is_err() {} }).await;
    let Forwarded { application, queue, delivery } = must("a parcel", two.forwarded.recv()).await.expect("it runs");
    assert_eq!((application.as_ref(), &queue), (Some(&app), &jobs));
    assert_eq!((&*delivery.body, &delivery.properties), (&b"body"[..], &properties));
    delivery.ack();
    let worker = Worker::connect(&broker(), &group).await;
    worker.declare("app:jobs").await;
    forward(&dead).await.expect("it is there");
    let back = worker.wait_for("app:jobs").await;
    assert_eq!((&*back.body, back.message_id.as_deref()), ("body", Some("id")));
    assert_eq!(back.headers["x-singyeong-nonce"], "1");
    assert_eq!(forward(&NodeId::of_run("nowhere", 1)).await, Err(NotForwarded));
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_worker_reaches_clients_and_hears_what_became_of_it() {
    let group = unique_group();
    let (one, two) = (Process::start(&group, "one").await, Process::start(&group, "two").await);
    let (here, there) = (one.connect("here", 1), two.connect("there", 2));
    tell_news(&[&one.hub, &two.hub]);
    let mut worker = Worker::connect(&broker(), &group).await;
    worker.declare("SINGYEONG_SEND").await;
    worker.declare("SINGYEONG_BROADCAST").await;
    let to = |n: i64| json!({"application": "app", "ops": [{"path": "/n", "op": "$eq", "to": {"value": n}}]});
    for (n, client) in [(1, &here), (2, &there), (1, &here), (2, &there)] {
        let body = json!({"target": to(n), "payload": {"said": n}, "nonce": n, "sender": "a worker"}).to_string();
        worker.ask("SINGYEONG_SEND", body.as_bytes(), "c").await;
        let expected = Outgoing::message(false, Value::Integer(n), value(&json!({"said": n})), Some("a worker".into()));
        let parcel = client.take().await;
        assert_eq!(parcel.packet, expected);
        assert!(!worker.has_answer(), "it is not written yet");
        parcel.written();
        let answer = worker.answer().await;
        assert_eq!((&*answer.body, answer.correlation_id.as_deref()), (r#"{"ok":true}"#, Some("c")));
    }
    // MessagePack: {"target": null, "payload": 1}.
    worker.ask("SINGYEONG_BROADCAST", b"\x82\xa6target\xc0\xa7payload\x01", "c").await;
    for client in [&here, &there] {
        let packet = client.next().await;
        assert_eq!(packet, Outgoing::message(true, Value::Null, Value::Integer(1), None));
    }
    assert_eq!(worker.answer().await.bytes, b"\xde\x00\x01\xa2ok\xc3");
    let nobody = json!({"target": to(3), "payload": null}).to_string();
    worker.ask("SINGYEONG_SEND", nobody.as_bytes(), "c").await;
    assert_eq!(worker.answer().await.body, r#"{"error":"no_route","ok":false}"#);
    // What cannot be done is set aside; also what nobody would hear of.
    worker.publish("SINGYEONG_SEND", &nobody).await;
    worker.declare("REJECTED").await;
    let aside = worker.wait_for("REJECTED").await;
    assert_eq!((aside.body, &*aside.headers["x-optic-kind"]), (nobody, "no_route"));
    for (key, body, kind, reason) in [
        ("SINGYEONG_SEND", "nonsense", "not_a_map", "the body is no map"),
        ("SINGYEONG_SEND", r#"{"payload":1}"#, "no_field", "the body has no \"target\""),
        ("SINGYEONG_BROADCAST", r#"{"target":null}"#, "no_field", "the body has no \"payload\""),
        ("SINGYEONG_BROADCAST", r#"{"target":{"ops":1},"payload":1}"#, "bad_target", "\"target\" is no query"),
    ] {
        worker.ask(key, body.as_bytes(), "c").await;
        let answer: serde_json::Value = serde_json::from_str(&worker.answer().await.body).expect("JSON");
        let aside = worker.wait_for("REJECTED").await;
        assert_eq!((&*aside.body, &*aside.headers["x-optic-kind"]), (body, kind));
        assert!(aside.headers["x-optic-reason"].contains(reason), "{}", aside.headers["x-optic-reason"]);
        assert_eq!(answer, json!({"ok": false, "error": aside.headers["x-optic-reason"]}));
        assert_eq!(aside.headers["x-optic-source"], format!("{group}:{key}"));
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn what_is_too_large_for_a_header_does_no_harm() {
    let group = unique_group();
    let one = Process::start(&group, "one").await;
    let client = one.connect("here", 1);
    let worker = Worker::connect(&broker(), &group).await;
    worker.declare("REJECTED").await;
    worker.declare("SINGYEONG_SEND").await;
    let text = format!("\"{}\"", "x".repeat(200_000));
    let json = BasicProperties::default().with_content_type("application/json".into());
    worker.publish_with("SINGYEONG_SEND", text.as_bytes(), json).await;
    let aside = worker.wait_for("REJECTED").await;
    assert_eq!((&*aside.headers["x-optic-kind"], &*aside.headers["x-optic-bytes"]), ("not_a_map", "200002"));
    assert!(aside.headers["x-optic-reason"].len() <= 500);
    let mut headers = FieldTable::default();
    let long = lapin::types::AMQPValue::LongString("x".repeat(7000).into());
    headers.insert("x-singyeong-origin".into(), long);
    let headers = BasicProperties::default().with_headers(headers);
    worker.publish_with("SINGYEONG_SEND", br#"{"target":{},"payload":1}"#, headers).await;
    assert_eq!(worker.wait_for("REJECTED").await.headers["x-optic-kind"], "headers");
    // A client's name is in a header, too.
    let long = one.connect(&"x".repeat(9000), 2);
    let message = Bare::message(json!([]), 1);
    let refused = must("a dispatch", long.router.send(long.sender(), message)).await;
    let Some(Outgoing::Invalid(refusal)) = refused else { panic!("{refused:?}") };
    let nonce = refusal.extra_info.as_ref().and_then(|info| info.get("nonce"));
    assert_eq!((&*refusal.error, nonce), ("message not kept", Some(&Value::Integer(1))));
    client.send(1, 2).await;
    assert_eq!(client.hears().await, 2);
    one.stop().await;
}

#[tokio::test]
async fn parcels_that_are_none_are_set_aside() {
    let group = unique_group();
    let one = Process::start(&group, "one").await;
    let worker = Worker::connect(&broker(), &group).await;
    worker.declare("REJECTED").await;
    worker.declare("SINGYEONG_SEND").await;
    for (header, reason) in [(r#"{"version":2}"#, "version 2"), ("{}", "is no parcel")] {
        let mut headers = FieldTable::default();
        headers.insert("x-singyeong-parcel".into(), lapin::types::AMQPValue::LongString(header.into()));
        worker.publish_with("SINGYEONG_SEND", b"{}", BasicProperties::default().with_headers(headers)).await;
        let aside = worker.wait_for("REJECTED").await;
        assert!(aside.headers["x-optic-reason"].contains(reason), "{}", aside.headers["x-optic-reason"]);
    }
    one.stop().await;
}

#[tokio::test]
async fn any_other_dispatch_is_published_for_whoever_listens() {
    let group = unique_group();
    let one = Process::start(&group, "one").await;
    let client = one.connect("here", 1);
    let worker = Worker::connect(&broker(), &group).await;
    let unheard = client.publish("SOMETHING", json!({"nonce": "n"})).await;
    let Some(Outgoing::Invalid(refusal)) = unheard else { panic!("{unheard:?}") };
    assert_eq!(&*refusal.error, "no_route");
    let told = json!({"op": 4, "t": "SOMETHING", "ts": 7, "d": {"nonce": "n"}});
    assert_eq!(refusal.extra_info.as_ref().map(json), Some(told));
    worker.declare("SOMETHING").await;
    assert_eq!(client.publish("SOMETHING", json!({"a": [1, "ü"]})).await, None);
    let message = worker.wait_for("SOMETHING").await;
    assert_eq!((&*message.body, message.content_type.as_deref()), (r#"{"a":[1,"ü"]}"#, Some("application/json")));
    assert_eq!(message.delivery_mode, Some(2));
    for reserved in
        ["3", "SEND", "REJECTED", "SINGYEONG_SEND", "gateway", "gateway-proxy", "optic:x", "", &"x".repeat(256)]
    {
        let refused = client.publish(reserved, json!(1)).await;
        let Some(Outgoing::Invalid(refusal)) = refused else { panic!("{reserved}: {refused:?}") };
        assert_eq!(&*refusal.error, "invalid dispatch payload");
        let told = json!({"op": "dispatch", "t": reserved, "ts": 7, "d": 1});
        assert_eq!(refusal.extra_info.as_ref().map(json), Some(told));
    }
    one.stop().await;
}

#[tokio::test]
async fn a_message_to_the_gateway_is_a_command_and_its_outcome_comes_back() {
    let group = unique_group();
    let (one, two) = (Process::start(&group, "one").await, Process::start(&group, "two").await);
    let gateway = Gateway { shards: vec![3], shard_count: 4, latency: None };
    one.hub.put_gateway(&group, &gateway, 1);
    two.hub.put_gateway(&group, &gateway, 1);
    let client = one.connect("here", 1);
    tell_news(&[&one.hub, &two.hub]);
    let worker = Worker::connect(&broker(), &group).await;
    for key in ["SEND", "3", "REJECTED"] {
        worker.declare(key).await;
    }
    let connection = lapin::Connection::connect(&broker(), ConnectionProperties::default()).await.expect("it is there");
    let replies = connection.create_channel().await.expect("a channel");
    let target = Query::compile(&value(&json!({"application": group})), 32).expect("a query");
    let packet = json!({"op": 3, "d": {}});
    let message = |nonce: i64, payload: &serde_json::Value| Message {
        target: target.clone(),
        nonce: Value::Integer(nonce),
        payload: value(payload),
    };
    for n in 0..6 {
        let payload = json!({"guild_id": "5", "packet": packet});
        assert_eq!(client.router.send(client.sender(), message(n, &payload)).await, None);
        let command = worker.wait_for("SEND").await;
        assert_eq!(serde_json::from_str::<serde_json::Value>(&command.body).expect("JSON"), payload);
        let answer = BasicProperties::default().with_correlation_id(command.correlation_id.expect("a number").into());
        let to = command.reply_to.expect("a queue");
        let (body, options) = (br#"{"ok":true,"shard":3}"#, lapin::options::BasicPublishOptions::default());
        replies.basic_publish("".into(), to.into(), options, body, answer).await.expect("published");
        let packet = client.next().await;
        let Outgoing::Message { broadcast: false, contents } = &packet else { panic!("{packet:?}") };
        assert_eq!(contents.nonce, Value::Integer(n));
        assert_eq!(json(&contents.payload), json!({"ok": true, "shard": 3}));
    }
    // To all gateways: once.
    let payload = json!({"shard_id": 3, "packet": packet});
    assert_eq!(client.router.broadcast(client.sender(), message(6, &payload)).await, None);
    assert_eq!(worker.wait_for("3").await.body, r#"{"d":{},"op":3}"#);
    let silent = Message { nonce: Value::Null, ..message(7, &payload) };
    assert_eq!(client.router.send(client.sender(), silent).await, None);
    let command = worker.wait_for("3").await;
    assert_eq!((command.reply_to, worker.take("3").await), (None, None));
    for (payload, error) in [
        (json!({"packet": packet}), "the payload is neither"),
        (json!({"shard_id": 9, "packet": packet}), "nobody takes commands for \"9\""),
    ] {
        assert_eq!(client.router.send(client.sender(), message(8, &payload)).await, None);
        let packet = client.next().await;
        let Outgoing::Message { contents, .. } = &packet else { panic!("{packet:?}") };
        assert_eq!(contents.nonce, Value::Integer(8));
        let told = json(&contents.payload);
        assert_eq!(told["ok"], false);
        assert!(told["error"].as_str().is_some_and(|text| text.contains(error)), "{told}");
        assert_eq!(worker.wait_for("REJECTED").await.headers["x-optic-kind"], "command");
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn another_process_tells_whether_its_client_is_healthy() {
    let group = unique_group();
    let (one, two) = (Process::start(&group, "one").await, Process::start(&group, "two").await);
    let there = two.connect("there", 2);
    eventually("both take their mail", || one.administration.is_taking_messages()).await;
    must("a healthy client", async {
        loop {
            let probe = one.router.probe(two.hub.own(), &there.key);
            let hears = async {
                loop {
                    there.outbox.filled().await;
                    if there.outbox.take_ping() {
                        there.outbox.heard();
                    }
                }
            };
            // The first may come before the other's queue is there.
            tokio::select! {
                healthy = probe => if healthy { return },
                () = hears => {}
            }
        }
    })
    .await;
    assert!(!must("a dead client", one.router.probe(two.hub.own(), &there.key)).await);
    assert!(two.hub.get(&there.key).is_none(), "it is forgotten");
    let nowhere = NodeId::of_run("nowhere", 1);
    assert!(!must("no process", one.router.probe(&nowhere, &there.key)).await);
    one.stop().await;
    two.stop().await;
}
