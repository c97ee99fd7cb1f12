//! What is said at which point, and with which code it ends.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::cluster::node::NodeId;
use crate::secret::Secret;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// A client that speaks with a session.
struct Client {
    session: Session,
    encoding: Encoding,
    now: Instant,
}

impl Client {
    fn of(password: Option<&str>, encoding: Encoding) -> Self {
        let limits = Limits { metadata: 200, query_depth: 4, ..Limits::default() };
        let passwords = Arc::new(Passwords::new(password.map(Secret::new)));
        let rules = Arc::new(Rules { limits, passwords, gateway: Application::new("G") });
        let now = Instant::now();
        Self { session: Session::new(rules, encoding, PEER, now), encoding, now }
    }

    fn new() -> Self {
        Self::of(None, Encoding::Json)
    }

    /// Says it in the connection's encoding.
    fn says(&mut self, packet: serde_json::Value) -> Option<Action> {
        let mut bytes = packet.to_string().into_bytes();
        if self.encoding != Encoding::Json {
            let value = crate::encoding::json::read(&bytes).expect("JSON");
            bytes.clear();
            crate::encoding::write(self.encoding, &value, &mut bytes);
        }
        self.session.message(FrameKind::of(self.encoding), &bytes, self.now)
    }

    fn identified(mut self, d: serde_json::Value) -> Self {
        assert!(matches!(self.says(json!({"op": 1, "d": d})), Some(Action::Register(_))));
        assert!(matches!(self.session.registered(self.now), Some(Outgoing::Ready { .. })));
        self
    }

    fn usual() -> Self {
        Self::new().identified(ids())
    }

    fn after(&mut self, seconds: f64) -> Option<Action> {
        self.now += Duration::from_secs_f64(seconds);
        self.session.timeout(self.now)
    }
}

fn ids() -> serde_json::Value {
    json!({"client_id": "c", "application_id": "a"})
}

/// The error of the last packet and the close code's number.
fn end(action: Option<Action>) -> (String, u16) {
    match action {
        Some(Action::Close { last: Some(Outgoing::Error(refusal)), code }) => (refusal.error.into(), code.number()),
        Some(Action::Close { last: None, code }) => (String::new(), code.number()),
        other => panic!("the connection is not closed: {other:?}"),
    }
}

