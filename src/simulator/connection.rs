//! The driver of one client: its socket, its timers, its cursor in the session.
//!
//! What a packet deserves is [`super::protocol`]'s business. Output is collected in one buffer and written when the
//! socket takes it, so that a client that does not read holds up nobody, and heartbeats are read meanwhile.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::compress::{self, Compressor, Transport};
use super::control::{Garbage, Misbehaviour};
use super::protocol::{Answer, Protocol, TAKEN_UP, VERSIONS};
use super::server::Shared;
use super::session::{ConnectionId, Holder, What};
use super::terms;
use super::traffic::Plan;
use super::websocket::{self, Decoder, FrameError, Incoming, Kind};
use crate::discord::close_code::CloseCode;
use crate::discord::compression::Encoding;
use crate::discord::ids::{Seq, SessionId};
use crate::encoding::etf::VERSION;

/// What a connection may be told from outside.
#[derive(Clone, Debug)]
pub enum Command {
    /// By the control interface.
    Misbehave(Misbehaviour),
    /// Close with this code.
    Close(CloseCode, &'static str),
}

/// How a client connected.
pub struct Opening {
    /// The connection's number.
    pub id: ConnectionId,
    /// `v`
    pub version: u32,
    /// `encoding`; `None`: one that Discord does not have.
    pub encoding: Option<Encoding>,
    /// `compress`
    pub transport: Transport,
    /// How the client called us, for its resumes.
    pub url: String,
}

/// New events are made ready while less than this is waiting to be written.
const HIGH_WATER: usize = 64 << 10;
/// Events of a flood without an end that are produced at a time.
const FLOOD_STEP: u64 = 64;
/// Events of a segment of a flood built beforehand.
const SEGMENT: usize = 1_024;
/// How long a closed connection waits for the client's close.
const CLOSING: Duration = Duration::from_secs(2);
/// Codes of WebSocket itself.
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const NO_CODE: u16 = 1005;
/// Undocumented; seen after late heartbeats.
const LATE: u16 = 1000;

/// One client.
pub struct Connection {
    shared: Arc<Shared>,
    id: ConnectionId,
    stream: TcpStream,
    decoder: Decoder,
    protocol: Protocol,
    encoding: Encoding,
    compressor: Compressor,
    is_zlib: bool,
    out: Vec<u8>,
    written: usize,
    attached: Option<Attached>,
    silence: Option<Silence>,
    /// Since when it only waits to be gone, and until when.
    closing: Option<Instant>,
    /// The client closed.
    ended: bool,
}

struct Attached {
    session: SessionId,
    plan: Arc<Plan>,
    news: Arc<Notify>,
    cursor: Seq,
    /// What is at or below was written to an earlier connection.
    replay_until: Seq,
    flood: Option<Vec<Segment>>,
}

/// A run of events compressed beforehand.
struct Segment {
    first: (Kind, Vec<u8>),
    rest: Vec<u8>,
    end: Vec<u8>,
    events: u64,
}

struct Silence {
    until: Option<Instant>,
    deaf: bool,
}

/// What the pump does next.
enum Step {
    Event(What),
    Segment,
    Nothing,
    Overrun,
}

impl Connection {
    /// A client that was just let in; `early` are bytes that came with its request.
    pub fn new(shared: Arc<Shared>, stream: TcpStream, early: &[u8], opening: Opening) -> Self {
        let now = Instant::now();
        let mut decoder = Decoder::default();
        decoder.push(early);
        let encoding = opening.encoding.unwrap_or_default();
        let protocol = Protocol::new(opening.id, opening.version, encoding, opening.url, &shared.world(), now);
        let kind = if encoding == Encoding::Json { Kind::Text } else { Kind::Binary };
        let mut connection = Self {
            id: opening.id,
            stream,
            decoder,
            protocol,
            encoding,
            compressor: Compressor::new(opening.transport, kind),
            is_zlib: opening.transport == Transport::Zlib,
            out: Vec::new(),
            written: 0,
            attached: None,
            silence: None,
            closing: None,
            ended: false,
            shared,
        };
        connection.greet(opening.version, opening.encoding.is_some());
        connection
    }

