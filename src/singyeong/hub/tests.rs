use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::*;
use crate::encoding::{Encoding, Value, read};
use crate::singyeong::client::Kind;
use crate::singyeong::close_code::CloseCode;
use crate::singyeong::ids::Application;
use crate::singyeong::metadata::Metadata;
use crate::singyeong::outbox::Parcel;
use crate::singyeong::packet::dispatch::QueueName;
use crate::singyeong::packet::outgoing::Refusal;

pub(super) fn node(name: &str) -> NodeId {
    NodeId::try_from(name.to_owned()).expect("a node's id")
}

/// A client of this hub.
pub(super) fn client(hub: &Hub, application: &str, id: &str) -> Client {
    Client {
        key: ClientKey::new(application, id),
        node: hub.own().clone(),
        since: 1,
        kind: Kind::Websocket,
        restricted: false,
        encoding: Encoding::Json,
        ip: None,
        namespace: Value::Null.into(),
        receives_client_updates: false,
        last_heartbeat: 1,
        queues: BTreeSet::new(),
        metadata: Metadata::default(),
    }
}

/// Takes everything out of an outbox and counts who came and went, by application.
pub(super) fn count_updates(outbox: &Outbox, told: &mut BTreeMap<String, i64>) {
    for packet in packets(outbox) {
        match packet {
            Outgoing::Connected(application) => *told.entry(application.to_string()).or_default() += 1,
            Outgoing::Disconnected(application) => *told.entry(application.to_string()).or_default() -= 1,
            other => panic!("{other:?}"),
        }
    }
}

/// Registers a client whose connection has this number.
fn connect(hub: &Hub, client: Client, connection: u64) -> Outbox {
    let outbox = Outbox::default();
    hub.register(client, ConnectionId::new(connection), outbox.clone()).expect("nobody has its key");
    outbox
}

/// One that wants client updates; it was told of itself.
fn listen(hub: &Hub) -> Outbox {
    let listener = Client { receives_client_updates: true, ..client(hub, "listeners", hub.own().as_str()) };
    let outbox = connect(hub, listener, 1000);
    assert_eq!(packets(&outbox), [Outgoing::Connected(Application::new("listeners"))]);
    outbox
}

/// Takes everything out, as if it was written to a socket.
fn packets(outbox: &Outbox) -> Vec<Outgoing> {
    let written = |parcel: Parcel| {
        let packet = parcel.packet.clone();
        parcel.written();
        packet
    };
    std::iter::from_fn(|| outbox.take().map(written)).collect()
}

/// What one says, the other hears, both ways, until there is nothing more; gives how much was said.
fn talk(a: &Hub, b: &Hub, now: Instant) -> usize {
    let mut said = 0;
    while let Some((message, hears)) =
        a.next_message(now).map(|message| (message, b)).or_else(|| Some((b.next_message(now)?, a)))
    {
        hears.hear(&message, now);
        said += 1;
    }
    said
}

fn connected(application: &str) -> Outgoing {
    Outgoing::Connected(Application::new(application))
}

fn disconnected(application: &str) -> Outgoing {
    Outgoing::Disconnected(Application::new(application))
}

fn later(now: Instant, milliseconds: u64) -> Instant {
    now + Duration::from_millis(milliseconds)
}

#[test]
fn a_key_is_had_by_one_and_its_place_is_told() {
    let (a, b) = (Hub::new(node("a")), Hub::new(node("b")));
    connect(&a, client(&a, "app", "1"), 1);
    talk(&a, &b, Instant::now());
    let second = |hub: &Hub| hub.register(client(hub, "app", "1"), ConnectionId::new(2), Outbox::default());
    assert_eq!((second(&a), second(&b)), (Err(Place::Here), Err(Place::At(node("a")))));
    connect(&b, client(&b, "other", "1"), 3);
    assert_eq!((a.connected_here(), b.connected_here()), (1, 1));
    assert_eq!((b.others(), b.knows(&node("a")), b.knows(&node("b"))), (vec![node("a")], true, false));
}

