//! spec/amqp.md, "Events" and "Commands", held by a worker that knows nothing of us: Python's pika, as Spectacles workers bind.
//!
//! `OPTIC_TEST_PYTHON` names an interpreter that has pika.

mod common;

use common::{OpticProcess, WorkerProgram, broker, unique_group};
use optic::simulator::{Settings, Simulator};
use serde_json::json;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_python_worker_sends_commands_and_reads_the_answers() {
    sends_commands_and_reads_the_answers("json").await;
}

#[tokio::test]
async fn a_python_worker_does_so_in_message_pack() {
    sends_commands_and_reads_the_answers("msgpack").await;
}

#[tokio::test]
async fn a_python_worker_does_so_in_json_in_message_pack_texts() {
    sends_commands_and_reads_the_answers("msgpack-text").await;
}

#[tokio::test]
async fn a_python_worker_does_so_in_erlangs_term_format() {
    sends_commands_and_reads_the_answers("etf").await;
}

async fn sends_commands_and_reads_the_answers(encoding: &str) {
    let mut worker = Command::new(python());
    worker.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/commands.py"));
    common::worker_commands(worker, "json", encoding).await;
}

#[tokio::test]
async fn a_python_worker_binds_acknowledges_and_understands_what_it_gets() {
    let (url, group) = (broker(), unique_group());
    let mut worker = Command::new(python());
    worker.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/worker.py"), &url, &group, "300"]);
    let worker = WorkerProgram::start(&mut worker).await;

    // Both shards identify at once.
    let settings = Settings { recommended_shards: 2, max_concurrency: 2, ..Settings::default() };
    let simulator = Simulator::bind(settings).await.expect("a free port");
    let (address, handle, stop) = (simulator.address().to_string(), simulator.handle(), CancellationToken::new());
    let simulating = tokio::spawn(simulator.run(stop.clone()));
    handle.control("start", "rate=1000", b"").expect("traffic starts");
    let environment = [
        ("DISCORD_TOKEN", "simulated"),
        ("DISCORD_API_PROTOCOL", "http"),
        ("DISCORD_API_HOST", address.as_str()),
        ("AMQP_URL", url.as_str()),
        ("BROKER_GROUP", group.as_str()),
        ("HTTP_ADDRESS", "off"),
    ];
    let mut optic = OpticProcess::spawn(&[], &environment);

    let summary = worker.summary(&optic).await;
    assert_eq!(summary, json!({ "events": 300, "again": 0, "shards": [0, 1] }));

    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0));
    stop.cancel();
    simulating.await.expect("the simulator did not panic");
    assert!(handle.stats().mistakes.is_empty(), "{:?}", handle.stats().mistakes);
}

fn python() -> String {
    std::env::var("OPTIC_TEST_PYTHON")
        .expect("OPTIC_TEST_PYTHON must name a Python with pika: scripts/setup python makes target/venv/bin/python")
}
