//! Faults between Optic, Discord and those who run it, end to end: whatever happens, no hole at the consumer. spec/discord.md and
//! spec/amqp.md, "Gaps". RabbitMQ's own faults are in broker_faults.rs.

mod common;

use std::time::Duration;

use common::{Bed, Consumer, FaultyLink, OpticProcess, broker, eventually, must};
use optic::simulator::Settings;

/// Events of a flood that is broken into.
const FLOOD: u64 = 15_000;

/// READY and two guilds.
const START: u64 = 3;

/// A bed whose sessions are stored every second.
fn bed(settings: Settings) -> Bed {
    Bed::new(&broker(), settings)
}

fn settings() -> Settings {
    Settings { heartbeat_interval: Duration::from_secs(2), ..Bed::settings() }
}

async fn stop(mut optic: OpticProcess) {
    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0), "{}", optic.stderr().join("\n"));
}

/// Kills Optic in the middle of a flood and starts another: it takes the session up where the store has it.
async fn killed_in_a_flood(bed: Bed) {
    let consumer = bed.consumer(&broker()).await;
    let mut optic = bed.optic();
    bed.gateway.stored().await;
    bed.gateway.flood(FLOOD);
    consumer.wait_for(2_000).await;
    optic.kill().await;
    let there = consumer.received().len() as u64;
    assert!(there < FLOOD, "it was killed in the flood");
    let optic = bed.optic();
    let received = bed.gateway.reached(&consumer, FLOOD + START).await;
    assert!(!received.iter().any(|message| message.is_gap()));
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, stats.resumes), (1, 1), "{stats:?}");
    stop(optic).await;
}

#[tokio::test]
async fn killed_in_a_flood_the_next_process_resumes_from_what_rabbitmq_stores() {
    killed_in_a_flood(bed(settings())).await;
}

#[tokio::test]
async fn killed_in_a_flood_the_next_process_resumes_from_what_a_file_stores() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8").to_owned();
    killed_in_a_flood(bed(settings()).with("SHARD_STORE_TYPE", "file").with("SHARD_STORE_PREFIX", &path)).await;
}

#[tokio::test]
async fn stopped_in_a_flood_it_ends_in_order_and_the_next_start_resumes() {
    let bed = bed(settings());
    let consumer = bed.consumer(&broker()).await;
    let mut optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.flood(FLOOD);
    consumer.wait_for(2_000).await;
    optic.terminate().await;
    let status = tokio::time::timeout(Duration::from_secs(5), optic.wait()).await.expect("gone in 5 s");
    assert_eq!(status.code(), Some(0), "{}", optic.stderr().join("\n"));
    // Or none was read: a simulator that is still at its flood after half a second finds the connection closed.
    let closes = bed.gateway.stats().closes_received;
    assert!(closes.keys().all(|code| *code == 4000), "{closes:?}");

    let optic = bed.optic();
    let received = bed.gateway.reached(&consumer, FLOOD + START).await;
    // All was confirmed before it left, and stored: nothing comes twice.
    let mut ids: Vec<_> = received.iter().filter_map(|message| message.message_id.as_deref()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "no duplicate");
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, stats.resumes), (1, 1));
    stop(optic).await;
}

#[tokio::test]
async fn ctrl_c_stops_it_as_well() {
    let bed = bed(Bed::settings());
    let mut optic = bed.optic();
    bed.gateway.connected(1).await;
    optic.interrupt().await;
    assert_eq!(optic.wait().await.code(), Some(0));
}

/// Two faults a process: with each more the pause before the reconnect grows, as it should.
async fn whatever_discord_does_the_session_is_resumed(compression: &str) {
    let faults = [
        ["reconnect", "close?code=4000"],
        ["drop", "eof"],
        ["garbage?kind=frame", "garbage?kind=json"],
        ["garbage?kind=utf8", "garbage?kind=deflate"],
        ["bomb?mib=1024", "close"],
        ["invalid?resumable=true", "unknown?kind=op"],
    ];
    for faults in faults {
        let bed = bed(Bed::settings()).with("DISCORD_COMPRESSION", compression);
        let consumer = bed.consumer(&broker()).await;
        let optic = bed.optic();
        // A reset connection loses what was sent and not yet read: without READY there would be nothing to resume.
        bed.gateway.reached(&consumer, START).await;
        let (mut resumes, mut events) = (0, START);
        for fault in faults {
            let (verb, query) = fault.split_once('?').unwrap_or((fault, ""));
            bed.gateway.control(verb, query);
            if verb != "unknown" {
                resumes += 1;
                eventually(&format!("a resume after {fault}"), || bed.gateway.stats().resumes >= resumes).await;
            }
            bed.gateway.flood(200);
            events += 200;
            bed.gateway.reached(&consumer, events).await;
        }
        let stats = bed.gateway.stats();
        assert_eq!((stats.identifies, stats.resumes), (1, resumes), "{compression} {faults:?}: {stats:#?}");
        assert_eq!(stats.mistakes, Default::default(), "{compression} {faults:?}");
        assert!(optic.memory().1 < 100 << 20, "a bomb is not inflated: {:?}", optic.memory());
        assert!(!consumer.received().iter().any(|message| message.is_gap()));
        stop(optic).await;
    }
}

