//! What other processes tell us of their clients, and we tell them of ours.

use std::time::Instant;

use super::Hub;
use crate::cluster::node::NodeId;

impl Hub {
    /// Takes in what a process told all, maybe we ourselves.
    pub fn hear(&self, message: &[u8], now: Instant) {
        self.change(|clients| {
            for change in clients.replica.hear(message, now) {
                clients.apply(change);
            }
        });
    }

    /// From now on we hear what others say, maybe after a time in which we did not.
    pub fn joined(&self) {
        self.change(|clients| clients.replica.joined());
    }

    /// Whether the clients of all processes that were heard of are known.
    pub fn is_whole(&self) -> bool {
        self.lock().replica.is_whole()
    }

    /// Those that are there have had their time to tell of their clients, and did. Who is heard of from now on came later than
    /// we did.
    pub fn informed(&self) {
        self.lock().replica.introduced();
        self.informed.send_replace(true);
    }

    /// What others say is not heard for now: what is known of their clients may be old.
    pub fn cut_off(&self) {
        self.informed.send_replace(false);
    }

    /// Whether other processes' clients are known as they are now.
    pub fn is_informed(&self) -> bool {
        *self.informed.borrow()
    }

    /// Waits until other processes' clients are known.
    pub async fn knows_others(&self) {
        let mut informed = self.informed.subscribe();
        // The sender is ours.
        let _ = informed.wait_for(|informed| *informed).await;
    }

    /// A process is gone, and with it its clients.
    pub fn process_gone(&self, node: &NodeId) {
        self.change(|clients| {
            if let Some(change) = clients.replica.gone(node) {
                clients.apply(change);
            }
        });
    }

    /// The next message for all processes, when there is one. Whoever takes it sends it before it takes the next.
    pub fn next_message(&self, now: Instant) -> Option<Vec<u8>> {
        self.lock().say(now)
    }

    /// When [`next_message`](Self::next_message), which gave none, is to be asked again, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        self.lock().replica.deadline()
    }

    /// Waits until [`next_message`](Self::next_message) may have something. For one task.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The last message for all processes: that we are gone, and all our clients.
    pub fn farewell(&self) -> Vec<u8> {
        self.lock().replica.farewell()
    }

    /// The other processes that were heard of and are not known to be gone.
    pub fn others(&self) -> Vec<NodeId> {
        self.lock().replica.others().cloned().collect()
    }

    /// Whether this other process was heard of and is not known to be gone.
    pub fn knows(&self, node: &NodeId) -> bool {
        self.lock().replica.knows(node)
    }
}
