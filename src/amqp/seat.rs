//! A seat that one process of a group has at a time: the exclusive consumer of a queue, and what only who has it may do.
//!
//! Everything is on one channel: the consumers, what is stored and what is said. Who lost the seat lost that channel, noticed
//! or not, and RabbitMQ takes nothing more from it; and what was delivered there is back in its queues, in order, before
//! another has them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::admin::{Admin, bounded};
use super::delivery::{Delivery, From};
use super::error::AdminError;
use super::messenger::{Message, PublishError, publish_alone};
use super::stored::{read, store};
use super::topology::{Queue, short};

/// How often it is looked whether an alarm is over.
const BLOCKED_PAUSE: Duration = Duration::from_millis(250);

/// The seat. Dropped, it is free for another, as by [`resign`](Self::resign).
#[derive(Debug)]
pub struct Seat {
    admin: Admin,
    channel: Arc<Channel>,
    record: Queue,
    /// One message in flight: what comes back is it.
    publishing: Mutex<()>,
}

/// What comes out of one of the seat's queues.
#[derive(Debug)]
pub struct Intake {
    name: Arc<str>,
    channel: Arc<Channel>,
    consumer: lapin::Consumer,
}

impl Seat {
    /// Takes the seat, if nobody has it: the exclusive consumption of these queues, all or none. The first is the one that
    /// counts. `record` keeps what its owner stores. At most so many messages of each queue are unsettled at a time.
    ///
    /// # Errors
    /// What RabbitMQ said; also that the first queue excludes nobody, as quorum queues do, or that another queue has a consumer,
    /// which may be the one of who had the seat before, a moment longer.
    pub async fn take<const N: usize>(
        admin: &Admin,
        queues: &[(Queue, u16); N],
        record: &Queue,
    ) -> Result<Option<(Self, [Intake; N])>, AdminError> {
        let mut channel = admin.channel().await?;
        for (place, (queue, _)) in queues.iter().enumerate() {
            if queue.declare(admin, &mut channel).await?.consumers > 0 && place == 0 {
                return Ok(None);
            }
        }
        record.declare(admin, &mut channel).await?;
        drop(channel);
        let channel = Arc::new(admin.confirming_channel().await?);
        let mut intakes = Vec::with_capacity(N);
        for (queue, prefetch) in queues {
            // It holds for the consumers that come after it, each on its own.
            bounded("limit the prefetch", channel.basic_qos(*prefetch, BasicQosOptions::default())).await?;
            match consume(&channel, queue).await {
                Ok(consumer) => intakes.push(Intake { name: queue.name().into(), channel: channel.clone(), consumer }),
                // Somebody was faster. RabbitMQ has closed the channel.
                Err(error) if error.is_held_by_another() && intakes.is_empty() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        if let Some((first, _)) = queues.first() {
            excludes_others(admin, first).await?;
        }
        let seat = Self { admin: admin.clone(), channel, record: record.clone(), publishing: Mutex::default() };
        Ok(Some((seat, intakes.try_into().expect("one of each queue"))))
    }

    /// What was stored last, by whoever had the seat.
    ///
    /// # Errors
    /// What RabbitMQ said.
    pub async fn stored(&self) -> Result<Option<Vec<u8>>, AdminError> {
        Ok(read(&self.channel, self.record.name()).await?.pop())
    }

    /// Stores this in place of it. Waits while an alarm is on.
    ///
    /// # Errors
    /// The seat is to be given up: it is lost, or whether this was stored is not known.
    pub async fn store(&self, record: &[u8]) -> Result<(), AdminError> {
        let _alone = self.publishing.lock().await;
        self.unblocked().await?;
        store(&self.channel, self.record.name(), record, "who has which shard").await
    }

    /// Publishes. Waits while an alarm is on.
    ///
    /// # Errors
    /// The outer: the seat is to be given up. The inner: what became of the message.
    pub async fn publish(&self, message: &Message<'_>) -> Result<Result<(), PublishError>, AdminError> {
        let _alone = self.publishing.lock().await;
        self.unblocked().await?;
        publish_alone(&self.admin, &self.channel, message).await
    }

    /// Gives the seat up, and what was not settled back, at once.
    pub async fn resign(self) {
        // Lost or refused, it is closed all the same.
        let _ = bounded("close a channel", self.channel.close(200, "OK".into())).await;
    }

    /// Whether an alarm is on, as far as RabbitMQ has told: what is published now arrives after it.
    pub fn is_blocked(&self) -> bool {
        self.admin.is_blocked()
    }

    /// Waits while an alarm is on.
    ///
    /// # Errors
    /// The seat is lost.
    pub async fn unblocked(&self) -> Result<(), AdminError> {
        // lapin sends nothing at all on a blocked connection.
        while self.admin.is_blocked() && self.channel.status().connected() {
            sleep(BLOCKED_PAUSE).await;
        }
        if self.channel.status().connected() {
            return Ok(());
        }
        Err(AdminError::Unreachable("the channel was closed".to_owned()))
    }
}

impl Intake {
    /// The next message. Nothing is lost when this is dropped before it is there.
    ///
    /// # Errors
    /// The seat is lost.
    pub async fn next(&mut self) -> Result<Delivery, AdminError> {
        match self.consumer.next().await {
            Some(Ok(delivered)) => Ok(Delivery::of(From::Queue(self.name.clone()), delivered, &self.channel)),
            Some(Err(error)) => Err(AdminError::of(&format!("go on consuming \"{}\"", self.name), &error)),
            None => Err(AdminError::Unreachable(format!("the consumer of \"{}\" was cancelled", self.name))),
        }
    }
}

async fn consume(channel: &Channel, queue: &Queue) -> Result<lapin::Consumer, AdminError> {
    let exclusive = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
    let consumed = channel.basic_consume(short(queue.name())?, "".into(), exclusive, FieldTable::default());
    bounded(&format!("consume the queue \"{}\" alone", queue.name()), consumed).await
}

/// Tries whether a second consumer is refused. One that is not gets no message, for it acknowledges none and is gone at once.
async fn excludes_others(admin: &Admin, queue: &Queue) -> Result<(), AdminError> {
    let channel = admin.channel().await?;
    bounded("limit the prefetch", channel.basic_qos(1, BasicQosOptions::default())).await?;
    match consume(&channel, queue).await {
        Err(error) if error.is_held_by_another() => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            let _ = bounded("close a channel", channel.close(200, "OK".into())).await;
            let (action, name) = ("be the only consumer".to_owned(), queue.name());
            let reason = format!(
                "the queue \"{name}\" takes a second exclusive consumer, as quorum queues do: delete it, and Optic declares \
                 a classic one"
            );
            Err(AdminError::Conflict { action, reason })
        }
    }
}
