//! What people do wrong, and what they are told: spec/configuration.md, "Exit codes", "Health" and "Unknown variables"; spec/amqp.md,
//! "Connection"; spec/discord.md, "Closes"; spec/stdio.md.

mod common;

use common::{Bed, OpticProcess, broker, eventually, unique_group};
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use optic::discord::intents::Intents;
use optic::secret::Secret;
use optic::simulator::Settings;
use url::Url;

/// Waits for its end; gives the exit code and its last line.
async fn end(optic: &mut OpticProcess) -> (Option<i32>, String) {
    let code = optic.wait().await.code();
    let lines = optic.stderr();
    assert_no_secret(optic);
    (code, lines.last().cloned().unwrap_or_default())
}

async fn stop(mut optic: OpticProcess) {
    optic.terminate().await;
    let (code, last) = end(&mut optic).await;
    assert_eq!(code, Some(0), "{last}");
}

/// Token and passwords of these tests have this in them.
fn assert_no_secret(optic: &OpticProcess) {
    for line in optic.stderr().iter().chain(&optic.stdout()) {
        assert!(!line.contains("hunter2"), "{line}");
    }
}

/// A broker's address with something else in it.
fn changed(change: impl FnOnce(&mut Url)) -> String {
    let mut url = Url::parse(&broker()).expect("a URL");
    change(&mut url);
    url.into()
}

#[tokio::test]
async fn a_wrong_token_ends_it_at_once_and_is_not_shown() {
    let settings = Settings { token: Some(Secret::new("right")), ..Bed::settings() };
    let bed = Bed::new(&broker(), settings);
    let mut optic = bed.optic();
    let (code, last) = end(&mut optic).await;
    assert_eq!(
        (code, last.as_str()),
        (
            Some(69),
            "optic: Discord refused the token (HTTP 401): check DISCORD_TOKEN, or reset it in the developer portal"
        )
    );
}

#[tokio::test]
async fn a_token_that_is_reset_ends_the_shards_and_says_so() {
    let bed = Bed::new(&broker(), Bed::settings());
    let mut optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.control("close", "code=4004");
    let (code, last) = end(&mut optic).await;
    assert_eq!(code, Some(69), "{last}");
    assert!(last.starts_with("optic: no shard can run: ") && last.contains("DISCORD_TOKEN"), "{last}");
}

#[tokio::test]
async fn intents_that_were_not_granted_are_named() {
    let settings = Settings { granted: Intents::NONE, ..Bed::settings() };
    let bed = Bed::new(&broker(), settings).with("DISCORD_INTENTS", "GUILDS,GUILD_MEMBERS,MESSAGE_CONTENT");
    let mut optic = bed.optic();
    let (code, last) = end(&mut optic).await;
    assert_eq!(code, Some(69), "{last}");
    assert!(last.contains("4014") && last.contains("GUILD_MEMBERS") && last.contains("MESSAGE_CONTENT"), "{last}");
    assert!(
        !last.contains("GUILD_PRESENCES") && last.contains("https://discord.com/developers/applications"),
        "{last}"
    );
}

#[tokio::test]
async fn too_few_shards_are_said_to_be_too_few() {
    let bed = Bed::new(&broker(), Settings { guilds: 100, guilds_per_shard: 10, ..Bed::settings() });
    let mut optic = bed.optic();
    let (code, last) = end(&mut optic).await;
    assert_eq!(code, Some(69), "{last}");
    assert!(last.contains("4011") && last.contains("DISCORD_SHARD_COUNT"), "{last}");
}

