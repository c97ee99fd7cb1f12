//! A client's session, from the server's hello to its end.
//!
//! 신경 does not acknowledge what it is sent. But it takes packets in order, so the answer to a heartbeat says that it has taken
//! all that was said before that heartbeat. While something waits for that, heartbeats are sent as soon as the last is answered,
//! and not only by the clock.
//!
//! Knows no socket and no clock: the driver hands in frames and `now`, and carries the actions out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::packet::{self, Heard, Identity, Message, Refused};
use crate::encoding::{Encoding, Term, Value};
use crate::websocket::frames::FrameKind;

/// How long hello, and then ready, may take.
const GREETING: Duration = Duration::from_secs(20);
/// An answered heartbeat is not followed by another sooner, unless much waits.
const PACE: Duration = Duration::from_millis(100);
/// So many dispatches that wait are much.
const MANY: u64 = 32;
/// An answer to a heartbeat may take an interval, and at least this: the server may wait for something itself.
const LEAST_PATIENCE: Duration = Duration::from_secs(30);
/// What a server can mean by an interval.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(600));
/// Where it does not say.
const USUAL_INTERVAL: Duration = Duration::from_secs(45);

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a frame.
    Send(Vec<u8>),
    /// We are registered: dispatches may be said.
    Ready,
    /// The server has taken so many dispatches in all.
    Covered(u64),
    /// Something that we said is refused.
    Refused(Refused),
    /// Something that came cannot be read: any client there may have sent it.
    Unreadable(String),
    /// A message for us.
    Message(Message),
    /// It is over: close.
    End(End),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// We would be heard of nobody.
    #[error("it restricts us: {}", if *.0 { "the password is wrong, or the server has none and wants none" } else { "it wants a password, and SINGYEONG_DSN has none" })]
    Restricted(bool),
    /// Nothing came for too long.
    #[error("it does not answer: no {0}")]
    Silent(&'static str),
    /// It wants us elsewhere, or later.
    #[error("it said goodbye")]
    Goodbye,
    /// It closes for something that we said.
    #[error("it said: {0}")]
    Error(String),
    /// It is no 신경 server, or speaks another encoding.
    #[error("it cannot be understood: {0}")]
    Unreadable(String),
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    who: Identity,
    encoding: Encoding,
    /// As it was told last, or will be.
    metadata: Value,
    state: State,
    interval: Duration,
    /// Dispatches said.
    said: u64,
    /// Of them, those that the server has taken.
    covered: u64,
    /// Heartbeats without an answer: when, and how many dispatches were said before.
    beats: VecDeque<(Instant, u64)>,
    actions: VecDeque<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Until then hello has to come.
    Greeting(Instant),
    /// The same for ready.
    Identifying(Instant),
    Live {
        /// The next heartbeat by the clock.
        beat: Instant,
        /// One sooner, for what waits.
        early: Option<Instant>,
    },
    Over,
}

impl Session {
    /// Of a connection that was just opened.
    pub fn new(who: Identity, encoding: Encoding, metadata: Value, now: Instant) -> Self {
        Self {
            who,
            encoding,
            metadata,
            state: State::Greeting(now + GREETING),
            interval: USUAL_INTERVAL,
            said: 0,
            covered: 0,
            beats: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Greeting(until) | State::Identifying(until) => Some(until),
            State::Live { beat, early } => {
                let unanswered = self.beats.front().map(|(since, _)| *since + self.patience());
                [Some(beat), early, unanswered].into_iter().flatten().min()
            }
            State::Over => None,
        }
    }

