//! spec/amqp.md, "Commands", held by a worker that nobody here wrote: Spectacles' own client for Node.
//!
//! `OPTIC_TEST_NODE` names a folder whose `node_modules` has it.

mod common;

use tokio::process::Command;

#[tokio::test]
async fn a_spectacles_worker_subscribes_publishes_and_calls_in_json() {
    subscribes_publishes_and_calls("json", "json").await;
}

#[tokio::test]
async fn a_spectacles_worker_does_so_in_its_own_message_pack() {
    subscribes_publishes_and_calls("json", "msgpack").await;
}

#[tokio::test]
async fn a_spectacles_worker_does_not_see_that_discord_writes_terms() {
    subscribes_publishes_and_calls("etf", "json").await;
    subscribes_publishes_and_calls("etf", "msgpack").await;
}

async fn subscribes_publishes_and_calls(discord: &str, encoding: &str) {
    let modules = std::env::var("OPTIC_TEST_NODE")
        .expect("OPTIC_TEST_NODE must name a folder with @spectacles/brokers: scripts/setup node makes target/node");
    let mut node = Command::new("node");
    node.env("NODE_PATH", format!("{modules}/node_modules"));
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/commands.js"));
    let worker = common::worker_commands(node, discord, encoding).await;
    // Sent in the other one of the two, whatever the events are in.
    assert_eq!(worker["answers"]["other"], serde_json::json!({ "ok": true, "shard": worker["shard"] }));
}
