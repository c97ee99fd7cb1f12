//! What a service may say on its connection, and when: IDENTIFY first, and always under the name that it gave there.
//!
//! Knows no socket and no clock. Whether a request makes sense is the coordinator's to say, for it hears of those over RabbitMQ, too.

use std::time::Instant;

use super::close_code::CloseCode;
use super::limits::Limits;
use crate::amybot::answer::Answer;
use crate::amybot::message::{Message, Opcode, Refusal, Request, ServiceName};

/// See the module.
#[derive(Debug)]
pub struct Session {
    /// Its name, once it has identified.
    name: Option<ServiceName>,
    limits: Limits,
    opened: Instant,
    /// Its last frame.
    heard: Instant,
    pinged: bool,
}

/// What comes of a message.
#[derive(Debug)]
pub enum Action {
    /// The coordinator is to hear it.
    Tell(Message),
    /// The service is told what is wrong with it.
    Answer(Answer),
    /// The connection ends.
    Close(Close),
}

/// How a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// What is told before.
    pub answer: Option<Answer>,
    /// With which code.
    pub code: CloseCode,
    /// And in words.
    pub reason: String,
}

/// What time brings.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// A ping is to be sent.
    Ping,
    /// The connection ends.
    Close(Close),
}

impl Close {
    /// With this code, for this reason.
    pub fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        Self { answer: None, code, reason: reason.into() }
    }
}

