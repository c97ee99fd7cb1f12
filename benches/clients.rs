//! Ten thousand 신경 clients at one Optic: how long they take to connect, and what a SEND costs whose query goes over all of them.
//!
//! Run by `scripts/measure clients`, which starts RabbitMQ and Optic and measures Optic's memory:
//! `clients ADDRESS CLIENTS SENDS`. Prints a line of JSON when all are connected, and one for the SENDs.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

type Socket = WebSocketStream<TcpStream>;

/// Senders in the flood, each with its share of the SENDs under way.
const SENDERS: usize = 16;
/// SENDs under way at a time, over all senders.
const WINDOW: usize = 512;
/// Connections being made at a time.
const CONNECTING: usize = 64;
const APPLICATION: &str = "bench";

/// Who received which SEND, and when.
type Arrivals = mpsc::UnboundedReceiver<(u64, Instant)>;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (Some(address), Some(clients), Some(sends)) = (arguments.next(), arguments.next(), arguments.next()) else {
        // `cargo bench` and `cargo test --benches` start it without.
        eprintln!("clients: run by scripts/measure clients");
        return;
    };
    let (clients, sends) = (clients.parse().expect("a number of clients"), sends.parse().expect("a number of SENDs"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(&address, clients, sends));
}

async fn run(address: &str, clients: usize, sends: u64) {
    let started = Instant::now();
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let connecting = (0..clients).map(|n| connect(address, format!("client-{n}"), Some(n)));
    let mut connecting = futures_util::stream::iter(connecting).buffer_unordered(CONNECTING);
    let mut receivers = tokio::task::JoinSet::new();
    while let Some(socket) = connecting.next().await {
        receivers.spawn(receive(socket, arrived.clone()));
    }
    report(json!({"clients": clients, "connected_s": started.elapsed().as_secs_f64()}));
    // Whoever measures memory says when it has.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line to go on");
    let mut senders = Vec::new();
    for n in 0..SENDERS {
        senders.push(connect(address, format!("sender-{n}"), None).await);
    }
    let alone = latencies(&mut senders[..1], &mut arrivals, clients, sends / 10, 1).await;
    let began = Instant::now();
    let flood = latencies(&mut senders, &mut arrivals, clients, sends, WINDOW).await;
    let took = began.elapsed().as_secs_f64();
    report(json!({
        "alone_p50_ms": percentile(&alone, 0.5), "alone_p99_ms": percentile(&alone, 0.99),
        "sends": sends, "sends_per_s": sends as f64 / took,
        "flood_p50_ms": percentile(&flood, 0.5), "flood_p99_ms": percentile(&flood, 0.99),
    }));
    receivers.shutdown().await;
}

/// Connects and identifies; with a number, that is its metadata.
async fn connect(address: &str, client: String, number: Option<usize>) -> Socket {
    let stream = TcpStream::connect(address).await.expect("Optic listens");
    stream.set_nodelay(true).expect("a socket");
    let config = WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0);
    let url = format!("ws://{address}/gateway/websocket");
    let upgraded = tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await;
    let (mut socket, _) = upgraded.expect("a websocket");
    let metadata = match number {
        Some(n) => json!({"n": {"type": "integer", "value": n}, "region": {"type": "string", "value": "eu-west"}}),
        None => json!({}),
    };
    let application = if number.is_some() { APPLICATION } else { "senders" };
    let identify = json!({"client_id": client, "application_id": application, "metadata": metadata});
    write(&mut socket, json!({"op": 1, "d": identify})).await;
    loop {
        let packet = read(&mut socket).await.expect("an answer");
        match packet["op"].as_u64() {
            Some(0) => {}
            Some(2) => return socket,
            _ => panic!("not ready: {packet}"),
        }
    }
}

async fn receive(mut socket: Socket, arrived: mpsc::UnboundedSender<(u64, Instant)>) {
    while let Some(packet) = read(&mut socket).await {
        if let Some(nonce) = packet["d"]["nonce"].as_u64()
            && arrived.send((nonce, Instant::now())).is_err()
        {
            return;
        }
    }
}

/// Sends so many, never more than `window` under way; the milliseconds that each took, sorted.
async fn latencies(
    senders: &mut [Socket],
    arrivals: &mut Arrivals,
    clients: usize,
    sends: u64,
    window: usize,
) -> Vec<f64> {
    let mut under_way = HashMap::new();
    let mut took = Vec::with_capacity(sends as usize);
    let mut next = 0;
    while took.len() < sends as usize {
        while under_way.len() < window && next < sends {
            let to = fastrand::usize(..clients);
            let target = json!({
                "application": APPLICATION, "ops": [{"path": "/n", "op": "$eq", "to": {"value": to}}],
            });
            let send = json!({"target": target, "nonce": next, "payload": {"text": "x".repeat(100)}});
            under_way.insert(next, Instant::now());
            let sender = next as usize % senders.len();
            write(&mut senders[sender], json!({"op": 4, "t": "SEND", "d": send})).await;
            next += 1;
        }
        let arrival = tokio::time::timeout(Duration::from_secs(30), arrivals.recv()).await.expect("no SEND is lost");
        let (nonce, at) = arrival.expect("the receivers live");
        let sent = under_way.remove(&nonce).expect("each comes once");
        took.push((at - sent).as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    took
}

async fn write(socket: &mut Socket, packet: Value) {
    socket.send(Message::text(packet.to_string())).await.expect("Optic reads");
}

async fn read(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return Some(serde_json::from_str(&text).expect("JSON")),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

fn percentile(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

fn report(line: Value) {
    use std::io::Write as _;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).expect("standard output");
}
