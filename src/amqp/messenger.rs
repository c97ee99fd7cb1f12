//! Publishing of what is small and must arrive: commands on their way to a shard, what is set aside, answers.
//!
//! Each message is confirmed on its own. They go out in lanes, and a lane has a channel with one message in flight: lapin may
//! hand a message's return to the confirm of another of its channel, and what comes back alone cannot be mistaken; also what
//! has to be published again is then still before what comes after it. The lanes are enough for some thousand messages a
//! second, and Discord takes two a second for a shard.
//!
//! Over the administration connection: an alarm blocks that, and no consumer.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::admin::Admin;
use super::delivery::Properties;
use super::error::AdminError;
use super::topology::{Queue, short};

/// How many messages are in flight at a time, unless told otherwise. Channels are opened when they are first used.
const LANES: usize = 8;

/// How long a confirm may take before the channel is held to be stuck. An alarm's time does not count.
const PATIENCE: Duration = Duration::from_secs(10);

/// As much of a message's properties goes into one frame, and a larger one would end the connection and all that is on it.
const MOST_PROPERTIES: usize = 8_000;
/// As much of a reason is told: what was sent may be quoted in it, however long that is.
const LONGEST_REASON: usize = 500;

/// A reason as short as headers and logs want it.
pub fn brief(reason: &str) -> &str {
    let end = (0..=reason.len().min(LONGEST_REASON)).rev().find(|end| reason.is_char_boundary(*end));
    &reason[..end.unwrap_or_default()]
}

/// A handle. Cheap to clone; needs no task.
#[derive(Clone, Debug)]
pub struct Messenger {
    admin: Admin,
    lanes: Arc<[Mutex<Option<Channel>>]>,
}

/// A message and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The exchange; empty for the default one, whose keys are queues' names.
    pub exchange: &'a str,
    /// The routing key.
    pub key: &'a str,
    /// Whether it is an error when no queue takes it.
    pub mandatory: bool,
    /// Whether queues keep it over a broker's restart.
    pub persistent: bool,
    /// What goes with it.
    pub properties: &'a Properties,
    /// What it says.
    pub body: &'a [u8],
}

/// Why a message is not where it was to go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No queue takes it. Only of mandatory ones.
    #[error("no queue is bound to the exchange \"{exchange}\" with the key \"{key}\"")]
    Unroutable {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
    },
    /// A queue refused it.
    #[error("RabbitMQ refused a message (nack)")]
    Refused,
    /// It was not published, or whether it was is not known.
    #[error(transparent)]
    Failed(#[from] AdminError),
}

impl PublishError {
    /// Whether the same may succeed later with nobody changing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unroutable { .. } => false,
            Self::Refused => true,
            Self::Failed(error) => error.is_passing(),
        }
    }

    /// Whether queue or exchange are not there, which [`Messenger::declare`] mends.
    pub const fn is_undeclared(&self) -> bool {
        matches!(self, Self::Unroutable { .. } | Self::Failed(AdminError::NotFound { .. }))
    }
}

impl Messenger {
    /// Publishes over this connection.
    pub fn new(admin: Admin) -> Self {
        Self::with_lanes(admin, LANES)
    }

    /// The same with so many lanes, of which there is at least one: for more than commands are.
    pub fn with_lanes(admin: Admin, lanes: usize) -> Self {
        Self { admin, lanes: (0..lanes.max(1)).map(|_| Mutex::new(None)).collect() }
    }

    /// Publishes a message after those that were given to the same lane before; any number is a lane. Done when RabbitMQ has
    /// confirmed it, which for a persistent message means on disk.
    ///
    /// Dropped before its end, the message may be published or not.
    ///
    /// # Errors
    /// At once while an alarm is on. After an error of the connection the message may be published all the same.
    pub async fn publish(&self, lane: usize, message: &Message<'_>) -> Result<(), PublishError> {
        let mut slot = self.lanes[lane % self.lanes.len()].lock().await;
        // lapin sends nothing at all on a blocked connection, and would keep all of it in memory.
        self.admin.unblocked().await?;
        // Taken out: who stops waiting in the middle leaves no channel with something in flight behind.
        let channel = match slot.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => self.admin.confirming_channel().await?,
        };
        let outcome = publish_alone(&self.admin, &channel, message).await?;
        *slot = Some(channel);
        outcome
    }

    /// Declares a queue and its exchange, and binds it: after [`PublishError::is_undeclared`].
    ///
    /// # Errors
    /// The first step that failed.
    pub async fn declare(&self, queue: &Queue) -> Result<(), AdminError> {
        let mut channel = self.admin.channel().await?;
        queue.declare(&self.admin, &mut channel).await.map(drop)
    }
}

