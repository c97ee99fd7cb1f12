use std::collections::BTreeMap;

use super::*;
use crate::encoding::{Encoding, Value, json};
use crate::singyeong::client::Kind;
use crate::singyeong::metadata::{Changes, Metadata};
use crate::singyeong::query::InvalidQuery;

/// The cases that were tried on the original.
const TABLE: &str = include_str!("../../../tests/data/singyeong-queries.json");

fn value(text: &str) -> Value {
    json::read(text.as_bytes()).expect("JSON")
}

fn node(name: &str) -> NodeId {
    NodeId::try_from(name.to_owned()).expect("a node's id")
}

/// A client of `app` at node `a`, which says this of itself.
fn client(id: &str, metadata: &str) -> Client {
    let mut client = Client {
        key: ClientKey::new("app", id),
        node: node("a"),
        since: 1,
        kind: Kind::Websocket,
        restricted: false,
        encoding: Encoding::Json,
        ip: Some("127.0.0.1".into()),
        namespace: Value::Null.into(),
        receives_client_updates: false,
        last_heartbeat: 1_600_000_000_000,
        queues: std::collections::BTreeSet::new(),
        metadata: Metadata::default(),
    };
    client.metadata.merge(Changes::read(&value(metadata)).expect("valid metadata"));
    client
}

