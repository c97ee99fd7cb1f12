//! One connection that is ready: writes what the outbox has, reads confirms when that is due, keeps the heartbeats.
//!
//! When to read is the point, see the [module above](super) under "Wake-ups".

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::codec::frame::FrameDecoder;
use super::codec::method;
use super::error::ConnectionError;
use super::handle::Shared;
use super::handshake::Ready;
use super::incoming::{Incoming, News};
use super::outbox::{AbandonReason, Confirm};
use super::transport::Transport;
use super::{Observer, Returned};
use crate::broker::BrokerState;
use crate::clock::unix_millis;

/// After a write, confirms are read when the last read is this long ago …
const READ_AFTER: Duration = Duration::from_millis(20);
/// … or this many messages were written since.
const READ_AFTER_WRITES: u64 = 64;
/// Without a further write they are read after this; longer than [`READ_AFTER`], so that a steady trickle of events never
/// needs the timer.
const READ_WITHOUT_WRITE: Duration = Duration::from_millis(30);
/// Nothing outstanding for this long: the socket is watched instead.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// Written in one go before confirms and other tasks get their turn.
const WRITE_BURST: usize = 1 << 20;

pub(super) struct Link {
    transport: Transport,
    /// Watches for room to write, and nothing else.
    writable: AsyncFd<Arc<TcpStream>>,
    /// Watches for something to read; only while that is wanted.
    readable: Option<AsyncFd<TcpStream>>,
    decoder: FrameDecoder,
    incoming: Incoming,
    /// Answers and signs of life, written between messages.
    control: Vec<u8>,
    heartbeat: Option<Duration>,
    blocked: bool,
    flow_stopped: bool,
    /// There may be messages, and the fence was closed.
    fenced: bool,
    /// The socket takes nothing for now.
    stalled: bool,
    /// The burst's bound was met before the outbox was empty.
    more: bool,
    /// There is something to read, or was more than was read.
    read_now: bool,
    closing: bool,
    closed: bool,
    last_read: Instant,
    last_received: Instant,
    last_sent: Instant,
    /// When the last message was settled or written.
    last_busy: Instant,
    tag_at_read: u64,
    /// A delivery tag and when it was written, to see how long its confirm takes.
    sample: Option<(u64, Instant)>,
    confirms: Vec<Confirm>,
}

