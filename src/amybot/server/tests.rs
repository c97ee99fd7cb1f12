//! Over real sockets, with another library's client and a coordinator that the test plays.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use super::*;
use crate::amybot::internal::{Client, Internal};
use crate::cluster::node::NodeId;
use crate::websocket::Listener;
use crate::websocket::http::{Front, NoRest};

async fn must<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap_or_else(|_| panic!("gave up waiting: {what}"))
}

/// What was told, and what makes it safe.
type Told = (Internal, oneshot::Sender<()>);

struct Coordinator {
    told: mpsc::UnboundedSender<Told>,
    /// Whether there is a queue for answers.
    is_there: watch::Sender<bool>,
    joined: Mutex<Vec<(u64, Outbox)>>,
    parted: mpsc::UnboundedSender<u64>,
}

impl Line for Coordinator {
    fn join(&self, connection: u64, outbox: Outbox) -> BoxFuture<'static, Client> {
        self.joined.lock().expect("not poisoned").push((connection, outbox));
        let mut is_there = self.is_there.subscribe();
        Box::pin(async move {
            is_there.wait_for(|is_there| *is_there).await.expect("the test goes on");
            Client { node: NodeId::of_run("here", 1), connection, reply_to: "answers".to_owned() }
        })
    }

    fn tell(&self, _connection: u64, what: Internal) -> BoxFuture<'static, ()> {
        let (safe, is_safe) = oneshot::channel();
        let _ = self.told.send((what, safe));
        Box::pin(is_safe.map(drop))
    }

    fn lost(&self, _client: &Client) -> BoxFuture<'static, ()> {
        let mut is_there = self.is_there.subscribe();
        Box::pin(async move { drop(is_there.wait_for(|is_there| !is_there).await) })
    }

    fn part(&self, connection: u64) {
        let _ = self.parted.send(connection);
    }
}

struct Running {
    address: SocketAddr,
    coordinator: Arc<Coordinator>,
    told: mpsc::UnboundedReceiver<Told>,
    parted: mpsc::UnboundedReceiver<u64>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let listener = Listener::bind("AMYBOT_ADDRESS", "127.0.0.1:0".parse().expect("an address"));
        let listener = listener.expect("a free port");
        let ((tell, told), (part, parted)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let is_there = watch::Sender::new(true);
        let coordinator = Arc::new(Coordinator { told: tell, is_there, joined: Mutex::default(), parted: part });
        let entrance = Entrance::new(coordinator.clone(), limits);
        let (address, stop) = (listener.address(), CancellationToken::new());
        let front = Front::new(vec![Arc::new(entrance)], Arc::new(NoRest));
        let task = tokio::spawn(listener.run(front, stop.clone()));
        Self { address, coordinator, told, parted, stop, task }
    }

    async fn connect(&self) -> Result<Service, u16> {
        let stream = TcpStream::connect(self.address).await.expect("connects");
        match tokio_tungstenite::client_async(format!("ws://{}{PATH}", self.address), stream).await {
            Ok((socket, _)) => Ok(Service(socket)),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no handshake: {error}"),
        }
    }

    /// A service whose IDENTIFY the coordinator has.
    async fn identified(&mut self, name: &str) -> Service {
        let mut service = self.connect().await.expect("a websocket");
        service.says(name, "gateway:opcode", json!({"opcode": 0})).await;
        assert_eq!(self.hears().await, format!("{name} gateway:opcode {{\"opcode\":0}}"));
        service
    }

    /// What the coordinator is told next; it is safe at once.
    async fn hears(&mut self) -> String {
        let (told, safe) = must("something told", self.told.recv()).await.expect("the server runs");
        // The connection may be gone.
        let _ = safe.send(());
        in_words(&told)
    }

    fn outbox(&self) -> Outbox {
        self.coordinator.joined.lock().expect("not poisoned").last().expect("somebody joined").1.clone()
    }

    async fn stop(self) {
        self.stop.cancel();
        must("the server's end", self.task).await.expect("ends in order");
    }
}

fn in_words(told: &Internal) -> String {
    match told {
        Internal::Said(_, message) => format!("{} {} {}", message.s, message.t, message.d),
        Internal::Left(client) => format!("left {}", client.connection),
        other => panic!("nobody says {other:?}"),
    }
}

struct Service(WebSocketStream<TcpStream>);

impl Service {
    async fn says(&mut self, s: &str, t: &str, d: Value) {
        self.0.send(Message::text(json!({"s": s, "t": t, "d": d}).to_string())).await.expect("is sent");
    }

    async fn hears(&mut self) -> Value {
        loop {
            match must("a message", self.0.next()).await.expect("is open").expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Code and reason of the close.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(frame) = must("a close", self.0.next()).await.expect("a close").expect("a message") {
                return frame.map(|frame| (frame.code.into(), frame.reason.to_string())).unwrap_or_default();
            }
        }
    }
}

#[tokio::test]
async fn what_a_service_says_is_told_in_order_and_at_last_that_it_has_gone() {
    let mut server = Running::start();
    let mut service = server.identified("bot").await;
    for n in 0..100 {
        service.says("bot", "gateway-proxy:bot:x", json!(n)).await;
    }
    service.0.close(None).await.expect("closes");
    for n in 0..100 {
        assert_eq!(server.hears().await, format!("bot gateway-proxy:bot:x {n}"));
    }
    assert_eq!(server.hears().await, "left 1");
    assert_eq!(must("its end", server.parted.recv()).await, Some(1));
    server.stop().await;
}

