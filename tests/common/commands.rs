//! What a worker in any language must find when it sends commands: tests/node/commands.js and tests/python/commands.py.

use optic::simulator::Settings;
use serde_json::{Value, json};
use tokio::process::Command;

use super::worker_program::WorkerProgram;
use super::{Bed, broker};

const SHARDS: u32 = 2;

/// Runs a worker beside Optic with two shards, which Discord writes to in encoding `discord`; `command` gets URL, group and number of shards
/// as arguments, and the encoding of all bodies, events included, as `BROKER_ENCODING`. What all of them ask is looked at here;
/// gives the whole of it.
pub async fn worker_commands(mut command: Command, discord: &str, encoding: &str) -> Value {
    let url = broker();
    // Both shards identify at once.
    let settings = Settings { recommended_shards: SHARDS, max_concurrency: SHARDS, ..Bed::settings() };
    let bed = Bed::new(&url, settings)
        .with("DISCORD_EVENTS", "GUILD_CREATE,GUILD_MEMBERS_CHUNK")
        .with("DISCORD_INTENTS", "GUILDS")
        .with("DISCORD_ENCODING", discord)
        .with("BROKER_ENCODING", encoding);
    command.env("BROKER_ENCODING", encoding);
    let worker = WorkerProgram::start(command.args([&url, &bed.group, &SHARDS.to_string()])).await;
    let mut optic = bed.optic();
    let summary = worker.summary(&optic).await;

    let (shard, answers) = (&summary["shard"], &summary["answers"]);
    assert_eq!(answers["shard"], json!({ "ok": true, "shard": shard }));
    assert_eq!(answers["guild"], json!({ "ok": true, "shard": shard }));
    for (asked, reason) in [("noGuild", "the body has no \"guild_id\""), ("identify", "(Identify) is not for workers")]
    {
        assert_eq!(answers[asked]["ok"], false);
        let error = answers[asked]["error"].as_str().expect("a text");
        assert!(error.contains(reason), "{error}");
    }

    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0));
    let mistakes = bed.gateway.stats().mistakes;
    assert!(mistakes.is_empty(), "{mistakes:?}");
    summary
}
