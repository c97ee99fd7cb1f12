//! spec/amybot.md, held by services over a real RabbitMQ: shards, takeovers, and messages that are passed on.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{FaultyLink, Message, PrivateBroker, Worker, broker, must, unique_group};
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use optic::amqp::admin::Admin;
use optic::amybot::internal::{Client, Internal, InternalAnswer, Order};
use optic::amybot::message::{Message as AmybotMessage, ServiceName};
use optic::amybot::office::{Office, Settings, Turn, Turns};
use optic::amybot::optics::Runs;
use optic::amybot::proxy::{Counts, Passed};
use optic::cluster::node::NodeId;
use optic::discord::ids::ShardId;
use optic::discord::turnstile::Pass;
use optic::encoding::{self, Encoding};
use optic::secret::Secret;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Always its turn: what paces is tested elsewhere.
struct AtOnce;

impl Turns for AtOnce {
    fn turn(&self, _: ShardId) -> Turn<'_> {
        Box::pin(async { Pass::until(Instant::now() + Duration::from_secs(3600)) })
    }
}

/// What coordinates, in one process. Gone when dropped.
struct Process {
    counts: Counts,
    _stop: DropGuard,
}

impl Process {
    fn start(url: &str, group: &str, shard_count: u32, optics: &[u32]) -> Self {
        let stop = CancellationToken::new();
        let connect = |name: &str| {
            let (admin, driver) = Admin::new(&Secret::new(url), name).expect("a URL");
            tokio::spawn(driver.run(stop.clone()));
            admin
        };
        let shards = optics.iter().copied().map(ShardId::new).collect();
        let (_, runs) = watch::channel(Runs { shards, ..Runs::default() });
        let settings = Settings {
            group: group.to_owned(),
            shard_count: Some(shard_count),
            node: NodeId::of_run("process", fastrand::u32(..)),
            runs,
            max_concurrency: Arc::default(),
        };
        let office = Office::new(settings, connect("administration"), connect("consumption"));
        let counts = office.counts();
        tokio::spawn(office.run(Arc::new(AtOnce), stop.clone()));
        Self { counts, _stop: stop.drop_guard() }
    }
}

/// A service with a queue of its own for what it is told; without one, nothing of it is left.
struct Service {
    _connection: Connection,
    channel: Channel,
    group: String,
    queue: String,
    told: lapin::Consumer,
}

impl Service {
    async fn connect(url: &str, group: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("RabbitMQ is there");
        let channel = connection.create_channel().await.expect("a channel");
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared = channel.exchange_declare(group.into(), ExchangeKind::Direct, durable, FieldTable::default());
        declared.await.expect("declared");
        let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await.expect("declared");
        let queue = queue.name().to_string();
        let told = consume(&channel, &queue).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { _connection: connection, channel, group: group.to_owned(), queue, told }
    }

