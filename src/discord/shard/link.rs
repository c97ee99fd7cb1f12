//! A shard's connection as its driver holds it: none, being opened, open.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::intake::{Intake, Scratch, Taken};
use super::outgoing::Outgoing;
use crate::discord::compression::Compression;
use crate::discord::connect::{ConnectError, Opened, Stream};
use crate::discord::inflate::Inflater;
use crate::discord::websocket::Reader;

/// A connection being opened.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Opened, ConnectError>> + Send>>;

/// The connection, or what there is of it.
#[derive(Default)]
pub(super) enum Link {
    /// None.
    #[default]
    Down,
    /// On its way.
    Opening(Opening),
    /// Open.
    Open(Box<Open>),
}

/// What happened on a link.
pub(super) enum LinkEvent {
    /// The attempt came to an end.
    Opened(Result<Opened, ConnectError>),
    /// Packets were taken in; `more` are likely to wait in the socket.
    Taken { more: bool },
    /// All that waited to be sent is out.
    Written,
    /// The connection is gone, without a close frame.
    Lost(io::Error),
}

/// An open connection.
pub(super) struct Open {
    stream: Stream,
    reader: Reader,
    inflater: Inflater,
    pub(super) out: Outgoing,
    /// Whether whole messages may be left in the reader: it stopped before its end.
    unread: bool,
}

impl Open {
    pub(super) fn new(opened: Opened, compression: Compression) -> Self {
        Self {
            stream: opened.stream,
            unread: !opened.early.is_empty(),
            reader: Reader::new(opened.early),
            inflater: Inflater::new(compression),
            out: Outgoing::default(),
        }
    }

    /// The socket and what is still to be sent on it.
    pub(super) fn into_parts(self) -> (Stream, Outgoing) {
        (self.stream, self.out)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reading: bool,
        intake: &mut Intake,
        scratch: &mut Scratch,
    ) -> Poll<LinkEvent> {
        if !self.out.is_empty() {
            match self.out.poll_write(&mut self.stream, cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(LinkEvent::Written),
                Poll::Ready(Err(error)) => return Poll::Ready(LinkEvent::Lost(error)),
                Poll::Pending => {}
            }
        }
        if !reading {
            return Poll::Pending;
        }
        let (chunk, inflated) = scratch.parts();
        let capacity = chunk.len();
        let bytes: &[u8] = if self.unread {
            &[]
        } else {
            let mut buffer = ReadBuf::new(&mut *chunk);
            if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                return Poll::Ready(LinkEvent::Lost(error));
            }
            if buffer.filled().is_empty() {
                return Poll::Ready(LinkEvent::Lost(io::ErrorKind::UnexpectedEof.into()));
            }
            let length = buffer.filled().len();
            &chunk[..length]
        };
        let bytes_read = bytes.len();
        let taken = intake.chunk(bytes, &mut self.reader, &mut self.inflater, inflated, &mut self.out);
        self.unread = taken == Taken::Stopped;
        let more = bytes_read == capacity;
        Poll::Ready(LinkEvent::Taken { more })
    }
}

impl Link {
    /// Writes what waits, then, if `reading`, reads one chunk and takes it in.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reading: bool,
        intake: &mut Intake,
        scratch: &mut Scratch,
    ) -> Poll<LinkEvent> {
        match self {
            Self::Down => Poll::Pending,
            Self::Opening(opening) => opening.as_mut().poll(cx).map(LinkEvent::Opened),
            Self::Open(open) => open.poll(cx, reading, intake, scratch),
        }
    }
}
