//! Takes single messages out of a queue that others empty, too: as many as are wanted now, and none to keep.
//!
//! While there are messages they are got one by one. When the queue is empty a consumer stands watch, that may hold a single
//! message: RabbitMQ hands it the next one at once, in turn with other consumers; then it leaves, for it would be handed
//! another for each one that is acknowledged, wanted or not.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::FutureExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, message};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::admin::{Admin, bounded};
use super::delivery::{Delivery, From, Receipt};
use super::error::AdminError;
use super::topology::{Queue, short};

/// The connection has a back-off of its own; this one is for what fails on a live connection.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// After so long with nothing wanted and nothing unsettled the channel is closed: a connection has some 2,000 of them.
const IDLE: Duration = Duration::from_secs(10);
/// So many questions for a message wait for their answers at a time.
const PIPELINED: usize = 32;

/// Takes messages: to be run by whoever owns the task.
#[derive(Debug)]
pub struct Taker {
    admin: Admin,
    queue: Queue,
    name: Arc<str>,
    /// How many may be handed over in all, since the beginning: no message is counted twice, whoever looks first.
    allowed: watch::Receiver<u64>,
    handed_over: u64,
    deliveries: mpsc::Sender<Delivery>,
    /// They live as long as the channel.
    unsettled: Unsettled,
}

/// Tells a [`Taker`] how many messages are wanted. Dropped, the taker ends.
#[derive(Debug)]
pub struct Demand {
    allowed: watch::Sender<u64>,
    received: u64,
    /// The taker's: no other's is the same place in memory.
    name: Arc<str>,
}

impl Demand {
    /// So many more are wanted now. What was taken for an earlier, larger demand may still come, if it was handed over already.
    pub fn set(&self, wanted: usize) {
        let allowed = self.received.saturating_add(wanted as u64);
        self.allowed.send_if_modified(|known| std::mem::replace(known, allowed) != allowed);
    }

    /// A delivery came out; to be told before the next [`set`](Self::set). False: it is not of this taker, but of one that took
    /// out of the queue before and has ended.
    #[must_use]
    pub fn received(&mut self, delivery: &Delivery) -> bool {
        let is_its = matches!(&delivery.from, From::Queue(name) if Arc::ptr_eq(name, &self.name));
        self.received += u64::from(is_its);
        is_its
    }
}

/// Why a taker takes no more for now.
enum Pause {
    /// Nothing is wanted, and all is settled.
    Idle,
    /// Nobody wants deliveries any more.
    Ended,
    Failed(AdminError),
}

impl std::convert::From<AdminError> for Pause {
    fn from(error: AdminError) -> Self {
        Self::Failed(error)
    }
}

impl Taker {
    /// Takes out of `queue`, which is declared and bound first. Several may share the end where deliveries come out.
    pub fn new(consumption: Admin, queue: Queue, deliveries: mpsc::Sender<Delivery>) -> (Self, Demand) {
        let (sender, allowed) = watch::channel(0);
        let name: Arc<str> = queue.name().into();
        let demand = Demand { allowed: sender, received: 0, name: name.clone() };
        let unsettled = Unsettled::default();
        let taker = Self { admin: consumption, queue, name, allowed, handed_over: 0, deliveries, unsettled };
        (taker, demand)
    }

