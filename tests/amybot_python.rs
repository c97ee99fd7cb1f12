//! spec/amybot.md, held by a service that knows nothing of us: Python's pika and aiohttp, and a simulated Discord.
//!
//! `OPTIC_TEST_PYTHON` names an interpreter that has them.

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::{Gateway, OpticProcess, broker, must, unique_group};
use optic::simulator::Settings;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

#[tokio::test]
async fn a_service_runs_a_shard_dies_and_another_gets_the_same() {
    let (url, group) = (broker(), unique_group());
    // As strict as Discord: one may identify at a time, and a window without others is what the gate is for.
    let settings = Settings { recommended_shards: 2, identify_window: Duration::from_secs(5), ..Settings::default() };
    let gateway = Gateway::start(settings);
    let address = format!("ws://{}", gateway.address());
    let environment = [
        ("AMQP_URL", url.as_str()),
        ("BROKER_GROUP", group.as_str()),
        ("AMYBOT_SHARD_COUNT", "2"),
        ("HTTP_ADDRESS", "off"),
    ];
    let mut first = OpticProcess::spawn(&[], &environment);
    first.wait_for_line("coordinating amybot's services").await;

    let (mut one, told) = service(&url, &group, &address).await;
    assert_eq!((&told["shard"], &told["count"]), (&0.into(), &2.into()), "{told}");
    let (_two, told) = service(&url, &group, &address).await;
    assert_eq!(told["shard"], 1, "{told}");

    // Killed, it says nothing any more; its queue is gone, and its shard is another's.
    one.kill().await.expect("it ran");
    let (mut three, told) = service(&url, &group, &address).await;
    assert_eq!(told["shard"], 0, "{told}");

    // The same with another coordinator, who knows only what the first one left.
    let mut second = OpticProcess::spawn(&[], &environment);
    second.wait_for_line("connected to RabbitMQ").await;
    first.kill().await;
    second.wait_for_line("coordinating amybot's services").await;
    three.kill().await.expect("it ran");
    let (_four, told) = service(&url, &group, &address).await;
    assert_eq!(told["shard"], 0, "{told}");

    second.terminate().await;
    assert_eq!(second.wait().await.code(), Some(0));
    let stats = gateway.stats();
    assert_eq!(stats.identifies, 4, "{stats:?}");
    assert!(stats.mistakes.is_empty(), "{:?}", stats.mistakes);
}

/// Starts a service and waits until it runs a shard.
async fn service(url: &str, group: &str, gateway: &str) -> (Child, Value) {
    let mut child = Command::new(python())
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/amybot.py"), url, group, gateway])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the interpreter starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = must("a service with a shard", lines.next_line()).await.expect("readable");
    let Some(line) = line else {
        let mut errors = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut errors).await.expect("text");
        panic!("the service ended: {errors}");
    };
    (child, serde_json::from_str(&line).expect("JSON"))
}

fn python() -> String {
    std::env::var("OPTIC_TEST_PYTHON")
        .expect("OPTIC_TEST_PYTHON must name a Python with pika and aiohttp: scripts/setup python makes one")
}
