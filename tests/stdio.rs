//! spec/stdio.md: the program without a server, between a simulated Discord and a pipe.

mod common;

use common::{OpticProcess, must};
use optic::simulator::{Settings, Simulator, Start};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_util::sync::CancellationToken;

/// A simulator for one test, and Optic's environment to run against it.
async fn simulator(stop: &CancellationToken) -> Vec<(&'static str, String)> {
    let simulator = Simulator::bind(Settings { rate: 200.0, start: Start::AtOnce, ..Settings::default() })
        .await
        .expect("a free port");
    let host = simulator.address().to_string();
    tokio::spawn(simulator.run(stop.clone()));
    vec![
        ("DISCORD_TOKEN", "any".to_owned()),
        ("DISCORD_API_PROTOCOL", "http".to_owned()),
        ("DISCORD_API_HOST", host),
        ("BROKER_TYPE", "stdio".to_owned()),
        ("HTTP_ADDRESS", "127.0.0.1:0".to_owned()),
    ]
}

fn borrowed<'a>(environment: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// A terminal, or a pipe whose writer lives on: the read that is under way must not hold up the end.
#[tokio::test]
async fn a_stop_does_not_wait_for_standard_input() {
    let stop = CancellationToken::new();
    let environment = simulator(&stop).await;
    let mut optic = OpticProcess::spawn(&["run"], &borrowed(&environment));
    optic.wait_for_output(r#"{"event":"READY""#).await;
    optic.terminate().await;
    assert!(optic.wait().await.success());
    stop.cancel();
}

/// Whatever Discord writes, lines are JSON, and ids texts.
#[tokio::test]
async fn events_of_a_connection_in_etf_are_lines_of_json() {
    let stop = CancellationToken::new();
    let mut environment = simulator(&stop).await;
    environment.push(("DISCORD_ENCODING", "etf".to_owned()));
    let mut optic = OpticProcess::spawn(&["run"], &borrowed(&environment));
    let line = optic.wait_for_output(r#"{"event":"READY""#).await;
    let ready: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(ready["data"]["shard"], serde_json::json!([0, 1]), "{line}");
    assert_eq!(ready["data"]["user"]["id"], "1371343803441934368", "{line}");
    optic.wait_for_output(r#"{"event":"MESSAGE_CREATE""#).await;
    optic.terminate().await;
    assert!(optic.wait().await.success());
    stop.cancel();
}

#[tokio::test]
async fn nobody_reading_is_an_end_with_a_reason() {
    let stop = CancellationToken::new();
    let environment = simulator(&stop).await;
    let mut optic = tokio::process::Command::new(env!("CARGO_BIN_EXE_optic"))
        .env_clear()
        .envs(borrowed(&environment))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("optic was built");
    let mut stdout = BufReader::new(optic.stdout.take().expect("piped")).lines();
    must("a first line", stdout.next_line()).await.expect("text").expect("a line");
    drop(stdout);
    let ended = must("the end", optic.wait_with_output()).await.expect("it is our child");
    let stderr = String::from_utf8(ended.stderr).expect("UTF-8");
    assert!(!ended.status.success());
    assert!(stderr.contains("standard output cannot be written to"), "{stderr}");
    // What nobody reads is not waited for.
    assert!(!stderr.contains("not every event was confirmed in time"), "{stderr}");
    stop.cancel();
}