    /// Serves the client until it is gone.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>, stop: CancellationToken) {
        let result = self.serve(&mut commands, &stop).await;
        if let Err(error) = result {
            tracing::debug!(connection = self.id, %error, "connection broke");
        }
        // What ends the session was seen when the client closed; a close after our own says nothing any more.
        if let Some(attached) = &self.attached {
            self.shared.world().disconnected(&attached.session, self.id, false, Instant::now());
        }
    }

    async fn serve(&mut self, commands: &mut mpsc::Receiver<Command>, stop: &CancellationToken) -> io::Result<()> {
        // What came with the request may be a whole packet.
        self.read_on();
        loop {
            self.build_flood().await;
            self.pump();
            let is_silent = self.silence.is_some();
            let is_deaf = self.silence.as_ref().is_some_and(|silence| silence.deaf);
            let wants_write = self.written < self.out.len() && !is_silent;
            if self.closing.is_some() && self.ended && self.out.is_empty() {
                return Ok(());
            }
            let news = self.attached.as_ref().map(|attached| Arc::clone(&attached.news));
            // Every branch may be dropped: `readable` and `writable` only tell, `notified` keeps its permit. Reading comes
            // before writing: a flood is always writable, and heartbeats must be heard meanwhile.
            select! {
                biased;
                () = stop.cancelled(), if self.closing.is_none() => {
                    self.silence = None;
                    self.close(GOING_AWAY, "the simulator stops", None);
                }
                Some(command) = commands.recv() => if self.command(command)?.is_break() { return Ok(()) },
                () = until(self.silence.as_ref().and_then(|silence| silence.until)) => {
                    self.silence = None;
                    self.protocol.pardon(Instant::now());
                }
                () = until(self.closing) => return Ok(()),
                () = until(Some(self.protocol.deadline())), if self.closing.is_none() && !is_deaf => {
                    self.silence = None;
                    self.close(LATE, "no heartbeat", Some("heartbeat missing for 1.5 intervals"));
                }
                ready = self.stream.readable(), if !is_deaf => {
                    ready?;
                    if self.read()? == 0 {
                        return Ok(());
                    }
                    self.read_on();
                }
                ready = self.stream.writable(), if wants_write => {
                    ready?;
                    self.write()?;
                }
                () = notified(news.as_deref()), if !is_silent && self.closing.is_none() => {}
            }
        }
    }

    /// Hello, or what comes in its place.
    fn greet(&mut self, version: u32, is_known: bool) {
        if !is_known {
            return self.close(UNSUPPORTED, "encoding is json or etf", Some("unknown encoding"));
        }
        if !VERSIONS.contains(&version) {
            let code = CloseCode::InvalidApiVersion;
            return self.close(code.code(), "no such API version", Some("identified with an invalid API version"));
        }
        let hello = {
            let mut world = self.shared.world();
            if world.reconnect_at_hello > 0 {
                world.reconnect_at_hello -= 1;
                Answer::Packet(r#"{"t":null,"s":null,"op":7,"d":null}"#.to_owned())
            } else {
                self.protocol.hello(&world)
            }
        };
        self.answer(hello);
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        match self.stream.try_read(&mut bytes) {
            Ok(count) => {
                self.decoder.push(&bytes[..count]);
                Ok(count)
            }
            // Woken for nothing: that is not the end.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(usize::MAX),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        match self.stream.try_write(&self.out[self.written..]) {
            Ok(count) => self.written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.out.shrink_to(2 * HIGH_WATER);
            self.written = 0;
        }
        Ok(())
    }

    /// Handles every whole message that was read.
    fn read_on(&mut self) {
        loop {
            match self.decoder.next() {
                Ok(Some(Incoming::Message(kind, message))) if self.closing.is_none() => {
                    let answers = self.protocol.handle(kind, &message, Instant::now(), &mut self.shared.world());
                    answers.into_iter().for_each(|answer| self.answer(answer));
                }
                Ok(Some(Incoming::Message(..))) => {}
                Ok(Some(Incoming::Ping(payload))) => websocket::write_pong(&mut self.out, &payload),
                Ok(Some(Incoming::Close(code))) => return self.closed_by_client(code),
                Ok(None) => return,
                Err(_) if self.closing.is_some() => return,
                Err(error @ FrameError::TooLong) => {
                    let why = "message is over 4,096 bytes";
                    tracing::debug!(connection = self.id, %error, "closing");
                    return self.close(CloseCode::DecodeError.code(), why, Some(why));
                }
                Err(FrameError::Protocol(why)) => return self.close(PROTOCOL_ERROR, why, Some(why)),
            }
        }
    }

    fn closed_by_client(&mut self, code: Option<u16>) {
        *self.shared.world().stats.closes_received.entry(code.unwrap_or(NO_CODE)).or_default() += 1;
        if self.closing.is_none() {
            let ends = matches!(code, Some(1000 | GOING_AWAY));
            if let Some(attached) = self.attached.take() {
                self.shared.world().disconnected(&attached.session, self.id, ends, Instant::now());
            }
            websocket::write_close(&mut self.out, code.unwrap_or(1000), "");
        }
        self.silence = None;
        self.ended = true;
        self.closing = Some(Instant::now() + CLOSING);
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Packet(packet) => self.send(packet.as_bytes()),
            Answer::Attach { session, after, compress } => {
                if compress {
                    self.compressor.compress_payloads();
                }
                self.attach(session, after);
            }
            Answer::Evict(former) => {
                self.shared.command(former, Command::Close(CloseCode::UnknownError, TAKEN_UP));
            }
            Answer::EvictAll => {
                let why = "no session start is left: the token was reset";
                self.shared.command_all(None, &Command::Close(CloseCode::AuthenticationFailed, why));
            }
            Answer::Close(code, why) => self.close(code.code(), why, Some(why)),
        }
    }

