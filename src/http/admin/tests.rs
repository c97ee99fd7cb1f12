//! With requests that came over no socket.

use std::future::ready;
use std::sync::Mutex;

use http_body_util::Full;

use hyper::header::AUTHORIZATION;

use super::*;
use crate::secret::Secret;

/// Not this machine: it tells the token.
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const TOKEN: &str = "hunter2.hunter2.hunter2";

/// A coordinator that answers this, and what it was asked.
struct Coordinator(Result<InternalAnswer, AskError>, Mutex<Vec<String>>);

impl Services for Coordinator {
    fn ask(&self, what: Internal) -> BoxFuture<'static, Result<InternalAnswer, AskError>> {
        let asked = match what {
            Internal::List => "list".to_owned(),
            Internal::Order(order, name) => format!("{order:?} {name}"),
            other => panic!("{other:?} is not asked"),
        };
        self.1.lock().expect("not poisoned").push(asked);
        Box::pin(ready(self.0.clone()))
    }
}

struct Bed {
    admin: Admin,
    coordinator: Arc<Coordinator>,
}

impl Bed {
    fn new(answer: Result<InternalAnswer, AskError>) -> Self {
        let coordinator = Arc::new(Coordinator(answer, Mutex::default()));
        Self { admin: Admin::new(readers(Some(TOKEN)), coordinator.clone()), coordinator }
    }

    async fn ask(&self, method: &str, path: &str, authorization: Option<&str>) -> (u16, serde_json::Value) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let answer = self.admin.respond(request.body(Full::<Bytes>::default()).expect("a request"), PEER).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("whole").to_bytes();
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    async fn authorised(&self, method: &str, path: &str) -> (u16, serde_json::Value) {
        self.ask(method, path, Some(&format!("Bearer {TOKEN}"))).await
    }

    fn asked(&self) -> Vec<String> {
        self.coordinator.1.lock().expect("not poisoned").clone()
    }
}

fn readers(token: Option<&str>) -> Arc<Readers> {
    Arc::new(Readers::new(token.map(Secret::new)))
}

fn told(instances: usize) -> Bed {
    Bed::new(Ok(InternalAnswer::Told { instances }))
}

#[tokio::test]
async fn orders_reach_the_coordinator_and_its_answer_comes_back() {
    let bed = told(2);
    let (status, body) = bed.authorised("POST", "/api/amybot/services/music/shutdown").await;
    assert_eq!((status, &body["instances"]), (200, &2.into()), "{body}");
    bed.authorised("POST", "/api/amybot/services/a%20%2Fb%EB%88%88/reboot").await;
    assert_eq!(bed.asked(), ["Shutdown music", "Reboot a /b눈"]);
    let (status, body) = told(0).authorised("POST", "/api/amybot/services/music/shutdown").await;
    assert_eq!((status, body["error"].as_str()), (404, Some("there is no service \"music\"")));
}

#[tokio::test]
async fn services_are_listed() {
    let bed = Bed::new(Ok(InternalAnswer::Services(Default::default())));
    let expected = serde_json::json!({"shard_count": 0, "free": 0, "services": [], "proxied": []});
    assert_eq!(bed.authorised("GET", "/api/amybot/services").await, (200, expected.clone()));
    assert_eq!(bed.authorised("GET", "/api/amybot/services/").await, (200, expected));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_in_without_the_token() {
    let bed = told(1);
    let order = "/api/amybot/services/music/shutdown";
    let basic = format!("Basic {TOKEN}");
    for given in [None, Some(TOKEN), Some(&*basic), Some("Bearer"), Some("Bearer "), Some("Bearer hunter2")] {
        let (status, body) = bed.ask("POST", order, given).await;
        assert_eq!(status, 401, "{given:?} {body}");
    }
    assert_eq!(bed.asked(), [""; 0]);
    assert_eq!(bed.ask("POST", order, Some(&format!("bearer {TOKEN}"))).await.0, 200);
    let closed = Admin::new(readers(None), bed.coordinator.clone());
    let (status, body) = Bed { admin: closed, ..bed }.authorised("POST", order).await;
    assert_eq!((status, body["error"].as_str()), (403, Some("there is no admin interface: HTTP_TOKEN is not set")));
}

#[tokio::test]
async fn on_the_machine_itself_the_list_is_open_and_orders_are_not() {
    let bed = Bed::new(Ok(InternalAnswer::Services(Default::default())));
    for (method, path, status) in
        [("GET", "/api/amybot/services", 200), ("POST", "/api/amybot/services/music/shutdown", 401)]
    {
        let request = Request::builder().method(method).uri(path).header("host", "localhost:8080");
        let request = request.body(Full::<Bytes>::default()).expect("a request");
        let here = std::net::Ipv4Addr::LOCALHOST.into();
        assert_eq!(bed.admin.respond(request, here).await.status(), status, "{method} {path}");
    }
    assert_eq!(bed.asked(), ["list"]);
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let bed = told(1);
    for (method, path, status) in [
        ("GET", "/api", 404),
        ("GET", "/api/amybot/service", 404),
        ("GET", "/api/amybot/servicesx", 404),
        ("POST", "/api/amybot/services", 405),
        ("GET", "/api/amybot/services/music/shutdown", 405),
        ("POST", "/api/amybot/services/music", 404),
        ("POST", "/api/amybot/services/music/dance", 404),
        ("POST", "/api/amybot/services//shutdown", 400),
        ("POST", "/api/amybot/services/gateway/shutdown", 400),
        ("POST", "/api/amybot/services/%ff/shutdown", 400),
        ("POST", "/api/amybot/services/%2/shutdown", 400),
        ("POST", "/api/amybot/services/%+1/shutdown", 400),
    ] {
        assert_eq!(bed.authorised(method, path).await.0, status, "{method} {path}");
    }
    assert_eq!(bed.asked(), [""; 0]);
}

#[tokio::test]
async fn a_coordinator_that_does_not_answer_is_told() {
    for (failure, status) in [
        (AskError::Off, 404),
        (AskError::NoBroker("x".to_owned()), 503),
        (AskError::TooMany, 503),
        (AskError::NoCoordinator, 504),
        (AskError::Unreadable("x".to_owned()), 502),
    ] {
        let text = failure.to_string();
        let (given, body) = Bed::new(Err(failure)).authorised("GET", "/api/amybot/services").await;
        assert_eq!((given, body["error"].as_str()), (status, Some(&*text)));
    }
    let answer = InternalAnswer::Failed { error: "no".to_owned() };
    assert_eq!(Bed::new(Ok(answer)).authorised("GET", "/api/amybot/services").await.0, 502);
}

#[tokio::test]
async fn a_large_body_is_refused() {
    let bed = told(1);
    let request = Request::post("/api/amybot/services/music/shutdown")
        .header(AUTHORIZATION, format!("Bearer {TOKEN}"))
        .body(Full::<Bytes>::from(vec![b'x'; MOST_BODY + 1]))
        .expect("a request");
    assert_eq!(bed.admin.respond(request, PEER).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(bed.asked(), [""; 0]);
}
