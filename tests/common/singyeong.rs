//! Optic as a 신경 server, and a client in as few lines as floods need.

use std::collections::VecDeque;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::{Bed, OpticProcess, broker, must, unique_group};

type Socket = WebSocketStream<TcpStream>;

/// How Optic is started: without Discord, as long as no bed says otherwise.
pub struct SingyeongBed {
    pub group: String,
    environment: Vec<(String, String)>,
}

/// An Optic that serves 신경.
pub struct SingyeongServer {
    pub optic: OpticProcess,
    pub address: String,
}

impl SingyeongBed {
    /// Without a bot.
    pub fn new() -> Self {
        let group = unique_group();
        let bed = Self { group: group.clone(), environment: Vec::new() };
        bed.with("AMQP_URL", &broker())
            .with("BROKER_GROUP", &group)
            .with("HTTP_ADDRESS", "off")
            .with("SINGYEONG_ADDRESS", "127.0.0.1:0")
    }

    /// With the bot of this bed.
    pub fn of(bed: &Bed) -> Self {
        Self { group: bed.group.clone(), environment: bed.environment.clone() }.with("SINGYEONG_ADDRESS", "127.0.0.1:0")
    }

    /// With this variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts Optic and waits until it serves.
    pub async fn start(&self) -> SingyeongServer {
        self.start_at("127.0.0.1:0").await
    }

    /// The same at this address.
    pub async fn start_at(&self, address: &str) -> SingyeongServer {
        let own = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let environment: Vec<_> = own.chain([("SINGYEONG_ADDRESS", address)]).collect();
        let optic = OpticProcess::spawn(&["run"], &environment);
        let line = optic.wait_for_line("신경 is served").await;
        let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.expect("the line has it").to_owned();
        SingyeongServer { optic, address }
    }
}

/// An address to listen at, once and again: below the ports that a system gives to others in the meantime.
pub fn lasting_address() -> String {
    loop {
        let address = format!("127.0.0.1:{}", fastrand::u16(10_000..20_000));
        if std::net::TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

impl SingyeongServer {
    /// SIGTERM; it must end in order.
    pub async fn stop(mut self) {
        self.optic.terminate().await;
        assert_eq!(self.optic.wait().await.code(), Some(0), "{}", self.optic.stderr().join("\n"));
    }

    /// kill -9.
    pub async fn kill(mut self) {
        self.optic.kill().await;
    }
}

/// A client that speaks JSON.
pub struct SingyeongClient {
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
    /// What was heard while something else was waited for.
    heard: VecDeque<Value>,
}

impl SingyeongClient {
    /// Connects and identifies.
    pub async fn identify(address: &str, application: &str, client: &str) -> Self {
        Self::identify_with(address, json!({ "application_id": application, "client_id": client }))
            .await
            .unwrap_or_else(|refusal| panic!("{application} {client}: {refusal}"))
    }

    /// Connects and identifies by these words.
    ///
    /// # Errors
    /// What the server says when it does not take them.
    pub async fn identify_with(address: &str, identify: Value) -> Result<Self, Value> {
        let stream = TcpStream::connect(address).await.expect("Optic listens");
        let url = format!("ws://{address}/gateway/websocket");
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("a websocket");
        let (sink, stream) = socket.split();
        let mut client = Self { sink, stream, heard: VecDeque::new() };
        client.say(json!({ "op": 1, "d": identify })).await;
        let ready = must("ready", client.next(|packet| packet["op"] != 0)).await.expect("it goes on");
        if ready["op"] == 2 { Ok(client) } else { Err(ready["d"].clone()) }
    }

    /// Says a packet; whether the server hears it is not known. False: it is gone.
    pub async fn say(&mut self, packet: Value) -> bool {
        self.sink.send(Message::text(packet.to_string())).await.is_ok()
    }

    /// Says a dispatch.
    pub async fn dispatch(&mut self, name: &str, data: Value) -> bool {
        self.say(json!({ "op": 4, "t": name, "d": data })).await
    }

    /// The first packet that is wanted, heard already or to come. `None` when the connection has ended.
    pub async fn next(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        if let Some(packet) = self.next_heard(&wanted) {
            return Some(packet);
        }
        loop {
            let packet = match self.stream.next().await? {
                Ok(Message::Text(text)) => serde_json::from_str(&text).expect("JSON"),
                Ok(_) => continue,
                Err(_) => return None,
            };
            if wanted(&packet) {
                return Some(packet);
            }
            self.heard.push_back(packet);
        }
    }

    /// The first packet that is wanted of those that are here already.
    pub fn next_heard(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let at = self.heard.iter().position(wanted)?;
        self.heard.remove(at)
    }

    /// Whether a dispatch of this name is here already.
    pub fn heard(&self, name: &str) -> bool {
        self.heard.iter().any(|packet| packet["t"] == name)
    }

    /// The `d` of the next dispatch of this name.
    pub async fn dispatched(&mut self, name: &str) -> Value {
        let packet = must(name, self.next(|packet| packet["op"] == 4 && packet["t"] == name)).await;
        packet.unwrap_or_else(|| panic!("closed, waiting for {name}; heard {:?}", self.heard))["d"].take()
    }

    /// Hears what comes, and answers pings, while something else is done.
    pub async fn listen_during<T>(&mut self, other: impl Future<Output = T>) -> T {
        tokio::select! {
            done = other => done,
            _ = self.next(|_| false) => panic!("closed; heard {:?}", self.heard),
        }
    }

    /// Everything said before was worked on. False: the connection has ended.
    pub async fn settled(&mut self) -> bool {
        self.say(json!({ "op": 5, "d": null })).await
            && must("a heartbeat's answer", self.next(|packet| packet["op"] == 6)).await.is_some()
    }

    /// The clients of this application, as (node, client id, metadata).
    pub async fn clients_of(&mut self, application: &str) -> Vec<(String, String, Value)> {
        self.dispatch("QUERY_NODES", json!({ "application": application })).await;
        let nodes = self.dispatched("QUERY_NODES").await;
        let nodes = nodes["nodes"].as_object().expect("by node").clone();
        let clients = nodes.into_iter().flat_map(|(node, clients)| {
            let clients = clients.as_array().expect("a list").clone();
            clients.into_iter().map(move |client| {
                let id = client["client_id"].as_str().expect("a text").to_owned();
                (node.clone(), id, client["metadata"].clone())
            })
        });
        let mut clients: Vec<_> = clients.collect();
        clients.sort_by(|(_, one, _), (_, other, _)| one.cmp(other));
        clients
    }

    /// Asks again and again who there is, until it is as wanted.
    pub async fn sees(&mut self, application: &str, what: &str, wanted: impl Fn(&[(String, String, Value)]) -> bool) {
        must(what, async {
            while !wanted(&self.clients_of(application).await) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}