    async fn publish(&self, key: &str, body: &[u8], properties: BasicProperties) {
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        must("the queue of the coordinator", async {
            loop {
                let published = self.channel.basic_publish(
                    self.group.as_str().into(),
                    key.into(),
                    mandatory,
                    body,
                    properties.clone(),
                );
                let confirm = published.await.expect("published").await.expect("confirmed");
                if matches!(confirm, lapin::Confirmation::Ack(None)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Says this op as `name`, and asks for an answer.
    async fn op(&self, name: &str, d: Value, correlation_id: &str) {
        let body = json!({"s": name, "t": "gateway:opcode", "d": d}).to_string();
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_reply_to(self.queue.as_str().into())
            .with_correlation_id(correlation_id.into());
        self.publish("gateway", body.as_bytes(), properties).await;
    }

    /// What it is told next, as (`d`, correlation id).
    async fn told(&mut self) -> (Value, String) {
        let delivery = must("to be told", self.told.next()).await.expect("the channel is open").expect("a delivery");
        let message: Value = serde_json::from_slice(&delivery.data).expect("JSON");
        assert_eq!((&message["s"], &message["t"]), (&json!("gateway"), &json!("gateway:opcode")));
        let correlation_id = delivery.properties.correlation_id().as_ref().map(ToString::to_string);
        (message["d"].clone(), correlation_id.unwrap_or_default())
    }

    /// Asks for a shard until it gets one.
    async fn shard(&mut self) -> u64 {
        must("a shard", async {
            loop {
                self.op("bot", json!({"opcode": 10}), "shard").await;
                let (d, correlation_id) = self.told().await;
                assert_eq!(correlation_id, "shard");
                match d["opcode"].as_u64() {
                    Some(11) => return d["shard_id"].as_u64().expect("a number"),
                    _ => assert_eq!(d["accepted"], json!(false), "{d}"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
    }
}

async fn consume(channel: &Channel, queue: &str) -> lapin::Consumer {
    let no_ack = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue.into(), "".into(), no_ack, FieldTable::default()).await.expect("consumed")
}

/// A process with websocket clients, as far as the coordinator knows of it.
struct Front {
    service: Service,
}

impl Front {
    async fn connect(url: &str, group: &str) -> Self {
        Self { service: Service::connect(url, group).await }
    }

    fn client(&self, connection: u64) -> Client {
        Client { node: NodeId::of_run("front", 1), connection, reply_to: self.service.queue.clone() }
    }

    async fn tell(&self, internal: &Internal) {
        let properties = BasicProperties::default()
            .with_reply_to(self.service.queue.as_str().into())
            .with_correlation_id("asked".into());
        self.service.publish("optic:amybot", &internal.to_json(), properties).await;
    }

    async fn says(&self, connection: u64, s: &str, t: &str, d: &str) {
        let message = AmybotMessage::read_json(format!(r#"{{"s":"{s}","t":"{t}","d":{d}}}"#).as_bytes());
        self.tell(&Internal::Said(self.client(connection), message.expect("a message"))).await;
    }

    /// The connection that something is for, and what.
    async fn next(&mut self) -> (String, String) {
        let delivery = must("a message", self.service.told.next()).await.expect("open").expect("a delivery");
        let connection = delivery.properties.correlation_id().as_ref().expect("for a connection").to_string();
        (connection, String::from_utf8(delivery.data).expect("text"))
    }

    async fn answer(&mut self) -> InternalAnswer {
        let (to, answer) = self.next().await;
        assert_eq!(to, "asked");
        InternalAnswer::read(answer.as_bytes()).expect("an answer")
    }
}

fn accepted(shard: u32, count: u32) -> Value {
    json!({"opcode": 11, "shard_id": shard, "shard_count": count})
}

async fn set_aside(worker: &Worker) -> (Message, String) {
    let message = worker.wait_for("REJECTED").await;
    let reason = message.headers["x-optic-reason"].clone();
    (message, reason)
}

#[tokio::test]
async fn services_get_shards_give_them_back_and_hear_when_there_is_none() {
    let (url, group) = (broker(), unique_group());
    let _process = Process::start(&url, &group, 3, &[1]);
    let (mut one, mut two) = (Service::connect(&url, &group).await, Service::connect(&url, &group).await);
    one.op("bot", json!({"opcode": 0, "topics": ["x"]}), "hello").await;
    assert_eq!(one.told().await, (json!({"opcode": 0, "accepted": true}), "hello".to_owned()));
    one.op("bot", json!({"opcode": "10"}), "first").await;
    assert_eq!(one.told().await, (accepted(0, 3), "first".to_owned()));
    two.op("bot", json!({"opcode": 10}), "second").await;
    assert_eq!(two.told().await, (accepted(2, 3), "second".to_owned()));
    two.op("bot", json!({"opcode": 10}), "third").await;
    let (d, correlation_id) = two.told().await;
    assert_eq!((&d["opcode"], &d["accepted"], correlation_id.as_str()), (&json!(10), &json!(false), "third"));
    assert!(d["reason"].as_str().expect("a reason").contains("no shard is free"), "{d}");
    two.op("bot", json!({"opcode": 12, "shard_id": 0}), "not its own").await;
    assert_eq!(two.told().await.0["reason"], "shard 0 is not its own");
    one.op("bot", json!({"opcode": 12, "shard_id": 0}), "").await;
    assert_eq!(two.shard().await, 0);
}

#[tokio::test]
async fn a_shard_comes_back_with_the_loss_of_its_services_queue() {
    let (url, group) = (broker(), unique_group());
    let _process = Process::start(&url, &group, 1, &[]);
    let mut one = Service::connect(&url, &group).await;
    assert_eq!(one.shard().await, 0);
    let mut two = Service::connect(&url, &group).await;
    two.op("bot", json!({"opcode": 10}), "used up").await;
    assert_eq!(two.told().await.0["accepted"], json!(false));
    drop(one);
    assert_eq!(two.shard().await, 0);
    // The same with direct reply-to, whose queue is none.
    drop(two);
    let mut worker = Worker::connect(&url, &group).await;
    let body = json!({"s": "bot", "t": "gateway:opcode", "d": {"opcode": 10}}).to_string();
    must("a shard", async {
        loop {
            worker.ask("gateway", body.as_bytes(), "direct").await;
            let answer: Value = serde_json::from_str(&worker.answer().await.body).expect("JSON");
            if answer["d"] == accepted(0, 1) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let mut three = Service::connect(&url, &group).await;
    three.op("bot", json!({"opcode": 10}), "used up").await;
    assert_eq!(three.told().await.0["accepted"], json!(false));
    drop(worker);
    assert_eq!(three.shard().await, 0);
}

#[tokio::test]
async fn a_queue_that_outlives_its_service_keeps_no_shard() {
    let (url, group) = (broker(), unique_group());
    let _process = Process::start(&url, &group, 2, &[]);
    let service = Service::connect(&url, &group).await;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let queue = format!("{group}:bot");
    service.channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.expect("declared");
    let body = json!({"s": "bot", "t": "gateway:opcode", "d": {"opcode": 10}}).to_string();
    // Nobody consumes its queue: it gets the first shard, and has it for two rounds.
    let properties = BasicProperties::default().with_reply_to(queue.as_str().into());
    service.publish("gateway", body.as_bytes(), properties).await;
    let mut other = Service::connect(&url, &group).await;
    assert_eq!(other.shard().await, 1);
    assert_eq!(other.shard().await, 0);
}

#[tokio::test]
async fn a_service_without_a_queue_of_its_own_is_answered_by_its_name() {
    let (url, group) = (broker(), unique_group());
    let _process = Process::start(&url, &group, 1, &[]);
    let service = Service::connect(&url, &group).await;
    let connect = json!({"s": "music", "t": "gateway:opcode", "d": {"opcode": 10}}).to_string();
    // Nobody is there to be told: the shard is free again, at once.
    service.publish("gateway", connect.as_bytes(), BasicProperties::default()).await;
    let worker = Worker::connect(&url, &group).await;
    worker.declare("music").await;
    must("a shard", async {
        loop {
            service.publish("gateway", connect.as_bytes(), BasicProperties::default()).await;
            let told: Value = serde_json::from_str(&worker.wait_for("music").await.body).expect("JSON");
            if told["d"] == accepted(0, 1) {
                return;
            }
        }
    })
    .await;
    let mut other = Service::connect(&url, &group).await;
    other.op("bot", json!({"opcode": 10}), "used up").await;
    assert_eq!(other.told().await.0["accepted"], json!(false));
    worker.delete("music").await;
    assert_eq!(other.shard().await, 0);
}

#[tokio::test]
async fn when_the_coordinator_dies_another_goes_on_with_who_has_what() {
    let (url, group) = (broker(), unique_group());
    let link = FaultyLink::to_the_broker().await;
    let _first = Process::start(&link.through(&url), &group, 3, &[]);
    let mut one = Service::connect(&url, &group).await;
    assert_eq!(one.shard().await, 0);
    let mut two = Service::connect(&url, &group).await;
    assert_eq!(two.shard().await, 1);
    let worker = Worker::connect(&url, &group).await;
    worker.sees("gateway", (0, 1)).await;
    link.refuse();
    worker.sees("gateway", (0, 0)).await;
    // Meanwhile another asks.
    let mut three = Service::connect(&url, &group).await;
    three.op("bot", json!({"opcode": 10}), "in between").await;
    let _second = Process::start(&url, &group, 3, &[]);
    assert_eq!(three.told().await, (accepted(2, 3), "in between".to_owned()), "others have the rest");
    drop(one);
    let mut four = Service::connect(&url, &group).await;
    assert_eq!(four.shard().await, 0, "of who is gone");
    // Who comes back has nothing to say.
    link.resume();
    four.op("bot", json!({"opcode": 10}), "used up").await;
    assert_eq!(four.told().await.0["accepted"], json!(false));
    worker.sees("gateway", (0, 1)).await;
}

#[tokio::test]
async fn who_was_paused_and_comes_back_gives_nothing_away() {
    let private = PrivateBroker::start().await;
    let (url, group) = (format!("{}?heartbeat=2", private.url()), unique_group());
    let link = FaultyLink::to(private.address()).await;
    let _paused = Process::start(&link.through(&url), &group, 2, &[]);
    let mut one = Service::connect(private.url(), &group).await;
    assert_eq!(one.shard().await, 0);
    let mut two = Service::connect(private.url(), &group).await;
    link.freeze();
    // It reaches who is paused at most.
    two.op("bot", json!({"opcode": 10}), "paused").await;
    let _other = Process::start(&url, &group, 2, &[]);
    assert_eq!(two.told().await, (accepted(1, 2), "paused".to_owned()));
    link.resume();
    let mut three = Service::connect(private.url(), &group).await;
    for _ in 0..5 {
        three.op("bot", json!({"opcode": 10}), "used up").await;
        assert_eq!(three.told().await.0["accepted"], json!(false));
    }
    drop(one);
    assert_eq!(three.shard().await, 0);
}

#[tokio::test]
async fn what_only_the_gateway_says_and_what_nobody_understands_is_refused_or_set_aside() {
    let (url, group) = (broker(), unique_group());
    let _process = Process::start(&url, &group, 1, &[]);
    let mut service = Service::connect(&url, &group).await;
    for (opcode, why) in [
        (json!(1), "opcode 1 (SHUTDOWN) is sent by the gateway only"),
        (json!("2"), "opcode 2 (REBOOT) is sent by the gateway only"),
        (json!(11), "opcode 11 (SHARD_ACCEPT) is sent by the gateway only"),
        (json!(99), "there is no opcode 99"),
    ] {
        service.op("bot", json!({"opcode": opcode}), "refused").await;
        let (d, correlation_id) = service.told().await;
        assert_eq!((&d["accepted"], correlation_id.as_str()), (&json!(false), "refused"));
        assert_eq!(d["reason"], why);
    }
    service.op("gateway", json!({"opcode": 0}), "name").await;
    assert!(service.told().await.0["reason"].as_str().expect("a reason").contains("no name of a service"));
    let worker = Worker::connect(&url, &group).await;
    worker.declare("REJECTED").await;

    let json_type = || BasicProperties::default().with_content_type("application/json".into());
    service.publish("gateway", b"[1,2]", json_type().with_reply_to(service.queue.as_str().into())).await;
    assert!(service.told().await.0["reason"].as_str().expect("a reason").contains("it is no message"));
    let (aside, reason) = set_aside(&worker).await;
    assert_eq!((aside.body.as_str(), &aside.headers["x-optic-source"]), ("[1,2]", &format!("{group}:gateway")));
    assert!(reason.contains("it is no message"), "{reason}");

    // An answer would be lost among what Optic keeps.
    let pool = format!("{group}:optic:amybot.pool");
    let hello = br#"{"s":"bot","t":"gateway:opcode","d":{"opcode":0}}"#;
    service.publish("gateway", hello, json_type().with_reply_to(pool.as_str().into())).await;
    assert!(set_aside(&worker).await.1.contains("a queue of Optic's own"));
    // Refused, and nobody there to be told.
    let reboot = br#"{"s":"nobody","t":"gateway:opcode","d":{"opcode":2}}"#;
    service.publish("gateway", reboot, json_type()).await;
    assert!(set_aside(&worker).await.1.contains("by the gateway only"));
}

#[tokio::test]
async fn messages_are_passed_on_as_they_are_to_who_wants_them() {
    let (url, group) = (broker(), unique_group());
    let process = Process::start(&url, &group, 0, &[]);
    let mut front = Front::connect(&url, &group).await;
    for (connection, topics) in [(1, r#"["music.*"]"#), (2, r#"["music.play"]"#), (3, r#"["chat"]"#)] {
        let d = format!(r#"{{"opcode":0,"topics":{topics}}}"#);
        front.says(connection, "player", "gateway:opcode", &d).await;
        let (to, answer) = front.next().await;
        assert_eq!((to, answer.contains(r#""accepted":true"#)), (connection.to_string(), true));
    }
    let worker = Worker::connect(&url, &group).await;
    worker.declare("REJECTED").await;
    worker.declare("music.play").await;
    worker.declare("music").await;

    let d = r#"{ "id": 1234567890123456789012, "x":1.00,"x":"\u00e4" }"#;
    let body = format!(r#"{{"s":"bot","t":"gateway-proxy:bot:music.play","d":{d}}}"#);
    let properties = BasicProperties::default().with_message_id("m".into()).with_correlation_id("c".into());
    front.service.publish("gateway-proxy", body.as_bytes(), properties).await;
    let passed_on = format!(r#"{{"s":"bot","t":"music.play","d":{d}}}"#);
    let message = worker.wait_for("music.play").await;
    assert_eq!(message.body, passed_on);
    assert_eq!((message.message_id.as_deref(), message.correlation_id.as_deref()), (Some("m"), Some("c")));
    assert_eq!(message.content_type.as_deref(), Some("application/json"));
    let mut heard = [front.next().await, front.next().await];
    heard.sort();
    assert_eq!(heard, [("1".to_owned(), passed_on.clone()), ("2".to_owned(), passed_on)]);

    // From a websocket, and not back to it.
    front.says(2, "player", "gateway-proxy:player:music.play", d).await;
    let passed_on = format!(r#"{{"s":"player","t":"music.play","d":{d}}}"#);
    assert_eq!(worker.wait_for("music.play").await.body, passed_on);
    assert_eq!(front.next().await, ("1".to_owned(), passed_on));

    // Nobody wants it.
    front.says(1, "player", "gateway-proxy:player:nothing", "[1.0]").await;
    let (aside, reason) = set_aside(&worker).await;
    assert_eq!(aside.body, r#"{"s":"player","t":"gateway-proxy:player:nothing","d":[1.0]}"#);
    assert!(reason.contains(r#"nobody wants the topic "nothing""#), "{reason}");
    let counted: Vec<_> = process.counts.all().into_iter().map(|c| (c.source, c.topic, c.passed)).collect();
    let passed = |on, aside| Passed { on, aside };
    let count = |source: &str, topic: &str, passed| (Box::from(source), Box::from(topic), passed);
    let expected = [
        count("bot", "music.play", passed(1, 0)),
        count("player", "music.play", passed(1, 0)),
        count("player", "nothing", passed(0, 1)),
    ];
    assert_eq!(counted, expected);
}

#[tokio::test]
async fn a_queue_that_is_full_holds_up_its_source_alone_and_no_shard() {
    let (url, group) = (broker(), unique_group());
    let _process = Process::start(&url, &group, 1, &[]);
    let mut front = Front::connect(&url, &group).await;
    let worker = Worker::connect(&url, &group).await;
    worker.declare("REJECTED").await;
    worker.declare("open").await;
    // Full: it has one message, and takes one.
    let channel = &front.service.channel;
    let full = format!("{group}:full");
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(full.as_str().into(), options, arguments).await.expect("declared");
    let (exchange, options) = (group.as_str().into(), QueueBindOptions::default());
    let bound = channel.queue_bind(full.as_str().into(), exchange, "full".into(), options, FieldTable::default());
    bound.await.expect("bound");
    front.service.publish("full", b"before", BasicProperties::default()).await;

    front.says(1, "player", "gateway-proxy:player:full", "1").await;
    front.says(1, "player", "gateway-proxy:player:open", "2").await;
    front.says(2, "other", "gateway-proxy:other:open", "3").await;
    assert_eq!(worker.wait_for("open").await.body, r#"{"s":"other","t":"open","d":3}"#);
    let channel = &front.service.channel;
    channel.queue_purge(full.as_str().into(), QueuePurgeOptions::default()).await.expect("purged");
    assert_eq!(worker.wait_for("open").await.body, r#"{"s":"player","t":"open","d":2}"#);

    for n in 0..600 {
        front.says(1, "player", "gateway-proxy:player:full", &n.to_string()).await;
    }
    front.says(2, "other", "gateway:opcode", r#"{"opcode":10}"#).await;
    let (to, answer) = front.next().await;
    assert!(to == "2" && answer.contains(r#""shard_id":0"#), "{answer}");
    let (aside, reason) = set_aside(&worker).await;
    assert_eq!(aside.body, r#"{"s":"player","t":"gateway-proxy:player:full","d":0}"#);
    assert_eq!(aside.headers["x-optic-kind"], "refused", "{reason}");
}

#[tokio::test]
async fn forged_sources_and_reserved_topics_are_refused_and_set_aside() {
    let (url, group) = (broker(), unique_group());
    let _process = Process::start(&url, &group, 0, &[]);
    let mut front = Front::connect(&url, &group).await;
    front.says(1, "bot", "gateway:opcode", r#"{"opcode":0}"#).await;
    assert!(front.next().await.1.contains(r#""accepted":true"#));
    let worker = Worker::connect(&url, &group).await;
    worker.declare("REJECTED").await;
    for (s, t, why) in [
        ("bot", "gateway-proxy:other:x", "names the source"),
        ("other", "gateway-proxy:other:x", "identified as"),
        ("bot", "gateway-proxy:bot:SEND", "Optic uses that key"),
        ("bot", "gateway-proxy:bot:0", "Optic uses that key"),
        ("bot", "hello", "neither"),
    ] {
        front.says(1, s, t, "1").await;
        let (to, answer) = front.next().await;
        assert!(to == "1" && answer.contains(r#""accepted":false"#) && answer.contains(why), "{answer}");
        assert!(set_aside(&worker).await.1.contains(why));
    }
}

#[tokio::test]
async fn websocket_services_have_shards_until_they_leave_and_are_told_orders() {
    let (url, group) = (broker(), unique_group());
    let _process = Process::start(&url, &group, 1, &[]);
    let mut front = Front::connect(&url, &group).await;
    front.says(7, "bot", "gateway:opcode", r#"{"opcode":10}"#).await;
    assert_eq!(
        front.next().await,
        (
            "7".to_owned(),
            r#"{"s":"gateway","t":"gateway:opcode","d":{"opcode":11,"shard_id":0,"shard_count":1}}"#.to_owned()
        )
    );
    front.tell(&Internal::List).await;
    let InternalAnswer::Services(services) = front.answer().await else { panic!("a list") };
    assert_eq!((services.shard_count, services.free, services.services.len()), (1, 0, 1));
    assert_eq!(services.services[0].instances[0].shards, [ShardId::new(0)]);
    let name = |name: &str| ServiceName::new(name).expect("a name");
    front.tell(&Internal::Order(Order::Reboot, name("bot"))).await;
    assert_eq!(
        front.next().await,
        ("7".to_owned(), r#"{"s":"gateway","t":"gateway:opcode","d":{"opcode":2}}"#.to_owned())
    );
    assert_eq!(front.answer().await, InternalAnswer::Told { instances: 1 });
    front.tell(&Internal::Order(Order::Shutdown, name("none"))).await;
    assert_eq!(front.answer().await, InternalAnswer::Told { instances: 0 });
    front.tell(&Internal::Left(front.client(7))).await;
    front.says(8, "bot", "gateway:opcode", r#"{"opcode":10}"#).await;
    let (to, answer) = front.next().await;
    assert!(to == "8" && answer.contains(r#""shard_id":0"#), "{answer}");
    // A process that is cut off may have its clients still: what they have is theirs until it says that they left.
    let mut other = Service::connect(&url, &group).await;
    let left = Internal::Left(front.client(8));
    drop(front);
    other.op("bot", json!({"opcode": 10}), "too early").await;
    assert_eq!(other.told().await.0["accepted"], json!(false));
    let front = Front::connect(&url, &group).await;
    front.tell(&left).await;
    assert_eq!(other.shard().await, 0);
}

#[tokio::test]
async fn who_asks_in_another_encoding_is_answered_in_it() {
    let (url, group) = (broker(), unique_group());
    let _process = Process::start(&url, &group, 1, &[]);
    let mut service = Service::connect(&url, &group).await;
    let ask = encoding::read(Encoding::Json, br#"{"s":"bot","t":"gateway:opcode","d":{"opcode":10}}"#).expect("JSON");
    for encoding in [Encoding::Msgpack, Encoding::Etf] {
        let mut body = Vec::new();
        encoding::write(encoding, &ask, &mut body);
        let properties = BasicProperties::default()
            .with_content_type(encoding.content_type().into())
            .with_reply_to(service.queue.as_str().into());
        service.publish("gateway", &body, properties).await;
        let told = must("an answer", service.told.next()).await.expect("open").expect("a delivery");
        let declared = told.properties.content_type().as_ref().map(ToString::to_string);
        assert_eq!(declared.as_deref(), Some(encoding.content_type()));
        let answer = encoding::read(encoding, &told.data).expect("in that encoding");
        assert_eq!(answer.get("s").and_then(|s| s.as_str()), Some("gateway"));
    }
}

#[tokio::test]
async fn a_shard_whose_lease_is_held_is_not_given() {
    let (url, group) = (broker(), unique_group());
    let _process = Process::start(&url, &group, 2, &[]);
    let mut service = Service::connect(&url, &group).await;
    service.op("bot", json!({"opcode": 0}), "").await;
    service.told().await;
    // As another process of the group has it.
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let commands = format!("{group}:0");
    let declared = service.channel.queue_declare(commands.as_str().into(), durable, FieldTable::default());
    declared.await.expect("declared");
    let bind = QueueBindOptions::default();
    let bound = service.channel.queue_bind(
        commands.as_str().into(),
        group.as_str().into(),
        "0".into(),
        bind,
        FieldTable::default(),
    );
    bound.await.expect("bound");
    let _lease = consume(&service.channel, &commands).await;
    assert_eq!(service.shard().await, 1);
    service.op("bot", json!({"opcode": 10}), "used up").await;
    assert_eq!(service.told().await.0["accepted"], json!(false));
}
