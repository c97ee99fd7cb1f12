//! What is published for services beside answers: messages that are passed on, and what is set aside. None is lost: it is
//! acknowledged where it came from only once it is somewhere else.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::warn;

use super::internal::Client;
use crate::amqp::delivery::Properties;
use crate::amqp::messenger::{Message, Messenger, PublishError, brief};
use crate::amqp::topology::Queue;
use crate::spectacles::tally::Count;

/// Between two tries; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// As much of a body is kept of what is set aside: enough for whoever looks for the mistake.
const KEPT: usize = 64 << 10;
/// The key under which it is set aside.
const REJECTED: &str = "REJECTED";

/// Publishes.
#[derive(Debug)]
pub(super) struct Post {
    messenger: Messenger,
    group: String,
    aside: Mutex<Count>,
    delayed: Mutex<Count>,
}

/// Something that nobody can do anything with.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    /// Why.
    pub(super) reason: String,
    /// In a word.
    pub(super) kind: &'static str,
    /// The queue that it came out of.
    pub(super) source: String,
    /// What came beside it.
    pub(super) properties: Properties,
    /// It itself.
    pub(super) body: Vec<u8>,
}

/// Why something is not where it was to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undone {
    /// It is not ours any more: RabbitMQ gives it to another, or to us again.
    NotHeld,
    /// No queue takes it.
    Unroutable,
    /// RabbitMQ never takes it.
    Refused(String),
}

impl Post {
    pub(super) fn new(messenger: Messenger, group: &str) -> Self {
        let (aside, delayed) = Default::default();
        Self { messenger, group: group.to_owned(), aside, delayed }
    }

    /// Publishes to the key of a topic, for as long as what it is for is held.
    pub(super) async fn to_topic(
        &self,
        lane: usize,
        topic: &str,
        properties: &Properties,
        body: &[u8],
        is_held: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        let message =
            Message { exchange: &self.group, key: topic, mandatory: true, persistent: true, properties, body };
        self.publish(lane, &message, None, is_held).await
    }

    /// Publishes to a connection of a process.
    pub(super) async fn to_client(
        &self,
        lane: usize,
        client: &Client,
        body: &[u8],
        is_held: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            correlation_id: Some(client.connection.to_string()),
            ..Properties::default()
        };
        let (key, properties) = (&client.reply_to, &properties);
        let message = Message { exchange: "", key, mandatory: true, persistent: false, properties, body };
        self.publish(lane, &message, None, is_held).await
    }

    /// Publishes to where those are that nobody can do anything with.
    pub(super) async fn set_aside(&self, aside: &Aside, is_held: impl Fn() -> bool) -> Result<(), Undone> {
        let Aside { reason, kind, source, properties, body } = aside;
        let reason = brief(reason);
        let mut headers = vec![("x-optic-reason", reason.to_owned()), ("x-optic-kind", (*kind).to_owned())];
        headers.push(("x-optic-source", source.clone()));
        if body.len() > KEPT {
            headers.push(("x-optic-bytes", body.len().to_string()));
        }
        let properties = Properties {
            content_type: properties.content_type.clone(),
            correlation_id: properties.correlation_id.clone(),
            message_id: properties.message_id.clone(),
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ..Properties::default()
        };
        let (queue, body) = (Queue::rejected(&self.group), &body[..body.len().min(KEPT)]);
        let (exchange, properties) = (self.group.as_str(), &properties);
        let message = Message { exchange, key: REJECTED, mandatory: true, persistent: true, properties, body };
        self.publish(0, &message, Some(&queue), is_held).await?;
        if let Some(more) = count(&self.aside) {
            warn!(queue = %source, %kind, %reason, more, "a message of a service is set aside in {}", queue.name());
        }
        Ok(())
    }

    async fn publish(
        &self,
        lane: usize,
        message: &Message<'_>,
        queue: Option<&Queue>,
        is_held: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        let (mut pause, mut declared, mut delayed) = (FIRST_PAUSE, false, false);
        while is_held() {
            let error = match self.messenger.publish(lane, message).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let error = match (error, queue) {
                (error, Some(queue)) if error.is_undeclared() && !declared => {
                    match self.messenger.declare(queue).await {
                        Ok(()) => {
                            declared = true;
                            continue;
                        }
                        Err(error) => error.into(),
                    }
                }
                (PublishError::Unroutable { .. }, None) => return Err(Undone::Unroutable),
                // What is set aside has no other place to go to: tried on.
                (error, None) if !error.is_passing() => return Err(Undone::Refused(error.to_string())),
                (error, _) => error,
            };
            if !std::mem::replace(&mut delayed, true)
                && let Some(more) = count(&self.delayed)
            {
                warn!(%error, more, "a message of a service cannot be passed on: it waits");
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(Undone::NotHeld)
    }
}

/// Counts one, and says whether the log is to tell, and of how many more.
fn count(of: &Mutex<Count>) -> Option<u64> {
    of.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now())
}
