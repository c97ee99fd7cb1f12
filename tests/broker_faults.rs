//! RabbitMQ's faults in the middle of floods, end to end: whatever happens, no hole at the consumer. spec/amqp.md, "Publishing"
//! and "Sessions".
//!
//! Tests that stop, kill or block a broker share one, one after the other: a node takes some 10 s to start.

mod common;

use std::time::Duration;

use common::{Bed, Consumer, FaultyLink, OpticProcess, PrivateBroker, broker, eventually, must};
use optic::simulator::Settings;

/// Events of a flood that is broken into.
const FLOOD: u64 = 15_000;

/// READY and two guilds.
const START: u64 = 3;

fn settings() -> Settings {
    Settings { heartbeat_interval: Duration::from_secs(2), ..Bed::settings() }
}

async fn stop(mut optic: OpticProcess) {
    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0), "{}", optic.stderr().join("\n"));
}

/// A flood in whose midst `fault` happens, and is mended: nothing is missing, and Discord noticed nothing.
async fn in_a_flood(broker: &PrivateBroker, fault: impl AsyncFnOnce(&OpticProcess)) {
    let bed = Bed::new(broker.url(), settings());
    let consumer = bed.consumer(broker.url()).await;
    let optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.flood(FLOOD);
    consumer.wait_for(2_000).await;
    fault(&optic).await;
    let received = bed.gateway.reached(&consumer, FLOOD + START).await;
    assert!(!received.iter().any(|message| message.is_gap()));
    Bed::health_until(&optic, "ready again", |status, _| status == 200).await;
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, stats.mistakes), (1, Default::default()));
    stop(optic).await;
}

#[tokio::test]
async fn what_an_operator_does_to_rabbitmq_leaves_no_hole() {
    let broker = PrivateBroker::start().await;
    println!("connections closed");
    in_a_flood(&broker, async |_| broker.close_connections().await).await;
    println!("a memory alarm");
    alarm(&broker).await;
    println!("nacks");
    nacks(&broker).await;
    println!("stopped and started");
    in_a_flood(&broker, async |optic| {
        broker.stop().await;
        let body = Bed::health_until(optic, "not ready", |status, _| status == 503).await;
        assert!(body.contains("the broker is not connected"), "{body}");
        broker.start_again().await;
    })
    .await;
    println!("killed");
    in_a_flood(&broker, async |_| {
        broker.kill().await;
        broker.start_again().await;
    })
    .await;
    println!("away while a shard identifies");
    away_while_a_shard_identifies(&broker).await;
    println!("away when Optic is stopped, and when it starts");
    away_at_the_stop_and_at_the_start(&broker).await;
}

async fn alarm(broker: &PrivateBroker) {
    let bed = Bed::new(broker.url(), settings());
    let consumer = bed.consumer(broker.url()).await;
    let optic = bed.optic();
    bed.gateway.stored().await;
    bed.gateway.flood(FLOOD);
    consumer.wait_for(1_000).await;
    broker.block().await;
    // RabbitMQ tells a connection of the alarm when it publishes.
    bed.gateway.flood(2 * FLOOD);
    let body = Bed::health_until(&optic, "not ready", |status, body| status == 503 && body.contains("alarm")).await;
    assert!(body.contains("\"broker\":\"blocked\"") && body.contains("the broker takes nothing"), "{body}");
    Bed::health_until(&optic, "the shard waits", |_, body| body.contains("waiting for the broker")).await;
    let before = bed.gateway.stats().heartbeats;
    eventually("heartbeats go on", || bed.gateway.stats().heartbeats >= before + 2).await;
    assert!(optic.memory().1 < 100 << 20, "{:?}", optic.memory());
    broker.unblock().await;
    let received = bed.gateway.reached(&consumer, START + 2 * FLOOD).await;
    assert!(!received.iter().any(|message| message.is_gap()));
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, stats.mistakes), (1, Default::default()));
    stop(optic).await;
}

