//! The publishing connection against a real RabbitMQ, named by `OPTIC_TEST_AMQP_URL` (spec/amqp.md, "Publishing").

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use optic::amqp::address::Address;
use optic::amqp::publisher::{
    Abandoned, Message, Observer, Properties, Publisher, PublisherSettings, Returned, Window,
};
use optic::broker::{BrokerState, Position};
use optic::cluster::fence::Fence;
use optic::discord::ids::ShardId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Far longer than anything here takes: it turns a hang into a failure.
const LIMIT: Duration = Duration::from_secs(120);

const WINDOW: Window = Window { messages: 4096, bytes: 16 << 20 };

fn url() -> String {
    std::env::var("OPTIC_TEST_AMQP_URL").expect("OPTIC_TEST_AMQP_URL names the RabbitMQ to test against")
}

fn unique(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test-{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[derive(Default)]
struct Seen {
    returned: Mutex<Vec<String>>,
    abandoned: Mutex<Vec<Abandoned>>,
}

impl Observer for Seen {
    fn returned(&self, routing_key: &str, _: Option<&str>) -> Returned {
        self.returned.lock().expect("no panic").push(routing_key.to_owned());
        Returned::Settled
    }

    fn abandoned(&self, message: &Abandoned) -> Option<Position> {
        self.abandoned.lock().expect("no panic").push(message.clone());
        None
    }
}

struct Running {
    publisher: Publisher,
    seen: Arc<Seen>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(url: &str, exchange: &str) -> Self {
        Self::behind(Fence::open(), url, exchange)
    }

    fn behind(fence: Fence, url: &str, exchange: &str) -> Self {
        let seen = Arc::new(Seen::default());
        let settings = PublisherSettings {
            address: Address::parse(url).expect("a URL"),
            exchange: exchange.to_owned(),
            connection_name: exchange.to_owned(),
            window: WINDOW,
            fence,
        };
        let (publisher, driver) = Publisher::new(settings, seen.clone());
        let stop = CancellationToken::new();
        let task = tokio::spawn(driver.run(stop.clone()));
        Self { publisher, seen, stop, task }
    }

    async fn publish(&self, exchange: &str, routing_key: &str, body: &[u8]) {
        self.publisher.room().await;
        let message = Message {
            exchange,
            routing_key,
            mandatory: true,
            properties: Properties { content_type: Some("application/json"), ..Properties::default() },
            prefix: None,
            body,
            shard: body.get(7).map_or(0, |last| u32::from(last % 3)),
            seq: 0,
        };
        self.publisher.publish(&message).expect("fits");
    }

    async fn finish(self) {
        self.publisher.flushed().await;
        assert_eq!(self.publisher.counters().unconfirmed, 0);
        self.stop.cancel();
        self.task.await.expect("the driver does not panic");
    }
}

/// A queue bound to an exchange, and everything that arrives in it.
struct Worker {
    channel: Channel,
    queue: String,
    connection: Connection,
}

impl Worker {
    async fn bound(exchange: &str, routing_key: &str) -> Self {
        let connection = Connection::connect(&url(), ConnectionProperties::default()).await.expect("lapin connects");
        let channel = connection.create_channel().await.expect("a channel");
        let queue = format!("{exchange}:{routing_key}");
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel
            .exchange_declare(exchange.into(), ExchangeKind::Direct, durable, FieldTable::default())
            .await
            .expect("the exchange");
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.expect("the queue");
        let (name, key) = (queue.as_str().into(), routing_key.into());
        channel
            .queue_bind(name, exchange.into(), key, QueueBindOptions::default(), FieldTable::default())
            .await
            .expect("the binding");
        Self { channel, queue, connection }
    }

    /// Hands over what arrives until `take` says it is enough.
    async fn consume(self, mut take: impl FnMut(&[u8]) -> bool) {
        let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut consumer = self
            .channel
            .basic_consume(self.queue.as_str().into(), "".into(), no_ack, FieldTable::default())
            .await
            .expect("a consumer");
        while let Some(delivery) = consumer.next().await {
            if !take(&delivery.expect("a delivery").data) {
                break;
            }
        }
        self.channel
            .queue_delete(self.queue.as_str().into(), QueueDeleteOptions::default())
            .await
            .expect("the queue goes");
        self.connection.close(200, "done".into()).await.expect("closes");
    }
}

fn body(number: u64) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(8 + (number as usize * 37) % 2000, number as u8);
    body
}

/// Everything of `0..count` arrives, whole; gives how often something came out of order or again.
async fn expect_all(worker: Worker, count: u64) -> u64 {
    let mut seen = vec![false; count as usize];
    let (mut missing, mut next, mut disorder) = (count, 0, 0);
    let consumed = worker.consume(|data| {
        let number = u64::from_be_bytes(*data.first_chunk().expect("begins with its number"));
        assert!(data == body(number), "message {number} is not what was published");
        missing -= u64::from(!std::mem::replace(&mut seen[number as usize], true));
        disorder += u64::from(number != next);
        next = number + 1;
        missing > 0
    });
    tokio::time::timeout(LIMIT, consumed).await.expect("all arrive");
    disorder
}

/// A wire between publisher and broker that can be cut or go dead.
struct Proxy {
    address: String,
    mode: watch::Sender<Mode>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward,
    /// Connections are dropped as soon as they are seen in this mode.
    Cut(u64),
    /// Connections made before this stay open and dead.
    Dead(u64),
}

impl Proxy {
    async fn start() -> Self {
        let target = Address::parse(&url()).expect("a URL");
        let target = (target.host(), target.port());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (mode, changes) = watch::channel(Mode::Forward);
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.expect("accepts");
                let far = TcpStream::connect(target.clone()).await.expect("the broker is there");
                tokio::spawn(forward(near, far, changes.clone()));
            }
        });
        Self { address, mode }
    }

    fn url(&self, parameters: &str) -> String {
        format!("amqp://{}/{parameters}", self.address)
    }
}

