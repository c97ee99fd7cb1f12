//! spec-tacles/gateway's file: its keys are the variables' names, written otherwise.

use serde_json::{Value, json};

use super::FileError;
use super::settings::Settings;

pub(super) fn translate(settings: &mut Settings<'_>) -> Result<(), FileError> {
    settings.text("token", "DISCORD_TOKEN")?;
    settings.list("events", "DISCORD_EVENTS")?;
    settings.list("intents", "DISCORD_INTENTS")?;
    settings.text("raw_intents", "DISCORD_RAW_INTENTS")?;
    settings.text("gateway_version", "DISCORD_API_VERSION")?;
    settings.section("api", |api| {
        api.text("scheme", "DISCORD_API_PROTOCOL")?;
        api.text("host", "DISCORD_API_HOST")?;
        api.text("version", "DISCORD_API_VERSION")
    })?;
    settings.section("shards", |shards| {
        shards.text("count", "DISCORD_SHARD_COUNT")?;
        shards.list("ids", "DISCORD_SHARD_IDS")
    })?;
    settings.section("broker", |broker| {
        match broker.take("type") {
            None => {}
            // Redis is a mistake, as in the variable. Whatever else is written there, it went by standard input and output.
            Some(Value::String(kind)) => {
                let kind = if matches!(kind.as_str(), "amqp" | "redis") { kind } else { "stdio".to_owned() };
                broker.put("BROKER_TYPE", "type", kind);
            }
            Some(other) => return Err(broker.wrong("type", &other, "\"amqp\", or \"stdio\"")),
        }
        broker.text("group", "BROKER_GROUP")?;
        broker.text("message_timeout", "BROKER_MESSAGE_TIMEOUT")
    })?;
    settings.section("prometheus", |prometheus| {
        prometheus.text("address", "PROMETHEUS_ADDRESS")?;
        prometheus.text("endpoint", "PROMETHEUS_ENDPOINT")
    })?;
    settings.section("shard_store", |store| match store.take("type") {
        Some(Value::String(kind)) if kind == "redis" => {
            store.take("prefix");
            store.warn("type", "Optic needs no Redis: sessions are kept in RabbitMQ");
            Ok(())
        }
        Some(Value::String(kind)) => {
            store.put("SHARD_STORE_TYPE", "type", kind);
            store.text("prefix", "SHARD_STORE_PREFIX")
        }
        Some(other) => Err(store.wrong("type", &other, "a text")),
        None => store.text("prefix", "SHARD_STORE_PREFIX"),
    })?;
    match settings.take("presence") {
        None => {}
        Some(Value::Object(mut presence)) => {
            // So it was written before a presence could have several.
            if let Some(game) = presence.remove("game") {
                presence.entry("activities").or_insert_with(|| json!([game]));
            }
            if !presence.is_empty() {
                settings.put("DISCORD_PRESENCE", "presence", Value::Object(presence).to_string());
            }
        }
        Some(other) => return Err(settings.wrong("presence", &other, "a table")),
    }
    settings.section("amqp", |amqp| amqp.text("url", "AMQP_URL"))?;
    if settings.take("redis").is_some() {
        settings.warn("redis", "not needed, and not read: RabbitMQ keeps the sessions");
    }
    Ok(())
}
