//! With requests that came over no socket, and all processes as a test says.

use std::future::ready;
use std::sync::Mutex;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::header::{ALLOW, CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::http::answer::Content;
use crate::http::lookout::ClientsError;
use crate::seen::Whole;
use crate::seen::clients::{ClientsAnswer, ClientsQuestion};
use crate::seen::report::Mode;
use crate::seen::simulated;
use crate::seen::whole::{Gone, Reach};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Says what a test says.
pub(super) struct Said {
    pub(super) whole: watch::Sender<Arc<Whole>>,
    clients: Result<ClientsAnswer, ClientsError>,
    asked: Mutex<Vec<ClientsQuestion>>,
}

impl Said {
    pub(super) fn new(clients: Result<ClientsAnswer, ClientsError>) -> Arc<Self> {
        let whole = watch::Sender::new(Arc::new(simulated::whole(2, 8)));
        Arc::new(Self { whole, clients, asked: Mutex::default() })
    }

    pub(super) fn says(&self, change: impl FnOnce(&mut Whole)) {
        self.whole.send_modify(|whole| {
            let mut next = Whole::clone(whole);
            next.at += 2000;
            change(&mut next);
            *whole = Arc::new(next);
        });
    }
}

impl Lookout for Said {
    fn look(&self) -> watch::Receiver<Arc<Whole>> {
        self.whole.subscribe()
    }

    fn clients(&self, question: ClientsQuestion) -> BoxFuture<'static, Result<ClientsAnswer, ClientsError>> {
        self.asked.lock().expect("not poisoned").push(question);
        Box::pin(ready(self.clients.clone()))
    }
}

pub(super) fn page(said: &Arc<Said>) -> Page {
    Page::new(Arc::new(Readers::new(None)), said.clone())
}

fn request(method: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost:8080");
    request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request")
}

