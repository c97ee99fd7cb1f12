//! What is asked: how the shards and the broker are, and what is missing, in words.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::broker::BrokerState;
use crate::discord::ids::ShardId;

/// Whoever knows how the service is. Asked for each request: an answer costs little and waits for nothing.
pub trait Health: Send + Sync + 'static {
    /// How it is now.
    fn snapshot(&self) -> Snapshot;
}

/// How the service is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every shard that runs here.
    pub shards: Vec<ShardHealth>,
    /// How the broker is.
    pub broker: BrokerState,
    /// What else keeps the service from being ready, each in words: `it is stopping`.
    pub also_missing: Vec<String>,
}

impl Snapshot {
    /// All that keeps the service from being ready, each in words.
    pub fn missing(&self) -> Vec<String> {
        Report::of(self).missing
    }
}

/// How a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardHealth {
    /// Which.
    pub id: ShardId,
    /// Its state, in a word: `identifying`.
    pub state: &'static str,
    /// Whether it has a session and its events come.
    pub connected: bool,
}

/// The body of `/health/ready`: spec/configuration.md, "Health".
#[derive(Debug, Serialize)]
pub(super) struct Report {
    ready: bool,
    shards: Shards,
    broker: String,
    missing: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Shards {
    total: usize,
    connected: usize,
    by_state: BTreeMap<&'static str, usize>,
}

impl Report {
    pub fn of(snapshot: &Snapshot) -> Self {
        let Snapshot { shards, broker, also_missing } = snapshot;
        let mut by_state = BTreeMap::new();
        let mut absent: BTreeMap<&str, Vec<ShardId>> = BTreeMap::new();
        for shard in shards {
            *by_state.entry(shard.state).or_default() += 1;
            if !shard.connected {
                absent.entry(shard.state).or_default().push(shard.id);
            }
        }
        let connected = shards.iter().filter(|shard| shard.connected).count();
        let mut missing: Vec<String> = absent.iter().map(|(state, ids)| in_words(ids, state)).collect();
        match broker {
            BrokerState::Connected => {}
            BrokerState::Disconnected => missing.push("the broker is not connected".to_owned()),
            BrokerState::Blocked => missing.push("the broker takes nothing: a memory or disk alarm".to_owned()),
        }
        missing.extend(also_missing.iter().cloned());
        let shards = Shards { total: shards.len(), connected, by_state };
        Self { ready: missing.is_empty(), shards, broker: broker.to_string(), missing }
    }

    pub fn is_ready(&self) -> bool {
        self.ready
    }
}

/// `shards 1, 2 and 7 are resuming`; of many, the first few.
fn in_words(ids: &[ShardId], state: &str) -> String {
    const NAMED: usize = 5;
    let names: Vec<String> = ids.iter().take(NAMED).map(ToString::to_string).collect();
    match (names.as_slice(), ids.len() - names.len()) {
        ([one], 0) => format!("shard {one} is {state}"),
        ([most @ .., last], 0) => format!("shards {} and {last} are {state}", most.join(", ")),
        (names, more) => format!("shards {} and {more} more are {state}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(states: &[(&'static str, bool)], broker: BrokerState) -> Snapshot {
        let shard = |(n, (state, connected)): (usize, &(&'static str, bool))| ShardHealth {
            id: ShardId::new(n as u32),
            state,
            connected: *connected,
        };
        Snapshot { shards: states.iter().enumerate().map(shard).collect(), broker, also_missing: Vec::new() }
    }

    fn json(snapshot: &Snapshot) -> serde_json::Value {
        serde_json::to_value(Report::of(snapshot)).expect("JSON")
    }

    #[test]
    fn all_shards_connected_and_a_broker_that_takes_events_are_ready() {
        let report = json(&snapshot(&[("connected", true), ("connected", true)], BrokerState::Connected));
        let expected = serde_json::json!({
            "ready": true,
            "shards": {"total": 2, "connected": 2, "by_state": {"connected": 2}},
            "broker": "connected",
            "missing": [],
        });
        assert_eq!(report, expected);
    }

    #[test]
    fn what_is_missing_is_said_in_words() {
        let mut states = vec![("connected", true), ("resuming", false)];
        states.extend([("identifying", false); 7]);
        let mut snapshot = snapshot(&states, BrokerState::Blocked);
        snapshot.also_missing.push("it is stopping".to_owned());
        let expected = serde_json::json!([
            "shards 2, 3, 4, 5, 6 and 2 more are identifying",
            "shard 1 is resuming",
            "the broker takes nothing: a memory or disk alarm",
            "it is stopping",
        ]);
        assert_eq!(json(&snapshot)["missing"], expected);
        assert_eq!(in_words(&[0, 4, 7].map(ShardId::new), "resuming"), "shards 0, 4 and 7 are resuming");
    }

    #[test]
    fn a_process_that_has_no_share_is_ready() {
        assert_eq!(json(&snapshot(&[], BrokerState::Connected))["ready"], true);
        let without_broker = json(&snapshot(&[], BrokerState::Disconnected));
        assert_eq!(without_broker["missing"], serde_json::json!(["the broker is not connected"]));
    }
}
