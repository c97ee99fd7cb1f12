//! A bot's slash commands, with lapin: takes INTERACTION_CREATE, answers "pong", and asks Discord who has typed it.
//! `AMQP_URL=amqp://user:password@host DISCORD_API=https://discord.com/api/v10 cargo run --example worker`
use futures_util::{StreamExt, TryStreamExt, stream};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, options::*, types::ShortString};
use serde_json::{Value, json};
use std::{cell::RefCell, collections::VecDeque, env};
use tokio::signal::unix::{SignalKind, signal};

async fn handle(channel: &Channel, group: ShortString, body: &[u8]) -> anyhow::Result<()> {
    let interaction: Value = serde_json::from_slice(body)?;
    let text = |at: &str| interaction.pointer(at).and_then(Value::as_str).ok_or(anyhow::Error::msg("no interaction"));
    let is_command = interaction["type"] == 2; // REST below is the worker's own business
    if is_command && let Ok(api) = env::var("DISCORD_API") {
        let post = ureq::post(format!("{api}/interactions/{}/{}/callback", text("/id")?, text("/token")?));
        tokio::task::spawn_blocking(move || post.send_json(json!({"type": 4, "data": {"content": "pong"}}))).await??;
    }
    if is_command && let (Ok(guild), Ok(user)) = (text("/guild_id"), text("/member/user/id")) {
        let send = json!({"guild_id": guild, "packet": {"op": 8, "d": {"guild_id": guild, "user_ids": [user]}}});
        let with = BasicProperties::default().with_reply_to("amq.rabbitmq.reply-to".into()).with_delivery_mode(2);
        channel.basic_publish(group, "SEND".into(), Default::default(), send.to_string().as_bytes(), with).await?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (mut terminated, handled) = (signal(SignalKind::terminate())?, RefCell::new(VecDeque::new()));
    let group: ShortString = env::var("BROKER_GROUP").unwrap_or("gateway".into()).into();
    let (event, queue) = ("INTERACTION_CREATE", ShortString::from(format!("{group}:INTERACTION_CREATE")));
    let for_ever = ConnectionProperties::default().configure_backoff(|backoff| backoff.without_max_times());
    let connection = Connection::connect(&env::var("AMQP_URL")?, for_ever.enable_auto_recover()).await?;
    let channel = connection.create_channel().await?; // a lost connection comes back, with all below
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(group.clone(), lapin::ExchangeKind::Direct, durable, Default::default()).await?;
    channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), Default::default()).await?; // no arguments
    channel.queue_bind(queue.clone(), group.clone(), event.into(), Default::default(), Default::default()).await?;
    channel.basic_qos(20, Default::default()).await?; // so many at a time
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let answers = channel.basic_consume("amq.rabbitmq.reply-to".into(), "".into(), no_ack, Default::default()).await?;
    let events = channel.basic_consume(queue, "".into(), Default::default(), Default::default()).await?;
    let told = answers.for_each(async |a| a.map_or((), |a| println!("gateway {}", String::from_utf8_lossy(&a.data))));
    let deleted = stream::once(async { anyhow::bail!("the queue was deleted") });
    let events = events.filter_map(async |event| event.ok()).map(Ok).chain(deleted).take_until(terminated.recv());
    let work = events.try_for_each_concurrent(None, async |event| {
        let id = event.properties.message_id().clone();
        let known = id.is_some() && handled.borrow().contains(&id);
        handled.borrow_mut().push_front(id.clone());
        handled.borrow_mut().truncate(1_000); // so many, to tell what came twice
        let done = if known { Ok(()) } else { handle(&channel, group.clone(), &event.data).await };
        let ok = done.inspect_err(|error| println!("failed {error}")).is_ok();
        handled.borrow_mut().retain(|known| ok || *known != id);
        // Acknowledged after the work. What fails is not tried again: Discord takes answers for 3 s only.
        let _ = if ok { event.ack(Default::default()).await } else { event.reject(Default::default()).await };
        Ok(())
    });
    tokio::select! { ended = work => ended?, () = told => anyhow::bail!("RabbitMQ answers no more") }
    let _ = connection.close(200, "done".into()).await; // cannot be done where RabbitMQ is away
    std::process::exit(0) // without an end of the runtime, which lapin's threads use
}
