//! The way to a client that wants client updates.
//!
//! Thousands may come or go in a moment, more than may wait in an outbox. So only some updates are in it at a time, and the
//! rest waits here: whoever reads what it is sent is not closed for what others do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::singyeong::close_code::CloseCode;
use crate::singyeong::outbox::Outbox;
use crate::singyeong::packet::outgoing::Outgoing;

/// So many updates are in the outbox at most.
const IN_OUTBOX: usize = 64;
/// So many wait here at most, several for each client that there may be: over them the client is closed.
const MOST_WAITING: usize = 100_000;

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Listener(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    outbox: Outbox,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_outbox: usize,
    waiting: VecDeque<Outgoing>,
}

impl Listener {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self(Arc::new(Shared { outbox, state: Mutex::default() }))
    }

    pub(super) fn tell(&self, update: Outgoing) {
        let mut state = self.lock();
        if state.in_outbox < IN_OUTBOX {
            self.put(&mut state, update);
        } else if state.waiting.len() < MOST_WAITING {
            state.waiting.push_back(update);
        } else {
            state.waiting = VecDeque::new();
            self.0.outbox.close(CloseCode::TooSlow);
        }
    }

    /// Who does not read is closed for it, and whose connection is gone needs no more updates.
    fn put(&self, state: &mut State, update: Outgoing) {
        let listener = self.clone();
        let fate = Box::new(move |is_written| listener.told(is_written));
        if self.0.outbox.push(update, Some(fate)).is_ok() {
            state.in_outbox += 1;
        } else {
            state.waiting = VecDeque::new();
        }
    }

    fn told(&self, is_written: bool) {
        let mut state = self.lock();
        state.in_outbox -= 1;
        match state.waiting.pop_front() {
            Some(update) if is_written => self.put(&mut state, update),
            // The connection is gone.
            Some(_) => state.waiting = VecDeque::new(),
            None => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