#[tokio::test]
async fn what_the_coordinator_says_reaches_the_service() {
    let mut server = Running::start();
    let mut service = server.identified("bot").await;
    let text = r#"{"s":"gateway","t":"gateway:opcode","d":{"opcode":11,"shard_id":1,"shard_count":2}}"#;
    server.outbox().push(text.as_bytes());
    assert_eq!(service.hears().await, serde_json::from_str::<Value>(text).expect("JSON"));
    server.stop().await;
}

#[tokio::test]
async fn a_backlog_is_bounded_and_goes_on_where_it_was() {
    let mut server = Running::start();
    let mut service = server.identified("bot").await;
    let most = Limits::default().backlog;
    for n in 0..most + 10 {
        service.says("bot", "gateway-proxy:bot:x", json!(n)).await;
    }
    let (first, safe) = must("the first", server.told.recv()).await.expect("one");
    assert_eq!(in_words(&first), "bot gateway-proxy:bot:x 0");
    // Another's words come through, though this one's are not safe.
    let _other = server.identified("other").await;
    assert!(server.told.try_recv().is_err(), "one at a time of a connection");
    safe.send(()).expect("is awaited");
    for n in 1..most + 10 {
        assert_eq!(server.hears().await, format!("bot gateway-proxy:bot:x {n}"));
    }
    server.stop().await;
}

#[tokio::test]
async fn who_breaks_the_rules_is_closed_with_a_reason() {
    let mut server = Running::start();
    let mut service = server.connect().await.expect("a websocket");
    service.says("bot", "gateway:opcode", json!({"opcode": "10"})).await;
    let answer = service.hears().await;
    assert_eq!(answer["d"], json!({"opcode": 10, "accepted": false, "reason": "the first message must be IDENTIFY"}));
    assert_eq!(service.closed().await, (4003, "the first message must be IDENTIFY".to_owned()));
    for (message, code, why) in [
        (Message::text("hello"), 4002, "it is no message"),
        (Message::binary(vec![0x80]), 1003, "messages are texts"),
        (Message::text("x".repeat((1 << 20) + 1)), 1009, "a message of more than 1048576 bytes"),
    ] {
        let mut service = server.identified("bot").await;
        service.0.send(message).await.expect("is sent");
        let (closed, reason) = service.closed().await;
        assert_eq!(closed, code, "{reason}");
        assert!(reason.starts_with(why), "{reason}");
        assert!(server.hears().await.starts_with("left"));
    }
    server.stop().await;
}

#[tokio::test]
async fn another_name_is_refused_and_the_service_stays() {
    let mut server = Running::start();
    let mut service = server.identified("bot").await;
    service.says("other", "gateway-proxy:other:x", json!(1)).await;
    let answer = service.hears().await;
    assert_eq!((&answer["s"], &answer["d"]["accepted"]), (&json!("gateway"), &json!(false)));
    service.says("bot", "gateway-proxy:bot:x", json!(2)).await;
    assert_eq!(server.hears().await, "bot gateway-proxy:bot:x 2", "the other's was not told");
    server.stop().await;
}

#[tokio::test]
async fn the_silent_are_pinged_and_those_without_identify_closed() {
    let short = Duration::from_millis(50);
    let mut server = Running::with(Limits { identify: short, ping: short, ..Limits::default() });
    let mut silent = server.connect().await.expect("a websocket");
    assert_eq!(silent.closed().await.0, 4003);
    let mut service = server.identified("bot").await;
    loop {
        // The library answers.
        if must("a ping", service.0.next()).await.expect("is open").expect("a frame").is_ping() {
            break;
        }
    }
    service.says("bot", "gateway-proxy:bot:x", json!(1)).await;
    assert_eq!(server.hears().await, "bot gateway-proxy:bot:x 1");
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_read_is_closed() {
    let mut server = Running::with(Limits { client_buffer: 1 << 20, ..Limits::default() });
    let mut service = server.identified("bot").await;
    let (outbox, text) = (server.outbox(), "\"".to_owned() + &"x".repeat(100_000) + "\"");
    while outbox.closing().is_none() {
        outbox.push(text.as_bytes());
        tokio::task::yield_now().await;
    }
    assert_eq!(service.closed().await.0, 4008);
    server.stop().await;
}

#[tokio::test]
async fn a_place_is_free_once_the_coordinator_knows_that_its_service_has_gone() {
    let mut server = Running::with(Limits { connections: 1, ..Limits::default() });
    let service = server.identified("bot").await;
    assert_eq!(server.connect().await.err(), Some(503));
    drop(service);
    let (left, safe) = must("that it left", server.told.recv()).await.expect("one");
    assert_eq!((in_words(&left), server.connect().await.err()), ("left 1".to_owned(), Some(503)));
    safe.send(()).expect("is awaited");
    must("a place", async {
        while server.connect().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_service_may_come_before_the_coordinator_can_be_reached() {
    let mut server = Running::start();
    server.coordinator.is_there.send_replace(false);
    let mut service = server.connect().await.expect("a websocket");
    service.says("bot", "gateway:opcode", json!({"opcode": 0})).await;
    must("its wish to be known", async {
        while server.coordinator.joined.lock().expect("not poisoned").is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.coordinator.is_there.send_replace(true);
    assert_eq!(server.hears().await, "bot gateway:opcode {\"opcode\":0}");
    server.stop().await;
}

#[tokio::test]
async fn at_the_end_services_are_told_to_come_back_and_the_coordinator_that_they_left() {
    let mut server = Running::start();
    let mut service = server.identified("bot").await;
    server.stop.cancel();
    assert_eq!(service.closed().await, (1012, "Optic stops here; come back".to_owned()));
    assert_eq!(server.hears().await, "left 1");
    server.stop().await;
}
