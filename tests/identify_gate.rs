//! spec/cluster.md, "The identify gate": turns of several processes by a real RabbitMQ.

mod common;

use std::time::{Duration, Instant};

use common::{FaultyLink, PrivateBroker, broker, must, unique_group};
use lapin::options::{BasicCancelOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use optic::amqp::admin::Admin;
use optic::amqp::identify_gate::{AmqpTurnstile, Rules};
use optic::amqp::topology::identify_queue;
use optic::discord::ids::ShardId;
use optic::discord::turnstile::Turnstile;
use optic::secret::Secret;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Short, so that the tests are; all that they say of time is "not before".
const RULES: Rules = Rules { pace: Duration::from_millis(600), valid: Duration::from_millis(400) };

/// What a process has of its own.
struct Process {
    turnstile: AmqpTurnstile,
    consumption: Admin,
    /// Ends its tasks.
    _stop: DropGuard,
}

impl Process {
    fn start(url: &str, group: &str, rules: Rules) -> Self {
        let stop = CancellationToken::new();
        let connect = |name: &str| {
            let (admin, driver) = Admin::new(&Secret::new(url), name).expect("a URL");
            tokio::spawn(driver.run(stop.clone()));
            admin
        };
        let (administration, consumption) = (connect("administration"), connect("consumption"));
        let (turnstile, driver) = AmqpTurnstile::new(administration, consumption.clone(), group, rules);
        tokio::spawn(driver.run(stop.clone()));
        Self { turnstile, consumption, _stop: stop.drop_guard() }
    }

    /// The shard identifies as soon as it may, and tells when.
    fn identify(&self, shard: u32, told: &mpsc::UnboundedSender<(u32, Instant)>) -> tokio::task::JoinHandle<()> {
        let (turnstile, told) = (self.turnstile.clone(), told.clone());
        tokio::spawn(async move {
            loop {
                let pass = turnstile.enter(0, ShardId::new(shard)).await;
                let now = Instant::now();
                if pass.spend(now) {
                    return told.send((shard, now)).expect("the test waits");
                }
            }
        })
    }
}

/// Looks at the queue from outside: a stranger that may be in line itself.
struct Stranger {
    channel: lapin::Channel,
    queue: String,
    connection: Connection,
}

impl Stranger {
    async fn at(url: &str, group: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("RabbitMQ is there");
        let channel = connection.create_channel().await.expect("a channel");
        Self { channel, queue: identify_queue(group, 0), connection }
    }

    /// Markers that nobody holds, and consumers.
    async fn look(&self) -> (u32, u32) {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare(self.queue.as_str().into(), passive, FieldTable::default());
        let queue = queue.await.expect("the queue is there");
        (queue.message_count(), queue.consumer_count())
    }

    async fn waiting(&self, consumers: u32) {
        must("shards in line", async {
            while self.look().await.1 != consumers {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    async fn take_the_turn(&self) -> Turn {
        let channel = self.connection.create_channel().await.expect("a channel");
        channel.basic_qos(1, Default::default()).await.expect("a prefetch of one");
        let (queue, tag) = (self.queue.as_str().into(), "stranger".into());
        let mut consumer =
            channel.basic_consume(queue, tag, Default::default(), FieldTable::default()).await.expect("consuming");
        let first = futures_util::StreamExt::next(&mut consumer);
        let marker = must("the turn", first).await.expect("a marker").expect("a marker");
        Turn { channel, consumer, marker }
    }

    async fn publish(&self, body: &[u8]) {
        let (queue, options) = (self.queue.as_str().into(), BasicPublishOptions::default());
        self.channel.basic_publish("".into(), queue, options, body, BasicProperties::default()).await.expect("sent");
    }
}

/// A stranger's turn.
struct Turn {
    channel: lapin::Channel,
    consumer: lapin::Consumer,
    marker: lapin::message::Delivery,
}

impl Turn {
    async fn hand_on(self) {
        self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default()).await.expect("cancelled");
        self.channel.basic_ack(self.marker.delivery_tag, Default::default()).await.expect("acknowledged");
        self.channel.close(200, "OK".into()).await.expect("closed");
    }
}

async fn next(identified: &mut mpsc::UnboundedReceiver<(u32, Instant)>) -> (u32, Instant) {
    must("an identify", identified.recv()).await.expect("somebody sends")
}

/// The next so many, of which no two are closer than the pace; `last` is the one before them.
async fn paced(identified: &mut mpsc::UnboundedReceiver<(u32, Instant)>, count: usize, mut last: Instant) -> Vec<u32> {
    let mut shards = Vec::new();
    for _ in 0..count {
        let (shard, at) = next(identified).await;
        assert!(at - last >= RULES.pace, "{shard} {:?} after the one before", at - last);
        shards.push(shard);
        last = at;
    }
    shards
}

#[tokio::test]
async fn the_lowest_shard_of_all_processes_goes_first_and_no_two_within_the_pace() {
    let (url, group) = (broker(), unique_group());
    let (one, two) = (Process::start(&url, &group, RULES), Process::start(&url, &group, RULES));
    let (told, mut identified) = mpsc::unbounded_channel();
    one.identify(9, &told);
    next(&mut identified).await;
    let stranger = Stranger::at(&url, &group).await;
    stranger.waiting(0).await;
    let turn = stranger.take_the_turn().await;
    for (shard, process) in [(5, &two), (0, &two), (3, &one), (4, &one), (1, &one), (2, &two)] {
        process.identify(shard, &told);
    }
    stranger.waiting(7).await;
    turn.hand_on().await;
    assert_eq!(paced(&mut identified, 6, Instant::now() - RULES.pace).await, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn when_the_holder_is_cut_off_the_next_one_waits_the_pace_and_the_holder_comes_back() {
    let (url, group) = (broker(), unique_group());
    let (_, rest) = url.split_once('@').expect("user and password");
    let link = FaultyLink::to(rest.split('/').next().expect("host and port")).await;
    let (one, two) = (Process::start(&link.through(&url), &group, RULES), Process::start(&url, &group, RULES));
    let (told, mut identified) = mpsc::unbounded_channel();
    one.identify(0, &told);
    let (_, first) = next(&mut identified).await;
    let stranger = Stranger::at(&url, &group).await;
    one.identify(2, &told);
    two.identify(1, &told);
    // In its hold, or after it: a death at any moment keeps them apart.
    stranger.waiting(3).await;
    link.refuse();
    let cut = Instant::now();
    let (shard, at) = next(&mut identified).await;
    assert_eq!(shard, 1);
    assert!(at - first >= RULES.pace);
    assert!(at - cut >= RULES.pace, "{:?} after the death of who had the turn", at - cut);
    link.resume();
    assert_eq!(paced(&mut identified, 1, at).await, [2]);
}

#[tokio::test]
async fn a_turn_that_is_lost_before_it_is_used_is_void() {
    let (url, group) = (broker(), unique_group());
    let (_, rest) = url.split_once('@').expect("user and password");
    let link = FaultyLink::to(rest.split('/').next().expect("host and port")).await;
    let rules = Rules { valid: Duration::from_secs(600), ..RULES };
    let process = Process::start(&link.through(&url), &group, rules);
    let pass = must("a turn", process.turnstile.enter(0, ShardId::new(0))).await;
    link.cut();
    link.connections(4).await;
    must("a new connection", process.consumption.connected()).await.expect("connected");
    assert!(!pass.spend(Instant::now()));
}

#[tokio::test]
async fn a_shard_that_no_longer_waits_holds_nobody_up_and_may_come_back() {
    let (url, group) = (broker(), unique_group());
    let process = Process::start(&url, &group, RULES);
    let (told, mut identified) = mpsc::unbounded_channel();
    process.identify(5, &told);
    let (_, first) = next(&mut identified).await;
    let stranger = Stranger::at(&url, &group).await;
    let gone = process.identify(0, &told);
    let back = process.identify(1, &told);
    process.identify(2, &told);
    stranger.waiting(4).await;
    gone.abort();
    back.abort();
    assert!(gone.await.is_err() && back.await.is_err());
    process.identify(1, &told);
    assert_eq!(paced(&mut identified, 2, first).await, [1, 2]);
    process.identify(0, &told);
    assert_eq!(next(&mut identified).await.0, 0);
    // A pass that is not used lets the next one through.
    let unused = must("a turn", process.turnstile.enter(0, ShardId::new(6))).await;
    process.identify(7, &told);
    drop(unused);
    assert_eq!(next(&mut identified).await.0, 7);
    stranger.waiting(0).await;
}

#[tokio::test]
async fn more_markers_than_one_let_no_more_through_and_there_are_never_more_than_eight() {
    let (url, group) = (broker(), unique_group());
    let (one, two) = (Process::start(&url, &group, RULES), Process::start(&url, &group, RULES));
    let (told, mut identified) = mpsc::unbounded_channel();
    one.identify(0, &told);
    let (_, first) = next(&mut identified).await;
    let stranger = Stranger::at(&url, &group).await;
    for _ in 0..20 {
        stranger.publish(br#"{"version":1,"past":"known"}"#).await;
    }
    stranger.publish(b"what is this").await;
    for shard in 1..4 {
        one.identify(2 * shard, &told);
        two.identify(2 * shard + 1, &told);
    }
    let mut shards = paced(&mut identified, 6, first).await;
    shards.sort_unstable();
    assert_eq!(shards, [2, 3, 4, 5, 6, 7]);
    stranger.waiting(0).await;
    let (markers, _) = stranger.look().await;
    assert!((1..=8).contains(&markers), "{markers}");
}

#[tokio::test]
async fn purged_deleted_and_restarted_it_goes_on_and_keeps_the_pace() {
    let node = PrivateBroker::start().await;
    let (url, group) = (node.url().to_owned(), unique_group());
    let (one, two) = (Process::start(&url, &group, RULES), Process::start(&url, &group, RULES));
    let (told, mut identified) = mpsc::unbounded_channel();
    let queue = identify_queue(&group, 0);
    one.identify(0, &told);
    let (_, mut last) = next(&mut identified).await;
    for (shard, what) in [(1, "purge_queue"), (2, "delete_queue")] {
        node.ctl(&[what, &queue]).await;
        two.identify(shard, &told);
        let (next, at) = next(&mut identified).await;
        assert!(next == shard && at - last >= RULES.pace, "{what}");
        last = at;
    }
    two.identify(3, &told);
    one.identify(4, &told);
    node.restart().await;
    let mut shards = paced(&mut identified, 2, last).await;
    shards.sort_unstable();
    assert_eq!(shards, [3, 4]);
    // Everybody gone, and the node started anew: markers are transient, which is what tells of a restart.
    drop((one, two));
    node.restart().await;
    let stranger = Stranger::at(&url, &group).await;
    assert_eq!(stranger.look().await, (0, 0));
    let started = Instant::now();
    let late = Process::start(&url, &group, RULES);
    late.identify(5, &told);
    let (_, at) = next(&mut identified).await;
    assert!(at - started >= RULES.pace + RULES.valid, "somebody may have identified just before the restart");
}

#[tokio::test]
async fn an_alarm_stops_no_turn() {
    let node = PrivateBroker::start().await;
    let group = unique_group();
    let (one, two) = (Process::start(node.url(), &group, RULES), Process::start(node.url(), &group, RULES));
    let (told, mut identified) = mpsc::unbounded_channel();
    one.identify(0, &told);
    let (_, first) = next(&mut identified).await;
    node.block().await;
    for shard in [1, 3, 5] {
        one.identify(shard, &told);
        two.identify(shard + 1, &told);
    }
    let mut shards = paced(&mut identified, 6, first).await;
    shards.sort_unstable();
    assert_eq!(shards, [1, 2, 3, 4, 5, 6]);
    node.unblock().await;
    one.identify(7, &told);
    assert_eq!(next(&mut identified).await.0, 7);
}
