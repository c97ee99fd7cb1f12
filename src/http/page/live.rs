//! `/api/live`: how everything is, every other second, for as long as somebody reads it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::board::Board;
use crate::http::answer::{Answer, error, whole};
use crate::http::lookout::Lookout;
use crate::seen::Whole;

/// So many look at a time.
pub(super) const MOST_VIEWERS: usize = 16;

/// After so long without news a comment says that the connection is still one.
const SILENCE: Duration = Duration::from_secs(10);

const EVENTS: &str = "text/event-stream";

/// See the module.
pub struct Live {
    lookout: Arc<dyn Lookout>,
    board: Arc<Board>,
    viewers: Arc<Semaphore>,
}

impl Live {
    /// Of what this one sees.
    pub fn new(lookout: Arc<dyn Lookout>) -> Self {
        Self { lookout, board: Arc::default(), viewers: Arc::new(Semaphore::new(MOST_VIEWERS)) }
    }

    /// A stream of states.
    pub fn answer(&self, method: &Method) -> Answer {
        if *method == Method::HEAD {
            return whole(StatusCode::OK, EVENTS, "");
        }
        let Ok(seat) = Arc::clone(&self.viewers).try_acquire_owned() else {
            let text = format!("{MOST_VIEWERS} look at this process already: close a page, or ask another process");
            return error(StatusCode::SERVICE_UNAVAILABLE, &text);
        };
        let mut whole = self.lookout.look();
        whole.mark_changed();
        let board = Arc::clone(&self.board);
        let viewer =
            Viewer { whole, last: None, seat: Seat { board, viewers: Arc::clone(&self.viewers), _place: seat } };
        let events = stream::unfold(viewer, async |mut viewer| viewer.next().await.map(|event| (event, viewer)));
        crate::http::answer::stream(EVENTS, events.boxed())
    }
}

/// Somebody who looks.
struct Viewer {
    whole: watch::Receiver<Arc<Whole>>,
    /// The number of the state that it was told last.
    last: Option<u64>,
    seat: Seat,
}

impl Viewer {
    /// What it is told next: asked for once it took what it was told before, so the latest and nothing in between.
    async fn next(&mut self) -> Option<Bytes> {
        let silence = sleep_until(Instant::now() + SILENCE);
        tokio::pin!(silence);
        let whole = loop {
            tokio::select! {
                biased;
                // Dropped, it has taken nothing.
                changed = self.whole.changed() => changed.ok()?,
                () = &mut silence => return Some(Bytes::from_static(b":\n\n")),
            }
            let whole = self.whole.borrow_and_update().clone();
            // Nobody has looked yet: it is known in a moment.
            if !whole.processes.is_empty() {
                break whole;
            }
        };
        let state = self.seat.board.state(&whole);
        let event = state.event(self.last);
        self.last = Some(state.number());
        Some(event)
    }
}

/// One of the places there are. What was remembered for viewers goes with the last of them.
struct Seat {
    board: Arc<Board>,
    viewers: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.viewers.available_permits() + 1 == MOST_VIEWERS {
            self.board.forget();
        }
    }
}
