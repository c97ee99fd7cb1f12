//! spec/amybot.md, "Websocket" and "Admin interface", held by the program itself over a real RabbitMQ.
//!
//! `OPTIC_TEST_NODE` names a folder whose `node_modules` has ws: those services are another library's.

mod common;

use std::collections::BTreeSet;

use common::{FaultyLink, OpticProcess, Program, Worker, broker, must, unique_group};
use futures_util::{SinkExt, StreamExt};
use lapin::BasicProperties;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::Message;

const TOKEN: &str = "hunter2.token.of.the.admin";

/// How Optic is started: without Discord, with two shards for services.
struct Bed {
    group: String,
    environment: Vec<(String, String)>,
}

/// A process, and where it listens.
struct Server {
    optic: OpticProcess,
    amybot: String,
    http: String,
}

/// A service at a websocket.
struct Service(WebSocketStream<TcpStream>);

impl Bed {
    fn new(amqp: &str) -> Self {
        let group = unique_group();
        let bed = Self { group: group.clone(), environment: Vec::new() };
        bed.with("AMQP_URL", amqp)
            .with("BROKER_GROUP", &group)
            .with("AMYBOT_ADDRESS", "127.0.0.1:0")
            .with("AMYBOT_SHARD_COUNT", "2")
            .with("HTTP_ADDRESS", "127.0.0.1:0")
            .with("HTTP_TOKEN", TOKEN)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    async fn start(&self) -> Server {
        let environment: Vec<_> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let optic = OpticProcess::spawn(&["run"], &environment);
        let amybot = address(&optic.wait_for_line("amybot is served").await);
        let http = address(&optic.wait_for_line("health is served").await);
        Server { optic, amybot, http }
    }
}

fn address(line: &str) -> String {
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
    address.expect("the line has it").to_owned()
}

impl Server {
    /// SIGTERM; it must end in order.
    async fn stop(mut self) {
        self.optic.terminate().await;
        assert_eq!(self.optic.wait().await.code(), Some(0), "{}", self.optic.stderr().join("\n"));
        for line in self.optic.stderr() {
            assert!(!line.contains(TOKEN) && !line.contains("panic") && !line.contains("ERROR"), "{line}");
        }
    }

    /// `optic service …`: its exit code, and what it printed on both streams.
    async fn command(&self, arguments: &[&str], token: &str) -> (Option<i32>, String) {
        let arguments: Vec<&str> = ["service"].iter().chain(arguments).copied().collect();
        let mut optic = OpticProcess::spawn(&arguments, &[("HTTP_ADDRESS", &self.http), ("HTTP_TOKEN", token)]);
        let code = optic.wait().await.code();
        (code, [optic.stdout(), optic.stderr()].concat().join("\n"))
    }

