//! One websocket at work: frames to the session, its actions carried out, and what is for the client written.
//!
//! One task, and at rest no buffer. Answers go out in the order of the questions, while some dispatches are under way: who gets
//! an answer knows that all before it is done.

use std::future::ready;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Services;
use super::answers::Answers;
use super::listing;
use super::registration::Registered;
use super::wire::Wire;
use crate::clock;
use crate::encoding::{Encoding, Map, Value};
use crate::singyeong::close_code::CloseCode;
use crate::singyeong::exchange::Sender;
use crate::singyeong::ids::ConnectionId;
use crate::singyeong::metadata::Changes;
use crate::singyeong::outbox::Outbox;
use crate::singyeong::packet::outgoing::Outgoing;
use crate::singyeong::query::Query;
use crate::singyeong::session::{Action, Registration, Session};
use crate::websocket::frames::{self, Fault, Incoming, Reader};
use crate::websocket::http::Opened;
use crate::websocket::socket;

/// So many frames are handled before others get their turn.
const FRAMES_A_TURN: usize = 32;

/// How long dispatches may take that are under way when the server closes, and how long the client may take to read the rest.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How long dispatches may take whose client is gone. It may be back already, and this connection still has its place.
const LEFT_BEHIND: Duration = Duration::from_secs(30);

/// Around the metadata of an identify, or of a restricted client's update, there is not more than as much again, and this.
const AROUND_METADATA: usize = 16 << 10;

/// See the module.
pub struct Connection {
    services: Arc<Services>,
    id: ConnectionId,
    stream: TcpStream,
    /// Among all connections.
    place: OwnedSemaphorePermit,
    session: Session,
    reader: Reader,
    wire: Wire,
    outbox: Outbox,
    answers: Answers,
    registered: Option<Registered>,
    /// A ping is out of which somebody wants to hear.
    is_probed: bool,
    /// Nothing is read for now.
    is_paused: bool,
}

