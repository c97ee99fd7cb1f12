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
        namespace: Value::Null,
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
            client.namespace = more.get("namespace").cloned().unwrap_or(Value::Null);
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