    /// Takes until `stop`, or until nobody wants anything; what was not settled by then goes back to the queue.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut last_failure = None;
        loop {
            let wanted = stop.run_until_cancelled(self.until_wanted());
            let Some(true) = wanted.await else { return };
            let pause = match stop.run_until_cancelled(self.prepare()).await {
                Some(Ok(channel)) => {
                    if last_failure.take().is_some() {
                        info!(queue = %self.name, "taking messages again");
                    }
                    let pause = stop.run_until_cancelled(self.take(&channel)).await.unwrap_or(Pause::Ended);
                    if !matches!(pause, Pause::Failed(_)) {
                        // Gives back what is not settled, in one step with the consumer's end. Refused, it is closed all the same.
                        let _ = bounded("close a channel", channel.close(200, "OK".into())).await;
                    }
                    self.unsettled.clear();
                    pause
                }
                Some(Err(why)) => Pause::Failed(why),
                None => return,
            };
            let why = match pause {
                Pause::Idle => continue,
                Pause::Ended => return,
                Pause::Failed(why) => why,
            };
            if last_failure.as_ref() != Some(&why) {
                match why {
                    // The connection tells of itself.
                    AdminError::Unreachable(_) => debug!(queue = %self.name, %why, "taking no messages, trying on"),
                    _ => warn!(queue = %self.name, %why, "taking no messages, trying on"),
                }
                last_failure = Some(why);
            }
            if stop.run_until_cancelled(sleep(RETRY_PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// How many more are wanted.
    fn wanted(&self) -> usize {
        usize::try_from(self.allowed.borrow().saturating_sub(self.handed_over)).unwrap_or(usize::MAX)
    }

    /// False: there will be no demand any more.
    fn until_wanted(&mut self) -> impl Future<Output = bool> {
        let handed_over = self.handed_over;
        async move { self.allowed.wait_for(|allowed| *allowed > handed_over).await.is_ok() }
    }

    async fn prepare(&self) -> Result<Arc<Channel>, AdminError> {
        let mut channel = self.admin.channel().await?;
        self.queue.declare(&self.admin, &mut channel).await?;
        bounded("limit the prefetch", channel.basic_qos(1, BasicQosOptions::default())).await?;
        Ok(Arc::new(channel))
    }

    /// Takes what is wanted. Dropped in the middle, its channel is to be closed.
    async fn take(&mut self, channel: &Arc<Channel>) -> Pause {
        loop {
            let done = match self.wanted() {
                0 => self.idle().await,
                _ => self.drain_and_watch(channel).await,
            };
            if let Err(pause) = done {
                return pause;
            }
        }
    }

    async fn idle(&mut self) -> Result<(), Pause> {
        loop {
            match timeout(IDLE, self.until_wanted()).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(Pause::Ended),
                Err(_) if self.unsettled.is_empty() => return Err(Pause::Idle),
                Err(_) => {}
            }
        }
    }

    async fn drain_and_watch(&mut self, channel: &Arc<Channel>) -> Result<(), Pause> {
        if self.drain(channel).await? { self.watch(channel).await } else { Ok(()) }
    }

    /// Gets messages until no more are wanted, or (true) until there are none.
    async fn drain(&mut self, channel: &Arc<Channel>) -> Result<bool, Pause> {
        let action = format!("get from the queue \"{}\"", self.name);
        let name = short(&self.name)?;
        let mut asked = FuturesUnordered::new();
        let mut is_empty = false;
        loop {
            while !is_empty && asked.len() < self.wanted().min(PIPELINED) {
                asked.push(bounded(&action, channel.basic_get(name.clone(), BasicGetOptions::default())));
            }
            match asked.next().await {
                Some(Ok(Some(got))) => self.hand_over(channel, got.delivery).await?,
                Some(Ok(None)) => is_empty = true,
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(is_empty),
            }
        }
    }

    /// Waits for a message, or until none is wanted.
    async fn watch(&mut self, channel: &Arc<Channel>) -> Result<(), Pause> {
        let action = format!("consume the queue \"{}\"", self.name);
        let options = BasicConsumeOptions::default();
        let consumed = channel.basic_consume(short(&self.name)?, "".into(), options, FieldTable::default());
        let mut consumer = bounded(&action, consumed).await?;
        let handed_over = self.handed_over;
        let first = tokio::select! {
            biased;
            first = consumer.next() => Some(first),
            withdrawn = self.allowed.wait_for(|allowed| *allowed <= handed_over) => {
                if withdrawn.is_err() {
                    return Err(Pause::Ended);
                }
                None
            }
        };
        match first {
            Some(Some(delivered)) => {
                let delivered = delivered.map_err(|error| AdminError::of(&action, &error))?;
                self.hand_over(channel, delivered).await?;
            }
            Some(None) => return Err(AdminError::Unreachable("a consumer was cancelled".to_owned()).into()),
            None => {}
        }
        let action = format!("end the consumer of the queue \"{}\"", self.name);
        let cancelled = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        bounded(&action, cancelled).await?;
        // What came before RabbitMQ heard of it: it ends behind that.
        while let Some(late) = bounded(&action, consumer.next().map(Option::transpose)).await? {
            self.hand_over(channel, late).await?;
        }
        Ok(())
    }

    /// Hands it over if it is still wanted, and gives it back if not.
    async fn hand_over(&mut self, channel: &Arc<Channel>, delivered: message::Delivery) -> Result<(), Pause> {
        let delivery = Delivery::of(From::Queue(self.name.clone()), delivered, channel);
        let permit = self.deliveries.reserve().await.map_err(|_| Pause::Ended)?;
        if self.allowed.borrow().saturating_sub(self.handed_over) == 0 {
            delivery.requeue();
            return Ok(());
        }
        self.handed_over += 1;
        self.unsettled.add(delivery.receipt());
        permit.send(delivery);
        Ok(())
    }
}

/// What was handed over and may not be settled yet.
#[derive(Debug, Default)]
struct Unsettled {
    receipts: Vec<Receipt>,
    /// Those that are settled are forgotten when there are so many, so that each is looked at a few times only.
    forget_at: usize,
}

impl Unsettled {
    fn add(&mut self, receipt: Receipt) {
        if self.receipts.len() >= self.forget_at {
            self.forget_settled();
            self.forget_at = (self.receipts.len() * 2).max(64);
        }
        self.receipts.push(receipt);
    }

    fn is_empty(&mut self) -> bool {
        self.forget_settled();
        self.receipts.is_empty()
    }

    fn clear(&mut self) {
        self.receipts.clear();
    }

    fn forget_settled(&mut self) {
        self.receipts.retain(|receipt| receipt.is_held());
    }
}
