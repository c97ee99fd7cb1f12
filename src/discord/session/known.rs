//! A session that can be resumed: its id, where, from which number, and how many tries it is worth.
//!
//! Knows no connection. Rules: spec/discord.md, "Resuming" and "Three sequence numbers".

use std::time::Instant;

use super::{LastSign, OldSession, Settings};
use crate::broker::GapReason;
use crate::discord::gateway_url::GatewayUrl;
use crate::discord::ids::{Seq, SessionId};
use crate::discord::payload::Ready;
use crate::session_store::StoredSession;

/// So many resumes in a row may fail before the session is given up.
const TRIES: u8 = 3;

/// A session as we know it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: SessionId,
    resume_url: Option<GatewayUrl>,
    /// The last address that failed was the resume URL: next is the ordinary one, and so on by turns.
    resume_url_failed: bool,
    pub(super) stored: Seq,
    /// When READY came; none: in a former process.
    pub(super) started: Option<Instant>,
    pub(super) last_sign: LastSign,
    tries_left: u8,
    /// What the last failed resume began from.
    tried_from: Option<Seq>,
}

impl Known {
    /// The session of a READY.
    pub(super) fn started(ready: Ready, gateway: &GatewayUrl, now: Instant) -> Self {
        let resume_url = ready.resume_gateway_url.and_then(|url| usable(&url, gateway));
        Self::new(ready.session_id, resume_url, Seq::ZERO, Some(now), LastSign::At(now))
    }

    /// The session of a former process.
    pub(super) fn stored(record: StoredSession, gateway: &GatewayUrl) -> Self {
        let resume_url = usable(&record.resume_url, gateway);
        Self::new(record.session_id, resume_url, record.sequence, None, LastSign::Stored(record.saved_at))
    }

    fn new(
        id: SessionId,
        resume_url: Option<GatewayUrl>,
        stored: Seq,
        started: Option<Instant>,
        last_sign: LastSign,
    ) -> Self {
        Self {
            id,
            resume_url,
            resume_url_failed: false,
            stored,
            started,
            last_sign,
            tries_left: TRIES,
            tried_from: None,
        }
    }

    /// Where it is resumed, were all well.
    pub(super) fn resume_url<'a>(&'a self, gateway: &'a GatewayUrl) -> &'a GatewayUrl {
        self.resume_url.as_ref().unwrap_or(gateway)
    }

    /// Where to connect next.
    pub(super) fn next_url<'a>(&'a self, gateway: &'a GatewayUrl) -> &'a GatewayUrl {
        if self.resume_url_failed { gateway } else { self.resume_url(gateway) }
    }

    /// The address connected to led nowhere.
    pub(super) fn address_failed(&mut self) {
        self.resume_url_failed = !self.resume_url_failed;
    }

    /// A resume is sent.
    pub(super) fn resuming(&mut self) {
        self.tries_left = self.tries_left.saturating_sub(1);
        self.tried_from = Some(self.stored);
    }

    /// The resume was ended by ourselves, for reasons that are not the session's: it does not count.
    pub(super) fn resume_interrupted(&mut self) {
        self.tries_left = (self.tries_left + 1).min(TRIES);
    }

    /// The session is live.
    pub(super) fn live(&mut self) {
        self.resume_url_failed = false;
        self.tries_left = TRIES;
        self.tried_from = None;
    }

    /// The session's end is doubtful: one resume and no more.
    pub(super) fn doubt(&mut self) {
        self.tries_left = self.tries_left.min(1);
    }

    /// Whether another resume is worth it. A resume that broke off, but got us on, counts as none: a long replay over
    /// a bad line is no lost session.
    pub(super) fn is_worth_a_try(&mut self) -> bool {
        if self.tried_from.is_some_and(|from| self.stored > from) {
            self.tries_left = TRIES;
        }
        self.tries_left > 0
    }

    /// What is told of it when it is gone.
    pub(super) fn into_old(self, reason: GapReason) -> OldSession {
        OldSession { session: self.id, stored: self.stored, last_sign: self.last_sign, reason }
    }
}

/// Whether a former process's session can be this shard's.
pub(super) fn fits(record: &StoredSession, settings: &Settings) -> bool {
    record.version == StoredSession::VERSION
        && record.shard_id == settings.shard.id()
        && record.shard_count == settings.shard.count()
        && record.intents == settings.intents
}

/// The resume URL, unless it cannot be read or would have the token leave TLS.
fn usable(url: &str, gateway: &GatewayUrl) -> Option<GatewayUrl> {
    GatewayUrl::parse(url).ok().filter(|url| url.is_secure() || !gateway.is_secure())
}
