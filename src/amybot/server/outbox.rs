//! What is on its way to one service: frames, bounded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::close_code::CloseCode;
use super::session::Close;
use crate::websocket::frames::{FrameKind, write_message};

/// The way to a connection. Cheap to clone; one connection takes out of it.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// So many bytes may wait, and a message more.
    most: usize,
    /// Tells the connection that there is something.
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: Vec<u8>,
    closing: Option<Close>,
}

impl Outbox {
    /// For so many bytes.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), most, filled: Notify::new() }))
    }

    /// Puts a text in. Where too much waits, the connection is told to close in its place.
    pub fn push(&self, text: &[u8]) {
        let mut state = self.lock();
        if state.closing.is_some() {
            return;
        }
        if state.frames.len() >= self.0.most {
            state.closing = Some(Close::new(CloseCode::TooSlow, "too much waits to be read"));
        } else {
            write_message(&mut state.frames, FrameKind::Text, text);
        }
        drop(state);
        self.0.filled.notify_one();
    }

    /// Tells the connection to close; nothing more gets in.
    pub fn close(&self, close: Close) {
        self.lock().closing.get_or_insert(close);
        self.0.filled.notify_one();
    }

    /// All frames, for the connection.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().frames)
    }

    /// How the connection is to close, if it is.
    pub fn closing(&self) -> Option<Close> {
        self.lock().closing.clone()
    }

    /// Waits until there may be something to take, or the connection is to close. For one task.
    pub async fn filled(&self) {
        self.0.filled.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
