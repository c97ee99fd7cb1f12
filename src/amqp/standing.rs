//! Queues that have to be there while messages are published to them: declared with every connection, and again when a message
//! comes back because one of them is gone.
//!
//! Knows nothing of the messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::admin::Admin;
use super::error::AdminError;
use super::publisher::Returned;
use super::topology::{Queue, declare_queues};

/// Between two declarations.
const PAUSE: Duration = Duration::from_secs(1);
/// The same trouble is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// A handle on the queues, for whoever hears that one is gone. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Shared>);

/// Keeps them: to be run by whoever owns the task.
#[derive(Debug)]
pub struct StandingDriver {
    admin: Admin,
    group: String,
    queues: Vec<Queue>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    gone: Notify,
    /// Messages that came back since that was told.
    missed: AtomicU64,
    /// RabbitMQ refuses to declare them, and will.
    is_refused: AtomicBool,
}

impl Standing {
    /// The queues of the group, and who keeps them.
    pub fn new(admin: Admin, group: &str, queues: Vec<Queue>) -> (Self, StandingDriver) {
        let standing = Self::default();
        let shared = standing.0.clone();
        (standing, StandingDriver { admin, group: group.to_owned(), queues, shared })
    }

    /// A message to one of them came back. They are declared again; what is to become of the message.
    pub fn missed(&self) -> Returned {
        self.0.missed.fetch_add(1, Ordering::Relaxed);
        self.0.gone.notify_one();
        if self.0.is_refused.load(Ordering::Relaxed) { Returned::GivenUp } else { Returned::Again }
    }
}

impl StandingDriver {
    /// Keeps them until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&self) {
        let mut told: Option<Instant> = None;
        let (mut link, mut again) = (None, false);
        loop {
            tokio::select! {
                () = self.shared.gone.notified() => {}
                now = self.admin.changed_from(link) => {
                    link = now;
                    if link.is_none() {
                        continue;
                    }
                }
                // It failed a moment ago, and may not now.
                () = std::future::ready(()), if again => {}
            }
            let declared = declare_queues(&self.admin, &self.group, &self.queues).await;
            let is_refused = declared.as_ref().is_err_and(|error| !error.is_passing());
            self.shared.is_refused.store(is_refused, Ordering::Relaxed);
            again = declared.as_ref().is_err_and(AdminError::is_passing);
            let missed = self.shared.missed.load(Ordering::Relaxed);
            let is_news = told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) && (missed > 0 || declared.is_err());
            if is_news {
                told = Some(Instant::now());
                self.shared.missed.fetch_sub(missed, Ordering::Relaxed);
                let queues: Vec<&str> = self.queues.iter().map(Queue::name).collect();
                match declared {
                    Ok(()) => warn!(
                        ?queues,
                        missed, "a queue was gone, and was declared again: what had come back is published again"
                    ),
                    Err(error) if is_refused => {
                        error!(?queues, missed, %error, "a queue cannot be declared: what comes back is lost, and told as a gap");
                    }
                    Err(error) => {
                        warn!(?queues, missed, %error, "a queue cannot be declared yet: what came back is tried again")
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }
}
