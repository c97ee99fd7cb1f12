//! A shard's session with Discord and the rest of the program played by the test, and time by a number.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;
use crate::discord::close_code::KEEP_SESSION;
use crate::discord::compression::{Compression, Encoding};
use crate::discord::ids::Shard;
use crate::discord::ids::ShardId;
use crate::discord::intents::Intents;
use crate::secret::Secret;

pub(super) const INTERVAL: Duration = Duration::from_millis(41_250);
pub(super) const AT_ONCE: Duration = Duration::ZERO;

/// What the session had done, in few words.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Did {
    Connect(&'static str, Resumes),
    Heartbeat(Option<u64>),
    Identify,
    Resume(&'static str, u64),
    AskIdentify,
    WithdrawIdentify,
    /// With a code that keeps the session.
    Close,
    Store,
    Started(&'static str),
    Resumed,
    Disconnected(Cause, Resumes),
    ShutDown,
    Fatal(u16),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Resumes {
    Session,
    Nothing,
}

pub(super) struct Scenario {
    pub(super) session: Session,
    pub(super) now: Instant,
    /// Whether Discord acknowledges heartbeats.
    acknowledges: bool,
    /// The last `Started`'s old session.
    pub(super) old: Option<OldSession>,
    /// The last fatal end's advice.
    pub(super) advice: String,
    done: Vec<Did>,
}

pub(super) fn settings() -> Settings {
    Settings {
        shard: Shard::new(ShardId::new(3), 16).expect("3 of 16"),
        token: Secret::new("hunter2"),
        intents: Intents::GUILDS.union(Intents::GUILD_MEMBERS).union(Intents::MESSAGE_CONTENT),
        large_threshold: None,
        presence: None,
        api_version: 10,
        encoding: Encoding::Json,
        compression: Compression::ZlibStream,
    }
}

/// As a former process left it: session "stored" at 40, seen at 1,000 ms.
pub(super) fn record() -> StoredSession {
    StoredSession {
        version: StoredSession::VERSION,
        shard_id: ShardId::new(3),
        shard_count: 16,
        intents: settings().intents,
        session_id: SessionId::new("stored"),
        resume_url: "wss://resume.discord.gg".to_owned(),
        sequence: Seq::new(40),
        saved_at: 1_000,
        guilds: None,
    }
}

impl Scenario {
    pub(super) fn new(settings: Settings, stored: Option<StoredSession>) -> Self {
        let gateway = GatewayUrl::parse("wss://gateway.discord.gg").expect("an address");
        let now = Instant::now();
        let session = Session::new(settings, gateway, stored, 7, now);
        Self { session, now, acknowledges: true, old: None, advice: String::new(), done: Vec::new() }
    }

    pub(super) fn fresh() -> Self {
        Self::new(settings(), None)
    }

    pub(super) fn with_stored() -> Self {
        Self::new(settings(), Some(record()))
    }

    /// Nothing known, waiting for Hello.
    pub(super) fn awaiting_hello() -> Self {
        Self::fresh().connects().quiet()
    }

    /// Nothing known, waiting for its turn.
    pub(super) fn awaiting_identify() -> Self {
        Self::awaiting_hello().greeted().quiet()
    }

    pub(super) fn identifying() -> Self {
        let mut shard = Self::awaiting_identify();
        shard.session.identify_granted(shard.now);
        shard.quiet()
    }

    /// Session "first" is live, this number is stored of it, and a minute has passed.
    pub(super) fn connected_at(stored: u64) -> Self {
        let mut shard = Self::identifying();
        shard.ready("first");
        shard.stores("first", stored);
        shard.after(Duration::from_secs(60));
        shard.quiet()
    }

    /// Session "stored" of a former process, resume sent.
    pub(super) fn resuming() -> Self {
        Self::with_stored().connects().greeted().quiet()
    }

    /// Discord takes the connection.
    pub(super) fn connects(mut self) -> Self {
        self.accept();
        self
    }

    /// Discord says Hello.
    pub(super) fn greeted(mut self) -> Self {
        self.hello();
        self
    }

    /// What was done until now is of no interest.
    pub(super) fn quiet(mut self) -> Self {
        self.did();
        self
    }

    pub(super) fn accept(&mut self) {
        self.after(Duration::ZERO);
        assert_eq!(self.session.state(), State::Connecting);
        self.session.connected(self.now);
    }

    pub(super) fn hello(&mut self) {
        self.packet(10, r#"{"heartbeat_interval":41250}"#);
    }

    pub(super) fn packet(&mut self, op: u64, data: &str) {
        self.session.packet(op, data.as_bytes(), self.now).expect("well-formed");
        self.collect();
    }

    pub(super) fn event(&mut self, seq: u64, name: &str) {
        self.dispatch(seq, name, "{}");
    }

    pub(super) fn ready(&mut self, session: &str) {
        let data = format!(r#"{{"session_id":"{session}","resume_gateway_url":"wss://resume.discord.gg"}}"#);
        self.dispatch(1, "READY", &data);
    }

    fn dispatch(&mut self, seq: u64, name: &str, data: &str) {
        let dispatched = self.session.dispatch(Seq::new(seq), name, data.as_bytes(), self.now);
        assert_eq!(dispatched, Ok(Dispatched::Event));
        self.collect();
    }

    pub(super) fn stores(&mut self, session: &str, seq: u64) {
        self.session.stored(&SessionId::new(session), Seq::new(seq));
    }

    pub(super) fn closed(&mut self, code: impl Into<Option<u16>>) {
        self.session.closed(code.into(), self.now);
        self.collect();
    }

    pub(super) fn discord_falls_silent(&mut self) {
        self.acknowledges = false;
    }

    /// Lets time pass, timer by timer.
    pub(super) fn after(&mut self, time: Duration) {
        let end = self.now + time;
        self.collect();
        while let Some(deadline) = self.session.deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            self.session.handle_timeout(self.now);
            self.collect();
        }
        self.now = end;
    }

    /// Lets time pass until the session would act, and a little more.
    pub(super) fn after_its_wait(&mut self) -> Duration {
        let wait = self.wait();
        self.after(wait);
        wait
    }

    /// How long it waits before it connects.
    pub(super) fn wait(&self) -> Duration {
        match self.session.state() {
            State::Disconnected { until } => until - self.now,
            state => panic!("{state:?} is not waiting to connect"),
        }
    }

    pub(super) fn did(&mut self) -> Vec<Did> {
        self.collect();
        std::mem::take(&mut self.done)
    }

    /// That and nothing else: silence is asserted too.
    #[track_caller]
    pub(super) fn did_only<const N: usize>(&mut self, expected: [Did; N]) {
        assert_eq!(self.did(), expected);
    }

    fn collect(&mut self) {
        while let Some(action) = self.session.poll_action() {
            let did = self.read(action);
            if matches!(did, Did::Heartbeat(_)) && self.acknowledges {
                self.session.packet(11, b"", self.now).expect("an ack");
            }
            self.done.push(did);
        }
    }

    fn read(&mut self, action: Action) -> Did {
        let resumes = |resume| if resume { Resumes::Session } else { Resumes::Nothing };
        match action {
            Action::Connect { url, resume } => {
                let (host, query) = url.split_once("/?").expect("a path and a query");
                assert_eq!(query, "v=10&encoding=json&compress=zlib-stream");
                Did::Connect(word(host), resumes(resume))
            }
            Action::Send(packet) => read_packet(&packet),
            Action::AskIdentify => Did::AskIdentify,
            Action::WithdrawIdentify => Did::WithdrawIdentify,
            Action::Close { code } => {
                assert_eq!(code, KEEP_SESSION);
                Did::Close
            }
            Action::Store => Did::Store,
            Action::Started { session, resume_url, old } => {
                assert_eq!(resume_url, "wss://resume.discord.gg/");
                self.old = old;
                Did::Started(word(session.as_str()))
            }
            Action::Resumed { .. } => Did::Resumed,
            Action::Disconnected { cause, until, resume } => {
                assert_eq!(self.session.state(), State::Disconnected { until });
                Did::Disconnected(cause, resumes(resume))
            }
            Action::Ended(End::ShutDown) => Did::ShutDown,
            Action::Ended(End::Fatal { code, advice }) => {
                self.advice = advice;
                Did::Fatal(code.code())
            }
        }
    }
}

fn read_packet(packet: &[u8]) -> Did {
    let packet: Value = serde_json::from_slice(packet).expect("JSON");
    let d = &packet["d"];
    match packet["op"].as_u64() {
        Some(1) => Did::Heartbeat(d.as_u64()),
        Some(2) => {
            assert_eq!((&d["token"], &d["shard"]), (&Value::from("hunter2"), &serde_json::json!([3, 16])));
            Did::Identify
        }
        Some(6) => {
            assert_eq!(d["token"], "hunter2");
            Did::Resume(word(d["session_id"].as_str().expect("a session")), d["seq"].as_u64().expect("a number"))
        }
        other => panic!("sent op {other:?}"),
    }
}

/// The words of these scenarios, so that expectations are easy to write.
fn word(text: &str) -> &'static str {
    ["wss://gateway.discord.gg", "wss://resume.discord.gg", "first", "second", "stored"]
        .into_iter()
        .find(|&word| word == text)
        .map_or_else(
            || panic!("{text} is new"),
            |word| word.trim_start_matches("wss://").trim_end_matches(".discord.gg"),
        )
}
