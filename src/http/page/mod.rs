//! The page, and what it is fed with (spec/seeing.md, "The page").
//!
//! ```text
//! assets             its files
//! live ── board      what all viewers are told, made once for all of them
//!            ├ state     all but the shards
//!            ├ shards    a row a shard, and when it was last another
//!            └ problems  what a person has to know, in words
//! pictures ── chart  the last half hour, drawn once for all
//! clients            신경's clients, by query
//! ```
//!
//! Knows no process and no RabbitMQ: a [`Lookout`] tells how all processes are.

mod assets;
mod board;
pub mod chart;
mod clients;
mod live;
mod pictures;
mod problems;
mod shards;
mod state;

use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::{Body, Bytes};
use hyper::{Method, Request, StatusCode};

use self::clients::Clients;
use self::live::Live;
use self::pictures::Pictures;
use super::answer::{Answer, allowing, error};
use super::lookout::Lookout;
use super::readers::Readers;

const LIVE: &str = "/api/live";
const CHARTS: &str = "/api/chart/";
const CLIENTS: &str = "/api/singyeong/clients";

/// The page.
pub struct Page {
    readers: Arc<Readers>,
    live: Live,
    pictures: Pictures,
    clients: Clients,
}

impl Page {
    /// Of what this lookout sees, for these.
    pub fn new(readers: Arc<Readers>, lookout: Arc<dyn Lookout>) -> Self {
        Self {
            readers,
            live: Live::new(lookout.clone()),
            pictures: Pictures::new(lookout.clone()),
            clients: Clients::new(lookout),
        }
    }

    /// Whether a path is one of the page's.
    pub(super) fn is_at(path: &str) -> bool {
        assets::is_at(path) || path == LIVE || path == CLIENTS || path.starts_with(CHARTS)
    }

    /// Answers a request of this address, for one of its paths.
    pub(super) async fn respond<B>(&self, request: Request<B>, peer: IpAddr) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let path = request.uri().path();
        let is_post = path == CLIENTS;
        let is_allowed = match *request.method() {
            Method::GET | Method::HEAD => !is_post,
            Method::POST => is_post,
            _ => false,
        };
        if !is_allowed {
            let methods = if is_post { "POST" } else { "GET, HEAD" };
            return allowing(error(StatusCode::METHOD_NOT_ALLOWED, &format!("only {methods}")), methods);
        }
        if let Some(file) = assets::answer(path, request.headers()) {
            return file;
        }
        if let Err(refusal) = self.readers.may_read(&request, peer).await {
            return *refusal;
        }
        match path {
            CLIENTS => self.clients.answer(request.into_body()).await,
            LIVE => self.live.answer(request.method()),
            _ => self.pictures.answer(path.strip_prefix(CHARTS).unwrap_or_default(), request.uri().query()),
        }
    }
}

#[cfg(test)]
mod sockets;
#[cfg(test)]
mod tests;
