//! What viewers are told: made once of each [`Whole`], and shared by all of them.
//!
//! Each state has a number. A row of a shard carries the number of the state in which it was last another: so a viewer is told of
//! the rows since its own last state, and nothing has to be remembered for it but that.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Bytes;

use super::shards::Rows;
use super::state::{self, Paces};
use crate::seen::Whole;

/// The state that was made last.
#[derive(Default)]
pub struct Board {
    latest: Mutex<Latest>,
}

#[derive(Default)]
struct Latest {
    made: Option<Made>,
    /// Goes on where it was when all had left: no number is used twice.
    number: u64,
}

struct Made {
    of: Arc<Whole>,
    state: Arc<State>,
    paces: Paces,
}

/// A state: what there is to tell.
pub struct State {
    number: u64,
    /// All before the shards' rows and all behind them, as JSON; `all` is between these two.
    head: Vec<u8>,
    tail: Vec<u8>,
    rows: Rows,
    /// For whoever was told the state before this one: for nearly everybody.
    next: Mutex<Option<Bytes>>,
}

impl Board {
    /// The state of this.
    pub fn state(&self, whole: &Arc<Whole>) -> Arc<State> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = latest.made.as_ref().filter(|made| Arc::ptr_eq(&made.of, whole)) {
            return Arc::clone(&made.state);
        }
        latest.number += 1;
        let number = latest.number;
        let before = latest.made.take();
        let (rows_before, paces_before) = match &before {
            Some(made) => (Some(&made.state.rows), Some(&made.paces)),
            None => (None, None),
        };
        let rows = Rows::of(whole, number, rows_before);
        let paces = Paces::of(whole, paces_before);
        let (head, tail) = state::write(whole, &paces);
        let state = Arc::new(State { number, head, tail, rows, next: Mutex::default() });
        latest.made = Some(Made { of: Arc::clone(whole), state: Arc::clone(&state), paces });
        state
    }

    /// Nobody looks any more.
    pub fn forget(&self) {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).made = None;
    }
}

impl State {
    /// Which.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What somebody is told who was told the state of this number last.
    pub fn event(&self, last: Option<u64>) -> Bytes {
        let is_next = last.is_some_and(|last| last + 1 == self.number);
        if !is_next {
            return self.write(last);
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.get_or_insert_with(|| self.write(last)).clone()
    }

    fn write(&self, last: Option<u64>) -> Bytes {
        let mut event = Vec::with_capacity(self.head.len() + self.tail.len() + 64);
        event.extend_from_slice(b"event: state\ndata: ");
        event.extend_from_slice(&self.head);
        let all: &[u8] = if self.rows.begin_after(last) { b"\"all\":true" } else { b"\"all\":false" };
        event.extend_from_slice(all);
        event.extend_from_slice(b",\"shards\":[");
        self.rows.write_since(last, &mut event);
        event.extend_from_slice(b"],");
        event.extend_from_slice(&self.tail);
        event.extend_from_slice(b"\n\n");
        event.into()
    }
}
