//! Whatever a client sends as a target, compiling it and asking it of clients does not panic, and told back it is the same query.
#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use optic::cluster::node::NodeId;
use optic::encoding::{Encoding, Value, json};
use optic::singyeong::client::{Client, Kind};
use optic::singyeong::ids::ClientKey;
use optic::singyeong::metadata::{Changes, Metadata};
use optic::singyeong::query::Query;
use optic::singyeong::registry::Registry;

/// Metadata that the targets of the table find something in.
const METADATA: [&str; 3] = [
    "{}",
    r#"{"n": {"type": "integer", "value": 1}, "s": {"type": "string", "value": "b"}, "v": {"type": "version", "value": "1.0.0"}}"#,
    r#"{"n": {"type": "float", "value": 1.5}, "l": {"type": "list", "value": [1, [2]]}, "m": {"type": "map", "value": {"x": [7]}}}"#,
];

fn client(id: &str, said: &str) -> Client {
    let mut metadata = Metadata::default();
    metadata.merge(Changes::read(&json::read(said.as_bytes()).expect("JSON")).expect("valid metadata"));
    Client {
        key: ClientKey::new("app", id),
        node: NodeId::of_run("fuzz", 0),
        since: 0,
        kind: Kind::Websocket,
        restricted: id == "0",
        encoding: Encoding::Json,
        ip: None,
        namespace: Value::Null.into(),
        receives_client_updates: false,
        last_heartbeat: 0,
        queues: BTreeSet::new(),
        metadata,
    }
}

fuzz_target!(|bytes: &[u8]| {
    static CLIENTS: LazyLock<Vec<Client>> =
        LazyLock::new(|| (0..).zip(METADATA).map(|(id, said): (u8, _)| client(&id.to_string(), said)).collect());
    let Ok(target) = json::read(bytes) else { return };
    let Ok(query) = Query::compile(&target, 32) else { return };
    let mut registry = Registry::new(fastrand::Rng::with_seed(0));
    for client in &*CLIENTS {
        registry.put(client.clone());
    }
    let all = registry.all(&query);
    assert_eq!(registry.choose(&query).is_some(), !all.is_empty());
    for client in &*CLIENTS {
        let is_in = all.iter().any(|found| found.key == client.key);
        assert_eq!(registry.matches(&query, &client.key), is_in);
    }
    assert_eq!(Query::compile(&query.to_value(), 32).as_ref(), Ok(&query));
});
