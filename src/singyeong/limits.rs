//! How much a client may ask for: `SINGYEONG_MAX_*` and the waits (spec/configuration.md).

use std::time::Duration;

/// The most that [`Limits::query_depth`] may be: what one process has taken any other can read.
pub const MOST_QUERY_DEPTH: usize = 64;

/// What clients may do at most, and how long is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections to this process.
    pub connections: usize,
    /// Bytes of a message from a client, and of a REST body.
    pub message: usize,
    /// Bytes of a client's metadata, as JSON writes them.
    pub metadata: usize,
    /// How deep a query's operators lie in each other.
    pub query_depth: usize,
    /// Bytes that wait to be written to one client; over them it is closed.
    pub client_buffer: usize,
    /// How often a client is told to send heartbeats.
    pub heartbeat: Duration,
    /// How long a queued message may stay with a client that does not acknowledge it.
    pub acknowledgement: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            message: 4 << 20,
            metadata: 64 << 10,
            query_depth: 32,
            client_buffer: 8 << 20,
            heartbeat: Duration::from_millis(45_000),
            acknowledgement: Duration::from_secs(15),
        }
    }
}

impl Limits {
    /// No heartbeat for so long: the client is gone. One and a half intervals, as in the original.
    pub fn heartbeat_timeout(&self) -> Duration {
        self.heartbeat * 3 / 2
    }

    /// No frame at all for so long: the client is gone. 60 s with the usual interval.
    pub fn idle_timeout(&self) -> Duration {
        self.heartbeat * 4 / 3
    }
}
