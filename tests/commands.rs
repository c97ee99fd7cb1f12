//! spec/amqp.md, "Commands", against a real RabbitMQ: the drivers of commands, with channels that play the shards.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use common::{Message, PrivateBroker, Worker, broker, eventually, must, unique_group};
use lapin::BasicProperties;
use optic::amqp::admin::Admin;
use optic::amqp::consumer::Consumer;
use optic::amqp::leases::{LeaseEvent, LeaseReceivers, Leases};
use optic::amqp::messenger::Messenger;
use optic::amqp::topology::{Queue, declare_commands};
use optic::cluster::fence::Fence;
use optic::discord::commands::Commands;
use optic::discord::ids::ShardId;
use optic::discord::shard::Command;
use optic::encoding::convert::{Taking, convert, to_json};
use optic::encoding::{Dialect, Encoding};
use optic::secret::Secret;
use optic::spectacles::answers::Answers;
use optic::spectacles::post::Post;
use optic::spectacles::reroute::{PREFETCH, Reroute};
use optic::spectacles::route::Kind;
use optic::spectacles::sends::Sends;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The first guild of a shard, of `count`.
fn guild_of(shard: u64) -> u64 {
    shard << 22 | 5
}

fn packet(number: usize) -> String {
    format!(r#"{{"op": 8, "d": {{"guild_id": "1", "query": "", "limit": 0, "nonce": "{number}"}}}}"#)
}

fn send(guild_id: u64, packet: &str) -> String {
    format!(r#"{{"guild_id":"{guild_id}","packet":{packet}}}"#)
}

/// One process: all that commands need, without shards.
struct Process {
    commands: Arc<Commands>,
    post: Arc<Post>,
    administration: Admin,
    consumption: Admin,
    group: String,
    leases: Leases,
    lease_events: mpsc::Receiver<LeaseEvent>,
    /// For what carries commands.
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// For the consumers, which bring it.
    stop_consumers: CancellationToken,
    consumers: JoinSet<()>,
    /// For the connections below all that: lapin throws away what waits on one that closes.
    stop_connections: CancellationToken,
    connections: JoinSet<()>,
}

impl Process {
    /// Connects and declares; consumes nothing yet.
    async fn start(url: &str, group: &str, shard_count: u32) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let (stop_consumers, mut consumers) = (CancellationToken::new(), JoinSet::new());
        let (stop_connections, mut connections) = (CancellationToken::new(), JoinSet::new());
        let mut connect = |name: &str| {
            let (admin, driver) = Admin::new(&Secret::new(url), name).expect("an address");
            connections.spawn(driver.run(stop_connections.clone()));
            admin
        };
        let (administration, consumption) = (connect("administration"), connect("consumption"));
        declare_commands(&consumption, group, shard_count).await.expect("declared");
        let messenger = Messenger::new(administration.clone());
        let (answers, driver) = Answers::new(messenger.clone());
        tasks.spawn(driver.run(stop.clone()));
        let commands = Arc::new(Commands::new(shard_count));
        let post = Arc::new(Post::new(messenger, group, answers));
        let (leases, driver, LeaseReceivers { events, deliveries }) =
            Leases::new(consumption.clone(), group, Fence::closed(Instant::now()));
        consumers.spawn(driver.run(stop_consumers.clone()));
        tasks.spawn(Sends::new(commands.clone(), post.clone()).run(deliveries, stop.clone()));
        Self {
            commands,
            post,
            administration,
            consumption,
            group: group.to_owned(),
            leases,
            lease_events: events,
            stop,
            tasks,
            stop_consumers,
            consumers,
            stop_connections,
            connections,
        }
    }

    /// Takes part in `G:SEND`.
    fn reroute(mut self) -> Self {
        let (consumer, deliveries) = Consumer::new(self.consumption.clone(), Queue::send(&self.group), PREFETCH);
        self.consumers.spawn(consumer.run(self.stop_consumers.clone()));
        let reroute = Reroute::new(self.commands.clone(), self.post.clone());
        self.tasks.spawn(reroute.run(deliveries, self.stop.clone()));
        self
    }

    /// Takes a shard's lease.
    async fn hold(&mut self, shard: u32) {
        let shard = ShardId::new(shard);
        self.leases.acquire(&[shard]);
        self.told(|event| *event == LeaseEvent::Acquired { granted: vec![shard], refused: vec![] }).await;
    }

    /// Gives it back.
    async fn release(&mut self, shard: u32) {
        let shard = ShardId::new(shard);
        self.leases.release(shard);
        self.told(|event| *event == LeaseEvent::Released(shard)).await;
    }

    /// Takes a shard's lease and runs it: what comes out is what its driver gets.
    async fn run_shard(&mut self, shard: u32) -> mpsc::Receiver<Command> {
        self.hold(shard).await;
        self.commands.add(ShardId::new(shard))
    }

    async fn told(&mut self, mut what: impl FnMut(&LeaseEvent) -> bool) {
        must("an event of the leases", async {
            while !what(&self.lease_events.recv().await.expect("the driver runs")) {}
        })
        .await;
    }

    async fn stop(self) {
        for (stop, mut tasks) in
            [(self.stop, self.tasks), (self.stop_consumers, self.consumers), (self.stop_connections, self.connections)]
        {
            stop.cancel();
            while let Some(ended) = tasks.join_next().await {
                ended.expect("no panic");
            }
        }
    }
}

async fn written(shard: &mut mpsc::Receiver<Command>) -> String {
    let command = must("a command", shard.recv()).await.expect("the way is open");
    command.written.send(()).expect("waited for");
    String::from_utf8(command.packet).expect("text")
}

fn is(message: &Message) -> Value {
    serde_json::from_str(&message.body).unwrap_or_else(|error| panic!("{error}: {}", message.body))
}

#[tokio::test]
async fn a_command_for_a_shard_is_written_as_it_came_and_then_gone() {
    let (url, group) = (broker(), unique_group());
    let mut process = Process::start(&url, &group, 4).await;
    let mut shard = process.run_shard(2).await;
    let worker = Worker::connect(&url, &group).await;
    worker.publish("2", &packet(7)).await;
    assert_eq!(written(&mut shard).await, packet(7));

    worker.publish("2", &packet(8)).await;
    let unwritten = must("the second", shard.recv()).await.expect("the way is open");
    assert_eq!(unwritten.packet, packet(8).as_bytes());
    process.stop().await;
    // What was not written is there for the next process, and what was written is not.
    assert_eq!(worker.wait_for("2").await.body, packet(8));
    assert_eq!(worker.take("2").await, None);
}

#[tokio::test]
async fn a_send_finds_its_shard_and_waits_there_for_its_process() {
    let (url, group) = (broker(), unique_group());
    let process = Process::start(&url, &group, 16).await.reroute();
    let worker = Worker::connect(&url, &group).await;
    let guild = u64::MAX;
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_correlation_id("c".into())
        .with_message_id("m".into())
        .with_reply_to("somebody".into())
        .with_priority(3)
        .with_expiration("600000".into());
    worker.publish_with("SEND", send(guild, &packet(1)).as_bytes(), properties).await;
    let there = worker.wait_for("15").await;
    let text = |text: &str| Some(text.to_owned());
    let expected = Message {
        body: packet(1),
        bytes: packet(1).into_bytes(),
        content_type: text("application/json"),
        correlation_id: text("c"),
        reply_to: text("somebody"),
        message_id: text("m"),
        priority: Some(3),
        expiration: text("600000"),
        delivery_mode: Some(2),
        headers: [("x-optic-guild-id", guild.to_string()), ("x-optic-shard-count", "16".to_owned())]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    };
    assert_eq!(there, expected);
    process.stop().await;
    assert_eq!(worker.take("SEND").await, None);
}

#[tokio::test]
async fn whoever_asks_is_answered_once_by_the_process_that_wrote_it() {
    let (url, group) = (broker(), unique_group());
    let mut one = Process::start(&url, &group, 4).await.reroute();
    let mut other = Process::start(&url, &group, 4).await.reroute();
    let mut shards = [one.run_shard(0).await, other.run_shard(3).await];
    let mut worker = Worker::connect(&url, &group).await;
    for (shard, key, number) in [(0, "0", 1), (0, "SEND", 2), (3, "3", 3), (3, "SEND", 4)] {
        let body = if key == "SEND" { send(guild_of(shard), &packet(number)) } else { packet(number) };
        worker.ask(key, body.as_bytes(), &number.to_string()).await;
        assert_eq!(written(&mut shards[usize::from(shard == 3)]).await, packet(number));
        let answer = worker.answer().await;
        assert_eq!(
            (is(&answer), answer.correlation_id),
            (json!({"ok": true, "shard": shard}), Some(number.to_string()))
        );
        assert_eq!(answer.content_type.as_deref(), Some("application/json"));
    }
    one.stop().await;
    other.stop().await;
    assert!(!worker.has_answer());
}

#[tokio::test]
async fn what_cannot_be_sent_is_set_aside_with_its_reason_and_who_asked_is_told() {
    let (url, group) = (broker(), unique_group());
    let mut process = Process::start(&url, &group, 4).await.reroute();
    let mut shard = process.run_shard(1).await;
    let mut worker = Worker::connect(&url, &group).await;
    let large = format!(r#"{{"op":3,"d":{{"a":"{}"}}}}"#, "x".repeat(5000));
    let cases = [
        ("1", "no json".to_owned(), Kind::NotJson),
        ("1", r#"{"d":{}}"#.to_owned(), Kind::NoOp),
        ("1", r#"{"op":2,"d":{}}"#.to_owned(), Kind::ForbiddenOp),
        ("1", r#"{"op":99,"d":{}}"#.to_owned(), Kind::UnknownOp),
        ("1", large.clone(), Kind::TooLarge),
        ("SEND", "[]".to_owned(), Kind::NotJson),
        ("SEND", r#"{"packet":{"op":3,"d":{}}}"#.to_owned(), Kind::NoGuildId),
        ("SEND", r#"{"guild_id":1.5,"packet":{"op":3,"d":{}}}"#.to_owned(), Kind::BadGuildId),
        ("SEND", r#"{"guild_id":"1"}"#.to_owned(), Kind::NoPacket),
        ("SEND", send(guild_of(1), r#"{"op":1,"d":{}}"#), Kind::ForbiddenOp),
        ("SEND", send(guild_of(1), &large), Kind::TooLarge),
    ];
    for (number, (key, body, kind)) in cases.iter().enumerate() {
        worker.ask(key, body.as_bytes(), &number.to_string()).await;
        let aside = worker.wait_for("REJECTED").await;
        assert_eq!(&aside.body, body);
        assert_eq!(aside.delivery_mode, Some(2));
        assert_eq!(aside.correlation_id, Some(number.to_string()));
        assert_eq!(aside.headers["x-optic-kind"], kind.name(), "{body}");
        assert_eq!(aside.headers["x-optic-source"], format!("{group}:{key}"));
        let answer = worker.answer().await;
        assert_eq!(is(&answer), json!({"ok": false, "error": aside.headers["x-optic-reason"]}));
        assert_eq!(answer.correlation_id, Some(number.to_string()));
    }
    assert_eq!(process.post.set_aside_for(Kind::ForbiddenOp), 2);
    assert_eq!(process.post.set_aside_for(Kind::NoData), 0);
    let last = process.post.last_set_aside();
    let forbidden = last.iter().filter(|last| last.kind == Kind::ForbiddenOp);
    assert_eq!(forbidden.count(), 2, "{last:?}");
    assert!(last.iter().all(|last| last.bytes > 0 && last.source.starts_with(&process.group)), "{last:?}");
    assert_eq!(process.post.held_up(), 0);

    // The shard goes on with what comes next.
    worker.publish("1", &packet(1)).await;
    assert_eq!(written(&mut shard).await, packet(1));
    process.stop().await;
    for queue in ["1", "SEND", "REJECTED"] {
        assert_eq!(worker.take(queue).await, None, "{queue}");
    }
}

#[tokio::test]
async fn of_a_large_body_that_is_set_aside_the_beginning_is_kept() {
    const KEPT: usize = 64 << 10;
    let (url, group) = (broker(), unique_group());
    let process = Process::start(&url, &group, 1).await.reroute();
    let worker = Worker::connect(&url, &group).await;
    for (bytes, told) in
        [(KEPT, None), (KEPT + 1, Some((KEPT + 1).to_string())), (1 << 20, Some((1 << 20).to_string()))]
    {
        worker.publish("SEND", &"x".repeat(bytes)).await;
        let aside = worker.wait_for("REJECTED").await;
        assert_eq!((aside.body.len(), aside.headers.get("x-optic-bytes").cloned()), (KEPT, told));
    }
    process.stop().await;
}

#[tokio::test]
async fn an_answer_into_a_queue_of_optics_own_is_not_given() {
    let (url, group) = (broker(), unique_group());
    let mut process = Process::start(&url, &group, 2).await.reroute();
    let mut shard = process.run_shard(1).await;
    let worker = Worker::connect(&url, &group).await;
    for own in ["optic:session.0", "answers"] {
        worker.declare(own).await;
    }
    for own in ["optic:session.0", "0", "REJECTED", "answers"] {
        let to = BasicProperties::default().with_reply_to(format!("{group}:{own}").into());
        worker.publish_with("1", packet(1).as_bytes(), to).await;
        assert_eq!(written(&mut shard).await, packet(1));
    }
    // Answers go out in order: with the last one there, no other is on its way.
    assert_eq!(is(&worker.wait_for("answers").await), json!({"ok": true, "shard": 1}));
    for own in ["optic:session.0", "0", "REJECTED", "answers"] {
        assert_eq!(worker.take(own).await, None, "{own}");
    }
    process.stop().await;
}

/// A body in this dialect.
fn in_dialect(dialect: Dialect, json: &str) -> Vec<u8> {
    let mut body = Vec::new();
    convert(Encoding::Json, json.as_bytes(), dialect, Taking::EXACT, &mut body).expect("JSON");
    body
}

#[tokio::test]
async fn commands_are_taken_in_every_dialect_and_answered_in_the_same() {
    let (url, group) = (broker(), unique_group());
    let mut process = Process::start(&url, &group, 4).await.reroute();
    let mut shard = process.run_shard(1).await;
    let mut worker = Worker::connect(&url, &group).await;
    let said = |message: &Message, dialect: Dialect| -> Value {
        assert_eq!(message.content_type.as_deref(), Some(dialect.content_type()));
        assert_eq!(Dialect::of_body(None, &message.bytes), dialect);
        serde_json::from_slice(&to_json(dialect, &message.bytes, Taking::EXACT).expect("it is in that")).expect("JSON")
    };
    let json = |text: &str| -> Value { serde_json::from_str(text).expect("JSON") };
    let done = json!({"ok": true, "shard": 1});
    for (number, dialect) in Dialect::ALL.into_iter().enumerate() {
        // Nothing says what it is, as with Spectacles' clients.
        worker.ask("SEND", &in_dialect(dialect, &send(guild_of(1), &packet(number))), "c").await;
        assert_eq!(json(&written(&mut shard).await), json(&packet(number)));
        assert_eq!(said(&worker.answer().await, dialect), done);
        worker.ask("1", &in_dialect(dialect, &packet(number)), "c").await;
        assert_eq!(json(&written(&mut shard).await), json(&packet(number)));
        assert_eq!(said(&worker.answer().await, dialect), done);

        // What is set aside is so as it came.
        let declared = BasicProperties::default()
            .with_content_type(dialect.content_type().into())
            .with_reply_to("amq.rabbitmq.reply-to".into());
        for (key, body) in [("SEND", r#"{"packet":{}}"#), ("1", r#"{"op":2,"d":{}}"#)] {
            let body = in_dialect(dialect, body);
            worker.publish_with(key, &body, declared.clone()).await;
            let answer = said(&worker.answer().await, dialect);
            let aside = worker.wait_for("REJECTED").await;
            assert_eq!((&aside.bytes, aside.content_type.as_deref()), (&body, Some(dialect.content_type())));
            assert_eq!(answer, json!({"ok": false, "error": aside.headers["x-optic-reason"]}));
        }
    }
    worker.ask("SEND", b"\x82\xa8guild_id\xa11", "c").await;
    let reason = "the body cannot be read as MessagePack: given binary is incomplete";
    assert_eq!(said(&worker.answer().await, Dialect::Plain(Encoding::Msgpack))["error"], reason);
    assert_eq!(worker.wait_for("REJECTED").await.headers["x-optic-kind"], "encoding");
    process.stop().await;
}

#[tokio::test]
async fn a_flood_arrives_whole_and_in_order_and_a_shard_that_is_away_holds_up_nobody() {
    const COUNT: usize = 300;
    let (url, group) = (broker(), unique_group());
    let mut process = Process::start(&url, &group, 4).await.reroute();
    let (mut two, mut three) = (process.run_shard(2).await, process.run_shard(3).await);
    // Held, and not running.
    process.hold(1).await;
    let worker = Worker::connect(&url, &group).await;
    for number in 0..COUNT {
        worker.publish("SEND", &send(guild_of(1), &packet(number))).await;
        worker.publish("SEND", &send(guild_of(2), &packet(number))).await;
        worker.publish("3", &packet(number)).await;
    }
    for number in 0..COUNT {
        assert_eq!(written(&mut two).await, packet(number));
        assert_eq!(written(&mut three).await, packet(number));
    }
    // And now it runs.
    let mut one = process.commands.add(ShardId::new(1));
    for number in 0..COUNT {
        assert_eq!(written(&mut one).await, packet(number));
    }
    process.stop().await;
    for queue in ["1", "2", "3", "SEND", "REJECTED"] {
        assert_eq!(worker.take(queue).await, None, "{queue}");
    }
}

#[tokio::test]
async fn a_lease_that_is_given_back_takes_the_command_with_it() {
    let (url, group) = (broker(), unique_group());
    let mut one = Process::start(&url, &group, 4).await;
    let mut other = Process::start(&url, &group, 4).await;
    let mut worker = Worker::connect(&url, &group).await;
    let mut shard = one.run_shard(2).await;
    worker.ask("2", packet(1).as_bytes(), "1").await;
    worker.ask("2", packet(2).as_bytes(), "2").await;
    // The shard's driver has it, and ends before it is written.
    drop(must("the first", shard.recv()).await);
    drop(shard);
    one.commands.remove(ShardId::new(2));
    one.release(2).await;
    let mut shard = other.run_shard(2).await;
    assert_eq!([written(&mut shard).await, written(&mut shard).await], [packet(1), packet(2)]);
    // Back again, the first has nothing of before.
    drop(shard);
    other.release(2).await;
    let mut shard = one.run_shard(2).await;
    worker.ask("2", packet(3).as_bytes(), "3").await;
    assert_eq!(written(&mut shard).await, packet(3));
    for id in ["1", "2", "3"] {
        assert_eq!(worker.answer().await.correlation_id.as_deref(), Some(id));
    }
    one.stop().await;
    other.stop().await;
    assert_eq!(worker.take("2").await, None);
}

#[tokio::test]
async fn a_queue_that_somebody_deleted_is_made_again_and_the_command_is_in_it() {
    let (url, group) = (broker(), unique_group());
    let process = Process::start(&url, &group, 4).await.reroute();
    let worker = Worker::connect(&url, &group).await;
    worker.delete("2").await;
    worker.delete("REJECTED").await;
    worker.publish("SEND", &send(guild_of(2), &packet(1))).await;
    worker.publish("SEND", "nonsense").await;
    // Both are settled once the next ones are passed on.
    worker.publish("SEND", &send(guild_of(1), &packet(2))).await;
    assert_eq!(worker.wait_for("1").await.body, packet(2));
    eventually("it is counted", || process.post.set_aside_for(Kind::NotJson) == 1).await;
    worker.publish("SEND", &send(guild_of(2), &packet(3))).await;
    worker.publish("SEND", &send(guild_of(2), &packet(4))).await;
    let mut there = Vec::new();
    for _ in 0..3 {
        there.push(worker.wait_for("2").await.body);
    }
    assert_eq!(there, [packet(1), packet(3), packet(4)]);
    assert_eq!(worker.wait_for("REJECTED").await.body, "nonsense");
    process.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_shard_is_routed_anew_when_the_count_has_changed() {
    let (url, group) = (broker(), unique_group());
    let mut process = Process::start(&url, &group, 16).await.reroute();
    let mut worker = Worker::connect(&url, &group).await;
    let ask = |guild: u64, number: usize| (send(guild, &packet(number)), number.to_string());
    worker.publish("SEND", &send(guild_of(14), &packet(0))).await;
    assert_eq!(worker.wait_for("14").await.headers["x-optic-shard-count"], "16");
    for (body, id) in [ask(guild_of(14), 1), ask(guild_of(6), 2)] {
        worker.ask("SEND", body.as_bytes(), &id).await;
    }
    worker.publish("14", &packet(3)).await;

    process.commands.set_shard_count(8);
    let mut six = process.run_shard(6).await;
    process.hold(14).await;
    let mut packets = BTreeSet::new();
    let mut answered = BTreeSet::new();
    for _ in 0..2 {
        packets.insert(written(&mut six).await);
        let answer = worker.answer().await;
        answered.insert((answer.correlation_id.clone(), is(&answer)["shard"].as_u64()));
    }
    assert_eq!(packets, BTreeSet::from([packet(1), packet(2)]));
    assert_eq!(answered, BTreeSet::from([1, 2].map(|id: u32| (Some(id.to_string()), Some(6)))));
    // It was sent to the shard itself: nobody knows for which guild.
    let aside = worker.wait_for("REJECTED").await;
    assert_eq!((aside.headers["x-optic-kind"].as_str(), aside.body), ("no_such_shard", packet(3)));
    process.stop().await;
}

#[tokio::test]
async fn while_rabbitmq_takes_no_messages_commands_wait_and_none_is_lost_or_doubled() {
    let (private, group) = (PrivateBroker::start().await, unique_group());
    let process = Process::start(private.url(), &group, 5).await;
    let worker = Worker::connect(private.url(), &group).await;
    for number in 0..50 {
        worker.publish("SEND", &send(guild_of(number % 4), &packet(number as usize))).await;
    }
    worker.publish("SEND", "nonsense").await;
    worker.publish("4", &packet(99)).await;
    private.block().await;
    let mut process = process.reroute();
    // RabbitMQ tells of it who publishes: some have been by now.
    eventually("the alarm is known", || process.administration.is_blocked()).await;
    // A shard's commands need nothing published.
    let mut four = process.run_shard(4).await;
    assert_eq!(written(&mut four).await, packet(99));
    private.unblock().await;
    for number in 0..50 {
        let there = worker.wait_for(&(number % 4).to_string()).await;
        assert_eq!(there.body, packet(number as usize));
    }
    assert_eq!(worker.wait_for("REJECTED").await.body, "nonsense");
    process.stop().await;
    for queue in ["0", "1", "2", "3", "4", "SEND", "REJECTED"] {
        assert_eq!(worker.take(queue).await, None, "{queue}");
    }
}

#[tokio::test]
async fn commands_outlive_the_broker() {
    let (private, group) = (PrivateBroker::start().await, unique_group());
    let mut process = Process::start(private.url(), &group, 4).await.reroute();
    let mut two = process.run_shard(2).await;
    let worker = Worker::connect(private.url(), &group).await;
    for number in 0..20 {
        worker.publish("SEND", &send(guild_of(2), &packet(number))).await;
    }
    let first = must("the first", two.recv()).await.expect("the way is open");
    private.kill().await;
    private.start_again().await;
    process.told(|event| *event == LeaseEvent::Disconnected).await;
    process.told(|event| *event == LeaseEvent::Connected).await;
    process.hold(2).await;
    // The shard had it all the time; RabbitMQ gives it to us once more.
    first.written.send(()).expect("waited for");
    let mut there = BTreeSet::from([String::from_utf8(first.packet).expect("text")]);
    must("all of them", async {
        while there.len() < 20 {
            there.insert(written(&mut two).await);
        }
    })
    .await;
    assert_eq!(there, (0..20).map(packet).collect());
    process.stop().await;
}
