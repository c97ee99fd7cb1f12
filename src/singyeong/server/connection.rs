//! One websocket at work: frames to the session, its actions carried out, and what is for the client written.
//!
//! One task, and at rest no buffer. Answers go out in the order of the questions, while up to [`MOST_UNDER_WAY`] dispatches are
//! under way: who gets an answer knows that all before it is done.

use std::future::ready;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Services;
use super::frames::{self, Fault, Incoming, Reader};
use super::http::Opened;
use super::registration::Registered;
use super::wire::Wire;
use crate::clock;
use crate::encoding::{Map, Value};
use crate::singyeong::client::Client;
use crate::singyeong::close_code::CloseCode;
use crate::singyeong::exchange::{Later, Sender};
use crate::singyeong::ids::ConnectionId;
use crate::singyeong::metadata::Changes;
use crate::singyeong::outbox::Outbox;
use crate::singyeong::packet::outgoing::Outgoing;
use crate::singyeong::query::Query;
use crate::singyeong::session::{Action, Registration, Session};

/// So many answers of one connection may be awaited; then nothing more is read of it.
const MOST_UNDER_WAY: usize = 32;

/// So many frames are handled before others get their turn.
const FRAMES_A_TURN: usize = 32;

/// So much is read at a time.
const CHUNK: usize = 16 << 10;

/// How long dispatches may take that are under way when the server closes, and how long the client may take to read the rest.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How long dispatches may take whose client is gone.
const LEFT_BEHIND: Duration = Duration::from_secs(10);

/// See the module.
pub struct Connection {
    services: Arc<Services>,
    id: ConnectionId,
    peer: IpAddr,
    stream: TcpStream,
    /// Among all connections.
    place: OwnedSemaphorePermit,
    session: Session,
    reader: Reader,
    wire: Wire,
    outbox: Outbox,
    answers: FuturesOrdered<Later<Option<Outgoing>>>,
    registered: Option<Registered>,
    /// A ping is out of which somebody wants to hear.
    is_probed: bool,
    /// Nothing is read for now.
    is_paused: bool,
}

/// What comes after some frames.
enum Turn {
    /// More bytes, or room for more answers.
    Wait,
    /// More frames, when others had their turn.
    More,
    Register(Box<Registration>),
    End(End),
}

/// How it ends.
enum End {
    /// The server closes.
    Closing {
        last: Option<Outgoing>,
        code: CloseCode,
        /// Whether what waits for the client is still for it.
        says_all: bool,
    },
    /// The client does.
    ByClient(Option<u16>),
    /// Without a word.
    Lost,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        debug!(%error, "a client's connection broke");
        Self::Lost
    }
}

impl Connection {
    /// Of a websocket that was just opened.
    pub fn new(services: Arc<Services>, id: ConnectionId, peer: IpAddr, opened: Opened) -> Self {
        let limits = &services.rules.limits;
        let session = Session::new(Arc::clone(&services.rules), opened.encoding, peer, Instant::now());
        Self {
            id,
            peer,
            session,
            reader: Reader::new(limits.message, &opened.early),
            wire: Wire::new(opened.encoding),
            outbox: Outbox::new(limits.client_buffer),
            answers: FuturesOrdered::new(),
            registered: None,
            is_probed: false,
            is_paused: false,
            stream: opened.stream,
            place: opened.place,
            services,
        }
    }

    /// Serves the client until it goes, has to go, or `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.wire.packet(&self.session.hello());
        let end = match self.serve(&stop).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if let Some(registered) = &self.registered {
            registered.leave();
        }
        self.finish(end).await;
        // Whatever waits for the client is told now that it was not written.
        self.outbox.end();
        drop((self.wire, self.stream, self.reader));
        // Of what the client has sent nothing is dropped only because it has gone.
        let mut answers = self.answers;
        tokio::select! {
            () = async { while answers.next().await.is_some() {} } => {}
            () = sleep(LEFT_BEHIND) => {}
            () = async { stop.cancelled().await; sleep(LAST_ANSWERS).await } => {}
        }
        // Last: what it has asked for until now is to be given up, too.
        drop(self.registered);
        drop(self.place);
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<std::convert::Infallible, End> {
        loop {
            self.fill()?;
            self.wire.flush(&self.stream)?;
            match self.turn(Instant::now()) {
                Turn::Wait => {}
                Turn::More => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Turn::Register(registration) => {
                    self.register(*registration, stop).await?;
                    continue;
                }
                Turn::End(end) => return Err(end),
            }
            if !self.wire.is_empty() {
                self.wire.flush(&self.stream)?;
            }
            self.wait(stop).await?;
        }
    }

