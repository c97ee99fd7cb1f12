//! spec/singyeong.md, "REST", as those who ask see it.

use std::convert::Infallible;
use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::cluster::node::NodeId;
use crate::encoding::Encoding;
use crate::secret::Secret;
use crate::singyeong::client::Kind;
use crate::singyeong::ids::{ClientKey, ConnectionId};
use crate::singyeong::metadata::{Changes, Metadata};
use crate::singyeong::outbox::Outbox;
use crate::singyeong::packet::dispatch::QueueName;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// An API with clients that are asked for.
struct Bed {
    api: RestApi,
    hub: Arc<Hub>,
    connections: u64,
}

impl Bed {
    fn new() -> Self {
        Self::with(None, &["127.0.0.0/8"])
    }

    fn with(password: Option<&str>, allowed: &[&str]) -> Self {
        let hub = Arc::new(Hub::new(NodeId::of_run("node", 1)));
        let passwords = Arc::new(Passwords::new(password.map(Secret::new)));
        let limits = Limits { message: 4096, query_depth: 4, ..Limits::default() };
        let allowed = allowed.iter().map(|network| network.parse().expect("a network")).collect();
        let api = RestApi::new(hub.clone(), passwords, &limits, Allowed::new(allowed));
        Self { api, hub, connections: 0 }
    }

    fn client(&mut self, id: &str, ip: Option<&str>) {
        self.connections += 1;
        let connection = ConnectionId::new(self.connections);
        let mut metadata = Metadata::default();
        let own = Value::map([
            ("n", Value::map([("type", Value::string("integer")), ("value", Value::Integer(1))])),
            ("l", Value::map([("type", Value::string("list")), ("value", Value::List([Value::Null].into()))])),
        ]);
        metadata.merge(Changes::read(&own).expect("valid"));
        let client = Client {
            key: ClientKey::new("app", id),
            node: self.hub.own().clone(),
            since: 1,
            kind: Kind::Websocket,
            restricted: ip.is_none(),
            encoding: Encoding::Json,
            ip: ip.map(Into::into),
            namespace: Value::Null.into(),
            receives_client_updates: false,
            last_heartbeat: 1234,
            queues: [QueueName("jobs".into())].into(),
            metadata,
        };
        self.hub.register(client, connection, Outbox::default()).expect("nobody has its id");
    }

    async fn ask(&self, request: hyper::http::request::Builder, body: &str) -> (u16, HeaderMap, String) {
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
        let (head, body) = self.api.answer(request, PEER).await.into_parts();
        let body = body.collect().await.expect("it is here").to_bytes();
        (head.status.as_u16(), head.headers, String::from_utf8(body.into()).expect("text"))
    }

    async fn post(&self, path: &str, body: &str) -> (u16, serde_json::Value) {
        let (status, _, text) = self.ask(Request::post(path), body).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// What the proxy says is wrong.
    async fn proxy_error(&self, body: serde_json::Value) -> String {
        let (status, answer) = self.post("/api/v1/proxy", &body.to_string()).await;
        assert_eq!(status, 400, "{answer}");
        let errors = answer["errors"].as_array().unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(errors.len(), 1);
        errors[0].as_str().expect("a text").to_owned()
    }
}

fn proxied(route: &str) -> serde_json::Value {
    json!({ "method": "GET", "route": route, "query": { "application": "app" } })
}

/// A client's HTTP server: tells what it was asked, or behaves as the path says.
async fn client_server() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (address, mut tasks) = (listener.local_addr().expect("bound"), JoinSet::new());
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(client_answer));
            tokio::spawn(connection);
        }
    });
    (address, tasks)
}

async fn client_answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let mut response = Response::builder();
    let body = match head.uri.path() {
        "/never" => std::future::pending().await,
        "/large" => Bytes::from(vec![b'x'; 9 << 20]),
        "/elsewhere" => {
            response = response.status(302).header("location", "http://127.0.0.1:1/");
            Bytes::new()
        }
        "/hops" => {
            response = response
                .status(201)
                .header("connection", "x-link")
                .header("keep-alive", "timeout=5")
                .header("x-link", "1")
                .header("x-kept", "1")
                .header("set-cookie", "a=1")
                .header("set-cookie", "b=2");
            Bytes::from_static(b"\xff\x00 as it is")
        }
        _ => {
            let headers: serde_json::Map<_, _> = head
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().expect("text").into()))
                .collect();
            let body = String::from_utf8(body.into()).expect("text");
            let asked = json!({
                "method": head.method.as_str(), "target": head.uri.to_string(), "headers": headers, "body": body,
            });
            Bytes::from(asked.to_string())
        }
    };
    Ok(response.body(Full::new(body)).expect("a response"))
}