impl Session {
    /// Of a connection that was opened now.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self { name: None, limits, opened: now, heard: now, pinged: false }
    }

    /// Who it is, once that is known.
    pub fn name(&self) -> Option<&ServiceName> {
        self.name.as_ref()
    }

    /// A frame came, be it a part of a message.
    pub fn frame(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = false;
    }

    /// A whole text came.
    pub fn message(&mut self, text: &[u8], now: Instant) -> Action {
        self.frame(now);
        let message = match Message::read_json(text) {
            Ok(message) => message,
            Err(malformed) => return Action::Close(Close::new(CloseCode::Malformed, malformed.to_string())),
        };
        match &self.name {
            None => self.identify(message),
            Some(name) if *name.as_str() == *message.s => Action::Tell(message),
            Some(name) => {
                let reason = format!("\"s\" is not {:?}, the name of this connection's IDENTIFY", name.as_str());
                Action::Answer(Answer::Refused { opcode: message.opcode(), reason })
            }
        }
    }

    fn identify(&mut self, message: Message) -> Action {
        let refused = |code, reason: String| {
            let answer = Some(Answer::Refused { opcode: message.opcode(), reason: reason.clone() });
            Action::Close(Close { answer, code, reason })
        };
        match message.request() {
            Ok(Request::Identify(_)) => {}
            Err(refusal @ (Refusal::Name(_) | Refusal::Incomplete { opcode: Opcode::Identify, .. })) => {
                return refused(CloseCode::BadIdentify, refusal.to_string());
            }
            Ok(_) | Err(_) => {
                return refused(CloseCode::NotIdentified, "the first message must be IDENTIFY".to_owned());
            }
        }
        match ServiceName::new(&message.s) {
            Ok(name) => self.name = Some(name),
            Err(invalid) => return refused(CloseCode::BadIdentify, invalid.to_string()),
        }
        Action::Tell(message)
    }

    /// When time brings something.
    pub fn deadline(&self) -> Instant {
        let silent = self.heard + self.limits.ping + if self.pinged { self.limits.pong } else { Default::default() };
        match self.name {
            Some(_) => silent,
            None => silent.min(self.opened + self.limits.identify),
        }
    }

    /// What it brings, if it is due.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        if now < self.deadline() {
            return None;
        }
        if self.name.is_none() && now >= self.opened + self.limits.identify {
            let reason = format!("no IDENTIFY within {} s", self.limits.identify.as_secs());
            return Some(Due::Close(Close::new(CloseCode::NotIdentified, reason)));
        }
        if self.pinged {
            return Some(Due::Close(Close::new(CloseCode::TimedOut, "no answer to a ping")));
        }
        self.pinged = true;
        Some(Due::Ping)
    }

    /// It could not be heard until now: nothing was read.
    pub fn excuse(&mut self, now: Instant) {
        self.frame(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(session: &mut Session, s: &str, t: &str, d: &str) -> Action {
        let text = format!(r#"{{"s":"{s}","t":"{t}","d":{d}}}"#);
        session.message(text.as_bytes(), session.opened)
    }

    fn identified() -> Session {
        let mut session = Session::new(Limits::default(), Instant::now());
        let action = said(&mut session, "bot", "gateway:opcode", r#"{"opcode":0}"#);
        assert!(matches!(action, Action::Tell(_)), "{action:?}");
        assert_eq!(session.name().map(ServiceName::as_str), Some("bot"));
        session
    }

    fn closed(action: Action) -> (u16, String) {
        match action {
            Action::Close(close) => (close.code.number(), close.reason),
            other => panic!("not closed: {other:?}"),
        }
    }

    #[test]
    fn the_first_message_is_identify() {
        for (s, t, d, code, why) in [
            ("bot", "gateway:opcode", r#"{"opcode":10}"#, 4003, "the first message must be IDENTIFY"),
            ("bot", "gateway-proxy:bot:x", "1", 4003, "the first message must be IDENTIFY"),
            ("gateway", "gateway:opcode", r#"{"opcode":0}"#, 4004, "\"gateway\" is no name of a service"),
            ("bot", "gateway:opcode", r#"{"opcode":"0","topics":7}"#, 4004, "IDENTIFY needs \"topics\""),
        ] {
            let mut session = Session::new(Limits::default(), Instant::now());
            let (number, reason) = closed(said(&mut session, s, t, d));
            assert_eq!(number, code, "{reason}");
            assert!(reason.starts_with(why), "{reason}");
            assert!(session.name().is_none());
        }
    }

    #[test]
    fn what_is_no_message_ends_the_connection() {
        for text in ["", "hello", "[]", r#"{"s":"bot","t":"x"}"#] {
            let (code, reason) = closed(identified().message(text.as_bytes(), Instant::now()));
            assert_eq!(code, 4002);
            assert!(reason.starts_with("it is no message"), "{reason}");
        }
    }

    #[test]
    fn another_name_than_that_of_identify_is_refused_and_not_told() {
        let mut session = identified();
        for d in [r#"{"opcode":"12","shard_id":1}"#, r#"{"opcode":0}"#] {
            match said(&mut session, "other", "gateway:opcode", d) {
                Action::Answer(Answer::Refused { opcode: Some(_), reason }) => assert!(reason.contains("\"bot\"")),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(said(&mut session, "bot", "gateway-proxy:bot:x", "1"), Action::Tell(_)));
        assert!(
            matches!(said(&mut session, "bot", "gateway:opcode", r#"{"opcode":1}"#), Action::Tell(_)),
            "its business"
        );
    }

    #[test]
    fn who_says_nothing_is_pinged_and_closed() {
        let mut session = identified();
        let (limits, start) = (Limits::default(), session.opened);
        assert_eq!(session.due(start + limits.identify), None);
        assert_eq!(session.deadline(), start + limits.ping);
        assert_eq!(session.due(session.deadline()), Some(Due::Ping));
        assert_eq!(session.due(session.deadline() - limits.pong), None);
        session.frame(start + limits.ping);
        assert_eq!(session.due(start + limits.ping + limits.pong), None, "it has answered");
        assert_eq!(session.due(session.deadline()), Some(Due::Ping));
        match session.due(session.deadline()) {
            Some(Due::Close(close)) => assert_eq!(close.code.number(), 4009),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_does_not_identify_in_time_is_closed_whatever_frames_come() {
        let start = Instant::now();
        let mut session = Session::new(Limits::default(), start);
        session.frame(start + Limits::default().identify / 2);
        match session.due(session.deadline()) {
            Some(Due::Close(close)) => {
                assert_eq!((close.code.number(), &*close.reason), (4003, "no IDENTIFY within 10 s"));
            }
            other => panic!("{other:?}"),
        }
    }
}
