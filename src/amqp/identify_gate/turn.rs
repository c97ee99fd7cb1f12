//! One shard's turn to identify, from its place in line to handing the turn on: what to do next, and when.
//!
//! Knows no connection: the driver does each [`Step`] and says what came of it. Rules: spec/cluster.md, "The identify gate".
//! The one who holds the bucket's marker has the turn; everything here is about when that can be relied upon.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How turns are timed.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Between two identifies of a bucket.
    pub pace: Duration,
    /// How long after RabbitMQ was last asked the turn may be used.
    pub valid: Duration,
}

impl Rules {
    /// How long after somebody else can have had the turn it is certain that his identify is a pace ago.
    fn caution(self) -> Duration {
        self.pace + self.valid
    }
}

/// What a marker tells of identifies before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Past {
    /// Who put it there had the turn, and let the pace pass; or it is the first of all.
    Known,
    /// There was no marker: RabbitMQ may have restarted while somebody had the turn.
    Unknown,
}

/// The message that is the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// What it says.
    pub past: Past,
    /// Whether somebody had it and did not hand it on: he died.
    pub redelivered: bool,
}

#[derive(Serialize, Deserialize)]
struct Body {
    version: u32,
    past: Past,
}

const VERSION: u32 = 1;

impl Past {
    /// The marker's body.
    pub fn to_json(self) -> Vec<u8> {
        serde_json::to_vec(&Body { version: VERSION, past: self }).expect("plain fields become JSON")
    }

    /// Reads a marker's body. What cannot be read tells nothing.
    pub fn from_json(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(Body { version: VERSION, past }) => past,
            _ => Self::Unknown,
        }
    }
}

/// How the bucket's queue was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// It was not there, and never had been as far as this process knows.
    pub is_new: bool,
    /// Markers that nobody holds.
    pub messages: u32,
    /// Who is in line, whoever holds one included.
    pub consumers: u32,
}

impl Found {
    /// The markers to put there: how many, and what they say. Two, so that one is left while the other is held.
    pub fn missing(self) -> Option<(usize, Past)> {
        match self {
            Self { messages: 1.., .. } => None,
            Self { is_new: true, .. } => Some((2, Past::Known)),
            Self { consumers: 0, .. } => Some((2, Past::Unknown)),
            // Somebody holds one, as a rule, and puts another there when he is done.
            Self { .. } => Some((1, Past::Unknown)),
        }
    }
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Get in line, then say [`Turn::registered`].
    Register,
    /// Wait for the marker.
    Wait,
    /// Wait until then, then say [`Turn::due`].
    Until(Instant),
    /// Ask RabbitMQ anything on the channel that holds the marker, then say [`Turn::answered`].
    Prove,
    /// Let the shard identify until then; then say [`Turn::used`].
    Grant(Instant),
    /// Keep the marker until then, then say [`Turn::kept`].
    Keep(Instant),
    /// Put a fresh marker there, leave the line, and then only take the held marker away.
    HandOn,
    /// Nothing more.
    Over,
}

/// One turn.
#[derive(Debug)]
pub struct Turn {
    rules: Rules,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Outside,
    InLine {
        since: Instant,
    },
    /// The marker is ours; nobody identified for a pace from then on.
    Held {
        not_before: Instant,
    },
    Proving,
    Granted {
        until: Instant,
    },
    Spent {
        free_at: Instant,
    },
    HandingOn,
    Over,
}

impl Turn {
    /// A turn that is to be waited for.
    pub fn new(rules: Rules) -> Self {
        Self { rules, state: State::Outside }
    }

    /// What is to be done next.
    pub fn step(&self) -> Step {
        match self.state {
            State::Outside => Step::Register,
            State::InLine { .. } => Step::Wait,
            State::Held { not_before } => Step::Until(not_before),
            State::Proving => Step::Prove,
            State::Granted { until } => Step::Grant(until),
            State::Spent { free_at } => Step::Keep(free_at),
            State::HandingOn => Step::HandOn,
            State::Over => Step::Over,
        }
    }

    /// It is in line.
    pub fn registered(&mut self, now: Instant) {
        self.state = State::InLine { since: now };
    }

    /// The marker came.
    pub fn delivered(&mut self, marker: Marker, now: Instant) {
        let State::InLine { since } = self.state else { return };
        let after_another = if marker.redelivered { now + self.rules.caution() } else { now };
        // RabbitMQ restarted before we got in line, if it did: a restart would have put us out of it.
        let after_restart = if marker.past == Past::Unknown { since + self.rules.caution() } else { now };
        self.state = State::Held { not_before: after_another.max(after_restart) };
    }

    /// The moment that was waited for has come. `wanted`: whether the shard still waits.
    pub fn due(&mut self, now: Instant, wanted: bool) {
        self.state = match self.state {
            State::Held { not_before } if now >= not_before && wanted => State::Proving,
            // Not sooner: the next one relies on what we waited for.
            State::Held { not_before } if now >= not_before => State::HandingOn,
            state => state,
        };
    }

    /// RabbitMQ answered to what was asked at `asked`: the turn was ours at some moment since.
    pub fn answered(&mut self, asked: Instant, now: Instant, wanted: bool) {
        let until = asked + self.rules.valid;
        self.state = match self.state {
            State::Proving if !wanted => State::HandingOn,
            State::Proving if now < until => State::Granted { until },
            state => state,
        };
    }

    /// The shard identified at this moment, or did not and cannot any more.
    pub fn used(&mut self, at: Option<Instant>) {
        if let State::Granted { .. } = self.state {
            self.state = at.map_or(State::HandingOn, |at| State::Spent { free_at: at + self.rules.pace });
        }
    }