#[test]
fn who_comes_and_goes_is_told_to_those_who_want_it_on_every_process() {
    let (a, b, mut now) = (Hub::new(node("a")), Hub::new(node("b")), Instant::now());
    let here = listen(&a);
    // Restricted ones are told nothing, whatever they want.
    let restricted = Client { receives_client_updates: true, restricted: true, ..client(&a, "app", "restricted") };
    let silent = connect(&a, restricted, 1);
    connect(&a, client(&a, "app", "1"), 2);
    assert_eq!(packets(&here), [connected("app"), connected("app")]);
    let there = listen(&b);
    talk(&a, &b, now);
    assert_eq!(packets(&here), [connected("listeners")]);
    assert_eq!(packets(&there), [connected("listeners"), connected("app"), connected("app")]);
    // The gateway is no websocket.
    a.put_gateway("gateway", &Gateway { shards: vec![0], shard_count: 1, latency: None }, 1);
    a.update(&ClientKey::new("app", "1"), ConnectionId::new(2), |client| client.last_heartbeat = 5);
    a.unregister(&ClientKey::new("app", "restricted"), ConnectionId::new(1));
    now = later(now, 6000);
    talk(&a, &b, now);
    assert_eq!((packets(&here), packets(&there)), (vec![disconnected("app")], vec![disconnected("app")]));
    b.process_gone(&node("a"));
    b.process_gone(&node("a"));
    assert_eq!(packets(&there), [disconnected("app"), disconnected("listeners")]);
    assert_eq!(packets(&silent), []);
}

#[test]
fn thousands_that_go_at_once_are_told_to_who_reads() {
    let (a, b, now) = (Hub::new(node("a")), Hub::new(node("b")), Instant::now());
    let (reads, does_not) = (listen(&b), Outbox::default());
    let listener = Client { receives_client_updates: true, ..client(&b, "listeners", "lazy") };
    b.register(listener, ConnectionId::new(1001), does_not.clone()).expect("a new id");
    for n in 0..3000 {
        connect(&a, client(&a, "app", &n.to_string()), n);
    }
    talk(&a, &b, now);
    b.process_gone(&node("a"));
    let mut told = BTreeMap::new();
    count_updates(&reads, &mut told);
    assert_eq!(told, [("app".to_owned(), 0), ("listeners".to_owned(), 1)].into());
    assert_eq!(reads.closing(), None);
    // Whose connection ends is told no more, and nothing is left of it.
    does_not.end();
    connect(&b, client(&b, "app", "1"), 1);
    assert_eq!(packets(&reads), [connected("app")]);
    assert_eq!(packets(&does_not), []);
}

#[test]
fn a_mere_resynchronisation_tells_nothing() {
    let (a, b, now) = (Hub::new(node("a")), Hub::new(node("b")), Instant::now());
    let listener = listen(&b);
    connect(&a, client(&a, "app", "1"), 1);
    talk(&a, &b, now);
    assert_eq!(packets(&listener), [connected("app")]);
    a.update(&ClientKey::new("app", "1"), ConnectionId::new(1), |client| client.namespace = Value::Integer(1).into());
    a.next_message(later(now, 100)).expect("it is lost");
    a.update(&ClientKey::new("app", "1"), ConnectionId::new(1), |client| client.namespace = Value::Integer(2).into());
    // The news, the question, the snapshot.
    assert_eq!(talk(&a, &b, later(now, 200)), 3);
    b.joined();
    assert_eq!(talk(&a, &b, later(now, 300)), 1);
    assert_eq!(packets(&listener), []);
    let seen = b.get(&ClientKey::new("app", "1")).expect("it is there");
    assert_eq!(*seen.namespace, Value::Integer(2));
}

#[test]
fn a_client_that_came_back_before_others_heard_that_it_went_is_told_as_both() {
    let (a, b, now) = (Hub::new(node("a")), Hub::new(node("b")), Instant::now());
    let listener = listen(&b);
    connect(&a, Client { since: 20, ..client(&a, "app", "1") }, 1);
    talk(&a, &b, now);
    assert!(a.unregister(&ClientKey::new("app", "1"), ConnectionId::new(1)));
    // Even if the clock was set back meanwhile.
    connect(&a, Client { since: 10, ..client(&a, "app", "1") }, 2);
    talk(&a, &b, later(now, 100));
    assert_eq!(packets(&listener), [connected("app"), disconnected("app"), connected("app")]);
    assert_eq!(b.get(&ClientKey::new("app", "1")).expect("it is there").since, 10);
}

#[test]
fn of_two_that_came_at_the_same_moment_the_earlier_is_closed() {
    let (a, b, now) = (Hub::new(node("a")), Hub::new(node("b")), Instant::now());
    let earlier = connect(&a, Client { since: 10, ..client(&a, "app", "1") }, 1);
    let later_one = connect(&b, Client { since: 11, ..client(&b, "app", "1") }, 2);
    let listener = listen(&a);
    talk(&a, &b, now);
    assert_eq!(packets(&earlier), [Outgoing::Error(Refusal::new("1: already registered for app app"))]);
    assert_eq!(earlier.closing(), Some(CloseCode::AlreadyRegistered));
    assert_eq!((packets(&later_one), later_one.closing()), (vec![], None));
    assert_eq!(packets(&listener), [disconnected("app"), connected("app")]);
    assert!(!a.unregister(&ClientKey::new("app", "1"), ConnectionId::new(1)), "it is not that connection's any more");
    for hub in [&a, &b] {
        assert_eq!(hub.get(&ClientKey::new("app", "1")).expect("it is there").node, node("b"));
    }
    assert!(a.deliver(&ClientKey::new("app", "1"), Outgoing::Goodbye, None).is_err());
}

