//! spec/cluster.md, "The bus" and "The record", and the consumer of a queue that processes share: against a real RabbitMQ.

mod common;

use std::collections::BTreeSet;

use common::{FaultyLink, PrivateBroker, broker, must, unique_group};
use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use optic::amqp::admin::Admin;
use optic::amqp::bus::{Bus, BusEvent, Line};
use optic::amqp::consumer::Consumer;
use optic::amqp::delivery::From;
use optic::amqp::record::ClusterRecord;
use optic::amqp::topology::{Queue, declare_commands};
use optic::cluster::node::NodeId;
use optic::secret::Secret;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

fn connect(url: &str) -> Admin {
    let (admin, driver) = Admin::new(&Secret::new(url), "optic test").expect("a URL");
    tokio::spawn(driver.run(CancellationToken::new()));
    admin
}

fn node(name: &str) -> NodeId {
    NodeId::try_from(name.to_owned()).expect("an id")
}

/// One process on the bus.
struct Process {
    bus: Bus,
    events: mpsc::Receiver<BusEvent>,
    driver: JoinHandle<()>,
    stop: CancellationToken,
}

impl Process {
    /// It listens over the one URL and publishes over the other.
    async fn start(consumption: &str, administration: &str, group: &str, name: &str) -> Self {
        Self::start_on(Line::cluster(group), consumption, administration, name).await
    }

    async fn start_on(line: Line, consumption: &str, administration: &str, name: &str) -> Self {
        let (bus, driver, events) = Bus::on(line, connect(consumption), connect(administration), node(name));
        let stop = CancellationToken::new();
        let driver = tokio::spawn(driver.run(stop.clone()));
        let mut process = Self { bus, events, driver, stop };
        assert_eq!(process.event().await, BusEvent::Up);
        process
    }

    async fn event(&mut self) -> BusEvent {
        must("an event of the bus", self.events.recv()).await.expect("the driver runs")
    }
}

