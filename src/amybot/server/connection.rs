//! One service's websocket at work: frames to the session, what it says into the backlog, and what is for it written.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backlog::Backlog;
use super::close_code::CloseCode;
use super::limits::Limits;
use super::line::Line;
use super::outbox::Outbox;
use super::session::{Action, Close, Due, Session};
use crate::amybot::internal::Client;
use crate::websocket::frames::{self, FrameKind, Incoming, Reader};
use crate::websocket::http::Opened;
use crate::websocket::socket;

/// So many frames are handled before others get their turn.
const FRAMES_A_TURN: usize = 32;

/// While so much waits to be written, nothing more is read: what is read may have to be answered.
const ENOUGH: usize = 64 << 10;

/// A service that takes nothing of what is written for so long does not read.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a service may take to read the last of it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long it is tried to tell what it has said, when the process ends.
const LAST_TELLING: Duration = Duration::from_secs(2);

/// The same when it is gone and the coordinator knows that. It may be back already.
const LEFT_BEHIND: Duration = Duration::from_secs(30);

/// See the module.
pub struct Connection {
    line: Arc<dyn Line>,
    id: u64,
    stream: TcpStream,
    /// Among all connections.
    place: OwnedSemaphorePermit,
    session: Session,
    reader: Reader,
    backlog: Backlog,
    outbox: Outbox,
    out: Outgoing,
    /// Nothing is read for now.
    is_paused: bool,
}

/// Bytes on their way to the socket.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
    /// Since when none of them was taken.
    stuck: Option<Instant>,
}

/// How it ends.
enum End {
    /// The server closes.
    Closing(Close),
    /// The client does.
    ByClient(Option<u16>),
    /// Without a word.
    Lost,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        debug!(%error, "a service's connection broke");
        Self::Lost
    }
}

impl Connection {
    /// Of a websocket that was just opened.
    pub fn new(line: Arc<dyn Line>, id: u64, limits: Limits, place: OwnedSemaphorePermit, opened: Opened) -> Self {
        let outbox = Outbox::new(limits.client_buffer);
        Self {
            id,
            stream: opened.stream,
            place,
            session: Session::new(limits, Instant::now()),
            reader: Reader::new(limits.message, &opened.early),
            backlog: Backlog::new(Arc::clone(&line), id, outbox.clone(), limits),
            outbox,
            out: Outgoing::default(),
            is_paused: false,
            line,
        }
    }

    /// Serves the service until it goes, has to go, or `stop`; then until what it has said is told.
    pub async fn run(mut self, stop: CancellationToken) {
        let end = loop {
            if let Err(end) = self.serve(&stop).await {
                break end;
            }
        };
        match (self.session.name(), &end) {
            (Some(name), End::Closing(close)) => {
                info!(service = %name, connection = self.id, code = close.code.number(), reason = close.reason, "a service's connection is closed");
            }
            (Some(name), End::ByClient(_) | End::Lost) => {
                info!(service = %name, connection = self.id, "a service has gone")
            }
            (None, End::Closing(close)) => {
                debug!(connection = self.id, reason = close.reason, "nobody in particular is closed")
            }
            (None, End::ByClient(_) | End::Lost) => {}
        }
        let Self { line, stream, mut backlog, outbox, out, place, .. } = self;
        tokio::join!(say_goodbye(stream, out, outbox, end), tell_the_rest(line, &mut backlog, stop));
        // Last: until then it may still have a shard.
        drop((backlog, place));
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<(), End> {
        if let Some(close) = self.outbox.closing() {
            return Err(End::Closing(close));
        }
        let has_more = self.turn(Instant::now())?;
        self.write()?;
        if has_more {
            tokio::task::yield_now().await;
            return Ok(());
        }
        self.wait(stop).await
    }

    /// Handles frames that are there. Whether there may be more.
    fn turn(&mut self, now: Instant) -> Result<bool, End> {
        for _ in 0..FRAMES_A_TURN {
            if !self.may_read() {
                return Ok(false);
            }
            match self.reader.next_message() {
                Ok(None) => return Ok(false),
                Ok(Some(Incoming::Message(FrameKind::Text, text))) => {
                    let size = text.len();
                    match self.session.message(text, now) {
                        Action::Tell(message) => {
                            if self.backlog.client().is_none() && self.backlog.len() == 0 {
                                info!(service = %message.s, connection = self.id, "a service has come");
                            }
                            self.backlog.push(message, size);
                        }
                        Action::Answer(answer) => self.outbox.push(&answer.message().to_json()),
                        Action::Close(close) => return Err(End::Closing(close)),
                    }
                }
                Ok(Some(Incoming::Message(FrameKind::Binary, _))) => {
                    return Err(End::Closing(Close::new(CloseCode::Binary, "messages are texts")));
                }
                Ok(Some(Incoming::Ping(payload))) => {
                    self.out.put(|bytes| frames::write_pong(bytes, payload));
                    self.session.frame(now);
                }
                Ok(Some(Incoming::Pong | Incoming::Part)) => self.session.frame(now),
                Ok(Some(Incoming::Close(code))) => return Err(End::ByClient(code)),
                Err(fault) => return Err(End::Closing(Close::new(CloseCode::Fault(fault), fault.to_string()))),
            }
        }
        Ok(true)
    }

    fn may_read(&self) -> bool {
        !self.backlog.is_full() && self.out.len() < ENOUGH
    }

    /// Writes as much as the socket takes now.
    fn write(&mut self) -> Result<(), End> {
        loop {
            if self.out.is_empty() {
                let frames = self.outbox.take();
                self.out.put(|bytes| *bytes = frames);
            }
            if self.out.is_empty() || !self.out.flush(&self.stream)? {
                return Ok(());
            }
        }
    }

    /// Waits for anything. Dropped, none of these loses anything: `ready` and `filled` only tell, and a step goes on where it was.
    async fn wait(&mut self, stop: &CancellationToken) -> Result<(), End> {
        let reads = self.may_read();
        self.is_paused |= !reads;
        let interest = socket::interest(reads, !self.out.is_empty());
        let silent = reads.then(|| self.session.deadline());
        let deadline = [silent, self.out.deadline()].into_iter().flatten().min();
        tokio::select! {
            () = stop.cancelled() => {
                return Err(End::Closing(Close::new(CloseCode::ComeBack, "Optic stops here; come back")));
            }
            ready = self.stream.ready(interest.unwrap_or(Interest::READABLE)), if interest.is_some() => {
                if ready?.is_readable() && reads {
                    self.read()?;
                }
            }
            Some(()) = self.backlog.step() => {}
            () = self.outbox.filled() => {}
            () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                self.time_passed(reads, Instant::now())?;
            }
        }
        if self.is_paused && self.may_read() {
            self.is_paused = false;
            self.session.excuse(Instant::now());
        }
        Ok(())
    }

