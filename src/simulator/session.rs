//! Sessions and what they hold for a resume.
//!
//! A session is a list of events with a moving beginning. A connection is a cursor in it: what is new and what is
//! replayed are written by the same step. Events of the traffic are held as their number, for they can be made again.
//! Sans-I/O: bytes are made by [`super::traffic`], `now` is handed in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tokio::sync::Notify;

use super::traffic::Plan;
use crate::discord::ids::{Seq, SessionId, Shard};

/// Number of a connection, never used twice.
pub type ConnectionId = u64;

/// Bytes that a session holds of events that cannot be made again.
const LITERAL_BYTES: usize = 64 << 20;

/// What an event is made from.
#[derive(Clone, Debug)]
pub enum What {
    /// The GUILD_CREATE of the shard's guild with this place.
    Guild(u64),
    /// Event of the traffic with this number.
    Traffic(u64),
    /// The example of this event.
    Example(Arc<str>, u64),
    /// These bytes.
    Literal(Arc<str>, Arc<[u8]>),
    /// RESUMED: for this connection only, it is not replayed.
    Resumed(ConnectionId),
}

impl What {
    fn literal_bytes(&self) -> usize {
        match self {
            Self::Literal(_, bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its shard.
    pub shard: Shard,
    /// What it gets.
    pub plan: Arc<Plan>,
    /// The connection that has it, or when it lost the last one.
    pub held_by: Holder,
    /// Wakes the connection.
    pub news: Arc<Notify>,
    /// Events of the traffic that are still to come; `None`: without end.
    pub left: Option<u64>,
    /// Number of the next event of the traffic.
    pub next_traffic: u64,
    /// A flood that is built beforehand begins after this number.
    pub flood_after: Option<Seq>,
    /// The number that the last heartbeat had.
    pub heartbeat: Option<u64>,
    /// Highest number written to a connection.
    pub written: Seq,
    resumes: u64,
    capacity: usize,
    events: VecDeque<What>,
    literal_bytes: usize,
    last: Seq,
    by_event: BTreeMap<Arc<str>, u64>,
}

/// Who has a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This connection.
    Connection(ConnectionId),
    /// No one since then.
    Nobody(Instant),
}

/// A session as `/control/sessions` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// The shard's number.
    pub shard: u32,
    /// The shard count it belongs to.
    pub count: u32,
    /// Whether a connection has it.
    pub connected: bool,
    /// The lowest number that a resume can still get back to, plus one: the first event held.
    pub first_seq: Seq,
    /// The number of the last event.
    pub last_seq: Seq,
    /// The highest number written to a connection.
    pub written_seq: Seq,
    /// What the last heartbeat said.
    pub heartbeat_seq: Option<u64>,
    /// How often it was resumed. Each RESUMED has a number of its own and is not among [`Self::by_event`].
    pub resumes: u64,
    /// Events in all.
    pub events: u64,
    /// Events by name, READY and GUILD_CREATE included.
    pub by_event: BTreeMap<Arc<str>, u64>,
}

/// Why a resume cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeError {
    /// The session never had this number: 4007.
    Ahead,
    /// What came next is not held any more: op 9 false.
    Lost,
}

impl Session {
    /// A session without events.
    pub fn new(id: SessionId, shard: Shard, plan: Plan, holder: ConnectionId, capacity: usize) -> Self {
        Self {
            id,
            shard,
            plan: Arc::new(plan),
            held_by: Holder::Connection(holder),
            news: Arc::default(),
            left: Some(0),
            next_traffic: 0,
            flood_after: None,
            heartbeat: None,
            written: Seq::ZERO,
            resumes: 0,
            capacity: capacity.max(1),
            events: VecDeque::new(),
            literal_bytes: 0,
            last: Seq::ZERO,
            by_event: BTreeMap::new(),
        }
    }

    /// Adds an event and wakes the connection.
    pub fn push(&mut self, name: &str, what: What) -> Seq {
        if matches!(what, What::Resumed(_)) {
            self.resumes += 1;
        } else if let Some(count) = self.by_event.get_mut(name) {
            *count += 1;
        } else {
            self.by_event.insert(name.into(), 1);
        }
        self.literal_bytes += what.literal_bytes();
        self.events.push_back(what);
        self.last = Seq::new(self.last.get() + 1);
        while self.events.len() > self.capacity || (self.literal_bytes > LITERAL_BYTES && self.events.len() > 1) {
            let gone = self.events.pop_front().expect("there are more than the capacity, so one");
            self.literal_bytes -= gone.literal_bytes();
        }
        self.news.notify_one();
        self.last
    }

