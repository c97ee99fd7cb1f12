//! spec/encodings.md, "Discord's link", end to end: the real program on connections in ETF, between the simulator and a real
//! RabbitMQ. What arrives is read by another's decoder. And "Bodies in RabbitMQ", where an event is none that can be converted.

mod common;

use std::io::Cursor;
use std::time::Duration;

use common::{Bed, Consumer, OpticProcess, Received, Sent, Worker, broker, eventually};
use optic::simulator::Settings;
use serde_json::{Map, Value, json};

/// What a decoder that is not ours makes of a body; ids are texts again, as they are in JSON.
fn decoded(body: &[u8]) -> Value {
    fn value(term: &eetf::Term) -> Value {
        match term {
            eetf::Term::Atom(atom) => match &*atom.name {
                "nil" => Value::Null,
                "true" => true.into(),
                "false" => false.into(),
                name => name.into(),
            },
            eetf::Term::FixInteger(integer) => integer.value.into(),
            eetf::Term::BigInteger(integer) => integer.value.to_string().into(),
            eetf::Term::Float(float) => float.value.into(),
            eetf::Term::Binary(binary) => std::str::from_utf8(&binary.bytes).expect("UTF-8").into(),
            eetf::Term::ByteList(list) => list.bytes.iter().map(|byte| Value::from(*byte)).collect(),
            eetf::Term::List(list) => list.elements.iter().map(value).collect(),
            eetf::Term::Map(map) => {
                let entry = |(key, of)| (value(key).as_str().expect("a name").to_owned(), value(of));
                Value::Object(map.map.iter().map(entry).collect::<Map<_, _>>())
            }
            other => panic!("Discord never writes {other:?}"),
        }
    }
    let mut rest = Cursor::new(body);
    let term = eetf::Term::decode(&mut rest).expect("a term");
    assert_eq!(rest.position(), body.len() as u64, "nothing is behind it");
    value(&term)
}

/// As [`decoded`] has numbers that are too large for an `i32`: the decoder does not tell them from ids.
fn with_texts(value: Value) -> Value {
    match value {
        Value::Number(number) if number.as_i64().is_some_and(|number| i32::try_from(number).is_err()) => {
            number.to_string().into()
        }
        Value::Array(items) => items.into_iter().map(with_texts).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, with_texts(value))).collect(),
        other => other,
    }
}

/// What arrived is what was sent: each event once, in order, byte for byte behind the version byte, and a term.
fn assert_same(received: &[Received], bed: &Bed) {
    for session in bed.gateway.sessions() {
        let in_json: Vec<Sent> = bed.gateway.sent().into_iter().filter(|event| event.shard == session.shard).collect();
        let in_etf = bed.gateway.sent_in_etf(&session.id);
        let arrived: Vec<_> = received.iter().filter(|message| message.shard == Some(session.shard.into())).collect();
        assert_eq!((arrived.len(), in_etf.len()), (in_json.len(), in_json.len()), "each once");
        for ((message, json), etf) in arrived.into_iter().zip(in_json).zip(in_etf) {
            assert_eq!(message.message_id, Some(json.message_id()));
            assert_eq!(message.routing_key, json.name);
            assert_eq!(message.content_type.as_deref(), Some("application/vnd.erlang.etf"));
            assert!(message.body == [&[131], &etf[..]].concat(), "{} is not what was sent", json.message_id());
            let data = serde_json::from_slice(&json.data).expect("JSON");
            assert_eq!(decoded(&message.body), with_texts(data), "{}", json.message_id());
        }
    }
}

async fn stop(mut optic: OpticProcess, bed: &Bed) {
    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0), "{}", optic.stderr().join("\n"));
    assert_eq!(bed.gateway.stats().mistakes, Default::default());
}

