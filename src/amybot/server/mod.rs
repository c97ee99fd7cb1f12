//! amybot's websocket: services that connect to `/gateway/amybot` (spec/amybot.md, "Websocket").
//!
//! ```text
//! Entrance              lets connections in
//! └─ connection         one service: its session, the backlog of what it says, the outbox of what it hears
//!    └─ line            the way to the coordinator and back
//! ```

mod backlog;
mod close_code;
mod connection;
mod limits;
pub mod line;
pub mod outbox;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

pub use self::close_code::CloseCode;
use self::connection::Connection;
pub use self::limits::Limits;
use self::line::Line;
pub use self::session::Close;
use crate::websocket::http::{Answer, Endpoint, Welcome, no_place};

/// Where services connect.
pub const PATH: &str = "/gateway/amybot";

/// Lets services in.
pub struct Entrance {
    line: Arc<dyn Line>,
    limits: Limits,
    /// Whether one more is let in, and the place that it takes.
    places: Arc<Semaphore>,
    /// How many have come.
    count: AtomicU64,
}

impl Entrance {
    /// For services whose messages go along this line.
    pub fn new(line: Arc<dyn Line>, limits: Limits) -> Self {
        Self { line, limits, places: Arc::new(Semaphore::new(limits.connections)), count: AtomicU64::new(0) }
    }
}

impl Endpoint for Entrance {
    fn path(&self) -> &'static str {
        PATH
    }

    /// There is no password that a page would have to know.
    fn takes_pages(&self) -> bool {
        false
    }

    fn admit(self: Arc<Self>, _query: Option<&str>) -> Result<Welcome, Box<Answer>> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| no_place())?;
        let id = 1 + self.count.fetch_add(1, Ordering::Relaxed);
        let (line, limits) = (Arc::clone(&self.line), self.limits);
        Ok(Box::new(move |opened, stop| Box::pin(Connection::new(line, id, limits, place, opened).run(stop))))
    }
}
