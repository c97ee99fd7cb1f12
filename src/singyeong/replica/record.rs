//! A client as processes write it for each other.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::message::Unreadable;
use crate::cluster::node::NodeId;
use crate::encoding::{Encoding, Map, Value};
use crate::singyeong::client::{Client, Kind};
use crate::singyeong::ids::ClientKey;
use crate::singyeong::metadata::{Changes, Metadata};
use crate::singyeong::packet::dispatch::QueueName;

/// What is usual is left out. The process is not in it: it is that of the message.
#[derive(Serialize, Deserialize)]
struct Record<'a, Namespace, Queues, Metadata> {
    #[serde(borrow)]
    application: Cow<'a, str>,
    #[serde(borrow)]
    client: Cow<'a, str>,
    since: u64,
    #[serde(default, skip_serializing_if = "is_not")]
    gateway: bool,
    #[serde(default, skip_serializing_if = "is_not")]
    restricted: bool,
    #[serde(borrow)]
    encoding: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    ip: Option<Cow<'a, str>>,
    namespace: Namespace,
    #[serde(default, skip_serializing_if = "is_not")]
    updates: bool,
    heartbeat: u64,
    queues: Queues,
    metadata: Metadata,
}

type Read<'a> = Record<'a, Value, Vec<Box<str>>, BTreeMap<Box<str>, (Box<str>, Value)>>;

pub(super) fn write(client: &Client) -> Box<RawValue> {
    let record = Record {
        application: client.key.application.as_str().into(),
        client: client.key.client.as_str().into(),
        since: client.since,
        gateway: client.kind == Kind::Gateway,
        restricted: client.restricted,
        encoding: client.encoding.name().into(),
        ip: client.ip.as_deref().map(Cow::from),
        namespace: &*client.namespace,
        updates: client.receives_client_updates,
        heartbeat: client.last_heartbeat,
        queues: client.queues.iter().map(|queue| &*queue.0).collect::<Vec<_>>(),
        metadata: Typed(&client.metadata),
    };
    to_raw_value(&record).expect("all keys are texts")
}

pub(super) fn read(record: &RawValue, node: &NodeId) -> Result<Client, Unreadable> {
    let record: Read<'_> =
        serde_json::from_str(record.get()).map_err(|error| Unreadable::Malformed(error.to_string()))?;
    let key = ClientKey::new(&record.application, &record.client);
    let malformed = |what: &str| Unreadable::Malformed(format!("the {what} of the client {key}"));
    let encoding = Encoding::of_name(&record.encoding).ok_or_else(|| malformed("encoding"))?;
    let entries = record.metadata.into_iter().map(|(key, (of, value))| {
        let entry = Map::from([("type", Value::String(of)), ("value", value)]);
        (key, Value::Map(entry))
    });
    let changes = Changes::read(&Value::Map(Map::new(entries.collect()))).map_err(|_| malformed("metadata"))?;
    let mut metadata = Metadata::default();
    metadata.merge(changes);
    Ok(Client {
        key,
        node: node.clone(),
        since: record.since,
        kind: if record.gateway { Kind::Gateway } else { Kind::Websocket },
        restricted: record.restricted,
        encoding,
        ip: record.ip.map(|ip| ip.into_owned().into()),
        namespace: record.namespace.into(),
        receives_client_updates: record.updates,
        last_heartbeat: record.heartbeat,
        queues: record.queues.into_iter().map(QueueName).collect(),
        metadata,
    })
}

fn is_not(flag: &bool) -> bool {
    !flag
}

/// As `{key: [type, value]}`.
struct Typed<'a>(&'a Metadata);

impl Serialize for Typed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, of, value)| (key, (of.name(), value))))
    }
}
