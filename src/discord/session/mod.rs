//! One shard's session with Discord: when to connect, what to send, when to give up, what is worth resuming.
//!
//! Knows no socket, no broker, no clock and no global randomness: the driver hands in what happened and when, and carries
//! [`Action`]s out. Events pass by: of a dispatch only READY and RESUMED are looked at. Rules: spec/discord.md.
//!
//! ```text
//! Disconnected ─► Connecting ─► AwaitingHello ─┬─► AwaitingIdentify ─► Identifying ─┬─► Connected
//!      ▲                                       └─► Resuming ────────────────────────┘       │
//!      └───────────────── a connection, or the attempt at one, ended: from each ────────────┘
//! ```
//!
//! From every state `suspend` leads to Suspended, and `wake` from there to Disconnected; `shut_down` and fatal closes
//! lead to Ended.
//!
//! A driver, after each call and before it publishes the event of a dispatch, carries out all actions; then it sleeps
//! until something comes or the deadline passes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::heartbeat::Heartbeat;
use self::known::Known;
use super::backoff::Backoff;
use super::close_code::CloseCode;
use super::compression::Encoding;
use super::gateway_url::GatewayUrl;
use super::ids::{Seq, SessionId};
use super::intents::Intents;
use super::opcode::Opcode;
use super::payload::{self, MalformedPacket};
use super::send_limit::{Purpose, SendLimit};
use crate::broker::GapReason;
use crate::session_store::StoredSession;

mod ending;
mod heartbeat;
mod known;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenario;
mod state;
#[cfg(test)]
mod tests;
mod timers;
mod turns;

pub use self::ending::{Cause, End, LastSign, OldSession};
pub use self::state::{Action, BadIdentify, CommandWait, Dispatched, Settings, State};

/// A connection that is not open after this is given up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection without Hello is given up after this.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(20);
/// A resume that brings no event for this long (at least; at most twice that) is given up, and the session with it.
pub const RESUME_SILENCE: Duration = Duration::from_secs(90);
/// What Discord counts the send limit by: waited out after a close 4008.
pub const RATE_LIMIT_PAUSE: Duration = Duration::from_secs(60);

/// Tries to connect; started over by a connection that held for ten seconds.
const RECONNECTS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(10));
/// Session starts, of which there are 1,000 a day for all shards; started over by a session that held for ten minutes.
const STARTS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(600), Duration::from_secs(600));

/// One shard's session; see the module's head.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    gateway: GatewayUrl,
    state: State,
    known: Option<Known>,
    /// The session that could not be resumed, until the next READY hands it out.
    lost: Option<OldSession>,
    received: Seq,
    connection: Connection,
    reading_paused: bool,
    reconnects: Backoff,
    starts: Backoff,
    /// Whether an identify was sent that `starts` has not counted.
    identified: bool,
    /// Before this no connection is tried, whatever happens.
    not_before: Instant,
    actions: VecDeque<Action>,
    rng: fastrand::Rng,
}

/// What lives as long as a connection, or an attempt at one.
#[derive(Debug, Default)]
struct Connection {
    heartbeat: Option<Heartbeat>,
    sends: SendLimit,
    /// When the state has lasted too long, if it can.
    patience: Option<Instant>,
    /// Whether a resume brought events since `patience` was set.
    progress: bool,
    /// When READY or RESUMED came.
    live_since: Option<Instant>,
    /// When anything but an event came last.
    last_sign: Option<Instant>,
}

impl Session {
    /// A session that is to connect at once, and to resume what was stored if that is of the same shard and intents.
    pub fn new(
        settings: Settings,
        gateway: GatewayUrl,
        stored: Option<StoredSession>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut session = Self {
            settings,
            gateway,
            state: State::Disconnected { until: now },
            known: None,
            lost: None,
            received: Seq::ZERO,
            connection: Connection::default(),
            reading_paused: false,
            reconnects: RECONNECTS,
            starts: STARTS,
            identified: false,
            not_before: now,
            actions: VecDeque::new(),
            rng: fastrand::Rng::with_seed(seed),
        };
        if let Some(record) = stored {
            let fits = known::fits(&record, &session.settings);
            let known = Known::stored(record, &session.gateway);
            match fits {
                true => {
                    session.received = known.stored;
                    session.known = Some(known);
                }
                false => session.lost = Some(known.into_old(GapReason::SessionNotUsable)),
            }
        }
        session
    }