#[tokio::test]
async fn one_shard_that_is_refused_does_not_end_the_others() {
    let bed = Bed::new(&broker(), Settings { recommended_shards: 2, max_concurrency: 2, guilds: 4, ..Bed::settings() });
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    bed.gateway.connected(2).await;
    bed.gateway.control("close", "code=4010&shard=1");
    optic.wait_for_line("shard ended for good").await;
    bed.gateway.control("event", "name=MESSAGE_CREATE&shard=0");
    consumer.wait_until("the event", |all| all.iter().any(|message| message.routing_key == "MESSAGE_CREATE")).await;
    let (status, body) = Bed::health(&optic, "/health/ready").await;
    assert!(status == 503 && body.contains("shard 1 is ended"), "{body}");
    stop(optic).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_and_shown_nowhere() {
    let url = changed(|url| url.set_password(Some("hunter2")).expect("it has a host"));
    let bed = Bed::new(&url, Bed::settings());
    let optic = bed.optic();
    let line = optic.wait_for_line("RabbitMQ refuses the user or password").await;
    assert!(line.contains("ERROR"), "{line}");
    let (status, body) = Bed::health(&optic, "/health/ready").await;
    assert!(status == 503 && body.contains("the broker is not connected"), "{body}");
    stop(optic).await;
}

#[tokio::test]
async fn a_virtual_host_that_is_not_there_is_named() {
    let url = changed(|url| url.set_path("/nowhere"));
    let bed = Bed::new(&url, Bed::settings());
    let optic = bed.optic();
    let line = optic.wait_for_line("RabbitMQ refuses the virtual host `nowhere`").await;
    assert!(line.contains("ERROR") && line.contains("create it, give the user permissions there, or correct AMQP_URL"));
    stop(optic).await;
}

#[tokio::test]
async fn an_exchange_of_another_type_is_named_and_what_to_do() {
    let group = unique_group();
    let connection = Connection::connect(&broker(), ConnectionProperties::default()).await.expect("reachable");
    let channel = connection.create_channel().await.expect("a channel");
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare(group.as_str().into(), ExchangeKind::Topic, options, FieldTable::default())
        .await
        .expect("declared");
    let bed = Bed::new(&broker(), Bed::settings()).with("BROKER_GROUP", &group);
    let optic = bed.optic();
    let line = optic.wait_for_line(&format!("the exchange `{group}` exists with other properties")).await;
    for part in ["ERROR", "inequivalent arg 'type'", "delete that exchange, or set another BROKER_GROUP"] {
        assert!(line.contains(part), "{line}");
    }
    // Once that is done it goes on by itself.
    channel.exchange_delete(group.as_str().into(), Default::default()).await.expect("deleted");
    Bed::health_until(&optic, "ready", |status, _| status == 200).await;
    stop(optic).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let bed = Bed::new(&broker(), Bed::settings()).with("HTTP_ADDRESS", &address);
    let mut optic = bed.optic();
    let (code, last) = end(&mut optic).await;
    assert_eq!(
        (code, last),
        (
            Some(69),
            format!(
                "optic: HTTP_ADDRESS={address}: another program has this port; set another one, or HTTP_ADDRESS=off"
            )
        )
    );
}

#[tokio::test]
async fn a_misspelt_variable_is_warned_about() {
    let bed = Bed::new(&broker(), Bed::settings()).with("DISCORD_EVENT", "READY").with("DISCORD_SHARDCOUNT", "3");
    let optic = bed.optic();
    for (wrong, right) in [("DISCORD_EVENT", "DISCORD_EVENTS"), ("DISCORD_SHARDCOUNT", "DISCORD_SHARD_COUNT")] {
        let line = optic.wait_for_line(&format!("variable=\"{wrong}\"")).await;
        assert!(line.contains("WARN") && line.contains(right), "{line}");
    }
    bed.gateway.connected(1).await;
    stop(optic).await;
}

#[tokio::test]
async fn discord_that_cannot_be_reached_is_asked_again() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let bed = Bed::new(&broker(), Bed::settings()).with("DISCORD_API_HOST", &free.to_string());
    let optic = bed.optic();
    let line = optic.wait_for_line("Discord does not tell where its gateway is").await;
    assert!(line.contains("WARN") && line.contains(&free.to_string()), "{line}");
    let (status, body) = Bed::health(&optic, "/health/ready").await;
    assert!(status == 503 && body.contains("no shard is started yet"), "{body}");
    stop(optic).await;
}

