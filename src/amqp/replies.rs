//! A queue for answers, named by RabbitMQ and ours alone: what a message's `reply_to` names while its sender is connected.
//!
//! It ends with its connection, and what was in it with it: then there is another one, and who waits for an answer to the
//! former name waits in vain, which is told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::admin::{Admin, bounded};
use super::error::AdminError;

/// The connection has a back-off of its own; this one is for what fails on a live connection.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Answers that wait to be taken; the rest waits in the socket.
const WAITING: usize = 256;

/// Where answers are to be sent. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Replies(Arc<watch::Sender<Option<String>>>);

/// Keeps the queue: to be run by whoever owns the task.
#[derive(Debug)]
pub struct RepliesDriver {
    admin: Admin,
    replies: Replies,
    events: mpsc::Sender<ReplyEvent>,
}

/// What comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyEvent {
    /// An answer.
    Answer {
        /// What it answers, if it says so.
        correlation_id: Option<String>,
        /// What it says.
        body: Vec<u8>,
    },
    /// The queue is gone, with all answers to come to it.
    Lost,
}

impl Replies {
    /// A handle, the driver that it needs, and what comes.
    pub fn new(consumption: Admin) -> (Self, RepliesDriver, mpsc::Receiver<ReplyEvent>) {
        let (events, receiver) = mpsc::channel(WAITING);
        let replies = Self::default();
        (replies.clone(), RepliesDriver { admin: consumption, replies, events }, receiver)
    }

    /// The queue's name, while there is one.
    pub fn queue(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// The queue's name from now on, whenever there is another one, or none.
    pub fn watch(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }

    fn set(&self, queue: Option<String>) {
        self.0.send_replace(queue);
    }
}

impl RepliesDriver {
    /// Takes answers until `stop`, or until nobody takes them from here.
    pub async fn run(self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.keep()).await;
        self.replies.set(None);
    }

    async fn keep(&self) {
        let mut last_failure = None;
        loop {
            let why = match self.prepare().await {
                Ok((queue, _channel, consumer)) => {
                    last_failure = None;
                    self.replies.set(Some(queue));
                    let why = self.take(consumer).await;
                    self.replies.set(None);
                    if self.events.send(ReplyEvent::Lost).await.is_err() {
                        return;
                    }
                    why
                }
                Err(why) => why,
            };
            if last_failure.as_ref() != Some(&why) {
                match why {
                    // The connection tells of itself.
                    AdminError::Unreachable(_) => debug!(%why, "no queue for answers, trying on"),
                    _ => warn!(%why, "no queue for answers, trying on"),
                }
                last_failure = Some(why);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn prepare(&self) -> Result<(String, Channel, Consumer), AdminError> {
        let channel = self.admin.channel().await?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare("".into(), options, FieldTable::default());
        let queue = bounded("declare a queue for answers", declared).await?.name().clone();
        // An answer is taken or it is not; there is nobody to give it back to.
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let consumed = channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default());
        let consumer = bounded("consume a queue for answers", consumed).await?;
        Ok((queue.to_string(), channel, consumer))
    }

    /// Hands answers over; says why there are no more.
    async fn take(&self, mut consumer: Consumer) -> AdminError {
        while let Some(next) = consumer.next().await {
            let delivered = match next {
                Ok(delivered) => delivered,
                Err(error) => return AdminError::of("go on taking answers", &error),
            };
            let correlation_id = delivered.properties.correlation_id().as_ref().map(ToString::to_string);
            let answer = ReplyEvent::Answer { correlation_id, body: delivered.data };
            if self.events.send(answer).await.is_err() {
                break;
            }
        }
        AdminError::Unreachable("a consumer was cancelled".to_owned())
    }
}