async fn every_event_once_in_order_and_byte_for_byte(compression: &str) {
    let settings = Settings {
        recommended_shards: 2,
        max_concurrency: 2,
        guilds: 4,
        guild_bytes: 300 << 10,
        split_messages: 3,
        split_frames: 2,
        ..Bed::settings()
    };
    let bed = Bed::new(&broker(), settings).with("DISCORD_ENCODING", "etf").with("DISCORD_COMPRESSION", compression);
    let consumer = bed.consumer(&broker()).await;
    let optic = bed.optic();
    bed.gateway.connected(2).await;
    bed.gateway.flood(2_000);
    let received = bed.gateway.reached(&consumer, 2 * 2_000 + 2 + 4).await;
    assert_same(&received, &bed);
    stop(optic, &bed).await;
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, stats.resumes), (2, 0));
    assert_eq!(stats.closes_received.into_iter().collect::<Vec<_>>(), [(4000, 2)]);
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
async fn data_of_every_kind_arrives_as_the_term_that_it_is() {
    let bed =
        Bed::new(&broker(), Bed::settings()).with("DISCORD_ENCODING", "etf").with("DISCORD_EVENTS", "A_NEW_EVENT");
    let consumer = Consumer::start(&broker(), &bed.group, &["A_NEW_EVENT"]).await;
    let optic = bed.optic();
    bed.gateway.connected(1).await;
    let data = ["null", "[]", "[1, 2]", r#"{"a": -1.5, "é": [{}, "눈"]}"#, "\"\"", "true", "0", "-5000000000"];
    for data in data {
        bed.gateway.event("A_NEW_EVENT", data.as_bytes());
    }
    let received = consumer.wait_for(data.len()).await;
    assert_eq!(received[0].body, b"\x83\x64\0\x03nil");
    for (message, data) in received.iter().zip(data) {
        assert_eq!(decoded(&message.body), with_texts(serde_json::from_str(data).expect("JSON")), "{data}");
    }
    stop(optic, &bed).await;
}

#[tokio::test]
async fn what_is_no_text_and_what_cannot_be_converted_arrives_in_every_dialect_and_is_no_gap() {
    let (half, huge) = (br#"{"a":"\ud83d"}"#, br#"{"a":1e400}"#);
    for (dialect, content_type, mended) in [
        ("json", "application/json", half.to_vec()),
        ("etf", "application/vnd.erlang.etf", b"\x83t\0\0\0\x01m\0\0\0\x01am\0\0\0\x03\xef\xbf\xbd".to_vec()),
        ("msgpack", "application/msgpack", b"\xde\0\x01\xa1a\xa3\xef\xbf\xbd".to_vec()),
        ("msgpack-text", "application/msgpack", [&[0xae], &half[..]].concat()),
    ] {
        let bed = Bed::new(&broker(), Bed::settings());
        let bed = bed.with("BROKER_ENCODING", dialect).with("DISCORD_EVENTS", "A_NEW_EVENT");
        let consumer = Consumer::start(&broker(), &bed.group, &["A_NEW_EVENT", "OPTIC_GAP"]).await;
        let optic = bed.optic();
        bed.gateway.connected(1).await;
        for data in [&half[..], huge, b"{}"] {
            bed.gateway.event("A_NEW_EVENT", data);
        }
        let received = consumer.wait_for(3).await;
        assert!(received.iter().all(|message| message.routing_key == "A_NEW_EVENT"), "{dialect}");
        let said = |n: usize| (received[n].content_type.as_deref(), received[n].body.clone());
        assert_eq!(said(0), (Some(content_type), mended), "{dialect}");
        // JSON in a MessagePack text is not looked at.
        let huge = match dialect {
            "msgpack-text" => (Some(content_type), [&[0xab], &huge[..]].concat()),
            _ => (Some("application/json"), huge.to_vec()),
        };
        assert_eq!(said(1), huge, "{dialect}");
        assert_eq!(received[2].content_type.as_deref(), Some(content_type), "{dialect}");
        stop(optic, &bed).await;
    }
}

#[tokio::test]
async fn commands_reach_discord_in_etf_and_what_is_too_long_there_is_set_aside_with_the_reason() {
    let bed = Bed::new(&broker(), Settings { guilds: 1, ..Bed::settings() })
        .with("DISCORD_ENCODING", "etf")
        .with("DISCORD_EVENTS", "GUILD_CREATE,GUILD_MEMBERS_CHUNK")
        .with(
            "DISCORD_PRESENCE",
            r#"{"status":"idle","activities":[{"name":"눈","type":3}],"since":null,"afk":false}"#,
        );
    let consumer = Consumer::start(&broker(), &bed.group, &["GUILD_CREATE", "GUILD_MEMBERS_CHUNK"]).await;
    let optic = bed.optic();
    let guild = decoded(&consumer.wait_for(1).await[0].body)["id"].clone();
    let mut worker = Worker::connect(&broker(), &bed.group).await;

    let d = json!({"guild_id": guild, "query": "m", "limit": 1, "nonce": "n"});
    let packet = json!({"op": 8, "d": d});
    worker.publish("SEND", &json!({"guild_id": guild, "packet": packet}).to_string()).await;
    let presence =
        json!({"op": 3, "d": {"since": 1_790_000_000_000_u64, "activities": [], "status": "dnd", "afk": true}});
    worker.publish("0", &presence.to_string()).await;
    let chunk = decoded(&consumer.wait_for(2).await[1].body);
    assert_eq!((&chunk["nonce"], &chunk["guild_id"]), (&json!("n"), &guild));
    // The simulator refuses packets of such a connection that are no terms.
    eventually("both commands", || bed.gateway.commands().len() == 2).await;
    let seen: Vec<_> = bed.gateway.commands().into_iter().map(|command| command.d).collect();
    assert!(seen.contains(&d) && seen.contains(&presence["d"]), "{seen:?}");

    // 3,2 KiB in JSON.
    let ids = vec!["1"; 800];
    let long = json!({"op": 8, "d": {"guild_id": guild, "user_ids": ids, "limit": 0}}).to_string();
    assert!(long.len() < 4096);
    worker.ask("0", long.as_bytes(), "long").await;
    let answer: Value = serde_json::from_str(&worker.answer().await.body).expect("JSON");
    let error = answer["error"].as_str().expect("an error");
    assert!(error.contains("bytes in ETF") && error.contains("4096"), "{error}");
    assert_eq!(worker.wait_for("REJECTED").await.body, long);
    stop(optic, &bed).await;
}

#[tokio::test]
async fn sessions_are_resumed_in_etf_whatever_ends_a_connection() {
    let settings = Settings { heartbeat_interval: Duration::from_secs(2), ..Bed::settings() };
    let bed = Bed::new(&broker(), settings).with("DISCORD_ENCODING", "etf");
    let consumer = bed.consumer(&broker()).await;
    let mut optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.control("start", "rate=300");
    bed.gateway.stored().await;
    for (n, (verb, query)) in [("drop", ""), ("reconnect", ""), ("invalid", "resumable=true"), ("garbage", "kind=json")]
        .into_iter()
        .enumerate()
    {
        bed.gateway.control(verb, query);
        eventually(&format!("the resume after {verb}"), || bed.gateway.stats().resumes > n as u64).await;
        bed.gateway.connected(1).await;
    }
    bed.gateway.control("heartbeat", "");
    optic.kill().await;
    let optic = bed.optic();
    eventually("the resume of the next process", || bed.gateway.stats().resumes == 5).await;
    bed.gateway.control("stop", "");
    let received = bed.gateway.reached(&consumer, 1 + 2 + 100).await;
    assert!(received.iter().all(|message| message.body[0] == 131 && !message.is_gap()));
    assert_eq!(bed.gateway.stats().identifies, 1);
    stop(optic, &bed).await;
}