/// Speaks whatever it is told to whoever connects, once.
async fn raw_server(says: &'static str) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (address, mut tasks) = (listener.local_addr().expect("bound"), JoinSet::new());
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked).await.expect("a request");
        stream.write_all(says.as_bytes()).await.expect("written");
    });
    (address, tasks)
}

#[tokio::test]
async fn the_version_is_told_to_anybody() {
    let bed = Bed::with(Some("hunter2"), &[]);
    let (status, headers, body) = bed.ask(Request::get("/api/version"), "").await;
    assert_eq!((status, body.as_str()), (200, r#"{"api":"v1","singyeong":"0.0.1"}"#));
    assert_eq!(headers[CONTENT_TYPE], "application/json; charset=utf-8");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let bed = Bed::new();
    let not_found = r#"{"code":404,"error":"not found"}"#;
    for request in [
        Request::get("/api"),
        Request::get("/api/v1/query"),
        Request::put("/api/v1/proxy"),
        Request::post("/api/version"),
        Request::get("/api/v1/discovery/tags?q=%5B%22a%22%5D"),
    ] {
        let (status, _, body) = bed.ask(request, "").await;
        assert_eq!((status, body.as_str()), (404, not_found));
    }
    let (status, _, body) = bed.ask(Request::get("/api/v1/plugin/x"), "").await;
    assert_eq!((status, body.as_str()), (500, ""), "there are no plugins, and that is how it is told");
}

#[tokio::test]
async fn only_the_password_opens_and_nothing_more_is_told_to_others() {
    let mut bed = Bed::with(Some("hunter2"), &[]);
    bed.client("a", Some("10.0.0.1"));
    let refusal = r#"{"error":"not authorized","status":"error"}"#;
    for path in ["/api/v1/query", "/api/v1/proxy", "/api/v1/plugin/x"] {
        let (status, _, body) = bed.ask(Request::post(path), "no JSON").await;
        assert_eq!((status, body.as_str()), (401, refusal), "{path}");
    }
    let given = |word| Request::post("/api/v1/query").header("authorization", word);
    assert_eq!(bed.ask(given("hunter2"), "{}").await.0, 200);
    for wrong in ["", "hunter", "Bearer hunter2"] {
        assert_eq!(bed.ask(given(wrong), "{}").await.0, 401, "{wrong}");
    }
    while bed.api.passwords.check(Some("wrong"), PEER, Instant::now()) != Verdict::TooMany {}
    assert_eq!(bed.ask(given("hunter2"), "{}").await.0, 429, "it is not looked at");
}

#[tokio::test]
async fn bodies_are_json_of_a_bounded_size() {
    let bed = Bed::new();
    let detail = |text| json!({ "errors": { "detail": text } });
    assert_eq!(bed.post("/api/v1/query", "{").await, (400, detail("Bad Request")));
    let long = format!("\"{}\"", "x".repeat(4096));
    assert_eq!(bed.post("/api/v1/query", &long).await, (413, detail("Request Entity Too Large")));
    for (accept, status) in [
        ("*/*", 200),
        ("text/html, application/json;q=0.5", 200),
        ("application/*", 200),
        ("text/html", 406),
        ("image/*, text/plain", 406),
    ] {
        let (answered, _, body) = bed.ask(Request::post("/api/v1/query").header("accept", accept), "{}").await;
        assert_eq!(answered, status, "{accept}: {body}");
    }
}

#[tokio::test]
async fn a_query_gives_the_clients_as_they_are() {
    let mut bed = Bed::new();
    bed.client("a", Some("10.0.0.1:80"));
    bed.client("b", None);
    let (status, found) = bed.post("/api/v1/query", r#"{"application":"app"}"#).await;
    let a = json!({
        "app_id": "app",
        "client_id": "a",
        "metadata": {
            "n": 1, "l": [null], "encoding": "json", "ip": "10.0.0.1:80", "last_heartbeat_time": 1234, "namespace": null,
            "receive_client_updates": false, "restricted": false,
        },
        "metadata_types": { "n": "integer", "l": "list" },
        "queues": ["jobs"],
        "socket_ip": "10.0.0.1:80",
    });
    assert_eq!((status, found), (200, json!([a])));
    let (_, found) = bed.post("/api/v1/query", r#"{"restricted":true}"#).await;
    assert_eq!(found.as_array().map(Vec::len), Some(2));
    assert_eq!(found[1]["socket_ip"], json!(null));
    assert_eq!(bed.post("/api/v1/query", r#"{"application":"other"}"#).await, (200, json!([])));
    assert_eq!(bed.post("/api/v1/query", "").await.1.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_query_that_is_none_is_answered_as_ever_and_one_too_deep_with_its_limit() {
    let bed = Bed::new();
    let (status, answer) = bed.post("/api/v1/query", r#"{"ops":[{"path":"/x","op":"$no","to":{"value":1}}]}"#).await;
    assert_eq!((status, answer), (500, json!({ "errors": { "detail": "Internal Server Error" } })));
    let mut op = json!({ "path": "/x", "op": "$eq", "to": { "value": 1 } });
    for _ in 0..8 {
        op = json!({ "op": "$and", "with": [op] });
    }
    let (status, answer) = bed.post("/api/v1/query", &json!({ "ops": [op] }).to_string()).await;
    let text = "the query's operators lie more than 4 deep in each other";
    assert_eq!((status, answer), (400, json!({ "errors": [text] })));
}

#[tokio::test]
async fn what_a_proxy_request_lacks_or_has_wrong_is_told_in_the_known_words() {
    let bed = Bed::new();
    for (body, key) in [
        (json!({}), "method"),
        (json!({ "method": "GET", "query": {} }), "route"),
        (json!({ "method": "GET", "route": "/" }), "query"),
        (json!({ "method": "GET", "route": "/", "query": null }), "query"),
    ] {
        let (status, answer) = bed.post("/api/v1/proxy", &body.to_string()).await;
        assert_eq!((status, answer), (400, json!({ key: [format!("no {key} provided")] })));
    }
    let with = |key: &str, value: serde_json::Value| {
        let mut body = proxied("/");
        body[key] = value;
        bed.proxy_error(body)
    };
    let valid = r#"["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]"#;
    let expected = format!("get is not a valid method! (valid methods: {valid})");
    assert_eq!(with("method", json!("get")).await, expected);
    let expected = r#"TRACE is not a supported method! (not supported: ["CONNECT", "OPTIONS", "TRACE"])"#;
    assert_eq!(with("method", json!("TRACE")).await, expected);
    let expected = "no body required but one given (you probably wanted to send nil)";
    assert_eq!(with("body", json!("x")).await, expected);
    assert_eq!(with("headers", json!([])).await, "the headers are no map");
    assert_eq!(with("headers", json!({ "a b": "" })).await, "\"a b\" is no header's name");
    assert_eq!(with("headers", json!({ "a": "x\ny" })).await, "no header can carry what a shall say");
    assert_eq!(with("headers", json!({ "a": null })).await, "the header \"a\" is no text");
    assert_eq!(bed.proxy_error(proxied("/")).await, "no matches");
    let malformed = json!({ "method": "GET", "route": "/", "query": { "selector": {} } });
    assert_eq!(bed.post("/api/v1/proxy", &malformed.to_string()).await.0, 500);
}

#[tokio::test]
async fn a_client_is_asked_and_its_answer_given_back() {
    let (address, _server) = client_server().await;
    let mut bed = Bed::new();
    bed.client("a", Some(&address.to_string()));
    let body = json!({
        "method": "POST",
        "route": "/hello?x=1",
        "query": { "application": "app" },
        "body": { "a": [1] },
        "headers": { "X-Own": "o", "Connection": "X-Link", "X-Link": "l", "Transfer-Encoding": "chunked",
                     "Content-Length": "7", "X-Forwarded-For": "203.0.113.1" },
    });
    let (status, asked) = bed.post("/api/v1/proxy", &body.to_string()).await;
    let expected = json!({
        "method": "POST",
        "target": "/hello?x=1",
        "body": r#"{"a":[1]}"#,
        "headers": { "content-length": "9", "content-type": "application/json", "host": address.to_string(),
                     "user-agent": crate::USER_AGENT, "x-forwarded-for": "203.0.113.1, 192.0.2.7", "x-own": "o" },
    });
    assert_eq!((status, asked), (200, expected));

    let (status, headers, body) = {
        let request = Request::post("/api/v1/proxy").body(Full::new(Bytes::from(proxied("hops").to_string())));
        let (head, body) = bed.api.answer(request.expect("a request"), PEER).await.into_parts();
        (head.status, head.headers, body.collect().await.expect("here").to_bytes())
    };
    assert_eq!((status.as_u16(), &*body), (201, &b"\xff\x00 as it is"[..]));
    let mut names: Vec<&str> = headers.keys().map(|name| name.as_str()).filter(|name| *name != "date").collect();
    names.sort_unstable();
    assert_eq!(names, ["set-cookie", "x-kept"]);
    assert_eq!(headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);

    let (status, headers, _) = bed.ask(Request::post("/api/v1/proxy"), &proxied("/elsewhere").to_string()).await;
    assert_eq!((status, &headers["location"]), (302, &HeaderValue::from_static("http://127.0.0.1:1/")));
}

#[tokio::test]
async fn of_bodies_texts_go_as_they_are_and_other_values_as_json() {
    let (address, _server) = client_server().await;
    let mut bed = Bed::new();
    bed.client("a", Some(&format!("http://{address}/base")));
    for (method, given, sent) in [
        ("PUT", json!("text"), "text"),
        ("PATCH", json!(7), "7"),
        ("POST", json!(["x"]), r#"["x"]"#),
        ("DELETE", json!(null), ""),
        ("GET", json!(""), ""),
    ] {
        let body = json!({ "method": method, "route": "x", "query": {}, "body": given });
        let (status, asked) = bed.post("/api/v1/proxy", &body.to_string()).await;
        assert_eq!((status, &asked["body"]), (200, &json!(sent)), "{method}");
        assert_eq!((&asked["target"], &asked["method"]), (&json!("/base/x"), &json!(method)));
    }
    let body = json!({ "method": "HEAD", "route": "x", "query": {} });
    assert_eq!(bed.ask(Request::post("/api/v1/proxy"), &body.to_string()).await.0, 200);
}

#[tokio::test]
async fn where_nobody_shall_look_nothing_is_asked() {
    let (address, _server) = client_server().await;
    let port = address.port();
    for ip in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("http://2130706433:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("http://0x7f.1:{port}"),
        "0000:0000:0000:0000:0000:ffff:7f00:0001".to_owned(),
    ] {
        let mut bed = Bed::with(None, &[]);
        bed.client("a", Some(&ip));
        let error = bed.proxy_error(proxied("/")).await;
        let is_refused =
            error.ends_with("is not to be asked: SINGYEONG_PROXY_ALLOW says which addresses of that kind are");
        assert!(is_refused, "{ip}: {error}");
    }
    let mut bed = Bed::new();
    bed.client("a", Some("169.254.169.254"));
    let error = bed.proxy_error(proxied("/latest/meta-data")).await;
    assert!(error.starts_with("169.254.169.254 is not to be asked"), "{error}");
    // What is allowed is found among a name's addresses.
    let mut bed = Bed::new();
    bed.client("a", Some(&format!("localhost:{port}")));
    assert_eq!(bed.post("/api/v1/proxy", &proxied("/").to_string()).await.0, 200);
}

#[tokio::test]
async fn a_client_that_cannot_be_asked_is_told_of() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let (address, _server) = client_server().await;
    let (garbage, _garbage) = raw_server("nonsense\r\n\r\n").await;
    let (upgrading, _upgrading) = raw_server("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n").await;
    let cases = [
        (free.to_string(), "/", format!("cannot connect to {free}: ")),
        (address.to_string(), "/never", format!("{address} did not answer in time")),
        (address.to_string(), "/large", "the answer is larger than 8 MiB".to_owned()),
        (address.to_string(), "/a b", "\"/a b\" is no route".to_owned()),
        (garbage.to_string(), "/", format!("{garbage} did not answer: ")),
        (upgrading.to_string(), "/", format!("{upgrading} wants to speak something else than HTTP")),
        (format!("https://{address}"), "/", format!("cannot connect to {address}: ")),
        ("nowhere.invalid".to_owned(), "/", "cannot connect to nowhere.invalid: ".to_owned()),
        ("a b".to_owned(), "/", "\"a b\" is no address for requests: ".to_owned()),
    ];
    for (ip, route, expected) in cases {
        let mut bed = Bed::new();
        bed.client("a", Some(&ip));
        let error = bed.proxy_error(proxied(route)).await;
        assert!(error.starts_with(&expected), "{ip}: {error}");
    }
}

#[tokio::test]
async fn of_those_that_match_one_with_an_address_is_asked() {
    let (address, _server) = client_server().await;
    let mut bed = Bed::new();
    bed.client("restricted", None);
    let body = json!({ "method": "GET", "route": "/", "query": { "restricted": true } });
    assert_eq!(bed.proxy_error(body.clone()).await, "no matches");
    bed.client("a", Some(&address.to_string()));
    for _ in 0..8 {
        assert_eq!(bed.post("/api/v1/proxy", &body.to_string()).await.0, 200);
    }
}