    // ---- what the connection tells ----

    /// The websocket is open.
    pub fn connected(&mut self, now: Instant) {
        if self.state == State::Connecting {
            self.state = State::AwaitingHello;
            self.connection.patience = Some(now + HELLO_TIMEOUT);
        }
    }

    /// TCP, TLS or the HTTP upgrade failed.
    pub fn connect_failed(&mut self, now: Instant) {
        if self.state == State::Connecting {
            self.leave(Cause::ConnectFailed, now);
        }
    }

    /// A packet came that is no dispatch: its `op`, and its `d`, which may be `null` (`nil`) or empty. Unknown ops are ignored.
    ///
    /// # Errors
    /// When it cannot be read; the driver counts that and calls [`broken`](Self::broken).
    pub fn packet(&mut self, op: u64, data: &[u8], now: Instant) -> Result<(), MalformedPacket> {
        if !self.is_open() {
            return Ok(());
        }
        self.heard();
        self.connection.last_sign = Some(now);
        match Opcode::from_code(op) {
            Some(Opcode::Hello) if self.state == State::AwaitingHello => {
                self.hello(payload::hello(self.settings.encoding, data)?, now)
            }
            Some(Opcode::Heartbeat) => self.send_heartbeat(Purpose::Answer, now),
            Some(Opcode::HeartbeatAck) => {
                if let Some(heartbeat) = &mut self.connection.heartbeat {
                    heartbeat.acknowledged(now);
                }
            }
            Some(Opcode::Reconnect) => self.leave(Cause::Reconnect, now),
            Some(Opcode::InvalidSession) => {
                let resumable = payload::invalid_session(self.settings.encoding, data)?;
                self.leave(Cause::InvalidSession { resumable }, now);
            }
            _ => {}
        }
        Ok(())
    }

    /// A dispatch (op 0) came. Called for each event: a few compares, unless it is READY or RESUMED.
    ///
    /// # Errors
    /// When there is no session that it could belong to, or READY cannot be read; the driver counts that and calls
    /// [`broken`](Self::broken).
    pub fn dispatch(&mut self, seq: Seq, name: &str, data: &[u8], now: Instant) -> Result<Dispatched, MalformedPacket> {
        self.heard();
        match self.state {
            State::Connected if name != "READY" => {}
            State::Resuming if name != "READY" => {
                self.connection.progress = true;
                if name == "RESUMED" {
                    self.resumed(now);
                }
            }
            // A resume from before the first committed event brings READY again.
            State::Resuming | State::Connected | State::Identifying if name == "READY" => self.ready(data, now)?,
            State::AwaitingHello | State::AwaitingIdentify | State::Identifying => {
                return Err(MalformedPacket::BeforeReady(name.to_owned()));
            }
            _ => return Ok(Dispatched::Stale),
        }
        // Numbers may have gaps, and a replay begins below what we had.
        self.received = self.received.max(seq);
        Ok(Dispatched::Event)
    }

    /// The connection was closed: with a code by a close frame, or without one (a close frame without a code, end of
    /// stream, reset, TLS error).
    pub fn closed(&mut self, code: Option<u16>, now: Instant) {
        match self.state {
            State::Connecting => self.leave(Cause::ConnectFailed, now),
            _ if self.is_open() => {
                self.leave(code.map_or(Cause::Lost, |code| Cause::Closed(CloseCode::from_code(code))), now);
            }
            _ => {}
        }
    }

    /// What came cannot be read: the connection is given up, the session kept. `why` must hold no secret.
    pub fn broken(&mut self, why: &str, now: Instant) {
        if self.is_open() {
            self.leave(Cause::Broken(why.to_owned()), now);
        }
    }

    // ---- what the rest of the program tells ----

    /// It is this shard's turn to identify.
    pub fn identify_granted(&mut self, now: Instant) {
        if self.state != State::AwaitingIdentify {
            return;
        }
        let packet = self.settings.identify();
        self.identified = true;
        self.state = State::Identifying;
        self.send(packet, now);
    }

    /// The store safely holds this committed number of this session.
    pub fn stored(&mut self, session: &SessionId, seq: Seq) {
        if let Some(known) = &mut self.known
            && known.id == *session
        {
            known.stored = known.stored.max(seq);
        }
    }

