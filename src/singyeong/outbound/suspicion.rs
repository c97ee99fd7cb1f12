//! Which message a server does not survive, or does not take: it must not hold up all behind it for ever.
//!
//! When a connection ends while messages wait for their acknowledgement, one of them may be why. From then on they are sent one
//! at a time, each after the former's acknowledgement, until as many were taken as had waited. The one with which a connection
//! ends again and again is condemned. That a server was stopped says nothing of a message.

use std::hash::{DefaultHasher, Hash, Hasher};

/// From so much on a message is condemned.
const ENOUGH: u32 = 12;

/// What a connection's end says of the messages that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nothing: the server goes, or wants us to.
    None,
    /// It may be one of them, the network, or the server's own end.
    Unclear,
    /// The server says that it does not take one of them.
    Message,
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
}

impl Blame {
    /// Of a websocket that was closed with this code, or without one.
    pub const fn of_close(code: Option<u16>) -> Self {
        match code {
            // Going away, restarting, try again later; of 신경 in Optic: too slow, no heartbeat.
            Some(1001 | 1012 | 1013 | 4008 | 4009) => Self::None,
            // Broken protocol, unwanted data, no text, policy, too large, an error while it was handled; a bad packet.
            Some(1002 | 1003 | 1007..=1009 | 1011 | 4002) => Self::Message,
            Some(_) | None => Self::Unclear,
        }
    }

    const fn weight(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Unclear => 1,
            Self::Message => 4,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(Blame::of_close(Some(4002)), Blame::Message);
        assert_eq!(Blame::of_close(Some(4321)), Blame::Unclear);
        assert_eq!(Blame::of_close(None), Blame::Unclear);
    }
}
