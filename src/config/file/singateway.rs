//! sinGateway's file: token, 신경's address, intents, clusters and forwarding rules.

use serde_json::Value;

use super::FileError;
use super::settings::Settings;

/// Python's levels, and ours.
const LEVELS: [(&str, &str); 5] =
    [("CRITICAL", "error"), ("ERROR", "error"), ("WARNING", "warn"), ("INFO", "info"), ("DEBUG", "debug")];

pub(super) fn translate(settings: &mut Settings<'_>) -> Result<(), FileError> {
    settings.text("token", "DISCORD_TOKEN")?;
    settings.text("singyeongDSN", "SINGYEONG_DSN")?;
    settings.text("intents", "DISCORD_INTENTS")?;
    if settings.take("redisDSN").is_some() {
        settings.warn("redisDSN", "not needed, and not read: RabbitMQ keeps the sessions (AMQP_URL)");
    }
    match settings.take("loggingLevel") {
        None => {}
        Some(Value::String(text)) => {
            let level = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
            let level = level.map_or(text.clone(), |(_, level)| (*level).to_owned());
            settings.put("LOG_LEVEL", "loggingLevel", level);
        }
        Some(other) => return Err(settings.wrong("loggingLevel", &other, "INFO, WARNING or the like")),
    }
    settings.section("clustering", clustering)?;
    match settings.take("forwarding") {
        None => {}
        Some(rules @ (Value::Array(_) | Value::Object(_))) => {
            settings.put("FORWARDING", "forwarding", rules.to_string());
        }
        Some(other) => return Err(settings.wrong("forwarding", &other, "a list of rules")),
    }
    Ok(())
}

fn clustering(settings: &mut Settings<'_>) -> Result<(), FileError> {
    let enabled = match settings.take("enabled") {
        None => false,
        Some(Value::Bool(enabled)) => enabled,
        Some(other) => return Err(settings.wrong("enabled", &other, "true or false")),
    };
    if enabled {
        settings.text("clusterCount", "CLUSTER_COUNT")?;
        settings.text("clusterShards", "CLUSTER_SHARDS")?;
    } else {
        settings.take("clusterCount");
        settings.take("clusterShards");
    }
    Ok(())
}