async fn forward(mut near: TcpStream, mut far: TcpStream, mut changes: watch::Receiver<Mode>) {
    changes.borrow_and_update();
    let next = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
        next = changes.changed() => next,
    };
    // Dead: held open, nothing read, until the test is over.
    if next.is_ok() && matches!(*changes.borrow(), Mode::Dead(_)) {
        drop(far);
        std::future::pending::<()>().await;
    }
}

async fn until(publisher: &Publisher, wanted: BrokerState) {
    let mut state = publisher.watch_state();
    tokio::time::timeout(LIMIT, state.wait_for(|state| *state == wanted)).await.expect("in time").expect("running");
}

#[tokio::test]
async fn a_flood_arrives_byte_for_byte_and_in_order() {
    const COUNT: u64 = 100_000;
    let group = unique("flood");
    let worker = Worker::bound(&group, "EVENT").await;
    let running = Running::start(&url(), &group);
    let consumer = tokio::spawn(expect_all(worker, COUNT));
    for number in 0..COUNT {
        running.publish(&group, "EVENT", &body(number)).await;
    }
    assert_eq!(consumer.await.expect("all arrived"), 0, "in order, once");
    assert_eq!(running.publisher.counters().outbox.confirmed, running.publisher.settled().get());
    running.finish().await;
}

#[tokio::test]
async fn behind_a_closed_fence_nothing_is_sent_and_what_another_process_has_never_is() {
    let group = unique("fence");
    let worker = Worker::bound(&group, "EVENT").await;
    let fence = Fence::open();
    let running = Running::behind(fence.clone(), &url(), &group);
    until(&running.publisher, BrokerState::Connected).await;
    fence.set_certain(false);
    for number in 0..30 {
        running.publish(&group, "EVENT", &body(number)).await;
    }
    let (publisher, discarded) = (running.publisher.clone(), ShardId::new(1));
    let flushed = publisher.flushed();
    tokio::pin!(flushed);
    // A turn of the driver, which would have written them.
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut flushed).await.is_err(), "the fence is closed");
    assert_eq!(publisher.counters().outbox.bytes, 0);
    publisher.discard(discarded);
    fence.set_certain(true);
    flushed.await;
    let mut arrived = Vec::new();
    let all = worker.consume(|data| {
        arrived.push(u64::from_be_bytes(*data.first_chunk().expect("begins with its number")));
        arrived.len() < 20
    });
    tokio::time::timeout(LIMIT, all).await.expect("the others' arrive");
    assert_eq!(arrived, (0..30).filter(|number| number % 3 != 1).collect::<Vec<u64>>());
    assert_eq!(publisher.counters().outbox.discarded, 10);
    running.finish().await;
}

