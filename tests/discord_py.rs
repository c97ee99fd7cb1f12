//! The real discord.py runs against the simulator: what it parses is what Discord sends.
//!
//! `OPTIC_TEST_PYTHON` names an interpreter that has discord.py.

use std::time::Duration;

use optic::simulator::{Settings, Simulator};
use serde_json::Value;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// Every event that has an example, less what discord.py has to have asked for.
fn events() -> Vec<String> {
    let tables: Value = serde_json::from_str(include_str!("data/discord-gateway.json")).expect("the tables are JSON");
    let names = tables["events"].as_array().expect("events").iter();
    let names = names.map(|event| event["name"].as_str().expect("a name").to_owned());
    // GUILD_DELETE would take away the guild that the others happen in.
    names.filter(|name| !["READY", "RESUMED", "GUILD_DELETE"].contains(&name.as_str())).collect()
}

#[tokio::test]
async fn discord_py_logs_in_reads_every_event_and_resumes() {
    let python = std::env::var("OPTIC_TEST_PYTHON").expect(
        "OPTIC_TEST_PYTHON must name a Python with discord.py: \
         python3 -m venv target/python && target/python/bin/pip install discord.py zstandard",
    );
    let settings = Settings { identify_window: Duration::ZERO, recommended_shards: 2, ..Settings::default() };
    let simulator = Simulator::bind(settings).await.expect("a free port");
    let (address, handle, stop) = (simulator.address(), simulator.handle(), CancellationToken::new());
    let running = tokio::spawn(simulator.run(stop.clone()));
    handle.control("start", "rate=200", b"").expect("traffic starts");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/discord_py.py");
    let output = Command::new(python)
        .arg(script)
        .arg(format!("http://{address}"))
        .args(events())
        .kill_on_drop(true)
        .output()
        .await
        .expect("the interpreter starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}\n{:?}", handle.stats());
    let summary: Value = serde_json::from_str(&out).expect("a summary");
    assert_eq!((&summary["shards"], &summary["guilds"]), (&2.into(), &4.into()), "{summary}");
    let stats = handle.stats();
    assert_eq!((stats.identifies, stats.resumes, stats.resumes_refused), (2, 1, 0), "{stats:?}");
    assert!(stats.mistakes.is_empty(), "{:?}", stats.mistakes);
    stop.cancel();
    running.await.expect("the simulator did not panic");
}
