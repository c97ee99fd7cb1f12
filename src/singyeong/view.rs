//! A client as queries show it: `POST /api/v1/query`, and `QUERY_NODES` by process (spec/singyeong.md, "REST").

use super::client::Client;
use crate::encoding::{Map, Value};

/// What is shown of a client. Its metadata has the keys besides that it cannot set and others can query.
pub fn shown(client: &Client) -> Value {
    let ip = client.ip.as_deref().map_or(Value::Null, Value::string);
    let heartbeat = i64::try_from(client.last_heartbeat).unwrap_or(i64::MAX);
    let reserved = [
        ("encoding", "string", Value::string(client.encoding.name())),
        ("ip", "string", ip.clone()),
        ("last_heartbeat_time", "integer", Value::Integer(heartbeat)),
        ("namespace", "string", client.namespace.clone()),
        ("receive_client_updates", "boolean", Value::Bool(client.receives_client_updates)),
        ("restricted", "boolean", Value::Bool(client.restricted)),
    ];
    let own = client.metadata.iter().map(|(key, kind, value)| (key, kind.name(), value.clone()));
    let (mut metadata, mut types) = (Vec::new(), Vec::new());
    for (key, kind, value) in own.chain(reserved) {
        metadata.push((key.into(), value));
        types.push((key.into(), Value::string(kind)));
    }
    Value::map([
        ("app_id", Value::string(client.key.application.as_str())),
        ("client_id", Value::string(client.key.client.as_str())),
        ("metadata", Value::Map(Map::new(metadata))),
        ("metadata_types", Value::Map(Map::new(types))),
        ("queues", Value::List(client.queues.iter().map(|queue| Value::string(&queue.0)).collect())),
        ("socket_ip", ip),
    ])
}
