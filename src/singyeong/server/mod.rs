//! 신경's front: who connects to `/gateway/websocket`.
//!
//! A connection has its session, wire and registration, and is one task of the listener that it came by. One that panics is gone
//! from the hub, and the others go on.

mod answers;
mod connection;
pub mod listing;
mod registration;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use tokio::sync::Semaphore;

use self::connection::Connection;
use super::exchange::Exchange;
use super::hub::Hub;
use super::ids::ConnectionId;
use super::session::Rules;
use crate::encoding::Encoding;
use crate::websocket::http::{Answer, Endpoint, Welcome, empty, no_place};

/// Where clients connect.
const PATH: &str = "/gateway/websocket";

/// What connections share.
pub struct Services {
    /// Who is connected.
    pub hub: Arc<Hub>,
    /// What carries dispatches.
    pub exchange: Arc<dyn Exchange>,
    /// What clients may do.
    pub rules: Arc<Rules>,
}

/// Lets clients in.
pub struct Entrance {
    services: Arc<Services>,
    /// Whether one more is let in, and the place that it takes.
    places: Arc<Semaphore>,
    /// How many have come.
    count: AtomicU64,
}

impl Entrance {
    /// For clients of these.
    pub fn new(services: Services) -> Self {
        let places = Arc::new(Semaphore::new(services.rules.limits.connections));
        Self { services: Arc::new(services), places, count: AtomicU64::new(0) }
    }
}

impl Endpoint for Entrance {
    fn path(&self) -> &'static str {
        PATH
    }

    fn admit(self: Arc<Self>, query: Option<&str>) -> Result<Welcome, Box<Answer>> {
        let encoding = encoding(query).ok_or_else(|| empty(StatusCode::FORBIDDEN))?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| no_place())?;
        let id = ConnectionId::new(1 + self.count.fetch_add(1, Ordering::Relaxed));
        let services = Arc::clone(&self.services);
        Ok(Box::new(move |opened, stop| Box::pin(Connection::new(services, id, encoding, place, opened).run(stop))))
    }
}

/// JSON when nothing is said. Of several `encoding`s the last holds.
fn encoding(query: Option<&str>) -> Option<Encoding> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    match pairs.filter(|(name, _)| name == "encoding").last() {
        Some((_, name)) => Encoding::of_name(&name),
        None => Some(Encoding::Json),
    }
}