    fn attach(&mut self, id: SessionId, cursor: Seq) {
        let mut world = self.shared.world();
        let Some(session) = world.session(&id) else { return };
        let shard = session.shard.id().get();
        self.attached = Some(Attached {
            plan: Arc::clone(&session.plan),
            news: Arc::clone(&session.news),
            cursor,
            replay_until: session.written,
            flood: None,
            session: id,
        });
        drop(world);
        self.shared.name_shard(self.id, shard);
    }

    fn command(&mut self, command: Command) -> io::Result<std::ops::ControlFlow<()>> {
        let asked = match command {
            Command::Close(code, why) => {
                self.silence = None;
                self.close(code.code(), why, Some(why));
                return Ok(std::ops::ControlFlow::Continue(()));
            }
            Command::Misbehave(asked) => asked,
        };
        match asked {
            Misbehaviour::Close(Some(code)) => {
                self.silence = None;
                self.close(code, "as asked", None);
            }
            // A close frame without a code is an empty one.
            Misbehaviour::Close(None) => {
                self.out.extend_from_slice(&[0x88, 0]);
                self.closing = Some(Instant::now() + CLOSING);
            }
            Misbehaviour::Drop => {
                SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
                return Ok(std::ops::ControlFlow::Break(()));
            }
            Misbehaviour::Eof => {
                // Unread bytes would turn the end into a reset.
                while matches!(self.stream.try_read(&mut [0; 4096]), Ok(1..)) {}
                SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write)?;
                return Ok(std::ops::ControlFlow::Break(()));
            }
            Misbehaviour::Stall { ms, deaf } => {
                let until = (ms > 0).then(|| Instant::now() + Duration::from_millis(ms));
                self.silence = Some(Silence { until, deaf });
            }
            Misbehaviour::Packet(packet) => self.send(packet.as_bytes()),
            Misbehaviour::Ping => websocket::write_ping(&mut self.out),
            Misbehaviour::Garbage(kind) => self.garbage(kind),
            Misbehaviour::Bomb(mebibytes) => match self.compressor.bomb(mebibytes) {
                Some((kind, message)) => self.send_message(kind, &message),
                None => websocket::write_endless(&mut self.out),
            },
        }
        Ok(std::ops::ControlFlow::Continue(()))
    }

    fn garbage(&mut self, kind: Garbage) {
        match kind {
            Garbage::Frame => websocket::write_garbage(&mut self.out),
            Garbage::Deflate => {
                let mut message = vec![0xff; 16];
                message.extend_from_slice(&[0, 0, 0xff, 0xff]);
                websocket::write_message(&mut self.out, Kind::Binary, &message, 1);
            }
            Garbage::Json => self.send_bytes(match self.encoding {
                Encoding::Json => br#"{"t":"MESSAGE_CREATE","s":"#,
                Encoding::Etf => b"\x83\x74\0\0\0\x04\x64\0\x01d\x6d\xff\xff",
            }),
            Garbage::Utf8 => self.send_bytes(match self.encoding {
                Encoding::Json => b"{\"t\":\"MESSAGE_CREATE\",\"s\":null,\"op\":0,\"d\":\"\xff\xfe\"}",
                Encoding::Etf => b"\x83\x74\0\0\0\x02\x64\0\x02op\x61\0\x64\0\x01t\x77\x02\xff\xfe",
            }),
        }
    }

    fn close(&mut self, code: u16, reason: &str, mistake: Option<&'static str>) {
        if self.closing.is_none() {
            self.shared.world().stats.closed(code, mistake);
            tracing::debug!(connection = self.id, code, reason, "closing");
            websocket::write_close(&mut self.out, code, reason);
            self.closing = Some(Instant::now() + CLOSING);
        }
    }

    /// Sends a packet, which is made in JSON.
    fn send(&mut self, packet: &[u8]) {
        let packet = encoded(self.encoding, packet);
        self.send_bytes(&packet);
    }

    fn send_bytes(&mut self, packet: &[u8]) {
        let (kind, message) = self.compressor.packet(packet);
        self.send_message(kind, &message);
    }

    fn send_message(&mut self, kind: Kind, message: &[u8]) {
        let (messages, frames) = self.splits();
        for piece in compress::split(message, messages) {
            websocket::write_message(&mut self.out, kind, piece, frames);
        }
    }

    /// How many messages and frames a packet is cut into; only zlib-stream has more messages than packets.
    fn splits(&self) -> (usize, usize) {
        let settings = &self.shared.settings;
        (if self.is_zlib { settings.split_messages } else { 1 }, settings.split_frames)
    }

    /// Makes what the session has next ready to be written.
    fn pump(&mut self) {
        while self.closing.is_none() && self.silence.is_none() && self.out.len() - self.written < HIGH_WATER {
            match self.step() {
                Step::Event(what) => self.event(&what),
                Step::Segment => self.segment(),
                Step::Nothing => return,
                Step::Overrun => {
                    let why = "fell further behind than the replay buffer holds";
                    self.close(CloseCode::UnknownError.code(), why, Some(why));
                }
            }
        }
    }

    fn step(&mut self) -> Step {
        let Some(attached) = &mut self.attached else { return Step::Nothing };
        let mut world = self.shared.world();
        let traffic = world.traffic;
        let Some(session) = world.session(&attached.session) else { return Step::Nothing };
        // Whoever took it up gets what comes from then on; this connection only waits for its close.
        if session.held_by != Holder::Connection(self.id) {
            return Step::Nothing;
        }
        if let Some(flood) = &attached.flood {
            if !traffic.running {
                return Step::Nothing;
            }
            if !flood.is_empty() {
                return Step::Segment;
            }
            attached.flood = None;
            session.flood_after = None;
        }
        match session.after(attached.cursor) {
            Ok(Some(what)) => {
                attached.cursor = Seq::new(attached.cursor.get() + 1);
                let is_replay = attached.cursor <= attached.replay_until;
                session.written = session.written.max(attached.cursor);
                world.stats.events_written += 1;
                world.stats.events_replayed += u64::from(is_replay);
                Step::Event(what)
            }
            Ok(None) if traffic.running && traffic.rate == 0.0 && session.flood_after.is_none() => {
                let step = FLOOD_STEP.min(world.settings.replay_events as u64).max(1);
                match world.produce(&attached.session, step) {
                    0 => Step::Nothing,
                    _ => {
                        drop(world);
                        self.step()
                    }
                }
            }
            Ok(None) => Step::Nothing,
            Err(_) => {
                world.stats.sessions_overrun += 1;
                let id = attached.session.clone();
                world.forget(&id);
                Step::Overrun
            }
        }
    }

    fn event(&mut self, what: &What) {
        let Some(attached) = &self.attached else { return };
        if let Some(packet) = self.shared.packet(&attached.plan, what, attached.cursor, self.id) {
            self.send(&packet);
        }
    }

    /// Compresses a flood once everything before it is on its way.
    async fn build_flood(&mut self) {
        let Some(attached) = &mut self.attached else { return };
        let (cursor, events) = {
            let mut world = self.shared.world();
            let Some(session) = world.session(&attached.session) else { return };
            if session.flood_after != Some(attached.cursor) || attached.flood.is_some() {
                return;
            }
            let left = session.left.unwrap_or(0);
            session.hold_at_least(left as usize + 1_024);
            (attached.cursor.get(), world.produce(&attached.session, left))
        };
        let (messages, frames) = self.splits();
        let mut segments = Vec::new();
        for start in (0..events).step_by(SEGMENT) {
            let Some(attached) = &self.attached else { return };
            let mut compressor = self.compressor.segment();
            let mut first = None;
            let mut rest = Vec::new();
            let count = (events - start).min(SEGMENT as u64);
            for n in start..start + count {
                let seq = Seq::new(cursor + n + 1);
                let what = self
                    .shared
                    .world()
                    .session(&attached.session)
                    .and_then(|session| session.after(Seq::new(cursor + n)).ok().flatten());
                let Some(what) = what else { return };
                let packet = self.shared.packet(&attached.plan, &what, seq, self.id).unwrap_or_default();
                let (kind, message) = compressor.packet(&encoded(self.encoding, &packet));
                if first.is_none() {
                    first = Some((kind, message));
                } else {
                    for piece in compress::split(&message, messages) {
                        websocket::write_message(&mut rest, kind, piece, frames);
                    }
                }
            }
            rest.shrink_to_fit();
            segments.extend(first.map(|first| Segment { first, rest, end: compressor.end_segment(), events: count }));
            tokio::task::yield_now().await;
        }
        segments.reverse();
        if let Some(attached) = &mut self.attached {
            attached.flood = Some(segments);
        }
        self.shared.world().stats.prebuilt += 1;
    }

    fn segment(&mut self) {
        let Some(attached) = &mut self.attached else { return };
        let Some(segment) = attached.flood.as_mut().and_then(Vec::pop) else { return };
        attached.cursor = Seq::new(attached.cursor.get() + segment.events);
        {
            let mut world = self.shared.world();
            world.stats.events_written += segment.events;
            if let Some(session) = world.session(&attached.session) {
                session.written = session.written.max(attached.cursor);
            }
        }
        let mut first = self.compressor.before_segment();
        first.extend_from_slice(&segment.first.1);
        self.send_message(segment.first.0, &first);
        self.out.extend_from_slice(&segment.rest);
        self.compressor.after_segment(segment.end);
    }
}

