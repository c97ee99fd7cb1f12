//! What a connection is to send: websocket frames in a small buffer, and how far they went out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use crate::discord::compression::Encoding;
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
    /// The stream took everything and may still hold some of it (TLS).
    unflushed: bool,
}

impl Outgoing {
    /// Queues a packet in this encoding; gives the mark that [`written`](Self::written) reaches once all of it is out.
    pub(super) fn packet(&mut self, encoding: Encoding, packet: &[u8]) -> u64 {
        let write = match encoding {
            Encoding::Json => websocket::write_text,
            Encoding::Etf => websocket::write_binary,
        };
        self.append(|bytes| write(bytes, packet, fastrand::u32(..)))
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
        self.bytes.is_empty() && !self.unflushed
    }

    /// Writes what waits; ready when all is out.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.at < self.bytes.len() {
            self.unflushed = true;
            let n = std::task::ready!(Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.at..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.at += n;
            self.written += n as u64;
        }
        self.bytes = Vec::new();
        self.at = 0;
        std::task::ready!(Pin::new(stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes everything at once, and is in no hurry to pass it on.
    #[derive(Default)]
    struct Slow {
        held: Vec<u8>,
        flushes_to_refuse: u32,
        passed_on: Vec<u8>,
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.held.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.flushes_to_refuse > 0 {
                self.flushes_to_refuse -= 1;
                return Poll::Pending;
            }
            let held = std::mem::take(&mut self.held);
            self.passed_on.extend(held);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_the_stream_holds_is_not_out() {
        let (mut out, mut stream) = (Outgoing::default(), Slow { flushes_to_refuse: 2, ..Slow::default() });
        let mut cx = Context::from_waker(Waker::noop());
        let mark = out.packet(Encoding::Json, b"{}");
        for _ in 0..2 {
            assert!(out.poll_write(&mut stream, &mut cx).is_pending() && !out.is_empty());
        }
        assert!(out.poll_write(&mut stream, &mut cx).is_ready() && out.is_empty());
        assert_eq!(stream.passed_on.len() as u64, mark);
    }
}