    /// The event after `cursor`: `Ok(None)` if there is none yet.
    pub fn after(&self, cursor: Seq) -> Result<Option<What>, ResumeError> {
        let ahead = cursor.get().checked_sub(self.before_first()).ok_or(ResumeError::Lost)?;
        if cursor > self.last {
            return Err(ResumeError::Ahead);
        }
        Ok(self.events.get(ahead as usize).cloned())
    }

    /// Everything that is held for a resume.
    pub fn held(&self) -> Vec<(Seq, What)> {
        (self.before_first() + 1..).map(Seq::new).zip(self.events.iter().cloned()).collect()
    }

    /// The number of the last event.
    pub fn last(&self) -> Seq {
        self.last
    }

    /// Lets it hold more events: a flood built beforehand is counted before it is written.
    pub fn hold_at_least(&mut self, events: usize) {
        self.capacity = self.capacity.max(events);
    }

    /// As `/control/sessions` shows it.
    pub fn view(&self) -> SessionView {
        SessionView {
            id: self.id.clone(),
            shard: self.shard.id().get(),
            count: self.shard.count(),
            connected: matches!(self.held_by, Holder::Connection(_)),
            first_seq: Seq::new(self.before_first() + 1),
            last_seq: self.last,
            written_seq: self.written,
            heartbeat_seq: self.heartbeat,
            resumes: self.resumes,
            events: self.by_event.values().sum(),
            by_event: self.by_event.clone(),
        }
    }

    fn before_first(&self) -> u64 {
        self.last.get() - self.events.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::config::Settings;
    use super::super::traffic::Catalogue;
    use super::*;
    use crate::discord::ids::ShardId;
    use crate::discord::intents::Intents;

    fn session(capacity: usize) -> Session {
        let shard = Shard::new(ShardId::new(0), 1).expect("0 < 1");
        let plan = Catalogue::new(&Settings::default()).plan(shard, Intents::ALL);
        Session::new(SessionId::new("s"), shard, plan, 1, capacity)
    }

    #[test]
    fn a_resume_ahead_of_the_session_or_below_what_is_held_fails() {
        let mut session = session(3);
        for index in 0..5 {
            session.push("TYPING_START", What::Traffic(index));
        }
        assert_eq!(session.after(Seq::new(6)).err(), Some(ResumeError::Ahead));
        assert_eq!(session.after(Seq::new(1)).err(), Some(ResumeError::Lost));
        assert!(matches!(session.after(Seq::new(2)), Ok(Some(What::Traffic(2)))));
        assert!(matches!(session.after(Seq::new(5)), Ok(None)));
        assert_eq!(session.view().first_seq, Seq::new(3));
    }

    #[test]
    fn a_resumed_is_numbered_but_not_counted_among_the_events() {
        let mut session = session(10);
        session.push("READY", What::Guild(0));
        assert_eq!(session.push("RESUMED", What::Resumed(2)), Seq::new(2));
        let view = session.view();
        assert_eq!((view.events, view.resumes, view.last_seq), (1, 1, Seq::new(2)));
    }

    proptest! {
        #[test]
        fn what_is_held_is_an_unbroken_run_up_to_the_last(capacity in 1_usize..20, pushes in 0_u64..60, cursor in 0_u64..70) {
            let mut session = session(capacity);
            for index in 0..pushes {
                prop_assert_eq!(session.push("E", What::Traffic(index)).get(), index + 1);
            }
            let lowest = pushes.saturating_sub(capacity as u64);
            match session.after(Seq::new(cursor)) {
                Err(ResumeError::Lost) => prop_assert!(cursor < lowest),
                Err(ResumeError::Ahead) => prop_assert!(cursor > pushes),
                Ok(None) => prop_assert_eq!(cursor, pushes),
                Ok(Some(What::Traffic(index))) => prop_assert_eq!(index, cursor),
                Ok(other) => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
