//! The simulator as a client sees it: driven by a websocket library, with every compression.

mod simulator_client;

use std::time::Duration;

use optic::discord::intents::Intents;
use optic::secret::Secret;
use optic::simulator::Settings;
use serde_json::{Value, json};
use simulator_client::{Ended, Running};

const LINKS: [&str; 6] = [
    "&encoding=json",
    "&encoding=json&compress=zlib-stream",
    "&encoding=json&compress=zstd-stream",
    "&encoding=etf",
    "&encoding=etf&compress=zlib-stream",
    "&encoding=etf&compress=zstd-stream",
];

fn settings() -> Settings {
    Settings { identify_window: Duration::ZERO, ..Settings::default() }
}

/// `s` of packets, in order.
fn numbers(packets: &[Value]) -> Vec<u64> {
    packets.iter().map(|packet| packet["s"].as_u64().expect("an event")).collect()
}

#[tokio::test]
async fn events_come_in_order_and_a_resume_brings_exactly_what_was_missed() {
    for compression in LINKS {
        let running = Running::start(Settings { split_messages: 3, split_frames: 2, ..settings() }).await;
        let mut client = running.connect(compression).await;
        let ready = client.identify(Intents::ALL, [0, 1]).await;
        assert_eq!(ready["t"], "READY", "{compression}");
        let guilds = client.events(4).await;
        assert!(guilds.iter().all(|packet| packet["t"] == "GUILD_CREATE"));
        running.control("start", "rate=0&events=300");
        let live = client.events(100).await;
        assert_eq!(numbers(&live), (6..=105).collect::<Vec<_>>());
        client.cut();

        let mut client = running.connect(compression).await;
        client.resume(&ready["d"]["session_id"], 50).await;
        let replayed = client.events(256).await;
        // What was seen before comes again as it was, with its old number.
        assert_eq!(replayed[..55], live[45..], "{compression}");
        let resumed = replayed.iter().position(|packet| packet["t"] == "RESUMED").expect("RESUMED");
        assert_eq!(numbers(&replayed), (51..=306).collect::<Vec<_>>());
        assert!(resumed >= 55, "RESUMED comes after what was missed");
        let session = &running.handle.sessions()[0];
        assert_eq!((session.events, session.resumes, session.last_seq.get()), (305, 1, 306));
        running.stop().await;
    }
}

#[tokio::test]
async fn a_flood_built_beforehand_is_the_same_flood_and_heartbeats_go_in_between() {
    for compression in LINKS {
        let flood = Settings { events: Some(3_000), prebuilt: true, ..settings() };
        let running = Running::start(flood).await;
        let mut client = running.connect(compression).await;
        client.identify(Intents::ALL, [0, 1]).await;
        client.events(4).await;
        client.send(&json!({"op": 1, "d": 5})).await;
        assert_eq!(client.packet().await["op"], 11, "{compression}");
        while running.handle.stats().prebuilt == 0 {
            client.send(&json!({"op": 1, "d": 5})).await;
            assert_eq!(client.packet().await["op"], 11);
        }
        running.control("start", "");
        client.send(&json!({"op": 1, "d": 5})).await;
        let mut numbers = Vec::new();
        let mut acks = 0;
        while numbers.len() < 3_000 || acks == 0 {
            let packet = client.packet().await;
            match packet["s"].as_u64() {
                Some(s) => numbers.push(s),
                None => acks += 1,
            }
        }
        assert_eq!(numbers, (6..=3_005).collect::<Vec<_>>(), "{compression}");
        client.send(&json!({"op": 1, "d": 3005})).await;
        assert_eq!(client.packet().await["op"], 11);
        running.stop().await;
    }
}

