//! One connection's protocol: what a client may say when, and what is said to it.
//!
//! Knows no socket, no hub and no clock: the driver hands packets and `now` in, and carries the action out. Rules and texts are
//! those of spec/singyeong.md, "Packets" and "Identify".

mod identify;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

pub use self::identify::Registration;
use super::close_code::CloseCode;
use super::ids::{Application, ClientKey};
use super::limits::Limits;
use super::metadata::Changes;
use super::packet::dispatch::Dispatch;
use super::packet::incoming::{Op, Packet};
use super::packet::outgoing::Outgoing;
use super::packet::refusal::{LATE_HEARTBEAT, NOT_IDENTIFIED, RESTRICTED_ETF, Refusal, Refused};
use super::query::Query;
use crate::encoding::{Encoding, Value};
use crate::passwords::Passwords;
use crate::websocket::frames::FrameKind;

/// What holds for all connections.
#[derive(Debug)]
pub struct Rules {
    /// How much a client may ask for.
    pub limits: Limits,
    /// Who is restricted.
    pub passwords: Arc<Passwords>,
    /// The gateway's own application, as which nobody identifies.
    pub gateway: Application,
}

/// One connection.
///
/// ```text
/// Hello ── identify ──▶ Registering ── registered ──▶ Identified ──▶ Ended
///   └──────────────────────┴── refused, late, stopped ──────────────────▲
/// ```
#[derive(Debug)]
pub struct Session {
    rules: Arc<Rules>,
    encoding: Encoding,
    peer: IpAddr,
    state: State,
    /// The last frame of any kind; before identify, when it was opened.
    heard: Instant,
}

#[derive(Debug)]
enum State {
    Hello,
    Registering { key: ClientKey, restricted: bool },
    Identified { key: ClientKey, restricted: bool, heartbeat: Instant },
    Ended,
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Action {
    /// Says this, behind the answers to all that was asked before.
    Answer(Outgoing),
    /// Registers this client, and tells by [`Session::registered`] or [`Session::refused`]. Reads nothing meanwhile.
    Register(Box<Registration>),
    /// The client is alive: notes that, and acknowledges.
    Heartbeat,
    /// Changes its metadata.
    Update(Changes),
    /// Answers who matches.
    QueryNodes(Query),
    /// Has this dispatched.
    Dispatch {
        /// What.
        dispatch: Dispatch,
        /// The packet's `ts`.
        ts: Value,
    },
    /// Says a last word if there is one, and closes.
    Close {
        /// The last packet.
        last: Option<Outgoing>,
        /// The code.
        code: CloseCode,
    },
}

impl Session {
    /// A connection that was just opened. Its first packet is [`hello`](Self::hello).
    pub fn new(rules: Arc<Rules>, encoding: Encoding, peer: IpAddr, now: Instant) -> Self {
        Self { rules, encoding, peer, state: State::Hello, heard: now }
    }

    /// What is said first.
    pub fn hello(&self) -> Outgoing {
        let interval = self.rules.limits.heartbeat.as_millis();
        Outgoing::Hello { heartbeat_interval: u64::try_from(interval).unwrap_or(u64::MAX) }
    }

    /// Takes a message.
    pub fn message(&mut self, kind: FrameKind, bytes: &[u8], now: Instant) -> Option<Action> {
        self.frame(now);
        match &self.state {
            State::Registering { .. } | State::Ended => return None,
            State::Hello => {}
            State::Identified { heartbeat, .. } if now > *heartbeat + self.rules.limits.heartbeat_timeout() => {
                return Some(self.late());
            }
            State::Identified { restricted: true, .. } if self.encoding == Encoding::Etf => {
                return Some(self.fail(RESTRICTED_ETF, CloseCode::BadPacket));
            }
            State::Identified { .. } => {}
        }
        let packet = match Packet::read(self.encoding, kind, bytes) {
            Ok(packet) => packet,
            Err(refusal) => return Some(self.refuse(refusal, CloseCode::BadPacket)),
        };
        Some(match &self.state {
            State::Hello => self.first(packet, now),
            State::Identified { .. } => self.further(packet, now),
            State::Registering { .. } | State::Ended => return None,
        })
    }

    /// Takes a frame of another kind: the client is there.
    pub fn frame(&mut self, now: Instant) {
        // Who has not identified is not kept for pings.
        if !matches!(self.state, State::Hello) {
            self.heard = now;
        }
    }

    /// Nothing was read until now, through no fault of the client.
    pub fn excuse(&mut self, now: Instant) {
        self.frame(now);
        if let State::Identified { heartbeat, .. } = &mut self.state {
            *heartbeat = now;
        }
    }

    /// When [`timeout`](Self::timeout) is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let idle = self.heard + self.rules.limits.idle_timeout();
        match &self.state {
            State::Hello => Some(idle),
            State::Identified { heartbeat, .. } => Some(idle.min(*heartbeat + self.rules.limits.heartbeat_timeout())),
            State::Registering { .. } | State::Ended => None,
        }
    }