#[tokio::test]
async fn with_zlib_the_session_is_resumed_whatever_discord_does() {
    whatever_discord_does_the_session_is_resumed("zlib-stream").await;
}

#[tokio::test]
async fn with_zstd_the_session_is_resumed_whatever_discord_does() {
    whatever_discord_does_the_session_is_resumed("zstd-stream").await;
}

#[tokio::test]
async fn uncompressed_the_session_is_resumed_whatever_discord_does() {
    whatever_discord_does_the_session_is_resumed("none").await;
}

#[tokio::test]
async fn faults_in_a_flood_leave_no_hole() {
    let bed = bed(Bed::settings());
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.flood(3 * FLOOD);
    for (n, (verb, query)) in
        [("drop", ""), ("reconnect", ""), ("garbage", "kind=deflate"), ("close", "code=4001"), ("eof", "")]
            .into_iter()
            .enumerate()
    {
        let before = consumer.received().len();
        consumer.wait_for(before + 500).await;
        bed.gateway.control(verb, query);
        eventually("a resume", || bed.gateway.stats().resumes > n as u64).await;
    }
    let received = bed.gateway.reached(&consumer, 3 * FLOOD + START).await;
    assert!(!received.iter().any(|message| message.is_gap()));
    assert_eq!(bed.gateway.stats().identifies, 1);
    stop(optic).await;
}

#[tokio::test]
async fn close_codes_and_op_9_are_answered_as_the_table_says() {
    let bed = bed(Settings { identify_window: Duration::ZERO, ..Bed::settings() });
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    bed.gateway.connected(1).await;
    for (query, resumes) in [("code=4002", true), ("code=4003", false), ("code=1000", true), ("code=4009", false)] {
        let before = bed.gateway.stats();
        bed.gateway.control("close", query);
        eventually(query, || {
            let now = bed.gateway.stats();
            if resumes { now.resumes > before.resumes } else { now.identifies > before.identifies }
        })
        .await;
        bed.gateway.connected(1).await;
    }
    let before = bed.gateway.stats();
    bed.gateway.control("invalid", "resumable=true");
    eventually("a resume after op 9 true", || bed.gateway.stats().resumes > before.resumes).await;
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, stats.resumes, stats.resumes_refused), (3, 3, 0));
    // Three sessions, each told once.
    bed.gateway.reached(&consumer, 3 * START).await;
    let gaps = consumer.received().iter().filter(|message| message.is_gap()).count();
    assert_eq!(gaps, 2);
    stop(optic).await;
}

#[tokio::test]
async fn a_session_that_is_gone_leaves_one_gap_that_says_so_and_a_new_session() {
    for refused in [false, true] {
        let bed = bed(Settings { identify_window: Duration::ZERO, ..Bed::settings() });
        let consumer = bed.consumer(&broker()).await;
        let optic = bed.optic();
        bed.gateway.connected(1).await;
        bed.gateway.flood(300);
        bed.gateway.reached(&consumer, START + 300).await;
        let old = bed.gateway.sessions().remove(0);
        if refused {
            // Forgotten: the resume after the loss is answered by op 9 false.
            bed.gateway.control("refuse-next-resumes", "");
            bed.gateway.control("drop", "");
        } else {
            bed.gateway.control("invalid", "resumable=false");
        }
        let received = consumer
            .wait_until("the new session's guilds", |received| {
                received.iter().filter(|message| message.routing_key == "GUILD_CREATE").count() == 4
            })
            .await;
        let gaps: Vec<_> = received.iter().enumerate().filter(|(_, message)| message.is_gap()).collect();
        let [(at, gap)] = gaps[..] else { panic!("{} gaps", gaps.len()) };
        let ready = &received[at + 1];
        assert_eq!(ready.routing_key, "READY", "the gap is told before the new session's first event");
        let new = ready.message_id.as_deref().and_then(|id| id.strip_suffix(":1")).expect("a new session");
        let body: serde_json::Value = serde_json::from_slice(&gap.body).expect("JSON");
        assert_eq!(body["shard"], serde_json::json!([0, 1]));
        assert_eq!(body["reason"], "session_invalidated");
        assert_eq!(body["old_session"], old.id.as_str());
        assert_eq!(body["new_session"], new);
        assert_eq!(body["last_committed"], old.last_seq.get());
        let (from, to) = (body["from"].as_u64().expect("ms"), body["to"].as_u64().expect("ms"));
        assert!(from <= to && gap.timestamp == Some(to / 1000), "{body}");
        assert!(body.get("event").is_none_or(serde_json::Value::is_null), "{body}");
        assert_eq!((gap.kind.as_deref(), gap.shard), (Some("OPTIC_GAP"), Some(0)));
        assert_eq!(bed.gateway.stats().identifies, 2);
        stop(optic).await;
    }
}

