use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::*;
use crate::encoding::{Encoding, Value};
use crate::singyeong::client::Kind;
use crate::singyeong::close_code::CloseCode;
use crate::singyeong::metadata::{Changes, Metadata};
use crate::singyeong::packet::outgoing::Refusal;
use crate::singyeong::values::json;

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
        namespace: Value::Null,
        receives_client_updates: false,
        last_heartbeat: 1,
        queues: BTreeSet::new(),
        metadata: Metadata::default(),
    }
}

/// Takes everything out of an outbox and counts who came and went, by application.
pub(super) fn count_updates(outbox: &Outbox, told: &mut BTreeMap<String, i64>) {
    while let Some(parcel) = outbox.take() {
        match &parcel.packet {
            Outgoing::Connected(application) => *told.entry(application.to_string()).or_default() += 1,
            Outgoing::Disconnected(application) => *told.entry(application.to_string()).or_default() -= 1,
            other => panic!("{other:?}"),
        }
    }
}
