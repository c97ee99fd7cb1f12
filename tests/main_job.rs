//! The main job, end to end with the real program, a real RabbitMQ and the simulator: spec/amqp.md, "Events" and "Publish what
//! will be consumed", and spec/discord.md, "Identify pacing".

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::{Bed, Consumer, OpticProcess, Received, Sent, broker, eventually};
use optic::simulator::{Mix, Settings};

/// What arrived is what was sent: each event once, those of a shard in order, byte for byte.
fn assert_same(received: &[Received], sent: &[Sent]) {
    let shards = sent.iter().map(|event| event.shard).max().expect("something was sent") + 1;
    for shard in 0..shards {
        let of_shard = received.iter().filter(|message| message.shard == Some(shard.into()));
        let mut count = 0;
        for (message, event) in of_shard.zip(sent.iter().filter(|event| event.shard == shard)) {
            assert_eq!(message.message_id.as_deref(), Some(event.message_id().as_str()), "shard {shard}");
            assert_eq!(message.routing_key, event.name, "{}", event.message_id());
            assert!(message.body == event.data, "{} is not what was sent", event.message_id());
            count += 1;
        }
        assert_eq!(count, sent.iter().filter(|event| event.shard == shard).count(), "shard {shard}");
    }
    assert_eq!(received.len(), sent.len(), "each once");
}

async fn stop(mut optic: OpticProcess) {
    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0), "{}", optic.stderr().join("\n"));
}

/// Two shards (as many as Discord advises), paced and in a flood.
async fn every_event_once_in_order_and_byte_for_byte(compression: &str) {
    let settings = Settings {
        recommended_shards: 2,
        max_concurrency: 2,
        guilds: 6,
        split_messages: 3,
        split_frames: 2,
        ..Bed::settings()
    };
    let bed = Bed::new(&broker(), settings).with("DISCORD_COMPRESSION", compression);
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    bed.gateway.connected(2).await;
    bed.gateway.control("start", "rate=3000&events=500");
    bed.gateway.reached(&consumer, 2 * 500 + 2 + 6).await;
    bed.gateway.flood(10_000);
    let received = bed.gateway.reached(&consumer, 2 * 10_500 + 2 + 6).await;
    assert_same(&received, &bed.gateway.sent());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    for message in &received {
        assert_eq!(message.kind.as_deref(), Some(message.routing_key.as_str()));
        assert_eq!(message.content_type.as_deref(), Some("application/json"));
        assert_eq!((message.delivery_mode, message.app_id.as_deref()), (Some(2), Some("optic")));
        assert_eq!((message.expiration.as_deref(), message.redelivered), (None, false));
        assert!(message.timestamp.is_some_and(|at| (now - 600..=now).contains(&at)), "{:?}", message.timestamp);
    }
    let (ready, body) = Bed::health(&optic, "/health/ready").await;
    assert_eq!(ready, 200, "{body}");
    stop(optic).await;
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, stats.resumes, &stats.mistakes), (2, 0, &Default::default()));
    assert_eq!(stats.closes_received.into_iter().collect::<Vec<_>>(), [(4000, 2)], "never 1000: that ends sessions");
}

#[tokio::test]
async fn with_zlib_every_event_arrives_once_in_order_and_byte_for_byte() {
    every_event_once_in_order_and_byte_for_byte("zlib-stream").await;
}

#[tokio::test]
async fn with_zstd_every_event_arrives_once_in_order_and_byte_for_byte() {
    every_event_once_in_order_and_byte_for_byte("zstd-stream").await;
}

#[tokio::test]
async fn uncompressed_every_event_arrives_once_in_order_and_byte_for_byte() {
    every_event_once_in_order_and_byte_for_byte("none").await;
}