/// What comes after some frames.
enum Turn {
    /// More bytes.
    Wait,
    /// Room: for answers to be written, or for more that are awaited.
    Full,
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
    /// Of a websocket that was just opened, by a client that speaks this.
    pub fn new(
        services: Arc<Services>,
        id: ConnectionId,
        encoding: Encoding,
        place: OwnedSemaphorePermit,
        opened: Opened,
    ) -> Self {
        let limits = &services.rules.limits;
        let session = Session::new(Arc::clone(&services.rules), encoding, opened.peer, Instant::now());
        Self {
            id,
            session,
            // Until it is known who that is.
            reader: Reader::new(limits.message.min(2 * limits.metadata + AROUND_METADATA), &opened.early),
            wire: Wire::new(encoding),
            outbox: Outbox::new(limits.client_buffer),
            answers: Answers::new(limits.client_buffer),
            registered: None,
            is_probed: false,
            is_paused: false,
            stream: opened.stream,
            place,
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
            self.look()?;
            self.transfer()?;
            self.is_read(Instant::now())?;
            let turn = self.turn(Instant::now());
            let is_full = matches!(turn, Turn::Full);
            match turn {
                Turn::Wait | Turn::Full => {}
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
            self.transfer()?;
            if is_full && self.may_read() {
                // There may be whole frames still, of which the socket tells nothing any more.
                tokio::task::yield_now().await;
                continue;
            }
            self.wait(stop).await?;
        }
    }

    /// Writes what there is until the socket takes no more, or nothing is left: of what stays in the outbox nobody tells again.
    fn transfer(&mut self) -> Result<(), End> {
        loop {
            fill(&mut self.wire, &self.outbox);
            self.wire.flush(&self.stream)?;
            if !self.wire.has_room() || self.outbox.is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits for anything, in no order of rank: neither reading nor writing may keep the other from its turn. Dropped, none of
    /// these loses anything: `ready` and `filled` only tell, and an answer that has come is given out at once.
    async fn wait(&mut self, stop: &CancellationToken) -> Result<(), End> {
        let reads = self.may_read();
        self.is_paused |= !reads;
        let interest = socket::interest(reads, !self.wire.is_empty());
        let idle = self.session.deadline().filter(|_| reads);
        let deadline = [idle, self.wire.deadline(), self.outbox.deadline()].into_iter().flatten().min();
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
                // Who does not read is seen in the next turn.
                if reads && let Some(action) = self.session.timeout(Instant::now()) {
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
        !self.answers.are_many() && self.wire.has_room()
    }

    /// Reads once; what came is handled in the next turn.
    fn read(&mut self) -> Result<(), End> {
        if socket::read(&self.stream, &mut self.reader)? { Ok(()) } else { Err(End::Lost) }
    }

    /// Whether somebody wants something of it.
    fn look(&mut self) -> Result<(), End> {
        if self.outbox.take_ping() {
            self.is_probed = true;
            self.wire.control(frames::write_ping);
        }
        // It has asked more than is answered yet, and nothing is read: it could not be heard.
        if self.is_probed && self.answers.are_many() {
            self.is_probed = false;
            self.outbox.heard();
        }
        match self.outbox.closing() {
            None => {}
            Some(CloseCode::TooSlow) => {
                debug!("too much waits for a client that does not read");
                return Err(too_slow());
            }
            Some(code) => return Err(End::Closing { last: None, code, says_all: true }),
        }
        Ok(())
    }

    /// Whether the client takes what is for it. Asked once all is written that can be: it may be we who had no time.
    fn is_read(&self, now: Instant) -> Result<(), End> {
        if [self.wire.deadline(), self.outbox.deadline()].into_iter().flatten().any(|deadline| now >= deadline) {
            debug!("a client does not read");
            return Err(too_slow());
        }
        Ok(())
    }

    /// Handles frames that are there.
    fn turn(&mut self, now: Instant) -> Turn {
        for _ in 0..FRAMES_A_TURN {
            if !self.may_read() {
                return Turn::Full;
            }
            let mut size = 0;
            let action = match self.reader.next_message() {
                Ok(None) => return Turn::Wait,
                Ok(Some(incoming)) => {
                    if std::mem::take(&mut self.is_probed) {
                        self.outbox.heard();
                    }
                    match incoming {
                        Incoming::Message(kind, bytes) => {
                            size = bytes.len();
                            self.session.message(kind, bytes, now)
                        }
                        Incoming::Ping(payload) => {
                            self.wire.control(|out| frames::write_pong(out, payload));
                            self.session.frame(now);
                            None
                        }
                        Incoming::Pong | Incoming::Part => {
                            self.session.frame(now);
                            None
                        }
                        Incoming::Close(code) => return Turn::End(End::ByClient(code)),
                    }
                }
                Err(Fault::TooLarge(most)) => return Turn::End(closing(self.session.too_large(most), false)),
                Err(fault) => {
                    debug!(%fault, "a client breaks the websocket protocol");
                    return Turn::End(End::Closing { last: None, code: fault.into(), says_all: false });
                }
            };
            match action {
                None => {}
                Some(Action::Register(registration)) => return Turn::Register(registration),
                Some(action @ Action::Close { .. }) => return Turn::End(closing(action, false)),
                Some(action) => self.act(action, size),
            }
        }
        Turn::More
    }

    /// Carries out what a message of so many bytes asks for.
    fn act(&mut self, action: Action, size: usize) {
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
                let services = Arc::clone(&self.services);
                self.answers.push_list(Box::pin(async move { Some(Outgoing::Nodes(nodes(&services, &query).await)) }));
            }
            (Action::Dispatch { dispatch, ts }, Some(key)) => {
                let sender = Sender { key, connection: self.id, ts };
                let answer = self.services.exchange.dispatch(sender, dispatch);
                self.answers.push(answer, size);
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
            self.answers.push(Box::pin(ready(Some(packet))), 0);
        }
    }

    fn update(&mut self, changes: Changes) {
        let Some(registered) = &self.registered else { return };
        let hub = &self.services.hub;
        // Forgotten, because a ping found it dead: it is being closed.
        let Some(client) = hub.get(registered.key()) else { return };
        match self.services.rules.merged(&client, changes) {
            Ok(metadata) => hub.update(registered.key(), self.id, |client| client.metadata = metadata),
            Err(refusal) => self.answer(Outgoing::Invalid(refusal)),
        }
    }

    async fn register(&mut self, registration: Registration, stop: &CancellationToken) -> Result<(), End> {
        let registering = async {
            sleep(registration.wait).await;
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
        if self.registered.as_ref().is_some_and(|registered| !registered.is_restricted()) {
            self.reader.set_most(self.services.rules.limits.message);
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
                let Self { answers, wire, outbox, stream, .. } = self;
                // Whether the client reads it, is its business.
                let _ = beside(answers, timeout(LAST_ANSWERS, part(wire, outbox, stream))).await;
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
                let Self { answers, wire, outbox, stream, .. } = self;
                let last_words = timeout(LAST_ANSWERS, async {
                    flush_all(wire, outbox, stream).await?;
                    if let Some(packet) = last {
                        wire.packet(&packet);
                    }
                    wire.control(|out| frames::write_close(out, Some(code.number())));
                    part(wire, outbox, stream).await
                });
                let _ = beside(answers, last_words).await;
            }
        }
    }
}

/// Moves as much as there is room for.
fn fill(wire: &mut Wire, outbox: &Outbox) {
    while wire.has_room()
        && let Some(parcel) = outbox.take()
    {
        wire.parcel(parcel);
    }
}

async fn flush_all(wire: &mut Wire, outbox: &Outbox, stream: &TcpStream) -> io::Result<()> {
    loop {
        fill(wire, outbox);
        wire.flush(stream)?;
        if !wire.is_empty() {
            stream.writable().await?;
        } else if outbox.is_empty() {
            return Ok(());
        }
    }
}

/// Writes the rest, and waits until the client has gone, too: a socket that is closed with unread bytes in it takes back what
/// the client has not read yet.
async fn part(wire: &mut Wire, outbox: &Outbox, stream: &mut TcpStream) -> io::Result<()> {
    flush_all(wire, outbox, stream).await?;
    stream.shutdown().await?;
    let mut chunk = [0; 1024];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Goes on with what the client has asked for: others may wait for their turn behind it. Nobody hears the answers.
async fn beside<T>(answers: &mut Answers, parting: impl Future<Output = T>) -> T {
    let mut parting = pin!(parting);
    loop {
        tokio::select! {
            parted = &mut parting => return parted,
            Some(_) = answers.next() => {}
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
async fn nodes(services: &Services, query: &Query) -> Value {
    let mut nodes: std::collections::BTreeMap<Box<str>, Vec<Value>> = std::collections::BTreeMap::new();
    let clients = services.hub.all(query);
    listing::each(&clients, |client| {
        nodes.entry(client.node.as_str().into()).or_default().push(client.to_value());
    })
    .await;
    Value::Map(Map::new(nodes.into_iter().map(|(node, clients)| (node, Value::List(clients.into()))).collect()))
}