/// Without a broker: events on standard output, commands on standard input.
fn stdio() -> Bed {
    Bed::new("", Bed::settings()).with("BROKER_GROUP", "")
}

#[tokio::test]
async fn without_a_broker_events_are_lines_and_lines_are_commands() {
    let bed = stdio();
    let mut optic = bed.optic();
    optic.wait_for_output("{\"event\":\"READY\",\"data\":{").await;
    bed.gateway.connected(1).await;
    bed.gateway.event("MESSAGE_CREATE", b"{\"a\":\"\\n\",\n\"b\":2}");
    optic.wait_for_output(r#"{"event":"MESSAGE_CREATE","data":{"a":"\n", "b":2}}"#).await;

    let packets = bed.gateway.stats().packets;
    let presence = r#"{"op":3,"d":{"since":null,"activities":[],"status":"idle","afk":false}}"#;
    optic.write_line(&format!(r#"{{"event":"0","data":{presence}}}"#)).await;
    eventually("the command", || bed.gateway.stats().packets == packets + 1).await;
    optic
        .write_line(&format!(r#"{{"event":"SEND","data":{{"guild_id":"41771983423143937","packet":{presence}}}}}"#))
        .await;
    eventually("the command by guild", || bed.gateway.stats().packets == packets + 2).await;

    for (line, told) in [
        ("nonsense", "line=3 error=it is not {\"event\":SHARD or \"SEND\",\"data\":PACKET}"),
        (r#"{"event":"7","data":{"op":3,"d":{}}}"#, "line=4 error=shard 7"),
        (
            r#"{"event":"SOON","data":{"op":3,"d":{}}}"#,
            "line=5 error=\"event\" is \"SOON\"; write a shard's number, or SEND",
        ),
        (r#"{"event":0,"data":{"op":2,"d":{}}}"#, "line=6 error="),
        (r#"{"event":"SEND","data":{"guild_id":"x","packet":{}}}"#, "line=7 error=\"guild_id\" is not a number: \"x\""),
    ] {
        optic.write_line(line).await;
        let warning = optic.wait_for_line(told).await;
        assert!(warning.contains("is no command, and is left out"), "{warning}");
    }
    // A bad line ends nothing, nor does the end of the input.
    optic.close_stdin();
    optic.wait_for_line("end of standard input: no more commands").await;
    bed.gateway.event("TYPING_START", b"1");
    optic.wait_for_output(r#"{"event":"TYPING_START","data":1}"#).await;
    let stats = bed.gateway.stats();
    assert_eq!((stats.packets, stats.mistakes), (packets + 2, Default::default()));
    stop(optic).await;
}

#[tokio::test]
async fn when_nobody_reads_standard_output_any_more_it_ends() {
    let bed = stdio();
    let mut optic = bed.optic();
    optic.wait_for_output("READY").await;
    bed.gateway.connected(1).await;
    optic.close_stdout();
    // The first of them may still fit into the pipe.
    bed.gateway.control("start", "rate=100");
    let (code, last) = end(&mut optic).await;
    assert_eq!(code, Some(1), "{last}");
    assert!(last.starts_with("optic: standard output cannot be written to: Broken pipe"), "{last}");
    let closes = bed.gateway.stats().closes_received;
    assert_eq!(closes.into_iter().collect::<Vec<_>>(), [(4000, 1)], "the session is left in order");
}

#[tokio::test]
async fn a_flood_on_standard_output_is_whole() {
    let bed = stdio();
    let optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.flood(5_000);
    let lines = |optic: &OpticProcess| optic.stdout().len();
    eventually("every line", || lines(&optic) == 5_003).await;
    for (line, event) in optic.stdout().iter().zip(bed.gateway.sent()) {
        let data = String::from_utf8(event.data).expect("JSON");
        assert_eq!(*line, format!("{{\"event\":\"{}\",\"data\":{data}}}", event.name));
    }
    stop(optic).await;
}