#[tokio::test]
async fn events_of_several_megabytes_arrive_whole() {
    for compression in ["zlib-stream", "zstd-stream", "none"] {
        let settings =
            Settings { guilds: 3, guild_bytes: 5 << 20, split_messages: 7, split_frames: 5, ..Bed::settings() };
        let bed = Bed::new(&broker(), settings).with("DISCORD_COMPRESSION", compression);
        let consumer = bed.consumer(&broker()).await;
        let optic = bed.optic();
        let received = bed.gateway.reached(&consumer, 1 + 3).await;
        assert!(received[1].body.len() > 4 << 20, "{} bytes", received[1].body.len());
        assert_same(&received, &bed.gateway.sent());
        stop(optic).await;
    }
}

#[tokio::test]
async fn transient_messages_that_expire_are_marked_as_such() {
    let bed =
        Bed::new(&broker(), Bed::settings()).with("BROKER_PERSISTENT", "false").with("BROKER_MESSAGE_TIMEOUT", "2m");
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    for message in bed.gateway.reached(&consumer, 1 + 2).await {
        assert_eq!((message.delivery_mode, message.expiration.as_deref()), (Some(1), Some("120000")));
    }
    stop(optic).await;
}

#[tokio::test]
async fn listed_events_alone_are_published_and_odd_ones_as_they_are() {
    let bed = Bed::new(&broker(), Bed::settings()).with("DISCORD_EVENTS", "MESSAGE_CREATE,A_NEW_EVENT");
    let keys = ["READY", "GUILD_CREATE", "MESSAGE_CREATE", "TYPING_START", "A_NEW_EVENT"];
    let consumer = Consumer::start_in_one_queue(&broker(), &bed.group, &keys).await;
    let optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.event("TYPING_START", b"");
    let odd = [r#"null"#, r#"[1, {"t":"READY","s":1}]"#, r#""}{\"op\":9""#, " { \"a\" :\n1 } ", "0"];
    for data in odd {
        bed.gateway.event("A_NEW_EVENT", data.as_bytes());
    }
    bed.gateway.event("MESSAGE_CREATE", b"");
    let received = consumer.wait_for(odd.len() + 1).await;
    let names: Vec<_> = received.iter().map(|message| message.routing_key.as_str()).collect();
    assert_eq!(names, [&["A_NEW_EVENT"; 5][..], &["MESSAGE_CREATE"]].concat());
    let bodies: Vec<_> = received.iter().map(|message| String::from_utf8_lossy(&message.body)).collect();
    for (body, sent) in bodies.iter().zip(odd) {
        assert_eq!(body.trim(), sent.trim());
    }
    stop(optic).await;
}

#[tokio::test]
async fn with_auto_a_queue_that_is_bound_later_gets_events_from_a_probe_on() {
    let bed = Bed::new(&broker(), Bed::settings())
        .with("DISCORD_EVENTS", "")
        .with("BROKER_DECLARE", "GUILD_CREATE")
        .with("LOG_LEVEL", "info,optic::spectacles=debug");
    let optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.control("start", "rate=200");
    optic.wait_for_line("no queue for this event: it is tried once a second event=\"MESSAGE_CREATE\"").await;
    let consumer = Consumer::start(&broker(), &bed.group, &["MESSAGE_CREATE", "GUILD_CREATE"]).await;
    let received = consumer
        .wait_until("events from a probe on", |received| {
            received.iter().filter(|message| message.routing_key == "MESSAGE_CREATE").count() >= 50
        })
        .await;
    // Once a probe arrived, none is left out any more; and what BROKER_DECLARE names waited from the first on.
    let guilds = received.iter().filter(|message| message.routing_key == "GUILD_CREATE").count();
    assert_eq!(guilds, 2);
    bed.gateway.control("stop", "");
    let messages = |received: &[Received]| -> Vec<u64> {
        received.iter().filter(|message| message.routing_key == "MESSAGE_CREATE").map(Received::sequence).collect()
    };
    // The first ones may be probes, until one is known to have arrived.
    let settled = messages(&received)[10];
    let due: Vec<u64> = bed
        .gateway
        .sent()
        .iter()
        .filter(|event| event.name == "MESSAGE_CREATE" && event.seq >= settled)
        .map(|event| event.seq)
        .collect();
    let last = *due.last().expect("there are some");
    let received = consumer.wait_until("the last one", |received| messages(received).last() == Some(&last)).await;
    assert_eq!(messages(&received).into_iter().filter(|seq| *seq >= settled).collect::<Vec<_>>(), due);
    stop(optic).await;
}

#[tokio::test]
async fn shards_identify_side_by_side_as_far_as_discord_allows() {
    let settings = Settings { recommended_shards: 8, guilds: 16, max_concurrency: 4, ..Bed::settings() };
    let bed = Bed::new(&broker(), settings);
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    bed.gateway.connected(8).await;
    let received = bed.gateway.reached(&consumer, 8 + 16).await;
    let order: Vec<_> =
        received.iter().filter(|message| message.routing_key == "READY").map(|message| message.shard).collect();
    let (mut first, mut second) = (order[..4].to_vec(), order[4..].to_vec());
    first.sort_unstable();
    second.sort_unstable();
    assert_eq!((first, second), ((0..4).map(Some).collect(), (4..8).map(Some).collect()));
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, stats.identifies_too_early, &stats.mistakes), (8, 0, &Default::default()));
    stop(optic).await;
}