#[test]
fn who_did_not_answer_is_forgotten_and_the_newcomer_is_the_later_whatever_the_clocks_say() {
    let (a, b, now) = (Hub::new(node("a")), Hub::new(node("b")), Instant::now());
    let key = ClientKey::new("app", "1");
    let dead = connect(&a, Client { since: 1_000_000, ..client(&a, "app", "1") }, 1);
    talk(&a, &b, now);
    b.forget(&key);
    assert_eq!(b.get(&key), None);
    let newcomer = connect(&b, Client { since: 5, ..client(&b, "app", "1") }, 2);
    talk(&a, &b, later(now, 100));
    assert_eq!((dead.closing(), newcomer.closing()), (Some(CloseCode::AlreadyRegistered), None));
    assert_eq!((a.connected_here(), b.connected_here()), (0, 1));
    assert_eq!(a.get(&key).expect("it is there").node, node("b"));
    // The same in one process.
    b.forget(&key);
    assert_eq!(newcomer.closing(), Some(CloseCode::TimedOut));
    connect(&b, client(&b, "app", "1"), 3);
    assert!(!b.unregister(&key, ConnectionId::new(2)));
    assert!(b.unregister(&key, ConnectionId::new(3)));
}

#[test]
fn a_restricted_client_gives_way_at_once_to_one_that_is_not_and_never_the_other_way() {
    let (a, b, now) = (Hub::new(node("a")), Hub::new(node("b")), Instant::now());
    let restricted = |hub: &Hub, id: &str| Client { restricted: true, since: 1_000_000, ..client(hub, "app", id) };
    let refused = || [Outgoing::Error(Refusal::new("1: already registered for app app"))];
    let (here, there) = (connect(&a, restricted(&a, "1"), 1), connect(&a, restricted(&a, "2"), 2));
    let second = a.register(restricted(&a, "1"), ConnectionId::new(3), Outbox::default());
    assert_eq!(second, Err(Place::Here), "they are equals");
    talk(&a, &b, now);
    // In the same process.
    let newcomer = connect(&a, client(&a, "app", "1"), 4);
    assert_eq!((packets(&here).as_slice(), here.closing()), (&refused()[..], Some(CloseCode::AlreadyRegistered)));
    assert!(!a.unregister(&ClientKey::new("app", "1"), ConnectionId::new(1)));
    // In another one, whatever the clocks say.
    let newcomer_there = connect(&b, client(&b, "app", "2"), 5);
    talk(&a, &b, later(now, 100));
    assert_eq!(there.closing(), Some(CloseCode::AlreadyRegistered));
    for (key, at) in [("1", "a"), ("2", "b")] {
        for hub in [&a, &b] {
            let seen = hub.get(&ClientKey::new("app", key)).expect("it is there");
            assert_eq!((seen.restricted, &seen.node), (false, &node(at)));
        }
        for hub in [&a, &b] {
            let place = if *hub.own() == node(at) { Place::Here } else { Place::At(node(at)) };
            let late = hub.register(restricted(hub, key), ConnectionId::new(6), Outbox::default());
            assert_eq!(late, Err(place), "a restricted one waits");
        }
    }
    // Not even for one that did not answer, and may live yet.
    b.forget(&ClientKey::new("app", "1"));
    let late = b.register(restricted(&b, "1"), ConnectionId::new(7), Outbox::default());
    assert_eq!(late, Err(Place::At(node("a"))));
    assert_eq!((newcomer.closing(), newcomer_there.closing()), (None, None));
}

#[test]
fn of_two_that_came_at_the_same_moment_the_restricted_is_closed_though_it_is_the_later() {
    let (a, b, now) = (Hub::new(node("a")), Hub::new(node("b")), Instant::now());
    let holder = connect(&a, Client { since: 10, ..client(&a, "app", "1") }, 1);
    let restricted = connect(&b, Client { restricted: true, since: 99, ..client(&b, "app", "1") }, 2);
    talk(&a, &b, now);
    assert_eq!((holder.closing(), restricted.closing()), (None, Some(CloseCode::AlreadyRegistered)));
    for hub in [&a, &b] {
        assert_eq!(hub.get(&ClientKey::new("app", "1")).expect("it is there").node, node("a"));
    }
}