    /// Waits for anything, in no order of rank: neither reading nor writing may keep the other from its turn. Dropped, none of
    /// these loses anything: `ready` and `filled` only tell, and an answer that has come is given out at once.
    async fn wait(&mut self, stop: &CancellationToken) -> Result<(), End> {
        let reads = self.may_read();
        self.is_paused |= !reads;
        let interest = match (reads, self.wire.is_empty()) {
            (true, true) => Some(Interest::READABLE),
            (true, false) => Some(Interest::READABLE | Interest::WRITABLE),
            (false, false) => Some(Interest::WRITABLE),
            (false, true) => None,
        };
        let idle = self.session.deadline().filter(|_| reads);
        let deadline = [idle, self.wire.deadline()].into_iter().flatten().min();
        tokio::select! {
            () = stop.cancelled() => return Err(closing(self.session.stop(), true)),
            ready = self.stream.ready(interest.unwrap_or(Interest::READABLE)), if interest.is_some() => {
                if ready?.is_readable() && reads {
                    self.read()?;
                }
            }
            Some(answer) = self.answers.next() => {
                if let Some(packet) = answer {
                    self.wire.packet(&packet);
                }
            }
            () = self.outbox.filled() => {}
            () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                let now = Instant::now();
                if self.wire.deadline().is_some_and(|deadline| now >= deadline) {
                    debug!("a client does not read");
                    return Err(too_slow());
                }
                if let Some(action) = self.session.timeout(now) {
                    return Err(closing(action, false));
                }
            }
        }
        if self.is_paused && self.may_read() {
            self.is_paused = false;
            self.session.excuse(Instant::now());
        }
        Ok(())
    }

    fn may_read(&self) -> bool {
        self.answers.len() < MOST_UNDER_WAY && self.wire.has_room()
    }

    /// Reads once; what came is handled in the next turn.
    fn read(&mut self) -> Result<(), End> {
        let mut chunk = [0; CHUNK];
        match self.stream.try_read(&mut chunk) {
            Ok(0) => Err(End::Lost),
            Ok(count) => {
                self.reader.push(&chunk[..count]);
                Ok(())
            }
            // Woken for nothing.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes out of the outbox as much as there is room for.
    fn fill(&mut self) -> Result<(), End> {
        if self.outbox.take_ping() {
            self.is_probed = true;
            self.wire.control(frames::write_ping);
        }
        match self.outbox.closing() {
            None => {}
            Some(CloseCode::TooSlow) => {
                debug!("too much waits for a client that does not read");
                return Err(too_slow());
            }
            Some(code) => return Err(End::Closing { last: None, code, says_all: true }),
        }
        self.fill_wire();
        Ok(())
    }

    fn fill_wire(&mut self) {
        while self.wire.has_room()
            && let Some(parcel) = self.outbox.take()
        {
            self.wire.parcel(parcel);
        }
    }

    /// Handles frames that are there.
    fn turn(&mut self, now: Instant) -> Turn {
        for _ in 0..FRAMES_A_TURN {
            if !self.may_read() {
                return Turn::Wait;
            }
            let action = match self.reader.next_message() {
                Ok(None) => return Turn::Wait,
                Ok(Some(incoming)) => {
                    if std::mem::take(&mut self.is_probed) {
                        self.outbox.heard();
                    }
                    match incoming {
                        Incoming::Message(kind, bytes) => self.session.message(kind, bytes, now),
                        Incoming::Ping(payload) => {
                            self.wire.control(|out| frames::write_pong(out, payload));
                            self.session.frame(now);
                            None
                        }
                        Incoming::Pong => {
                            self.session.frame(now);
                            None
                        }
                        Incoming::Close(code) => return Turn::End(End::ByClient(code)),
                    }
                }
                Err(Fault::TooLarge(_)) => return Turn::End(closing(self.session.too_large(), false)),
                Err(fault) => {
                    debug!(%fault, "a client breaks the websocket protocol");
                    return Turn::End(End::Closing { last: None, code: fault.close_code(), says_all: false });
                }
            };
            match action {
                None => {}
                Some(Action::Register(registration)) => return Turn::Register(registration),
                Some(action @ Action::Close { .. }) => return Turn::End(closing(action, false)),
                Some(action) => self.act(action),
            }
        }
        Turn::More
    }

    fn act(&mut self, action: Action) {
        let key = self.registered.as_ref().map(|registered| registered.key().clone());
        match (action, key) {
            (Action::Answer(packet), _) => self.answer(packet),
            (Action::Heartbeat, Some(key)) => {
                let now = clock::unix_millis();
                self.services.hub.update(&key, self.id, |client| client.last_heartbeat = now);
                self.answer(Outgoing::HeartbeatAck(key.client));
            }
            (Action::Update(changes), Some(_)) => self.update(changes),
            (Action::QueryNodes(query), Some(_)) => {
                let nodes = nodes(&self.services, &query);
                self.answer(Outgoing::Nodes(nodes));
            }
            (Action::Dispatch { dispatch, ts }, Some(key)) => {
                let sender = Sender { key, connection: self.id, ts };
                let answer = self.services.exchange.dispatch(sender, dispatch);
                self.answers.push_back(answer);
            }
            // Only who is registered asks for them; and these two are no business of this function.
            (Action::Heartbeat | Action::Update(_) | Action::QueryNodes(_) | Action::Dispatch { .. }, None)
            | (Action::Register(_) | Action::Close { .. }, _) => {}
        }
    }

    /// Answers, behind all that is awaited.
    fn answer(&mut self, packet: Outgoing) {
        if self.answers.is_empty() {
            self.wire.packet(&packet);
        } else {
            self.answers.push_back(Box::pin(ready(Some(packet))));
        }
    }

    fn update(&mut self, changes: Changes) {
        let Some(registered) = &self.registered else { return };
        let hub = &self.services.hub;
        // Forgotten, because a ping found it dead: it is being closed.
        let Some(client) = hub.get(registered.key()) else { return };
        match self.services.rules.merged(&client.metadata, changes) {
            Ok(metadata) => hub.update(registered.key(), self.id, |client| client.metadata = metadata),
            Err(refusal) => self.answer(Outgoing::Invalid(refusal)),
        }
    }

    async fn register(&mut self, registration: Registration, stop: &CancellationToken) -> Result<(), End> {
        let registering = async {
            if registration.failed {
                let wait = self.services.rules.passwords.failed(self.peer, Instant::now());
                sleep(wait).await;
            }
            Registered::new(&self.services, registration, self.id, &self.outbox).await
        };
        // Dropped, nobody is registered: that is its last step.
        self.registered = tokio::select! {
            () = stop.cancelled() => return Err(closing(self.session.stop(), true)),
            registered = registering => registered,
        };
        if self.registered.is_none() {
            return Err(self.session.refused().map_or(End::Lost, |action| closing(action, false)));
        }
        // Before anything that its registration has put into the outbox.
        if let Some(ready) = self.session.registered(Instant::now()) {
            self.wire.packet(&ready);
        }
        Ok(())
    }

    /// Says the last words.
    async fn finish(&mut self, end: End) {
        match end {
            End::Lost => {}
            End::ByClient(code) => {
                self.outbox.end();
                self.wire.control(|out| frames::write_close(out, code));
                // Whether the client reads it, is its business.
                let _ = timeout(LAST_ANSWERS, self.part()).await;
            }
            End::Closing { last, code, says_all } => {
                if !says_all {
                    // Others may have what waits for this client.
                    self.outbox.end();
                }
                let _ = timeout(LAST_ANSWERS, async {
                    while let Some(answer) = self.answers.next().await {
                        if let Some(packet) = answer {
                            self.wire.packet(&packet);
                        }
                    }
                })
                .await;
                let _ = timeout(LAST_ANSWERS, async {
                    self.flush_all().await?;
                    if let Some(packet) = last {
                        self.wire.packet(&packet);
                    }
                    self.wire.control(|out| frames::write_close(out, Some(code.number())));
                    self.part().await
                })
                .await;
            }
        }
    }

    async fn flush_all(&mut self) -> io::Result<()> {
        loop {
            self.fill_wire();
            self.wire.flush(&self.stream)?;
            if self.wire.is_empty() {
                return Ok(());
            }
            self.stream.writable().await?;
        }
    }

    /// Writes the rest, and waits until the client has gone, too: a socket that is closed with unread bytes in it takes back what
    /// the client has not read yet.
    async fn part(&mut self) -> io::Result<()> {
        self.flush_all().await?;
        self.stream.shutdown().await?;
        let mut chunk = [0; 1024];
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn closing(action: Action, says_all: bool) -> End {
    match action {
        Action::Close { last, code } => End::Closing { last, code, says_all },
        _ => End::Lost,
    }
}

fn too_slow() -> End {
    End::Closing { last: None, code: CloseCode::TooSlow, says_all: false }
}

/// Who matches, by process.
fn nodes(services: &Services, query: &Query) -> Value {
    let mut nodes: std::collections::BTreeMap<Box<str>, Vec<Value>> = std::collections::BTreeMap::new();
    for client in services.hub.all(query) {
        let client: &Client = &client;
        nodes.entry(client.node.as_str().into()).or_default().push(client.to_value());
    }
    Value::Map(Map::new(nodes.into_iter().map(|(node, clients)| (node, Value::List(clients.into()))).collect()))
}