    /// The driver stopped reading, or reads again. While it does not, silence means nothing; heartbeats go on.
    pub fn reading_paused(&mut self, paused: bool, now: Instant) {
        if self.reading_paused && !paused {
            self.heard();
            self.be_patient(now);
        }
        self.reading_paused = paused;
    }

    /// Closes the connection and keeps the session, until [`wake`](Self::wake).
    pub fn suspend(&mut self, now: Instant) {
        if matches!(self.state, State::Suspended | State::Ended) {
            return;
        }
        self.interrupt(now);
        self.state = State::Suspended;
    }

    /// Connects again after [`suspend`](Self::suspend).
    pub fn wake(&mut self, now: Instant) {
        if self.state == State::Suspended {
            self.state = State::Disconnected { until: self.not_before.max(now) };
        }
    }

    /// Takes another ordinary address, from the next connection on.
    pub fn set_gateway(&mut self, gateway: GatewayUrl) {
        self.gateway = gateway;
    }

    /// Closes the connection, keeps the session, and ends.
    pub fn shut_down(&mut self, now: Instant) {
        if self.state != State::Ended {
            self.interrupt(now);
            self.end(End::ShutDown);
        }
    }

    /// Whether a worker's command may be sent now.
    ///
    /// # Errors
    /// When it must wait.
    pub fn command_room(&self, now: Instant) -> Result<(), CommandWait> {
        match self.state {
            State::Connected => self.connection.sends.room(Purpose::Command, now).map_err(CommandWait::Until),
            _ => Err(CommandWait::NotConnected),
        }
    }

    /// A command was sent.
    pub fn command_sent(&mut self, now: Instant) {
        self.connection.sends.sent(now);
    }

    // ---- time ----

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; `None`: not before something happens.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Disconnected { until } => Some(until),
            State::Suspended | State::Ended => None,
            _ => {
                let heartbeat = self.connection.heartbeat.as_ref().map(Heartbeat::deadline);
                heartbeat.into_iter().chain(self.connection.patience).min()
            }
        }
    }

    /// Does what is due. Calling it too early or too often does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::Disconnected { until } = self.state
            && until <= now
        {
            self.connect(now);
        }
        if self.connection.patience.is_some_and(|until| until <= now) {
            self.patience_is_over(now);
        }
        self.beat(now);
    }

    /// The next thing to do; to be asked until it says `None`, after every call.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    // ---- what can be seen ----

    /// Where the session is.
    pub fn state(&self) -> State {
        self.state
    }

    /// How packets are written on its connections.
    pub fn encoding(&self) -> Encoding {
        self.settings.encoding
    }

    /// The session's id, if there is a session.
    pub fn session_id(&self) -> Option<&SessionId> {
        self.known.as_ref().map(|known| &known.id)
    }

    /// Where the session is resumed, if there is one.
    pub fn resume_url(&self) -> Option<&GatewayUrl> {
        self.known.as_ref().map(|known| known.resume_url(&self.gateway))
    }

    /// The highest number received of the session.
    pub fn received(&self) -> Seq {
        self.received
    }

    /// The time from a heartbeat to its acknowledgement, on this connection.
    pub fn latency(&self) -> Option<Duration> {
        self.connection.heartbeat.as_ref().and_then(Heartbeat::latency)
    }

    /// How many heartbeats were acknowledged on this connection.
    pub fn acknowledged(&self) -> u64 {
        self.connection.heartbeat.as_ref().map_or(0, Heartbeat::answered)
    }

    /// Whether Discord tells of guilds that come and go.
    pub fn is_told_of_guilds(&self) -> bool {
        self.settings.intents.contains(Intents::GUILDS)
    }

    /// What is to be stored of the session, if there is one, with its committed number and the time in Unix milliseconds. How many
    /// guilds there are, it does not know.
    pub fn record(&self, committed: Seq, saved_at: u64) -> Option<StoredSession> {
        self.known.as_ref().map(|known| StoredSession {
            version: StoredSession::VERSION,
            shard_id: self.settings.shard.id(),
            shard_count: self.settings.shard.count(),
            intents: self.settings.intents,
            session_id: known.id.clone(),
            resume_url: known.resume_url(&self.gateway).to_string(),
            sequence: committed,
            saved_at,
            guilds: None,
        })
    }
}
