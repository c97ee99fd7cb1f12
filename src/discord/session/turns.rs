//! The turns a session takes: connecting, Hello, READY, RESUMED, and above all the end of a connection.

use std::time::{Duration, Instant};

use super::ending;
use super::heartbeat::Heartbeat;
use super::known::Known;
use super::{
    Action, CONNECT_TIMEOUT, Cause, Connection, End, LastSign, RATE_LIMIT_PAUSE, RESUME_SILENCE, Session, Settings,
    State,
};
use crate::broker::GapReason;
use crate::discord::close_code::{Fate, KEEP_SESSION};
use crate::discord::ids::Seq;
use crate::discord::payload::{self, MalformedPacket};

impl Session {
    pub(super) fn connect(&mut self, now: Instant) {
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

    pub(super) fn hello(&mut self, interval: Duration, now: Instant) {
        self.connection.sends.reserve_for(interval);
        self.connection.heartbeat = Some(Heartbeat::new(interval, self.rng.f64(), now));
        match &mut self.known {
            Some(known) => {
                known.resuming();
                let packet = payload::resume(self.settings.encoding, &self.settings.token, &known.id, known.stored);
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

    pub(super) fn ready(&mut self, data: &[u8], now: Instant) -> Result<(), MalformedPacket> {
        let ready = payload::ready(self.settings.encoding, data)?;
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

    pub(super) fn resumed(&mut self, now: Instant) {
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
    pub(super) fn leave(&mut self, cause: Cause, now: Instant) {
        let before_hello = matches!(self.state, State::Connecting | State::AwaitingHello);
        let had_session = matches!(self.state, State::Resuming | State::Connected);
        self.note_last_sign(&cause, now);
        self.release(cause.is_ours());
        if let Cause::Closed(code) = cause
            && let Some(advice) = ending::advice(code, &self.settings)
        {
            self.store();
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
        if had_session {
            self.store();
        }
        let until = now + self.wait_after(&cause, now);
        self.connection = Connection::default();
        self.disconnected_until(until);
        self.actions.push_back(Action::Disconnected { cause, until, resume: self.known.is_some() });
    }

    /// We end the connection, or the wait for the next, for reasons of our own.
    pub(super) fn interrupt(&mut self, now: Instant) {
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
        // Also without a connection: events were confirmed since it ended.
        self.store();
        self.connection = Connection::default();
    }

    /// Lets go of the place in the queue and of the connection.
    fn release(&mut self, ours: bool) {
        if self.state == State::AwaitingIdentify {
            self.actions.push_back(Action::WithdrawIdentify);
        }
        if ours {
            self.actions.push_back(Action::Close { code: KEEP_SESSION });
        }
    }

    /// Has the session stored, if it still is one: so a resume begins from a fresh number.
    fn store(&mut self) {
        if self.known.is_some() {
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

    pub(super) fn end(&mut self, end: End) {
        self.connection = Connection::default();
        self.state = State::Ended;
        self.actions.push_back(Action::Ended(end));
    }
}
