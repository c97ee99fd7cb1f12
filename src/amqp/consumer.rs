//! A consumer of one queue that several processes share, kept up over lost connections and deleted queues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::admin::{Admin, bounded};
use super::delivery::{Delivery, From};
use super::error::AdminError;
use super::topology::{Queue, short};

/// The connection has a back-off of its own; this one is for what fails on a live connection.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Consumes a queue: to be run by whoever owns the task.
#[derive(Debug)]
pub struct Consumer {
    admin: Admin,
    queue: Queue,
    name: Arc<str>,
    prefetch: u16,
    deliveries: mpsc::Sender<Delivery>,
    consuming: watch::Sender<Option<Instant>>,
}

impl Consumer {
    /// A consumer of `queue`, which is declared and bound first, and the end where its deliveries come out. At most `prefetch`
    /// of them are held at a time.
    pub fn new(consumption: Admin, queue: Queue, prefetch: u16) -> (Self, mpsc::Receiver<Delivery>) {
        let (sender, deliveries) = mpsc::channel(usize::from(prefetch.max(1)));
        let name = queue.name().into();
        let consuming = watch::Sender::new(None);
        (Self { admin: consumption, queue, name, prefetch, deliveries: sender, consuming }, deliveries)
    }

    /// Since when it consumes; none while it does not.
    pub fn consuming(&self) -> watch::Receiver<Option<Instant>> {
        self.consuming.subscribe()
    }

    /// Consumes until `stop`, or until nobody takes its deliveries; what was not settled by then goes back to the queue.
    pub async fn run(self, stop: CancellationToken) {
        self.run_until(stop.clone(), stop).await;
    }

    /// The same, with a time between `enough`, from when on nothing more is delivered, and `stop`, until when what was can be
    /// settled. Not for a queue with a single active consumer: another would get what follows before what is not settled goes
    /// back.
    pub async fn run_until(self, enough: CancellationToken, stop: CancellationToken) {
        let mut last_failure = None;
        loop {
            let prepared = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = enough.cancelled() => return stop.cancelled().await,
                // Dropped in the middle, it leaves a channel that closes.
                prepared = self.prepare() => prepared,
            };
            let why = match prepared {
                Ok((channel, consumer)) => {
                    if last_failure.take().is_some() {
                        info!(queue = %self.name, "consuming again");
                    }
                    self.consuming.send_replace(Some(Instant::now()));
                    let ended = self.consume(&channel, consumer, &enough, &stop).await;
                    self.consuming.send_replace(None);
                    match ended {
                        Some(why) => why,
                        None => return,
                    }
                }
                Err(why) => why,
            };
            if last_failure.as_ref() != Some(&why) {
                match why {
                    // The connection tells of itself.
                    AdminError::Unreachable(_) => debug!(queue = %self.name, %why, "not consuming, trying on"),
                    _ => warn!(queue = %self.name, %why, "not consuming, trying on"),
                }
                last_failure = Some(why);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(RETRY_PAUSE) => {}
            }
        }
    }

    async fn prepare(&self) -> Result<(Arc<Channel>, lapin::Consumer), AdminError> {
        let mut channel = self.admin.channel().await?;
        self.queue.declare(&self.admin, &mut channel).await?;
        bounded("limit the prefetch", channel.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let consumed = channel.basic_consume(short(&self.name)?, "".into(), options, FieldTable::default());
        let consumer = bounded(&format!("consume the queue \"{}\"", self.name), consumed).await?;
        Ok((Arc::new(channel), consumer))
    }

    /// Hands deliveries over; says why there are no more, or nothing when no more are wanted.
    async fn consume(
        &self,
        channel: &Arc<Channel>,
        mut consumer: lapin::Consumer,
        enough: &CancellationToken,
        stop: &CancellationToken,
    ) -> Option<AdminError> {
        loop {
            // A permit first: what nobody can take yet stays with RabbitMQ as unsettled, and goes back with the channel.
            let next = async { (self.deliveries.reserve().await, consumer.next().await) };
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = enough.cancelled() => {
                    if let Err(why) = self.take_no_more(channel, &mut consumer).await {
                        debug!(queue = %self.name, %why, "the consumer may not have ended: what comes stays where it is");
                    }
                    stop.cancelled().await;
                    break;
                }
                next = next => next,
            };
            match next {
                (Ok(permit), Some(Ok(delivered))) => {
                    permit.send(Delivery::of(From::Queue(self.name.clone()), delivered, channel));
                }
                (Err(_), _) => break,
                (_, Some(Err(error))) => return Some(AdminError::of("go on consuming", &error)),
                (_, None) => return Some(AdminError::Unreachable("a consumer was cancelled".to_owned())),
            }
        }
        // That cancels the consumer and gives back what is not settled, in one step. Refused, it is closed all the same.
        let _ = bounded("close a channel", channel.close(200, "OK".into())).await;
        None
    }

    /// Ends the consumer and not the channel, and gives back what comes until RabbitMQ has heard of it.
    async fn take_no_more(&self, channel: &Arc<Channel>, consumer: &mut lapin::Consumer) -> Result<(), AdminError> {
        let action = format!("end the consumer of the queue \"{}\"", self.name);
        bounded(&action, channel.basic_cancel(consumer.tag(), BasicCancelOptions::default())).await?;
        while let Some(late) = bounded(&action, consumer.next().map(Option::transpose)).await? {
            Delivery::of(From::Queue(self.name.clone()), late, channel).requeue();
        }
        Ok(())
    }
}