    fn time_passed(&mut self, reads: bool, now: Instant) -> Result<(), End> {
        if self.out.deadline().is_some_and(|deadline| now >= deadline) {
            return Err(End::Closing(Close::new(CloseCode::TooSlow, "nothing is read")));
        }
        match self.session.due(now).filter(|_| reads) {
            None => {}
            Some(Due::Ping) => self.out.put(frames::write_ping),
            Some(Due::Close(close)) => return Err(End::Closing(close)),
        }
        Ok(())
    }

    /// Reads once; what came is handled in the next turn.
    fn read(&mut self) -> Result<(), End> {
        if socket::read(&self.stream, &mut self.reader)? { Ok(()) } else { Err(End::Lost) }
    }
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// When the service is given up that takes nothing.
    fn deadline(&self) -> Option<Instant> {
        self.stuck.map(|since| since + PATIENCE)
    }

    fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        if !self.bytes.is_empty() {
            self.stuck.get_or_insert_with(Instant::now);
        }
    }

    /// Writes as much as the socket takes now; whether that is all.
    fn flush(&mut self, stream: &TcpStream) -> io::Result<bool> {
        while self.written < self.bytes.len() {
            match stream.try_write(&self.bytes[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.stuck = Some(Instant::now());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        *self = Self::default();
        Ok(true)
    }
}

/// Says the last words, and waits until the client has gone, too: a socket that is closed with unread bytes in it takes back what
/// the client has not read yet.
async fn say_goodbye(mut stream: TcpStream, mut out: Outgoing, outbox: Outbox, end: End) {
    let (answer, code, reason) = match end {
        End::Lost => return,
        End::ByClient(code) => (None, code, String::new()),
        End::Closing(close) => (close.answer, Some(close.code.number()), close.reason),
    };
    let frames = outbox.take();
    out.put(|bytes| {
        bytes.extend(frames);
        if let Some(answer) = answer {
            frames::write_message(bytes, FrameKind::Text, &answer.message().to_json());
        }
        match code {
            Some(code) => frames::write_close_with(bytes, code, &reason),
            None => frames::write_close(bytes, None),
        }
    });
    let parting = async {
        stream.write_all(&out.bytes[out.written..]).await?;
        stream.shutdown().await?;
        let mut chunk = [0; 1024];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut chunk) {
                Ok(0) => return Ok::<(), io::Error>(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    // Whether the client reads it, is its business.
    let _ = timeout(LAST_WORDS, parting).await;
}

/// As long as the coordinator takes the service for one that is there, it is to hear that it has gone.
async fn tell_the_rest(line: Arc<dyn Line>, backlog: &mut Backlog, stop: CancellationToken) {
    loop {
        let client = backlog.client().cloned();
        // Dropped in the middle, the last word is said again.
        tokio::select! {
            () = backlog.finish() => return,
            () = async { known_gone(&*line, client.as_ref()).await; sleep(LEFT_BEHIND).await } => {}
            () = async { stop.cancelled().await; sleep(LAST_TELLING).await } => break,
        }
        if backlog.client() == client.as_ref() {
            break;
        }
    }
    if backlog.len() > 0 {
        warn!(messages = backlog.len(), "RabbitMQ was away for too long: what a service said last is lost");
    }
}

async fn known_gone(line: &dyn Line, client: Option<&Client>) {
    if let Some(client) = client {
        line.lost(client).await;
    }
}
