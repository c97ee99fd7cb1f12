//! What a connection is to send: websocket frames in a small buffer, and how far they went out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use crate::discord::connect::Stream;
use crate::discord::websocket;

/// More than this waiting means that the server does not read; pongs are then left out.
const MAX_WAITING: usize = 64 << 10;

/// Frames on their way out. Bounded: packets are limited by Discord's 120 a minute, pongs by [`MAX_WAITING`].
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    at: usize,
    queued: u64,
    written: u64,
}

impl Outgoing {
    /// Queues a packet; gives the mark that [`written`](Self::written) reaches once all of it is out.
    pub(super) fn text(&mut self, packet: &[u8]) -> u64 {
        self.append(|bytes| websocket::write_text(bytes, packet, fastrand::u32(..)))
    }

    /// Queues the answer to a ping.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        if self.bytes.len() < MAX_WAITING {
            self.append(|bytes| websocket::write_pong(bytes, payload, fastrand::u32(..)));
        }
    }

    /// Queues a close frame.
    pub(super) fn close(&mut self, code: u16) {
        self.append(|bytes| websocket::write_close(bytes, code, fastrand::u32(..)));
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.queued += (self.bytes.len() - before) as u64;
        self.queued
    }

    /// How many bytes the socket took so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes what waits; ready when all is out.
    pub(super) fn poll_write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.at < self.bytes.len() {
            let n = std::task::ready!(Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.at..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.at += n;
            self.written += n as u64;
        }
        self.bytes = Vec::new();
        self.at = 0;
        Pin::new(stream).poll_flush(cx)
    }
}