    /// A deadline has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Greeting(until) if now >= until => self.end(End::Silent("hello")),
            State::Identifying(until) if now >= until => self.end(End::Silent("ready")),
            State::Live { beat, early } => {
                if self.beats.front().is_some_and(|(since, _)| now >= *since + self.patience()) {
                    self.end(End::Silent("answer to a heartbeat"));
                } else if now >= beat || early.is_some_and(|early| now >= early) {
                    self.beat(now);
                }
            }
            State::Greeting(_) | State::Identifying(_) | State::Over => {}
        }
    }

    /// A frame of the server.
    pub fn handle(&mut self, kind: FrameKind, bytes: &[u8], now: Instant) {
        let heard = match Heard::read(self.encoding, kind, bytes) {
            Ok(heard) => heard,
            Err(why) if self.is_live() => return self.actions.push_back(Action::Unreadable(why)),
            Err(why) => return self.end(End::Unreadable(why)),
        };
        match (heard, self.state) {
            (_, State::Over) => {}
            (Heard::Hello { interval }, State::Greeting(_)) => {
                self.interval = interval.unwrap_or(USUAL_INTERVAL).clamp(INTERVALS.0, INTERVALS.1);
                self.state = State::Identifying(now + GREETING);
                self.actions.push_back(Action::Send(packet::identify(self.encoding, &self.who, &self.metadata)));
            }
            (Heard::Ready { restricted: true }, State::Identifying(_)) => {
                self.end(End::Restricted(self.who.password.is_some()));
            }
            (Heard::Ready { restricted: false }, State::Identifying(_)) => {
                self.state = State::Live { beat: now + self.interval, early: None };
                // Servers of old know no metadata in an identify.
                self.tell_metadata();
                self.actions.push_back(Action::Ready);
            }
            (Heard::HeartbeatAck, State::Live { .. }) => self.answered(now),
            (Heard::Invalid(refused), State::Live { .. }) => self.actions.push_back(Action::Refused(refused)),
            (Heard::Message(message), State::Live { .. }) => self.actions.push_back(Action::Message(message)),
            // Servers before 2021 refused an identify so, and closed.
            (Heard::Error(error), _) | (Heard::Invalid(Refused { error, .. }), _) => self.end(End::Error(error)),
            (Heard::Goodbye, _) => self.end(End::Goodbye),
            (Heard::Hello { .. } | Heard::Ready { .. } | Heard::HeartbeatAck | Heard::Message(_) | Heard::Other, _) => {
            }
        }
    }

    /// A dispatch goes out, as the next frame; `urgent`, when nothing more does until the server has taken it. Gives its
    /// number, from 1.
    pub fn say(&mut self, urgent: bool, now: Instant) -> u64 {
        self.said += 1;
        self.hasten(now);
        if let State::Live { early: Some(early), .. } = &mut self.state
            && urgent
        {
            *early = now;
        }
        self.said
    }

    /// What we say of ourselves from now on.
    pub fn set_metadata(&mut self, metadata: Value) {
        if self.metadata != metadata {
            self.metadata = metadata;
            if matches!(self.state, State::Live { .. }) {
                self.tell_metadata();
            }
        }
    }

    /// Whether dispatches may be said.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    fn tell_metadata(&mut self) {
        if !self.metadata.is_null() {
            let update = packet::dispatch(self.encoding, "UPDATE_METADATA", &Term::Value(&self.metadata));
            self.actions.push_back(Action::Send(update));
        }
    }

    /// What waits is asked after soon; one question at a time.
    fn hasten(&mut self, now: Instant) {
        if let State::Live { early, .. } = &mut self.state
            && self.beats.is_empty()
            && self.said > self.covered
        {
            let at = if self.said - self.covered >= MANY { now } else { now + PACE };
            *early = Some(early.map_or(at, |early| early.min(at)));
        }
    }

    fn beat(&mut self, now: Instant) {
        self.beats.push_back((now, self.said));
        self.state = State::Live { beat: now + self.interval, early: None };
        self.actions.push_back(Action::Send(packet::heartbeat(self.encoding, &self.who)));
    }

    fn answered(&mut self, now: Instant) {
        let Some((_, said)) = self.beats.pop_front() else { return };
        if said > self.covered {
            self.covered = said;
            self.actions.push_back(Action::Covered(said));
        }
        self.hasten(now);
    }

    fn patience(&self) -> Duration {
        self.interval.max(LEAST_PATIENCE)
    }

    fn end(&mut self, end: End) {
        self.state = State::Over;
        self.actions.push_back(Action::End(end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::singyeong::ids::ClientId;
    use crate::singyeong::packet::incoming::{Op, Packet};
    use crate::singyeong::packet::outgoing::{Outgoing, Refusal};

    struct Scenario {
        session: Session,
        now: Instant,
    }

    fn metadata(shards: i64) -> Value {
        Value::map([("shards", Value::map([("type", Value::string("integer")), ("value", Value::Integer(shards))]))])
    }

    impl Scenario {
        fn new(password: Option<&str>) -> Self {
            let now = Instant::now();
            let password = password.map(Secret::new);
            let who = Identity { application: "bot".to_owned(), client: "1".to_owned(), password };
            Self { session: Session::new(who, Encoding::Json, metadata(1), now), now }
        }

        fn live() -> Self {
            let mut scenario = Self::new(None);
            scenario.hears(&Outgoing::Hello { heartbeat_interval: 45_000 });
            scenario.hears(&Outgoing::Ready { client: ClientId::new("1"), restricted: false });
            assert_eq!(scenario.does(), ["identify", "UPDATE_METADATA", "Ready"]);
            scenario
        }

        fn hears(&mut self, packet: &Outgoing) {
            let mut frame = Vec::new();
            packet.write(Encoding::Json, 1, &mut frame);
            self.session.handle(FrameKind::Text, &frame, self.now);
        }

        fn acknowledges(&mut self) {
            self.hears(&Outgoing::HeartbeatAck(ClientId::new("1")));
        }

        fn says(&mut self, count: usize) {
            for _ in 0..count {
                self.session.say(false, self.now);
            }
        }

        fn after(&mut self, wait: Duration) {
            self.now += wait;
            self.session.handle_timeout(self.now);
        }

        fn does(&mut self) -> Vec<String> {
            let name = |action| match action {
                Action::Send(frame) => {
                    let packet = Packet::read(Encoding::Json, FrameKind::Text, &frame).expect("a packet");
                    match packet.op {
                        Op::Identify => "identify".to_owned(),
                        Op::Heartbeat => "heartbeat".to_owned(),
                        _ => packet.t.as_str().unwrap_or_default().to_owned(),
                    }
                }
                Action::End(end) => format!("end: {end}"),
                other => format!("{other:?}"),
            };
            std::iter::from_fn(|| self.session.poll_action()).map(name).collect()
        }
    }

    #[test]
    fn one_heartbeat_covers_all_that_was_said_before_it_and_nothing_after() {
        let mut scenario = Scenario::live();
        scenario.says(3);
        assert_eq!(scenario.does(), [""; 0], "a moment is waited for more");
        scenario.after(PACE);
        assert_eq!(scenario.does(), ["heartbeat"]);
        scenario.says(2);
        scenario.after(PACE);
        assert_eq!(scenario.does(), [""; 0], "one question at a time");
        scenario.acknowledges();
        assert_eq!(scenario.does(), ["Covered(3)"]);
        scenario.after(PACE);
        assert_eq!(scenario.does(), ["heartbeat"]);
        scenario.acknowledges();
        assert_eq!(scenario.does(), ["Covered(5)"]);
        assert_eq!(scenario.session.deadline(), Some(scenario.now + Duration::from_secs(45)), "nothing waits");
    }

    #[test]
    fn where_much_waits_it_is_asked_after_at_once() {
        let mut scenario = Scenario::live();
        scenario.says(MANY as usize);
        assert_eq!(scenario.session.deadline(), Some(scenario.now));
        scenario.after(Duration::ZERO);
        assert_eq!(scenario.does(), ["heartbeat"]);
    }

    #[test]
    fn what_is_sent_alone_is_asked_after_at_once() {
        let mut scenario = Scenario::live();
        assert_eq!(scenario.session.say(true, scenario.now), 1);
        scenario.after(Duration::ZERO);
        assert_eq!(scenario.does(), ["heartbeat"]);
    }

    #[test]
    fn at_rest_heartbeats_are_sent_by_the_clock_and_an_unanswered_one_ends_it() {
        let mut scenario = Scenario::live();
        scenario.after(Duration::from_secs(45));
        assert_eq!(scenario.does(), ["heartbeat"]);
        scenario.acknowledges();
        scenario.after(Duration::from_secs(45));
        assert_eq!(scenario.does(), ["heartbeat"]);
        scenario.after(Duration::from_secs(45));
        assert_eq!(scenario.does(), ["end: it does not answer: no answer to a heartbeat"]);
        assert_eq!(scenario.session.deadline(), None);
    }

    #[test]
    fn who_is_restricted_says_nothing() {
        for (password, told) in [(Some("wrong"), "the password is wrong"), (None, "it wants a password")] {
            let mut scenario = Scenario::new(password);
            scenario.hears(&Outgoing::Hello { heartbeat_interval: 45_000 });
            scenario.hears(&Outgoing::Ready { client: ClientId::new("1"), restricted: true });
            let did = scenario.does();
            assert!(did[0] == "identify" && did[1].contains(told), "{did:?}");
            assert!(did.len() == 2 && !scenario.session.is_live());
        }
    }

    #[test]
    fn metadata_is_told_when_it_changes_and_before_ready_with_the_identify() {
        let mut scenario = Scenario::live();
        scenario.session.set_metadata(metadata(1));
        assert_eq!(scenario.does(), [""; 0]);
        scenario.session.set_metadata(metadata(2));
        assert_eq!(scenario.does(), ["UPDATE_METADATA"]);
        let mut early = Scenario::new(None);
        early.session.set_metadata(metadata(3));
        assert_eq!(early.does(), [""; 0]);
    }

    #[test]
    fn a_server_that_is_silent_or_no_server_of_this_kind_is_left() {
        let mut silent = Scenario::new(None);
        silent.after(GREETING);
        assert_eq!(silent.does(), ["end: it does not answer: no hello"]);
        let mut half = Scenario::new(None);
        half.hears(&Outgoing::Hello { heartbeat_interval: 0 });
        half.after(GREETING);
        assert_eq!(half.does(), ["identify", "end: it does not answer: no ready"]);
        let mut other = Scenario::new(None);
        other.session.handle(FrameKind::Text, b"hello", other.now);
        assert_eq!(other.does().len(), 1);
    }

    #[test]
    fn what_a_client_sends_that_cannot_be_read_ends_nothing() {
        let mut scenario = Scenario::live();
        let deep = [b"[".repeat(1000), b"]".repeat(1000)].concat();
        for frame in [b"hello".as_slice(), &deep] {
            scenario.session.handle(FrameKind::Text, frame, scenario.now);
            assert!(scenario.does()[0].starts_with("Unreadable(") && scenario.session.is_live());
        }
    }

    #[test]
    fn refusals_go_on_and_errors_and_goodbyes_end_it() {
        let mut scenario = Scenario::live();
        scenario.hears(&Outgoing::Invalid(Refusal::new("invalid metadata")));
        assert!(scenario.does()[0].starts_with("Refused("));
        scenario.hears(&Outgoing::Goodbye);
        assert_eq!(scenario.does(), ["end: it said goodbye"]);
        scenario.hears(&Outgoing::Error(Refusal::new("too late")));
        assert_eq!(scenario.does(), [""; 0]);
        let mut early = Scenario::new(None);
        early.hears(&Outgoing::Invalid(Refusal::new("1: already registered for app bot")));
        assert_eq!(early.does(), ["end: it said: 1: already registered for app bot"]);
    }
}