#[test]
fn those_that_were_there_before_a_process_are_not_told_to_have_come() {
    let (a, b, now) = (Hub::new(node("a")), Hub::new(node("b")), Instant::now());
    connect(&a, client(&a, "app", "1"), 1);
    a.next_message(now).expect("before there is anybody to hear it");
    let listener = listen(&b);
    b.joined();
    // What changes meanwhile does not make it new.
    a.update(&ClientKey::new("app", "1"), ConnectionId::new(1), |client| {
        client.queues = [QueueName("q".into())].into()
    });
    talk(&a, &b, later(now, 100));
    assert!(b.is_whole());
    b.informed();
    assert_eq!((packets(&listener), b.get(&ClientKey::new("app", "1")).is_some()), (vec![], true));
    // One that came after the process began is told, though it came with those that were there.
    let (late, waiting) = (Hub::new(node("late")), Hub::new(node("waiting")));
    let listener_of_late = listen(&late);
    connect(&waiting, Client { since: u64::MAX, ..client(&waiting, "app", "3") }, 3);
    waiting.next_message(now).expect("before there is anybody to hear it");
    late.joined();
    talk(&waiting, &late, later(now, 100));
    assert_eq!(packets(&listener_of_late), [connected("app")]);
    connect(&a, client(&a, "app", "2"), 2);
    talk(&a, &b, later(now, 200));
    assert_eq!(packets(&listener), [connected("app")]);
    // Taken for gone, and told so, they come anew.
    b.process_gone(&node("a"));
    assert_eq!(packets(&listener), [disconnected("app"), disconnected("app")]);
    b.joined();
    talk(&a, &b, later(now, 300));
    assert_eq!(packets(&listener), [connected("app"), connected("app")]);
}

#[test]
fn whether_others_are_known_is_told_and_not_while_nothing_is_heard() {
    let hub = Hub::new(node("a"));
    assert!(!hub.is_informed());
    hub.informed();
    assert!(hub.is_informed());
    hub.cut_off();
    assert!(!hub.is_informed());
}

#[test]
fn only_its_connection_changes_a_client_and_not_who_it_is() {
    let hub = Hub::new(node("a"));
    let key = ClientKey::new("app", "1");
    connect(&hub, client(&hub, "app", "1"), 1);
    hub.update(&key, ConnectionId::new(2), |_| panic!("not its connection"));
    hub.update(&key, ConnectionId::new(1), |client| {
        client.key = ClientKey::new("other", "2");
        client.node = node("b");
        client.since = 99;
        client.namespace = Value::Bool(true).into();
    });
    let changed = hub.get(&key).expect("it is there");
    assert_eq!(*changed, Client { namespace: Value::Bool(true).into(), ..client(&hub, "app", "1") });
}

#[test]
fn packets_are_delivered_to_who_is_here() {
    let hub = Hub::new(node("a"));
    let key = ClientKey::new("app", "1");
    let outbox = connect(&hub, client(&hub, "app", "1"), 1);
    assert_eq!(hub.deliver(&key, Outgoing::Goodbye, None), Ok(()));
    assert_eq!(packets(&outbox), [Outgoing::Goodbye]);
    let nobody = ClientKey::new("app", "2");
    assert_eq!(hub.deliver(&nobody, Outgoing::Goodbye, None), Err(Undeliverable::Closed));
    assert!(hub.outbox(&key).is_some() && hub.outbox(&nobody).is_none());
}

#[test]
fn the_gateway_is_a_client_with_its_shards_in_every_process() {
    let (a, b, now) = (Hub::new(node("a")), Hub::new(node("b")), Instant::now());
    a.put_gateway("gateway", &Gateway { shards: vec![0, 2], shard_count: 4, latency: None }, 10);
    talk(&a, &b, now);
    a.put_gateway("gateway", &Gateway { shards: vec![0], shard_count: 4, latency: Some(41.5) }, 20);
    talk(&a, &b, later(now, 100));
    let key = ClientKey::new("gateway", "a");
    let gateway = b.get(&key).expect("it is there");
    assert_eq!((gateway.kind, gateway.since, gateway.last_heartbeat), (Kind::Gateway, 10, 20));
    let said: Vec<_> = gateway.metadata.iter().map(|(key, of, value)| (key, of.name(), value.clone())).collect();
    let expected = [
        ("latency", "float", Value::Float(41.5)),
        ("shard_count", "integer", Value::Integer(4)),
        ("shards", "list", Value::List([Value::Integer(0)].into())),
    ];
    assert_eq!(said, expected);
    assert_eq!((a.connected_here(), a.outbox(&key).is_none()), (0, true));
    let shard = Query::compile(
        &read(
            Encoding::Json,
            br#"{"application": "gateway", "ops": [{"path": "/shards", "op": "$contains", "to": {"value": 0}}]}"#,
        )
        .expect("JSON"),
        32,
    );
    assert_eq!(b.choose(&shard.expect("a query")).expect("it matches").key, key);
}