/// With an integer `n`.
fn numbered(id: &str, n: i64) -> Client {
    client(id, &format!(r#"{{"n": {{"type": "integer", "value": {n}}}}}"#))
}

fn registry(clients: impl IntoIterator<Item = Client>) -> Registry {
    let mut registry = Registry::new(fastrand::Rng::with_seed(7));
    for client in clients {
        assert_eq!(registry.put(client), Put::New);
    }
    registry
}

fn query(target: &str) -> Query {
    Query::compile(&value(target), 32).expect("a query")
}

fn ids(clients: &[Arc<Client>]) -> Vec<&str> {
    clients.iter().map(|client| client.key.client.as_str()).collect()
}

#[test]
fn every_case_of_the_table_is_answered_as_it_says() {
    let Value::List(cases) = value(TABLE) else { panic!("a list") };
    assert_eq!(cases.len(), 153);
    for case in &cases {
        let name = case.get("name").and_then(Value::as_str).expect("a name");
        let mut client = client("one", "{}");
        client.metadata.merge(Changes::read(case.get("metadata").expect("metadata")).expect(name));
        if let Some(more) = case.get("client") {
            client.restricted = more.get("restricted") == Some(&Value::Bool(true));
            client.namespace = more.get("namespace").cloned().unwrap_or(Value::Null).into();
        }
        let (key, registry) = (client.key.clone(), registry([client]));
        let compiled = Query::compile(case.get("query").expect("a query"), 32);
        if case.get("reject") == Some(&Value::Bool(true)) {
            assert!(matches!(compiled, Err(InvalidQuery::Malformed(_))), "{name}: {compiled:?}");
            continue;
        }
        let compiled = compiled.expect(name);
        let matches = case.get("matches") == Some(&Value::Bool(true));
        let admitted = compiled.admits(registry.get(&key).expect("it is there"));
        assert_eq!(admitted, matches, "{name}");
        // Where `optional` finds what the query itself does not, the table tells of the query itself.
        let found = matches || compiled.is_optional();
        assert_eq!(registry.all(&compiled).len(), usize::from(found), "{name}");
        assert_eq!(registry.choose(&compiled).is_some(), found, "{name}");
        assert_eq!(registry.matches(&compiled, &key), found, "{name}");
        assert_eq!(Query::compile(&compiled.to_value(), 32).as_ref(), Ok(&compiled), "{name}");
    }
}

#[test]
fn a_client_is_put_in_changed_and_taken_out() {
    let at = |name: &str, since: u64| Client { node: node(name), since, ..client("one", "{}") };
    let key = ClientKey::new("app", "one");
    let mut registry = registry([at("b", 5)]);
    assert_eq!(registry.put(at("a", 4)), Put::Updated);
    assert_eq!((registry.len(), registry.get(&key)), (1, Some(&Arc::new(at("a", 4)))));
    registry.beat(&key, 77);
    registry.beat(&ClientKey::new("app", "two"), 78);
    let beaten = Arc::new(Client { last_heartbeat: 77, ..at("a", 4) });
    assert_eq!((registry.len(), registry.get(&key)), (1, Some(&beaten)));
    assert_eq!(registry.remove(&key, &node("b")), None);
    assert_eq!(registry.remove(&key, &node("a")), Some(beaten));
    assert_eq!(registry.remove(&key, &node("a")), None);
    assert!(registry.is_empty() && registry.get(&key).is_none());
}

#[test]
fn the_clients_of_a_process_are_found() {
    let of = |application: &str, id: &str, name: &str| Client {
        key: ClientKey::new(application, id),
        node: node(name),
        ..client("", "{}")
    };
    let mut registry =
        registry([of("y", "1", "a"), of("x", "2", "a"), of("x", "1", "b"), of("x", "0", "a"), of("z", "3", "b")]);
    assert_eq!(ids(&registry.of_node(&node("a"))), ["0", "2", "1"]);
    assert_eq!(ids(&registry.all(&query("null"))), ["0", "1", "2", "1", "3"]);
    for gone in registry.of_node(&node("a")) {
        registry.remove(&gone.key, &node("a"));
    }
    assert_eq!((registry.len(), ids(&registry.all(&query("null")))), (2, vec!["1", "3"]));
    assert!(registry.all(&query(r#"{"application": "y"}"#)).is_empty());
    assert!(registry.of_node(&node("a")).is_empty());
}

#[test]
fn selectors_leave_the_best_of_those_that_match() {
    let registry = registry([
        numbered("a", 5),
        numbered("b", 1),
        numbered("c", 9),
        numbered("d", 1),
        client("e", r#"{"n": {"type": "float", "value": 4.0}}"#),
    ]);
    let found = |target: &str| ids(&registry.all(&query(target))).join(" ");
    let one = r#"{"path": "/n", "op": "$gt", "to": {"value": 1}}"#;
    assert_eq!(found(r#"{"selector": {"$min": "n"}}"#), "b d");
    assert_eq!(found(r#"{"selector": {"$max": "n"}}"#), "c");
    // The mean is exactly 4.
    assert_eq!(found(r#"{"selector": {"$avg": "n"}}"#), "e");
    assert_eq!(found(&format!(r#"{{"ops": [{one}], "selector": {{"$min": "n"}}}}"#)), "e");
    // The first name decides, and a path is no key.
    assert_eq!(found(r#"{"selector": {"$min": "n", "$max": "n"}}"#), "c");
    assert_eq!(found(r#"{"selector": {"$a": "n", "$max": "n"}}"#), "a b c d e");
    assert_eq!(found(r#"{"selector": {"$max": "/n"}}"#), "a b c d e");
    assert_eq!(found(r#"{"selector": {"$max": 1}}"#), "a b c d e");
    assert_eq!(found(r#"{"selector": {"$avg": "x"}}"#), "a b c d e");
    assert_eq!(found(r#"{"application": "other", "selector": {"$max": "n"}}"#), "");
    let least = query(r#"{"selector": {"$min": "n"}}"#);
    let matching = |id: &str| registry.matches(&least, &ClientKey::new("app", id));
    assert_eq!((matching("a"), matching("b"), matching("nobody")), (false, true, false));
    let chosen: std::collections::BTreeSet<_> =
        (0..64).map(|_| registry.choose(&least).expect("two").key.client.to_string()).collect();
    assert_eq!(chosen.into_iter().collect::<Vec<_>>(), ["b", "d"]);
}

#[test]
fn what_a_client_lacks_is_null_for_a_selector_and_nothing_for_a_mean() {
    let registry = registry([numbered("a", 5), client("b", "{}"), numbered("c", 7)]);
    let found = |selector: &str| ids(&registry.all(&query(&format!(r#"{{"selector": {selector}}}"#)))).join(" ");
    assert_eq!(found(r#"{"$max": "n"}"#), "b");
    assert_eq!(found(r#"{"$min": "n"}"#), "a");
    assert_eq!(found(r#"{"$avg": "n"}"#), "a c");
}

#[test]
fn an_optional_query_that_nobody_matches_is_for_all_it_may_find() {
    let restricted = Client { restricted: true, ..numbered("c", 3) };
    let elsewhere = Client { key: ClientKey::new("other", "d"), ..numbered("", 3) };
    let registry = registry([numbered("a", 1), numbered("b", 2), restricted, elsewhere]);
    let target = |n: i64, more: &str| {
        let ops = format!(r#"[{{"path": "/n", "op": "$eq", "to": {{"value": {n}}}}}]"#);
        query(&format!(
            r#"{{"application": "app", "optional": true, "selector": {{"$min": "n"}}, "ops": {ops}{more}}}"#
        ))
    };
    assert_eq!(ids(&registry.all(&target(2, ""))), ["b"]);
    assert_eq!(ids(&registry.all(&target(4, ""))), ["a", "b"]);
    assert_eq!(ids(&registry.all(&target(3, ""))), ["a", "b"]);
    assert_eq!(ids(&registry.all(&target(3, r#", "restricted": true"#))), ["c"]);
    assert_eq!(ids(&registry.all(&target(4, r#", "restricted": true"#))), ["a", "b", "c"]);
    assert!(registry.choose(&target(4, "")).is_some());
    let matching = |n: i64, id: &str| registry.matches(&target(n, ""), &ClientKey::new("app", id));
    assert_eq!((matching(2, "a"), matching(4, "a"), matching(4, "c")), (false, true, false));
}

#[test]
fn chance_gives_all_that_match_the_same() {
    // Few of many, so that drawing alone does not find them; and all, so that it does.
    for (count, below) in [(10, 4), (1_000, 4), (40, 40)] {
        let registry = registry((0..count).map(|n| numbered(&format!("client-{n}"), n)));
        let query = query(&format!(
            r#"{{"application": "app", "ops": [{{"path": "/n", "op": "$lt", "to": {{"value": {below}}}}}]}}"#
        ));
        let mut times: BTreeMap<String, i64> = BTreeMap::new();
        let each = 500;
        for _ in 0..below * each {
            *times.entry(registry.choose(&query).expect("some match").key.client.to_string()).or_default() += 1;
        }
        assert_eq!(times.len() as i64, below);
        for (client, times) in times {
            assert!((each - 120..each + 120).contains(&times), "{client} of {count}: {times}");
        }
    }
}

#[test]
fn a_key_has_the_same_client_in_every_process_and_at_every_time() {
    let registry = registry((0..5).map(|n| numbered(&format!("worker-{n}"), n)));
    let owner = |key: &str| {
        let chosen = registry.choose(&query(&format!(r#"{{"application": "app", "key": {key}}}"#)));
        chosen.expect("there are some").key.client.to_string()
    };
    // Written down: a change of the hash would route keys differently while versions are mixed.
    let owners: Vec<String> =
        [r#""""#, r#""a""#, r#""guild-1""#, r#""81384788765712384""#, "1", "1.0", r#"[1, {"a": null}]"#]
            .map(owner)
            .into();
    assert_eq!(owners, ["worker-3", "worker-1", "worker-2", "worker-0", "worker-1", "worker-4", "worker-4"]);
}

#[test]
fn keys_spread_over_clients_and_a_client_that_goes_leaves_its_own_only() {
    let clients = || (0..10).map(|n| numbered(&format!("worker-{n}"), n));
    let (whole, gone) = (registry(clients()), "worker-3");
    let without = registry(clients().filter(|client| client.key.client.as_str() != gone));
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for key in 0..5_000 {
        let query = query(&format!(r#"{{"application": "app", "key": "guild-{key}"}}"#));
        let owner = whole.choose(&query).expect("there are some").key.client.to_string();
        let then = without.choose(&query).expect("there are some").key.client.to_string();
        assert!(owner == gone || then == owner, "guild-{key} went from {owner} to {then}");
        assert_ne!(then, gone);
        *times.entry(owner).or_default() += 1;
    }
    assert_eq!(times.len(), 10);
    assert!(times.values().all(|times| (400..600).contains(times)), "{times:?}");
}

#[test]
fn a_key_falls_only_to_those_that_match() {
    let registry = registry((0..20).map(|n| numbered(&format!("worker-{n}"), n % 4)));
    for key in 0..50 {
        let query =
            query(&format!(r#"{{"key": {key}, "ops": [{{"path": "/n", "op": "$eq", "to": {{"value": 2}}}}]}}"#));
        let chosen = registry.choose(&query).expect("five match");
        assert_eq!(chosen.metadata.get("n").map(|(_, n)| n), Some(&Value::Integer(2)));
    }
}

#[test]
fn a_client_is_shown_as_the_original_shows_it() {
    let mut client =
        client("one", r#"{"l": {"type": "list", "value": [1]}, "v": {"type": "version", "value": "1.0.0"}}"#);
    client.queues.insert(crate::singyeong::packet::dispatch::QueueName("jobs".into()));
    let shown = r#"{"app_id": "app", "client_id": "one", "socket_ip": "127.0.0.1", "queues": ["jobs"],
        "metadata_types": {"l": "list", "v": "version"},
        "metadata": {"l": [1], "v": "1.0.0", "ip": "127.0.0.1", "restricted": false, "encoding": "json",
            "namespace": null, "last_heartbeat_time": 1600000000000, "receive_client_updates": false}}"#;
    assert_eq!(client.to_value(), value(shown));
}