#[tokio::test]
async fn the_shards_of_one_process_are_those_that_were_asked_for() {
    let settings = Settings { recommended_shards: 9, guilds: 12, max_concurrency: 16, ..Bed::settings() };
    let bed = Bed::new(&broker(), settings).with("DISCORD_SHARD_COUNT", "6").with("DISCORD_SHARD_IDS", "1,4-5");
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    bed.gateway.connected(3).await;
    bed.gateway.reached(&consumer, 3 + 6).await;
    let mut shards: Vec<_> = bed.gateway.sessions().iter().map(|session| (session.shard, session.count)).collect();
    shards.sort_unstable();
    assert_eq!(shards, [(1, 6), (4, 6), (5, 6)]);
    stop(optic).await;
}

#[tokio::test]
async fn without_a_session_start_left_it_waits_and_says_until_when() {
    let bed = Bed::new(&broker(), Settings { session_starts: 1, ..Bed::settings() });
    let consumer = bed.consumer(&broker()).await;
    let mut optic = bed.optic();
    bed.gateway.reached(&consumer, 1 + 2).await;
    optic.kill().await;

    // Another group has no session to resume; none may be started any more.
    let bed = Bed { group: common::unique_group(), ..bed };
    let group = bed.group.clone();
    let bed = bed.with("BROKER_GROUP", &group);
    let other = bed.optic();
    let line = other.wait_for_line("no session may be started any more").await;
    assert!(line.contains("until=") && line.contains("shards=1"), "{line}");
    eventually("the connection of the shard that waits", || bed.gateway.stats().connections == 2).await;
    let (status, body) = Bed::health(&other, "/health/ready").await;
    assert_eq!(status, 503, "{body}");
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, &stats.mistakes), (1, &Default::default()));
    stop(other).await;
}

#[tokio::test]
async fn intents_bring_what_they_bring() {
    let mix: Mix = "MESSAGE_CREATE=1,TYPING_START=1".parse().expect("a mix");
    let bed = Bed::new(&broker(), Settings { mix, ..Bed::settings() })
        .with("DISCORD_INTENTS", "GUILDS,GUILD_MESSAGE_TYPING")
        .with(
            "DISCORD_PRESENCE",
            r#"{"status":"idle","activities":[{"name":"eyes","type":3}],"since":null,"afk":false}"#,
        )
        .with("DISCORD_LARGE_THRESHOLD", "250");
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.flood(50);
    let received = bed.gateway.reached(&consumer, 1 + 2 + 50).await;
    assert!(received[3..].iter().all(|message| message.routing_key == "TYPING_START"));
    assert_eq!(bed.gateway.stats().mistakes, Default::default());
    stop(optic).await;
}
