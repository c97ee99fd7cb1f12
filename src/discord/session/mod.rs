//! One shard's session with Discord: when to connect, what to send, when to give up, what is worth resuming.
//!
//! Knows no socket, no broker, no clock and no global randomness: the driver hands in what happened and when, and carries
//! [`Action`]s out. Events pass by: of a dispatch only READY and RESUMED are looked at. Rules: spec/discord.md.
//!
//! ```text
//!                    ┌───────────────────────────── a connection ended ◄───────────────────────────┐
//!                    ▼                                                                             │
//! wake ───► Disconnected ──► Connecting ──► AwaitingHello ─┬─► AwaitingIdentify ──► Identifying ─┬─┤
//!              │   ▲                                       └─► Resuming ─────────────────────────┤ │
//!   suspend ◄──┘   └── from every state                                                 Connected ─┘
//!      └─► Suspended           shut_down, a fatal close, from every state ──► Ended
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use self::heartbeat::{Heartbeat, Pulse};
use self::known::Known;
use super::backoff::Backoff;
use super::close_code::{CloseCode, Fate, KEEP_SESSION};
use super::gateway_url::{Compression, Encoding, GatewayUrl};
use super::ids::{Seq, SessionId, Shard};
use super::intents::Intents;
use super::opcode::Opcode;
use super::payload::{self, Identify, MalformedPacket};
use super::send_limit::{Purpose, SendLimit};
use crate::broker::GapReason;
use crate::secret::Secret;
use crate::session_store::StoredSession;

mod ending;
mod heartbeat;
mod known;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod tests;

pub use self::ending::{Cause, End, LastSign, OldSession};

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

/// What a session is started with.
#[derive(Debug)]
pub struct Settings {
    /// Which shard of how many.
    pub shard: Shard,
    /// The bot's token, without `Bot `.
    pub token: Secret,
    /// Which events Discord is to send.
    pub intents: Intents,
    /// Above how many members the offline ones are left out of GUILD_CREATE.
    pub large_threshold: Option<u16>,
    /// The bot's presence, as `d` of op 3.
    pub presence: Option<Box<RawValue>>,
    /// Discord's API version.
    pub api_version: u8,
    /// How packets are written.
    pub encoding: Encoding,
    /// How Discord compresses them.
    pub compression: Compression,
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Without a connection; the next is tried then.
    Disconnected {
        /// When.
        until: Instant,
    },
    /// The driver connects.
    Connecting,
    /// Open, and Hello has not come.
    AwaitingHello,
    /// Waits for its turn to identify.
    AwaitingIdentify,
    /// Identify is sent; READY may be long in coming.
    Identifying,
    /// Resume is sent; what was missed comes, then RESUMED.
    Resuming,
    /// The session is live.
    Connected,
    /// Without a connection on purpose, until [`Session::wake`].
    Suspended,
    /// For good.
    Ended,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect, then call [`Session::connected`] or [`Session::connect_failed`].
    Connect {
        /// The whole URL, query included.
        url: String,
        /// Whether a session is to be resumed.
        resume: bool,
    },
    /// Send this packet.
    Send(Vec<u8>),
    /// Ask the identify gate for this shard's turn; its grant is [`Session::identify_granted`].
    AskIdentify,
    /// The turn is no longer wanted.
    WithdrawIdentify,
    /// Send a close frame with this code and drop the connection, or the attempt. [`Session::closed`] need not follow.
    Close {
        /// The code; never one that ends the session.
        code: u16,
    },
    /// Save [`Session::record`] with the committed number now, then call [`Session::stored`].
    Store,
    /// READY came. Its dispatch is published like any other.
    Started {
        /// The new session.
        session: SessionId,
        /// Where it is resumed.
        resume_url: String,
        /// The session before it, if there was one and it was not resumed: its gap is to be told.
        old: Option<OldSession>,
    },
    /// RESUMED came. Its dispatch is published like any other.
    Resumed {
        /// The session.
        session: SessionId,
    },
    /// A connection, or the attempt at one, ended; for the log.
    Disconnected {
        /// Why.
        cause: Cause,
        /// When the next is tried.
        until: Instant,
        /// Whether the session is to be resumed.
        resume: bool,
    },
    /// The shard runs no more; always the last action.
    Ended(End),
}

/// What a dispatch is to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Dispatched {
    /// An event of the session: to be published.
    Event,
    /// The connection it came on is already given up: not to be published. It is above the committed number, so that a
    /// resume brings it again.
    Stale,
}

