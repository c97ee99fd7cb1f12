//! A gateway client of few words, and a simulator to talk to.

use std::net::SocketAddr;
use std::time::Duration;

use flate2::{Decompress, FlushDecompress};
use futures_util::{SinkExt, StreamExt};
use optic::discord::compression::Encoding;
use optic::discord::intents::Intents;
use optic::discord::wire;
use optic::encoding;
use optic::simulator::{Handle, Settings, Simulator};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_util::sync::CancellationToken;
use zstd_safe::{DCtx, InBuffer, OutBuffer};

/// Longer than anything takes: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A simulator that runs.
pub struct Running {
    pub address: SocketAddr,
    pub handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn start(settings: Settings) -> Self {
        let simulator = Simulator::bind(settings).await.expect("a free port");
        let stop = CancellationToken::new();
        let (address, handle) = (simulator.address(), simulator.handle());
        Self { address, handle, task: tokio::spawn(simulator.run(stop.clone())), stop }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.expect("it stops").expect("it did not panic");
    }

    pub fn control(&self, verb: &str, query: &str) {
        self.handle.control(verb, query, b"").expect("a valid control request");
    }

    /// Waits for something that only shows from outside.
    pub async fn until(&self, holds: impl Fn(&Handle) -> bool) {
        let wait = async {
            while !holds(&self.handle) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("it comes to hold");
    }

    /// A connection that got its Hello, unless it is about to be closed.
    pub async fn connect(&self, compression: &str) -> Client {
        let mut client = self.raw(compression).await;
        assert_eq!(client.packet().await["op"], 10);
        client
    }

    pub async fn raw(&self, compression: &str) -> Client {
        let encoding = if compression.contains("encoding=") { "" } else { "&encoding=json" };
        self.connect_with(&format!("v=10{encoding}{compression}")).await
    }

    pub async fn connect_with(&self, query: &str) -> Client {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        let url = format!("ws://{}/?{query}", self.address);
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("an upgrade");
        let inflate = match query {
            _ if query.contains("zlib") => Inflate::Zlib(Decompress::new(true), Vec::new()),
            _ if query.contains("zstd") => Inflate::Zstd(DCtx::create()),
            _ => Inflate::None,
        };
        let encoding = if query.contains("encoding=etf") { Encoding::Etf } else { Encoding::Json };
        Client { socket, encoding, inflate }
    }

    /// Status and body.
    pub async fn get(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        let authorization = token.map_or(String::new(), |token| format!("Authorization: Bot {token}\r\n"));
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{authorization}Connection: close\r\n\r\n", self.address);
        stream.write_all(head.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head[9..12].parse().expect("a status"), serde_json::from_str(body).expect("JSON"))
    }
}

enum Inflate {
    None,
    Zlib(Decompress, Vec<u8>),
    Zstd(DCtx<'static>),
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    Closed(u16),
    Eof,
    Broken,
}

pub struct Client {
    socket: WebSocketStream<TcpStream>,
    encoding: Encoding,
    inflate: Inflate,
}

impl Client {
    pub async fn send(&mut self, packet: &Value) {
        match self.encoding {
            Encoding::Json => self.send_text(&packet.to_string()).await,
            Encoding::Etf => {
                let packet = packet.to_string();
                self.send_binary(&wire::write(self.encoding, packet.as_bytes()).expect("JSON")).await;
            }
        }
    }

    pub async fn send_binary(&mut self, packet: &[u8]) {
        // As of text.
        let _ = self.socket.send(Message::binary(packet.to_vec())).await;
    }

    pub async fn send_text(&mut self, packet: &str) {
        // The connection may be closed already: what it ended with is asked afterwards.
        let _ = self.socket.send(Message::text(packet)).await;
    }

    pub async fn send_identify(&mut self, intents: Intents, shard: [u32; 2]) {
        let d = json!({"token": "token", "properties": {"os": "x"}, "intents": intents.bits(), "shard": shard});
        self.send(&json!({"op": 2, "d": d})).await;
    }

    /// Identifies; the answer.
    pub async fn identify(&mut self, intents: Intents, shard: [u32; 2]) -> Value {
        self.send_identify(intents, shard).await;
        self.packet().await
    }

    pub async fn resume(&mut self, session: &Value, seq: u64) {
        self.send(&json!({"op": 6, "d": {"token": "token", "session_id": session, "seq": seq}})).await;
    }

    pub async fn events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.packet().await);
        }
        events
    }

    /// The next packet.
    pub async fn packet(&mut self) -> Value {
        match self.next().await {
            Ok(packet) => packet,
            Err(ended) => panic!("a packet was expected, but the connection {ended:?}"),
        }
    }

    /// How the connection ends, whatever comes before.
    pub async fn ended(&mut self) -> Ended {
        self.rest().await.pop().expect("an end")
    }

    /// Reads to the end.
    pub async fn rest(&mut self) -> Vec<Ended> {
        loop {
            if let Err(ended) = self.next().await {
                return vec![ended];
            }
        }
    }

    pub async fn close(mut self, code: u16) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
        self.socket.close(Some(frame)).await.expect("a close");
        assert_eq!(self.ended().await, Ended::Closed(code));
    }

    /// Cuts TCP without a word.
    pub fn cut(self) {}

    /// Whether nothing has come, once everything that was on its way is here.
    pub async fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        timeout(Duration::from_millis(50), self.socket.get_ref().peek(&mut byte)).await.is_err()
    }

    async fn next(&mut self) -> Result<Value, Ended> {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("something comes in time");
            let packet = match message {
                None => return Err(Ended::Eof),
                Some(Err(error)) => return Err(ended_by(&error)),
                Some(Ok(Message::Close(frame))) => {
                    return Err(Ended::Closed(frame.map_or(1005, |frame| frame.code.into())));
                }
                Some(Ok(Message::Text(text))) => Some(text.as_bytes().to_vec()),
                Some(Ok(Message::Binary(bytes))) => self.inflate.message(&bytes),
                Some(Ok(_)) => None,
            };
            if let Some(packet) = packet {
                let value = encoding::read(self.encoding.into(), &packet).expect("a packet");
                let mut json = Vec::new();
                encoding::write(encoding::Encoding::Json, &value, &mut json);
                return Ok(serde_json::from_slice(&json).expect("JSON"));
            }
        }
    }
}

fn ended_by(error: &tokio_tungstenite::tungstenite::Error) -> Ended {
    use tokio_tungstenite::tungstenite::Error;
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ended::Eof,
        _ => Ended::Broken,
    }
}

impl Inflate {
    fn message(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(4 << 20);
        match self {
            Self::None => out.extend_from_slice(message),
            Self::Zlib(context, pending) => {
                pending.extend_from_slice(message);
                if !pending.ends_with(&[0, 0, 0xff, 0xff]) {
                    return None;
                }
                context.decompress_vec(pending, &mut out, FlushDecompress::Sync).expect("valid deflate");
                pending.clear();
            }
            Self::Zstd(context) => {
                let mut input = InBuffer::around(message);
                while input.pos() < message.len() {
                    let at = out.len();
                    let mut room = OutBuffer::around_pos(&mut out, at);
                    context.decompress_stream(&mut room, &mut input).expect("valid zstd");
                }
            }
        }
        Some(out)
    }
}
