//! Queues of 신경 on a real RabbitMQ: what workers feed reaches clients who ask, once, and what nobody acknowledges goes on.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Consumer, FaultyLink, Worker, broker, eventually, must, unique_group};
use lapin::BasicProperties;
use optic::amqp::admin::Admin;
use optic::amqp::delivery::Properties;
use optic::amqp::messenger::{Message, Messenger};
use optic::cluster::node::NodeId;
use optic::encoding::{Encoding, Value};
use optic::secret::Secret;
use optic::singyeong::client::{Client, Kind};
use optic::singyeong::exchange::{Later, Sender};
use optic::singyeong::hub::Hub;
use optic::singyeong::ids::{ClientKey, ConnectionId};
use optic::singyeong::limits::Limits;
use optic::singyeong::metadata::{Changes, Metadata};
use optic::singyeong::news::News;
use optic::singyeong::outbox::Outbox;
use optic::singyeong::packet::dispatch::{QueueName, Queued};
use optic::singyeong::packet::outgoing::Outgoing;
use optic::singyeong::query::Query;
use optic::singyeong::queues::{Forward, ForwardedMessage, NotForwarded, Queues};
use optic::singyeong::router::Router;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A process: its queues, and the router and the news by which it is joined to others.
struct Process {
    group: String,
    hub: Arc<Hub>,
    queues: Queues,
    forwarded: Arc<AtomicUsize>,
    administration: Admin,
    messenger: Messenger,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// Counts what is forwarded.
struct Counting(Router, Arc<AtomicUsize>);

impl Forward for Counting {
    fn queued(&self, node: &NodeId, message: ForwardedMessage) -> Later<Result<(), NotForwarded>> {
        let (forwarded, count) = (self.0.queued(node, message), self.1.clone());
        Box::pin(async move {
            let forwarded = forwarded.await;
            count.fetch_add(1, Ordering::Relaxed);
            forwarded
        })
    }
}

/// A client's side of its connection.
struct Peer {
    sender: Sender,
    outbox: Outbox,
}

impl Process {
    fn start(limits: &Limits) -> Self {
        Self::start_in(&unique_group(), "node", &broker(), limits)
    }

    fn start_in(group: &str, node: &str, url: &str, limits: &Limits) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let mut connect = |name| {
            let (admin, driver) = Admin::new(&Secret::new(url), name).expect("an address");
            tasks.spawn(driver.run(stop.clone()));
            admin
        };
        let (consumption, administration) = (connect("consumption"), connect("administration"));
        let hub = Arc::new(Hub::new(NodeId::of_run(node, 1)));
        let (router, routing) = Router::new(group, hub.clone(), limits, &administration, &consumption);
        let (messenger, forwarded) = (Messenger::new(administration.clone()), Arc::<AtomicUsize>::default());
        let forward = Arc::new(Counting(router, forwarded.clone()));
        let (queues, driver) = Queues::new(hub.clone(), group, limits, consumption.clone(), messenger.clone(), forward);
        let news = News::new(hub.clone(), consumption, administration.clone(), group);
        tasks.spawn(driver.run(stop.clone()));
        tasks.spawn(routing.run(Arc::new(queues.clone()), stop.clone(), stop.clone()));
        tasks.spawn(news.run(stop.clone()));
        Self { group: group.to_owned(), hub, queues, forwarded, administration, messenger, stop, tasks }
    }

    /// A client whose metadata `n` is the number of its connection.
    fn connect(&self, application: &str, id: &str, connection: u64) -> Peer {
        let n = Value::map([
            ("type", Value::string("integer")),
            ("value", Value::Integer(connection.try_into().expect("small"))),
        ]);
        let mut metadata = Metadata::default();
        metadata.merge(Changes::read(&Value::map([("n", n)])).expect("an integer"));
        let (key, connection, outbox) =
            (ClientKey::new(application, id), ConnectionId::new(connection), Outbox::default());
        let client = Client {
            key: key.clone(),
            node: self.hub.own().clone(),
            since: connection.get(),
            kind: Kind::Websocket,
            restricted: false,
            encoding: Encoding::Json,
            ip: None,
            namespace: Value::Null.into(),
            receives_client_updates: false,
            last_heartbeat: 0,
            queues: Default::default(),
            metadata,
        };
        self.hub.register(client, connection, outbox.clone()).expect("nobody has the key");
        Peer { sender: Sender { key, connection, ts: Value::Null }, outbox }
    }

    fn request(&self, peer: &Peer, queue: &str) {
        self.queues.request(&peer.sender, name(queue));
    }