impl Link {
    pub(super) fn new(transport: Transport, decoder: FrameDecoder, agreed: &Ready) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            writable: watch(transport.socket().clone(), Interest::WRITABLE)?,
            transport,
            readable: None,
            decoder,
            incoming: Incoming::default(),
            control: Vec::new(),
            heartbeat: (agreed.heartbeat > 0).then(|| Duration::from_secs(agreed.heartbeat.into())),
            blocked: agreed.blocked,
            flow_stopped: false,
            fenced: false,
            stalled: false,
            more: false,
            read_now: false,
            closing: false,
            closed: false,
            last_read: now,
            last_received: now,
            last_sent: now,
            last_busy: now,
            tag_at_read: 0,
            sample: None,
            confirms: Vec::new(),
        })
    }

    /// Serves until the connection is lost. Dropping it loses nothing but the connection.
    pub(super) async fn serve(&mut self, shared: &Shared, observer: &dyn Observer) -> Result<(), ConnectionError> {
        let timer = tokio::time::sleep_until(self.last_read);
        tokio::pin!(timer);
        loop {
            self.turn(shared, observer)?;
            if self.closed {
                return Ok(());
            }
            if self.more || self.read_now {
                tokio::task::yield_now().await;
                continue;
            }
            let deadline = self.deadline(shared);
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            // All of them only wake us; what there is to do is found out by the next turn.
            tokio::select! {
                () = shared.work.notified() => {}
                ready = self.writable.writable(), if self.stalled => {
                    ready?.clear_ready();
                    self.stalled = false;
                }
                ready = readable(self.readable.as_ref()), if self.readable.is_some() => {
                    ready?;
                    self.read_now = true;
                }
                () = shared.fence.opened(), if self.fenced => {}
                () = &mut timer => {}
            }
        }
    }

    /// Says goodbye and waits for the answer.
    pub(super) async fn close(&mut self, shared: &Shared, observer: &dyn Observer) -> Result<(), ConnectionError> {
        method::close(200, "optic is done", &mut self.control);
        self.closing = true;
        self.serve(shared, observer).await
    }

    /// Does all that can be done now.
    fn turn(&mut self, shared: &Shared, observer: &dyn Observer) -> Result<(), ConnectionError> {
        let now = Instant::now();
        self.keep_alive(now, shared, observer)?;
        let last_tag = self.write(now, shared)?;
        let written_since = last_tag - self.tag_at_read;
        if self.read_now || now - self.last_read >= READ_AFTER || written_since >= READ_AFTER_WRITES {
            self.read(now, shared, observer)?;
            self.tag_at_read = last_tag;
            // What was read may have to be answered.
            if !self.control.is_empty() {
                self.write(now, shared)?;
            }
        }
        self.watch_or_not(now, shared)
    }

    fn keep_alive(&mut self, now: Instant, shared: &Shared, observer: &dyn Observer) -> Result<(), ConnectionError> {
        let Some(interval) = self.heartbeat else { return Ok(()) };
        if now - self.last_sent >= interval / 2 && self.control.is_empty() {
            self.control.extend_from_slice(&method::HEARTBEAT);
        }
        if now - self.last_received >= interval * 2 {
            // Perhaps it is only that we did not look.
            self.read(now, shared, observer)?;
            if now - self.last_received >= interval * 2 {
                return Err(ConnectionError::Silent(now - self.last_received));
            }
        }
        Ok(())
    }

    /// Writes until there is nothing more, or the socket is full. Gives the last delivery tag.
    fn write(&mut self, now: Instant, shared: &Shared) -> Result<u64, ConnectionError> {
        let mut queue = shared.lock();
        queue.told = false;
        let outbox = &mut queue.outbox;
        let before = outbox.last_tag();
        let mut written = 0;
        self.more = false;
        self.fenced = !shared.fence.is_open(now.into_std());
        while !self.stalled {
            if outbox.at_boundary() && !self.control.is_empty() {
                match self.transport.write(&self.control) {
                    Ok(n) => {
                        // A part of a frame must not be followed by a message: the rest stays in front.
                        self.control.drain(..n);
                        written += n;
                        continue;
                    }
                    Err(error) => {
                        self.stalled = would_block(error)?;
                        break;
                    }
                }
            }
            let finish_only =
                self.blocked || self.flow_stopped || self.fenced || self.closing || !self.control.is_empty();
            let bytes = outbox.writable(finish_only, now.into_std());
            if bytes.is_empty() {
                break;
            }
            if written >= WRITE_BURST {
                self.more = true;
                break;
            }
            match self.transport.write(bytes) {
                Ok(n) => {
                    outbox.wrote(n);
                    written += n;
                }
                Err(error) => self.stalled = would_block(error)?,
            }
        }
        if !self.transport.flush()? {
            self.stalled = true;
        }
        let last_tag = outbox.last_tag();
        if written > 0 {
            self.last_sent = now;
        }
        if last_tag > before {
            self.last_busy = now;
            self.sample.get_or_insert((last_tag, now));
        }
        Ok(last_tag)
    }

    /// Reads all there is, then applies the confirms together.
    fn read(&mut self, now: Instant, shared: &Shared, observer: &dyn Observer) -> Result<(), ConnectionError> {
        self.last_read = now;
        self.read_now = false;
        let result = self.read_all(now, shared, observer);
        // Also before an error is told: what was confirmed need not be written again.
        self.apply(now, shared, observer)?;
        result
    }

    fn read_all(&mut self, now: Instant, shared: &Shared, observer: &dyn Observer) -> Result<(), ConnectionError> {
        loop {
            let space = self.decoder.space();
            let room = space.len();
            let n = match self.transport.read(space) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(n) => n,
                Err(error) => return would_block(error).map(|_| ()),
            };
            self.decoder.filled(n);
            self.last_received = now;
            while let Some(frame) = self.decoder.next_frame()? {
                match self.incoming.handle(frame)? {
                    News::Nothing => {}
                    News::Confirm(confirm) => self.confirms.push(confirm),
                    News::Returned { routing_key, message_id } => {
                        let becomes = observer.returned(routing_key, message_id);
                        let mut queue = shared.lock();
                        queue.returned += 1;
                        if let (Returned::Again | Returned::GivenUp, Some(id)) = (becomes, message_id) {
                            queue.outbox.returned(id, becomes == Returned::Again);
                        }
                    }
                    News::Blocked(reason) => {
                        tracing::warn!(reason, "RabbitMQ takes no messages for now (connection.blocked)");
                        self.blocked = true;
                        shared.state.send_replace(BrokerState::Blocked);
                    }
                    News::Unblocked => {
                        tracing::info!("RabbitMQ takes messages again");
                        self.blocked = false;
                        shared.state.send_replace(BrokerState::Connected);
                    }
                    News::Flow(active) => {
                        self.flow_stopped = !active;
                        method::flow_ok(active, &mut self.control);
                    }
                    News::ChannelClose(reason) => {
                        let (code, text) = (reason.code, reason.text.to_owned());
                        method::channel_close_ok(&mut self.control);
                        method::close(200, "the channel was closed", &mut self.control);
                        self.last_words();
                        return Err(ConnectionError::ChannelClosed { code, text });
                    }
                    News::ConnectionClose(reason) => {
                        let (code, text) = (reason.code, reason.text.to_owned());
                        method::close_ok(&mut self.control);
                        self.last_words();
                        return Err(ConnectionError::Closed { code, text });
                    }
                    News::CloseOk => {
                        self.closed = true;
                        return Ok(());
                    }
                }
            }
            if self.confirms.len() >= CONFIRMS_AT_ONCE {
                // The socket will not tell again of what is there already.
                self.read_now = true;
                return Ok(());
            }
            // A plain socket that gave less than there was room for has no more; TLS may hold further records.
            if n < room && !self.transport.is_tls() {
                return Ok(());
            }
        }
    }

    fn apply(&mut self, now: Instant, shared: &Shared, observer: &dyn Observer) -> Result<(), ConnectionError> {
        if self.confirms.is_empty() {
            return Ok(());
        }
        let mut abandoned = Vec::new();
        let mut queue = shared.lock();
        let mut result = Ok(());
        for confirm in self.confirms.drain(..) {
            result = queue.outbox.confirm(confirm, now.into_std());
            if result.is_err() {
                break;
            }
        }
        self.confirms.clear();
        while let Some(message) = queue.outbox.next_abandoned() {
            abandoned.push(message);
        }
        if let Some((tag, written)) = self.sample
            && queue.outbox.oldest_tag().is_none_or(|oldest| oldest > tag)
        {
            queue.confirm_latency = Some(now - written);
            self.sample = None;
        }
        self.last_busy = now;
        drop(queue);
        tell_abandoned(abandoned, shared, observer);
        if shared.somebody_waits() {
            shared.progress.notify_waiters();
        }
        result.map_err(ConnectionError::from)
    }

    /// An answer to a close goes out if it can; the connection is over in any case.
    fn last_words(&mut self) {
        let _ = self.transport.write(&self.control);
    }

    /// Watches the socket for reading while confirms are urgent, or nothing else would look at it.
    fn watch_or_not(&mut self, now: Instant, shared: &Shared) -> Result<(), ConnectionError> {
        let queue = shared.lock();
        let idle = queue.outbox.in_flight() == 0 && now - self.last_busy >= IDLE_AFTER;
        let urgent = shared.somebody_waits() || queue.outbox.is_half_full();
        drop(queue);
        let wanted = idle || urgent || self.stalled || self.blocked || self.closing;
        if !wanted {
            self.readable = None;
        } else if self.readable.is_none() {
            if idle {
                shared.lock().outbox.shrink();
            }
            let socket = self.transport.socket().try_clone()?;
            self.readable = Some(watch(socket, Interest::READABLE)?);
        }
        Ok(())
    }

    /// When to look again without having been woken.
    fn deadline(&self, shared: &Shared) -> Instant {
        let queue = shared.lock();
        let mut deadline = Instant::now() + FAR;
        if self.readable.is_none() {
            let outstanding = queue.outbox.in_flight() > 0;
            deadline = if outstanding { self.last_read + READ_WITHOUT_WRITE } else { self.last_busy + IDLE_AFTER };
        }
        if let Some(interval) = self.heartbeat {
            // A sign of life that cannot be written now will be when the socket takes something again.
            if !self.stalled {
                deadline = deadline.min(self.last_sent + interval / 2);
            }
            deadline = deadline.min(self.last_received + interval * 2);
        }
        let may_write = !(self.blocked || self.flow_stopped || self.fenced || self.stalled || self.closing);
        if may_write && let Some(retry) = queue.outbox.next_retry() {
            deadline = deadline.min(Instant::from_std(retry));
        }
        deadline
    }
}

