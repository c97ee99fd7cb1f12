//! spec/amqp.md, "Events", held by a worker that knows nothing of us: Python's pika, as Spectacles workers bind.
//!
//! `OPTIC_TEST_PYTHON` names an interpreter that has pika.

mod common;

use std::process::Stdio;

use common::{OpticProcess, broker, must, unique_group};
use optic::simulator::{Settings, Simulator};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_python_worker_binds_acknowledges_and_understands_what_it_gets() {
    let python = std::env::var("OPTIC_TEST_PYTHON")
        .expect("OPTIC_TEST_PYTHON must name a Python with pika: scripts/setup python makes target/venv/bin/python");
    let (url, group) = (broker(), unique_group());
    let mut worker = Command::new(python)
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/worker.py"), &url, &group, "300"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the interpreter starts");
    let (mut stdout, mut stderr) =
        (BufReader::new(worker.stdout.take().expect("piped")).lines(), worker.stderr.take().expect("piped"));
    let bound = must("the worker's queue", stdout.next_line()).await.expect("readable");

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

    let summary = must("the worker's summary", stdout.next_line()).await.expect("readable");
    let status = must("the worker's end", worker.wait()).await.expect("it is our child");
    let mut errors = String::new();
    stderr.read_to_string(&mut errors).await.expect("text");
    assert!(status.success(), "{errors}\n{}", optic.stderr().join("\n"));
    assert_eq!(bound.as_deref(), Some("bound"));
    let summary: Value = serde_json::from_str(&summary.expect("a line")).expect("JSON");
    assert_eq!(summary, json!({ "events": 300, "again": 0, "shards": [0, 1] }));

    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0));
    stop.cancel();
    simulating.await.expect("the simulator did not panic");
    assert!(handle.stats().mistakes.is_empty(), "{:?}", handle.stats().mistakes);
}
