//! Optic itself as a client of its own: the application `G`, whose commands go to Discord.

use std::collections::BTreeSet;

use super::Hub;
use crate::encoding::{Encoding, Value};
use crate::singyeong::client::{Client, Kind};
use crate::singyeong::ids::ClientKey;
use crate::singyeong::metadata::{Changes, Metadata};

/// What this process is for those who command Discord through it.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// The shards that run here.
    pub shards: Vec<u32>,
    /// How many the bot has.
    pub shard_count: u32,
    /// How long Discord takes to answer a heartbeat, in milliseconds, if that is known.
    pub latency: Option<f64>,
}

impl Hub {
    /// Registers this process as a client of the application `group`, or changes what it says of itself; at this time, in
    /// Unix milliseconds.
    pub fn put_gateway(&self, group: &str, gateway: &Gateway, now: u64) {
        let client = Client {
            key: ClientKey::new(group, self.own().as_str()),
            node: self.own().clone(),
            since: now,
            kind: Kind::Gateway,
            restricted: false,
            encoding: Encoding::Json,
            ip: None,
            namespace: Value::Null.into(),
            receives_client_updates: false,
            last_heartbeat: now,
            queues: BTreeSet::new(),
            metadata: gateway.metadata(),
        };
        self.change(|clients| clients.put_gateway(client));
    }
}

impl Gateway {
    fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::default();
        metadata.merge(Changes::read(&self.told()).expect("they are of these types"));
        metadata
    }

    /// As a client says it of itself: by key, types and values.
    pub fn told(&self) -> Value {
        let entry = |of, value| Value::map([("type", Value::string(of)), ("value", value)]);
        let shards = self.shards.iter().map(|shard| Value::Integer((*shard).into())).collect();
        let mut entries = vec![
            ("shards".into(), entry("list", Value::List(shards))),
            ("shard_count".into(), entry("integer", Value::Integer(self.shard_count.into()))),
        ];
        if let Some(latency) = self.latency.filter(|latency| latency.is_finite()) {
            entries.push(("latency".into(), entry("float", Value::Float(latency))));
        }
        Value::Map(crate::encoding::Map::new(entries))
    }
}