#[tokio::test]
async fn a_gateway_that_falls_silent_is_left_and_the_session_resumed() {
    // Deaf and silent, with TCP open on both ends: only missing heartbeats tell.
    let bed = bed(settings());
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    bed.gateway.stored().await;
    bed.gateway.control("stall", "ms=0&deaf=true");
    bed.gateway.control("start", "rate=500&events=1000");
    optic.wait_for_line("nothing came between two heartbeats").await;
    let received = bed.gateway.reached(&consumer, START + 1_000).await;
    assert!(!received.iter().any(|message| message.is_gap()));
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, stats.resumes), (1, 1));
    stop(optic).await;
}

#[tokio::test]
async fn a_line_to_discord_that_goes_dead_is_left_and_comes_back() {
    let bed = bed(settings());
    let link = FaultyLink::to(&bed.gateway.address().to_string()).await;
    let bed = bed.with("DISCORD_API_HOST", &link.address().to_string());
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    bed.gateway.stored().await;
    link.freeze();
    bed.gateway.control("start", "rate=500&events=1000");
    optic.wait_for_line("nothing came between two heartbeats").await;
    // Nobody answers for a while; then the line is back.
    link.refuse();
    optic.wait_for_line("no connection to Discord").await;
    link.resume();
    let received = bed.gateway.reached(&consumer, START + 1_000).await;
    assert!(!received.iter().any(|message| message.is_gap()));
    assert_eq!(bed.gateway.stats().identifies, 1);
    stop(optic).await;
}

#[tokio::test]
async fn op_7_in_the_place_of_hello_is_followed() {
    let bed = bed(Bed::settings());
    bed.gateway.control("hello-reconnect", "count=2");
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    bed.gateway.reached(&consumer, START).await;
    assert_eq!(bed.gateway.stats().identifies, 1);
    stop(optic).await;
}

#[tokio::test]
async fn a_store_that_holds_garbage_costs_the_session_and_no_more() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("session-0.json"), b"\x00garbage").expect("written");
    let bed = bed(Bed::settings())
        .with("SHARD_STORE_TYPE", "file")
        .with("SHARD_STORE_PREFIX", folder.path().to_str().expect("UTF-8"));
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    let line = optic.wait_for_line("the session is begun anew").await;
    assert!(line.contains("the stored session of shard 0 cannot be read"), "{line}");
    bed.gateway.reached(&consumer, START).await;
    stop(optic).await;
    // What the stop stored is good again.
    let optic = bed.optic();
    eventually("a resume", || bed.gateway.stats().resumes == 1).await;
    stop(optic).await;
}

#[tokio::test]
async fn a_store_that_cannot_be_written_does_not_keep_it_from_stopping() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions");
    let bed =
        bed(Bed::settings()).with("SHARD_STORE_TYPE", "file").with("SHARD_STORE_PREFIX", path.to_str().expect("UTF-8"));
    let consumer = bed.consumer(&broker()).await;
    let mut optic = bed.optic();
    bed.gateway.reached(&consumer, START).await;
    eventually("the first record", || path.join("session-0.json").exists()).await;
    std::fs::remove_dir_all(&path).expect("removed");
    std::fs::write(&path, b"in the way").expect("written");
    bed.gateway.flood(100);
    bed.gateway.reached(&consumer, START + 100).await;
    optic.terminate().await;
    let status = must("its end", optic.wait()).await;
    assert_eq!(status.code(), Some(0));
    assert!(optic.stderr().iter().any(|line| line.contains("the session cannot be stored")), "{:#?}", optic.stderr());
}

/// A worker's queue that takes no more: the window is full, and Discord hears from us all the same.
#[tokio::test]
async fn while_rabbitmq_takes_nothing_heartbeats_go_on() {
    let link = FaultyLink::to(&address(&broker())).await;
    let bed = Bed::new(&link.through(&broker()), settings());
    let consumer = Consumer::start_in_one_queue(
        &broker(),
        &bed.group,
        &["READY", "GUILD_CREATE", "MESSAGE_CREATE", "TYPING_START", "MESSAGE_REACTION_ADD", "OPTIC_GAP"],
    )
    .await;
    let optic = bed.optic();
    bed.gateway.stored().await;
    link.freeze();
    bed.gateway.flood(FLOOD);
    Bed::health_until(&optic, "the shard waits for the broker", |_, body| body.contains("waiting for the broker"))
        .await;
    let before = bed.gateway.stats();
    eventually("heartbeats", || bed.gateway.stats().heartbeats >= before.heartbeats + 3).await;
    assert_eq!(bed.gateway.stats().connections, before.connections, "the connection is kept");
    link.resume();
    let received = bed.gateway.reached(&consumer, FLOOD + START).await;
    assert!(!received.iter().any(|message| message.is_gap()));
    assert_eq!(bed.gateway.stats().mistakes, Default::default());
    stop(optic).await;
}

/// `host:port` of an AMQP URL.
fn address(url: &str) -> String {
    let url = url::Url::parse(url).expect("a URL");
    format!("{}:{}", url.host_str().expect("a host"), url.port().unwrap_or(5672))
}
