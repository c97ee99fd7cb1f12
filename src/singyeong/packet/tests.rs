use super::dispatch::{Dispatch, QueueName};
use super::identify::Auth;
use super::incoming::{Op, Packet};
use super::outgoing::Outgoing;
use super::refusal::{Refusal, Refused};
use crate::encoding::{Encoding, Value, read, write};
use crate::singyeong::ids::{Application, ClientId, ClientKey};
use crate::websocket::frames::FrameKind;

const ALL: [Encoding; 3] = [Encoding::Json, Encoding::Msgpack, Encoding::Etf];
const DEPTH: usize = 4;

fn value(json: &str) -> Value {
    read(Encoding::Json, json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn json(value: &Value) -> String {
    let mut out = Vec::new();
    write(Encoding::Json, value, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// What the packet of this JSON is in another encoding.
fn bytes(encoding: Encoding, json: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write(encoding, &value(json), &mut out);
    out
}

fn packet(encoding: Encoding, json: &str) -> Result<Packet, Refusal> {
    Packet::read(encoding, FrameKind::of(encoding), &bytes(encoding, json))
}

/// A dispatch, alike in all encodings.
fn dispatch(t: &str, d: &str) -> Result<Dispatch, Refused> {
    let text = format!(r#"{{"op":4,"t":"{t}","d":{d},"ts":7}}"#);
    let all = ALL.map(|encoding| packet(encoding, &text).expect("a packet").dispatch(DEPTH));
    let [first, ..] = all.clone().map(|dispatch| format!("{dispatch:?}"));
    assert!(all.iter().all(|dispatch| format!("{dispatch:?}") == first), "{text}: {all:?}");
    let [first, ..] = all;
    first
}

// ---- frames ----

#[test]
fn a_packet_is_read_alike_in_all_encodings() {
    for (text, op, d, t, ts) in [
        (r#"{"op":4,"d":{"a":1},"t":"SEND","ts":5}"#, Op::Dispatch, r#"{"a":1}"#, r#""SEND""#, "5"),
        (r#"{"op":5}"#, Op::Heartbeat, "null", "null", "null"),
        (r#"{"op":1,"d":[],"more":1}"#, Op::Identify, "[]", "null", "null"),
        (r#"{"op":"1"}"#, Op::Unknown, "null", "null", "null"),
        (r#"{"op":1.0}"#, Op::Unknown, "null", "null", "null"),
        (r#"{"op":-1}"#, Op::Unknown, "null", "null", "null"),
        (r#"{"op":9}"#, Op::Unknown, "null", "null", "null"),
        (r#"{"op":99999999999999999999}"#, Op::Unknown, "null", "null", "null"),
        ("{}", Op::Unknown, "null", "null", "null"),
        ("null", Op::Unknown, "null", "null", "null"),
    ] {
        let expected = Packet { op, d: value(d), t: value(t), ts: value(ts) };
        for encoding in ALL {
            assert_eq!(packet(encoding, text), Ok(expected.clone()), "{text} as {encoding:?}");
        }
    }
}

#[test]
fn what_is_no_packet_is_refused_in_the_originals_words() {
    let unrecoverable = "decode: payload: unrecoverable";
    for text in ["[]", "1", "true", r#""op""#] {
        for encoding in ALL {
            assert_eq!(packet(encoding, text), Err(Refusal::new(unrecoverable)), "{text} as {encoding:?}");
        }
    }
    let combo = "decode: payload: invalid websocket opcode/encoding combo:";
    for (encoding, kind, bytes, error) in [
        (Encoding::Json, FrameKind::Text, &br#"{"op":"#[..], "unexpected end of input at position 6"),
        (Encoding::Json, FrameKind::Text, b"nope", r#"unexpected byte at position 0: 0x6E ("n")"#),
        (Encoding::Msgpack, FrameKind::Binary, b"\xc1", "invalid format, first byte: 193"),
        (Encoding::Etf, FrameKind::Binary, b"\x83\x67", unrecoverable),
        (Encoding::Etf, FrameKind::Binary, b"", unrecoverable),
        (Encoding::Json, FrameKind::Binary, b"{}", &format!("{combo} {{binary, json}}")),
        (Encoding::Msgpack, FrameKind::Text, b"\x80", &format!("{combo} {{text, msgpack}}")),
        (Encoding::Etf, FrameKind::Text, b"\x83", &format!("{combo} {{text, etf}}")),
    ] {
        assert_eq!(Packet::read(encoding, kind, bytes), Err(Refusal::new(error)));
    }
}

#[test]
fn ops_that_no_client_sends_are_refused_by_name() {
    for (op, name) in
        [(Op::Hello, ":hello"), (Op::HeartbeatAck, ":heartbeat_ack"), (Op::Error, ":error"), (Op::Unknown, "nil")]
    {
        assert_eq!(op.refusal(), Refusal::new(&format!("invalid client op {name}")));
    }
}

/// Old Erlang clients have atoms where others have texts.
#[test]
fn etf_packets_may_have_atoms_as_keys() {
    let atom = |name: &str| eetf::Term::from(eetf::Atom::from(name));
    let text = |text: &str| eetf::Term::from(eetf::Binary::from(text.as_bytes()));
    let map =
        |entries: Vec<(eetf::Term, eetf::Term)>| eetf::Term::from(eetf::Map { map: entries.into_iter().collect() });
    let d = map(vec![
        (atom("client_id"), text("c")),
        (atom("application_id"), text("a")),
        (atom("auth"), atom("nil")),
        (atom("receive_client_updates"), atom("true")),
    ]);
    let mut bytes = Vec::new();
    let packet = map(vec![(atom("op"), eetf::FixInteger::from(1).into()), (atom("d"), d)]);
    packet.encode(&mut bytes).expect("a term");
    let packet = Packet::read(Encoding::Etf, FrameKind::Binary, &bytes).expect("a packet");
    assert_eq!(packet.op, Op::Identify);
    let identify = packet.identify().expect("an identify");
    assert_eq!((identify.key, identify.auth), (ClientKey::new("a", "c"), Auth::Absent));
    assert!(identify.receives_client_updates);
}

// ---- identify ----

#[test]
fn both_generations_of_identify_are_read() {
    for (d, application, client) in [
        (r#"{"client_id":"c","application_id":"a"}"#, "a", "c"),
        (r#"{"client_id":"c","application_name":"a","reconnect":true,"tags":["x"]}"#, "a", "c"),
        (r#"{"client_id":"c","application_name":"old","application_id":"a"}"#, "a", "c"),
        (r#"{"client_id":"c","application_name":"old","application_id":null}"#, "old", "c"),
        (r#"{"client_id":"","application_id":" "}"#, " ", ""),
    ] {
        for encoding in ALL {
            let packet = packet(encoding, &format!(r#"{{"op":1,"d":{d}}}"#)).expect("a packet");
            let identify = packet.identify().unwrap_or_else(|refusal| panic!("{d}: {refusal:?}"));
            assert_eq!(identify.key, ClientKey::new(application, client));
            assert_eq!((identify.auth, identify.ip, identify.namespace), (Auth::Absent, None, Value::Null));
            assert!(!identify.receives_client_updates && identify.metadata.is_ok());
        }
    }
}

#[test]
fn an_identify_that_names_nobody_is_refused() {
    let long = "눈".repeat(216);
    let too_long = format!(r#"{{"client_id":"{long}","application_id":"a"}}"#);
    for (d, error) in [
        ("null", "decode: payload: unrecoverable"),
        ("[]", "decode: payload: unrecoverable"),
        ("{}", "decode: payload: unrecoverable"),
        (r#"{"client_id":"c"}"#, "decode: payload: unrecoverable"),
        (r#"{"application_id":"a"}"#, "decode: payload: unrecoverable"),
        (r#"{"client_id":1,"application_id":"a"}"#, "payload has no data"),
        (r#"{"client_id":"c","application_id":null}"#, "payload has no data"),
        (r#"{"client_id":"c","application_id":1,"application_name":"a"}"#, "payload has no data"),
        (&too_long, "internal server error"),
    ] {
        for encoding in ALL {
            let packet = packet(encoding, &format!(r#"{{"op":1,"d":{d}}}"#)).expect("a packet");
            assert_eq!(packet.identify(), Err(Refusal::new(error)), "{d}");
        }
    }
    let longest = format!(r#"{{"op":1,"d":{{"client_id":"{long}","application_id":""}}}}"#);
    assert!(packet(Encoding::Json, &longest).expect("a packet").identify().is_ok());
}

#[test]
fn what_else_an_identify_says_is_read() {
    let of = |more: &str| {
        let text = format!(r#"{{"op":1,"d":{{"client_id":"c","application_id":"a",{more}}}}}"#);
        packet(Encoding::Msgpack, &text).expect("a packet").identify().expect("an identify")
    };
    let Auth::Password(password) = of(r#""auth":"""#).auth else { panic!("an empty password is one") };
    assert_eq!(password.expose(), "");
    assert_eq!(of(r#""auth":null"#).auth, Auth::Absent);
    assert_eq!(of(r#""auth":1"#).auth, Auth::Malformed);
    assert_eq!(of(r#""ip":"10.0.0.1:80""#).ip.as_deref(), Some("10.0.0.1:80"));
    assert_eq!(of(r#""ip":null"#).ip, None);
    assert_eq!(of(r#""namespace":{"a":[1]}"#).namespace, value(r#"{"a":[1]}"#));
    for (updates, wanted) in [("true", true), ("false", false), ("1", false), (r#""true""#, false)] {
        assert_eq!(of(&format!(r#""receive_client_updates":{updates}"#)).receives_client_updates, wanted);
    }
    assert!(of(r#""metadata":{"k":{"type":"integer","value":1}}"#).metadata.is_ok());
    let info = value(r#"{"k":"k: value fails validation for 'integer'"}"#);
    let refusal = Refusal::with("initial metadata: invalid", info);
    assert_eq!(of(r#""metadata":{"k":{"type":"integer","value":1.0}}"#).metadata, Err(refusal));
    assert_eq!(of(r#""metadata":{"k":1}"#).metadata, Err(Refusal::new("internal server error")));
}

// ---- dispatch ----

#[test]
fn messages_are_read_and_old_clients_senders_are_not() {
    let d = r#"{"target":{"application":"a"},"payload":[1],"nonce":"n","sender":"s"}"#;
    for t in ["SEND", "BROADCAST"] {
        let message = match (t, dispatch(t, d)) {
            ("SEND", Ok(Dispatch::Send(message))) | ("BROADCAST", Ok(Dispatch::Broadcast(message))) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(message.target.application(), Some("a"));
        assert_eq!((message.nonce, message.payload), (Value::string("n"), value("[1]")));
    }
    let Ok(Dispatch::Send(message)) = dispatch("SEND", r#"{"target":null,"payload":null}"#) else { panic!("none") };
    assert_eq!((message.nonce, message.payload), (Value::Null, Value::Null));
    assert_eq!(message.target.application(), None);
}

#[test]
fn other_dispatches_are_read() {
    let name = |text: &str| QueueName(text.into());
    assert!(matches!(
        dispatch("UPDATE_METADATA", r#"{"k":{"type":"string","value":"v"}}"#),
        Ok(Dispatch::UpdateMetadata(_))
    ));
    let Ok(Dispatch::QueryNodes(query)) = dispatch("QUERY_NODES", r#"{"application":"a"}"#) else { panic!("none") };
    assert_eq!(query.application(), Some("a"));
    let Ok(Dispatch::Queue(queued)) =
        dispatch("QUEUE", r#"{"queue":"q","target":{"application":"a"},"nonce":null,"payload":1}"#)
    else {
        panic!("none")
    };
    assert_eq!((queued.queue, queued.nonce, queued.payload), (name("q"), Value::Null, Value::Integer(1)));
    assert!(matches!(dispatch("QUEUE_REQUEST", r#"{"queue":"q"}"#), Ok(Dispatch::QueueRequest(q)) if q == name("q")));
    assert!(
        matches!(dispatch("QUEUE_REQUEST_CANCEL", r#"{"queue":"q"}"#), Ok(Dispatch::QueueRequestCancel(q)) if q == name("q"))
    );
    assert!(
        matches!(dispatch("QUEUE_ACK", r#"{"queue":"q","id":"1"}"#), Ok(Dispatch::QueueAck(q, id)) if q == name("q") && &*id == "1")
    );
    let Ok(Dispatch::Publish { name, data }) = dispatch("MESSAGE_CREATE", r#"{"a":1}"#) else { panic!("none") };
    assert_eq!((&*name, data), ("MESSAGE_CREATE", value(r#"{"a":1}"#)));
}

#[test]
fn what_is_not_as_it_has_to_be_is_refused_as_in_the_original() {
    let error = |text: &str| Refused::Error(Refusal::new(text));
    let internal = error("internal server error");
    let unrecoverable = error("decode: payload: unrecoverable");
    let bad_query = r#"{"ops":[{"path":"/a","op":"$no","to":{"value":1}}]}"#;
    let with_bad_query = format!(r#"{{"queue":"q","nonce":1,"target":{bad_query},"payload":1}}"#);
    for (t, d, refused) in [
        ("SEND", "null", &internal),
        ("SEND", "[]", &internal),
        ("SEND", r#"{"payload":1}"#, &internal),
        ("BROADCAST", r#"{"target":{}}"#, &internal),
        ("SEND", &with_bad_query, &unrecoverable),
        ("QUEUE", &with_bad_query, &unrecoverable),
        ("QUERY_NODES", bad_query, &unrecoverable),
        ("UPDATE_METADATA", "[]", &internal),
        ("UPDATE_METADATA", r#"{"k":{"type":"string"}}"#, &internal),
    ] {
        assert_eq!(&dispatch(t, d).expect_err(d), refused, "{t} {d}");
    }

    let info = value(r#"{"k":"k: value fails validation for 'string'"}"#);
    let refused = dispatch("UPDATE_METADATA", r#"{"k":{"type":"string","value":1}}"#).expect_err("no string");
    assert_eq!(refused, Refused::Invalid(Refusal::with("invalid metadata", info)));

    let long = "q".repeat(256);
    let long_name = format!(r#"{{"queue":"{long}"}}"#);
    for (t, d) in [
        ("", "{}"),
        (&long, "{}"),
        ("QUEUE", "null"),
        ("QUEUE", r#"{"queue":"q","target":{},"payload":1}"#),
        ("QUEUE", r#"{"queue":"q","nonce":1,"payload":1}"#),
        ("QUEUE", r#"{"nonce":1,"target":{},"payload":1}"#),
        ("QUEUE", r#"{"queue":1,"nonce":1,"target":{},"payload":1}"#),
        ("QUEUE_REQUEST", "{}"),
        ("QUEUE_REQUEST", &long_name),
        ("QUEUE_REQUEST_CANCEL", r#"{"queue":null}"#),
        ("QUEUE_ACK", r#"{"queue":"q"}"#),
        ("QUEUE_ACK", r#"{"id":"1"}"#),
        ("QUEUE_ACK", r#"{"queue":"q","id":1}"#),
    ] {
        let info = value(&format!(r#"{{"op":"dispatch","t":"{t}","d":{d},"ts":7}}"#));
        let refused = Refused::Invalid(Refusal::with("invalid dispatch payload", info));
        assert_eq!(dispatch(t, d).expect_err(d), refused, "{t} {d}");
    }
    for t in ["null", "1", "[]"] {
        let refused = packet(Encoding::Json, &format!(r#"{{"op":4,"t":{t}}}"#)).expect("a packet").dispatch(DEPTH);
        let info = value(&format!(r#"{{"op":"dispatch","t":{t},"d":null,"ts":null}}"#));
        assert_eq!(refused.expect_err(t), Refused::Invalid(Refusal::with("invalid dispatch payload", info)));
    }
}

#[test]
fn a_query_over_the_limit_is_refused_in_words() {
    let mut op = r#"{"path":"/a","op":"$eq","to":{"value":1}}"#.to_owned();
    for _ in 0..=DEPTH {
        op = format!(r#"{{"op":"$and","with":[{op}]}}"#);
    }
    let refused = dispatch("QUERY_NODES", &format!(r#"{{"ops":[{op}]}}"#)).expect_err("too deep");
    let words = "the query's operators lie more than 4 deep in each other";
    assert_eq!(refused, Refused::Error(Refusal::new(words)));
}

// ---- what the server says ----

/// Each packet, as JSON, and the keys that are atoms in ETF.
fn said() -> Vec<(Outgoing, &'static str, &'static [&'static str])> {
    let text = Value::string;
    let client = || ClientId::new("c");
    let queue = || QueueName("q".into());
    let ts = || Value::Integer(5);
    vec![
        (
            Outgoing::Hello { heartbeat_interval: 45_000 },
            r#"{"op":0,"d":{"heartbeat_interval":45000},"t":null,"ts":7}"#,
            &[],
        ),
        (
            Outgoing::Ready { client: client(), restricted: false },
            r#"{"op":2,"d":{"client_id":"c","restricted":false},"t":null,"ts":7}"#,
            &[],
        ),
        (
            Outgoing::Invalid(Refusal::new("invalid metadata")),
            r#"{"op":3,"d":{"error":"invalid metadata","extra_info":null},"t":null,"ts":7}"#,
            &["d/error", "d/extra_info"],
        ),
        (
            Outgoing::Invalid(Refusal::restricted(&text("SEND"))),
            r#"{"op":3,"d":{"error":"invalid dispatch type SEND (are you restricted?)"},"t":null,"ts":7}"#,
            &[],
        ),
        (
            Outgoing::Invalid(Refusal::no_route_of_message("SEND", ts(), text("n"), value(r#"{"p":1}"#), value("{}"))),
            r#"{"op":3,"d":{"error":"no_route","extra_info":{"op":4,"d":{"nonce":"n","payload":{"p":1},"target":{}},"t":"SEND","ts":5}},"t":null,"ts":7}"#,
            &[
                "d/error",
                "d/extra_info",
                "d/extra_info/d",
                "d/extra_info/d/nonce",
                "d/extra_info/d/payload",
                "d/extra_info/d/target",
                "d/extra_info/op",
                "d/extra_info/t",
                "d/extra_info/ts",
                "=no_route",
            ],
        ),
        (
            Outgoing::Invalid(Refusal::invalid_dispatch(Value::Null, ts(), value(r#"{"a":1}"#))),
            r#"{"op":3,"d":{"error":"invalid dispatch payload","extra_info":{"op":"dispatch","d":{"a":1},"t":null,"ts":5}},"t":null,"ts":7}"#,
            &[
                "d/error",
                "d/extra_info",
                "d/extra_info/d",
                "d/extra_info/op",
                "d/extra_info/t",
                "d/extra_info/ts",
                "=dispatch",
            ],
        ),
        (
            Outgoing::message(false, text("n"), value(r#"{"p":[1]}"#), Some("s".into())),
            r#"{"op":4,"d":{"nonce":"n","payload":{"p":[1]},"sender":"s","target":null},"t":"SEND","ts":7}"#,
            &["d/nonce", "d/payload", "d/sender", "d/target"],
        ),
        (
            Outgoing::message(true, Value::Null, Value::Null, None),
            r#"{"op":4,"d":{"nonce":null,"payload":null,"sender":null,"target":null},"t":"BROADCAST","ts":7}"#,
            &["d/nonce", "d/payload", "d/sender", "d/target"],
        ),
        (
            Outgoing::Queue {
                queue: queue(),
                id: "1".into(),
                nonce: text("n"),
                payload: value(r#"{"p":1}"#),
                sender: None,
            },
            r#"{"op":4,"d":{"nonce":"n","payload":{"queue":"q","id":"1","payload":{"p":1}},"sender":null,"target":null},"t":"QUEUE","ts":7}"#,
            &["d/nonce", "d/payload", "d/payload/id", "d/payload/payload", "d/payload/queue", "d/sender", "d/target"],
        ),
        (Outgoing::QueueConfirm(queue()), r#"{"op":4,"d":{"queue":"q"},"t":"QUEUE_CONFIRM","ts":7}"#, &["d/queue"]),
        (Outgoing::Nodes(value(r#"{"n":[]}"#)), r#"{"op":4,"d":{"nodes":{"n":[]}},"t":"QUERY_NODES","ts":7}"#, &[]),
        (
            Outgoing::Connected(Application::new("a")),
            r#"{"op":4,"d":{"nonce":null,"payload":{"app":"a"},"target":null},"t":"CLIENT_CONNECTED","ts":7}"#,
            &["d/nonce", "d/payload", "d/payload/app", "d/target"],
        ),
        (
            Outgoing::Disconnected(Application::new("a")),
            r#"{"op":4,"d":{"nonce":null,"payload":{"app":"a"},"target":null},"t":"CLIENT_DISCONNECTED","ts":7}"#,
            &["d/nonce", "d/payload", "d/payload/app", "d/target"],
        ),
        (Outgoing::HeartbeatAck(client()), r#"{"op":6,"d":{"client_id":"c"},"t":null,"ts":7}"#, &[]),
        (Outgoing::Goodbye, r#"{"op":7,"d":{"reason":"load balancing"},"t":null,"ts":7}"#, &[]),
        (
            Outgoing::Error(Refusal::already_registered(&ClientKey::new("a", "c"))),
            r#"{"op":8,"d":{"error":"c: already registered for app a","extra_info":null},"t":null,"ts":7}"#,
            &["d/error", "d/extra_info"],
        ),
    ]
}

fn written(packet: &Outgoing, encoding: Encoding) -> Vec<u8> {
    let mut out = Vec::new();
    packet.write(encoding, 7, &mut out);
    out
}

#[test]
fn what_the_server_says_has_these_keys_in_all_encodings() {
    for (packet, text, _) in said() {
        assert_eq!(String::from_utf8(written(&packet, Encoding::Json)).expect("UTF-8"), text);
        for encoding in [Encoding::Msgpack, Encoding::Etf] {
            let read = read(encoding, &written(&packet, encoding)).expect("a value");
            assert_eq!(json(&read), json(&value(text)), "{encoding:?}");
        }
    }
}

#[test]
fn structs_have_atoms_as_keys_in_etf_and_maps_have_not() {
    for (packet, text, atoms) in said() {
        let term = eetf::Term::decode(&written(&packet, Encoding::Etf)[..]).expect("a term");
        let mut found = Vec::new();
        atoms_of(&term, "", &mut found);
        found.sort();
        let mut expected: Vec<&str> = [atoms, &["d", "op", "t", "ts"]].concat();
        expected.sort_unstable();
        assert_eq!(found, expected, "{text}");
    }
}

/// The paths of keys that are atoms, and values that are, but for `nil`, `true` and `false`.
fn atoms_of(term: &eetf::Term, path: &str, found: &mut Vec<String>) {
    match term {
        eetf::Term::Map(map) => {
            for (key, value) in &map.map {
                let name = match key {
                    eetf::Term::Atom(atom) => atom.name.clone(),
                    eetf::Term::Binary(text) => String::from_utf8(text.bytes.clone()).expect("UTF-8"),
                    other => panic!("{other:?} is no key of ours"),
                };
                let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                if matches!(key, eetf::Term::Atom(_)) {
                    found.push(path.clone());
                }
                atoms_of(value, &path, found);
            }
        }
        eetf::Term::Atom(atom) if !["nil", "true", "false"].contains(&&*atom.name) => {
            found.push(format!("={}", atom.name))
        }
        _ => {}
    }
}

// ---- anything at all ----

/// Packets with bytes changed, lost, doubled and put in.
#[test]
fn no_packet_however_mangled_is_a_panic() {
    let packets = [
        r#"{"op":1,"d":{"client_id":"c","application_id":"a","auth":"x","ip":"h","namespace":{"n":[1.5]},"metadata":{"k":{"type":"integer","value":99999999999999999999},"v":{"type":"version","value":"1.0.0-rc.1"}},"receive_client_updates":true}}"#,
        r#"{"op":4,"t":"SEND","ts":1,"d":{"nonce":"é\n","payload":[null,true,-1.5e9],"target":{"application":"a","key":"k","optional":true,"ops":[{"op":"$or","with":[{"path":"/a/0","op":"$in","to":{"value":[1,"b"]}}]}],"selector":{"$min":"k"}}}}"#,
        r#"{"op":4,"t":"QUEUE","d":{"queue":"q","nonce":null,"payload":{"a":{}},"target":{"ops":[{"k":{"$gte":1,"$or":[{"$ne":"x"}]}}]}}}"#,
        r#"{"op":4,"t":"UPDATE_METADATA","d":{"a":{"type":"list","value":[]},"b":{"type":"float","value":1.0}}}"#,
        r#"{"op":4,"t":"QUEUE_ACK","d":{"queue":"q","id":"1"}}"#,
    ];
    let mut random = fastrand::Rng::with_seed(0x51);
    for encoding in ALL {
        for packet in packets {
            let original = bytes(encoding, packet);
            for _ in 0..1000 {
                let mut bytes = original.clone();
                for _ in 0..random.usize(1..4) {
                    mangle(&mut random, &mut bytes);
                }
                read_whatever(encoding, &bytes);
            }
        }
    }
}

fn mangle(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    let at = random.usize(..=bytes.len());
    let end = (at + random.usize(..20)).min(bytes.len());
    match random.u8(..4) {
        0 => bytes[at..end].iter_mut().take(1).for_each(|byte| *byte = random.u8(..)),
        1 => drop(bytes.drain(at..end)),
        2 => bytes.insert(at, random.u8(..)),
        _ => {
            let piece = bytes[at..end].to_vec();
            let at = random.usize(..=bytes.len());
            bytes.splice(at..at, piece);
        }
    }
}

/// Does with a frame all that a session does; what is refused can be told.
fn read_whatever(encoding: Encoding, bytes: &[u8]) {
    let told = match Packet::read(encoding, FrameKind::of(encoding), bytes) {
        Err(refusal) => Some(Outgoing::Error(refusal)),
        Ok(packet) if packet.op == Op::Identify => packet.identify().err().map(Outgoing::Error),
        Ok(packet) => packet.dispatch(DEPTH).err().map(|refused| match refused {
            Refused::Invalid(refusal) => Outgoing::Invalid(refusal),
            Refused::Error(refusal) => Outgoing::Error(refusal),
        }),
    };
    if let Some(told) = told {
        for encoding in ALL {
            read(encoding, &written(&told, encoding)).expect("what is written can be read");
        }
    }
}
