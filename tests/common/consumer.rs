//! A worker as Spectacles' clients are: durable queue without arguments, bound, acknowledging what it has.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties, ExchangeKind, message};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::must;

/// Most messages acknowledged at once.
const BATCH: usize = 200;

/// One message, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub routing_key: String,
    pub message_id: Option<String>,
    pub kind: Option<String>,
    pub content_type: Option<String>,
    pub delivery_mode: Option<u8>,
    pub expiration: Option<String>,
    pub app_id: Option<String>,
    pub timestamp: Option<u64>,
    pub shard: Option<i64>,
    pub redelivered: bool,
    pub body: Vec<u8>,
}

impl Received {
    /// The `<seq>` of a message id `<session>:<seq>`.
    pub fn sequence(&self) -> u64 {
        let id = self.message_id.as_deref().expect("the message has an id");
        id.rsplit(':').next().and_then(|seq| seq.parse().ok()).unwrap_or_else(|| panic!("no sequence in {id:?}"))
    }
}

/// Collects what arrives in the queues of a group, over restarts of the broker too. Ends when dropped.
pub struct Consumer {
    received: Arc<watch::Sender<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Consumer {
    /// Declares `G:event` for each event, binds and consumes; from then on nothing published is missed.
    pub async fn start(url: &str, group: &str, events: &[&str]) -> Self {
        Self::of_queues(url, group, events.iter().map(|event| (format!("{group}:{event}"), vec![*event])).collect())
            .await
    }

    /// One queue for all these events, so that their order among each other is seen.
    pub async fn start_in_one_queue(url: &str, group: &str, events: &[&str]) -> Self {
        Self::of_queues(url, group, vec![(format!("{group}:all:events"), events.to_vec())]).await
    }

    async fn of_queues(url: &str, group: &str, queues: Vec<(String, Vec<&str>)>) -> Self {
        let received = Arc::new(watch::Sender::new(Vec::new()));
        let (ready, mut is_ready) = watch::channel(false);
        let (url, group) = (url.to_owned(), group.to_owned());
        let queues: Vec<(String, Vec<String>)> =
            queues.into_iter().map(|(queue, keys)| (queue, keys.into_iter().map(str::to_owned).collect())).collect();
        let into = received.clone();
        let task = tokio::spawn(async move {
            loop {
                // Ends with the connection: RabbitMQ then delivers again what was not acknowledged.
                let _ = consume(&url, &group, &queues, &into, &ready).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        must("the consumer's start", is_ready.wait_for(|ready| *ready)).await.expect("the task goes on");
        Self { received, task }
    }

    /// Everything so far, in the order of arrival.
    pub fn received(&self) -> Vec<Received> {
        self.received.borrow().clone()
    }

    /// Waits until what has arrived is enough, and gives it.
    pub async fn wait_until(&self, what: &str, enough: impl FnMut(&Vec<Received>) -> bool) -> Vec<Received> {
        let mut changes = self.received.subscribe();
        must(what, changes.wait_for(enough)).await.expect("the sender is ours").clone()
    }

    /// Waits for this many messages, duplicates counted.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait_until(&format!("{count} messages"), |received| received.len() >= count).await
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("received", &self.received.borrow().len()).finish_non_exhaustive()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn consume(
    url: &str,
    group: &str,
    wanted: &[(String, Vec<String>)],
    into: &watch::Sender<Vec<Received>>,
    ready: &watch::Sender<bool>,
) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let mut queues = Vec::new();
    for (queue, keys) in wanted {
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel.exchange_declare(group.into(), ExchangeKind::Direct, durable, FieldTable::default()).await?;
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await?;
        for key in keys {
            let bind = QueueBindOptions::default();
            channel
                .queue_bind(queue.as_str().into(), group.into(), key.as_str().into(), bind, FieldTable::default())
                .await?;
        }
        channel.basic_qos(1000, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default()).await?;
        queues.push(collect(channel, consumer, into));
    }
    ready.send_replace(true);
    futures_util::future::try_join_all(queues).await.map(drop)
}

/// A queue a channel, so that acknowledging up to a tag says nothing of another queue.
async fn collect(
    channel: lapin::Channel,
    mut consumer: lapin::Consumer,
    into: &watch::Sender<Vec<Received>>,
) -> lapin::Result<()> {
    while let Some(first) = consumer.next().await {
        let mut batch = vec![first?];
        while batch.len() < BATCH
            && let Some(Some(next)) = consumer.next().now_or_never()
        {
            batch.push(next?);
        }
        let last = batch.last().expect("it has a first").delivery_tag;
        into.send_modify(|received| received.extend(batch.into_iter().map(of)));
        channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
    }
    Err(lapin::ErrorKind::FutureCompleted.into())
}

fn of(delivery: message::Delivery) -> Received {
    let properties = &delivery.properties;
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    let shard = properties.headers().as_ref().and_then(|headers| headers.inner().get("shard").cloned());
    Received {
        routing_key: delivery.routing_key.to_string(),
        message_id: text(properties.message_id()),
        kind: text(properties.kind()),
        content_type: text(properties.content_type()),
        delivery_mode: *properties.delivery_mode(),
        expiration: text(properties.expiration()),
        app_id: text(properties.app_id()),
        timestamp: *properties.timestamp(),
        shard: match shard {
            Some(AMQPValue::LongInt(n)) => Some(n.into()),
            Some(AMQPValue::LongUInt(n)) => Some(n.into()),
            Some(AMQPValue::LongLongInt(n)) => Some(n),
            _ => None,
        },
        redelivered: delivery.redelivered,
        body: delivery.data,
    }
}
