//! spec/cluster.md, "Leases": against a real RabbitMQ.

mod common;

use std::collections::BTreeSet;
use std::time::Instant;

use common::{FaultyLink, PrivateBroker, broker, eventually, must, unique_group};
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use optic::amqp::admin::Admin;
use optic::amqp::delivery::{Delivery, From};
use optic::amqp::leases::{LeaseEvent, LeaseReceivers, Leases};
use optic::amqp::topology::declare_commands;
use optic::cluster::fence::Fence;
use optic::discord::ids::ShardId;
use optic::secret::Secret;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One process's leases.
struct Process {
    leases: Leases,
    fence: Fence,
    receivers: LeaseReceivers,
    driver: Option<JoinHandle<()>>,
    stop: CancellationToken,
    /// The connection outlives the driver.
    _connection: DropGuard,
}

impl Process {
    async fn start(url: &str, group: &str) -> Self {
        let (admin, driver) = Admin::new(&Secret::new(url), "optic test consumption").expect("a URL");
        let connection = CancellationToken::new();
        tokio::spawn(driver.run(connection.clone()));
        let (fence, stop) = (Fence::closed(Instant::now()), CancellationToken::new());
        let (leases, driver, receivers) = Leases::new(admin, group, fence.clone());
        let driver = Some(tokio::spawn(driver.run(stop.clone())));
        let mut process = Self { leases, fence, receivers, driver, stop, _connection: connection.drop_guard() };
        assert_eq!(process.event().await, LeaseEvent::Connected);
        process
    }

    async fn event(&mut self) -> LeaseEvent {
        must("a lease event", self.receivers.events.recv()).await.expect("the driver runs")
    }

    /// What is granted and what is refused.
    async fn acquire(&mut self, wanted: &[u32]) -> (Vec<u32>, Vec<u32>) {
        self.leases.acquire(&shards(wanted));
        match self.event().await {
            LeaseEvent::Acquired { granted, refused } => (numbers(&granted), numbers(&refused)),
            other => panic!("{other:?}"),
        }
    }

    /// Tries until another has let go of it.
    async fn acquire_at_last(&mut self, shard: u32) {
        must("the lease", async { while self.acquire(&[shard]).await.0.is_empty() {} }).await;
    }

    async fn release(&mut self, shard: u32) {
        self.leases.release(ShardId::new(shard));
        assert_eq!(self.event().await, LeaseEvent::Released(ShardId::new(shard)));
    }

    async fn delivery(&mut self) -> Delivery {
        must("a delivery", self.receivers.deliveries.recv()).await.expect("the driver runs")
    }

    /// The bodies of the next deliveries, each acknowledged.
    async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            let delivery = self.delivery().await;
            bodies.push(String::from_utf8(delivery.body.clone()).expect("text"));
            delivery.ack();
        }
        bodies
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        must("the end", self.driver.take().expect("stopped once")).await.expect("no panic");
    }
}

fn shards(numbers: &[u32]) -> Vec<ShardId> {
    numbers.iter().copied().map(ShardId::new).collect()
}

fn numbers(shards: &[ShardId]) -> Vec<u32> {
    shards.iter().map(|shard| shard.get()).collect()
}

