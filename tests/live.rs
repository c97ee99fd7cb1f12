//! The page's data, as a browser reads it: of a real Optic, at a real RabbitMQ, of a simulated Discord.

mod common;

use common::{Bed, OpticProcess, SingyeongBed, SingyeongClient, broker, must};
use optic::simulator::Settings;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const TOKEN: &str = "hunter2.hunter2.hunter2";

/// Where Optic's page is.
async fn address(optic: &OpticProcess) -> String {
    let line = optic.wait_for_line("health is served").await;
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
    address.expect("the line has it").trim_end_matches(',').to_owned()
}

/// A request with these lines of its head besides, and all that is answered.
async fn ask(address: &str, method: &str, path: &str, head: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("{method} {path} HTTP/1.1\r\n{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    must("an answer", stream.read_to_string(&mut answer)).await.expect("text");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Somebody who looks, and what the shards' rows are as far as it was told.
struct Viewer {
    stream: BufReader<TcpStream>,
    rows: Vec<Value>,
}

impl Viewer {
    async fn at(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET /api/live HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        Self { stream: BufReader::new(stream), rows: Vec::new() }
    }

    /// The next state, with all rows in it.
    async fn state(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.stream.read_line(&mut line).await.expect("it is connected"), 0, "it goes on");
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let mut state: Value = serde_json::from_str(data).expect("JSON");
            if state["all"] == true {
                self.rows.clear();
            }
            for row in state["shards"].as_array().expect("a list") {
                match self.rows.iter_mut().find(|known| known[0] == row[0]) {
                    Some(known) => *known = row.clone(),
                    None => self.rows.push(row.clone()),
                }
            }
            state["shards"] = self.rows.clone().into();
            return state;
        }
    }

    /// Waits for a state that is so.
    async fn sees(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        must(what, async {
            loop {
                let state = self.state().await;
                if is_so(&state) {
                    return state;
                }
            }
        })
        .await
    }
}

fn states(state: &Value) -> Vec<&str> {
    state["shards"].as_array().expect("a list").iter().map(|row| row[1].as_str().expect("a word")).collect()
}

fn are_connected(state: &Value, count: usize) -> bool {
    states(state) == vec!["connected"; count]
}

#[tokio::test]
async fn shards_are_seen_to_connect_to_go_and_to_come_back() {
    let settings = Settings { recommended_shards: 3, max_concurrency: 3, guilds: 6, ..Bed::settings() };
    let bed = Bed::new(&broker(), settings);
    let mut optic = bed.optic();
    let address = address(&optic).await;
    let mut viewer = Viewer::at(&address).await;
    let state = viewer.sees("three shards connected", |state| are_connected(state, 3)).await;
    assert_eq!((&state["shard_count"], &state["group"]), (&json!(3), &json!(bed.group)));
    assert_eq!(state["processes"][0]["shards"], "0-2");
    let resumes = |state: &Value| state["shards"][1][8].as_u64();
    assert_eq!(resumes(&state), Some(0));
    // Sent away again at each try, it is seen to be away.
    bed.gateway.control("hello-reconnect", "count=1000000");
    bed.gateway.control("drop", "shard=1");
    let state = viewer.sees("a shard that is away", |state| !are_connected(state, 3)).await;
    assert_ne!(states(&state)[1], "connected");
    assert!(state["problems"][0].as_str().is_some_and(|problem| problem.starts_with("shard 1 is ")), "{state}");
    bed.gateway.control("hello-reconnect", "count=0");
    let state = viewer.sees("all are back", |state| are_connected(state, 3)).await;
    assert!(resumes(&state) >= Some(1), "{state}");
    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0), "{}", optic.stderr().join("\n"));
}

#[tokio::test]
async fn one_page_shows_the_processes_of_the_group_and_clients_of_all() {
    let bed = SingyeongBed::new().with("HTTP_ADDRESS", "127.0.0.1:0");
    let (one, other) = (bed.start().await, bed.start().await);
    let here = address(&one.optic).await;
    let mut viewer = Viewer::at(&here).await;
    let _a = SingyeongClient::identify(&other.address, "music", "a").await;
    let both = |state: &Value| {
        let processes = state["processes"].as_array().expect("a list");
        processes.len() == 2 && state["singyeong"]["clients"] == 1
    };
    viewer.sees("both processes and their client", both).await;
    let question = json!({"target": {"application": "music", "ops": [{"path": "/n", "op": "$eq", "to": {"value": 1}}]}, "limit": 10});
    let head = format!("host: {here}\r\n");
    let answer = must("the client at the other process", async {
        loop {
            let (status, body) = ask(&here, "POST", "/api/singyeong/clients", &head, &question.to_string()).await;
            assert_eq!(status, 200, "{body}");
            let answer: Value = serde_json::from_str(&body).expect("JSON");
            if answer["total"] == 1 {
                return answer;
            }
        }
    })
    .await;
    assert_eq!((&answer["matching"], &answer["send"]), (&json!(0), &json!("is refused: nobody matches")));
    assert_eq!(answer["clients"][0]["client"], "a");
    assert_eq!(answer["clients"][0]["why_not"], "/n $eq 1: it has nothing there");
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn who_asks_by_another_name_or_for_another_tells_the_token() {
    let bed = Bed::new(&broker(), Bed::settings());
    for token in [None, Some(TOKEN)] {
        let mut optic = optic_with(&bed, token);
        let address = address(&optic).await;
        let local = format!("host: {address}\r\n");
        let bearer = format!("authorization: Bearer {TOKEN}\r\n");
        let refused = if token.is_some() { 401 } else { 403 };
        for (head, status) in [
            (local.clone(), 200),
            ("host: localhost\r\n".to_owned(), 200),
            ("host: optic.example\r\n".to_owned(), refused),
            (format!("{local}x-forwarded-for: 192.0.2.1\r\n"), refused),
            (format!("host: optic.example\r\n{bearer}"), if token.is_some() { 200 } else { 403 }),
        ] {
            let (told, body) = ask(&address, "GET", "/api/chart/events.svg", &head, "").await;
            assert_eq!(told, status, "{token:?} {head} {body}");
            let (told, _) = ask(&address, "GET", "/", &head, "").await;
            assert_eq!(told, 200, "the page itself is for all: {head}");
        }
        let order = "/api/amybot/services/music/shutdown";
        assert_eq!(ask(&address, "POST", order, &local, "").await.0, refused, "also on the machine itself");
        optic.terminate().await;
        assert_eq!(optic.wait().await.code(), Some(0), "{}", optic.stderr().join("\n"));
    }
}

fn optic_with(bed: &Bed, token: Option<&str>) -> OpticProcess {
    bed.optic_with(&token.map(|token| ("HTTP_TOKEN", token)).into_iter().collect::<Vec<_>>())
}
