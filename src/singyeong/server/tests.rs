//! Over real sockets, with another library's client.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as Code;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cluster::node::NodeId;
use crate::encoding::{Encoding, Value};
use crate::passwords::Passwords;
use crate::secret::Secret;
use crate::singyeong::exchange::{Later, Sender};
use crate::singyeong::ids::{Application, ClientKey};
use crate::singyeong::limits::Limits;
use crate::singyeong::outbox::Undeliverable;
use crate::singyeong::packet::dispatch::Dispatch;
use crate::singyeong::packet::outgoing::Outgoing;
use crate::websocket::Listener;
use crate::websocket::http::{Front, NoRest};

const PATIENCE: Duration = Duration::from_secs(60);

async fn must<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("gave up waiting: {what}"))
}

/// An exchange that tells what is dispatched and lets the test answer.
struct Told {
    dispatched: mpsc::UnboundedSender<(Sender, Dispatch, oneshot::Sender<Option<Outgoing>>)>,
    gone: mpsc::UnboundedSender<ClientKey>,
    /// Connections may be told to be gone more than once.
    told: std::sync::Mutex<std::collections::HashSet<ConnectionId>>,
}

impl Exchange for Told {
    fn dispatch(&self, sender: Sender, dispatch: Dispatch) -> Later<Option<Outgoing>> {
        let (answer, answered) = oneshot::channel();
        // The test may have seen enough.
        let _ = self.dispatched.send((sender, dispatch, answer));
        Box::pin(async { answered.await.unwrap_or_default() })
    }

    fn gone(&self, key: &ClientKey, connection: ConnectionId) {
        if self.told.lock().expect("not poisoned").insert(connection) {
            let _ = self.gone.send(key.clone());
        }
    }

    fn probe(&self, _node: &NodeId, _key: &ClientKey) -> Later<bool> {
        Box::pin(std::future::ready(false))
    }
}

struct Running {
    address: SocketAddr,
    hub: Arc<Hub>,
    dispatched: mpsc::UnboundedReceiver<(Sender, Dispatch, oneshot::Sender<Option<Outgoing>>)>,
    gone: mpsc::UnboundedReceiver<ClientKey>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start() -> Self {
        Self::with(Limits::default(), None)
    }

