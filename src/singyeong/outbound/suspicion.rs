//! Which message a server does not survive, or does not take: it must not hold up all behind it for ever.
//!
//! When a connection ends while messages wait for their acknowledgement, one of them may be why. From then on they are sent one
//! at a time, each after the former's acknowledgement, until as many were taken as had waited. The one with which a connection
//! ends again and again is condemned. That a server was stopped says nothing of a message.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::body;

/// From so much on a message is condemned.
const ENOUGH: u32 = 12;
/// So many messages to a target are condemned, and none is taken: it is the target's fault.
const OF_A_TARGET: u32 = 2;
/// So many targets are remembered,
const TARGETS: usize = 64;
/// and for so long: the server may be another then.
const REMEMBERED: Duration = Duration::from_secs(300);

/// What a connection's end says of the messages that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nothing: the server goes, or wants us to.
    None,
    /// It may be one of them, the network, or the server's own end.
    Unclear,
    /// The server says that it does not take one of them.
    Message,
    /// It says that it does not understand one of them: it may be the target, which is the same in others.
    Packet,
}

/// By what a message is known when it comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print(u64, usize);

/// See the module.
#[derive(Debug, Default)]
pub struct Suspicion {
    /// So many more are sent one at a time.
    careful: usize,
    suspect: Option<(Print, u32)>,
    /// What the last connection's end said.
    last: Option<Blame>,
    /// Targets of messages that were condemned, the oldest first.
    targets: VecDeque<Target>,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    print: Print,
    condemned: u32,
    until: Instant,
}

impl Blame {
    /// Of a websocket that was closed with this code, or without one.
    pub const fn of_close(code: Option<u16>) -> Self {
        match code {
            // Going away, restarting, try again later; of 신경 in Optic: too slow, no heartbeat.
            Some(1001 | 1012 | 1013 | 4008 | 4009) => Self::None,
            // Broken protocol, unwanted data, no text, policy, too large, an error while it was handled; a bad packet.
            Some(1002 | 1003 | 1007..=1009 | 1011) => Self::Message,
            Some(4002) => Self::Packet,
            Some(_) | None => Self::Unclear,
        }
    }

    const fn weight(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Unclear => 1,
            Self::Message | Self::Packet => 4,
        }
    }

    /// Whether the server itself is all right.
    pub const fn is_of_a_message(self) -> bool {
        matches!(self, Self::Message | Self::Packet)
    }
}

impl Print {
    /// Of this body.
    pub fn of(body: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Self(hasher.finish(), body.len())
    }
}

impl Suspicion {
    /// A connection has ended while `waiting` messages had no acknowledgement; `oldest` is asked for the first of them.
    pub fn ended(&mut self, waiting: usize, oldest: impl FnOnce() -> Option<Print>, blame: Blame) {
        if waiting == 0 || blame == Blame::None {
            return;
        }
        self.last = Some(blame);
        self.careful = self.careful.max(waiting);
        if waiting == 1
            && let Some(oldest) = oldest()
        {
            let before = self.suspect.filter(|(print, _)| *print == oldest).map_or(0, |(_, weight)| weight);
            self.suspect = Some((oldest, before.saturating_add(blame.weight())));
        }
    }

    /// The server has taken so many.
    pub fn taken(&mut self, count: usize) {
        self.careful = self.careful.saturating_sub(count);
        self.suspect = None;
    }

    /// The server has taken this message: its target is all right.
    pub fn took(&mut self, body: &[u8]) {
        if !self.targets.is_empty()
            && let Some(print) = print_of_target(body)
        {
            self.targets.retain(|target| target.print != print);
        }
    }

    /// This message is condemned, and set aside.
    pub fn set_aside(&mut self, body: &[u8], now: Instant) {
        self.taken(1);
        if self.last != Some(Blame::Packet) {
            return;
        }
        let Some(print) = print_of_target(body) else { return };
        let known = self.targets.iter().position(|target| target.print == print);
        let condemned = known.and_then(|at| self.targets.remove(at)).map_or(0, |target| target.condemned) + 1;
        if self.targets.len() == TARGETS {
            self.targets.pop_front();
        }
        self.targets.push_back(Target { print, condemned, until: now + REMEMBERED });
    }

    /// Whether this message is not to be sent because its target never is taken.
    pub fn condemns_target(&mut self, body: &[u8], now: Instant) -> bool {
        if self.targets.is_empty() {
            return false;
        }
        self.targets.retain(|target| now < target.until);
        self.targets.iter().any(|target| target.condemned >= OF_A_TARGET)
            && print_of_target(body).is_some_and(|print| {
                self.targets.iter().any(|target| target.condemned >= OF_A_TARGET && target.print == print)
            })
    }

