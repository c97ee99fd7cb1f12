//! The clients that are told who comes and goes, and the way to them.
//!
//! Thousands may come or go in a moment, and thousands may want to know. So what is told is kept once, for all; each listener
//! takes from there what it has not had, a little at a time, as fast as it reads. Telling wakes those that wait, and no more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::singyeong::close_code::CloseCode;
use crate::singyeong::ids::{Application, ClientKey, ConnectionId};
use crate::singyeong::outbox::Outbox;
use crate::singyeong::packet::outgoing::Outgoing;

/// So many updates are in an outbox at most.
const IN_OUTBOX: usize = 16;
/// So many are kept for those that do not read, several for each client that there may be: who falls behind them is closed.
const MOST_KEPT: usize = 100_000;

/// Who comes or goes.
#[derive(Clone, Debug)]
pub(super) enum Update {
    Connected(Application),
    Disconnected(Application),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    all: BTreeMap<ClientKey, Listener>,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    kept: VecDeque<Update>,
    /// The number of the first that is kept.
    first: u64,
    /// Those that have had all, and nothing in their outboxes.
    idle: BTreeMap<ConnectionId, Listener>,
}

#[derive(Clone, Debug)]
struct Listener(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connection: ConnectionId,
    outbox: Outbox,
    log: Weak<Mutex<Log>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    in_outbox: usize,
    /// The number of the next update for it.
    next: u64,
    /// It is told no more.
    has_ended: bool,
}

impl Listeners {
    pub(super) fn add(&mut self, key: ClientKey, connection: ConnectionId, outbox: Outbox) {
        let mut log = lock(&self.log);
        let state = State { in_outbox: 0, next: log.end(), has_ended: false };
        let shared = Shared { connection, outbox, log: Arc::downgrade(&self.log), state: Mutex::new(state) };
        let listener = Listener(Arc::new(shared));
        log.idle.insert(connection, listener.clone());
        drop(log);
        self.all.insert(key, listener);
    }

    pub(super) fn remove(&mut self, key: &ClientKey) {
        if let Some(listener) = self.all.remove(key) {
            listener.lock().has_ended = true;
            lock(&self.log).idle.remove(&listener.0.connection);
        }
    }

    pub(super) fn tell(&self, update: Update) {
        if self.all.is_empty() {
            return;
        }
        let mut log = lock(&self.log);
        if log.idle.len() == self.all.len() {
            log.first = log.end();
            log.kept.clear();
        }
        log.put(update);
        let idle = std::mem::take(&mut log.idle);
        drop(log);
        // One each: when that is written, the connection takes more itself.
        idle.into_values().for_each(|listener| listener.pull(1));
    }
}

impl Log {
    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    fn put(&mut self, update: Update) {
        if self.kept.len() == MOST_KEPT {
            self.kept.pop_front();
            self.first += 1;
        }
        self.kept.push_back(update);
    }
}

impl Listener {
    /// Takes updates until so many are in the outbox.
    fn pull(&self, most: usize) {
        let Some(log) = self.0.log.upgrade() else { return };
        let mut state = self.lock();
        while state.in_outbox < most && !state.has_ended {
            let update = {
                let mut log = lock(&log);
                let Some(at) = state.next.checked_sub(log.first) else {
                    drop(log);
                    state.has_ended = true;
                    self.0.outbox.close(CloseCode::TooSlow);
                    return;
                };
                match usize::try_from(at).ok().and_then(|at| log.kept.get(at)) {
                    Some(update) => update.clone(),
                    None => {
                        // While something is in the outbox, it comes back by itself.
                        if state.in_outbox == 0 {
                            log.idle.insert(self.0.connection, self.clone());
                        }
                        return;
                    }
                }
            };
            let listener = self.clone();
            let fate = Box::new(move |is_written| listener.told(is_written));
            if self.0.outbox.push(update.into(), Some(fate)).is_ok() {
                (state.in_outbox, state.next) = (state.in_outbox + 1, state.next + 1);
            } else {
                // Who does not read is closed for it, and whose connection is gone needs no more updates.
                state.has_ended = true;
            }
        }
    }

    fn told(&self, is_written: bool) {
        let mut state = self.lock();
        state.in_outbox -= 1;
        state.has_ended |= !is_written;
        drop(state);
        self.pull(IN_OUTBOX);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

impl From<Update> for Outgoing {
    fn from(update: Update) -> Self {
        match update {
            Update::Connected(application) => Self::Connected(application),
            Update::Disconnected(application) => Self::Disconnected(application),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(n: usize) -> Update {
        Update::Connected(Application::new(&n.to_string()))
    }

    /// The listeners, and the way to each.
    fn listeners(count: u64) -> (Listeners, Vec<Outbox>) {
        let mut listeners = Listeners::default();
        let add = |n: u64| {
            let outbox = Outbox::default();
            listeners.add(ClientKey::new("app", &n.to_string()), ConnectionId::new(n), outbox.clone());
            outbox
        };
        let outboxes = (0..count).map(add).collect();
        (listeners, outboxes)
    }

    /// Reads all that there is to be read.
    fn read(outbox: &Outbox) -> Vec<Outgoing> {
        let mut read = Vec::new();
        while let Some(parcel) = outbox.take() {
            read.push(parcel.packet.clone());
            parcel.written();
        }
        read
    }

    fn expected(numbers: std::ops::Range<usize>) -> Vec<Outgoing> {
        numbers.map(|n| update(n).into()).collect()
    }

    #[test]
    fn all_that_is_told_is_kept_once_and_each_reads_all_of_it_in_order() {
        let (listeners, outboxes) = listeners(100);
        (0..5000).for_each(|n| listeners.tell(update(n)));
        assert_eq!(lock(&listeners.log).kept.len(), 5000);
        for outbox in &outboxes {
            // It has read nothing yet, and has one.
            let first = outbox.take().expect("an update");
            assert!(outbox.take().is_none());
            first.written();
            assert_eq!(read(outbox), expected(1..5000));
        }
        // All have had all of it.
        listeners.tell(update(5000));
        assert_eq!(lock(&listeners.log).kept.len(), 1);
        for outbox in &outboxes {
            assert_eq!((read(outbox), outbox.closing()), (expected(5000..5001), None));
        }
    }

    #[test]
    fn who_falls_behind_what_is_kept_is_closed_and_nobody_else() {
        let (listeners, outboxes) = listeners(2);
        let (reads, lazy) = (&outboxes[0], &outboxes[1]);
        for n in 0..MOST_KEPT + 2 {
            listeners.tell(update(n));
            assert_eq!(read(reads).len(), 1);
        }
        assert_eq!(lock(&listeners.log).kept.len(), MOST_KEPT);
        assert_eq!(read(lazy), expected(0..1));
        assert_eq!((lazy.closing(), reads.closing()), (Some(CloseCode::TooSlow), None));
        listeners.tell(update(0));
        assert_eq!((read(lazy), read(reads)), (vec![], expected(0..1)));
    }

    #[test]
    fn who_is_taken_out_or_whose_connection_ends_is_told_no_more() {
        let (mut listeners, outboxes) = listeners(3);
        listeners.remove(&ClientKey::new("app", "0"));
        (0..100).for_each(|n| listeners.tell(update(n)));
        outboxes[1].end();
        listeners.remove(&ClientKey::new("app", "2"));
        let told: Vec<_> = outboxes.iter().map(read).collect();
        assert_eq!(told, [vec![], vec![], expected(0..1)]);
        assert!(lock(&listeners.log).idle.is_empty());
    }
}
