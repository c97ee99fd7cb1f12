//! Queues that hold one message to be read again and again: a shard's session, the cluster's record.
//!
//! A message is published persistent and counts as stored when RabbitMQ confirms it; the queue's limit drops the former one.
//! Reading takes it and puts it back.

use lapin::options::{BasicGetOptions, BasicNackOptions, BasicPublishOptions};
use lapin::{BasicProperties, Channel, Confirmation};

use super::admin::bounded;
use super::error::AdminError;
use super::topology::short;

/// More messages than one are in such a queue only when somebody changed its limit; so many are looked at.
const MOST: usize = 16;

/// What an existing queue holds, oldest first.
pub(super) async fn read(channel: &Channel, queue: &str) -> Result<Vec<Vec<u8>>, AdminError> {
    let name = short(queue)?;
    let action = format!("read the queue \"{queue}\"");
    let (mut bodies, mut tags) = (Vec::new(), Vec::new());
    while bodies.len() < MOST {
        let got = bounded(&action, channel.basic_get(name.clone(), BasicGetOptions::default())).await?;
        let Some(message) = got else { break };
        tags.push(message.delivery.delivery_tag);
        bodies.push(message.delivery.data);
    }
    for tag in tags {
        // One by one: between them there may be deliveries of the channel's consumers. Each goes back to its own place.
        let put_back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        bounded(&action, channel.basic_nack(tag, put_back)).await?;
    }
    Ok(bodies)
}

/// Publishes to the queue and waits for the confirm. Must be the only one in flight on its channel: what comes back is it.
pub(super) async fn store(channel: &Channel, queue: &str, body: &[u8], what: &str) -> Result<(), AdminError> {
    let action = format!("store {what} in \"{queue}\"");
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_app_id("optic".into());
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let name = short(queue)?;
    let confirmed =
        bounded(&action, async { channel.basic_publish("".into(), name, mandatory, body, properties).await?.await })
            .await?;
    let reason = match confirmed {
        Confirmation::Ack(None) => return Ok(()),
        Confirmation::Ack(Some(_)) => "there is no such queue",
        Confirmation::Nack(_) => "it refused the message (nack)",
        Confirmation::NotRequested => "the channel does not confirm",
    };
    Err(AdminError::NotStored { action, reason: reason.to_owned() })
}