    /// Whether messages are to be sent one at a time.
    pub fn is_careful(&self) -> bool {
        self.careful > 0
    }

    /// Whether this message is not to be sent again.
    pub fn condemns(&self, body: &[u8]) -> bool {
        // The print is not made of every message, but of one after a failure.
        self.suspect.is_some_and(|(print, weight)| weight >= ENOUGH && print == Print::of(body))
    }
}

fn print_of_target(body: &[u8]) -> Option<Print> {
    body::target_text(body).map(|target| Print::of(target.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(target: &str, n: u32) -> Vec<u8> {
        format!(r#"{{"op":4,"d":{{"target":{target},"nonce":"s:{n}","payload":{n}}}}}"#).into_bytes()
    }

    #[test]
    fn a_target_of_which_two_messages_are_condemned_is_left_out_for_a_while() {
        let mut suspicion = Suspicion::default();
        let now = Instant::now();
        let (bad, good) = (|n| to(r#"{"ops":[1]}"#, n), |n| to("{}", n));
        let condemn = |suspicion: &mut Suspicion, body: &[u8], blame| {
            suspicion.ended(1, || Some(Print::of(body)), blame);
            suspicion.set_aside(body, now);
        };
        condemn(&mut suspicion, &bad(1), Blame::Packet);
        assert!(!suspicion.condemns_target(&bad(2), now), "it may be that message alone");
        suspicion.took(&bad(2));
        condemn(&mut suspicion, &bad(3), Blame::Packet);
        assert!(!suspicion.condemns_target(&bad(4), now), "one was taken meanwhile");
        suspicion.took(&good(1));
        condemn(&mut suspicion, &bad(4), Blame::Packet);
        assert!(suspicion.condemns_target(&bad(5), now) && !suspicion.condemns_target(&good(2), now));
        assert!(!suspicion.condemns_target(&bad(5), now + REMEMBERED), "the server may be another then");
        for n in 0..3 {
            condemn(&mut suspicion, &good(n), Blame::Message);
        }
        assert!(!suspicion.condemns_target(&good(3), now), "too large, say");
        for n in 0..3 * TARGETS as u32 {
            condemn(&mut suspicion, &to(&n.to_string(), n), Blame::Packet);
        }
        assert_eq!(suspicion.targets.len(), TARGETS);
    }

    #[test]
    fn what_is_alone_under_way_three_times_when_the_server_refuses_is_condemned() {
        let mut suspicion = Suspicion::default();
        let print = || Some(Print::of(b"bad"));
        suspicion.ended(5, print, Blame::Message);
        assert!(suspicion.is_careful() && !suspicion.condemns(b"bad"), "it may be any of the five");
        for _ in 0..3 {
            assert!(!suspicion.condemns(b"bad"));
            suspicion.ended(1, print, Blame::Message);
        }
        assert!(suspicion.condemns(b"bad") && !suspicion.condemns(b"good"));
        suspicion.taken(1);
        assert!(!suspicion.condemns(b"bad") && suspicion.is_careful());
        suspicion.taken(4);
        assert!(!suspicion.is_careful());
    }

    #[test]
    fn a_server_that_is_stopped_says_nothing_and_one_that_is_lost_says_little() {
        let mut suspicion = Suspicion::default();
        let print = || Some(Print::of(b"good"));
        for _ in 0..100 {
            suspicion.ended(1, print, Blame::None);
        }
        assert!(!suspicion.is_careful() && !suspicion.condemns(b"good"));
        for _ in 0..ENOUGH - 1 {
            suspicion.ended(1, print, Blame::Unclear);
        }
        assert!(suspicion.is_careful() && !suspicion.condemns(b"good"));
        suspicion.ended(1, || Some(Print::of(b"other")), Blame::Unclear);
        suspicion.ended(1, print, Blame::Unclear);
        assert!(!suspicion.condemns(b"good"), "not in a row");
    }

    #[test]
    fn codes_blame_whom_they_are_about() {
        assert_eq!(Blame::of_close(Some(1012)), Blame::None);
        assert_eq!(Blame::of_close(Some(1009)), Blame::Message);
        assert_eq!(Blame::of_close(Some(4002)), Blame::Packet);
        assert_eq!(Blame::of_close(Some(4321)), Blame::Unclear);
        assert_eq!(Blame::of_close(None), Blame::Unclear);
    }
}
