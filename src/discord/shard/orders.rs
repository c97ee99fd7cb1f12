//! How a shard is told to end.

use tokio_util::sync::CancellationToken;

/// The two ways to end a shard from outside. Clones share the orders.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    stop: CancellationToken,
    abandon: CancellationToken,
}

impl Orders {
    /// To end in order: the last confirms are awaited, the session is stored and kept. Whoever runs the shard next resumes it.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// To end at once and leave no trace: another process runs the shard already. What is not confirmed is forgotten, for
    /// Discord sends it to that process; nothing is stored.
    pub fn abandon(&self) {
        self.abandon.cancel();
    }

    /// Waits for either.
    pub async fn ended(&self) {
        tokio::select! {
            () = self.stopped() => {}
            () = self.abandoned() => {}
        }
    }

    /// Waits for [`stop`](Self::stop).
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Waits for [`abandon`](Self::abandon).
    pub(super) async fn abandoned(&self) {
        self.abandon.cancelled().await;
    }
}