#[tokio::test]
async fn what_a_client_does_wrong_is_closed_with_its_code() {
    let strict = Settings {
        token: Some(Secret::new("right")),
        granted: Intents::NONE,
        shard_multiple: 2,
        guilds: 10,
        guilds_per_shard: 5,
        ..settings()
    };
    let identify = |change: Value| {
        let mut d = json!({"token": "right", "properties": {}, "intents": 1, "shard": [0, 2]});
        for (name, value) in change.as_object().expect("changes") {
            d[name] = value.clone();
        }
        json!({"op": 2, "d": d}).to_string()
    };
    let resume = json!({"op": 6, "d": {"token": "wrong", "session_id": "x", "seq": 1}}).to_string();
    let good = identify(json!({}));
    let cases: Vec<(u16, Vec<String>)> = vec![
        (4001, vec![json!({"op": 5, "d": null}).to_string()]),
        (4001, vec![json!({"op": 0, "d": null}).to_string()]),
        (4001, vec![json!({"op": 1, "d": "five"}).to_string()]),
        (4001, vec![identify(json!({"properties": null}))]),
        (4001, vec![identify(json!({"large_threshold": 1000}))]),
        (4001, vec![good.clone(), json!({"op": 3, "d": {"status": "sleepy"}}).to_string()]),
        (4001, vec![good.clone(), json!({"op": 8, "d": {"guild_id": "1"}}).to_string()]),
        (4002, vec!["{".to_owned()]),
        (4002, vec!["[1]".to_owned()]),
        (4002, vec![json!({"op": 1, "d": null, "x": "x".repeat(4096)}).to_string()]),
        (4003, vec![json!({"op": 3, "d": {}}).to_string()]),
        (4004, vec![identify(json!({"token": "wrong"}))]),
        (4004, vec![resume]),
        (4005, vec![good.clone(), good.clone()]),
        (4010, vec![identify(json!({"shard": [2, 2]}))]),
        (4010, vec![identify(json!({"shard": [0, 3]}))]),
        (4010, vec![identify(json!({"shard": [0, 0]}))]),
        (4013, vec![identify(json!({"intents": 1_u64 << 40}))]),
        (4013, vec![identify(json!({"intents": -1}))]),
        (4014, vec![identify(json!({"intents": 1 << 15}))]),
    ];
    let running = Running::start(strict.clone()).await;
    for (code, packets) in cases {
        let mut client = running.connect("").await;
        for packet in &packets {
            client.send_text(packet).await;
        }
        assert_eq!(client.ended().await, Ended::Closed(code), "{packets:?}");
    }
    assert_eq!(running.handle.stats().closes_sent.values().sum::<u64>(), 20);
    running.stop().await;

    let running = Running::start(Settings { guilds: 11, shard_multiple: 1, ..strict }).await;
    let mut client = running.connect("").await;
    client.send_text(&identify(json!({"shard": null}))).await;
    assert_eq!(client.ended().await, Ended::Closed(4011));
    let mut client = running.connect_with("v=7&encoding=json").await;
    assert_eq!(client.ended().await, Ended::Closed(4012));
    let mut client = running.connect_with("v=10&encoding=bert").await;
    assert_eq!(client.ended().await, Ended::Closed(1003));
    running.stop().await;
}

#[tokio::test]
async fn in_etf_a_client_has_binary_keys_and_nothing_else() {
    let running = Running::start(settings()).await;
    let heartbeat = br#"{"op":1,"d":null}"#;
    let compressed: &[u8] = b"\x83\x50\0\0\0\x01\x78\x9c\xcb\x02\0\0\x6b\0\x6b";
    for packet in [
        &b"\x83\x74\0\0\0\x02\x64\0\x02op\x61\x01\x64\0\x01d\x64\0\x03nil"[..],
        compressed,
        &b"\x83\x74\0\0\0\x02\x6d\0\0\0\x02op\x61\x01"[..],
        &heartbeat[..],
        &b"\x6a"[..],
    ] {
        let mut client = running.connect("&encoding=etf").await;
        client.send_binary(packet).await;
        assert_eq!(client.ended().await, Ended::Closed(4002), "{packet:x?}");
    }
    let mut client = running.connect("&encoding=etf").await;
    client.send_text(std::str::from_utf8(heartbeat).expect("text")).await;
    assert_eq!(client.ended().await, Ended::Closed(4002));
    let mut client = running.connect("").await;
    client.send_binary(heartbeat).await;
    assert_eq!(client.ended().await, Ended::Closed(4002));

    let mut client = running.connect("&encoding=etf").await;
    client.send(&json!({"op": 1, "d": null})).await;
    assert_eq!(client.packet().await["op"], 11);
    let ready = client.identify(Intents::ALL, [0, 1]).await;
    client.events(4).await;
    // An id is a number there, and may be one in what is sent.
    let guild = &ready["d"]["guilds"][0]["id"];
    assert!(guild.is_u64(), "{guild}");
    client.send(&json!({"op": 43, "d": {"guild_id": guild, "fields": ["status"]}})).await;
    assert_eq!(client.packet().await["d"]["guild_id"], *guild);
    running.stop().await;
}

