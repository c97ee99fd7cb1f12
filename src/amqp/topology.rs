//! Names in RabbitMQ, and declaring what they name: spec/amqp.md, "Names" and "Declaring".

use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use tracing::info;

use super::admin::{Admin, bounded};
use super::error::AdminError;
use crate::discord::ids::ShardId;

/// The queue in which workers of a group (and a subgroup) find an event: `G:event`, `G:subgroup:event`.
pub fn queue_name(group: &str, subgroup: Option<&str>, event: &str) -> String {
    match subgroup {
        Some(subgroup) => format!("{group}:{subgroup}:{event}"),
        None => format!("{group}:{event}"),
    }
}

/// The queue that holds a shard's session: `G:<prefix>.<shard>`, where the prefix begins with `optic:`.
pub fn session_queue(group: &str, prefix: &str, shard: ShardId) -> String {
    format!("{group}:{prefix}.{shard}")
}

/// The queue by which processes take turns to identify in a bucket: `G:optic:identify.<bucket>`.
pub fn identify_queue(group: &str, bucket: u32) -> String {
    format!("{group}:optic:identify.{bucket}")
}

/// Declares the group's exchange: direct, durable.
///
/// # Errors
/// [`AdminError::Conflict`] when there is an exchange of this name with another type: events could not be published there.
pub async fn declare_exchange(admin: &Admin, group: &str) -> Result<(), AdminError> {
    exchange(&admin.channel().await?, group).await
}

/// Declares the queues of these events as workers do, and binds them, so that nothing is lost before the first worker runs.
///
/// # Errors
/// The first that failed; those before it are declared.
pub async fn declare_events(
    admin: &Admin,
    group: &str,
    subgroup: Option<&str>,
    events: &[String],
) -> Result<(), AdminError> {
    let mut channel = admin.channel().await?;
    exchange(&channel, group).await?;
    for event in events {
        let queue = queue_name(group, subgroup, event);
        declare_queue(admin, &mut channel, &queue, FieldTable::default()).await?;
        bind(&channel, &queue, group, event).await?;
    }
    Ok(())
}

/// Deletes queues with all that is in them, and an exchange. What does not exist is no error.
///
/// # Errors
/// The first that failed; those before it are gone.
pub async fn delete(admin: &Admin, exchange: &str, queues: &[String]) -> Result<(), AdminError> {
    let channel = admin.channel().await?;
    for queue in queues {
        let deleted = channel.queue_delete(short(queue)?, QueueDeleteOptions::default());
        bounded(&format!("delete the queue \"{queue}\""), deleted).await?;
    }
    let deleted = channel.exchange_delete(short(exchange)?, ExchangeDeleteOptions::default());
    bounded(&format!("delete the exchange \"{exchange}\""), deleted).await
}

pub(super) async fn exchange(channel: &Channel, group: &str) -> Result<(), AdminError> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(short(group)?, ExchangeKind::Direct, options, FieldTable::default());
    match bounded(&format!("declare the direct, durable exchange \"{group}\""), declared).await {
        Err(AdminError::Conflict { action, reason }) => {
            let reason = format!("{reason}. Delete that exchange, or set BROKER_GROUP to another name");
            Err(AdminError::Conflict { action, reason })
        }
        declared => declared,
    }
}

/// Declares a durable queue, or takes it as it is: the worker that declared it with arguments of its own (or the broker's
/// default type, when it was another) has its reasons. A refusal closes the channel: `channel` is then a new one.
pub(super) async fn declare_queue(
    admin: &Admin,
    channel: &mut Channel,
    queue: &str,
    arguments: FieldTable,
) -> Result<(), AdminError> {
    let name = short(queue)?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let action = format!("declare the queue \"{queue}\"");
    match bounded(&action, channel.queue_declare(name.clone(), options, arguments)).await {
        Ok(_) => Ok(()),
        Err(AdminError::Conflict { reason, .. }) => {
            info!(%queue, %reason, "the queue exists with other properties and is used as it is");
            *channel = admin.channel().await?;
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            bounded(&action, channel.queue_declare(name, passive, FieldTable::default())).await.map(drop)
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), AdminError> {
    let bound = channel.queue_bind(
        short(queue)?,
        short(exchange)?,
        short(key)?,
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bounded(&format!("bind the queue \"{queue}\" to the exchange \"{exchange}\""), bound).await
}

/// A name as AMQP carries it.
pub(super) fn short(name: &str) -> Result<ShortString, AdminError> {
    ShortString::try_new(name).map_err(|_| AdminError::NameTooLong(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_layout() {
        assert_eq!(queue_name("gateway", None, "MESSAGE_CREATE"), "gateway:MESSAGE_CREATE");
        assert_eq!(queue_name("gateway", Some("logs"), "MESSAGE_CREATE"), "gateway:logs:MESSAGE_CREATE");
        assert_eq!(session_queue("gateway", "optic:session", ShardId::new(7)), "gateway:optic:session.7");
        assert_eq!(identify_queue("gateway", 3), "gateway:optic:identify.3");
    }

    #[test]
    fn a_name_too_long_for_amqp_is_an_error_and_no_panic() {
        assert!(short(&"x".repeat(255)).is_ok());
        assert!(matches!(short(&"x".repeat(256)), Err(AdminError::NameTooLong(_))));
    }
}