    /// Queues a message for any client of the application.
    async fn queue(&self, peer: &Peer, application: &str, queue: &str, payload: i64) {
        self.queue_for(peer, &target(Some(application), None), queue, payload).await;
    }

    async fn queue_for(&self, peer: &Peer, target: &Value, queue: &str, payload: i64) {
        let told = must("the confirm", self.queues.publish(peer.sender.clone(), queued(target, queue, payload))).await;
        assert_eq!(told, Some(Outgoing::QueueConfirm(name(queue))));
        assert!(peer.outbox.take().is_none(), "one confirm is enough");
    }

    /// Waits until it has heard that this client asks for this queue.
    async fn hears_of(&self, peer: &Peer, queue: &str) {
        let asks = || self.hub.get(&peer.sender.key).is_some_and(|client| client.queues.contains(&name(queue)));
        eventually("the news of a request", asks).await;
    }

    fn disconnect(&self, peer: &Peer) {
        assert!(self.hub.unregister(&peer.sender.key, peer.sender.connection));
        peer.outbox.end();
        self.queues.gone(&peer.sender.key, peer.sender.connection);
    }

    /// As a worker, or Optic itself, publishes.
    async fn event(&self, key: &str, body: &[u8]) {
        let properties = Properties { content_type: Some("application/json".to_owned()), ..Properties::default() };
        let message =
            Message { exchange: &self.group, key, mandatory: true, persistent: true, properties: &properties, body };
        must("the confirm", async {
            while let Err(error) = self.messenger.publish(0, &message).await {
                assert!(error.is_undeclared(), "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no panic");
        }
    }
}

impl Peer {
    /// The next message out of a queue: its id and payload.
    async fn receives(&self) -> (Box<str>, Value) {
        must("a message for a client", async {
            loop {
                match self.outbox.take() {
                    Some(parcel) => {
                        let packet = parcel.packet.clone();
                        parcel.written();
                        let Outgoing::Queue { id, payload, .. } = packet else { panic!("{packet:?}") };
                        return (id, payload);
                    }
                    None => self.outbox.filled().await,
                }
            }
        })
        .await
    }
}

/// Who is meant: of an application, with this `n`.
fn target(application: Option<&str>, n: Option<i64>) -> Value {
    let to = |n| Value::map([("value", Value::Integer(n))]);
    let is = |n| Value::map([("path", Value::string("/n")), ("op", Value::string("$eq")), ("to", to(n))]);
    let ops = n.map(is).into_iter().collect();
    Value::map([("application", application.map_or(Value::Null, Value::string)), ("ops", Value::List(ops))])
}

fn queued(target: &Value, queue: &str, payload: i64) -> Queued {
    let target = Query::compile(target, 32).expect("a query");
    Queued { queue: name(queue), target, nonce: Value::Integer(7), payload: Value::Integer(payload) }
}

fn name(queue: &str) -> QueueName {
    QueueName(queue.into())
}

#[tokio::test]
async fn what_clients_queue_is_received_by_who_asks_and_acknowledged_once() {
    let process = Process::start(&Limits::default());
    let (a, b) = (process.connect("app", "a", 1), process.connect("app", "b", 2));
    for n in 0..3 {
        process.queue(&a, "app", "jobs", n).await;
    }
    for n in 0..3 {
        process.request(&b, "jobs");
        let (id, payload) = b.receives().await;
        assert_eq!(payload, Value::Integer(n));
        process.queues.ack(&b.sender, name("jobs"), &id);
    }
    process.request(&b, "jobs");
    process.queue(&a, "app", "jobs", 3).await;
    assert_eq!(b.receives().await.1, Value::Integer(3), "whoever waits is handed the next at once");
    process.end().await;
}

#[tokio::test]
async fn an_event_reaches_each_application_once() {
    let process = Process::start(&Limits::default());
    let (a, b) = (process.connect("one", "a", 1), process.connect("two", "b", 2));
    for peer in [&a, &b] {
        process.request(peer, "MESSAGE_CREATE");
    }
    // By its own key: published until the queue is bound.
    process.event("one:MESSAGE_CREATE", b"1").await;
    let (id_a, _) = a.receives().await;
    process.queues.ack(&a.sender, name("MESSAGE_CREATE"), &id_a);
    process.event("two:MESSAGE_CREATE", b"1").await;
    let (id_b, _) = b.receives().await;
    process.queues.ack(&b.sender, name("MESSAGE_CREATE"), &id_b);
    for peer in [&a, &b] {
        process.request(peer, "MESSAGE_CREATE");
    }
    process.event("MESSAGE_CREATE", b"{\"content\":\"hi\"}").await;
    let said = Value::map([("content", Value::string("hi"))]);
    assert_eq!((a.receives().await.1, b.receives().await.1), (said.clone(), said));
    process.end().await;
}

#[tokio::test]
async fn what_is_not_acknowledged_in_time_goes_to_another() {
    let limits = Limits { acknowledgement: Duration::from_millis(300), ..Limits::default() };
    let process = Process::start(&limits);
    let (a, b) = (process.connect("app", "a", 1), process.connect("app", "b", 2));
    process.queue(&a, "app", "jobs", 1).await;
    process.request(&a, "jobs");
    let first = a.receives().await;
    process.request(&b, "jobs");
    assert_eq!(b.receives().await, first);
    process.end().await;
}

#[tokio::test]
async fn what_a_client_holds_that_goes_is_received_by_another() {
    let process = Process::start(&Limits::default());
    let (a, b) = (process.connect("app", "a", 1), process.connect("app", "b", 2));
    process.queue(&a, "app", "jobs", 1).await;
    process.request(&a, "jobs");
    let first = a.receives().await;
    process.request(&b, "jobs");
    process.queues.ack(&b.sender, name("jobs"), &first.0);
    process.disconnect(&a);
    assert_eq!(b.receives().await, first, "only its receiver could acknowledge it");
    process.end().await;
}

#[tokio::test]
async fn a_worker_gets_what_no_client_asks_for() {
    let process = Process::start(&Limits::default());
    let a = process.connect("app", "a", 1);
    for n in 0..5 {
        process.queue(&a, "app", "jobs", n).await;
    }
    process.request(&a, "jobs");
    assert_eq!(a.receives().await.1, Value::Integer(0));
    let worker = Consumer::start(&broker(), &process.group, &["app:jobs"]).await;
    let bodies: Vec<_> = worker.wait_for(4).await.into_iter().map(|received| received.body).collect();
    assert_eq!(bodies, [b"1", b"2", b"3", b"4"], "a client holds one alone");
    process.end().await;
    assert_eq!(worker.wait_for(5).await[4].body, b"0", "given back at the end");
}

#[tokio::test]
async fn what_a_worker_feeds_without_any_header_reaches_a_client() {
    let process = Process::start(&Limits::default());
    let a = process.connect("app", "a", 1);
    process.queue(&a, "app", "jobs", 0).await;
    let worker = Worker::connect(&broker(), &process.group).await;
    worker.publish_with("app:jobs", b"plain words", BasicProperties::default()).await;
    for payload in [Value::Integer(0), Value::string("plain words")] {
        process.request(&a, "jobs");
        let (id, received) = a.receives().await;
        assert_eq!(received, payload);
        process.queues.ack(&a.sender, name("jobs"), &id);
    }
    worker.sees("app:jobs", (0, 0)).await;
    process.end().await;
}

#[tokio::test]
async fn a_target_without_an_application_means_clients_of_all() {
    let process = Process::start(&Limits::default());
    let (a, b) = (process.connect("one", "a", 1), process.connect("two", "b", 2));
    for peer in [&a, &b] {
        process.request(peer, "jobs");
    }
    process.queue_for(&a, &target(None, Some(2)), "jobs", 1).await;
    assert_eq!(b.receives().await.1, Value::Integer(1));
    process.queue_for(&b, &target(None, None), "jobs", 2).await;
    assert_eq!(a.receives().await.1, Value::Integer(2));
    process.end().await;
}

#[tokio::test]
async fn a_message_for_a_client_of_another_process_finds_it_there() {
    let group = unique_group();
    let start = |node| Process::start_in(&group, node, &broker(), &Limits::default());
    let (one, two) = (start("one"), start("two"));
    let (here, there) = (one.connect("app", "here", 1), two.connect("app", "there", 2));
    // It has asked, and has enough for now: its process takes nothing.
    two.queue(&there, "app", "jobs", 0).await;
    two.request(&there, "jobs");
    let (enough, _) = there.receives().await;
    one.hears_of(&there, "jobs").await;
    one.request(&here, "jobs");
    one.queue_for(&here, &target(Some("app"), Some(2)), "jobs", 1).await;
    eventually("the forwarding", || one.forwarded.load(Ordering::Relaxed) > 0).await;
    two.request(&there, "jobs");
    let (id, payload) = there.receives().await;
    assert_eq!(payload, Value::Integer(1));
    for id in [enough, id] {
        two.queues.ack(&there.sender, name("jobs"), &id);
    }
    // Neither is there still or again.
    one.queues.cancel(&here.sender, name("jobs"));
    let worker = Worker::connect(&broker(), &group).await;
    worker.sees("app:jobs", (0, 0)).await;
    worker.sees(&format!("optic:singyeong.{}", two.hub.own()), (0, 1)).await;
    assert!(here.outbox.take().is_none());
    for process in [one, two] {
        process.end().await;
    }
    assert_eq!(worker.look("app:jobs").await.0, 0, "both are acknowledged");
}

#[tokio::test]
async fn what_was_forwarded_and_not_acknowledged_goes_to_another() {
    let group = unique_group();
    let start = |node| Process::start_in(&group, node, &broker(), &Limits::default());
    let (one, two) = (start("one"), start("two"));
    let (here, there) = (one.connect("app", "here", 1), two.connect("app", "there", 2));
    two.queue(&there, "app", "jobs", 0).await;
    two.request(&there, "jobs");
    there.receives().await;
    one.hears_of(&there, "jobs").await;
    one.request(&here, "jobs");
    one.queue_for(&here, &target(Some("app"), Some(2)), "jobs", 1).await;
    eventually("the forwarding", || one.forwarded.load(Ordering::Relaxed) > 0).await;
    two.request(&there, "jobs");
    let forwarded = there.receives().await;
    let heir = one.connect("app", "heir", 3);
    one.hub.update(&heir.sender.key, heir.sender.connection, |heir| {
        heir.metadata = two.hub.get(&there.sender.key).expect("it is there").metadata.clone();
    });
    one.request(&heir, "jobs");
    two.disconnect(&there);
    // The first goes to whoever has waited longest, the other one is for the heir alone.
    assert_eq!(here.receives().await.1, Value::Integer(0));
    assert_eq!(heir.receives().await, forwarded, "with its id");
    for process in [one, two] {
        process.end().await;
    }
}

#[tokio::test]
async fn what_nobody_matches_stays_in_its_queue_behind_the_others() {
    let process = Process::start(&Limits::default());
    let (a, b) = (process.connect("app", "a", 1), process.connect("app", "b", 2));
    process.queue_for(&a, &target(Some("app"), Some(9)), "jobs", 1).await;
    process.request(&a, "jobs");
    // Comes while the other is parked, or after that.
    process.queue(&b, "app", "jobs", 2).await;
    assert_eq!(a.receives().await.1, Value::Integer(2));
    let worker = Worker::connect(&broker(), &process.group).await;
    let left = worker.wait_for("app:jobs").await;
    assert_eq!((left.body.as_str(), left.content_type.as_deref()), ("1", Some("application/json")));
    let headers: Vec<_> = left.headers.keys().map(String::as_str).collect();
    assert_eq!(headers, ["x-singyeong-nonce", "x-singyeong-sender", "x-singyeong-target"]);
    process.end().await;
}

#[tokio::test]
async fn a_message_is_confirmed_when_rabbitmq_is_back() {
    let link = FaultyLink::to_the_broker().await;
    let process = Process::start_in(&unique_group(), "node", &link.through(&broker()), &Limits::default());
    let a = process.connect("app", "a", 1);
    process.queue(&a, "app", "jobs", 1).await;
    link.refuse();
    eventually("the loss", || !process.administration.is_taking_messages()).await;
    let second = queued(&target(Some("app"), None), "jobs", 2);
    let confirm = tokio::spawn(process.queues.publish(a.sender.clone(), second));
    let worker = Worker::connect(&broker(), &process.group).await;
    assert_eq!(worker.look("app:jobs").await.0, 1);
    assert!(!confirm.is_finished());
    link.resume();
    let told = must("the confirm", confirm).await.expect("no panic");
    assert_eq!(told, Some(Outgoing::QueueConfirm(name("jobs"))));
    assert_eq!(worker.look("app:jobs").await.0, 2, "it is there when it is confirmed");
    process.end().await;
}

#[tokio::test]
async fn a_client_that_came_back_receives_nothing_that_it_could_not_acknowledge() {
    let process = Process::start(&Limits::default());
    let former = process.connect("app", "a", 1);
    process.request(&former, "jobs");
    let worker = Worker::connect(&broker(), &process.group).await;
    // Its connection's end is not told yet.
    assert!(process.hub.unregister(&former.sender.key, former.sender.connection));
    let again = process.connect("app", "a", 2);
    process.queue(&again, "app", "jobs", 1).await;
    worker.sees("app:jobs", (1, 0)).await;
    assert!(again.outbox.take().is_none());
    process.request(&former, "jobs");
    process.queues.gone(&former.sender.key, former.sender.connection);
    process.request(&again, "jobs");
    let (id, _) = again.receives().await;
    process.queues.ack(&again.sender, name("jobs"), &id);
    process.end().await;
    assert_eq!(worker.look("app:jobs").await.0, 0);
}
