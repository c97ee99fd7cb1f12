//! Messages into queues: each confirmed, however long RabbitMQ is away, as long as somebody wants it.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::Source;
use crate::amqp::delivery::Properties;
use crate::amqp::error::AdminError;
use crate::amqp::messenger::{Message, Messenger, PublishError};
use crate::amqp::topology::Queue;
use crate::amqp::topology::singyeong::queue_key;

/// The pause after a failure that may pass.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// So often a message is published that RabbitMQ refuses, or that reaches no queue though it was declared.
const MOST_REFUSALS: u32 = 10;
/// So many bytes wait for their confirms at a time; over it messages are refused. RabbitMQ may be away for long.
const MOST_BYTES: usize = 64 << 20;
/// So many queues are remembered as declared; declaring one again is harmless.
const MOST_DECLARED: usize = 10_000;
/// Messages of one connection go in one lane, in their order.
const LANES: usize = 64;

/// Publishes into queues.
pub(super) struct Publisher {
    messenger: Messenger,
    group: Box<str>,
    declared: Mutex<HashSet<Source>>,
    lanes: [tokio::sync::Mutex<()>; LANES],
    waiting: Arc<AtomicUsize>,
}

/// Why a message is not in its queue.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotPublished {
    /// Nobody wants it any more.
    #[error("nobody waits for it any more")]
    Abandoned,
    /// Others wait already, more than is kept in memory.
    #[error("too many messages wait for RabbitMQ")]
    TooMany,
    #[error(transparent)]
    Refused(#[from] PublishError),
}

impl From<AdminError> for NotPublished {
    fn from(error: AdminError) -> Self {
        Self::Refused(error.into())
    }
}

/// The queue of RabbitMQ.
pub(super) fn queue(group: &str, source: &Source) -> Result<Queue, AdminError> {
    match &source.application {
        Some(application) => Queue::of_application(group, application.as_str(), &source.queue.0),
        None => Queue::of_no_application(group, &source.queue.0),
    }
}

impl Publisher {
    pub(super) fn new(messenger: Messenger, group: &str) -> Self {
        Self {
            messenger,
            group: group.into(),
            declared: Mutex::default(),
            lanes: [const { tokio::sync::Mutex::const_new(()) }; LANES],
            waiting: Arc::default(),
        }
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// Publishes for a client: behind what came before in the lane, and no more than is to be kept in memory.
    pub(super) async fn publish(
        &self,
        lane: u64,
        source: &Source,
        properties: &Properties,
        body: &[u8],
    ) -> Result<(), NotPublished> {
        let _counted = Counted::of(&self.waiting, body.len()).ok_or(NotPublished::TooMany)?;
        let lane = usize::try_from(lane % LANES as u64).expect("less than 64");
        let _turn = self.lanes[lane].lock().await;
        // For as long as whoever asked holds on to it, also when the client has left meanwhile.
        self.put(lane, source, properties, body, || true).await
    }

    /// Publishes until RabbitMQ has confirmed it, or it is wanted no more.
    pub(super) async fn put(
        &self,
        lane: usize,
        source: &Source,
        properties: &Properties,
        body: &[u8],
        is_wanted: impl Fn() -> bool,
    ) -> Result<(), NotPublished> {
        let queue = queue(&self.group, source)?;
        let key = source.application.as_ref().map(|of| queue_key(of.as_str(), &source.queue.0));
        let (exchange, key) = key.as_deref().map_or(("", queue.name()), |key| (&*self.group, key));
        let message = Message { exchange, key, mandatory: true, persistent: true, properties, body };
        let mut refusals = 0;
        loop {
            let error = match self.attempt(lane, source, &queue, &message).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.is_undeclared() {
                self.declared().remove(source);
                refusals += 1;
            } else if !error.is_passing() {
                return Err(error.into());
            } else if error == PublishError::Refused {
                refusals += 1;
            }
            if refusals >= MOST_REFUSALS {
                return Err(error.into());
            }
            if !is_wanted() {
                return Err(NotPublished::Abandoned);
            }
            // The first time it was only not declared any more.
            if !(error.is_undeclared() && refusals == 1) {
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn attempt(
        &self,
        lane: usize,
        source: &Source,
        queue: &Queue,
        message: &Message<'_>,
    ) -> Result<(), PublishError> {
        if !self.declared().contains(source) {
            self.messenger.declare(queue).await?;
            let mut declared = self.declared();
            if declared.len() >= MOST_DECLARED {
                declared.clear();
            }
            declared.insert(source.clone());
        }
        self.messenger.publish(lane, message).await
    }

    fn declared(&self) -> std::sync::MutexGuard<'_, HashSet<Source>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("group", &self.group).finish_non_exhaustive()
    }
}

/// Bytes that wait, until dropped.
struct Counted(Arc<AtomicUsize>, usize);

impl Counted {
    fn of(waiting: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let before = waiting.fetch_add(bytes, Ordering::Relaxed);
        let counted = Self(waiting.clone(), bytes);
        // One alone is always taken.
        (before == 0 || before + bytes <= MOST_BYTES).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}
