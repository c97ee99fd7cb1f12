//! spec/configuration.md, "Exit codes", "Secrets" and "Variables": the program itself, as a person or a container runs it.

mod common;

use std::process::Stdio;

use common::{OpticProcess, broker, must, unique_group};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use optic::amqp::admin::Admin;
use optic::amqp::topology::declare_events;
use optic::secret::Secret;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// The program with nothing of ours in its environment.
fn optic(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_optic"));
    command.args(args).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn done(mut command: Command) -> Done {
    let output = must("the program to end", command.output()).await.expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_78_and_every_mistake() {
    let mut command = optic(&[]);
    command.env("DISCORD_SHARD_COUNT", "many").env("LOG_FORMAT", "xml");
    let Done { code, stdout, stderr } = done(command).await;
    assert_eq!((code, stdout.as_str()), (Some(78), ""));
    assert!(stderr.starts_with("optic: the configuration has 3 mistakes:\n  DISCORD_TOKEN is not set"), "{stderr}");
    assert!(
        stderr.contains("\n  DISCORD_SHARD_COUNT=\"many\"") && stderr.contains("\n  LOG_FORMAT=\"xml\""),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_2_and_help_with_0() {
    assert_eq!(done(optic(&["dance"])).await.code, Some(2));
    assert_eq!(done(optic(&["tail"])).await.code, Some(2));
    assert_eq!(done(optic(&["--help"])).await.code, Some(0));
}

#[tokio::test]
async fn check_reads_file_and_environment_and_shows_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let (env_file, token) = (folder.path().join("env"), folder.path().join("token"));
    std::fs::write(&token, "hunter2.a.b\n").expect("written");
    let text = format!(
        "DISCORD_TOKEN_FILE={}\nBROKER_GROUP=from-file\nAMQP_URL=amqp://me:hunter2@nowhere.invalid\nHTTP_ADDRESS=off\n",
        token.display()
    );
    std::fs::write(&env_file, text).expect("written");
    let mut command = optic(&["check", "--env-file", env_file.to_str().expect("UTF-8")]);
    command.env("BROKER_GROUP", "from-environment");
    let Done { code, stdout, stderr } = done(command).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for needed in
        ["broker        amqp, amqp://***@nowhere.invalid\n", "group         from-environment\n", "health        off\n"]
    {
        assert!(stdout.contains(needed), "{needed}\n{stdout}");
    }
    assert!(!stdout.contains("hunter2"), "{stdout}");
}

#[tokio::test]
async fn an_env_file_that_is_none_is_told_without_its_content() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "A=1\nhunter2\n").expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let Done { code, stderr, .. } = done(optic(&["check", "--env-file", path])).await;
    assert_eq!(code, Some(78));
    assert_eq!(
        stderr,
        format!(
            "optic: --env-file {path}: line 2 is neither KEY=VALUE nor a comment; write such as \
                        DISCORD_SHARD_COUNT=8, without spaces in the name, or # before a comment\n"
        )
    );
}

/// As sinGateway's documentation shows its file, but for the comma behind a quoted value that stands there.
const SINGATEWAY: &str = include_str!("data/singateway.yml");

#[tokio::test]
async fn singateways_file_serves_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.yml");
    let file = path.to_str().expect("UTF-8");
    std::fs::write(&path, SINGATEWAY).expect("written");
    let mut command = optic(&["check", "--config", file, "--cluster", "1"]);
    command.env("AMQP_URL", "amqp://nowhere.invalid");
    let Done { code, stdout, stderr } = done(command).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for needed in [
        "shards        4-7 of 8\n",
        "intents       intents, as set: GUILDS | GUILD_MESSAGES\n",
        "forwarded     by 1 rules to singyeong://gateway@localhost:4567",
        "redisDSN: not needed, and not read",
    ] {
        assert!(stdout.contains(needed), "{needed}\n{stdout}");
    }
    assert!(!stdout.contains("YOUR_BOT_TOKEN"), "{stdout}");

    let Done { code, stderr, .. } = done(optic(&["check", "--config", file, "--cluster", "0"])).await;
    assert_eq!(code, Some(78));
    let needed = format!("  forwarding in {file} (FORWARDING)=");
    assert!(stderr.contains(&needed) && stderr.contains("set AMQP_URL"), "{stderr}");
    assert!(stderr.contains("(warning) redisDSN: not needed"), "{stderr}");

    std::fs::write(&path, SINGATEWAY.replace("\"/events\"", "\"/events\",")).expect("written");
    let Done { code, stderr, .. } = done(optic(&["--config", file, "--cluster", "0"])).await;
    let expected =
        format!("optic: --config {file}: line 19, column 26: not YAML: a comma stands behind a quoted value");
    assert_eq!(code, Some(78));
    assert!(stderr.starts_with(&expected), "{stderr}");
}

