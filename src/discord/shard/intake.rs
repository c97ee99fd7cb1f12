//! An event's way from the socket to the broker: websocket message, inflate, envelope, session, publish. The hot path.
//!
//! Synchronous, and without a task, a channel or an allocation an event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::outgoing::Outgoing;
use super::status::Status;
use super::status::guilds::Guilds;
use crate::broker::{Broker, Event, Gap, Position};
use crate::clock::unix_millis;
use crate::discord::envelope;
use crate::discord::ids::{Seq, Shard};
use crate::discord::inflate::{Buffer, Inflater};
use crate::discord::payload;
use crate::discord::session::{Action, Dispatched, LastSign, OldSession, Session};
use crate::discord::websocket::{Message, Reader};
use crate::ledger::Ledger;
use crate::session_store::StoredSession;

/// What shards of one thread share, so that a shard at rest holds no buffer of its own.
#[derive(Debug)]
pub struct Scratch {
    /// What came from a socket.
    pub(super) chunk: Box<[u8]>,
    /// A packet, inflated.
    inflated: Buffer,
}

/// How much is read from a socket at once.
const CHUNK: usize = 64 << 10;

impl Default for Scratch {
    fn default() -> Self {
        Self { chunk: vec![0; CHUNK].into(), inflated: Buffer::default() }
    }
}

/// How the reading of a chunk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// All that was whole is taken.
    All,
    /// The session has something to do first, or the window is full; there may be more.
    Stopped,
}

/// Takes packets in for one shard.
pub(super) struct Intake {
    pub(super) shard: Shard,
    pub(super) session: Session,
    pub(super) ledger: Ledger,
    /// Where the notice of the former session's gap is at the broker, until it is settled.
    pub(super) notice: Option<Position>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) guilds: Guilds,
    /// Where all of it is counted.
    pub(super) status: Arc<Status>,
    /// Actions that were looked at on the way, for the driver.
    pub(super) actions: VecDeque<Action>,
}

