//! What is where: the way from a request's path to what answers it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::{Body, Bytes};
use hyper::{Method, StatusCode};
use tokio::time::Instant;

use super::admin::Admin;
use super::answer::{Answer, allowing, json, secured, text, whole};
use super::health::{Health, Report};
use super::metrics;
use super::page::Page;
use crate::seen::Reporter;

/// Where the metrics are, unless something else is said.
pub const METRICS_PATH: &str = "/metrics";

/// All that is served.
pub struct Site {
    health: Option<Arc<dyn Health>>,
    metrics: Option<Metrics>,
    admin: Option<Admin>,
    page: Option<Page>,
}

/// So long the text of a scrape serves the next ones: to make it takes a large process some milliseconds, in which nothing else
/// runs.
const FRESH: Duration = Duration::from_secs(1);

/// The metrics of a process, and where they are.
struct Metrics {
    of: Arc<dyn Reporter>,
    paths: Vec<String>,
    /// The latest text, and when it was made.
    made: Mutex<Option<(Instant, Bytes)>>,
}

impl Metrics {
    fn new(of: Arc<dyn Reporter>, paths: Vec<String>) -> Self {
        Self { of, paths, made: Mutex::default() }
    }

    /// All of them as text, at most [`FRESH`] old. All who ask share it.
    fn text(&self) -> Bytes {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = made.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return text.clone();
        }
        let text = Bytes::from(metrics::render(&*self.of));
        *made = Some((Instant::now(), text.clone()));
        text
    }
}

impl Site {
    /// Health alone.
    pub fn new(health: Arc<dyn Health>) -> Self {
        Self { health: Some(health), metrics: None, admin: None, page: None }
    }

    /// Metrics alone, at this path.
    pub fn metrics_alone(of: Arc<dyn Reporter>, path: &str) -> Self {
        let metrics = Metrics::new(of, vec![path.to_owned()]);
        Self { health: None, metrics: Some(metrics), admin: None, page: None }
    }

    /// And the metrics, at another path too if one is given.
    #[must_use]
    pub fn with_metrics(self, of: Arc<dyn Reporter>, also: Option<&str>) -> Self {
        let also = also.filter(|path| *path != METRICS_PATH);
        let paths = [METRICS_PATH].into_iter().chain(also).map(str::to_owned).collect();
        Self { metrics: Some(Metrics::new(of, paths)), ..self }
    }

    /// And the admin interface.
    #[must_use]
    pub fn with_admin(self, admin: Admin) -> Self {
        Self { admin: Some(admin), ..self }
    }

    /// And the page.
    #[must_use]
    pub fn with_page(self, page: Page) -> Self {
        Self { page: Some(page), ..self }
    }

    /// Answers a request of this address.
    pub async fn respond<B>(&self, request: Request<B>, peer: IpAddr) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        secured(self.answer(request, peer).await)
    }

    async fn answer<B>(&self, request: Request<B>, peer: IpAddr) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let path = request.uri().path();
        if let Some(metrics) = self.metrics.as_ref().filter(|metrics| metrics.paths.iter().any(|there| there == path)) {
            return reading(request.method(), || whole(StatusCode::OK, metrics::CONTENT_TYPE, metrics.text()));
        }
        match (&self.health, &self.page, &self.admin) {
            (Some(_), ..) if path == "/health/live" => reading(request.method(), || text(StatusCode::OK, "alive\n")),
            (Some(health), ..) if path == "/health/ready" => reading(request.method(), || readiness(&**health)),
            (_, Some(page), _) if Page::is_at(path) => page.respond(request, peer).await,
            (.., Some(admin)) if path.starts_with("/api/") => admin.respond(request, peer).await,
            _ => text(StatusCode::NOT_FOUND, &self.not_found()),
        }
    }

    fn not_found(&self) -> String {
        let metrics = self.metrics.iter().flat_map(|metrics| &metrics.paths).map(String::as_str);
        let health = self.health.as_ref().map(|_| ["/health/live", "/health/ready"]);
        let page = self.page.as_ref().map(|_| "/");
        let admin = self.admin.as_ref().map(|_| "/api/amybot/services");
        let there = page.into_iter().chain(health.into_iter().flatten()).chain(metrics).chain(admin);
        let there: Vec<&str> = there.collect();
        format!("not found: there is {}\n", there.join(", "))
    }
}