/// A queue that is full refuses; what it refused comes once there is room.
async fn nacks(broker: &PrivateBroker) {
    let bed = Bed::new(broker.url(), settings());
    // It leaves its queue behind.
    drop(bed.consumer(broker.url()).await);
    let limits = r#"{"max-length":50,"overflow":"reject-publish"}"#;
    broker.ctl(&["set_policy", "limit", &format!("^{}:all", bed.group), limits, "--apply-to", "queues"]).await;
    let optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.flood(500);
    let queue = format!("{}:all:events\t50", bed.group);
    must("a full queue", async { while !broker.ctl(&["list_queues", "name", "messages"]).await.contains(&queue) {} })
        .await;
    let committed = bed.gateway.sessions()[0].heartbeat_seq;
    assert!(committed.is_none_or(|seq| seq <= 51), "what was refused is not committed: {committed:?}");
    broker.ctl(&["clear_policy", "limit"]).await;
    let consumer = bed.consumer(broker.url()).await;
    let received = bed.gateway.reached(&consumer, START + 500).await;
    assert!(!received.iter().any(|message| message.is_gap()));
    stop(optic).await;
}

async fn away_while_a_shard_identifies(broker: &PrivateBroker) {
    let bed = Bed::new(broker.url(), Settings { recommended_shards: 2, guilds: 4, ..settings() });
    let consumer = bed.consumer(broker.url()).await;
    let optic = bed.optic();
    // The second has to wait its turn.
    bed.gateway.connected(1).await;
    broker.kill().await;
    bed.gateway.flood(300);
    broker.start_again().await;
    // Its turn is RabbitMQ's to give.
    bed.gateway.connected(2).await;
    bed.gateway.flood(300);
    let received = bed.gateway.reached(&consumer, 2 * (START + 300) + 300).await;
    assert!(!received.iter().any(|message| message.is_gap()));
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, stats.mistakes), (2, Default::default()));
    stop(optic).await;
}

async fn away_at_the_stop_and_at_the_start(broker: &PrivateBroker) {
    let bed = Bed::new(broker.url(), settings());
    let consumer = bed.consumer(broker.url()).await;
    let mut optic = bed.optic();
    bed.gateway.stored().await;
    bed.gateway.flood(300);
    bed.gateway.reached(&consumer, START + 300).await;
    broker.stop().await;
    bed.gateway.event("MESSAGE_CREATE", b"{}");
    eventually("the event is written", || bed.gateway.sessions()[0].written_seq == bed.gateway.sessions()[0].last_seq)
        .await;
    optic.terminate().await;
    let status = tokio::time::timeout(Duration::from_secs(5), optic.wait()).await.expect("gone in 5 s");
    assert_eq!(status.code(), Some(0));
    let lines = optic.stderr();
    assert!(lines.iter().any(|line| line.contains("left to whoever resumes the session")), "{lines:#?}");

    // It starts all the same, says what is missing, and waits.
    let optic = bed.optic();
    optic.wait_for_line("cannot be reached").await;
    let (status, body) = Bed::health(&optic, "/health/ready").await;
    assert_eq!(status, 503);
    assert!(body.contains("the broker is not connected"), "{body}");
    assert_eq!(Bed::health(&optic, "/health/live").await.0, 200);
    broker.start_again().await;
    let received = bed.gateway.reached(&consumer, START + 301).await;
    assert!(!received.iter().any(|message| message.is_gap()));
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, stats.resumes), (1, 1));
    stop(optic).await;
}

/// As [`in_a_flood`], over a link of our own to the broker that all tests share.
async fn over_a_link(parameters: &str, fault: impl AsyncFnOnce(&FaultyLink, &OpticProcess)) {
    let link = FaultyLink::to(&address(&broker())).await;
    let bed = Bed::new(&format!("{}{parameters}", link.through(&broker())), settings());
    let consumer: Consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.flood(FLOOD);
    consumer.wait_for(2_000).await;
    fault(&link, &optic).await;
    let received = bed.gateway.reached(&consumer, FLOOD + START).await;
    assert!(!received.iter().any(|message| message.is_gap()));
    assert_eq!(bed.gateway.stats().identifies, 1);
    stop(optic).await;
}

#[tokio::test]
async fn a_line_to_rabbitmq_that_is_cut_leaves_no_hole() {
    over_a_link("", async |link, optic| {
        link.cut();
        optic.wait_for_line("RabbitMQ").await;
        link.refuse();
        link.resume();
    })
    .await;
}

#[tokio::test]
async fn a_line_to_rabbitmq_that_goes_dead_is_given_up_after_two_heartbeats() {
    over_a_link("?heartbeat=1", async |link, optic| {
        link.freeze();
        Bed::health_until(optic, "not ready", |_, body| body.contains("the broker is not connected")).await;
        link.resume();
    })
    .await;
}

/// `host:port` of an AMQP URL.
fn address(url: &str) -> String {
    let url = url::Url::parse(url).expect("a URL");
    format!("{}:{}", url.host_str().expect("a host"), url.port().unwrap_or(5672))
}
