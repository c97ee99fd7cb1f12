//! spec/amqp.md, "Commands", held by a worker that nobody here wrote: Spectacles' own client for Node.
//!
//! `OPTIC_TEST_NODE` names a folder whose `node_modules` has it.

mod common;

use tokio::process::Command;

#[tokio::test]
async fn a_spectacles_worker_subscribes_publishes_and_calls() {
    let modules = std::env::var("OPTIC_TEST_NODE")
        .expect("OPTIC_TEST_NODE must name a folder with @spectacles/brokers: scripts/setup node makes target/node");
    let mut node = Command::new("node");
    node.env("NODE_PATH", format!("{modules}/node_modules"));
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/commands.js"));
    let answers = common::worker_commands(node).await["answers"].take();
    // Unless told otherwise it sends MessagePack, and can read why that was not taken.
    assert_eq!(answers["messagePack"]["ok"], false);
    let error = answers["messagePack"]["error"].as_str().expect("a text");
    assert!(error.contains("MessagePack") && error.contains("JSON"), "{error}");
}