    fn with(limits: Limits, password: Option<&str>) -> Self {
        let server = Listener::bind("SINGYEONG_ADDRESS", "127.0.0.1:0".parse().expect("an address"));
        let server = server.expect("a free port");
        let hub = Arc::new(Hub::new(NodeId::of_run("here", 1)));
        let ((dispatch, dispatched), (go, gone)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let exchange = Arc::new(Told { dispatched: dispatch, gone: go, told: Default::default() });
        let passwords = Arc::new(Passwords::new(password.map(Secret::new)));
        let rules = Arc::new(Rules { limits, passwords, gateway: Application::new("G") });
        let services = Services { hub: Arc::clone(&hub), exchange, rules };
        let front = Front::new(vec![Arc::new(Entrance::new(services))], Arc::new(NoRest));
        let (address, stop) = (server.address(), CancellationToken::new());
        let task = tokio::spawn(server.run(front, stop.clone()));
        Self { address, hub, dispatched, gone, stop, task }
    }

    async fn connect(&self, path: &str) -> Result<Client, u16> {
        let stream = TcpStream::connect(self.address).await.expect("connects");
        self.open(stream, path).await
    }

    async fn open(&self, stream: TcpStream, path: &str) -> Result<Client, u16> {
        let request = format!("ws://{}{path}", self.address).into_client_request().expect("a request");
        let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => {
                let encoding = path.split_once("encoding=").and_then(|(_, name)| Encoding::of_name(name));
                Ok(Client { socket, encoding: encoding.unwrap_or(Encoding::Json) })
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no handshake: {error}"),
        }
    }

    /// A client of application `a` that is ready.
    async fn client(&self, id: &str) -> Client {
        let mut client = self.connect("/gateway/websocket").await.expect("a websocket");
        client.identify(id).await;
        client
    }

    /// The status line and body of the answer to a raw request.
    async fn ask(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("is sent");
        let mut answer = String::new();
        must("an answer", stream.read_to_string(&mut answer)).await.expect("is answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_owned(), body.to_owned())
    }

    async fn stop(self) {
        self.stop.cancel();
        must("the server's end", self.task).await.expect("ends in order");
    }
}

struct Client {
    socket: WebSocketStream<TcpStream>,
    encoding: Encoding,
}

impl Client {
    async fn says(&mut self, packet: Json) {
        let text = packet.to_string();
        let value = crate::encoding::json::read(text.as_bytes()).expect("JSON");
        let message = if self.encoding == Encoding::Json {
            Message::text(text)
        } else {
            let mut bytes = Vec::new();
            crate::encoding::write(self.encoding, &value, &mut bytes);
            Message::binary(bytes)
        };
        self.socket.send(message).await.expect("is sent");
    }

    /// The next packet; pings are answered and passed over.
    async fn hears(&mut self) -> Json {
        loop {
            match must("a packet", self.socket.next()).await.expect("is open").expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Binary(bytes) => {
                    let value = crate::encoding::read(self.encoding, &bytes).expect("a value");
                    let mut json = Vec::new();
                    crate::encoding::write(Encoding::Json, &value, &mut json);
                    return serde_json::from_slice(&json).expect("JSON");
                }
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The code with which the server closes; packets before it are passed over.
    async fn closed(&mut self) -> u16 {
        loop {
            let message = must("a close", self.socket.next()).await.expect("a close").expect("a message");
            if let Message::Close(frame) = message {
                return frame.map_or(1005, |frame| frame.code.into());
            }
        }
    }

    async fn identify(&mut self, id: &str) {
        let answer = self.identify_with(json!({"client_id": id, "application_id": "a"})).await;
        assert_eq!(answer["op"], 2, "{answer}");
        assert_eq!(answer["d"], json!({"client_id": id, "restricted": false}));
    }

    async fn identify_with(&mut self, d: Json) -> Json {
        let hello = self.hears().await;
        assert_eq!((&hello["op"], &hello["d"]["heartbeat_interval"]), (&json!(0), &json!(45_000)));
        self.says(json!({"op": 1, "d": d})).await;
        self.hears().await
    }

    async fn sends(&mut self, nonce: u64) {
        let d = json!({"target": {}, "payload": "p", "nonce": nonce});
        self.says(json!({"op": 4, "t": "SEND", "d": d})).await;
    }
}

fn key(id: &str) -> ClientKey {
    ClientKey::new("a", id)
}

fn message(payload: &str) -> Outgoing {
    Outgoing::message(false, Value::Null, Value::string(payload), None)
}

fn nonce(dispatch: &Dispatch) -> i64 {
    match dispatch {
        Dispatch::Send(message) => match message.nonce {
            Value::Integer(nonce) => nonce,
            ref other => panic!("no number: {other:?}"),
        },
        other => panic!("no SEND: {other:?}"),
    }
}

#[tokio::test]
async fn a_client_lives_in_every_encoding_and_by_both_paths() {
    let mut server = Running::start();
    let paths = ["/gateway/websocket", "/gateway/websocket/?encoding=msgpack", "/gateway/websocket?v=1&encoding=etf"];
    for (n, path) in paths.into_iter().enumerate() {
        let mut client = server.connect(path).await.expect("a websocket");
        client.identify(&format!("c{n}")).await;
        client.says(json!({"op": 5, "d": {"client_id": "whatever"}})).await;
        let ack = client.hears().await;
        assert_eq!((&ack["op"], &ack["d"]), (&json!(6), &json!({"client_id": format!("c{n}")})));
        let metadata = json!({"k": {"type": "integer", "value": n}});
        client.says(json!({"op": 4, "t": "UPDATE_METADATA", "d": metadata})).await;
        client.says(json!({"op": 4, "t": "QUERY_NODES", "d": {"application": "a"}})).await;
        let nodes = client.hears().await;
        assert_eq!((&nodes["op"], &nodes["t"]), (&json!(4), &json!("QUERY_NODES")));
        let mine = &nodes["d"]["nodes"][server.hub.own().as_str()][0];
        assert_eq!((&mine["client_id"], &mine["metadata"]["k"]), (&json!(format!("c{n}")), &json!(n)));
        client.sends(n as u64).await;
        let (sender, dispatch, answer) = must("a dispatch", server.dispatched.recv()).await.expect("one");
        assert_eq!((sender.key, nonce(&dispatch)), (key(&format!("c{n}")), n as i64));
        answer
            .send(Some(Outgoing::Invalid(crate::singyeong::packet::refusal::Refusal::new("no_route"))))
            .expect("is awaited");
        assert_eq!(client.hears().await["d"]["error"], "no_route");
        client.socket.close(Some(CloseFrame { code: Code::Library(4321), reason: "".into() })).await.expect("closes");
        assert_eq!(client.closed().await, 4321, "the client's own code comes back");
        assert_eq!(must("its end", server.gone.recv()).await, Some(key(&format!("c{n}"))));
        assert_eq!(server.hub.connected_here(), 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn answers_keep_the_order_of_the_questions_while_dispatches_are_under_way_together() {
    let mut server = Running::start();
    let mut client = server.client("c").await;
    for nonce in 0..3 {
        client.sends(nonce).await;
    }
    client.says(json!({"op": 5})).await;
    let mut answers = Vec::new();
    for expected in 0..3 {
        let (_, dispatch, answer) = must("a dispatch", server.dispatched.recv()).await.expect("one");
        assert_eq!(nonce(&dispatch), expected);
        answers.push(answer);
    }
    for (n, answer) in answers.into_iter().enumerate().rev() {
        answer.send(Some(message(&n.to_string()))).expect("is awaited");
    }
    for n in 0..3 {
        assert_eq!(client.hears().await["d"]["payload"], json!(n.to_string()));
    }
    assert_eq!(client.hears().await["op"], 6);
    server.stop().await;
}

#[tokio::test]
async fn no_more_than_some_dispatches_are_under_way_and_none_is_lost_when_the_client_goes() {
    let mut server = Running::start();
    let mut client = server.client("c").await;
    for nonce in 0..40 {
        client.sends(nonce).await;
    }
    let mut waiting = Vec::new();
    for _ in 0..32 {
        waiting.push(must("a dispatch", server.dispatched.recv()).await.expect("one").2);
    }
    // All is read that will be: another client's word has come through since.
    server.client("other").await;
    assert!(server.dispatched.try_recv().is_err());
    waiting.remove(0).send(None).expect("is awaited");
    let (_, dispatch, _answer) = must("a dispatch", server.dispatched.recv()).await.expect("one");
    assert_eq!(nonce(&dispatch), 32);
    drop(client);
    for answer in waiting {
        answer.send(None).expect("is still awaited");
    }
    server.stop().await;
}

#[tokio::test]
async fn requests_that_are_no_websocket_are_answered() {
    let server = Running::start();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let (head, body) = server.ask(&get("/gateway/websocket")).await;
    assert!(head.starts_with("HTTP/1.1 426 ") && body.is_empty(), "{head}{body}");
    let (head, _) = server.ask(&get("/")).await;
    assert!(head.starts_with("HTTP/1.1 302 ") && head.contains("location: /gateway/websocket"), "{head}");
    let (head, body) = server.ask(&get("/api/version")).await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert_eq!(body, r#"{"code":404,"error":"not found"}"#);
    for encoding in ["", "JSON", "xml"] {
        let refused = server.connect(&format!("/gateway/websocket?encoding={encoding}")).await;
        assert_eq!(refused.err(), Some(403), "{encoding}");
    }
    // Of another origin, with what is not supported.
    let mut request = format!("ws://{}/gateway/websocket", server.address).into_client_request().expect("a request");
    for (name, value) in [("origin", "https://elsewhere.example"), ("sec-websocket-extensions", "permessage-deflate")] {
        request.headers_mut().insert(name, value.parse().expect("a header"));
    }
    let stream = TcpStream::connect(server.address).await.expect("connects");
    let (_, response) = tokio_tungstenite::client_async(request, stream).await.expect("a websocket");
    assert!(!response.headers().contains_key("sec-websocket-extensions"));
    server.stop().await;
}

#[tokio::test]
async fn the_wrong_packet_is_told_and_closes() {
    let mut server = Running::start();
    let mut client = server.client("c").await;
    client.socket.send(Message::binary("{}".as_bytes().to_vec())).await.expect("is sent");
    let error = client.hears().await;
    assert_eq!(error["op"], 8);
    assert_eq!(error["d"]["error"], "decode: payload: invalid websocket opcode/encoding combo: {binary, json}");
    assert_eq!(client.closed().await, 4002);
    assert_eq!(must("its end", server.gone.recv()).await, Some(key("c")));
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_told_and_closes() {
    let server = Running::with(Limits { message: 1000, ..Limits::default() }, None);
    let mut client = server.client("c").await;
    client.socket.send(Message::text("x".repeat(200_000))).await.expect("is sent");
    let error = client.hears().await;
    assert_eq!((&error["op"], &error["d"]["error"]), (&json!(8), &json!("decode: payload: more than 1000 bytes")));
    assert_eq!(client.closed().await, 1009);
    server.stop().await;
}

#[tokio::test]
async fn metadata_that_grows_too_large_is_refused_and_the_client_stays() {
    let server = Running::with(Limits { metadata: 300, ..Limits::default() }, None);
    let mut client = server.client("c").await;
    for (name, is_refused) in [("one", false), ("two", true)] {
        let metadata = json!({name: {"type": "string", "value": "x".repeat(200)}});
        client.says(json!({"op": 4, "t": "UPDATE_METADATA", "d": metadata})).await;
        client.says(json!({"op": 5})).await;
        if is_refused {
            let refusal = client.hears().await;
            assert_eq!((&refusal["op"], &refusal["d"]["error"]), (&json!(3), &json!("invalid metadata")));
        }
        assert_eq!(client.hears().await["op"], 6);
    }
    let known = server.hub.get(&key("c")).expect("it is there");
    assert!(known.metadata.get("one").is_some() && known.metadata.get("two").is_none());
    server.stop().await;
}

#[tokio::test]
async fn pings_are_answered() {
    let server = Running::start();
    let mut client = server.client("c").await;
    client.socket.send(Message::Ping(vec![1, 2].into())).await.expect("is sent");
    let pong = must("a pong", client.socket.next()).await.expect("is open").expect("a message");
    assert_eq!(pong, Message::Pong(vec![1, 2].into()));
    server.stop().await;
}

#[tokio::test]
async fn a_healthy_client_keeps_its_ids() {
    let server = Running::start();
    let mut first = server.client("c").await;
    let mut second = server.connect("/gateway/websocket").await.expect("a websocket");
    let identify = second.identify_with(json!({"client_id": "c", "application_id": "a"}));
    // The first one's library answers the ping while it waits for a packet.
    let refused = tokio::select! {
        refused = identify => refused,
        packet = first.hears() => panic!("nobody has said this: {packet}"),
    };
    assert_eq!((&refused["op"], &refused["d"]["error"]), (&json!(8), &json!("c: already registered for app a")));
    assert_eq!(second.closed().await, 4005);
    first.says(json!({"op": 5})).await;
    assert_eq!(first.hears().await["op"], 6);
    assert_eq!(server.hub.connected_here(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_dead_client_is_replaced() {
    let mut server = Running::start();
    // It reads nothing, so that its library answers no ping.
    let mut dead = server.client("c").await;
    let _alive = server.client("c").await;
    assert_eq!(dead.closed().await, 4009);
    assert_eq!(must("its end", server.gone.recv()).await, Some(key("c")));
    assert!(server.hub.outbox(&key("c")).is_some_and(|outbox| outbox.closing().is_none()));
    server.stop().await;
}

#[tokio::test]
async fn who_waits_for_its_answers_and_is_not_read_is_no_dead_client() {
    let mut server = Running::start();
    // It reads nothing either, so that its library answers no ping.
    let mut busy = server.client("c").await;
    let mut waiting = Vec::new();
    for nonce in 0..32 {
        busy.sends(nonce).await;
        waiting.push(must("a dispatch", server.dispatched.recv()).await.expect("one").2);
    }
    let mut second = server.connect("/gateway/websocket").await.expect("a websocket");
    let refused = second.identify_with(json!({"client_id": "c", "application_id": "a"})).await;
    assert_eq!(refused["d"]["error"], "c: already registered for app a");
    for answer in waiting {
        answer.send(None).expect("is awaited");
    }
    busy.says(json!({"op": 5})).await;
    assert_eq!(busy.hears().await["op"], 6);
    server.stop().await;
}

#[tokio::test]
async fn a_restricted_client_takes_nobodys_ids_and_gives_way_to_others() {
    let mut server = Running::with(Limits::default(), Some("hunter2"));
    let restricted = json!({"client_id": "c", "application_id": "a"});
    let other = json!({"client_id": "c", "application_id": "a", "auth": "hunter2"});
    let mut first = server.connect("/gateway/websocket").await.expect("a websocket");
    assert_eq!(first.identify_with(restricted.clone()).await["d"]["restricted"], true);
    let mut second = server.connect("/gateway/websocket").await.expect("a websocket");
    // The one before is not asked: it could answer, or not.
    assert_eq!(second.identify_with(other).await["d"]["restricted"], false);
    assert_eq!(first.closed().await, 4005);
    // The second reads nothing now: it would count as dead, if it were asked.
    let mut third = server.connect("/gateway/websocket").await.expect("a websocket");
    assert_eq!(third.identify_with(restricted).await["op"], 8);
    assert_eq!(third.closed().await, 4005);
    second.says(json!({"op": 5})).await;
    assert_eq!(second.hears().await["op"], 6);
    assert!(server.gone.try_recv().is_err(), "a restricted client has never had anything from the exchange");
    server.stop().await;
}

#[tokio::test]
async fn a_large_burst_reaches_a_client_that_says_nothing() {
    let server = Running::start();
    let mut client = server.client("c").await;
    let large = "x".repeat(3000);
    // At once: the connection is told of it a single time.
    for _ in 0..500 {
        server.hub.deliver(&key("c"), message(&large), None).expect("there is room");
    }
    for _ in 0..500 {
        assert_eq!(client.hears().await["t"], "SEND");
    }
    server.stop().await;
}

#[tokio::test]
async fn questions_that_came_together_are_all_answered_though_the_answers_are_large() {
    let server = Running::start();
    // Of four bytes each: the answers to a few heartbeats are all that is put in at a time.
    let mut client = server.client(&"𝄞".repeat(200)).await;
    for _ in 0..1000 {
        client.socket.feed(Message::text(r#"{"op":5}"#)).await.expect("is taken");
    }
    client.socket.flush().await.expect("is sent");
    for _ in 0..1000 {
        assert_eq!(client.hears().await["op"], 6);
    }
    let metadata = json!({"k": {"type": "string", "value": "x".repeat(20_000)}});
    client.says(json!({"op": 4, "t": "UPDATE_METADATA", "d": metadata})).await;
    let question = json!({"op": 4, "t": "QUERY_NODES", "d": {"application": "a"}}).to_string();
    for _ in 0..50 {
        client.socket.feed(Message::text(question.clone())).await.expect("is taken");
    }
    client.socket.flush().await.expect("is sent");
    for _ in 0..50 {
        assert_eq!(client.hears().await["t"], "QUERY_NODES");
    }
    server.stop().await;
}

#[tokio::test]
async fn little_is_taken_of_who_is_not_known() {
    let limits = Limits { metadata: 1000, ..Limits::default() };
    let (large, most) = ("x".repeat(50_000), 2 * 1000 + (16 << 10));
    let server = Running::with(limits, Some("hunter2"));
    let mut stranger = server.connect("/gateway/websocket").await.expect("a websocket");
    let answer = stranger.identify_with(json!({"client_id": large, "application_id": "a"})).await;
    assert_eq!(answer["d"]["error"], format!("decode: payload: more than {most} bytes"));
    assert_eq!(stranger.closed().await, 1009);
    for (auth, is_known) in [(None, false), (Some("hunter2"), true)] {
        let mut client = server.connect("/gateway/websocket").await.expect("a websocket");
        let d = json!({"client_id": "c", "application_id": "a", "auth": auth});
        assert_eq!(client.identify_with(d).await["op"], 2);
        client.says(json!({"op": 5, "d": large})).await;
        assert_eq!(client.hears().await["op"], if is_known { 6 } else { 8 });
    }
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_password_restricts_after_a_while_and_the_right_one_does_not() {
    let server = Running::with(Limits::default(), Some("hunter2"));
    for (id, auth, restricted) in [("right", "hunter2", false), ("wrong", "hunter3", true)] {
        let mut client = server.connect("/gateway/websocket").await.expect("a websocket");
        let ready = client.identify_with(json!({"client_id": id, "application_id": "a", "auth": auth})).await;
        assert_eq!(ready["d"], json!({"client_id": id, "restricted": restricted}));
        client.sends(1).await;
        if restricted {
            let refusal = client.hears().await;
            assert_eq!(refusal["d"], json!({"error": "invalid dispatch type SEND (are you restricted?)"}));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn ready_comes_before_what_the_registration_brings() {
    let server = Running::start();
    let mut client = server.connect("/gateway/websocket").await.expect("a websocket");
    let d = json!({"client_id": "c", "application_id": "a", "receive_client_updates": true});
    assert_eq!(client.identify_with(d).await["op"], 2);
    let told = client.hears().await;
    assert_eq!((&told["t"], &told["d"]["payload"]), (&json!("CLIENT_CONNECTED"), &json!({"app": "a"})));
    server.stop().await;
}

#[tokio::test]
async fn a_packets_fate_is_that_it_was_written() {
    let server = Running::start();
    let mut client = server.client("c").await;
    for n in 0..100 {
        let (tell, told) = oneshot::channel();
        let fate = Box::new(move |written| _ = tell.send(written));
        server.hub.deliver(&key("c"), message(&"x".repeat(n * 100)), Some(fate)).expect("it is there");
        assert_eq!(must("its fate", told).await, Ok(true));
        assert_eq!(client.hears().await["d"]["payload"].as_str().map(str::len), Some(n * 100));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_what_waits_for_it_is_given_back() {
    let server = Running::with(Limits { client_buffer: 1 << 20, ..Limits::default() }, None);
    let mut slow = server.client("slow").await;
    let mut other = server.client("other").await;
    let (mut fates, large) = (Vec::new(), "x".repeat(100_000));
    let outbox = server.hub.outbox(&key("slow")).expect("it is there");
    loop {
        let (tell, told) = oneshot::channel();
        let fate = Box::new(move |written| _ = tell.send(written));
        match server.hub.deliver(&key("slow"), message(&large), Some(fate)) {
            Ok(()) => fates.push(told),
            Err(Undeliverable::Full) => break,
            Err(Undeliverable::Closed) => panic!("closed too early"),
        }
        // Others are served meanwhile.
        other.says(json!({"op": 5})).await;
        assert_eq!(other.hears().await["op"], 6);
    }
    assert_eq!(outbox.closing().map(|code| code.number()), Some(4008));
    let (mut written, all) = (0, fates.len());
    for fate in fates {
        written += usize::from(must("a fate", fate).await.expect("is told"));
    }
    // What was written can be read; some was not.
    assert!(written < all, "all {all} were written");
    let mut read = 0;
    while let Some(Ok(message)) = must("the end", slow.socket.next()).await {
        read += usize::from(message.is_text());
    }
    assert!(read >= written, "{read} read, {written} written");
    assert!(server.hub.get(&key("slow")).is_none());
    server.stop().await;
}

#[tokio::test]
async fn over_the_limit_nobody_is_let_in_until_somebody_goes() {
    let mut server = Running::with(Limits { connections: 2, ..Limits::default() }, None);
    let first = server.client("first").await;
    let _second = server.client("second").await;
    assert_eq!(server.connect("/gateway/websocket").await.err(), Some(503));
    drop(first);
    assert_eq!(must("its end", server.gone.recv()).await, Some(key("first")));
    must("a place", async {
        while server.connect("/gateway/websocket").await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn at_the_end_all_are_told_goodbye_behind_their_answers() {
    let mut server = Running::start();
    let mut client = server.client("c").await;
    client.sends(1).await;
    let (_, _, answer) = must("a dispatch", server.dispatched.recv()).await.expect("one");
    server.stop.cancel();
    // It leaves the hub at once, and is answered still.
    must("its leave", async {
        while server.hub.connected_here() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    answer.send(Some(message("done"))).expect("is awaited");
    assert_eq!(client.hears().await["d"]["payload"], "done");
    let goodbye = client.hears().await;
    assert_eq!((&goodbye["op"], &goodbye["d"]), (&json!(7), &json!({"reason": "load balancing"})));
    assert_eq!(client.closed().await, 1012);
    server.stop().await;
}

#[tokio::test]
async fn frames_that_are_none_are_closed_by_their_code() {
    let server = Running::start();
    for (bytes, code) in [(&[0x81, 0x00][..], 1002), (&[0x81, 0x81, 0, 0, 0, 0, 0xff][..], 1007)] {
        let mut client = server.client("c").await;
        client.socket.get_mut().write_all(bytes).await.expect("is sent");
        assert_eq!(client.closed().await, code);
    }
    server.stop().await;
}

#[tokio::test]
async fn five_hundred_clients_are_served() {
    let server = Running::start();
    let mut clients = Vec::new();
    for n in 0..500 {
        clients.push(server.client(&format!("c{n}")).await);
    }
    assert_eq!(server.hub.connected_here(), 500);
    for (n, client) in clients.iter_mut().enumerate() {
        server.hub.deliver(&key(&format!("c{n}")), message("x"), None).expect("it is there");
        client.says(json!({"op": 5})).await;
    }
    for client in &mut clients {
        let mut ops: Vec<_> = [client.hears().await, client.hears().await].map(|packet| packet["op"].as_u64()).into();
        ops.sort();
        assert_eq!(ops, [Some(4), Some(6)]);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_told_by_its_variable() {
    let server = Running::start();
    let error = Listener::bind("SINGYEONG_ADDRESS", server.address).expect_err("the port is taken");
    let expected = format!("SINGYEONG_ADDRESS={}: another program has this port; set another one", server.address);
    assert_eq!(error.to_string(), expected);
    server.stop().await;
}

#[test]
fn an_encoding_is_taken_as_it_is_written() {
    let cases = [
        (None, Some(Encoding::Json)),
        (Some(""), Some(Encoding::Json)),
        (Some("v=1"), Some(Encoding::Json)),
        (Some("encoding=msgpack&v=1"), Some(Encoding::Msgpack)),
        (Some("encoding=%65tf"), Some(Encoding::Etf)),
        (Some("encoding=json&encoding=etf"), Some(Encoding::Etf)),
        (Some("encoding="), None),
        (Some("encoding"), None),
        (Some("encoding=JSON"), None),
    ];
    for (query, expected) in cases {
        assert_eq!(encoding(query), expected, "{query:?}");
    }
}
