//! spec/forwarding.md, end to end: events of a simulated Discord to clients of the built-in server, and of another Optic's.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use common::{
    Bed, FaultyLink, Fleet, Gateway, OpticProcess, SingyeongBed, SingyeongClient, SingyeongServer, Worker, broker,
    eventually, lasting_address, must,
};
use futures_util::{SinkExt, StreamExt};
use optic::simulator::Settings;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

/// The events of the simulator's mix.
const MIX: [&str; 3] = ["MESSAGE_CREATE", "TYPING_START", "MESSAGE_REACTION_ADD"];

fn rules(rules: &Value) -> String {
    rules.to_string()
}

#[tokio::test]
async fn events_go_to_clients_of_the_built_in_server_by_their_metadata() {
    events_go_to_clients_by_their_metadata("json").await;
}

#[tokio::test]
async fn events_in_etf_are_forwarded_in_json() {
    events_go_to_clients_by_their_metadata("etf").await;
}

async fn events_go_to_clients_by_their_metadata(encoding: &str) {
    let by_event = json!({ "application": "worker", "ops": [{ "path": "/wants", "op": "$contains", "to": { "value": "{{EVENT}}" } }] });
    let by_shard = json!({ "application": "log", "ops": [{ "shard-{{SHARD}}": { "$eq": "{{SHARD}}" } }] });
    let bed = Bed::new(&broker(), Bed::settings()).with(
        "FORWARDING",
        &rules(&json!([
            { "target": by_event, "events": ["MESSAGE_CREATE", "TYPING_START"] },
            { "type": "Broadcast", "target": by_shard, "events": "MESSAGE_CREATE" },
        ])),
    );
    let bed = bed.with("DISCORD_ENCODING", encoding);
    let server = SingyeongBed::of(&bed).start().await;
    let identify = |application: &str, client: &str, metadata: Value| json!({ "application_id": application, "client_id": client, "metadata": metadata });
    let wants = |event: &str| json!({ "wants": { "type": "list", "value": [event] } });
    let connect = async |application: &str, client: &str, metadata: Value| {
        SingyeongClient::identify_with(&server.address, identify(application, client, metadata)).await.expect("taken")
    };
    let mut messages = connect("worker", "messages", wants("MESSAGE_CREATE")).await;
    let mut typing = connect("worker", "typing", wants("TYPING_START")).await;
    let shard = json!({ "shard-0": { "type": "integer", "value": 0 } });
    let mut one = connect("log", "one", shard.clone()).await;
    let mut other = connect("log", "other", shard).await;
    must("the shard", bed.gateway.connected(1)).await;

    bed.gateway.event("TYPING_START", br#"{"user_id":"41771983423143937"}"#);
    bed.gateway.event("MESSAGE_CREATE", br#"{"content":"\u00fc"}"#);
    bed.gateway.event("GUILD_CREATE", br#"{"id":"1"}"#);
    bed.gateway.event("MESSAGE_CREATE", br#"{"content":"last"}"#);
    let typed = typing.dispatched("SEND").await;
    assert_eq!(typed["payload"]["d"], json!({ "user_id": "41771983423143937" }));
    for content in ["ü", "last"] {
        let sent = messages.dispatched("SEND").await;
        let payload = &sent["payload"];
        assert_eq!((&payload["op"], &payload["t"]), (&json!(0), &json!("MESSAGE_CREATE")));
        assert_eq!(payload["d"], json!({ "content": content }));
        let session = &bed.gateway.sessions()[0].id;
        assert_eq!(sent["nonce"], format!("{session}:{}", payload["s"]), "by which a client knows what it has had");
        for log in [&mut one, &mut other] {
            assert_eq!(log.dispatched("BROADCAST").await["payload"], *payload);
        }
    }
    server.stop().await;
}

/// A client at a server that is stopped and started: it comes back, and keeps what it was sent.
struct Sink {
    received: Arc<watch::Sender<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Sink {
    async fn start(address: &str, application: &str, password: &str) -> Self {
        let received = Arc::new(watch::Sender::new(Vec::new()));
        let (ready, mut is_ready) = watch::channel(false);
        let (into, address) = (received.clone(), address.to_owned());
        let (application, password) = (application.to_owned(), password.to_owned());
        let task = tokio::spawn(async move {
            for run in 0_u64.. {
                let identify = json!({ "application_id": application, "client_id": run.to_string(), "auth": password });
                // Ends with the connection.
                let _ = Self::listen(&address, identify, &into, &ready).await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        must("the sink", is_ready.wait_for(|ready| *ready)).await.expect("its task goes on");
        Self { received, task }
    }

    async fn listen(
        address: &str,
        identify: Value,
        into: &watch::Sender<Vec<Value>>,
        ready: &watch::Sender<bool>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(address).await?;
        let (mut socket, _) =
            tokio_tungstenite::client_async(format!("ws://{address}/gateway/websocket"), stream).await?;
        socket.send(Message::text(json!({ "op": 1, "d": identify }).to_string())).await?;
        while let Some(frame) = socket.next().await {
            let Message::Text(text) = frame? else { continue };
            let mut packet: Value = serde_json::from_str(&text)?;
            if packet["op"] == 2 {
                assert_eq!(packet["d"]["restricted"], false, "the password is right");
                ready.send_replace(true);
            } else if packet["op"] == 4 {
                into.send_modify(|received| received.push(packet["d"].take()));
            }
        }
        Ok(())
    }

    async fn wait_until(&self, what: &str, enough: impl FnMut(&Vec<Value>) -> bool) -> Vec<Value> {
        let mut changes = self.received.subscribe();
        must(what, changes.wait_for(enough)).await.expect("the sender is ours").clone()
    }

    async fn has(&self, count: usize) {
        self.wait_until(&format!("{count} events at the sink"), |received| received.len() >= count).await;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Every event of the mix that Discord has sent reaches the sink, and for the first time in the order of its session.
async fn all_arrive_in_order(gateway: &Gateway, sink: &Sink) {
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut looked = 0;
    let wanted: Vec<_> = gateway.sent().into_iter().filter(|sent| MIX.contains(&sent.name.as_str())).collect();
    let received = sink
        .wait_until("all events at the sink", |received| {
            for (at, message) in received.iter().enumerate().skip(looked) {
                first.entry(message["nonce"].as_str().expect("a text").to_owned()).or_insert(at);
            }
            looked = received.len();
            wanted.iter().all(|sent| first.contains_key(&sent.message_id()))
        })
        .await;
    let mut last: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for sent in &wanted {
        let at = first[&sent.message_id()];
        let data: Value = serde_json::from_slice(&sent.data).expect("JSON");
        assert_eq!(received[at]["payload"], json!({ "op": 0, "s": sent.seq, "t": sent.name, "d": data }));
        let (seq, before) = last.insert(&sent.session, (sent.seq, at)).unwrap_or_default();
        assert!(sent.seq > seq && (seq == 0 || at > before), "{} before {seq} of {}", sent.seq, sent.session);
    }
}

/// Two groups: the bot's, and that of the server that its events are forwarded to.
struct TwoGroups {
    bed: Bed,
    there: SingyeongBed,
    address: String,
}

impl TwoGroups {
    fn new(settings: Settings, encoding: &str) -> Self {
        let address = lasting_address();
        let there = SingyeongBed::new().with("SINGYEONG_AUTH", "p@ss");
        let events = rules(&json!([{ "target": { "application": "sink" }, "events": MIX }]));
        let bed = Bed::new(&broker(), settings)
            .with("FORWARDING", &events)
            .with("SINGYEONG_DSN", &format!("singyeong://bot:p%40ss@{address}/?encoding={encoding}"));
        Self { bed, there, address }
    }

    async fn server(&self) -> SingyeongServer {
        self.there.start_at(&self.address).await
    }
}

async fn nothing_is_lost_while_the_other_server_is_stopped_and_killed(encoding: &str) {
    const EVENTS: u64 = 1500;
    let two = TwoGroups::new(Settings { recommended_shards: 2, ..Bed::settings() }, encoding);
    let server = two.server().await;
    let sink = Sink::start(&two.address, "sink", "p@ss").await;
    let mut optic = two.bed.optic();
    two.bed.gateway.connected(2).await;
    optic.wait_for_lines("registered at the other", 1).await;

    two.bed.gateway.flood(EVENTS);
    sink.has(200).await;
    server.stop().await;
    let server = two.server().await;
    optic.wait_for_lines("registered at the other", 2).await;
    let so_far = sink.received.borrow().len();
    sink.has(so_far + 200).await;
    server.kill().await;
    let had = sink.received.borrow().len() as u64;
    assert!(had < 2 * EVENTS, "the flood is over before the server is killed: {had}");
    let server = two.server().await;
    eventually("the flood's end", || two.bed.gateway.sent().len() as u64 >= 2 * EVENTS).await;
    all_arrive_in_order(&two.bed.gateway, &sink).await;

    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0));
    server.stop().await;
    let worker = Worker::connect(&broker(), &two.bed.group).await;
    assert_eq!(worker.take("REJECTED").await, None);
}

#[tokio::test]
async fn nothing_is_lost_in_json() {
    nothing_is_lost_while_the_other_server_is_stopped_and_killed("json").await;
}

#[tokio::test]
async fn nothing_is_lost_in_msgpack() {
    nothing_is_lost_while_the_other_server_is_stopped_and_killed("msgpack").await;
}

#[tokio::test]
async fn nothing_is_lost_in_etf() {
    nothing_is_lost_while_the_other_server_is_stopped_and_killed("etf").await;
}

/// Events by hand, numbered by their `d`.
fn numbered(gateway: &Gateway, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        gateway.event("MESSAGE_CREATE", json!({ "n": n }).to_string().as_bytes());
    }
}

/// The numbers in their order; what came twice, once.
fn numbers(received: &[Value]) -> Vec<u64> {
    let mut numbers = Vec::new();
    for n in received.iter().filter_map(|message| message["payload"]["d"]["n"].as_u64()) {
        if !numbers.contains(&n) {
            numbers.push(n);
        }
    }
    numbers
}

impl Sink {
    async fn has_numbers(&self, wanted: &[u64]) {
        let received =
            self.wait_until(&format!("{wanted:?}"), |received| numbers(received).len() >= wanted.len()).await;
        assert_eq!(numbers(&received), wanted);
    }
}

#[tokio::test]
async fn events_wait_in_rabbitmq_while_the_password_is_wrong_or_nobody_is_there() {
    let two = TwoGroups::new(Bed::settings(), "json");
    let mut optic = two.bed.optic();
    two.bed.gateway.connected(1).await;
    numbered(&two.bed.gateway, 1..=3);
    let line = optic.wait_for_line("not connected to the other").await;
    assert!(line.contains(&format!("singyeong://bot:[secret]@{}", two.address)), "{line}");
    let worker = Worker::connect(&broker(), &two.bed.group).await;
    worker.sees("optic:forward", (3, 0)).await;

    let other = SingyeongBed::new().with("SINGYEONG_AUTH", "another").start_at(&two.address).await;
    let line = optic.wait_for_line("it restricts us").await;
    assert!(line.contains("ERROR") && line.contains("the password is wrong"), "{line}");
    assert!(line.contains(&format!("{}:optic:forward", two.bed.group)) && line.contains("waiting=3"), "{line}");
    assert_eq!(worker.look("optic:forward").await.0, 3);
    other.stop().await;

    let server = two.server().await;
    let sink = Sink::start(&two.address, "sink", "p@ss").await;
    optic.wait_for_line("registered at the other").await;
    numbered(&two.bed.gateway, 4..=5);
    sink.has_numbers(&[1, 2, 3, 4, 5]).await;
    worker.sees("optic:forward", (0, 1)).await;
    let said = optic.stderr().join("\n");
    assert!(!said.contains("p@ss") && !said.contains("p%40ss"), "{said}");
    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0));
    server.stop().await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_is_there_again_with_every_event_since() {
    let two = TwoGroups::new(Bed::settings(), "json");
    let mut optic = two.bed.optic();
    two.bed.gateway.connected(1).await;
    numbered(&two.bed.gateway, 1..=3);
    let worker = Worker::connect(&broker(), &two.bed.group).await;
    worker.sees("optic:forward", (3, 0)).await;
    worker.delete("optic:forward").await;
    numbered(&two.bed.gateway, 4..=20);
    let line = optic.wait_for_line("a queue was gone").await;
    assert!(line.contains("WARN") && line.contains(&format!("{}:optic:forward", two.bed.group)), "{line}");
    worker.sees("optic:forward", (17, 0)).await;

    let server = two.server().await;
    let sink = Sink::start(&two.address, "sink", "p@ss").await;
    let received = sink.wait_until("4 to 20", |received| received.len() >= 17).await;
    let mut had = numbers(&received);
    had.sort_unstable();
    assert_eq!(had, (4..=20).collect::<Vec<u64>>(), "of those the first may come behind the others");
    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0));
    server.stop().await;
}

#[tokio::test]
async fn what_the_other_server_never_takes_is_set_aside_and_holds_up_nothing() {
    let mut two = TwoGroups::new(Bed::settings(), "json");
    two.there = two.there.with("SINGYEONG_MAX_MESSAGE", "20k");
    let server = two.server().await;
    let sink = Sink::start(&two.address, "sink", "p@ss").await;
    let optic = two.bed.optic();
    two.bed.gateway.connected(1).await;
    optic.wait_for_line("registered at the other").await;
    numbered(&two.bed.gateway, 1..=3);
    let large = json!({ "n": 4, "content": "x".repeat(30_000) }).to_string();
    two.bed.gateway.event("MESSAGE_CREATE", large.as_bytes());
    numbered(&two.bed.gateway, 5..=20);
    let wanted: Vec<u64> = (1..=3).chain(5..=20).collect();
    sink.has_numbers(&wanted).await;

    let worker = Worker::connect(&broker(), &two.bed.group).await;
    let aside = worker.wait_for("REJECTED").await;
    let reason = &aside.headers["x-optic-reason"];
    assert!(reason.contains("each time that it was sent"), "{reason}");
    assert_eq!(aside.headers["x-optic-kind"], "forwarding");
    assert_eq!(aside.headers["x-optic-source"], format!("{}:optic:forward", two.bed.group));
    let dispatch: Value = serde_json::from_str(&aside.body).expect("the whole of it");
    assert_eq!(dispatch["d"]["payload"]["d"]["n"], 4);
    worker.sees("optic:forward", (0, 1)).await;
    server.stop().await;
}

#[tokio::test]
async fn a_target_that_the_other_server_never_takes_is_left_out_and_holds_up_nothing() {
    const EVENTS: u64 = 30;
    let leaf = json!({ "path": "/n", "op": "$eq", "to": { "value": 5 } });
    let deep = (0..6).fold(leaf, |inner, _| json!({ "op": "$and", "with": [inner] }));
    let events = json!([
        { "target": { "ops": [deep] }, "events": MIX },
        { "target": { "application": "sink" }, "events": MIX },
    ]);
    let mut two = TwoGroups::new(Bed::settings(), "json");
    two.bed = two.bed.with("FORWARDING", &rules(&events));
    two.there = two.there.with("SINGYEONG_MAX_QUERY_DEPTH", "4");
    let server = two.server().await;
    let sink = Sink::start(&two.address, "sink", "p@ss").await;
    let optic = two.bed.optic();
    two.bed.gateway.connected(1).await;
    optic.wait_for_line("registered at the other").await;
    numbered(&two.bed.gateway, 1..=EVENTS);
    sink.has_numbers(&(1..=EVENTS).collect::<Vec<u64>>()).await;

    let worker = Worker::connect(&broker(), &two.bed.group).await;
    for n in 1..=EVENTS {
        let aside = worker.wait_for("REJECTED").await;
        let dispatch: Value = serde_json::from_str(&aside.body).expect("the whole of it");
        assert!(dispatch["d"]["target"]["ops"].is_array() && dispatch["d"]["payload"]["d"]["n"] == n, "{dispatch}");
        let reason = &aside.headers["x-optic-reason"];
        assert_eq!(reason.contains("took no message to its target"), n > 2, "{n}: {reason}");
    }
    // The first may be any of those under way; then three for each of two.
    let connections = optic.stderr().iter().filter(|line| line.contains("registered at the other")).count();
    assert!(connections <= 8, "{connections} connections");
    server.stop().await;
}

#[tokio::test]
async fn a_large_message_ends_no_connection_and_a_broadcast_is_no_command() {
    let mut two = TwoGroups::new(Bed::settings(), "json");
    two.there = two.there.with("SINGYEONG_MAX_MESSAGE", "16m");
    let server = two.server().await;
    let optic = two.bed.optic();
    two.bed.gateway.connected(1).await;
    optic.wait_for_line("registered at the other").await;
    let identify = json!({ "application_id": "worker", "client_id": "1", "auth": "p@ss" });
    let mut worker = SingyeongClient::identify_with(&two.address, identify).await.expect("taken");
    let presence = json!({ "op": 3, "d": { "status": "idle", "activities": [], "since": null, "afk": false } });
    let command = json!({ "shard_id": 0, "packet": presence, "reply_to": { "application": "worker" } });
    let to_the_bot =
        |nonce: u32, payload: Value| json!({ "target": { "application": "bot" }, "nonce": nonce, "payload": payload });
    worker.dispatch("SEND", to_the_bot(1, json!({ "content": "x".repeat(6 << 20) }))).await;
    worker.dispatch("BROADCAST", to_the_bot(2, command.clone())).await;
    worker.dispatch("SEND", to_the_bot(3, command)).await;
    let answer = worker.dispatched("SEND").await;
    assert_eq!((&answer["nonce"], &answer["payload"]["ok"]), (&json!(3), &json!(true)));
    let registered = optic.stderr().iter().filter(|line| line.contains("registered at the other")).count();
    assert_eq!(registered, 1, "{}", optic.stderr().join("\n"));
    server.stop().await;
}

#[tokio::test]
async fn another_process_goes_on_where_one_was_killed_and_a_lost_rabbitmq_loses_nothing() {
    const EVENTS: u64 = 2000;
    let mut two = TwoGroups::new(Settings { recommended_shards: 2, ..Bed::settings() }, "msgpack");
    two.bed = two.bed.with("CLUSTER_MODE", "leased");
    let server = two.server().await;
    let sink = Sink::start(&two.address, "sink", "p@ss").await;
    let mut fleet = Fleet::of(&two.bed);
    fleet.start("one");
    two.bed.gateway.connected(2).await;
    let worker = Worker::connect(&broker(), &two.bed.group).await;
    worker.sees("optic:forward", (0, 1)).await;
    let link = FaultyLink::to_the_broker().await;
    fleet.start_with("two", &[("AMQP_URL", &link.through(&broker()))]);
    fleet.shared_as(&[1, 1]).await;
    worker.sees("optic:forward", (0, 2)).await;

    two.bed.gateway.flood(EVENTS);
    sink.has(200).await;
    fleet.kill("one").await;
    let so_far = sink.received.borrow().len();
    sink.has(so_far + 200).await;
    link.cut();
    let had = sink.received.borrow().len() as u64;
    assert!(had < 2 * EVENTS, "the flood is over before the connection is cut: {had}");
    eventually("the flood's end", || two.bed.gateway.sent().len() as u64 >= 2 * EVENTS).await;
    all_arrive_in_order(&two.bed.gateway, &sink).await;
    server.stop().await;
}

#[tokio::test]
async fn a_process_that_is_stopped_in_a_flood_hands_over_in_order() {
    const EVENTS: u64 = 3000;
    let mut two = TwoGroups::new(Settings { recommended_shards: 2, ..Bed::settings() }, "json");
    two.bed = two.bed.with("CLUSTER_MODE", "leased");
    let server = two.server().await;
    let sink = Sink::start(&two.address, "sink", "p@ss").await;
    let mut fleet = Fleet::of(&two.bed);
    fleet.start("one");
    two.bed.gateway.connected(2).await;
    let worker = Worker::connect(&broker(), &two.bed.group).await;
    worker.sees("optic:forward", (0, 1)).await;
    fleet.start("two");
    fleet.shared_as(&[1, 1]).await;
    worker.sees("optic:forward", (0, 2)).await;

    two.bed.gateway.flood(EVENTS);
    sink.has(200).await;
    fleet.stop("one").await;
    eventually("the flood's end", || two.bed.gateway.sent().len() as u64 >= 2 * EVENTS).await;
    all_arrive_in_order(&two.bed.gateway, &sink).await;
    server.stop().await;
}

#[tokio::test]
async fn clients_of_the_other_server_see_the_shards_and_command_discord() {
    let two = TwoGroups::new(Bed::settings(), "etf");
    let server = two.server().await;
    let optic = two.bed.optic();
    two.bed.gateway.connected(1).await;
    optic.wait_for_line("registered at the other").await;
    let identify = |client: &str| json!({ "application_id": "worker", "client_id": client, "auth": "p@ss" });
    let mut worker = SingyeongClient::identify_with(&two.address, identify("1")).await.expect("taken");
    let has_shards = |clients: &[(String, String, Value)]| {
        let [(_, _, metadata)] = clients else { return false };
        metadata["shards"] == json!([0]) && metadata["shard_count"] == 1
    };
    worker.sees("bot", "its shards", has_shards).await;

    let target =
        json!({ "application": "bot", "ops": [{ "path": "/shards", "op": "$contains", "to": { "value": 0 } }] });
    let presence = json!({ "op": 3, "d": { "status": "idle", "activities": [], "since": null, "afk": false } });
    let reply_to = json!({ "application": "worker" });
    let send = |nonce: u32, payload: Value| json!({ "target": target, "nonce": nonce, "payload": payload });
    worker.dispatch("SEND", send(1, json!({ "shard_id": 0, "packet": presence, "reply_to": reply_to }))).await;
    let answer = worker.dispatched("SEND").await;
    assert_eq!((&answer["nonce"], &answer["payload"]), (&json!(1), &json!({ "ok": true, "shard": 0 })));
    let commands = two.bed.gateway.commands();
    assert!(commands.iter().any(|command| command.op == 3 && command.d == presence["d"]), "{commands:?}");

    worker.dispatch("SEND", send(2, json!({ "shard_id": 7, "packet": presence, "reply_to": reply_to }))).await;
    let answer = worker.dispatched("SEND").await;
    assert_eq!((&answer["nonce"], &answer["payload"]["ok"]), (&json!(2), &json!(false)));
    worker.dispatch("SEND", send(3, json!({ "packet": presence, "reply_to": reply_to }))).await;
    let answer = worker.dispatched("SEND").await;
    let error = answer["payload"]["error"].as_str().expect("a text");
    assert!(answer["nonce"] == 3 && error.contains("neither"), "{answer}");

    // Told again to a server that has forgotten all.
    server.kill().await;
    let server = two.server().await;
    optic.wait_for_lines("registered at the other", 2).await;
    let mut worker = SingyeongClient::identify_with(&two.address, identify("2")).await.expect("taken");
    worker.sees("bot", "its shards again", has_shards).await;
    server.stop().await;
}

#[tokio::test]
async fn mistakes_in_rules_and_dsn_are_told_at_the_start_and_no_password_with_them() {
    let bed = SingyeongBed::new();
    let check = async |rules: &str, dsn: &str| {
        let (url, group) = (broker(), bed.group.as_str());
        let environment = [
            ("DISCORD_TOKEN", "hunter2.test.token"),
            ("AMQP_URL", url.as_str()),
            ("BROKER_GROUP", group),
            ("FORWARDING", rules),
            ("SINGYEONG_DSN", dsn),
        ];
        let mut optic = OpticProcess::spawn(&["check"], &environment);
        let code = optic.wait().await.code();
        (code, [optic.stdout(), optic.stderr()].concat().join("\n"))
    };
    const RULES: &str = r#"[{"target":{"application":"a"},"events":["MESSAGE_CREATE"]}]"#;
    for (rules, dsn, told) in [
        (
            r#"[{"target":{"ops":[{"path":"a","op":"$eq"}]},"events":["READY"]}]"#,
            "singyeong://a@b",
            "rule 1: \"target\" is no query",
        ),
        (r#"[{"target":{},"events":["ready"]}]"#, "singyeong://a@b", "such as READY"),
        (RULES, "ws://a:s3cret@b", "singyeong://"),
        (RULES, "singyeong://a:s3c/ret@b", "write / as %2f"),
        (RULES, "singyeong://a:p@s/s3cret@b", "write / as %2f"),
        (RULES, "singyeong://a:s3cret@b/?encoding=xml", "write json, msgpack or etf"),
    ] {
        let (code, said) = check(rules, dsn).await;
        assert!(code != Some(0) && said.contains(told), "{rules} {dsn}: {said}");
        assert!(!said.contains("s3c"), "{said}");
    }
    let (code, said) = check(RULES, "singyeong://a:s3cret@b:1/?encoding=etf").await;
    assert!(code == Some(0) && said.contains("singyeong://a:[secret]@b:1") && !said.contains("s3cret"), "{said}");
}
