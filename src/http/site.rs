//! What is where: the way from a request's path to what answers it.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::Request;
use hyper::body::{Body, Bytes};
use hyper::{Method, StatusCode};

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

/// The metrics of a process, and where they are.
struct Metrics {
    of: Arc<dyn Reporter>,
    paths: Vec<String>,
}

impl Site {
    /// Health alone.
    pub fn new(health: Arc<dyn Health>) -> Self {
        Self { health: Some(health), metrics: None, admin: None, page: None }
    }

    /// Metrics alone, at this path.
    pub fn metrics_alone(of: Arc<dyn Reporter>, path: &str) -> Self {
        let metrics = Metrics { of, paths: vec![path.to_owned()] };
        Self { health: None, metrics: Some(metrics), admin: None, page: None }
    }

    /// And the metrics, at another path too if one is given.
    #[must_use]
    pub fn with_metrics(self, of: Arc<dyn Reporter>, also: Option<&str>) -> Self {
        let also = also.filter(|path| *path != METRICS_PATH);
        let paths = [METRICS_PATH].into_iter().chain(also).map(str::to_owned).collect();
        Self { metrics: Some(Metrics { of, paths }), ..self }
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
            return reading(request.method(), || {
                whole(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(&*metrics.of))
            });
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
