//! How much one service's connection may take, and how long is waited for it.

use std::time::Duration;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections to this process. One that is gone counts until the coordinator knows it.
    pub connections: usize,
    /// Bytes of a message.
    pub message: usize,
    /// So many messages of a connection may wait until RabbitMQ has them; then nothing more is read.
    pub backlog: usize,
    /// So many bytes of them.
    pub backlog_bytes: usize,
    /// Bytes that wait to be written to a connection; over them it is closed.
    pub client_buffer: usize,
    /// IDENTIFY comes within this.
    pub identify: Duration,
    /// After so long without a frame there is a ping.
    pub ping: Duration,
    /// And so long after the ping a connection without a frame is closed.
    pub pong: Duration,
}

impl Default for Limits {
    /// Services are dozens, not users: a thousand connections are many.
    fn default() -> Self {
        Self {
            connections: 1000,
            message: 1 << 20,
            backlog: 64,
            backlog_bytes: 2 << 20,
            client_buffer: 8 << 20,
            identify: Duration::from_secs(10),
            ping: Duration::from_secs(30),
            pong: Duration::from_secs(15),
        }
    }
}
