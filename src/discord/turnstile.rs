//! The turn to identify among all processes of a bot, as a shard sees it: it waits at a [`Turnstile`] and gets a [`Pass`].
//!
//! Who tells the processes' turns apart is an adapter's business. Without one, this process is the only one.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use tokio::sync::oneshot;

use super::ids::ShardId;

/// What [`Turnstile::enter`] gives.
pub type Entering<'a> = Pin<Box<dyn Future<Output = Pass> + Send + 'a>>;

/// Lets the shards of all processes through, one at a time in each bucket.
pub trait Turnstile: Debug + Send + Sync {
    /// Waits for the shard's turn in its bucket. A future that is dropped no longer wants it.
    fn enter(&self, bucket: u32, shard: ShardId) -> Entering<'_>;
}

/// The right to send one identify at once. Dropped unspent, it lets the next one through.
#[derive(Debug)]
#[must_use]
pub struct Pass {
    until: Instant,
    spent: Option<oneshot::Sender<Instant>>,
}

impl Pass {
    /// A pass that is good until then.
    pub fn until(until: Instant) -> Self {
        Self { until, spent: None }
    }

    /// The same, and whoever gave it learns when it was spent. It is void once the receiver is closed.
    pub fn reporting(until: Instant) -> (Self, oneshot::Receiver<Instant>) {
        let (spent, when) = oneshot::channel();
        (Self { until, spent: Some(spent) }, when)
    }

    /// Whether the identify may be sent now; it counts as sent if so. Too late (this process was paused) or void (the turn
    /// was lost meanwhile), it must not be sent, and the turn be asked for again.
    pub fn spend(self, now: Instant) -> bool {
        now < self.until && self.spent.is_none_or(|spent| spent.send(now).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_pass_is_good_for_its_time_and_reports_when_it_was_spent() {
        let now = Instant::now();
        let (pass, mut spent) = Pass::reporting(now + SECOND);
        assert!(pass.spend(now));
        assert_eq!(spent.try_recv(), Ok(now));
        let (pass, mut spent) = Pass::reporting(now + SECOND);
        assert!(!pass.spend(now + SECOND), "too late");
        assert!(spent.try_recv().is_err());
        assert!(!Pass::until(now).spend(now));
    }

    #[test]
    fn a_pass_of_a_lost_turn_is_void() {
        let now = Instant::now();
        let (pass, spent) = Pass::reporting(now + SECOND);
        drop(spent);
        assert!(!pass.spend(now));
    }
}