async fn ask(page: &Page, method: &str, path: &str, body: &str) -> (u16, Value) {
    let answer = page.respond(request(method, path, body), HERE).await;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("whole").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// A viewer, and what it is told.
struct Viewer(futures_util::stream::BoxStream<'static, Bytes>);

impl Viewer {
    async fn of(page: &Page) -> Self {
        let answer = page.respond(request("GET", "/api/live", ""), HERE).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/event-stream");
        let Content::Stream(stream) = answer.into_body() else { panic!("it goes on") };
        Self(stream)
    }

    async fn next(&mut self) -> Value {
        let event = self.0.next().await.expect("it goes on");
        let event = std::str::from_utf8(&event).expect("text");
        let data = event.strip_prefix("event: state\ndata: ").and_then(|rest| rest.strip_suffix("\n\n"));
        let data = data.unwrap_or_else(|| panic!("{event}"));
        assert!(!data.contains('\n'));
        serde_json::from_str(data).expect("JSON")
    }
}

/// The ids of the rows.
fn ids(state: &Value) -> Vec<u64> {
    state["shards"].as_array().expect("a list").iter().map(|row| row[0].as_u64().expect("an id")).collect()
}

/// Changes what a process says.
fn report(whole: &mut Whole, process: usize, change: impl FnOnce(&mut crate::seen::Report)) {
    change(Arc::make_mut(&mut whole.processes[process].report));
}

#[tokio::test]
async fn a_viewer_is_told_all_and_then_what_is_new() {
    let said = Said::new(Err(ClientsError::Off));
    let page = page(&said);
    let mut viewer = Viewer::of(&page).await;
    let first = viewer.next().await;
    assert_eq!((&first["all"], ids(&first)), (&json!(true), (0..8).collect()));
    said.says(|whole| report(whole, 0, |report| report.shards[1].resumes += 1));
    let second = viewer.next().await;
    assert_eq!((&second["all"], ids(&second)), (&json!(false), vec![1]));
    // The rest of it is whole each time.
    assert_eq!(second["processes"], first["processes"]);
    said.says(|_| {});
    assert_eq!(ids(&viewer.next().await), [0_u64; 0]);
}

#[tokio::test]
async fn who_reads_slowly_is_told_what_is_and_not_what_was_in_between() {
    let said = Said::new(Err(ClientsError::Off));
    let page = page(&said);
    let (mut slow, mut quick) = (Viewer::of(&page).await, Viewer::of(&page).await);
    slow.next().await;
    quick.next().await;
    for shard in [0, 2, 3] {
        said.says(|whole| report(whole, 0, |report| report.shards[shard].resumes += 1));
        assert_eq!(ids(&quick.next().await), [shard as u64]);
    }
    assert_eq!(ids(&slow.next().await), [0, 2, 3]);
    assert_eq!(ids(&Viewer::of(&page).await.next().await).len(), 8);
}

#[tokio::test]
async fn a_bot_with_less_shards_is_told_anew() {
    let said = Said::new(Err(ClientsError::Off));
    let page = page(&said);
    let mut viewer = Viewer::of(&page).await;
    viewer.next().await;
    said.says(|whole| {
        for process in 0..2 {
            report(whole, process, |report| {
                report.shard_count = 6;
                report.shards.retain(|shard| shard.id < 6);
            });
        }
    });
    let state = viewer.next().await;
    assert_eq!((&state["all"], &state["shard_count"], ids(&state)), (&json!(true), &json!(6), (0..6).collect()));
}

#[tokio::test]
async fn shards_that_nobody_runs_are_told_and_what_it_means() {
    let said = Said::new(Err(ClientsError::Off));
    said.says(|whole| drop(whole.processes.pop()));
    let page = page(&said);
    let mut viewer = Viewer::of(&page).await;
    let state = viewer.next().await;
    assert_eq!(state["shards"][3][1], "connected");
    assert_eq!(state["shards"][4], json!([4, "nobody", null, null, null, 0, null, null, 0, null, 0]));
    let problem = "shards 4-7 run nowhere: the processes share them out, or there is none that can take them";
    assert_eq!(state["problems"], json!([problem]));
    // The others have not had the time to answer, or cannot be asked.
    said.says(|whole| whole.reach = Reach::Asking);
    let state = viewer.next().await;
    assert_eq!((&state["partial"], &state["problems"]), (&json!(true), &json!([])));
    assert_eq!(state["shards"][0], json!([4, "unknown", null, null, null, 0, null, null, 0, null, 0]));
    said.says(|whole| whole.reach = Reach::Away);
    let state = viewer.next().await;
    assert_eq!(state["partial"], false);
    assert_eq!(state["problems"], json!(["the other processes cannot be asked while RabbitMQ is away"]));
}

#[tokio::test]
async fn how_the_shards_of_a_silent_process_are_is_not_known() {
    let said = Said::new(Err(ClientsError::Off));
    let silent_since = said.whole.borrow().at;
    said.says(|whole| {
        whole.processes[1].answers = false;
        report(whole, 1, |report| (report.shards[2].resumes, report.shards[2].gaps) = (3, 2));
    });
    let state = Viewer::of(&page(&said)).await.next().await;
    let shard = &said.whole.borrow().processes[1].report.shards[2];
    let expected =
        json!([6, "unknown", 1, shard.guilds, null, 0, silent_since, shard.last_resume, 3, shard.last_disconnect, 2]);
    assert_eq!(state["shards"][6], expected);
    assert_eq!(state["problems"], json!(["optic-1 has not answered for 2 s; it had shards 4-7"]));
}

#[tokio::test]
async fn a_bot_that_is_gone_keeps_its_shards_on_the_page() {
    let said = Said::new(Err(ClientsError::Off));
    said.says(|whole| {
        whole.processes.truncate(1);
        report(whole, 0, |report| {
            (report.mode, report.shard_count) = (Mode::NoBot, 0);
            report.shards.clear();
        });
        whole.gone = Some(Gone { name: "optic-7".to_owned(), heard_at: whole.at - 130_000, shard_count: 8 });
    });
    let state = Viewer::of(&page(&said)).await.next().await;
    assert_eq!((&state["shard_count"], ids(&state)), (&json!(8), (0..8).collect()));
    assert_eq!(state["problems"][0], "no process with a bot answers: optic-7 was the last, 2 min ago");
}

#[tokio::test]
async fn who_runs_some_shards_alone_has_as_many_as_it_runs() {
    let said = Said::new(Err(ClientsError::Off));
    said.says(|whole| {
        drop(whole.processes.remove(0));
        whole.here = whole.processes[0].report.node.clone();
        report(whole, 0, |report| report.mode = Mode::Alone);
    });
    let state = Viewer::of(&page(&said)).await.next().await;
    assert_eq!((&state["shard_count"], ids(&state)), (&json!(4), (4..8).collect()));
    assert_eq!(state["problems"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_a_comment() {
    let said = Said::new(Err(ClientsError::Off));
    let mut viewer = Viewer::of(&page(&said)).await;
    viewer.next().await;
    assert_eq!(viewer.0.next().await.expect("it goes on"), ":\n\n");
}

#[tokio::test]
async fn there_are_places_for_some_viewers_and_each_is_free_again() {
    let said = Said::new(Err(ClientsError::Off));
    let page = page(&said);
    let mut viewers = Vec::new();
    for _ in 0..live::MOST_VIEWERS {
        viewers.push(Viewer::of(&page).await);
    }
    assert_eq!(ask(&page, "GET", "/api/live", "").await.0, 503);
    viewers.pop();
    let mut last = Viewer::of(&page).await;
    last.next().await;
    assert_eq!(said.whole.receiver_count(), live::MOST_VIEWERS);
    drop((viewers, last));
    assert_eq!(said.whole.receiver_count(), 0, "nobody is asked to look any more");
}

#[tokio::test]
async fn clients_are_asked_for_by_a_body() {
    let answer = ClientsAnswer { total: 3, matching: 1, ..ClientsAnswer::default() };
    let said = Said::new(Ok(answer.clone()));
    let asked = r#"{"target":{"application":"music"},"limit":5000}"#;
    let expected = serde_json::to_value(&answer).expect("JSON");
    assert_eq!(ask(&page(&said), "POST", CLIENTS, asked).await, (200, expected));
    let question = said.asked.lock().expect("not poisoned").pop().expect("asked");
    assert_eq!(question.target, Some(json!({"application": "music"})));
    assert_eq!(question.limit, clients::MOST_CLIENTS);
    for (body, status) in [
        ("", 400),
        ("{}", 400),
        (r#"{"target":{"key":18446744073709551615},"limit":1}"#, 200),
        (r#"{"target":{"ops":[{"id":{"$eq":18446744073709551616}}]},"limit":1}"#, 400),
        (r#"{"target":null,"limit":-1}"#, 400),
        (&*format!(r#"{{"target":"{}","limit":1}}"#, "x".repeat(clients::MOST_BODY)), 413),
        (r#"{"limit":1}"#, 200),
    ] {
        let (told, answer) = ask(&page(&said), "POST", CLIENTS, body).await;
        assert_eq!(told, status, "{answer}");
        assert_eq!(answer["error"].is_string(), status != 200, "{answer}");
    }
    for (why, status) in [(ClientsError::Off, 404), (ClientsError::NoAnswer, 503)] {
        let expected = json!({ "error": why.to_string() });
        assert_eq!(ask(&page(&Said::new(Err(why))), "POST", CLIENTS, asked).await, (status, expected));
    }
}

#[tokio::test]
async fn charts_are_drawn_once_for_all() {
    let said = Said::new(Err(ClientsError::Off));
    let page = page(&said);
    let get = async |path: &str| {
        let answer = page.respond(request("GET", path, ""), HERE).await;
        (answer.status().as_u16(), answer.into_body().collect().await.expect("whole").to_bytes())
    };
    for kind in chart::ChartKind::ALL {
        let path = format!("/api/chart/{}.svg?width=", kind.name());
        let (status, svg) = get(&format!("{path}630")).await;
        assert!(status == 200 && svg.starts_with(b"<svg"), "{svg:?}");
        assert_eq!(get(&format!("{path}640")).await.1.as_ptr(), svg.as_ptr(), "not drawn again");
        said.says(|whole| whole.history = whole.history.to_vec().into());
        assert_eq!(get(&format!("{path}640")).await.1.as_ptr(), svg.as_ptr(), "nothing is new");
        said.says(|whole| whole.history = whole.history[1..].into());
        assert_ne!(get(&format!("{path}640")).await.1.as_ptr(), svg.as_ptr());
        for wrong in ["319", "1201", "-1", "x", ""] {
            assert_eq!(get(&format!("{path}{wrong}")).await.0, 400, "{wrong}");
        }
    }
    assert_eq!(get("/api/chart/events.svg").await.0, 200);
    assert_eq!(get("/api/chart/other.svg").await.0, 404);
    assert_eq!(get("/api/chart/events").await.0, 404);
}

#[tokio::test]
async fn data_is_for_readers_and_files_are_for_all() {
    let said = Said::new(Err(ClientsError::Off));
    let there = IpAddr::from([192, 0, 2, 1]);
    for (method, path, status) in [
        ("GET", "/", 200),
        ("HEAD", "/page.css", 200),
        ("GET", "/page.js", 200),
        ("GET", "/api/live", 403),
        ("GET", "/api/chart/events.svg", 403),
        ("POST", CLIENTS, 403),
        ("POST", "/", 405),
        ("GET", CLIENTS, 405),
        ("POST", "/api/live", 405),
    ] {
        let answer = page(&said).respond(request(method, path, ""), there).await;
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(answer.headers().contains_key(ALLOW), status == 405);
        let caching = if status == 200 { "no-cache" } else { "no-store" };
        assert_eq!(answer.headers()["cache-control"], caching, "{method} {path}");
    }
    assert!(said.asked.lock().expect("not poisoned").is_empty());
}