    /// A request to the admin interface: status and body.
    async fn ask(&self, method: &str, path: &str, token: &str) -> (u16, Value) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(&self.http).await.expect("it listens");
        let head =
            format!("{method} /api/amybot/services{path} HTTP/1.1\r\nhost: optic\r\nauthorization: Bearer {token}");
        stream.write_all(format!("{head}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        must("an answer", stream.read_to_string(&mut answer)).await.expect("text");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default()).expect("JSON"))
    }

    /// The names of the services, once they are these.
    async fn lists(&self, names: &[&str]) -> Value {
        must("these services", async {
            loop {
                let (status, body) = self.ask("GET", "", TOKEN).await;
                let listed =
                    body["services"].as_array().map(|all| all.iter().map(|one| &one["name"]).collect::<Vec<_>>());
                if status == 200 && listed.as_deref().is_some_and(|listed| listed == names) {
                    return body;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await
    }
}

impl Service {
    async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("Optic listens");
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/gateway/amybot"), stream)
            .await
            .expect("a websocket");
        Self(socket)
    }

    /// Connects and identifies; the coordinator must accept it.
    async fn identified(address: &str, name: &str, topics: &[&str]) -> Self {
        let mut service = Self::connect(address).await;
        service.op(name, json!({"opcode": 0, "topics": topics})).await;
        assert_eq!(service.hears().await["d"], json!({"opcode": 0, "accepted": true}));
        service
    }

    async fn says(&mut self, s: &str, t: &str, d: Value) {
        self.0.send(Message::text(json!({"s": s, "t": t, "d": d}).to_string())).await.expect("is sent");
    }

    async fn op(&mut self, s: &str, d: Value) {
        self.says(s, "gateway:opcode", d).await;
    }

    /// The next message; `None` when the connection has ended. Pings are answered and passed over.
    async fn next(&mut self) -> Option<Value> {
        loop {
            match must("a message", self.0.next()).await?.ok()? {
                Message::Text(text) => return Some(serde_json::from_str(&text).expect("JSON")),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    async fn hears(&mut self) -> Value {
        self.next().await.expect("it is open")
    }

    /// Code of the close.
    async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = must("a close", self.0.next()).await.expect("a close").expect("a message") {
                return frame.map_or(1005, |frame| frame.code.into());
            }
        }
    }

    /// Asks for a shard, and gets one.
    async fn shard(&mut self, name: &str) -> u64 {
        self.op(name, json!({"opcode": "10"})).await;
        let d = self.hears().await["d"].take();
        assert_eq!((&d["opcode"], &d["shard_count"]), (&json!(11), &json!(2)), "{d}");
        d["shard_id"].as_u64().expect("a number")
    }
}

#[tokio::test]
async fn services_of_two_processes_share_one_pool_and_give_back_what_they_had() {
    let bed = Bed::new(&broker());
    let (one, other) = (bed.start().await, bed.start().await);
    let mut alpha = Service::identified(&one.amybot, "alpha", &[]).await;
    let mut beta = Service::identified(&other.amybot, "beta", &[]).await;
    let (first, second) = (alpha.shard("alpha").await, beta.shard("beta").await);
    assert_eq!(BTreeSet::from([first, second]), BTreeSet::from([0, 1]));
    beta.op("beta", json!({"opcode": 10})).await;
    let refused = beta.hears().await;
    assert_eq!((&refused["d"]["opcode"], &refused["d"]["accepted"]), (&json!(10), &json!(false)), "{refused}");
    // It goes without a word; another at the other process has its shard then.
    drop(alpha);
    other.lists(&["beta"]).await;
    let mut gamma = Service::identified(&other.amybot, "gamma", &[]).await;
    assert_eq!(gamma.shard("gamma").await, first);
    // A process that is killed takes its services with it.
    let Server { mut optic, .. } = other;
    optic.kill().await;
    one.lists(&[]).await;
    let mut delta = Service::identified(&one.amybot, "delta", &[]).await;
    let mut shards = BTreeSet::from([delta.shard("delta").await]);
    shards.insert(delta.shard("delta").await);
    assert_eq!(shards, BTreeSet::from([0, 1]));
    one.stop().await;
    assert_eq!(delta.closed().await, 1012);
}

#[tokio::test]
async fn orders_by_http_and_by_command_reach_services_over_websocket_and_rabbitmq() {
    let bed = Bed::new(&broker());
    let (one, other) = (bed.start().await, bed.start().await);
    let mut music = Service::identified(&one.amybot, "music", &["play.*"]).await;
    let mut second = Service::identified(&other.amybot, "music", &[]).await;
    let mut web = Service::identified(&other.amybot, "web", &[]).await;
    let mut worker = Worker::connect(&broker(), &bed.group).await;
    let identify = json!({"s": "music", "t": "gateway:opcode", "d": {"opcode": 0}}).to_string();
    worker.ask("gateway", identify.as_bytes(), "identify").await;
    assert!(worker.answer().await.body.contains("\"accepted\":true"));

    let listed = other.lists(&["music", "web"]).await;
    assert_eq!(listed["services"][0]["instances"].as_array().map(Vec::len), Some(3), "{listed}");
    let (code, table) = one.command(&["list"], TOKEN).await;
    assert_eq!(code, Some(0), "{table}");
    assert!(
        table.contains("SERVICE") && table.contains("play.*") && table.contains("2 of 2 shards are free"),
        "{table}"
    );

    // The process that is asked need not be the one that a service is at.
    for server in [&one, &other] {
        let (status, body) = server.ask("POST", "/music/shutdown", TOKEN).await;
        assert_eq!((status, &body["instances"]), (200, &json!(3)), "{body}");
        for service in [&mut music, &mut second] {
            let order = service.hears().await;
            assert_eq!((&order["s"], &order["d"]), (&json!("gateway"), &json!({"opcode": 1})));
        }
        assert!(worker.answer().await.body.ends_with(r#""d":{"opcode":1}}"#));
    }
    let (code, text) = one.command(&["reboot", "music"], TOKEN).await;
    assert_eq!((code, text.as_str()), (Some(0), "3 instances of music told to stop and start anew"));
    for service in [&mut music, &mut second] {
        assert_eq!(service.hears().await["d"], json!({"opcode": 2}));
    }
    assert!(worker.answer().await.body.ends_with(r#""d":{"opcode":2}}"#));
    // Nothing of all that was for another service.
    web.says("web", "gateway-proxy:web:play.song", json!(1)).await;
    assert_eq!(music.hears().await, json!({"s": "web", "t": "play.song", "d": 1}));
    let (code, text) = one.command(&["shutdown", "web"], TOKEN).await;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(web.hears().await["d"], json!({"opcode": 1}));

    let (code, text) = one.command(&["shutdown", "nobody"], TOKEN).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("there is no service \"nobody\""), "{text}");
    let (code, text) = one.command(&["shutdown", "music"], "hunter3").await;
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("HTTP_TOKEN is not the token") && !text.contains("hunter3"), "{text}");
    let (code, text) = one.command(&["reboot", "music"], "").await;
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("is missing, or the token is wrong; set HTTP_TOKEN"), "{text}");
    assert_eq!(one.ask("POST", "/music/shutdown", "hunter3").await.0, 401);
    assert_eq!(one.ask("POST", "/nobody/reboot", TOKEN).await.0, 404);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn without_a_token_there_is_no_admin_interface() {
    let server = Bed::new(&broker()).with("HTTP_TOKEN", "").start().await;
    let (status, body) = server.ask("GET", "", TOKEN).await;
    assert_eq!(status, 403);
    assert!(body["error"].as_str().is_some_and(|why| why.contains("HTTP_TOKEN is not set")), "{body}");
    // On the machine itself the list is open, and orders are not.
    must("the coordinator's list", async {
        while server.command(&["list"], "").await.0 != Some(0) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    for token in ["", TOKEN] {
        let (code, text) = server.command(&["reboot", "music"], token).await;
        assert_eq!(code, Some(78), "{text}");
        assert!(text.contains("there is no admin interface: HTTP_TOKEN is not set"), "{text}");
    }
    server.stop().await;
}

#[tokio::test]
async fn one_port_serves_both_protocols() {
    let bed = Bed::new(&broker()).with("SINGYEONG_ADDRESS", "127.0.0.1:0");
    let server = bed.start().await;
    let singyeong = address(&server.optic.wait_for_line("신경 is served").await);
    assert_eq!(server.amybot, singyeong);
    let mut service = Service::identified(&singyeong, "bot", &[]).await;
    let mut client = common::SingyeongClient::identify(&singyeong, "app", "client").await;
    assert!(client.settled().await);
    service.op("bot", json!({"opcode": 12, "shard_id": 1})).await;
    assert_eq!(service.hears().await["d"]["accepted"], json!(false), "it has none");
    server.stop().await;
}

#[tokio::test]
async fn proxied_messages_go_to_rabbitmq_and_to_services_that_want_them() {
    let bed = Bed::new(&broker());
    let server = bed.start().await;
    let mut exact = Service::identified(&server.amybot, "exact", &["music.play"]).await;
    let mut prefix = Service::identified(&server.amybot, "prefix", &["music.*"]).await;
    let mut source = Service::identified(&server.amybot, "source", &["music.*"]).await;
    let worker = Worker::connect(&broker(), &bed.group).await;
    worker.declare("music.play").await;
    for n in 0..100 {
        source.says("source", "gateway-proxy:source:music.play", json!({"n": n})).await;
    }
    for n in 0..100 {
        let expected = json!({"s": "source", "t": "music.play", "d": {"n": n}});
        assert_eq!((exact.hears().await, prefix.hears().await), (expected.clone(), expected.clone()));
        let body: Value = serde_json::from_str(&worker.wait_for("music.play").await.body).expect("JSON");
        assert_eq!(body, expected);
    }
    // By RabbitMQ as well.
    let proxied = r#"{"s":"w","t":"gateway-proxy:w:music.stop","d":[1.0]}"#;
    worker.publish_with("gateway-proxy", proxied.as_bytes(), BasicProperties::default()).await;
    let heard = prefix.hears().await;
    assert_eq!((&heard["s"], &heard["t"], &heard["d"]), (&json!("w"), &json!("music.stop"), &json!([1.0])));
    // What names another source is refused, and reaches nobody.
    source.says("source", "gateway-proxy:exact:music.play", json!("forged")).await;
    source.says("source", "gateway-proxy:source:music.play", json!("last")).await;
    assert_eq!(exact.hears().await["d"], "last");
    let passed_on = json!({"source": "source", "topic": "music.play", "delivered": 101, "set_aside": 0});
    must("all counted", async {
        loop {
            let (_, body) = server.ask("GET", "", TOKEN).await;
            if body["proxied"].as_array().is_some_and(|all| all.contains(&passed_on)) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    let (code, printed) = server.command(&["list"], TOKEN).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("101        0          source  music.play"), "{printed}");
    server.stop().await;
}

#[tokio::test]
async fn pages_of_web_sites_are_no_services() {
    let bed = Bed::new(&broker());
    let server = bed.start().await;
    let mut request = format!("ws://{}/gateway/amybot", server.amybot).into_client_request().expect("a request");
    request.headers_mut().insert("origin", HeaderValue::from_static("https://example.com"));
    let stream = TcpStream::connect(&server.amybot).await.expect("Optic listens");
    let refused = tokio_tungstenite::client_async(request, stream).await;
    assert!(matches!(&refused, Err(Error::Http(answer)) if answer.status() == 403), "{refused:?}");
    server.stop().await;
}

#[tokio::test]
async fn what_another_process_runs_is_given_to_nobody_while_it_is_away() {
    let bed = Bed::new(&broker());
    let server = bed.start().await;
    let mut service = Service::identified(&server.amybot, "bot", &[]).await;
    let worker = Worker::connect(&broker(), &bed.group).await;
    let runs = br#"{"version":1,"kind":"runs","node":"away.1","runs":{"shards":"0"}}"#;
    worker.publish_with("optic:amybot", runs, BasicProperties::default()).await;
    must("that it is told", async {
        loop {
            let (_, body) = server.ask("GET", "", TOKEN).await;
            if body["free"] == 1 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    // Who takes over knows it, too.
    server.stop().await;
    assert_eq!(service.closed().await, 1012);
    let server = bed.start().await;
    let mut service = Service::identified(&server.amybot, "bot", &[]).await;
    assert_eq!(service.shard("bot").await, 1);
    service.op("bot", json!({"opcode": 10})).await;
    assert_eq!(service.hears().await["d"]["accepted"], json!(false));
    server.stop().await;
}

#[tokio::test]
async fn services_come_back_after_rabbitmq_was_away() {
    let link = FaultyLink::to_the_broker().await;
    let bed = Bed::new(&link.through(&broker()));
    let server = bed.start().await;
    let mut service = Service::identified(&server.amybot, "bot", &[]).await;
    let shard = service.shard("bot").await;
    link.refuse();
    assert_eq!(service.closed().await, 1012);
    // It is let in while RabbitMQ is away, and its IDENTIFY waits.
    let mut again = Service::connect(&server.amybot).await;
    again.op("bot", json!({"opcode": 0})).await;
    let (status, body) = server.ask("GET", "", TOKEN).await;
    assert_eq!(status, 503, "{body}");
    link.resume();
    assert_eq!(again.hears().await["d"]["accepted"], json!(true));
    let shards = BTreeSet::from([again.shard("bot").await, again.shard("bot").await]);
    assert!(shards.contains(&shard) && shards.len() == 2, "the one it had came back, {shards:?}");
    server.stop().await;
}

#[tokio::test]
async fn services_of_another_library_in_another_language() {
    let modules = std::env::var("OPTIC_TEST_NODE")
        .expect("OPTIC_TEST_NODE must name a folder with ws: scripts/setup node makes target/node");
    let bed = Bed::new(&broker());
    let (one, other) = (bed.start().await, bed.start().await);
    let mut node = Command::new("node");
    node.env("NODE_PATH", format!("{modules}/node_modules"));
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/amybot.js"));
    let admin = format!("http://{}/api/amybot/services", one.http);
    node.arg(json!({ "addresses": [one.amybot, other.amybot], "admin": admin, "token": TOKEN }).to_string());
    let summary = Program::start(&mut node).summary().await;
    assert_eq!(summary, json!({"shards": [0, 1], "proxied": {"song": "오늘"}, "shutdowns": 2, "refused": 4003}));
    one.stop().await;
    other.stop().await;
}