impl Intake {
    /// Takes the whole messages of `bytes`, as far as the window has room.
    pub(super) fn chunk(
        &mut self,
        bytes: &[u8],
        reader: &mut Reader,
        inflater: &mut Inflater,
        inflated: &mut Buffer,
        out: &mut Outgoing,
    ) -> Taken {
        let now = Instant::now();
        let mut chunk = reader.chunk(bytes);
        loop {
            if !self.broker.has_room() {
                return Taken::Stopped;
            }
            let message = match chunk.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => return Taken::All,
                Err(error) => {
                    self.broken(&error.to_string(), now);
                    return Taken::Stopped;
                }
            };
            match message {
                Message::Data(message) => match inflater.inflate(message, inflated) {
                    Ok(Some(packet)) => {
                        let plain = self.packet(packet, now);
                        inflated.trim();
                        if !plain {
                            return Taken::Stopped;
                        }
                    }
                    Ok(None) => {}
                    Err(error) => {
                        self.broken(&error.to_string(), now);
                        return Taken::Stopped;
                    }
                },
                Message::Ping(payload) => out.pong(payload),
                Message::Pong => {}
                Message::Close(code) => {
                    self.session.closed(code, now);
                    return Taken::Stopped;
                }
            }
        }
    }

    /// Takes a packet; whether it was a plain event, after which the session has nothing new to do.
    fn packet(&mut self, packet: &[u8], now: Instant) -> bool {
        let envelope = match envelope::scan(self.session.encoding(), packet) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.broken(&error.to_string(), now);
                return false;
            }
        };
        if envelope.op != 0 {
            self.status.received(envelope.op);
            let acknowledged = self.session.acknowledged();
            if let Err(error) = self.session.packet(envelope.op, envelope.data, now) {
                self.broken(&error.to_string(), now);
            }
            if self.session.acknowledged() > acknowledged
                && let Some(latency) = self.session.latency()
            {
                self.status.acknowledged(latency);
            }
            return false;
        }
        let (Some(seq), Some(name)) = (envelope.seq, envelope.event) else {
            self.broken("a dispatch has no \"s\" or no \"t\"", now);
            return false;
        };
        match self.session.dispatch(seq, &name, envelope.data, now) {
            Ok(Dispatched::Event) => {
                match &*name {
                    "READY" => {
                        self.look_for_a_start();
                        self.event(seq, &name, envelope.data);
                    }
                    "RESUMED" => self.resumed(seq, envelope.data),
                    _ => {
                        self.event(seq, &name, envelope.data);
                        return true;
                    }
                }
                false
            }
            Ok(Dispatched::Stale) => false,
            Err(error) => {
                self.broken(&error.to_string(), now);
                false
            }
        }
    }

    /// A new session has its ledger before its first event is published.
    fn look_for_a_start(&mut self) {
        while let Some(mut action) = self.session.poll_action() {
            if let Action::Started { old, .. } = &mut action {
                let old = old.take();
                self.started(old);
            }
            self.actions.push_back(action);
        }
    }

    /// What the driver is to do next.
    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front().or_else(|| self.session.poll_action())
    }

    fn event(&mut self, seq: Seq, name: &str, data: &[u8]) {
        self.status.dispatch(name);
        if !self.ledger.is_new(seq) {
            return;
        }
        if matches!(name, "READY" | "GUILD_CREATE" | "GUILD_DELETE") {
            self.count_guilds(seq, name, data);
        }
        match self.publish(seq, name, data) {
            Some(position) => self.ledger.published(seq, position, self.broker.settled()),
            None => self.ledger.skipped(seq),
        }
    }

    /// RESUMED has a number, but nothing says that the next event does not have the same: it moves nothing in the ledger.
    fn resumed(&mut self, seq: Seq, data: &[u8]) {
        self.status.dispatch("RESUMED");
        if let Some(position) = self.publish(seq, "RESUMED", data) {
            self.ledger.published(self.ledger.received(), position, self.broker.settled());
        }
    }

    fn count_guilds(&mut self, seq: Seq, name: &str, data: &[u8]) {
        let encoding = self.session.encoding();
        if name == "READY" {
            self.guilds.ready(payload::guilds(encoding, data).as_deref(), self.session.is_told_of_guilds());
        } else {
            let Some(guild) = payload::guild(encoding, data) else { return };
            match name {
                "GUILD_CREATE" => self.guilds.created(seq, guild),
                _ => self.guilds.deleted(seq, guild),
            }
        }
        self.status.set_guilds(self.guilds.count());
    }

    fn publish(&self, seq: Seq, name: &str, data: &[u8]) -> Option<Position> {
        let (session, encoding) = (self.session.session_id()?, self.session.encoding().into());
        self.broker.publish(&Event { shard: self.shard, session, seq, name, encoding, data })
    }

    /// What is to be stored of the session. Nothing while the former one's gap is not settled: after a crash its record is
    /// all that tells the next process of what is missing.
    pub(super) fn record(&mut self) -> Option<StoredSession> {
        let settled = self.broker.settled();
        self.notice.take_if(|notice| *notice < settled);
        if self.notice.is_some() {
            return None;
        }
        let committed = self.ledger.committed(settled);
        let record = self.session.record(committed, unix_millis())?;
        Some(StoredSession { guilds: self.guilds.at(committed), ..record })
    }

    /// A new session has begun. Its ledger is empty; what the old one missed is told before its first event.
    fn started(&mut self, old: Option<OldSession>) {
        let committed = self.ledger.committed(self.broker.settled());
        self.ledger = Ledger::new(Seq::ZERO);
        let Some(old) = old else { return };
        let now = unix_millis();
        let gap = Gap {
            shard: self.shard,
            reason: old.reason,
            old_session: Some(old.session),
            new_session: self.session.session_id().cloned(),
            last_committed: committed.max(old.stored),
            from: match old.last_sign {
                LastSign::At(at) => now.saturating_sub(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
                LastSign::Stored(at) => at,
            },
            to: now,
            event: None,
            rule: None,
        };
        self.status.gap();
        if let Some(position) = self.broker.publish_gap(&gap) {
            // All that the broker has of the old session stands before it.
            self.notice = Some(position);
        }
    }

    fn broken(&mut self, why: &str, now: Instant) {
        self.status.broken();
        self.session.broken(why, now);
    }
}

impl Scratch {
    /// The chunk and the buffer, to be borrowed together.
    pub(super) fn parts(&mut self) -> (&mut [u8], &mut Buffer) {
        (&mut self.chunk, &mut self.inflated)
    }
}
