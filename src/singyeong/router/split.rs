//! A broadcast's receivers, by where they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::node::NodeId;
use crate::singyeong::client::{self, Client};
use crate::singyeong::ids::ClientKey;

/// Where a broadcast goes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Split {
    pub(super) here: Vec<ClientKey>,
    pub(super) elsewhere: BTreeMap<NodeId, Vec<ClientKey>>,
    /// Whether Discord is meant, too.
    pub(super) gateway: bool,
}

impl Split {
    pub(super) fn of(matches: &[Arc<Client>], own: &NodeId) -> Self {
        let mut split = Self::default();
        for client in matches {
            match client.kind {
                client::Kind::Gateway => split.gateway = true,
                client::Kind::Websocket if client.node == *own => split.here.push(client.key.clone()),
                client::Kind::Websocket => {
                    split.elsewhere.entry(client.node.clone()).or_default().push(client.key.clone());
                }
            }
        }
        split
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::encoding::{Encoding, Value};
    use crate::singyeong::metadata::Metadata;

    #[test]
    fn a_broadcast_is_split_by_process_and_the_gateway_counts_once() {
        let (own, other) = (NodeId::of_run("own", 1), NodeId::of_run("other", 2));
        let client = |name: &str, node: &NodeId, kind| {
            Arc::new(Client {
                key: ClientKey::new("app", name),
                node: node.clone(),
                since: 0,
                kind,
                restricted: false,
                encoding: Encoding::Json,
                ip: None,
                namespace: Value::Null.into(),
                receives_client_updates: false,
                last_heartbeat: 0,
                queues: BTreeSet::new(),
                metadata: Metadata::default(),
            })
        };
        let (here, gateway) = (client::Kind::Websocket, client::Kind::Gateway);
        let matches = [
            client("1", &own, here),
            client("2", &other, here),
            client("3", &own, here),
            client("own", &own, gateway),
            client("other", &other, gateway),
        ];
        let key = |name: &str| ClientKey::new("app", name);
        let expected = Split {
            here: vec![key("1"), key("3")],
            elsewhere: BTreeMap::from([(other, vec![key("2")])]),
            gateway: true,
        };
        assert_eq!(Split::of(&matches, &own), expected);
    }
}