/// Why no command may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandWait {
    /// The session is not live.
    NotConnected,
    /// The send limit is reached; there is room then.
    Until(Instant),
}

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

    /// A packet came that is no dispatch: its `op`, and its `d`, which may be `null` or empty. Unknown ops are ignored.
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
            Some(Opcode::Hello) if self.state == State::AwaitingHello => self.hello(payload::hello(data)?, now),
            Some(Opcode::Heartbeat) => self.send_heartbeat(Purpose::Answer, now),
            Some(Opcode::HeartbeatAck) => {
                if let Some(heartbeat) = &mut self.connection.heartbeat {
                    heartbeat.acknowledged(now);
                }
            }
            Some(Opcode::Reconnect) => self.leave(Cause::Reconnect, now),
            Some(Opcode::InvalidSession) => {
                let resumable = payload::invalid_session(data)?;
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
        let Settings { shard, token, intents, large_threshold, presence, .. } = &self.settings;
        let fields = Identify {
            shard: *shard,
            intents: *intents,
            large_threshold: *large_threshold,
            presence: presence.as_deref(),
        };
        let packet = payload::identify(token, fields);
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

    /// What is to be stored of the session, if there is one, with its committed number and the time in Unix milliseconds.
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
        })
    }

    // ---- the turns of a connection's life ----

    fn connect(&mut self, now: Instant) {
        if self.known.as_mut().is_some_and(|known| !known.is_worth_a_try()) {
            self.forget(now);
            let until = now + self.wait_for_start();
            if until > now {
                self.disconnected_until(until);
                return;
            }
        }
        let url = self.known.as_ref().map_or(&self.gateway, |known| known.next_url(&self.gateway));
        let Settings { api_version, encoding, compression, .. } = self.settings;
        let url = url.with_query(api_version, encoding, compression);
        self.actions.push_back(Action::Connect { url, resume: self.known.is_some() });
        self.connection = Connection { patience: Some(now + CONNECT_TIMEOUT), ..Connection::default() };
        self.state = State::Connecting;
    }

    fn hello(&mut self, interval: Duration, now: Instant) {
        self.connection.sends.reserve_for(interval);
        self.connection.heartbeat = Some(Heartbeat::new(interval, self.rng.f64(), now));
        match &mut self.known {
            Some(known) => {
                known.resuming();
                let packet = payload::resume(&self.settings.token, &known.id, known.stored);
                self.state = State::Resuming;
                self.connection.patience = Some(now + RESUME_SILENCE);
                self.send(packet, now);
            }
            None => {
                self.state = State::AwaitingIdentify;
                self.connection.patience = None;
                self.actions.push_back(Action::AskIdentify);
            }
        }
    }

    fn ready(&mut self, data: &[u8], now: Instant) -> Result<(), MalformedPacket> {
        let ready = payload::ready(data)?;
        if self.known.as_ref().is_some_and(|known| known.id == ready.session_id) {
            self.connection.progress = true;
            return Ok(()); // replayed
        }
        if self.state == State::Connected {
            return Err(MalformedPacket::SecondReady);
        }
        // Resuming, and Discord started another session instead.
        self.forget(now);
        self.received = Seq::ZERO;
        let known = self.known.insert(Known::started(ready, &self.gateway, now));
        let (session, resume_url) = (known.id.clone(), known.resume_url(&self.gateway).to_string());
        self.actions.push_back(Action::Started { session, resume_url, old: self.lost.take() });
        self.live(now);
        Ok(())
    }

    fn resumed(&mut self, now: Instant) {
        if let Some(known) = &self.known {
            self.actions.push_back(Action::Resumed { session: known.id.clone() });
            self.live(now);
        }
    }

    fn live(&mut self, now: Instant) {
        if let Some(known) = &mut self.known {
            known.live();
        }
        self.state = State::Connected;
        self.connection.patience = None;
        self.connection.live_since = Some(now);
        self.connection.last_sign = Some(now);
        self.actions.push_back(Action::Store);
    }

    // ---- the end of a connection ----

    /// The connection, or the attempt at one, is over: what becomes of the session, and when is the next?
    fn leave(&mut self, cause: Cause, now: Instant) {
        let before_hello = matches!(self.state, State::Connecting | State::AwaitingHello);
        self.note_last_sign(&cause, now);
        self.release(cause.is_ours());
        if let Cause::Closed(code) = cause
            && let Some(advice) = ending::advice(code, &self.settings)
        {
            return self.end(End::Fatal { code, advice });
        }
        match cause.fate() {
            Fate::Resume | Fate::PauseThenResume => {
                if let Some(known) = &mut self.known {
                    if before_hello && cause.blames_address() {
                        known.address_failed();
                    }
                    if cause.is_doubtful() {
                        known.doubt();
                    }
                }
            }
            Fate::Identify | Fate::Fatal => self.forget(now),
        }
        let until = now + self.wait_after(&cause, now);
        self.connection = Connection::default();
        self.disconnected_until(until);
        self.actions.push_back(Action::Disconnected { cause, until, resume: self.known.is_some() });
    }

    /// We end the connection for reasons of our own. What waits was still to be waited for stays so.
    fn interrupt(&mut self, now: Instant) {
        if self.state == State::Connected {
            self.set_last_sign(now);
        }
        if self.state == State::Resuming
            && let Some(known) = &mut self.known
        {
            known.resume_interrupted();
        }
        let without_connection = matches!(self.state, State::Disconnected { .. } | State::Suspended);
        self.release(!without_connection);
        if without_connection && self.known.is_some() {
            // Events were confirmed since the connection ended, and were not stored.
            self.actions.push_back(Action::Store);
        }
        self.connection = Connection::default();
    }

    /// Lets go of what the connection holds: its place in the queue, the connection itself, numbers not yet stored.
    fn release(&mut self, ours: bool) {
        if self.state == State::AwaitingIdentify {
            self.actions.push_back(Action::WithdrawIdentify);
        }
        if ours {
            self.actions.push_back(Action::Close { code: KEEP_SESSION });
        }
        if matches!(self.state, State::Resuming | State::Connected) {
            self.actions.push_back(Action::Store);
        }
    }

    fn wait_after(&mut self, cause: &Cause, now: Instant) -> Duration {
        if let Some(since) = self.connection.live_since {
            self.reconnects.lasted(now.saturating_duration_since(since));
        }
        let mut wait = self.reconnects.next_wait(&mut self.rng);
        if matches!(cause, Cause::InvalidSession { .. }) {
            wait = wait.max(Duration::from_millis(self.rng.u64(1_000..=5_000)));
        }
        if cause.fate() == Fate::PauseThenResume {
            wait = wait.max(RATE_LIMIT_PAUSE);
        }
        if self.known.is_none() {
            wait = wait.max(self.wait_for_start());
        }
        wait
    }

    /// Sessions that are started and die at once must not use up the day's starts.
    fn wait_for_start(&mut self) -> Duration {
        match std::mem::take(&mut self.identified) {
            true => self.starts.next_wait(&mut self.rng),
            false => Duration::ZERO,
        }
    }

    fn disconnected_until(&mut self, until: Instant) {
        self.not_before = until;
        self.state = State::Disconnected { until };
    }

    /// The session, if there is one, cannot be resumed.
    fn forget(&mut self, now: Instant) {
        if let Some(known) = self.known.take() {
            if let Some(started) = known.started {
                self.starts.lasted(now.saturating_duration_since(started));
            }
            self.lost = Some(known.into_old(GapReason::SessionInvalidated));
        }
    }

    fn note_last_sign(&mut self, cause: &Cause, now: Instant) {
        // Before RESUMED the session is not whole: its gap began with the connection before.
        if self.state == State::Connected {
            let sign = if cause.is_prompt() { now } else { self.connection.last_sign.unwrap_or(now) };
            self.set_last_sign(sign);
        }
    }

    fn set_last_sign(&mut self, sign: Instant) {
        if let Some(known) = &mut self.known {
            known.last_sign = LastSign::At(sign);
        }
    }

    fn end(&mut self, end: End) {
        self.connection = Connection::default();
        self.state = State::Ended;
        self.actions.push_back(Action::Ended(end));
    }

    // ---- timers and sending ----

    fn patience_is_over(&mut self, now: Instant) {
        let progress = std::mem::take(&mut self.connection.progress);
        match self.state {
            State::Connecting => self.leave(Cause::ConnectTimeout, now),
            State::AwaitingHello | State::Resuming if self.reading_paused || progress => self.be_patient(now),
            State::AwaitingHello => self.leave(Cause::HelloTimeout, now),
            State::Resuming => self.leave(Cause::ResumeSilent, now),
            _ => self.connection.patience = None,
        }
    }

    fn be_patient(&mut self, now: Instant) {
        match self.state {
            State::AwaitingHello => self.connection.patience = Some(now + HELLO_TIMEOUT),
            State::Resuming => self.connection.patience = Some(now + RESUME_SILENCE),
            _ => {}
        }
    }

    fn beat(&mut self, now: Instant) {
        let Some(heartbeat) = &mut self.connection.heartbeat else { return };
        // The store is asked for, and never waited for: the heartbeat goes out with what is stored by then.
        if heartbeat.wants_store(now) && matches!(self.state, State::Resuming | State::Connected) {
            self.actions.push_back(Action::Store);
        }
        match heartbeat.tick(self.reading_paused, now) {
            Some(Pulse::Beat) => self.send_heartbeat(Purpose::Heartbeat, now),
            Some(Pulse::Silence) => self.leave(Cause::Zombie, now),
            None => {}
        }
    }

    fn send_heartbeat(&mut self, purpose: Purpose, now: Instant) {
        // Discord asked so often that another answer would be a close 4008: our own heartbeats keep their room.
        if self.connection.sends.room(purpose, now).is_err() {
            return;
        }
        let stored = self.known.as_ref().map_or(Seq::ZERO, |known| known.stored);
        self.send(payload::heartbeat(stored), now);
        if let Some(heartbeat) = &mut self.connection.heartbeat {
            heartbeat.sent(now);
        }
    }

    fn send(&mut self, packet: Vec<u8>, now: Instant) {
        self.connection.sends.sent(now);
        self.actions.push_back(Action::Send(packet));
    }

    fn heard(&mut self) {
        if let Some(heartbeat) = &mut self.connection.heartbeat {
            heartbeat.heard();
        }
    }

    /// Whether packets may come.
    fn is_open(&self) -> bool {
        match self.state {
            State::AwaitingHello
            | State::AwaitingIdentify
            | State::Identifying
            | State::Resuming
            | State::Connected => true,
            State::Disconnected { .. } | State::Connecting | State::Suspended | State::Ended => false,
        }
    }
}
