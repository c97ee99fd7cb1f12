//! Questions to other processes whether a client of theirs is alive.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// So long an answer is waited for: the other waits for its client as long as
/// [`PROBE_TIMEOUT`](crate::singyeong::outbox::PROBE_TIMEOUT), and both ways take time.
const PATIENCE: Duration = Duration::from_secs(3);

/// Those that are not answered yet. Connections that identify are few at a time, and each asks once.
#[derive(Debug, Default)]
pub(super) struct Probes(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<bool>>,
}

/// A question; forgotten when it is dropped.
pub(super) struct Probe<'a> {
    probes: &'a Probes,
    pub(super) id: u64,
    answer: oneshot::Receiver<bool>,
}

impl Probes {
    pub(super) fn ask(&self) -> Probe<'_> {
        let (sender, answer) = oneshot::channel();
        let mut asked = self.lock();
        asked.last += 1;
        let id = asked.last;
        asked.waiting.insert(id, sender);
        Probe { probes: self, id, answer }
    }

    pub(super) fn answered(&self, id: u64, healthy: bool) {
        if let Some(sender) = self.lock().waiting.remove(&id) {
            // Who asked may have given up.
            let _ = sender.send(healthy);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probe<'_> {
    /// The answer; no answer in time is none.
    pub(super) async fn answer(&mut self) -> bool {
        matches!(timeout(PATIENCE, &mut self.answer).await, Ok(Ok(true)))
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.probes.lock().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_none_and_nothing_is_left_of_it() {
        let probes = Probes::default();
        let (mut first, mut second, mut third) = (probes.ask(), probes.ask(), probes.ask());
        probes.answered(second.id, true);
        probes.answered(third.id, false);
        assert!(second.answer().await && !third.answer().await && !first.answer().await);
        probes.answered(first.id, true);
        drop((first, second, third));
        assert!(probes.lock().waiting.is_empty());
    }
}
