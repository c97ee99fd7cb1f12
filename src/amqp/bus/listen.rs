//! The way in: our queue on the bus, consumed by us alone, which is what others see of us.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::super::admin::{Generation, bounded};
use super::super::error::AdminError;
use super::super::topology::{bind, fanout, short};
use super::{BusDriver, BusEvent};
use crate::cluster::node::NodeId;

/// Announcements on their way to us: more than a few processes make in a moment.
const PREFETCH: u16 = 64;
/// The connection has a back-off of its own; this one is for what fails on a live connection.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What one process tells the others: it misses another.
#[derive(Debug, Serialize, Deserialize)]
struct Missing {
    version: u32,
    gone: NodeId,
}

/// The message about a process that is missed.
pub(super) fn missing(node: &NodeId) -> Vec<u8> {
    let message = Missing { version: 1, gone: node.clone() };
    serde_json::to_vec(&message).expect("a number and a text are JSON")
}

impl BusDriver {
    /// Consumes our queue, and again when it is lost; tells what comes.
    pub(super) async fn listen(&self, stop: &CancellationToken) {
        let mut last_failure = None;
        loop {
            let prepared = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                prepared = self.prepare() => prepared,
            };
            let why = match prepared {
                Ok((channel, consumer, generation)) => {
                    last_failure = None;
                    if !self.tell(BusEvent::Up, stop).await {
                        return;
                    }
                    let Some(why) = self.hear(&channel, consumer, generation, stop).await else { return };
                    if !self.tell(BusEvent::Down, stop).await {
                        return;
                    }
                    why
                }
                Err(why) => why,
            };
            if last_failure.as_ref() != Some(&why) {
                let exchange = self.line.exchange();
                // In exclusive use means: by ourselves, over a connection that RabbitMQ does not know to be lost yet.
                match why {
                    // The connection tells of itself.
                    AdminError::Unreachable(_) => debug!(%why, exchange, "not on the bus, trying on"),
                    _ => warn!(%why, exchange, "not on the bus, trying on"),
                }
                last_failure = Some(why);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(RETRY_PAUSE) => {}
            }
        }
    }

    async fn prepare(&self) -> Result<(Channel, Consumer, Option<Generation>), AdminError> {
        let mut channel = self.consumption.channel().await?;
        let generation = self.consumption.generation();
        let exchange = self.line.exchange();
        fanout(&channel, exchange).await?;
        self.queue.declare(&self.consumption, &mut channel).await?;
        bind(&channel, self.queue.name(), exchange, "").await?;
        bounded("limit the prefetch", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let exclusive = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let name = short(self.queue.name())?;
        let consumed = channel.basic_consume(name, "".into(), exclusive, FieldTable::default());
        let consumer = bounded(&format!("consume the queue \"{}\"", self.queue.name()), consumed).await?;
        Ok((channel, consumer, generation))
    }

    /// Hands messages over until the connection is lost, and says why; nothing when no more are wanted.
    async fn hear(
        &self,
        channel: &Channel,
        mut consumer: Consumer,
        generation: Option<Generation>,
        stop: &CancellationToken,
    ) -> Option<AdminError> {
        loop {
            let delivered = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                _ = self.consumption.changed_from(generation) => {
                    return Some(AdminError::Unreachable("the connection was lost".to_owned()));
                }
                delivered = consumer.next() => delivered,
            };
            let delivered = match delivered {
                Some(Ok(delivered)) => delivered,
                Some(Err(error)) => return Some(AdminError::of("go on listening", &error)),
                None => return Some(AdminError::Unreachable("the consumer was cancelled".to_owned())),
            };
            let tag = delivered.delivery_tag;
            match serde_json::from_slice::<Missing>(&delivered.data) {
                Ok(Missing { version: 1, gone }) => self.bus.presence.suspect(gone),
                // Not ours to judge.
                _ => {
                    if !self.tell(BusEvent::Message(delivered.data), stop).await {
                        return None;
                    }
                }
            }
            // Queued for the socket at the first poll.
            let _ = channel.basic_ack(tag, BasicAckOptions::default()).now_or_never();
        }
    }

    /// Whether it was taken: nothing is when nobody listens, or at the end.
    pub(super) async fn tell(&self, event: BusEvent, stop: &CancellationToken) -> bool {
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            told = self.events.send(event) => told.is_ok(),
        }
    }

    /// Deletes our queue, so that others need not wait until it expires; without connection it does that by itself.
    pub(super) async fn leave(&self) {
        if self.consumption.generation().is_none() {
            return;
        }
        let left = async {
            let channel = self.consumption.channel().await?;
            let deleted = channel.queue_delete(short(self.queue.name())?, QueueDeleteOptions::default());
            bounded("delete our queue on the bus", deleted).await
        };
        if let Err(why) = left.await {
            warn!(%why, "our queue on the bus is left to expire");
        }
    }
}
