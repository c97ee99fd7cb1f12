//! What is where: the way from a request's path to what answers it.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::Request;
use hyper::body::{Body, Bytes};
use hyper::{Method, StatusCode};

use super::admin::Admin;
use super::answer::{Answer, allowing, json, secured, text};
use super::health::{Health, Report};
use super::page::Page;

/// All that is served.
pub struct Site {
    health: Arc<dyn Health>,
    admin: Option<Admin>,
    page: Option<Page>,
}

impl Site {
    /// Health alone.
    pub fn new(health: Arc<dyn Health>) -> Self {
        Self { health, admin: None, page: None }
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
        if matches!(path, "/health/live" | "/health/ready") {
            return self.health(path, request.method());
        }
        match (&self.page, &self.admin) {
            (Some(page), _) if Page::is_at(path) => page.respond(request, peer).await,
            (_, Some(admin)) if path.starts_with("/api/") => admin.respond(request, peer).await,
            _ => text(
                StatusCode::NOT_FOUND,
                "not found: there are /, /health/live, /health/ready and /api/amybot/services\n",
            ),
        }
    }

    fn health(&self, path: &str, method: &Method) -> Answer {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return allowing(text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"), "GET, HEAD");
        }
        if path == "/health/live" {
            return text(StatusCode::OK, "alive\n");
        }
        let report = Report::of(&self.health.snapshot());
        let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(status, &report)
    }
}