    /// The deadline may have come.
    pub fn timeout(&mut self, now: Instant) -> Option<Action> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let is_idle = now >= self.heard + self.rules.limits.idle_timeout();
        Some(match &self.state {
            State::Hello => self.end(None, CloseCode::NotIdentified),
            // As the original: whoever says nothing at all hears nothing either.
            _ if is_idle => self.end(None, CloseCode::TimedOut),
            _ => self.late(),
        })
    }

    /// The client was registered: what it is told.
    pub fn registered(&mut self, now: Instant) -> Option<Outgoing> {
        let State::Registering { key, restricted } = std::mem::replace(&mut self.state, State::Ended) else {
            return None;
        };
        let ready = Outgoing::Ready { client: key.client.clone(), restricted };
        self.state = State::Identified { key, restricted, heartbeat: now };
        self.heard = now;
        Some(ready)
    }

    /// Somebody healthy has this client's ids.
    pub fn refused(&mut self) -> Option<Action> {
        matches!(self.state, State::Registering { .. }).then(|| self.taken())
    }

    /// The server goes.
    pub fn stop(&mut self) -> Action {
        self.end(Some(Outgoing::Goodbye), CloseCode::GoingAway)
    }

    /// A message of more bytes than are taken of this client.
    pub fn too_large(&mut self, most: usize) -> Action {
        let error = format!("decode: payload: more than {most} bytes");
        self.fail(&error, CloseCode::TooLarge)
    }

    /// The first packet.
    fn first(&mut self, packet: Packet, now: Instant) -> Action {
        if packet.op != Op::Identify {
            return self.fail(NOT_IDENTIFIED, CloseCode::NotIdentified);
        }
        let bad = |refusal| (refusal, CloseCode::BadIdentify);
        let checked = packet
            .identify()
            .map_err(bad)
            .and_then(|identify| identify::check(identify, &self.rules, self.encoding, self.peer, now));
        match checked {
            Ok(registration) => {
                self.heard = now;
                self.state = State::Registering { key: registration.key.clone(), restricted: registration.restricted };
                Action::Register(Box::new(registration))
            }
            Err((refusal, code)) => self.refuse(refusal, code),
        }
    }

    /// A packet behind identify.
    fn further(&mut self, packet: Packet, now: Instant) -> Action {
        match packet.op {
            Op::Heartbeat => {
                if let State::Identified { heartbeat, .. } = &mut self.state {
                    *heartbeat = now;
                }
                Action::Heartbeat
            }
            Op::Dispatch => self.dispatch(packet),
            Op::Identify => match packet.identify() {
                Ok(_) => self.taken(),
                Err(refusal) => self.refuse(refusal, CloseCode::BadIdentify),
            },
            op => self.refuse(op.refusal(), CloseCode::BadPacket),
        }
    }

    fn dispatch(&mut self, packet: Packet) -> Action {
        let is_restricted = matches!(self.state, State::Identified { restricted: true, .. });
        if is_restricted && packet.t.as_str() != Some("UPDATE_METADATA") {
            return Action::Answer(Outgoing::Invalid(Refusal::restricted(&packet.t)));
        }
        let ts = packet.ts.clone();
        match packet.dispatch(self.rules.limits.query_depth) {
            Ok(Dispatch::UpdateMetadata(changes)) => Action::Update(changes),
            Ok(Dispatch::QueryNodes(query)) => Action::QueryNodes(query),
            Ok(dispatch) => Action::Dispatch { dispatch, ts },
            Err(Refused::Invalid(refusal)) => Action::Answer(Outgoing::Invalid(refusal)),
            Err(Refused::Error(refusal)) => self.refuse(refusal, CloseCode::BadPacket),
        }
    }

    /// Somebody has these ids, perhaps this client itself: one connection is one client.
    fn taken(&mut self) -> Action {
        match &self.state {
            State::Registering { key, .. } | State::Identified { key, .. } => {
                let refusal = Refusal::already_registered(key);
                self.refuse(refusal, CloseCode::AlreadyRegistered)
            }
            State::Hello | State::Ended => self.end(None, CloseCode::AlreadyRegistered),
        }
    }

    fn late(&mut self) -> Action {
        self.fail(LATE_HEARTBEAT, CloseCode::TimedOut)
    }

    fn fail(&mut self, error: &str, code: CloseCode) -> Action {
        self.refuse(Refusal::new(error), code)
    }

    fn refuse(&mut self, refusal: Refusal, code: CloseCode) -> Action {
        self.end(Some(Outgoing::Error(refusal)), code)
    }

    fn end(&mut self, last: Option<Outgoing>, code: CloseCode) -> Action {
        self.state = State::Ended;
        Action::Close { last, code }
    }
}