#[tokio::test]
async fn the_121st_packet_is_one_too_many() {
    let running = Running::start(settings()).await;
    let mut client = running.connect("").await;
    for _ in 0..120 {
        client.send(&json!({"op": 1, "d": null})).await;
        assert_eq!(client.packet().await["op"], 11);
    }
    client.send(&json!({"op": 1, "d": null})).await;
    assert_eq!(client.ended().await, Ended::Closed(4008));
    running.stop().await;
}

#[tokio::test]
async fn a_second_identify_of_a_key_is_too_early_and_another_keys_is_not() {
    let running = Running::start(Settings { max_concurrency: 2, ..Settings::default() }).await;
    for (shard, expected) in [([0, 4], "READY"), ([1, 4], "READY"), ([2, 4], "op 9")] {
        let mut client = running.connect("").await;
        let answer = client.identify(Intents::NONE, shard).await;
        match expected {
            "READY" => assert_eq!(answer["t"], "READY", "{shard:?}"),
            _ => assert_eq!((&answer["op"], &answer["d"]), (&json!(9), &json!(false))),
        }
    }
    assert_eq!(running.handle.stats().identifies_too_early, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_session_has_one_connection_and_who_resumes_it_closes_the_other() {
    let running = Running::start(settings()).await;
    let mut first = running.connect("").await;
    let ready = first.identify(Intents::ALL, [0, 1]).await;
    first.events(4).await;
    let mut second = running.connect("").await;
    second.resume(&ready["d"]["session_id"], 5).await;
    assert_eq!(second.packet().await["t"], "RESUMED");
    running.control("event", "name=TYPING_START");
    assert_eq!(second.packet().await["t"], "TYPING_START");
    assert_eq!(first.ended().await, Ended::Closed(4000));
    let shard = &running.handle.shards()[0];
    assert_eq!((shard.live, shard.identifies, shard.resumes, shard.dark_times), (1, 1, 1, 0));
    // Nor did the first get the event: it was written once.
    let stats = running.handle.stats();
    assert_eq!((stats.events_written, stats.events_replayed), (7, 0));
    running.stop().await;
}

#[tokio::test]
async fn darkness_and_commands_are_shown() {
    let running = Running::start(settings()).await;
    let mut client = running.connect("").await;
    let ready = client.identify(Intents::ALL, [1, 2]).await;
    let presence = json!({"op": 3, "d": {"since": null, "activities": [], "status": "idle", "afk": false}});
    client.send(&presence).await;
    running.until(|handle| !handle.commands().is_empty()).await;
    client.cut();
    running.until(|handle| handle.shards()[0].live == 0).await;
    assert!(running.handle.shards()[0].dark_for_ms.is_some());
    let mut client = running.connect("").await;
    client.resume(&ready["d"]["session_id"], 1).await;
    client.packet().await;
    let (_, shards) = running.get("/control/shards", None).await;
    assert_eq!((&shards[0]["shard"], &shards[0]["count"], &shards[0]["live"]), (&json!(1), &json!(2), &json!(1)));
    assert_eq!(shards[0]["dark_ms"].as_array().map(Vec::len), Some(1));
    let (_, commands) = running.get("/control/commands", None).await;
    assert_eq!((&commands[0]["shard"], &commands[0]["op"]), (&json!(1), &json!(3)));
    assert_eq!(commands[0]["d"], presence["d"]);
    running.stop().await;
}

#[tokio::test]
async fn without_session_starts_left_every_session_ends_and_the_token_is_void() {
    let running = Running::start(Settings { session_starts: 1, ..settings() }).await;
    let mut first = running.connect("").await;
    first.identify(Intents::NONE, [0, 1]).await;
    let mut second = running.connect("").await;
    second.send_identify(Intents::NONE, [0, 1]).await;
    assert_eq!(second.ended().await, Ended::Closed(4004));
    assert_eq!(first.ended().await, Ended::Closed(4004));
    assert!(running.handle.sessions().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_resume_is_refused_for_what_is_unknown_ended_expired_forgotten_or_too_far_back() {
    let running = Running::start(Settings { replay_events: 3, session_lifetime: Duration::ZERO, ..settings() }).await;
    let invalid = json!(false);

    let mut client = running.connect("").await;
    client.resume(&json!("unknown"), 1).await;
    assert_eq!(client.packet().await["d"], invalid);
    // The same connection may identify then.
    let ready = client.identify(Intents::NONE, [0, 1]).await;
    for _ in 0..5 {
        running.control("event", "name=TYPING_START");
        client.events(1).await;
    }

    // The session lives while it is connected: a takeover needs no lifetime.
    let mut other = running.connect("").await;
    other.resume(&ready["d"]["session_id"], 7).await;
    assert_eq!(other.ended().await, Ended::Closed(4007));
    let mut other = running.connect("").await;
    other.resume(&ready["d"]["session_id"], 2).await;
    assert_eq!(other.packet().await["d"], invalid, "only three events are held");

    let ready = other.identify(Intents::NONE, [0, 1]).await;
    other.cut();
    running.until(|handle| handle.sessions().iter().all(|session| !session.connected)).await;
    let mut late = running.connect("").await;
    late.resume(&ready["d"]["session_id"], 1).await;
    assert_eq!(late.packet().await["d"], invalid, "it expired");
    assert_eq!(running.handle.stats().resumes_refused, 3);
    running.stop().await;

    let running = Running::start(settings()).await;
    let mut client = running.connect("").await;
    let ready = client.identify(Intents::NONE, [0, 1]).await;
    client.close(1000).await;
    assert!(running.handle.sessions().is_empty(), "1000 ends a session");
    let mut client = running.connect("").await;
    client.resume(&ready["d"]["session_id"], 1).await;
    assert_eq!(client.packet().await["d"], invalid);
    let ready = client.identify(Intents::NONE, [0, 1]).await;
    client.close(4000).await;
    running.control("refuse-next-resumes", "");
    let mut client = running.connect("").await;
    client.resume(&ready["d"]["session_id"], 1).await;
    assert_eq!(client.packet().await["d"], invalid);
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_heartbeat_is_closed() {
    let running = Running::start(Settings { heartbeat_interval: Duration::from_millis(100), ..settings() }).await;
    let mut client = running.connect("").await;
    assert_eq!(client.ended().await, Ended::Closed(1000));
    assert_eq!(running.handle.stats().mistakes["heartbeat missing for 1.5 intervals"], 1);
    running.stop().await;
}

#[tokio::test]
async fn commands_are_answered_and_all_members_only_once_in_a_while() {
    let running = Running::start(settings()).await;
    let mut client = running.connect("&compress=zstd-stream").await;
    let ready = client.identify(Intents::ALL, [0, 1]).await;
    client.events(4).await;
    let guild = &ready["d"]["guilds"][0]["id"];
    let everyone = json!({"op": 8, "d": {"guild_id": guild, "query": "", "limit": 0, "nonce": "n"}});
    client.send(&everyone).await;
    let chunks = client.events(3).await;
    let sizes: Vec<_> = chunks.iter().map(|chunk| chunk["d"]["members"].as_array().expect("members").len()).collect();
    assert_eq!(sizes, [1000, 1000, 500]);
    assert_eq!(chunks[2]["d"]["nonce"], "n");
    client.send(&everyone).await;
    let limited = client.packet().await;
    assert_eq!((&limited["t"], &limited["d"]["opcode"]), (&json!("RATE_LIMITED"), &json!(8)));
    assert_eq!(limited["d"]["meta"], json!({"guild_id": guild, "nonce": "n"}));

    client
        .send(&json!({"op": 4, "d": {"guild_id": guild, "channel_id": "5", "self_mute": true, "self_deaf": false}}))
        .await;
    assert_eq!(client.packet().await["d"]["channel_id"], "5");
    assert_eq!(client.packet().await["t"], "VOICE_SERVER_UPDATE");
    client.send(&json!({"op": 31, "d": {"guild_ids": [guild]}})).await;
    assert_eq!(client.packet().await["t"], "SOUNDBOARD_SOUNDS");
    client.send(&json!({"op": 43, "d": {"guild_id": guild, "fields": ["status"]}})).await;
    assert_eq!(client.packet().await["t"], "CHANNEL_INFO");
    running.stop().await;
}

#[tokio::test]
async fn it_misbehaves_as_told() {
    let running = Running::start(settings()).await;
    for (verb, query, end) in [
        ("close", "code=4009", Ended::Closed(4009)),
        ("eof", "", Ended::Eof),
        ("drop", "", Ended::Broken),
        ("garbage", "kind=frame", Ended::Broken),
    ] {
        let mut client = running.connect("").await;
        client.identify(Intents::NONE, [0, 1]).await;
        running.control(verb, query);
        assert_eq!(client.ended().await, end, "{verb}");
        client.cut();
        running.until(|handle| handle.stats().connected == 0).await;
    }
    let mut client = running.connect("&compress=zlib-stream").await;
    client.identify(Intents::NONE, [0, 1]).await;
    for (verb, query, op, d) in [
        ("reconnect", "", 7, Value::Null),
        ("invalid", "resumable=true", 9, json!(true)),
        ("heartbeat", "", 1, Value::Null),
    ] {
        running.control(verb, &format!("shard=0&{query}"));
        let packet = client.packet().await;
        assert_eq!((&packet["op"], &packet["d"]), (&json!(op), &d), "{verb}");
    }
    running.control("unknown", "kind=null");
    let packet = client.packet().await;
    assert_eq!((&packet["t"], &packet["d"]), (&json!("SIMULATOR_NULL"), &Value::Null));
    running.handle.control("event", "name=MINE", br#"{"a":1}"#).expect("an event");
    assert_eq!(client.packet().await["d"], json!({"a": 1}));
    assert!(running.handle.control("event", "name=MINE", b"{").is_err());
    assert!(running.handle.control("close", "shard=7&code=4000", b"").is_err());
    running.control("hello-reconnect", "");
    assert_eq!(running.raw("&compress=zlib-stream").await.packet().await["op"], 7);
    running.stop().await;
}

#[tokio::test]
async fn a_silent_connection_says_nothing_until_its_time_is_over() {
    let running = Running::start(settings()).await;
    let mut client = running.connect("").await;
    client.identify(Intents::NONE, [0, 1]).await;
    running.control("stall", "ms=0");
    running.control("heartbeat", "");
    client.send(&json!({"op": 1, "d": null})).await;
    running.until(|handle| handle.stats().heartbeats == 1).await;
    assert!(client.is_silent().await);
    running.control("close", "code=4000");
    let mut rest = client.rest().await;
    assert_eq!(rest.pop(), Some(Ended::Closed(4000)), "what was held back goes out first");
    running.stop().await;
}

#[tokio::test]
async fn http_answers_what_bots_ask() {
    let running =
        Running::start(Settings { token: Some(Secret::new("right")), max_concurrency: 16, ..settings() }).await;
    let (status, body) = running.get("/api/v10/gateway", None).await;
    assert_eq!((status, body["url"].clone()), (200, json!(format!("ws://{}", running.address))));
    assert_eq!(running.get("/api/v10/gateway/bot", None).await.0, 401);
    assert_eq!(running.get("/api/v10/gateway/bot", Some("wrong")).await.0, 401);
    let (status, body) = running.get("/api/v10/gateway/bot", Some("right")).await;
    assert_eq!(status, 200);
    assert_eq!(body["session_start_limit"]["max_concurrency"], 16);
    assert_eq!(body["session_start_limit"]["remaining"], 1000);
    assert_eq!(running.get("/api/v10/users/@me", Some("right")).await.1["bot"], true);
    let (status, body) = running.get("/api/v10/channels/1", Some("right")).await;
    assert_eq!((status, body), (404, json!({"message": "404: Not Found", "code": 0})));
    let (status, body) = running.get("/control/stats", None).await;
    assert_eq!((status, &body["identifies"]), (200, &json!(0)));
    running.stop().await;
}
