//! The straightforward pipeline: twilight's shards, each packet's envelope read with serde, `d` published with lapin.
//!
//! Each shard has a channel, and no more than [`WINDOW`] publishes without a confirm. That is all: no session is kept over a
//! restart, a lost broker ends it, and what was not confirmed by then is lost.
//!
//! Environment: `GATEWAY_URL`, `SHARDS`, `INTENTS` (a number), `AMQP_URL`, `GROUP` (the exchange).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use twilight_gateway::queue::InMemoryQueue;
use twilight_gateway::{ConfigBuilder, Intents, Message, Shard, ShardId};

/// Publishes of a shard that may wait for their confirm.
const WINDOW: usize = 256;

/// An event's packet; `d` stays as it came.
#[derive(Deserialize)]
struct Packet<'a> {
    op: u8,
    #[serde(borrow)]
    t: Option<Cow<'a, str>>,
    #[serde(borrow)]
    d: &'a RawValue,
}

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let variable = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let shards: u32 = variable("SHARDS")?.parse()?;
    let intents = Intents::from_bits_truncate(variable("INTENTS")?.parse()?);
    let exchange = ShortString::from(variable("GROUP")?);

    let broker = Connection::connect(&variable("AMQP_URL")?, ConnectionProperties::default()).await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let channel = broker.create_channel().await?;
    channel.exchange_declare(exchange.clone(), ExchangeKind::Direct, durable, FieldTable::default()).await?;

    // All may identify at once: the simulator is told the same.
    let identifies = InMemoryQueue::new(u16::try_from(shards)?, 1000, Duration::from_secs(86_400), 1000);
    let config = ConfigBuilder::new("benchmark".to_owned(), intents)
        .proxy_url(variable("GATEWAY_URL")?)
        .queue(identifies)
        .build();

    let mut tasks = JoinSet::new();
    for id in 0..shards {
        let channel = broker.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        tasks.spawn(run(Shard::with_config(ShardId::new(id, shards), config.clone()), channel, exchange.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Publishes a shard's events until its connection to the broker fails.
async fn run(mut shard: Shard<InMemoryQueue>, channel: Channel, exchange: ShortString) -> Result<()> {
    let mut unconfirmed = VecDeque::with_capacity(WINDOW);
    while let Some(message) = shard.next().await {
        let text = match message {
            Ok(Message::Text(text)) => text,
            Ok(Message::Close(_)) => continue,
            Err(error) => {
                eprintln!("shard {}: {error}", shard.id().number());
                continue;
            }
        };
        let Ok(Packet { op: 0, t: Some(name), d }) = serde_json::from_str(&text) else { continue };
        if unconfirmed.len() == WINDOW
            && let Some(oldest) = unconfirmed.pop_front()
        {
            confirmed(oldest).await?;
        }
        let properties = BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(1);
        let publish = channel.basic_publish(
            exchange.clone(),
            name.as_ref().into(),
            BasicPublishOptions::default(),
            d.get().as_bytes(),
            properties,
        );
        unconfirmed.push_back(publish.await?);
    }
    Ok(())
}

async fn confirmed(publish: lapin::PublisherConfirm) -> Result<()> {
    if publish.await?.is_nack() { Err("the broker refused an event".into()) } else { Ok(()) }
}