/// Another client of the broker: a worker.
async fn worker(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("reachable");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

async fn command(channel: &Channel, group: &str, shard: u32, body: &str) {
    let properties = BasicProperties::default().with_delivery_mode(2).with_reply_to("answers".into());
    let key = shard.to_string();
    channel
        .basic_publish(group.into(), key.into(), BasicPublishOptions::default(), body.as_bytes(), properties)
        .await
        .expect("published");
}

#[tokio::test]
async fn a_shard_is_held_by_one_and_what_is_free_of_a_batch_is_granted() {
    let (url, group) = (broker(), unique_group());
    let (mut first, mut second) = (Process::start(&url, &group).await, Process::start(&url, &group).await);
    assert_eq!(first.acquire(&[1]).await, (vec![1], vec![]));
    assert_eq!(second.acquire(&[0, 1, 2]).await, (vec![0, 2], vec![1]));
    assert_eq!(second.acquire(&[0, 1]).await, (vec![0], vec![1]), "what is ours stays ours");
    let held = second.leases.held_by_anyone(&shards(&[0, 1, 2, 3])).await.expect("reachable");
    assert_eq!(held, shards(&[0, 1, 2]).into_iter().collect());

    let (_connection, channel) = worker(&url).await;
    for shard in 0..3 {
        command(&channel, &group, shard, &format!("to {shard}")).await;
    }
    let delivery = first.delivery().await;
    assert_eq!((delivery.from.clone(), &delivery.body[..]), (From::Shard(ShardId::new(1)), &b"to 1"[..]));
    assert_eq!(delivery.properties.reply_to.as_deref(), Some("answers"));
    assert!(delivery.is_held() && !delivery.redelivered);
    delivery.ack();
    let mut bodies = second.bodies(2).await;
    bodies.sort();
    assert_eq!(bodies, ["to 0", "to 2"]);
}

#[tokio::test]
async fn two_that_want_the_same_at_once_never_have_the_same() {
    const COUNT: u32 = 100;
    let (url, group) = (broker(), unique_group());
    let (mut first, mut second) = (Process::start(&url, &group).await, Process::start(&url, &group).await);
    let wanted: Vec<u32> = (0..COUNT).collect();
    let (mut of_first, mut of_second) = (BTreeSet::new(), BTreeSet::new());
    must("all to be held", async {
        while of_first.len() + of_second.len() < wanted.len() {
            let (a, b) = tokio::join!(first.acquire(&wanted), second.acquire(&wanted));
            of_first = a.0.into_iter().collect();
            of_second = b.0.into_iter().collect();
            assert!(of_first.is_disjoint(&of_second));
        }
    })
    .await;
    assert_eq!(of_first.union(&of_second).count(), wanted.len());
}

#[tokio::test]
async fn a_lost_connection_closes_the_fence_and_frees_the_leases() {
    let (url, group) = (broker(), unique_group());
    let link = FaultyLink::to_the_broker().await;
    let mut first = Process::start(&link.through(&url), &group).await;
    let mut second = Process::start(&url, &group).await;
    assert_eq!(first.acquire(&[0, 1]).await, (vec![0, 1], vec![]));
    first.fence.set_certain(true);
    must("the fence to open", first.fence.opened()).await;
    link.refuse();
    assert_eq!(first.event().await, LeaseEvent::Disconnected);
    assert!(!first.fence.is_open(Instant::now()));
    assert_eq!(first.acquire(&[0]).await, (vec![], vec![]), "nobody is there to ask");
    second.acquire_at_last(0).await;
    link.resume();
    assert_eq!(first.event().await, LeaseEvent::Connected);
    assert_eq!(first.acquire(&[0, 1]).await, (vec![1], vec![0]));
    first.fence.set_certain(true);
    must("the fence to open again", first.fence.opened()).await;
}

#[tokio::test]
async fn a_silent_connection_closes_the_fence() {
    let link = FaultyLink::to_the_broker().await;
    let process = Process::start(&link.through(&broker()), &unique_group()).await;
    process.fence.set_certain(true);
    must("the fence to open", process.fence.opened()).await;
    link.freeze();
    eventually("the fence to be closed", || !process.fence.is_open(Instant::now())).await;
    link.resume();
    must("the fence to open again", process.fence.opened()).await;
}

#[tokio::test]
async fn a_released_shard_has_what_was_delivered_in_its_place() {
    let (url, group) = (broker(), unique_group());
    let (mut first, mut second) = (Process::start(&url, &group).await, Process::start(&url, &group).await);
    first.acquire(&[0, 1]).await;
    let (_connection, channel) = worker(&url).await;
    for n in 0..5 {
        command(&channel, &group, 0, &format!("{n}")).await;
    }
    assert_eq!(first.bodies(1).await, ["0"]);
    let held = first.delivery().await;
    assert!(held.is_held());
    first.release(0).await;
    assert!(!held.is_held());
    second.acquire_at_last(0).await;
    let again = second.delivery().await;
    assert_eq!((&again.body, again.redelivered), (&held.body, true));
    // It is not ours any more: RabbitMQ would close the channel, and with it the other lease.
    held.ack();
    again.ack();
    assert_eq!(second.bodies(3).await, ["2", "3", "4"]);
    command(&channel, &group, 1, "still ours").await;
    assert_eq!(first.bodies(1).await, ["still ours"]);
    first.release(7).await;
}

#[tokio::test]
async fn a_delivery_given_back_comes_again_before_the_next() {
    let (url, group) = (broker(), unique_group());
    let mut process = Process::start(&url, &group).await;
    process.acquire(&[0]).await;
    let (_connection, channel) = worker(&url).await;
    for n in 0..3 {
        command(&channel, &group, 0, &format!("{n}")).await;
    }
    process.delivery().await.requeue();
    assert_eq!(process.bodies(3).await, ["0", "1", "2"]);
}

#[tokio::test]
async fn a_deleted_queue_costs_its_lease_alone_and_is_made_again() {
    let (url, group) = (broker(), unique_group());
    let mut process = Process::start(&url, &group).await;
    process.acquire(&[0, 1, 2]).await;
    let (_connection, channel) = worker(&url).await;
    let queue = format!("{group}:1");
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    assert_eq!(process.event().await, LeaseEvent::Lost(shards(&[1])));
    assert_eq!(process.acquire(&[1]).await, (vec![1], vec![]));
    for shard in 0..3 {
        command(&channel, &group, shard, "go on").await;
    }
    assert_eq!(process.bodies(3).await, ["go on"; 3]);
}

#[tokio::test]
async fn workers_may_declare_the_queues_too_in_their_way_or_another() {
    let (url, group) = (broker(), unique_group());
    let (_connection, channel) = worker(&url).await;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let mut limit = FieldTable::default();
    limit.insert("x-max-length".into(), AMQPValue::LongInt(100));
    let theirs = format!("{group}:1");
    channel.queue_declare(theirs.as_str().into(), durable, limit).await.expect("declared");

    let (admin, driver) = Admin::new(&Secret::new(url.as_str()), "optic test").expect("a URL");
    tokio::spawn(driver.run(CancellationToken::new()));
    declare_commands(&admin, &group, 70).await.expect("declared");
    for name in ["0", "69", "SEND"] {
        let queue = format!("{group}:{name}");
        channel.queue_declare(queue.into(), durable, FieldTable::default()).await.expect("as workers declare it");
    }
    command(&channel, &group, 69, "before anybody runs it").await;

    let (mut first, mut second) = (Process::start(&url, &group).await, Process::start(&url, &group).await);
    assert_eq!(first.acquire(&[0, 1, 69]).await, (vec![0, 1, 69], vec![]));
    assert_eq!(second.acquire(&[0, 1, 2]).await, (vec![2], vec![0, 1]));
    assert_eq!(first.bodies(1).await, ["before anybody runs it"]);
    command(&channel, &group, 1, "held").await;
    let held = first.delivery().await;
    command(&channel, &group, 1, "behind").await;
    first.release(1).await;
    second.acquire_at_last(1).await;
    assert_eq!(second.bodies(2).await, ["held", "behind"]);
    assert!(!held.is_held());
}

#[tokio::test]
async fn a_quorum_queue_is_no_lease_and_what_is_in_it_stays_there() {
    let (url, group) = (broker(), unique_group());
    let (_connection, channel) = worker(&url).await;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    for shard in [0, 1, 3] {
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(format!("{group}:{shard}").into(), durable, quorum).await.expect("declared");
    }
    let (mut first, mut second) = (Process::start(&url, &group).await, Process::start(&url, &group).await);
    assert_eq!(first.acquire(&[3]).await, (vec![], vec![3]));
    command(&channel, &group, 3, "kept").await;
    // The first of them excludes nobody, one in the middle does not either.
    assert_eq!(first.acquire(&[0, 1, 2, 3, 4]).await, (vec![2, 4], vec![3, 0, 1]));
    assert_eq!(second.acquire(&[2, 3]).await, (vec![], vec![2, 3]));
    assert_eq!(first.acquire(&[0, 1, 2]).await, (vec![2], vec![0, 1]), "and so it stays");
    command(&channel, &group, 2, "to the others").await;
    assert_eq!(first.bodies(1).await, ["to the others"]);

    let queue = format!("{group}:3");
    let kept = must("the command in the queue", async {
        loop {
            let got = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await;
            if let Some(message) = got.expect("reachable") {
                return message;
            }
        }
    })
    .await;
    assert_eq!(kept.data, b"kept");
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
    let mut third = Process::start(&url, &group).await;
    assert_eq!(third.acquire(&[3]).await, (vec![3], vec![]), "declared anew, it is classic");
}

#[tokio::test]
async fn what_is_settled_after_the_connection_was_lost_changes_nothing() {
    let (url, group) = (broker(), unique_group());
    let link = FaultyLink::to_the_broker().await;
    let mut process = Process::start(&link.through(&url), &group).await;
    process.acquire(&[0]).await;
    let (_connection, channel) = worker(&url).await;
    for n in 0..3 {
        command(&channel, &group, 0, &format!("{n}")).await;
    }
    let stale = process.delivery().await;
    link.cut();
    assert_eq!(process.event().await, LeaseEvent::Disconnected);
    assert_eq!(process.event().await, LeaseEvent::Connected);
    assert!(!stale.is_held());
    process.acquire_at_last(0).await;
    let again = process.delivery().await;
    stale.ack();
    assert!(again.is_held());
    assert_eq!((&again.body[..], again.redelivered), (&b"0"[..], true));
    again.ack();
    assert_eq!(process.bodies(2).await, ["1", "2"]);
}

#[tokio::test]
async fn a_driver_that_ends_gives_everything_back() {
    let (url, group) = (broker(), unique_group());
    let (mut first, mut second) = (Process::start(&url, &group).await, Process::start(&url, &group).await);
    first.acquire(&[0, 1]).await;
    let (_connection, channel) = worker(&url).await;
    command(&channel, &group, 0, "0").await;
    let held = first.delivery().await;
    first.stop().await;
    assert!(!held.is_held() && !first.fence.is_open(Instant::now()));
    assert_eq!(second.acquire(&[0, 1]).await, (vec![0, 1], vec![]));
    assert_eq!(second.bodies(1).await, ["0"]);
}

#[tokio::test]
async fn a_batch_shares_a_channel_which_ends_with_its_last_lease() {
    let node = PrivateBroker::start().await;
    let mut process = Process::start(node.url(), "g").await;
    let wanted: Vec<u32> = (0..40).collect();
    assert_eq!(process.acquire(&wanted).await.0, wanted);
    assert_eq!(process.acquire(&[40]).await.0, [40]);
    // With consumers or without: two channels of leases, and the one that asks whether RabbitMQ is there.
    let channels = async |with: usize| {
        must("channels as expected", async {
            loop {
                let listed = node.ctl(&["list_channels", "consumer_count"]).await;
                let used: Vec<&str> = listed.lines().filter(|count| !["0", "consumer_count"].contains(count)).collect();
                if used.len() == with && listed.lines().filter(|count| *count == "0").count() <= 1 {
                    return used.join(",");
                }
            }
        })
        .await
    };
    let counts = channels(2).await;
    assert!(["40,1", "1,40"].contains(&counts.as_str()), "{counts}");
    for shard in 0..39 {
        process.release(shard).await;
    }
    assert_eq!(channels(2).await, "1,1");
    process.release(39).await;
    assert_eq!(channels(1).await, "1");
}

#[tokio::test]
async fn a_command_with_more_headers_than_fit_in_a_frame_is_delivered_after_one_new_connection() {
    let (url, group) = (broker(), unique_group());
    let mut process = Process::start(&url, &group).await;
    process.acquire(&[0]).await;
    let (_connection, channel) = worker(&url).await;
    let large = async |body: &'static str| {
        let mut headers = FieldTable::default();
        headers.insert("trace".into(), AMQPValue::LongString("x".repeat(9 * 1024).into()));
        let properties = BasicProperties::default().with_headers(headers);
        channel
            .basic_publish(
                group.as_str().into(),
                "0".into(),
                BasicPublishOptions::default(),
                body.as_bytes(),
                properties,
            )
            .await
            .expect("published");
    };
    large("with much").await;
    assert_eq!(process.event().await, LeaseEvent::Disconnected);
    assert_eq!(process.event().await, LeaseEvent::Connected);
    process.acquire_at_last(0).await;
    assert_eq!(process.bodies(1).await, ["with much"]);
    large("and again").await;
    assert_eq!(process.bodies(1).await, ["and again"]);
    process.release(0).await;
}

