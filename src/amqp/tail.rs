//! A worker's side of RabbitMQ: queues for events, consumed and acknowledged. For `optic tail` and the demo.

use futures_util::StreamExt;
use futures_util::stream::{once, select_all};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, message};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::admin::{Admin, bounded};
use super::error::AdminError;
use super::topology::{bind, declare_queue, exchange, queue_name, short};

/// Deliveries on their way to us unacknowledged: enough to hide a round trip, few enough to stop soon.
const PREFETCH: u16 = 256;

/// What to consume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// `BROKER_GROUP`.
    pub group: String,
    /// The subgroup: each gets every event, its members share them.
    pub subgroup: Option<String>,
    /// The events.
    pub events: Vec<String>,
}

/// One event out of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its name, by the key it was published with.
    pub event: String,
    /// `<session>:<seq>`: the same event has the same.
    pub message_id: Option<String>,
    /// The header `shard`.
    pub shard: Option<i64>,
    /// Of the body.
    pub content_type: Option<String>,
    /// Whether it was delivered before, to us or to another.
    pub redelivered: bool,
    /// `d`.
    pub body: Vec<u8>,
}

/// Declares the queues as workers do, consumes them and gives each delivery to `on_delivery`; it is acknowledged after that.
/// Ends when `stop` is cancelled, having given back what it did not look at.
///
/// `ready` is called when all queues are declared, bound and consumed: what is published from then on arrives. A lost
/// connection is made again, and `ready` called again.
///
/// # Errors
/// What only a person can change: login, rights, an exchange of another type.
pub async fn tail(
    admin: &Admin,
    subscription: &Subscription,
    stop: &CancellationToken,
    mut ready: impl FnMut(),
    mut on_delivery: impl FnMut(Delivery),
) -> Result<(), AdminError> {
    loop {
        let consumed = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            // Dropping it while it only declares loses nothing; once deliveries come, it watches `stop` itself.
            channel = prepare(admin, subscription) => match channel {
                Ok((channel, consumers)) => {
                    ready();
                    consume(&channel, consumers, stop, &mut on_delivery).await
                }
                Err(why) => Err(why),
            },
        };
        match consumed {
            Ok(()) => return Ok(()),
            Err(why) if why.is_passing() => warn!(%why, "not consuming, trying on"),
            Err(why) => return Err(why),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(RETRY_PAUSE) => {}
        }
    }
}

/// The connection has a back-off of its own; this one is for what fails on a live connection.
const RETRY_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

async fn prepare(admin: &Admin, subscription: &Subscription) -> Result<(Channel, Vec<lapin::Consumer>), AdminError> {
    let Subscription { group, subgroup, events } = subscription;
    let mut channel = admin.channel().await?;
    exchange(&channel, group).await?;
    for event in events {
        let queue = queue_name(group, subgroup.as_deref(), event);
        declare_queue(admin, &mut channel, &queue, FieldTable::default()).await?;
        bind(&channel, &queue, group, event).await?;
    }
    bounded("limit the prefetch", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
    let mut consumers = Vec::with_capacity(events.len());
    for event in events {
        let queue = queue_name(group, subgroup.as_deref(), event);
        let consumer =
            channel.basic_consume(short(&queue)?, "".into(), BasicConsumeOptions::default(), FieldTable::default());
        consumers.push(bounded(&format!("consume the queue \"{queue}\""), consumer).await?);
    }
    Ok((channel, consumers))
}

async fn consume(
    channel: &Channel,
    consumers: Vec<lapin::Consumer>,
    stop: &CancellationToken,
    on_delivery: &mut impl FnMut(Delivery),
) -> Result<(), AdminError> {
    let tags: Vec<_> = consumers.iter().map(lapin::Consumer::tag).collect();
    // A deleted queue ends its consumer alone: that must be seen, so each says when it ends.
    let mut deliveries =
        select_all(consumers.into_iter().map(|consumer| consumer.map(Some).chain(once(async { None })).boxed()));
    loop {
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            delivery = deliveries.next() => delivery,
        };
        let mut delivery = match delivery {
            Some(Some(Ok(delivery))) => delivery,
            Some(Some(Err(error))) => return Err(AdminError::of("go on consuming", &error)),
            Some(None) | None => return Err(AdminError::Unreachable("a consumer was cancelled".to_owned())),
        };
        let tag = delivery.delivery_tag;
        on_delivery(of(&mut delivery));
        bounded("acknowledge", channel.basic_ack(tag, BasicAckOptions::default())).await?;
    }
    // Cancelled and closed: what was sent ahead to us goes back to its queue.
    for tag in tags {
        bounded("cancel a consumer", channel.basic_cancel(tag, BasicCancelOptions::default())).await?;
    }
    bounded("close the channel", channel.close(200, "OK".into())).await
}

fn of(delivery: &mut message::Delivery) -> Delivery {
    let properties = &delivery.properties;
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    let shard = properties.headers().as_ref().and_then(|headers| headers.inner().get("shard")).and_then(integer);
    Delivery {
        event: delivery.routing_key.to_string(),
        message_id: text(properties.message_id()),
        shard,
        content_type: text(properties.content_type()),
        redelivered: delivery.redelivered,
        body: std::mem::take(&mut delivery.data),
    }
}

/// Publishers write a small number in any of AMQP's integer types.
fn integer(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(n) => Some(n.into()),
        AMQPValue::ShortShortUInt(n) => Some(n.into()),
        AMQPValue::ShortInt(n) => Some(n.into()),
        AMQPValue::ShortUInt(n) => Some(n.into()),
        AMQPValue::LongInt(n) => Some(n.into()),
        AMQPValue::LongUInt(n) => Some(n.into()),
        AMQPValue::LongLongInt(n) => Some(n),
        _ => None,
    }
}
