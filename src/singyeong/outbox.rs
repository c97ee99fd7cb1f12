//! What is on its way to one client: bounded, and each message's fate is told.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::close_code::CloseCode;
use super::packet::outgoing::Outgoing;

/// So many packets may wait for one client, however small they are: what waits for a client that does not read holds places
/// that others need.
pub const MOST_WAITING: usize = 512;

/// Called once, with whether the packet was written to the client's socket.
pub type Fate = Box<dyn FnOnce(bool) + Send>;

/// The way to a client's connection. Cheap to clone; one connection takes out of it.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

/// Why nothing can be put into an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undeliverable {
    /// Its client does not read fast enough; it is being closed.
    #[error("the client does not read")]
    Full,
    /// Its connection is gone, or going.
    #[error("the connection is gone")]
    Closed,
}

/// A packet on its way.
pub struct Parcel {
    /// What to write.
    pub packet: Outgoing,
    /// Who wants to know.
    fate: Option<Fate>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Tells the connection that there is something.
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Parcel>,
    closing: Option<CloseCode>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), filled: Notify::new() }))
    }
}

impl Outbox {
    /// Puts a packet in. Without success `fate` is not called.
    ///
    /// # Errors
    /// There are too many already: the connection is told to close, or the connection is gone.
    pub fn push(&self, packet: Outgoing, fate: Option<Fate>) -> Result<(), Undeliverable> {
        let mut state = self.lock();
        if state.closing.is_some() {
            return Err(Undeliverable::Closed);
        }
        if state.waiting.len() >= MOST_WAITING {
            state.closing = Some(CloseCode::TooSlow);
            drop(state);
            self.0.filled.notify_one();
            return Err(Undeliverable::Full);
        }
        state.waiting.push_back(Parcel { packet, fate });
        drop(state);
        self.0.filled.notify_one();
        Ok(())
    }

    /// Tells the connection to close with this code once it has written what is in; nothing more gets in.
    pub fn close(&self, code: CloseCode) {
        self.lock().closing.get_or_insert(code);
        self.0.filled.notify_one();
    }

    /// The next packet, for the connection.
    pub fn take(&self) -> Option<Parcel> {
        self.lock().waiting.pop_front()
    }

    /// With what the connection is to close, if it is.
    pub fn closing(&self) -> Option<CloseCode> {
        self.lock().closing
    }

    /// Waits until there may be something to take, or the connection is to close. For one task.
    pub async fn filled(&self) {
        self.0.filled.notified().await;
    }

    /// The connection is gone: whatever is left was not written, and nothing more gets in.
    pub fn end(&self) {
        let mut state = self.lock();
        state.closing.get_or_insert(CloseCode::Gone);
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parcel {
    /// It was written to the socket.
    pub fn written(mut self) {
        if let Some(fate) = self.fate.take() {
            fate(true);
        }
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if let Some(fate) = self.fate.take() {
            fate(false);
        }
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").field("packet", &self.packet).finish_non_exhaustive()
    }
}