#[tokio::test]
async fn health_of_nobody_is_1() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let mut command = optic(&["health"]);
    command.env("HTTP_ADDRESS", free.to_string());
    let Done { code, stderr, .. } = done(command).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot connect"), "{stderr}");
}

#[tokio::test]
async fn tail_prints_what_a_worker_gets_and_ends_after_its_count() {
    let group = unique_group();
    let (admin, driver) = Admin::new(&Secret::new(broker()), "optic test").expect("a URL");
    let stop = CancellationToken::new();
    let driver = tokio::spawn(driver.run(stop.clone()));
    declare_events(&admin, &group, Some("look"), &["MESSAGE_CREATE".to_owned()]).await.expect("declared");
    let connection = Connection::connect(&broker(), ConnectionProperties::default()).await.expect("reachable");
    let channel = connection.create_channel().await.expect("a channel");
    for n in 1..=3 {
        let properties = BasicProperties::default().with_message_id(format!("s:{n}").into());
        let body = format!("{{\"id\":\"{n}\"}}");
        let options = BasicPublishOptions::default();
        channel
            .basic_publish(group.as_str().into(), "MESSAGE_CREATE".into(), options, body.as_bytes(), properties)
            .await
            .expect("published");
    }
    let tail = |style: &'static str, count: &'static str| {
        let mut command = optic(&["tail", "MESSAGE_CREATE", "--subgroup", "look", style, "--count", count]);
        command.env("AMQP_URL", broker()).env("BROKER_GROUP", &group);
        command
    };
    let Done { code, stdout, stderr } = done(tail("--json", "2")).await;
    assert_eq!(code, Some(0), "{stderr}");
    let lines: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let seen: Vec<_> = lines.iter().map(|line| (line["message_id"].as_str(), line["data"]["id"].as_str())).collect();
    assert_eq!(seen, [(Some("s:1"), Some("1")), (Some("s:2"), Some("2"))]);
    // What it was sent ahead it gave back: the third is there for the next.
    let Done { code, stdout, .. } = done(tail("--full", "1")).await;
    assert_eq!(code, Some(0));
    assert!(stdout.ends_with("{\"id\":\"3\"}\n"), "{stdout}");
    stop.cancel();
    driver.await.expect("ends in order");
}

#[tokio::test]
async fn tail_with_a_wrong_password_ends_with_78_and_does_not_show_it() {
    let mut url = url::Url::parse(&broker()).expect("a URL");
    url.set_password(Some("hunter2")).expect("it has a host");
    let Done { code, stderr, .. } = done(optic(&["tail", "MESSAGE_CREATE", "--url", url.as_str()])).await;
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("refused the login") && !stderr.contains("hunter2"), "{stderr}");
}

#[tokio::test]
async fn tail_ends_in_order_when_it_is_interrupted() {
    let (url, group) = (broker(), unique_group());
    let environment = [("AMQP_URL", url.as_str()), ("BROKER_GROUP", group.as_str())];
    let mut tail = OpticProcess::spawn(&["tail", "MESSAGE_CRAETE"], &environment);
    tail.wait_for_line("did you mean MESSAGE_CREATE?").await;
    tail.wait_for_line("waiting for events").await;
    tail.interrupt().await;
    assert_eq!(tail.wait().await.code(), Some(0));
}