impl Shared {
    /// The packet of an event; `None` if it is another connection's.
    pub(super) fn packet(&self, plan: &Plan, what: &What, seq: Seq, to: ConnectionId) -> Option<Vec<u8>> {
        let catalogue = &self.catalogue;
        let name: &str = match what {
            What::Guild(_) => "GUILD_CREATE",
            What::Traffic(index) => catalogue.name(plan, *index)?,
            What::Example(name, _) | What::Literal(name, _) => name,
            What::Resumed(connection) if *connection == to => "RESUMED",
            What::Resumed(_) => return None,
        };
        let mut out = Vec::with_capacity(2_048);
        write!(out, r#"{{"t":{},"s":{seq},"op":0,"d":"#, serde_json::Value::from(name))
            .expect("a Vec takes everything");
        match what {
            What::Guild(n) => catalogue.guild(&mut out, plan, *n),
            What::Traffic(index) => catalogue.event(&mut out, plan, *index),
            What::Example(name, index) => {
                if !catalogue.example(&mut out, plan, name, *index) {
                    out.extend_from_slice(b"{}");
                }
            }
            What::Literal(_, d) => out.extend_from_slice(d),
            What::Resumed(_) => out.extend_from_slice(br#"{"_trace":["[\"optic-simulator\"]"]}"#),
        }
        if self.settings.stamp && out.ends_with(b"}") && !out.ends_with(b"{}") {
            out.pop();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
            write!(out, r#","_sim_ts":{now}}}"#).expect("a Vec takes everything");
        }
        out.push(b'}');
        Some(out)
    }
}

/// A packet, which is made in JSON, in this encoding. An event that somebody gave us may hold what has no term (`1e999`): there is
/// nothing of it behind the version byte then, and clients find it malformed.
pub(super) fn encoded(encoding: Encoding, json: &[u8]) -> Cow<'_, [u8]> {
    match encoding {
        Encoding::Json => Cow::Borrowed(json),
        Encoding::Etf => Cow::Owned(terms::packet(json).unwrap_or_else(|| vec![VERSION])),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn notified(news: Option<&Notify>) {
    match news {
        Some(news) => news.notified().await,
        None => std::future::pending().await,
    }
}