#[tokio::test]
async fn a_body_of_several_megabytes_arrives_whole() {
    let group = unique("large");
    let worker = Worker::bound(&group, "GUILD_CREATE").await;
    let running = Running::start(&url(), &group);
    let large: Vec<u8> = (0..5_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    running.publish(&group, "GUILD_CREATE", &large).await;
    let consumed = worker.consume(|data| {
        assert!(data == large, "whole");
        false
    });
    tokio::time::timeout(LIMIT, consumed).await.expect("arrives");
    running.finish().await;
}

#[tokio::test]
async fn what_no_queue_takes_is_told_and_settled() {
    let group = unique("return");
    let running = Running::start(&url(), &group);
    running.publish(&group, "TYPING_START", &vec![7; 300_000]).await;
    running.publish(&group, "PRESENCE_UPDATE", b"{}").await;
    tokio::time::timeout(LIMIT, running.publisher.flushed()).await.expect("settled");
    assert_eq!(*running.seen.returned.lock().expect("no panic"), ["TYPING_START", "PRESENCE_UPDATE"]);
    assert_eq!(running.publisher.counters().returned, 2);
    running.finish().await;
}

#[tokio::test]
async fn a_connection_cut_in_a_flood_loses_nothing() {
    const COUNT: u64 = 30_000;
    let group = unique("cut");
    let worker = Worker::bound(&group, "EVENT").await;
    let proxy = Proxy::start().await;
    let running = Running::start(&proxy.url(""), &group);
    let consumer = tokio::spawn(expect_all(worker, COUNT));
    for number in 0..COUNT {
        running.publish(&group, "EVENT", &body(number)).await;
        if number % 10_000 == 5_000 {
            until(&running.publisher, BrokerState::Connected).await;
            proxy.mode.send_replace(Mode::Cut(number));
            until(&running.publisher, BrokerState::Disconnected).await;
        }
    }
    consumer.await.expect("all arrived");
    let counters = running.publisher.counters();
    assert_eq!(counters.connections, 4);
    running.finish().await;
}

#[tokio::test]
async fn a_dead_wire_is_noticed_by_its_silence() {
    const COUNT: u64 = 2_000;
    let group = unique("dead");
    let worker = Worker::bound(&group, "EVENT").await;
    let proxy = Proxy::start().await;
    let running = Running::start(&proxy.url("?heartbeat=1"), &group);
    let consumer = tokio::spawn(expect_all(worker, COUNT));
    for number in 0..COUNT / 2 {
        running.publish(&group, "EVENT", &body(number)).await;
    }
    until(&running.publisher, BrokerState::Connected).await;
    proxy.mode.send_replace(Mode::Dead(0));
    for number in COUNT / 2..COUNT {
        running.publish(&group, "EVENT", &body(number)).await;
    }
    consumer.await.expect("all arrived");
    assert_eq!(running.publisher.counters().connections, 2);
    running.finish().await;
}

/// What a driver that cannot connect says.
async fn refusal(url: &str, exchange: &str) -> String {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let running = Running::start(url, exchange);
    let said = async {
        while !log.text().contains("cannot connect") {
            log.0.1.notified().await;
        }
    };
    tokio::time::timeout(LIMIT, said).await.expect("it says so");
    assert_eq!(running.publisher.state(), BrokerState::Disconnected);
    running.stop.cancel();
    running.task.await.expect("ends");
    drop(guard);
    log.text()
}

#[derive(Clone, Default)]
struct Log(Arc<(Mutex<Vec<u8>>, tokio::sync::Notify)>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().expect("no panic")).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.0.lock().expect("no panic").extend_from_slice(bytes);
        self.0.1.notify_one();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_wrong_password_is_named_as_such() {
    let address = Address::parse(&url()).expect("a URL");
    let wrong = format!("amqp://guest:hunter2@{}:{}", address.host(), address.port());
    let text = refusal(&wrong, "any").await;
    assert!(text.contains("refuses the user or password") && text.contains("ACCESS_REFUSED"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_wrong_virtual_host_is_named() {
    let address = Address::parse(&url()).expect("a URL");
    let wrong = format!("amqp://{}:{}/nowhere", address.host(), address.port());
    let text = refusal(&wrong, "any").await;
    assert!(text.contains("the virtual host `nowhere`"), "{text}");
}

#[tokio::test]
async fn an_exchange_of_another_type_is_named_with_what_to_do() {
    let group = unique("type");
    let connection = Connection::connect(&url(), ConnectionProperties::default()).await.expect("lapin connects");
    let channel = connection.create_channel().await.expect("a channel");
    let auto = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    channel
        .exchange_declare(group.as_str().into(), ExchangeKind::Topic, auto, FieldTable::default())
        .await
        .expect("declared");
    let text = refusal(&url(), &group).await;
    assert!(text.contains(&group) && text.contains("PRECONDITION_FAILED") && text.contains("BROKER_GROUP"), "{text}");
    channel.exchange_delete(group.as_str().into(), Default::default()).await.expect("gone");
}

#[tokio::test]
async fn a_server_of_another_protocol_is_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("amqp://{}", listener.local_addr().expect("bound"));
    let server = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("accepts");
            let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut socket, answer).await.expect("writes");
            let mut sink = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut sink).await;
        }
    });
    let text = refusal(&url, "any").await;
    assert!(text.contains("not an AMQP 0-9-1 server"), "{text}");
    server.abort();
}