    /// The marker was kept until this moment.
    pub fn kept(&mut self, now: Instant) {
        if let State::Spent { free_at } = self.state
            && now >= free_at
        {
            self.state = State::HandingOn;
        }
    }

    /// The turn is handed on.
    pub fn handed_on(&mut self) {
        self.state = State::Over;
    }

    /// The channel, or the place in line, is lost, and the marker with it: RabbitMQ gives it to the next.
    pub fn lost(&mut self) {
        self.state = match self.state {
            State::Outside | State::InLine { .. } | State::Held { .. } | State::Proving => State::Outside,
            // The shard asks again if it has to.
            State::Granted { .. } | State::Spent { .. } | State::HandingOn | State::Over => State::Over,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RULES: Rules = Rules { pace: Duration::from_millis(5_500), valid: SECOND };
    const HANDED_ON: Marker = Marker { past: Past::Known, redelivered: false };

    fn in_line(now: Instant) -> Turn {
        let mut turn = Turn::new(RULES);
        assert_eq!(turn.step(), Step::Register);
        turn.registered(now);
        assert_eq!(turn.step(), Step::Wait);
        turn
    }

    fn granted(now: Instant) -> Turn {
        let mut turn = in_line(now);
        turn.delivered(HANDED_ON, now);
        assert_eq!(turn.step(), Step::Until(now));
        turn.due(now, true);
        assert_eq!(turn.step(), Step::Prove);
        turn.answered(now, now + SECOND / 10, true);
        assert_eq!(turn.step(), Step::Grant(now + SECOND), "counted from the question");
        turn
    }

    #[test]
    fn a_turn_is_held_for_the_pace_from_the_identify_and_handed_on() {
        let start = Instant::now();
        let mut turn = granted(start);
        let sent = start + SECOND / 2;
        turn.used(Some(sent));
        assert_eq!(turn.step(), Step::Keep(sent + RULES.pace));
        turn.kept(sent + SECOND * 5);
        assert_eq!(turn.step(), Step::Keep(sent + RULES.pace));
        turn.kept(sent + RULES.pace);
        assert_eq!(turn.step(), Step::HandOn);
        turn.handed_on();
        assert_eq!(turn.step(), Step::Over);
    }

    #[test]
    fn a_turn_that_is_not_used_is_handed_on_at_once() {
        let mut turn = granted(Instant::now());
        turn.used(None);
        assert_eq!(turn.step(), Step::HandOn);
    }

    #[test]
    fn how_long_a_marker_makes_wait() {
        let start = Instant::now();
        let later = start + 4 * SECOND;
        let much_later = start + 60 * SECOND;
        for (past, redelivered, at, not_before) in [
            (Past::Known, false, later, later),
            (Past::Known, true, later, later + RULES.caution()),
            (Past::Unknown, false, later, start + RULES.caution()),
            (Past::Unknown, false, much_later, start + RULES.caution()),
            (Past::Unknown, true, later, later + RULES.caution()),
        ] {
            let mut turn = in_line(start);
            turn.delivered(Marker { past, redelivered }, at);
            let Step::Until(until) = turn.step() else { panic!("{:?}", turn.step()) };
            assert_eq!(until.max(at), not_before.max(at), "{past:?} {redelivered}");
        }
    }

    #[test]
    fn who_no_longer_wants_the_turn_waits_all_the_same_before_it_is_handed_on() {
        let start = Instant::now();
        let mut turn = in_line(start);
        turn.delivered(Marker { past: Past::Known, redelivered: true }, start);
        turn.due(start + RULES.pace, false);
        assert_eq!(turn.step(), Step::Until(start + RULES.caution()), "too early");
        turn.due(start + RULES.caution(), false);
        assert_eq!(turn.step(), Step::HandOn);
    }

    #[test]
    fn an_answer_that_took_too_long_is_asked_for_again() {
        let start = Instant::now();
        let mut turn = in_line(start);
        turn.delivered(HANDED_ON, start);
        turn.due(start, true);
        turn.answered(start, start + RULES.valid, true);
        assert_eq!(turn.step(), Step::Prove);
    }

    #[test]
    fn a_lost_place_is_taken_again_and_a_lost_turn_is_over() {
        let start = Instant::now();
        let mut turn = in_line(start);
        turn.lost();
        assert_eq!(turn.step(), Step::Register);
        let mut turn = in_line(start);
        turn.delivered(HANDED_ON, start);
        turn.lost();
        assert_eq!(turn.step(), Step::Register);
        let mut turn = granted(start);
        turn.lost();
        assert_eq!(turn.step(), Step::Over);
    }

    #[test]
    fn markers_are_made_where_there_is_none() {
        let found = |is_new, messages, consumers| Found { is_new, messages, consumers }.missing();
        assert_eq!(found(true, 0, 0), Some((2, Past::Known)));
        assert_eq!(found(false, 0, 0), Some((2, Past::Unknown)), "RabbitMQ restarted, or somebody purged the queue");
        assert_eq!(found(false, 0, 1), Some((1, Past::Unknown)));
        assert_eq!(found(false, 1, 0), None);
        assert_eq!(found(true, 1, 0), None, "another process was faster");
    }

    #[test]
    fn markers_read_back_and_others_tell_nothing() {
        for past in [Past::Known, Past::Unknown] {
            assert_eq!(Past::from_json(&past.to_json()), past);
        }
        assert_eq!(Past::Known.to_json(), br#"{"version":1,"past":"known"}"#);
        for other in ["", "{}", r#"{"version":2,"past":"known"}"#, "known"] {
            assert_eq!(Past::from_json(other.as_bytes()), Past::Unknown, "{other}");
        }
    }
}