/// Publishes on a channel of `admin` that confirms, and has nothing else in flight. What is known of the message is the inner
/// outcome; an outer error leaves the channel in a state that is not known.
pub(super) async fn publish_alone(
    admin: &Admin,
    channel: &Channel,
    message: &Message<'_>,
) -> Result<Result<(), PublishError>, AdminError> {
    let prepared = match Prepared::of(message) {
        Ok(prepared) => prepared,
        // The channel knows nothing of it.
        Err(error) => return Ok(Err(error.into())),
    };
    Ok(match confirmed(admin, channel, message, prepared).await? {
        Confirmation::Ack(None) => Ok(()),
        // It came with the confirm of the only message in flight.
        Confirmation::Ack(Some(_)) => {
            Err(PublishError::Unroutable { exchange: message.exchange.to_owned(), key: message.key.to_owned() })
        }
        Confirmation::Nack(_) => Err(PublishError::Refused),
        Confirmation::NotRequested => unreachable!("the channel confirms"),
    })
}

/// What of a message has to fit into AMQP.
struct Prepared {
    action: String,
    exchange: ShortString,
    key: ShortString,
    properties: BasicProperties,
}

impl Prepared {
    fn of(message: &Message<'_>) -> Result<Self, AdminError> {
        let action = format!("publish to the exchange \"{}\" with the key \"{}\"", message.exchange, message.key);
        let (exchange, key) = (short(message.exchange)?, short(message.key)?);
        let bytes = size(message.properties);
        if bytes > MOST_PROPERTIES {
            let reason = format!("its properties have {bytes} bytes, and at most {MOST_PROPERTIES} can be sent");
            return Err(AdminError::Protocol { action, reason });
        }
        let properties = with_mode(message.properties, message.persistent)?;
        Ok(Self { action, exchange, key, properties })
    }
}

async fn confirmed(
    admin: &Admin,
    channel: &Channel,
    message: &Message<'_>,
    prepared: Prepared,
) -> Result<Confirmation, AdminError> {
    let Prepared { action, exchange, key, properties } = prepared;
    let options = BasicPublishOptions { mandatory: message.mandatory, ..BasicPublishOptions::default() };
    let published = async { channel.basic_publish(exchange, key, options, message.body, properties).await?.await };
    tokio::pin!(published);
    loop {
        match timeout(PATIENCE, &mut published).await {
            Ok(confirmed) => return confirmed.map_err(|error| AdminError::of(&action, &error)),
            // RabbitMQ tells of an alarm only who publishes; what it had read by then it confirms after the alarm, and
            // published once more it would be there twice.
            Err(_) if admin.is_blocked() => {}
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                return Err(AdminError::Unreachable(format!("no confirm within {seconds} s to: {action}")));
            }
        }
    }
}

/// About how many bytes they take in a frame, and not fewer.
fn size(properties: &Properties) -> usize {
    let Properties { content_type, reply_to, correlation_id, message_id, priority: _, expiration, headers } =
        properties;
    let texts = [content_type, reply_to, correlation_id, message_id, expiration];
    let texts: usize = texts.into_iter().flatten().map(|text| 1 + text.len()).sum();
    texts + headers.iter().map(|(name, value)| 6 + name.len() + value.len()).sum::<usize>()
}

fn with_mode(properties: &Properties, persistent: bool) -> Result<BasicProperties, AdminError> {
    let mut all =
        BasicProperties::default().with_app_id("optic".into()).with_delivery_mode(if persistent { 2 } else { 1 });
    if let Some(text) = &properties.content_type {
        all = all.with_content_type(short(text)?);
    }
    if let Some(text) = &properties.reply_to {
        all = all.with_reply_to(short(text)?);
    }
    if let Some(text) = &properties.correlation_id {
        all = all.with_correlation_id(short(text)?);
    }
    if let Some(text) = &properties.message_id {
        all = all.with_message_id(short(text)?);
    }
    if let Some(text) = &properties.expiration {
        all = all.with_expiration(short(text)?);
    }
    if let Some(priority) = properties.priority {
        all = all.with_priority(priority);
    }
    if !properties.headers.is_empty() {
        let mut headers = FieldTable::default();
        for (name, value) in &properties.headers {
            headers.insert(short(name)?, AMQPValue::LongString(value.as_str().into()));
        }
        all = all.with_headers(headers);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_found_before_anything_is_sent() {
        let properties = |text: String| Properties { correlation_id: Some(text), ..Properties::default() };
        let prepared = |key: &str, properties: &Properties| {
            let (exchange, mandatory, persistent, body) = ("", true, true, &b""[..]);
            Prepared::of(&Message { exchange, key, mandatory, persistent, properties, body })
                .map(|prepared| prepared.key)
        };
        assert!(matches!(prepared("key", &properties(String::new())), Ok(key) if key.as_str() == "key"));
        assert!(matches!(prepared(&"k".repeat(256), &properties(String::new())), Err(AdminError::NameTooLong(_))));
        assert!(prepared("key", &properties("c".repeat(256))).is_err());
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!((brief(""), brief("short")), ("", "short"));
        let long = format!("x{}", "ü".repeat(LONGEST_REASON));
        assert_eq!(brief(&long).len(), LONGEST_REASON - 1);
        assert!(long.starts_with(brief(&long)));
    }
}