fn refusal(action: Option<Action>) -> Refusal {
    match action {
        Some(Action::Answer(Outgoing::Invalid(refusal))) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn registration(action: Option<Action>) -> Registration {
    match action {
        Some(Action::Register(registration)) => *registration,
        other => panic!("not to be registered: {other:?}"),
    }
}

#[test]
fn the_first_packet_is_hello_with_the_interval() {
    assert_eq!(Client::new().session.hello(), Outgoing::Hello { heartbeat_interval: 45_000 });
}

#[test]
fn before_identify_nothing_else_is_taken() {
    let error = "sent payload with non-identify opcode without identifying first";
    let packets = [
        json!({"op": 5, "d": null}),
        json!({"op": 4, "t": "SEND", "d": {}}),
        json!({"op": 99}),
        json!({"op": 1.0, "d": ids()}),
        json!({"op": "1", "d": ids()}),
        json!({}),
        json!(null),
    ];
    for packet in packets {
        assert_eq!(end(Client::new().says(packet.clone())), (error.to_owned(), 4003), "{packet}");
    }
}

#[test]
fn an_identify_that_is_not_well_formed_is_refused() {
    let cases = [
        (json!(null), "decode: payload: unrecoverable"),
        (json!({"client_id": "c"}), "decode: payload: unrecoverable"),
        (json!({"application_id": "a"}), "decode: payload: unrecoverable"),
        (json!({"client_id": 1, "application_id": "a"}), "payload has no data"),
        (json!({"client_id": "c", "application_id": ["a"]}), "payload has no data"),
        (json!({"client_id": "c".repeat(200), "application_id": "a".repeat(17)}), "internal server error"),
        (json!({"client_id": "c", "application_id": "a", "metadata": {"k": 1}}), "internal server error"),
        (
            json!({"client_id": "c", "application_id": "a", "metadata": {"k": {"type": "integer", "value": "x"}}}),
            "initial metadata: invalid",
        ),
        (
            json!({"client_id": "c", "application_id": "G"}),
            "application G is the gateway's own: nobody can identify as it",
        ),
    ];
    for (d, error) in cases {
        let answer = Client::new().says(json!({"op": 1, "d": d}));
        assert_eq!(end(answer), (error.to_owned(), 4004), "{d}");
    }
}

#[test]
fn what_cannot_be_read_is_told_and_closed() {
    let mut client = Client::usual();
    let (error, code) = end(client.session.message(FrameKind::Binary, b"{}", client.now));
    assert_eq!(error, "decode: payload: invalid websocket opcode/encoding combo: {binary, json}");
    assert_eq!(code, 4002);
    assert_eq!(end(Client::usual().says(json!([]))), ("decode: payload: unrecoverable".to_owned(), 4002));
    let mut client = Client::usual();
    let (error, code) = end(client.session.message(FrameKind::Text, b"null!", client.now));
    assert!(error.starts_with("unexpected byte at position 4"), "{error}");
    assert_eq!(code, 4002);
    assert!(client.says(json!({"op": 5})).is_none(), "it has ended");
}

#[test]
fn ops_that_no_client_sends_are_named() {
    let names = [(0, ":hello"), (2, ":ready"), (3, ":invalid"), (6, ":heartbeat_ack"), (7, ":goodbye"), (8, ":error")];
    for (op, name) in names.into_iter().chain([(9, "nil"), (-1, "nil")]) {
        let expected = (format!("invalid client op {name}"), 4002);
        assert_eq!(end(Client::usual().says(json!({"op": op}))), expected);
    }
    assert_eq!(end(Client::usual().says(json!(null))).0, "invalid client op nil");
}

#[test]
fn a_second_identify_ends_it_whoever_it_names() {
    for id in ["c", "other"] {
        let answer = Client::usual().says(json!({"op": 1, "d": {"client_id": id, "application_id": "a"}}));
        assert_eq!(end(answer), ("c: already registered for app a".to_owned(), 4005));
    }
    let malformed = Client::usual().says(json!({"op": 1, "d": {}}));
    assert_eq!(end(malformed).0, "decode: payload: unrecoverable");
}

#[test]
fn a_client_whose_ids_are_taken_is_refused() {
    let mut client = Client::new();
    registration(client.says(json!({"op": 1, "d": ids()})));
    assert_eq!(client.session.deadline(), None, "it is not the client that takes its time");
    assert_eq!(end(client.session.refused()), ("c: already registered for app a".to_owned(), 4005));
}

#[test]
fn both_generations_of_identify_are_understood_and_the_peer_is_its_address() {
    let node = NodeId::of_run("n", 1);
    let d = json!({"client_id": "c", "application_name": "a", "reconnect": true, "tags": ["x"]});
    let client = registration(Client::new().says(json!({"op": 1, "d": d}))).into_client(node.clone());
    assert_eq!(client.key, ClientKey::new("a", "c"));
    assert_eq!(client.ip.as_deref(), Some("192.0.2.7"));
    let d = json!({
        "client_id": "", "application_id": " ", "ip": "host:80", "namespace": [1], "receive_client_updates": true,
        "auth": "not asked for", "metadata": {"k": {"type": "integer", "value": 1}},
    });
    let client = registration(Client::new().says(json!({"op": 1, "d": d}))).into_client(node);
    assert_eq!(client.key, ClientKey::new(" ", ""));
    assert_eq!(client.ip.as_deref(), Some("host:80"));
    assert_eq!(*client.namespace, Value::List([Value::Integer(1)].into()));
    assert_eq!(client.metadata.get("k").map(|(_, value)| value), Some(&Value::Integer(1)));
    assert!(client.receives_client_updates && !client.restricted);
}

#[test]
fn who_does_not_know_the_password_is_restricted() {
    let cases = [
        (json!({"auth": "hunter2"}), false, false),
        (json!({"auth": "hunter"}), true, true),
        (json!({"auth": ""}), true, true),
        (json!({"auth": null}), true, false),
        (json!({}), true, false),
    ];
    for (auth, restricted, failed) in cases {
        let mut d = json!({"client_id": "c", "application_id": "a", "receive_client_updates": true});
        d.as_object_mut().expect("a map").extend(auth.as_object().expect("a map").clone());
        let registration = registration(Client::of(Some("hunter2"), Encoding::Json).says(json!({"op": 1, "d": d})));
        assert_eq!((registration.restricted, !registration.wait.is_zero()), (restricted, failed), "{auth}");
        let client = registration.into_client(NodeId::of_run("n", 1));
        assert_eq!((client.ip.is_none(), client.receives_client_updates), (restricted, !restricted), "{auth}");
    }
    let d = json!({"client_id": "c", "application_id": "a", "auth": 1});
    let malformed = Client::of(Some("hunter2"), Encoding::Json).says(json!({"op": 1, "d": d}));
    assert_eq!(end(malformed), ("internal server error".to_owned(), 4004));
    registration(Client::new().says(json!({"op": 1, "d": d})));
}

#[test]
fn a_restricted_client_may_only_say_what_it_is() {
    let restricted = || Client::of(Some("hunter2"), Encoding::Json).identified(ids());
    for t in ["SEND", "BROADCAST", "QUEUE", "QUEUE_REQUEST", "QUERY_NODES", "ANYTHING"] {
        // Before it is looked at any further.
        let answer = refusal(restricted().says(json!({"op": 4, "t": t, "d": null})));
        assert_eq!(*answer.error, *format!("invalid dispatch type {t} (are you restricted?)"));
        assert_eq!(answer.extra_info, None);
    }
    let update = json!({"op": 4, "t": "UPDATE_METADATA", "d": {"k": {"type": "string", "value": "v"}}});
    assert!(matches!(restricted().says(update), Some(Action::Update(_))));
    assert!(matches!(restricted().says(json!({"op": 5})), Some(Action::Heartbeat)));
    let mut etf = Client::of(Some("hunter2"), Encoding::Etf).identified(ids());
    assert_eq!(end(etf.says(json!({"op": 5}))), ("restricted clients may not use ETF".to_owned(), 4002));
}

#[test]
fn dispatches_are_handed_on_in_every_encoding() {
    for encoding in [Encoding::Json, Encoding::Msgpack, Encoding::Etf] {
        let mut client = Client::of(None, encoding).identified(ids());
        let send = json!({"op": 4, "t": "SEND", "ts": 7, "d": {"target": {}, "payload": 1, "nonce": "n"}});
        let Some(Action::Dispatch { dispatch: Dispatch::Send(message), ts }) = client.says(send) else {
            panic!("not dispatched");
        };
        assert_eq!((message.nonce, ts), (Value::string("n"), Value::Integer(7)));
        assert!(matches!(client.says(json!({"op": 4, "t": "QUERY_NODES", "d": {}})), Some(Action::QueryNodes(_))));
    }
}

#[test]
fn dispatches_that_are_not_well_formed_are_refused_and_some_end_it() {
    let dispatch = |t: serde_json::Value, d| Client::usual().says(json!({"op": 4, "t": t, "d": d}));
    for answer in [
        dispatch(json!(null), json!({})),
        dispatch(json!("QUEUE_REQUEST"), json!({})),
        dispatch(json!("QUEUE"), json!({"queue": "q", "target": {}, "payload": 1})),
    ] {
        let refusal = refusal(answer);
        assert_eq!(&*refusal.error, "invalid dispatch payload");
        let told = refusal.extra_info.expect("the packet");
        assert_eq!(told.get("op"), Some(&Value::string("dispatch")));
    }
    let bad = dispatch(json!("UPDATE_METADATA"), json!({"k": {"type": "integer", "value": true}}));
    assert_eq!(&*refusal(bad).error, "invalid metadata");
    for (t, d, error) in [
        ("SEND", json!({"target": {}}), "internal server error"),
        ("BROADCAST", json!({"payload": 1}), "internal server error"),
        ("UPDATE_METADATA", json!({"k": 1}), "internal server error"),
        ("SEND", json!({"target": {"ops": 1}, "payload": 1}), "decode: payload: unrecoverable"),
    ] {
        assert_eq!(end(dispatch(json!(t), d)), (error.to_owned(), 4002));
    }
    let deep =
        (0..8).fold(json!({"path": "/k", "op": "$eq", "to": {"value": 1}}), |op, _| json!({"op": "$or", "with": [op]}));
    let (error, code) = end(dispatch(json!("SEND"), json!({"target": {"ops": [deep]}, "payload": 1})));
    assert!(error.contains("more than 4 deep"), "{error}");
    assert_eq!(code, 4002);
}

#[test]
fn metadata_that_is_too_large_is_refused_by_the_name_of_its_largest_key() {
    let of = |length| json!({"small": {"type": "string", "value": "x"}, "large": {"type": "string", "value": "x".repeat(length)}});
    let changes = |value: serde_json::Value| {
        Changes::read(&crate::encoding::json::read(value.to_string().as_bytes()).expect("JSON")).expect("metadata")
    };
    let rules = Arc::clone(&Client::new().session.rules);
    let d = json!({"client_id": "c", "application_id": "a", "metadata": of(100)});
    let client = registration(Client::new().says(json!({"op": 1, "d": d}))).into_client(NodeId::of_run("n", 1));
    let refusal = rules.merged(&client, changes(of(300))).expect_err("too large");
    assert_eq!(&*refusal.error, "invalid metadata");
    let told = refusal.extra_info.expect("by key");
    let why = told.get("large").and_then(Value::as_str).expect("the largest key");
    assert!(why.starts_with("metadata is too large: ") && why.ends_with(" bytes, and 200 are allowed"), "{why}");
    let d = json!({"client_id": "c", "application_id": "a", "metadata": of(300)});
    assert_eq!(end(Client::new().says(json!({"op": 1, "d": d}))), ("initial metadata: invalid".to_owned(), 4004));
}

#[test]
fn what_else_is_kept_of_a_client_counts_with_its_metadata() {
    let refused = |d: serde_json::Value| match Client::new().says(json!({"op": 1, "d": d})) {
        Some(Action::Close { last: Some(Outgoing::Error(refusal)), code: CloseCode::BadIdentify }) => {
            assert_eq!(&*refusal.error, "initial metadata: invalid");
            let told = refusal.extra_info.expect("by key");
            told.as_map().expect("a map").iter().map(|(key, _)| key.to_owned()).next()
        }
        Some(Action::Register(_)) => None,
        other => panic!("neither refused nor registered: {other:?}"),
    };
    let of = |ip: usize, namespace: usize, metadata: usize| {
        json!({
            "client_id": "c", "application_id": "a", "ip": "i".repeat(ip), "namespace": "n".repeat(namespace),
            "metadata": {"k": {"type": "string", "value": "x".repeat(metadata)}},
        })
    };
    assert_eq!(refused(of(100, 10, 10)), None);
    assert_eq!(refused(of(256, 0, 0)).as_deref(), Some("ip"));
    assert_eq!(refused(of(0, 200, 10)).as_deref(), Some("namespace"));
    assert_eq!(refused(of(100, 10, 100)).as_deref(), Some("k"), "the largest that can be made smaller");
}

#[test]
fn where_too_many_wrong_passwords_wait_none_is_looked_at() {
    let client = Client::of(Some("hunter2"), Encoding::Json);
    let rules = Arc::clone(&client.session.rules);
    let identifies = |auth: &str| {
        let mut client = Client { session: Session::new(rules.clone(), Encoding::Json, PEER, client.now), ..client };
        client.says(json!({"op": 1, "d": {"client_id": "c", "application_id": "a", "auth": auth}}))
    };
    while matches!(identifies("wrong"), Some(Action::Register(_))) {}
    assert_eq!(end(identifies("hunter2")), ("too many wrong passwords".to_owned(), 1013));
}

#[test]
fn who_does_not_identify_in_time_is_closed_and_pings_do_not_help() {
    let mut client = Client::new();
    assert!(client.after(59.0).is_none());
    client.session.frame(client.now);
    assert_eq!(end(client.after(1.0)), (String::new(), 4003));
}

#[test]
fn who_says_nothing_is_closed_without_a_word() {
    let mut client = Client::usual();
    assert!(client.after(59.9).is_none());
    client.says(json!({"op": 5}));
    assert!(client.after(59.9).is_none());
    assert_eq!(end(client.after(0.1)), (String::new(), 4009));
}

#[test]
fn who_sends_no_heartbeat_is_closed_though_it_pings_or_speaks() {
    let late = ("heartbeat took too long".to_owned(), 4009);
    let mut client = Client::usual();
    client.says(json!({"op": 5}));
    assert!(client.after(40.0).is_none());
    client.session.frame(client.now);
    assert!(client.after(27.4).is_none());
    assert_eq!(end(client.after(0.1)), late);
    // A packet may be faster than the timer.
    let mut client = Client::usual();
    client.now += Duration::from_secs(50);
    client.session.frame(client.now);
    client.now += Duration::from_secs(18);
    assert_eq!(end(client.says(json!({"op": 5}))), late);
}

#[test]
fn what_was_not_read_is_no_fault_of_the_client() {
    let mut client = Client::usual();
    client.now += Duration::from_secs(600);
    client.session.excuse(client.now);
    assert!(client.after(59.9).is_none());
    assert!(matches!(client.says(json!({"op": 5})), Some(Action::Heartbeat)));
}

#[test]
fn at_the_servers_end_everybody_is_told_goodbye() {
    for mut client in [Client::new(), Client::usual()] {
        let goodbye = client.session.stop();
        assert!(matches!(goodbye, Action::Close { last: Some(Outgoing::Goodbye), code: CloseCode::GoingAway }));
        assert!(client.says(json!({"op": 5})).is_none());
    }
    assert_eq!(
        end(Some(Client::usual().session.too_large(4_194_304))),
        ("decode: payload: more than 4194304 bytes".to_owned(), 1009)
    );
}