/// What is only read.
fn reading(method: &Method, answer: impl FnOnce() -> Answer) -> Answer {
    match *method {
        Method::GET | Method::HEAD => answer(),
        _ => allowing(text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"), "GET, HEAD"),
    }
}

fn readiness(health: &dyn Health) -> Answer {
    let report = Report::of(&health.snapshot());
    let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &report)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::{BodyExt, Empty};
    use hyper::header::CONTENT_TYPE;

    use super::*;
    use crate::http::Snapshot;
    use crate::http::metrics::tests::{Told, full};

    struct Never;

    impl Health for Never {
        fn snapshot(&self) -> Snapshot {
            unreachable!("nobody asks")
        }
    }

    async fn ask(site: &Site, method: Method, path: &str) -> (StatusCode, String, String) {
        let request = Request::builder().method(method).uri(path).body(Empty::<Bytes>::new()).expect("a request");
        let answer = site.respond(request, IpAddr::from([10, 0, 0, 1])).await;
        let kind = answer.headers()[CONTENT_TYPE].to_str().expect("text").to_owned();
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a whole").to_bytes();
        (status, kind, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn metrics_are_open_to_everyone_who_only_reads() {
        let site = Site::new(Arc::new(Never)).with_metrics(Arc::new(full()), Some("/prom"));
        for path in ["/metrics", "/prom", "/metrics?x=1"] {
            let (status, kind, body) = ask(&site, Method::GET, path).await;
            assert_eq!((status, kind.as_str()), (StatusCode::OK, "text/plain; version=0.0.4"));
            assert!(body.contains("\ngateway_total_shards 2\n"), "{body}");
        }
        assert_eq!(ask(&site, Method::HEAD, "/metrics").await.0, StatusCode::OK);
        assert_eq!(ask(&site, Method::POST, "/metrics").await.0, StatusCode::METHOD_NOT_ALLOWED);
    }

    /// Counts how often it is asked.
    struct Counted(Told, AtomicUsize);

    impl Reporter for Counted {
        fn report(&self) -> crate::seen::report::Report {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.report()
        }

        fn samples(&self, after: u64) -> Vec<crate::seen::Sample> {
            self.0.samples(after)
        }

        fn packets(&self) -> Vec<crate::seen::ShardPackets> {
            self.0.packets()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_scrape_a_text_is_made_once_a_second() {
        let counted = Arc::new(Counted(full(), AtomicUsize::new(0)));
        let site = Site::new(Arc::new(Never)).with_metrics(counted.clone(), Some("/prom"));
        let texts = [ask(&site, Method::GET, "/metrics").await, ask(&site, Method::GET, "/prom").await];
        assert_eq!(texts[0], texts[1]);
        assert_eq!(counted.1.load(Ordering::Relaxed), 1);
        tokio::time::advance(FRESH).await;
        ask(&site, Method::GET, "/metrics").await;
        assert_eq!(counted.1.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn at_an_address_of_their_own_there_is_nothing_else() {
        let site = Site::metrics_alone(Arc::new(full()), "/prom");
        assert_eq!(ask(&site, Method::GET, "/prom").await.0, StatusCode::OK);
        for path in ["/metrics", "/health/live", "/health/ready", "/", "/api/live", "/api/amybot/services"] {
            let (status, _, body) = ask(&site, Method::GET, path).await;
            assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, "not found: there is /prom\n"), "{path}");
        }
    }

    #[tokio::test]
    async fn without_a_reporter_there_are_no_metrics() {
        let (status, _, body) = ask(&Site::new(Arc::new(Never)), Method::GET, "/metrics").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body, "not found: there is /health/live, /health/ready\n");
    }
}
