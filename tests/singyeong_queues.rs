//! Queues of 신경 on a real RabbitMQ: what workers feed reaches clients who ask, once, and what nobody acknowledges goes on.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Consumer, broker, must, unique_group};
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
use optic::singyeong::metadata::Metadata;
use optic::singyeong::outbox::Outbox;
use optic::singyeong::packet::dispatch::{QueueName, Queued};
use optic::singyeong::packet::outgoing::Outgoing;
use optic::singyeong::query::Query;
use optic::singyeong::queues::{Forward, ForwardedMessage, NotForwarded, Queues};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A process with nobody beside it.
struct Process {
    group: String,
    hub: Arc<Hub>,
    queues: Queues,
    messenger: Messenger,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

struct Alone;

impl Forward for Alone {
    fn queued(&self, _: &NodeId, _: ForwardedMessage) -> Later<Result<(), NotForwarded>> {
        Box::pin(async { Err(NotForwarded) })
    }
}

/// A client's side of its connection.
struct Peer {
    sender: Sender,
    outbox: Outbox,
}

impl Process {
    fn start(limits: &Limits) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let mut connect = |name| {
            let (admin, driver) = Admin::new(&Secret::new(&broker()), name).expect("an address");
            tasks.spawn(driver.run(stop.clone()));
            admin
        };
        let (consumption, administration) = (connect("consumption"), connect("administration"));
        let hub = Arc::new(Hub::new(NodeId::of_run("node", 1)));
        let (group, messenger) = (unique_group(), Messenger::new(administration));
        let (queues, driver) =
            Queues::new(hub.clone(), &group, limits, consumption, messenger.clone(), Arc::new(Alone));
        tasks.spawn(driver.run(stop.clone()));
        Self { group, hub, queues, messenger, stop, tasks }
    }

    fn connect(&self, application: &str, id: &str, connection: u64) -> Peer {
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
            metadata: Metadata::default(),
        };
        self.hub.register(client, connection, outbox.clone()).expect("nobody has the key");
        Peer { sender: Sender { key, connection, ts: Value::Null }, outbox }
    }

    fn request(&self, peer: &Peer, queue: &str) {
        self.queues.request(&peer.sender, name(queue));
    }

    async fn queue(&self, peer: &Peer, application: &str, queue: &str, payload: i64) {
        let target = Value::map([("application", Value::string(application)), ("ops", Value::List(Box::default()))]);
        let target = Query::compile(&target, 32).expect("a query");
        let queued = Queued { queue: name(queue), target, nonce: Value::Integer(7), payload: Value::Integer(payload) };
        let told = must("the confirm", self.queues.publish(peer.sender.clone(), queued)).await;
        assert_eq!(told, Some(Outgoing::QueueConfirm(name(queue))));
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
    // The first may come before a queue is bound: each publishes until both have heard.
    let (id_a, _) = must("both", async {
        loop {
            process.event("one:MESSAGE_CREATE", b"1").await;
            return a.receives().await;
        }
    })
    .await;
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
    process.hub.unregister(&a.sender.key, a.sender.connection);
    process.queues.gone(&a.sender.key, a.sender.connection);
    assert_eq!(b.receives().await, first);
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
