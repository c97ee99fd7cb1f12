//! What `optic policies` prints, run against a real RabbitMQ: it bounds the queues of events and no others.

mod common;

use std::collections::BTreeMap;
use std::process::Stdio;

use common::{PrivateBroker, must};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use tokio::process::Command;

#[tokio::test]
async fn queues_of_events_are_bounded_and_those_of_commands_and_sessions_are_not() {
    let broker = PrivateBroker::start().await;
    let connection = Connection::connect(broker.url(), ConnectionProperties::default()).await.expect("reachable");
    let channel = connection.create_channel().await.expect("a channel");
    let bounded = [
        "it's:MESSAGE_CREATE",
        "it's:logs:MESSAGE_CREATE",
        "it's:7:READY",
        "it's:SEND:READY",
        "it's:SENDER",
        "it's:gateways",
    ];
    let left_alone = [
        "it's:SEND",
        "it's:REJECTED",
        "it's:0",
        "it's:17",
        "it's:optic:session.0",
        "it's:optic:amybot.pool",
        "it's:gateway",
        "it's:gateway-proxy",
        "it's:SINGYEONG_SEND",
        "it's:SINGYEONG_BROADCAST",
        "its:MESSAGE_CREATE",
        "not-it's:READY",
    ];
    for queue in bounded.iter().chain(&left_alone) {
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare((*queue).into(), durable, FieldTable::default()).await.expect("declared");
    }
    let printed = Command::new(env!("CARGO_BIN_EXE_optic"))
        .args(["policies", "--group", "it's", "--max-length", "5"])
        .env_clear()
        .output()
        .await
        .expect("it runs");
    let script = format!(
        "rabbitmqctl() {{ '{}/scripts/rabbitmq' ctl '{}' \"$@\"; }}\n{}",
        env!("CARGO_MANIFEST_DIR"),
        broker.instance(),
        String::from_utf8(printed.stdout).expect("text")
    );
    let applied = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).output();
    let applied = must("rabbitmqctl", applied).await.expect("there is bash");
    assert!(applied.status.success(), "{applied:?}");
    let listed = broker.ctl(&["list_queues", "--no-table-headers", "name", "policy"]).await;
    let policies: BTreeMap<&str, &str> = listed
        .lines()
        .map(|line| line.split_once('\t').map_or((line, ""), |(name, policy)| (name, policy.trim())))
        .collect();
    for queue in bounded {
        assert_eq!(policies[queue], "it's-events", "{queue}");
    }
    for queue in left_alone {
        assert_eq!(policies[queue], "", "{queue}");
    }
}
