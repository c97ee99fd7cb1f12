//! What a session never does, whatever happens to it in whatever order.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value;

use super::scenario::{record, settings};
use super::*;

/// Anything that can happen, likely or not.
#[derive(Clone, Debug)]
enum Input {
    Wait(u64),
    UntilDeadline,
    Connected,
    ConnectFailed,
    Hello(u64),
    Packet(u64, &'static str),
    Asked(u8),
    Ready(bool),
    Event(u64),
    Resumed(u64),
    Closed(Option<u16>),
    Broken,
    Granted,
    Stored(bool, u64),
    Paused(bool),
    Suspend,
    Wake,
    Commands(u8),
    ShutDown,
}

fn input() -> impl Strategy<Value = Input> {
    let close = prop_oneof![
        4 => Just(None),
        4 => prop::sample::select(vec![1000, 1001, 1006, 4000, 4003, 4005, 4007, 4008, 4009, 4999]).prop_map(Some),
        1 => prop::sample::select(vec![4004, 4010, 4014]).prop_map(Some),
    ];
    let data = prop::sample::select(vec!["null", "", "true", "false", "{", r#"{"heartbeat_interval":1}"#]);
    prop_oneof![
        4 => (0..40_000_u64).prop_map(Input::Wait),
        12 => Just(Input::UntilDeadline),
        8 => Just(Input::Connected),
        1 => Just(Input::ConnectFailed),
        8 => prop::sample::select(vec![100, 500, 2_000, 41_250, 3_600_000]).prop_map(Input::Hello),
        3 => (0..14_u64, data).prop_map(|(op, data)| Input::Packet(op, data)),
        1 => (0..200_u8).prop_map(Input::Asked),
        8 => any::<bool>().prop_map(Input::Ready),
        6 => (0..100_u64).prop_map(Input::Event),
        3 => (0..100_u64).prop_map(Input::Resumed),
        2 => close.prop_map(Input::Closed),
        1 => Just(Input::Broken),
        8 => Just(Input::Granted),
        5 => (any::<bool>(), 0..100_u64).prop_map(|(current, seq)| Input::Stored(current, seq)),
        2 => any::<bool>().prop_map(Input::Paused),
        1 => Just(Input::Suspend),
        2 => Just(Input::Wake),
        2 => (0..200_u8).prop_map(Input::Commands),
        1 => Just(Input::ShutDown),
    ]
}

/// Drives a session as the driver would, and holds it to its promises.
struct Witness {
    session: Session,
    now: Instant,
    /// Whether there is a connection or an attempt at one.
    connection: bool,
    /// Whether that connection is open.
    open: bool,
    turn: Turn,
    sent: Vec<Instant>,
    /// What was stored of the current session.
    stored: BTreeSet<u64>,
    sessions: u32,
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    None,
    Asked,
    Granted,
}

impl Witness {
    fn new(stored: bool, seed: u64) -> Self {
        let gateway = GatewayUrl::parse("wss://gateway.discord.gg").expect("an address");
        let now = Instant::now();
        Self {
            session: Session::new(settings(), gateway, stored.then(record), seed, now),
            now,
            connection: false,
            open: false,
            turn: Turn::None,
            sent: Vec::new(),
            stored: if stored { BTreeSet::from([40]) } else { BTreeSet::new() },
            sessions: 0,
            ended: false,
        }
    }

    fn does(&mut self, input: &Input) {
        let now = self.now;
        let session = &mut self.session;
        match *input {
            Input::Wait(millis) => self.now += Duration::from_millis(millis),
            Input::UntilDeadline => {
                if let Some(deadline) = session.deadline() {
                    self.now = self.now.max(deadline);
                    self.timeout();
                }
            }
            Input::Connected => {
                self.open = self.connection;
                session.connected(now);
            }
            Input::ConnectFailed if self.connection && !self.open => {
                self.connection = false;
                session.connect_failed(now);
            }
            Input::ConnectFailed => {}
            Input::Hello(interval) => {
                let _ = session.packet(10, format!(r#"{{"heartbeat_interval":{interval}}}"#).as_bytes(), now);
            }
            Input::Packet(op, data) => drop(session.packet(op, data.as_bytes(), now)),
            Input::Asked(times) => (0..times).for_each(|_| drop(session.packet(1, b"", now))),
            Input::Ready(new) => {
                self.sessions += u32::from(new);
                let ready = format!(r#"{{"session_id":"{}"}}"#, self.sessions);
                let _ = session.dispatch(Seq::new(1), "READY", ready.as_bytes(), now);
            }
            Input::Event(seq) => drop(session.dispatch(Seq::new(seq), "TYPING_START", b"{}", now)),
            Input::Resumed(seq) => drop(session.dispatch(Seq::new(seq), "RESUMED", b"{}", now)),
            Input::Closed(code) => {
                self.connection = false;
                self.open = false;
                session.closed(code, now);
            }
            Input::Broken => session.broken("nonsense", now),
            Input::Granted => {
                // One that nobody waits for is a grant that crossed a withdrawal.
                if self.turn == Turn::Asked {
                    self.turn = Turn::Granted;
                }
                session.identify_granted(now);
            }
            Input::Stored(current, seq) => match session.session_id().cloned() {
                Some(id) if current => {
                    session.stored(&id, Seq::new(seq));
                    self.stored.insert(seq);
                }
                _ => session.stored(&SessionId::new("another"), Seq::new(1_000 + seq)),
            },
            Input::Paused(paused) => session.reading_paused(paused, now),
            Input::Suspend => session.suspend(now),
            Input::Wake => session.wake(now),
            Input::Commands(times) => {
                for _ in 0..times {
                    if session.command_room(now).is_ok() {
                        session.command_sent(now);
                        self.sent.push(now);
                    }
                }
            }
            Input::ShutDown => session.shut_down(now),
        }
        self.watch();
    }

    fn timeout(&mut self) {
        // A timer that is not moved on by its own firing would keep the processor busy for ever.
        for _ in 0..4 {
            self.session.handle_timeout(self.now);
            self.watch();
            if self.session.deadline().is_none_or(|deadline| deadline > self.now) {
                return;
            }
        }
        panic!("busy in {:?}", self.session.state());
    }

    fn watch(&mut self) {
        while let Some(action) = self.session.poll_action() {
            assert!(!self.ended, "{action:?} after the end");
            match action {
                Action::Connect { .. } => {
                    assert!(!self.connection, "a second connection");
                    assert_eq!(self.turn, Turn::None, "a turn outlives its connection");
                    (self.connection, self.open) = (true, false);
                    self.sent.clear();
                }
                Action::Send(packet) => self.sends(&packet),
                Action::AskIdentify => {
                    assert_eq!(self.turn, Turn::None);
                    self.turn = Turn::Asked;
                }
                Action::WithdrawIdentify => {
                    assert_eq!(self.turn, Turn::Asked, "withdrawn without being asked for");
                    self.turn = Turn::None;
                }
                Action::Close { code } => {
                    assert!(self.connection, "nothing to close");
                    assert!(!matches!(code, 1000 | 1001), "{code} ends the session");
                    (self.connection, self.open) = (false, false);
                }
                Action::Store => assert!(self.session.record(Seq::ZERO, 0).is_some(), "nothing to store"),
                Action::Started { .. } => self.stored.clear(),
                Action::Resumed { .. } | Action::Disconnected { .. } => {}
                Action::Ended(_) => {
                    assert!(self.session.poll_action().is_none() && self.session.deadline().is_none());
                    self.ended = true;
                }
            }
        }
        if !self.connection {
            assert_ne!(self.turn, Turn::Asked, "a turn that nobody waits for");
        }
    }

    fn sends(&mut self, packet: &[u8]) {
        assert!(self.open, "sent without a connection");
        let packet: Value = serde_json::from_slice(packet).expect("JSON");
        let known = |seq: &Value| seq.as_u64().is_some_and(|seq| self.stored.contains(&seq));
        match packet["op"].as_u64() {
            Some(1) => assert!(packet["d"].is_null() || known(&packet["d"]), "{packet}"),
            Some(2) => {
                assert_eq!(self.turn, Turn::Granted, "identified without a turn");
                self.turn = Turn::None;
            }
            Some(6) => assert!(packet["d"]["seq"] == 0 || known(&packet["d"]["seq"]), "{packet}"),
            _ => panic!("sent {packet}"),
        }
        self.sent.push(self.now);
        if let Some(index) = self.sent.len().checked_sub(121) {
            assert!(self.now - self.sent[index] > Duration::from_secs(60), "121 packets in a minute");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_order_of_happenings_makes_a_session_break_a_promise(
        stored in any::<bool>(),
        seed in any::<u64>(),
        inputs in prop::collection::vec(input(), 1..400),
    ) {
        let mut witness = Witness::new(stored, seed);
        inputs.iter().for_each(|input| witness.does(input));
    }
}

#[test]
fn the_random_sequences_reach_every_state() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for seed in 0..50 {
        let mut witness = Witness::new(seed % 2 == 0, seed);
        for input in prop::collection::vec(input(), 400).new_tree(&mut runner).expect("inputs").current() {
            witness.does(&input);
            reached.insert(match witness.session.state() {
                State::Disconnected { .. } => "disconnected",
                State::Connecting => "connecting",
                State::AwaitingHello => "awaiting hello",
                State::AwaitingIdentify => "awaiting identify",
                State::Identifying => "identifying",
                State::Resuming => "resuming",
                State::Connected => "connected",
                State::Suspended => "suspended",
                State::Ended => "ended",
            });
        }
    }
    assert_eq!(reached.len(), 9, "{reached:?}");
}
