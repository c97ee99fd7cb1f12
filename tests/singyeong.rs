//! spec/singyeong.md, held by clients in another language, of other people's libraries: tests/node/singyeong.js on ws,
//! @msgpack/msgpack, erlang_js and amqplib.
//!
//! `OPTIC_TEST_NODE` names a folder whose `node_modules` has them.

mod common;

use common::{Bed, Program, SingyeongBed, SingyeongServer, broker};
use optic::simulator::Settings;
use serde_json::{Value, json};
use tokio::process::Command;

const PASSWORD: &str = "hunter2.password";

fn scenario(name: &str, bed: &SingyeongBed, server: &SingyeongServer) -> Program {
    let modules = std::env::var("OPTIC_TEST_NODE")
        .expect("OPTIC_TEST_NODE must name a folder with ws and others: scripts/setup node makes target/node");
    let mut node = Command::new("node");
    node.env("NODE_PATH", format!("{modules}/node_modules"));
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/singyeong.js")).arg(name);
    let address = &server.address;
    node.arg(json!({ "address": address, "group": bed.group, "amqp": broker(), "auth": PASSWORD }).to_string());
    Program::start(&mut node)
}

/// Plays a scenario that needs nothing but the server; Optic must end in order then.
async fn play(name: &str, bed: SingyeongBed) -> Value {
    let server = bed.start().await;
    let summary = scenario(name, &bed, &server).summary().await;
    for line in server.optic.stderr() {
        assert!(!line.contains(PASSWORD), "{line}");
        assert!(!line.contains("panic") && !line.contains("ERROR"), "{line}");
    }
    server.stop().await;
    summary
}

#[tokio::test]
async fn every_op_and_dispatch_in_every_encoding() {
    play("ops", SingyeongBed::new()).await;
}

#[tokio::test]
async fn what_is_wrong_is_told_in_the_originals_words_and_closed() {
    play("errors", SingyeongBed::new()).await;
}

#[tokio::test]
async fn workers_on_amqp_and_clients_share_queues() {
    play("queues", SingyeongBed::new()).await;
}

#[tokio::test]
async fn a_message_that_is_not_acknowledged_is_anothers() {
    play("redelivery", SingyeongBed::new().with("SINGYEONG_ACK_TIMEOUT", "3s")).await;
}

#[tokio::test]
async fn an_id_is_one_clients() {
    play("duplicates", SingyeongBed::new()).await;
}

#[tokio::test]
async fn without_the_password_one_is_looked_at_and_no_more() {
    play("restricted", SingyeongBed::new().with("SINGYEONG_AUTH", PASSWORD)).await;
}

#[tokio::test]
async fn over_a_limit_there_is_a_word_and_others_do_not_notice() {
    let bed = SingyeongBed::new()
        .with("SINGYEONG_MAX_MESSAGE", "65536")
        .with("SINGYEONG_MAX_METADATA", "4096")
        .with("SINGYEONG_MAX_QUERY_DEPTH", "8")
        .with("SINGYEONG_MAX_CONNECTIONS", "20");
    play("limits", bed).await;
}

#[tokio::test]
async fn who_sends_to_nobody_hears_of_it() {
    play("no_route", SingyeongBed::new()).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_bounded() {
    play("slow", SingyeongBed::new().with("SINGYEONG_CLIENT_BUFFER", "1048576")).await;
}

#[tokio::test]
async fn without_heartbeats_one_is_told_and_closed() {
    play("heartbeat", SingyeongBed::new().with("SINGYEONG_HEARTBEAT", "2s")).await;
}

#[tokio::test]
async fn rest_requests_are_answered_and_passed_on() {
    play("rest", SingyeongBed::new().with("SINGYEONG_PROXY_ALLOW", "127.0.0.0/8")).await;
}

#[tokio::test]
async fn at_sigterm_there_is_a_goodbye_and_a_code_to_come_back_after() {
    let bed = SingyeongBed::new();
    let server = bed.start().await;
    let mut program = scenario("goodbye", &bed, &server);
    program.says("terminate").await;
    server.stop().await;
    program.summary().await;
}

#[tokio::test]
async fn discords_events_reach_each_application_once() {
    const EVENTS: u64 = 400;
    let gateway = Bed::new(&broker(), Bed::settings());
    let bed = SingyeongBed::of(&gateway);
    let server = bed.start().await;
    gateway.gateway.connected(1).await;
    let mut program = scenario("events", &bed, &server);
    program.says("requested").await;
    gateway.gateway.flood(EVENTS);
    let sent = || -> Vec<String> {
        let sent = gateway.gateway.sent();
        let messages = sent.iter().filter(|event| event.name == "MESSAGE_CREATE");
        messages.map(common::Sent::message_id).collect()
    };
    common::eventually("the flood", || gateway.gateway.count() >= EVENTS).await;
    let mut expected = sent();
    program.tell(&expected.len().to_string()).await;
    let summary = program.summary().await;
    expected.sort();
    for application in ["first", "second"] {
        let seen = summary[application].as_array().expect("a list");
        let mut seen: Vec<_> = seen.iter().map(|id| id.as_str().expect("a text").to_owned()).collect();
        seen.sort();
        assert_eq!(seen, expected, "{application}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_gateway_is_an_application_that_takes_commands() {
    let heartbeat_interval = std::time::Duration::from_secs(2);
    let settings = Settings { recommended_shards: 2, max_concurrency: 2, heartbeat_interval, ..Bed::settings() };
    let gateway = Bed::new(&broker(), settings);
    let bed = SingyeongBed::of(&gateway);
    let server = bed.start().await;
    gateway.gateway.connected(2).await;
    scenario("gateway", &bed, &server).summary().await;
    let commands = gateway.gateway.commands();
    assert_eq!(commands.len(), 2, "{commands:?}");
    server.stop().await;
    assert!(gateway.gateway.stats().mistakes.is_empty(), "{:?}", gateway.gateway.stats().mistakes);
}