async fn worker(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("reachable");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

async fn publish(channel: &Channel, group: &str, key: &str, body: &str) {
    channel
        .basic_publish(
            group.into(),
            key.into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            BasicProperties::default(),
        )
        .await
        .expect("published");
}

#[tokio::test]
async fn everybody_hears_what_is_published_in_order() {
    let (url, group) = (broker(), unique_group());
    let mut processes = [
        Process::start(&url, &url, &group, "a").await,
        Process::start(&url, &url, &group, "b").await,
        Process::start(&url, &url, &unique_group(), "of-another-bot").await,
    ];
    for n in 0..10 {
        processes[0].bus.publish(format!("{n}").into_bytes());
    }
    for process in &mut processes[..2] {
        for n in 0..10 {
            assert_eq!(process.event().await, BusEvent::Message(format!("{n}").into_bytes()));
        }
    }
    processes[2].bus.publish(b"its own".to_vec());
    assert_eq!(processes[2].event().await, BusEvent::Message(b"its own".to_vec()));
}

#[tokio::test]
async fn who_loses_its_connection_is_missed_by_all_also_by_those_who_do_not_look() {
    const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
    let (url, group) = (broker(), unique_group());
    let link = FaultyLink::to_the_broker().await;
    let mut killed = Process::start(&link.through(&url), &url, &group, "killed").await;
    let mut processes = Vec::new();
    for name in NAMES {
        processes.push(Process::start(&url, &url, &group, name).await);
    }
    for (process, name) in processes.iter().zip(NAMES) {
        let others = NAMES.iter().filter(|other| **other != name).chain(["killed"].iter());
        process.bus.watch(others.map(|other| node(other)).collect());
    }
    link.refuse();
    for process in &mut processes {
        assert_eq!(process.event().await, BusEvent::Gone(node("killed")));
    }
    assert_eq!(killed.event().await, BusEvent::Down);
    link.resume();
    assert_eq!(killed.event().await, BusEvent::Up);
    // Nobody was told twice, nor anything else: what is published now is what is heard next.
    processes[0].bus.publish(b"next".to_vec());
    for process in &mut processes {
        assert_eq!(process.event().await, BusEvent::Message(b"next".to_vec()));
    }
    // Back and lost again, it is missed again by who watches it anew.
    let watcher = &mut processes[6];
    watcher.bus.watch(Vec::new());
    watcher.bus.watch(vec![node("killed")]);
    link.refuse();
    assert_eq!(watcher.event().await, BusEvent::Gone(node("killed")));
}

#[tokio::test]
async fn who_ends_in_order_says_its_last_and_is_gone() {
    let (url, group) = (broker(), unique_group());
    let leaving = Process::start(&url, &url, &group, "leaving").await;
    let mut other = Process::start(&url, &url, &group, "other").await;
    other.bus.watch(vec![node("leaving")]);
    leaving.bus.publish(b"goodbye".to_vec());
    leaving.stop.cancel();
    must("the end", leaving.driver).await.expect("no panic");
    let told = BTreeSet::from([format!("{:?}", other.event().await), format!("{:?}", other.event().await)]);
    let expected = [BusEvent::Message(b"goodbye".to_vec()), BusEvent::Gone(node("leaving"))];
    assert_eq!(told, expected.iter().map(|event| format!("{event:?}")).collect());
    let (_connection, channel) = worker(&url).await;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let queue = format!("{group}:optic:node.leaving");
    channel.queue_declare(queue.into(), passive, FieldTable::default()).await.expect_err("it is deleted");
}

#[tokio::test]
async fn a_rumour_about_who_is_there_is_not_believed() {
    let (url, group) = (broker(), unique_group());
    let mut listener = Process::start(&url, &url, &group, "listener").await;
    let _there = Process::start(&url, &url, &group, "there").await;
    listener.bus.watch(vec![node("there"), node("never-there")]);
    assert_eq!(listener.event().await, BusEvent::Gone(node("never-there")));
    // Our own word about it comes back and is no news.
    listener.bus.publish(br#"{"version":1,"gone":"there"}"#.to_vec());
    listener.bus.publish(br#"{"version":2,"gone":"there"}"#.to_vec());
    assert_eq!(listener.event().await, BusEvent::Message(br#"{"version":2,"gone":"there"}"#.to_vec()));
    listener.bus.publish(b"next".to_vec());
    assert_eq!(listener.event().await, BusEvent::Message(b"next".to_vec()));
}

#[tokio::test]
async fn under_an_alarm_only_the_newest_is_kept_and_listening_goes_on() {
    let broker = PrivateBroker::start().await;
    let administration = connect(broker.url());
    let (bus, driver, mut events) = Bus::new(connect(broker.url()), administration.clone(), "g", node("a"));
    tokio::spawn(driver.run(CancellationToken::new()));
    let mut event = async || must("an event", events.recv()).await.expect("the driver runs");
    assert_eq!(event().await, BusEvent::Up);
    bus.publish(b"before".to_vec());
    assert_eq!(event().await, BusEvent::Message(b"before".to_vec()));
    broker.block().await;
    // The first under the alarm makes RabbitMQ say so, and is published after it.
    bus.publish(b"the first".to_vec());
    must("the alarm to be seen", async {
        while administration.is_taking_messages() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for n in 0..100 {
        bus.publish(format!("{n}").into_bytes());
    }
    broker.unblock().await;
    let mut heard = Vec::new();
    while heard.last() != Some(&b"99".to_vec()) {
        match event().await {
            BusEvent::Message(message) => heard.push(message),
            other => panic!("{other:?}"),
        }
    }
    assert!(heard.len() <= 35, "{heard:?}");
}

#[tokio::test]
async fn the_two_buses_of_a_group_do_not_hear_each_other() {
    let (url, group) = (broker(), unique_group());
    let mut cluster = Process::start_on(Line::cluster(&group), &url, &url, "a").await;
    let mut singyeong = Process::start_on(Line::singyeong(&group), &url, &url, "a").await;
    cluster.bus.watch(vec![node("b")]);
    assert_eq!(cluster.event().await, BusEvent::Gone(node("b")));
    let _b = Process::start_on(Line::singyeong(&group), &url, &url, "b").await;
    singyeong.bus.watch(vec![node("b"), node("c")]);
    assert_eq!(singyeong.event().await, BusEvent::Gone(node("c")));
    for (process, message) in [(&mut cluster, b"of the cluster"), (&mut singyeong, b"of the clients")] {
        process.bus.publish(message.to_vec());
        // What the bus itself says of who is missed is no news for whoever said it.
        assert_eq!(process.event().await, BusEvent::Message(message.to_vec()));
    }
}

#[tokio::test]
async fn what_is_delivered_is_published_when_that_is_known_even_after_an_alarm_and_a_cut() {
    let broker = PrivateBroker::start().await;
    let administration = connect(broker.url());
    let (bus, driver, mut events) =
        Bus::on(Line::singyeong("g"), connect(broker.url()), administration.clone(), node("a"));
    let stop = CancellationToken::new();
    let driver = tokio::spawn(driver.run(stop.clone()));
    let mut event = async || must("an event", events.recv()).await.expect("the driver runs");
    assert_eq!(event().await, BusEvent::Up);
    for n in 0..100_u8 {
        assert!(must("a confirm", bus.deliver(vec![n])).await);
    }
    for n in 0..100 {
        assert_eq!(event().await, BusEvent::Message(vec![n]));
    }
    broker.block().await;
    let delivered = tokio::spawn({
        let bus = bus.clone();
        async move { bus.deliver(b"under the alarm".to_vec()).await }
    });
    must("the alarm to be seen", async {
        while administration.is_taking_messages() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!delivered.is_finished(), "RabbitMQ has confirmed nothing");
    broker.restart().await;
    assert!(must("the confirm", delivered).await.expect("no panic"));
    // Before the restart, in vain, and after it: what is heard is that message and nothing else.
    let mut heard = event().await;
    while matches!(heard, BusEvent::Down | BusEvent::Up) {
        heard = event().await;
    }
    assert_eq!(heard, BusEvent::Message(b"under the alarm".to_vec()));
    stop.cancel();
    must("the end", driver).await.expect("no panic");
    assert!(!bus.deliver(b"too late".to_vec()).await);
}

#[tokio::test]
async fn a_restarted_broker_is_found_again() {
    let broker = PrivateBroker::start().await;
    let mut process = Process::start(broker.url(), broker.url(), "g", "a").await;
    broker.restart().await;
    assert_eq!(process.event().await, BusEvent::Down);
    assert_eq!(process.event().await, BusEvent::Up);
    process.bus.publish(b"again".to_vec());
    assert_eq!(process.event().await, BusEvent::Message(b"again".to_vec()));
}

#[tokio::test]
async fn the_record_is_changed_by_one_at_a_time() {
    let (url, group) = (broker(), unique_group());
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let record = ClusterRecord::new(connect(&url), &group);
        tasks.spawn(async move {
            let count = |record: Option<Vec<u8>>| {
                let count =
                    record.map_or(0, |record| String::from_utf8(record).expect("text").parse().expect("a number"));
                (Some(format!("{}", count + 1).into_bytes()), count)
            };
            record.update(count).await.expect("the lock comes round")
        });
    }
    let mut seen: Vec<i32> = must("all to have their turn", tasks.join_all()).await;
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    let record = ClusterRecord::new(connect(&url), &group);
    for _ in 0..3 {
        assert_eq!(record.read().await.expect("reachable"), Some(b"10".to_vec()));
    }
    let left = record.update(|record| (None, record)).await.expect("reachable");
    assert_eq!(left, Some(b"10".to_vec()));
}

#[tokio::test]
async fn a_shared_queue_is_consumed_again_after_everything_that_can_happen_to_it() {
    let (url, group) = (broker(), unique_group());
    let link = FaultyLink::to_the_broker().await;
    declare_commands(&connect(&url), &group, 1).await.expect("declared");
    let (consumer, mut deliveries) = Consumer::new(connect(&link.through(&url)), Queue::send(&group), 2);
    let stop = CancellationToken::new();
    let consumer = tokio::spawn(consumer.run(stop.clone()));
    let mut delivery = async || must("a delivery", deliveries.recv()).await.expect("it goes on");
    let (_connection, channel) = worker(&url).await;
    let queue = format!("{group}:SEND");

    for n in 0..4 {
        publish(&channel, &group, "SEND", &format!("{n}")).await;
    }
    let first = delivery().await;
    assert_eq!((&first.from, &first.body[..]), (&From::Queue(queue.as_str().into()), &b"0"[..]));
    first.ack();
    let second = delivery().await;
    link.cut();
    // What is not settled comes again.
    let again = must("the second again", async {
        loop {
            let delivery = delivery().await;
            if delivery.redelivered && delivery.body == second.body && delivery.is_held() {
                return delivery;
            }
        }
    })
    .await;
    second.ack();
    again.ack();
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    // A message is lost as long as there is no queue: it is published until one comes.
    must("the queue to be consumed again", async {
        let mut published = 0;
        loop {
            publish(&channel, &group, "SEND", &format!("new {published}")).await;
            published += 1;
            while let Ok(Some(delivery)) =
                tokio::time::timeout(std::time::Duration::from_millis(20), deliveries.recv()).await
            {
                let is_new = delivery.body.starts_with(b"new");
                delivery.ack();
                if is_new {
                    return;
                }
            }
        }
    })
    .await;

    stop.cancel();
    must("the end", consumer).await.expect("no panic");
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let left = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.expect("it is there");
    assert_eq!(left.consumer_count(), 0);
}

#[tokio::test]
async fn what_a_stopped_consumer_did_not_settle_is_there_for_the_next() {
    let (url, group) = (broker(), unique_group());
    declare_commands(&connect(&url), &group, 0).await.expect("declared");
    let (_connection, channel) = worker(&url).await;
    for n in 0..3 {
        publish(&channel, &group, "SEND", &format!("{n}")).await;
    }
    for _ in 0..2 {
        let (consumer, mut deliveries) = Consumer::new(connect(&url), Queue::send(&group), 32);
        let stop = CancellationToken::new();
        let consumer = tokio::spawn(consumer.run(stop.clone()));
        for n in 0..3 {
            let delivery = must("a delivery", deliveries.recv()).await.expect("it goes on");
            assert_eq!(delivery.body, format!("{n}").as_bytes());
        }
        stop.cancel();
        must("the end", consumer).await.expect("no panic");
    }
}
