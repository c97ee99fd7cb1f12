//! Publishing of what must arrive: tried while it is ours to publish, for as long as is sensible.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::warn;

use super::parcel::{self, Parcel};
use crate::amqp::delivery::Properties;
use crate::amqp::error::AdminError;
use crate::amqp::messenger::{Message, Messenger, PublishError};
use crate::amqp::topology::Queue;
use crate::cluster::node::NodeId;

/// After how long what cannot be published is given back to whoever it is from.
const GIVE_BACK: Duration = Duration::from_secs(300);
/// Between two tries; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The log tells of what waits at most so often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Publishes.
#[derive(Debug)]
pub(super) struct Mail {
    messenger: Messenger,
    group: String,
    told: Mutex<Option<Instant>>,
}

/// What is published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letter<'a> {
    pub(super) properties: &'a Properties,
    pub(super) body: &'a [u8],
}

/// Why something is not where it was to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undone {
    /// It is not ours any more.
    NotHeld,
    /// RabbitMQ has not taken it for minutes.
    GivenUp,
    /// No queue takes it.
    Unroutable,
    /// RabbitMQ does not take it, now and later.
    Refused(AdminError),
    /// Nobody takes it here any more, for this process ends.
    Ending,
}

impl Mail {
    pub(super) fn new(messenger: Messenger, group: &str) -> Self {
        Self { messenger, group: group.to_owned(), told: Mutex::default() }
    }

    /// Publishes under a key of the group's exchange, which may have to be declared.
    ///
    /// # Errors
    /// When it is not known to be there.
    pub(super) async fn to_key(
        &self,
        lane: usize,
        key: &str,
        letter: Letter<'_>,
        is_ours: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        self.publish(lane, &self.group, key, None, letter, is_ours).await
    }

    /// The same for the key of a queue that is declared if it is not there.
    pub(super) async fn to_queue(
        &self,
        lane: usize,
        key: &str,
        queue: &Queue,
        letter: Letter<'_>,
        is_ours: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        self.publish(lane, &self.group, key, Some(queue), letter, is_ours).await
    }

    /// Publishes a parcel to a process's own queue, after those for the same `receiver` before. Properties and body are as
    /// they are; the header is added. Of one that `is_known` to be there the queue is declared, should it not be there (yet).
    ///
    /// # Errors
    /// [`Undone::Unroutable`] when the process is gone for long.
    pub(super) async fn to_node(
        &self,
        receiver: impl Hash,
        node: &NodeId,
        is_known: bool,
        parcel: &Parcel,
        letter: Letter<'_>,
        is_ours: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        let queue = Queue::singyeong(&self.group, node);
        let mut properties = letter.properties.clone();
        properties.headers.insert(parcel::HEADER.to_owned(), parcel.to_header());
        let letter = Letter { properties: &properties, body: letter.body };
        self.publish(lane_of(receiver), "", queue.name(), is_known.then_some(&queue), letter, is_ours).await
    }

    /// Publishes to a queue that no key leads to.
    pub(super) async fn to_declared(
        &self,
        lane: usize,
        queue: &Queue,
        letter: Letter<'_>,
        is_ours: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        self.publish(lane, "", queue.name(), Some(queue), letter, is_ours).await
    }

    /// Publishes an answer to the queue that was named for it.
    pub(super) async fn to_asker(
        &self,
        queue: &str,
        letter: Letter<'_>,
        is_ours: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        self.publish(lane_of(queue), "", queue, None, letter, is_ours).await
    }

    async fn publish(
        &self,
        lane: usize,
        exchange: &str,
        key: &str,
        queue: Option<&Queue>,
        Letter { properties, body }: Letter<'_>,
        is_ours: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        let message = Message { exchange, key, mandatory: true, persistent: true, properties, body };
        let (since, mut pause, mut declared) = (Instant::now(), FIRST_PAUSE, false);
        loop {
            let error = match self.messenger.publish(lane, &message).await {
                Ok(()) => return Ok(()),
                // The exchange is missing, or the queue.
                Err(error) if error.is_undeclared() && !declared && (queue.is_some() || !is_unroutable(&error)) => {
                    declared = true;
                    let send = Queue::singyeong_send(&self.group);
                    match self.messenger.declare(queue.unwrap_or(&send)).await {
                        Ok(()) => continue,
                        Err(error) => error.into(),
                    }
                }
                Err(PublishError::Unroutable { .. }) => return Err(Undone::Unroutable),
                Err(error) => error,
            };
            match error {
                PublishError::Failed(error) if !error.is_passing() => return Err(Undone::Refused(error)),
                error => self.tell(&error),
            }
            if since.elapsed() >= GIVE_BACK {
                return Err(Undone::GivenUp);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if !is_ours() {
                return Err(Undone::NotHeld);
            }
        }
    }

    fn tell(&self, error: &PublishError) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            warn!(%error, "messages between clients wait: RabbitMQ does not take them");
        }
    }
}

const fn is_unroutable(error: &PublishError) -> bool {
    matches!(error, PublishError::Unroutable { .. })
}

/// Any number is a lane.
pub(super) fn lane_of(what: impl Hash) -> usize {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    usize::try_from(hasher.finish() >> 33).expect("31 bits")
}

/// Properties of what we say: its content type.
pub(super) fn of_type(content_type: &str) -> Properties {
    Properties { content_type: Some(content_type.to_owned()), ..Properties::default() }
}

/// With these headers, too.
pub(super) fn with_headers<const N: usize>(properties: Properties, headers: [(&str, String); N]) -> Properties {
    let headers: BTreeMap<_, _> = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Properties { headers, ..properties }
}
