//! What happened, in numbers: what clients did, and what they did wrong.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Websocket connections that were opened.
    pub connections: u64,
    /// Those that are open.
    pub connected: u64,
    /// Identifies that started a session.
    pub identifies: u64,
    /// Identifies within the window of another with the same key.
    pub identifies_too_early: u64,
    /// Resumes that took a session up.
    pub resumes: u64,
    /// Resumes that were answered with op 9.
    pub resumes_refused: u64,
    /// Heartbeats received.
    pub heartbeats: u64,
    /// Packets received, of any kind.
    pub packets: u64,
    /// Events that came to be; each counts once, however often it was replayed.
    pub events: u64,
    /// Events written to a connection, replayed ones included.
    pub events_written: u64,
    /// Events written again for a resume.
    pub events_replayed: u64,
    /// Sessions that expired.
    pub sessions_expired: u64,
    /// Sessions dropped because a client fell further behind than the replay buffer holds.
    pub sessions_overrun: u64,
    /// Connections whose flood is built and waits for its start.
    pub prebuilt: u64,
    /// Closes sent, by code.
    pub closes_sent: BTreeMap<u16, u64>,
    /// Closes received, by code; 1005 stands for none.
    pub closes_received: BTreeMap<u16, u64>,
    /// What clients did wrong, in words.
    pub mistakes: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// Counts a close that we send, and what it is for.
    pub fn closed(&mut self, code: u16, mistake: Option<&'static str>) {
        *self.closes_sent.entry(code).or_default() += 1;
        if let Some(mistake) = mistake {
            self.mistake(mistake);
        }
    }

    /// Counts something done wrong.
    pub fn mistake(&mut self, what: &'static str) {
        *self.mistakes.entry(what).or_default() += 1;
    }
}