/// Confirms collected before they are applied.
const CONFIRMS_AT_ONCE: usize = 4096;

/// Later than anything that matters.
const FAR: Duration = Duration::from_secs(3600);

/// Tells of each message given up, outside the lock: the observer may publish the news.
pub(super) fn tell_abandoned(abandoned: Vec<super::outbox::Abandoned>, shared: &Shared, observer: &dyn Observer) {
    for message in abandoned {
        let (event, shard, seq, reason) = (&message.routing_key, message.shard, message.seq, message.reason);
        match reason {
            // There may be as many as there are messages: whoever knows the queue tells of it.
            AbandonReason::Unroutable => {
                tracing::debug!(event, shard, seq, "no queue takes a message: it was given up")
            }
            _ => tracing::error!(event, shard, seq, ?reason, "a message was given up"),
        }
        let notice = observer.abandoned(&message);
        let mut queue = shared.lock();
        queue.outbox.told(message.position, notice);
        queue.last_abandoned = Some(unix_millis());
    }
}

/// Registers a socket with the runtime for one kind of readiness, which its own sockets cannot do: they watch for both.
#[expect(
    deprecated,
    reason = "the successor is unsafe because the type handed in might close its descriptor early; a TcpStream does not"
)]
pub(super) fn watch<T: AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, interest)
}

async fn readable(fd: Option<&AsyncFd<TcpStream>>) -> io::Result<()> {
    match fd {
        Some(fd) => {
            fd.readable().await?.clear_ready();
            Ok(())
        }
        None => std::future::pending().await,
    }
}

/// `Ok(true)` for "not now", the error itself otherwise.
fn would_block(error: io::Error) -> Result<bool, ConnectionError> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(true),
        io::ErrorKind::Interrupted => Ok(false),
        _ => Err(error.into()),
    }
}