#[tokio::test]
async fn a_broker_that_restarts_is_told_in_order() {
    let node = PrivateBroker::start().await;
    let mut process = Process::start(node.url(), "g").await;
    process.acquire(&[0, 1, 2]).await;
    let (connection, channel) = worker(node.url()).await;
    command(&channel, "g", 1, "kept").await;
    let stale = process.delivery().await;
    drop((connection, channel));
    for crash in [false, true] {
        if crash {
            node.kill().await
        } else {
            node.stop().await
        }
        assert_eq!(process.event().await, LeaseEvent::Disconnected);
        node.start_again().await;
        assert_eq!(process.event().await, LeaseEvent::Connected);
        must("the leases", async { while process.acquire(&[0, 1, 2]).await.0 != [0, 1, 2] {} }).await;
        let again = process.delivery().await;
        assert_eq!(again.body, b"kept");
        assert!(again.redelivered);
    }
    stale.ack();
    node.close_connections().await;
    assert_eq!(process.event().await, LeaseEvent::Disconnected);
    assert_eq!(process.event().await, LeaseEvent::Connected);
}

#[tokio::test]
async fn a_right_that_is_missing_says_nothing_about_who_has_the_shards() {
    let node = PrivateBroker::start().await;
    node.ctl(&["add_user", "lean", "hunter2"]).await;
    node.ctl(&["set_permissions", "lean", ".*", ".*", "^g$"]).await;
    let url = format!("amqp://lean:hunter2@{}/%2f", node.address());
    let mut process = Process::start(&url, "g").await;
    assert_eq!(process.acquire(&[0, 1]).await, (vec![], vec![]), "neither ours nor another's");
    node.ctl(&["set_permissions", "lean", ".*", ".*", ".*"]).await;
    must("the leases", async { while process.acquire(&[0, 1]).await.0 != [0, 1] {} }).await;
}
