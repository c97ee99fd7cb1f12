//! What a session does when time has passed, and how it sends.

use std::time::Instant;

use super::heartbeat::Pulse;
use super::{Action, Cause, HELLO_TIMEOUT, RESUME_SILENCE, Session, State};
use crate::discord::ids::Seq;
use crate::discord::payload;
use crate::discord::send_limit::Purpose;

impl Session {
    pub(super) fn patience_is_over(&mut self, now: Instant) {
        let progress = std::mem::take(&mut self.connection.progress);
        match self.state {
            State::Connecting => self.leave(Cause::ConnectTimeout, now),
            State::AwaitingHello | State::Resuming if self.reading_paused || progress => self.be_patient(now),
            State::AwaitingHello => self.leave(Cause::HelloTimeout, now),
            State::Resuming => self.leave(Cause::ResumeSilent, now),
            _ => self.connection.patience = None,
        }
    }

    pub(super) fn be_patient(&mut self, now: Instant) {
        match self.state {
            State::AwaitingHello => self.connection.patience = Some(now + HELLO_TIMEOUT),
            State::Resuming => self.connection.patience = Some(now + RESUME_SILENCE),
            _ => {}
        }
    }

    pub(super) fn beat(&mut self, now: Instant) {
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

    pub(super) fn send_heartbeat(&mut self, purpose: Purpose, now: Instant) {
        // Discord asked so often that another answer would be a close 4008: our own heartbeats keep their room.
        if self.connection.sends.room(purpose, now).is_err() {
            return;
        }
        let stored = self.known.as_ref().map_or(Seq::ZERO, |known| known.stored);
        self.send(payload::heartbeat(self.settings.encoding, stored), now);
        if let Some(heartbeat) = &mut self.connection.heartbeat {
            heartbeat.sent(now);
        }
    }

    pub(super) fn send(&mut self, packet: Vec<u8>, now: Instant) {
        self.connection.sends.sent(now);
        self.actions.push_back(Action::Send(packet));
    }

    pub(super) fn heard(&mut self) {
        if let Some(heartbeat) = &mut self.connection.heartbeat {
            heartbeat.heard();
        }
    }

    /// Whether packets may come.
    pub(super) fn is_open(&self) -> bool {
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
