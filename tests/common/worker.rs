//! A worker that sends commands, as Spectacles' clients do, and looks into queues.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use super::must;

/// A connection of its own, with one channel.
pub struct Worker {
    _connection: Connection,
    channel: Channel,
    group: String,
    replies: lapin::Consumer,
}

/// A message out of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub body: String,
    /// The body, byte for byte.
    pub bytes: Vec<u8>,
    pub content_type: Option<String>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
    pub message_id: Option<String>,
    pub priority: Option<u8>,
    pub expiration: Option<String>,
    pub delivery_mode: Option<u8>,
    pub headers: BTreeMap<String, String>,
}

impl Worker {
    /// Connects; takes answers by direct reply-to.
    pub async fn connect(url: &str, group: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("RabbitMQ is there");
        let channel = connection.create_channel().await.expect("a channel");
        let no_ack = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let replies = channel
            .basic_consume("amq.rabbitmq.reply-to".into(), "".into(), no_ack, FieldTable::default())
            .await
            .expect("direct reply-to");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { _connection: connection, channel, group: group.to_owned(), replies }
    }

    /// Declares `G:<key>` and binds it, as workers may.
    pub async fn declare(&self, key: &str) {
        let (name, durable) = (self.queue(key), QueueDeclareOptions { durable: true, ..Default::default() });
        self.channel.queue_declare(name.clone(), durable, FieldTable::default()).await.expect("declared");
        let bind = QueueBindOptions::default();
        self.channel
            .queue_bind(name, self.group.as_str().into(), key.into(), bind, FieldTable::default())
            .await
            .expect("bound");
    }

    /// Deletes `G:<key>`.
    pub async fn delete(&self, key: &str) {
        self.channel.queue_delete(self.queue(key), QueueDeleteOptions::default()).await.expect("deleted");
    }

    /// Publishes a persistent command in JSON, which a queue takes.
    pub async fn publish(&self, key: &str, body: &str) {
        self.publish_with(
            key,
            body.as_bytes(),
            BasicProperties::default().with_content_type("application/json".into()),
        )
        .await;
    }

    /// The same with these properties.
    pub async fn publish_with(&self, key: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = properties.with_delivery_mode(2);
        let confirm = self
            .channel
            .basic_publish(self.group.as_str().into(), key.into(), options, body, properties)
            .await
            .expect("published")
            .await
            .expect("confirmed");
        assert!(matches!(confirm, lapin::Confirmation::Ack(None)), "{key}: {confirm:?}");
    }

    /// Publishes a command that asks for an answer. `correlation_id` names it.
    pub async fn ask(&self, key: &str, body: &[u8], correlation_id: &str) {
        let properties = BasicProperties::default()
            .with_reply_to("amq.rabbitmq.reply-to".into())
            .with_correlation_id(correlation_id.into());
        self.publish_with(key, body, properties).await;
    }

    /// The next answer.
    pub async fn answer(&mut self) -> Message {
        let delivery = must("an answer", self.replies.next()).await.expect("the channel is open").expect("a delivery");
        message(&delivery.properties, delivery.data)
    }

    /// Whether an answer is here already.
    pub fn has_answer(&mut self) -> bool {
        use futures_util::FutureExt;
        self.replies.next().now_or_never().is_some()
    }

    /// Takes the first message out of `G:<key>`, if there is one.
    pub async fn take(&self, key: &str) -> Option<Message> {
        let options = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(self.queue(key), options).await.expect("the queue is there")?;
        Some(message(&got.delivery.properties, got.delivery.data))
    }

    /// Waits for a message in `G:<key>` and takes it.
    pub async fn wait_for(&self, key: &str) -> Message {
        must(&format!("a message in {key}"), async {
            loop {
                if let Some(message) = self.take(key).await {
                    return message;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await
    }

    /// How many messages of `G:<key>` nobody has, and how many consumers it has.
    pub async fn look(&self, key: &str) -> (u32, u32) {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = self.channel.queue_declare(self.queue(key), passive, FieldTable::default()).await;
        let found = found.expect("the queue is there");
        (found.message_count(), found.consumer_count())
    }

    /// Looks until it is so.
    pub async fn sees(&self, key: &str, (messages, consumers): (u32, u32)) {
        must(&format!("{messages} messages and {consumers} consumers in {key}"), async {
            while self.look(key).await != (messages, consumers) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    fn queue(&self, key: &str) -> ShortString {
        format!("{}:{key}", self.group).into()
    }
}

fn message(properties: &BasicProperties, body: Vec<u8>) -> Message {
    let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
    let header = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => text.to_string(),
        other => format!("{other:?}"),
    };
    let headers = properties.headers().as_ref().map(|headers| headers.inner().iter());
    Message {
        body: String::from_utf8_lossy(&body).into_owned(),
        bytes: body,
        content_type: text(properties.content_type()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        message_id: text(properties.message_id()),
        priority: *properties.priority(),
        expiration: text(properties.expiration()),
        delivery_mode: *properties.delivery_mode(),
        headers: headers.into_iter().flatten().map(|(name, value)| (name.to_string(), header(value))).collect(),
    }
}
