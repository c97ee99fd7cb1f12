//! Several Optics of one bot, each called by its `CLUSTER_NODE`: started, stopped, killed, paused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::{Bed, OpticProcess, must};

/// Processes that share a bed. All are killed when it is dropped.
pub struct Fleet<'a> {
    bed: &'a Bed,
    processes: BTreeMap<String, OpticProcess>,
    paused: BTreeSet<String>,
}

impl<'a> Fleet<'a> {
    /// None yet.
    pub fn of(bed: &'a Bed) -> Self {
        Self { bed, processes: BTreeMap::new(), paused: BTreeSet::new() }
    }

    /// Starts a process of this name.
    pub fn start(&mut self, node: &str) {
        self.start_with(node, &[]);
    }

    /// Starts a process of this name, with these variables besides the bed's.
    pub fn start_with(&mut self, node: &str, variables: &[(&str, &str)]) {
        let process = self.bed.optic_with(&[&[("CLUSTER_NODE", node)], variables].concat());
        assert!(self.processes.insert(node.to_owned(), process).is_none(), "{node} runs already");
    }

    /// A process that runs.
    pub fn process(&self, node: &str) -> &OpticProcess {
        self.processes.get(node).unwrap_or_else(|| panic!("{node} does not run"))
    }

    /// SIGTERM; waits for its end, which must be in order.
    pub async fn stop(&mut self, node: &str) {
        let mut process = self.take(node);
        process.terminate().await;
        assert_eq!(process.wait().await.code(), Some(0), "{node}:\n{}", process.stderr().join("\n"));
    }

    /// SIGTERM to all at the same time; waits for the last.
    pub async fn stop_all(&mut self) {
        for process in self.processes.values() {
            process.terminate().await;
        }
        for (node, mut process) in std::mem::take(&mut self.processes) {
            assert_eq!(process.wait().await.code(), Some(0), "{node}:\n{}", process.stderr().join("\n"));
        }
    }

    /// kill -9.
    pub async fn kill(&mut self, node: &str) {
        self.take(node).kill().await;
    }

    /// SIGSTOP: it stands still, its connections stay open.
    pub async fn pause(&mut self, node: &str) {
        self.process(node).signal("STOP").await;
        self.paused.insert(node.to_owned());
    }

    /// SIGCONT.
    pub async fn go_on(&mut self, node: &str) {
        self.process(node).signal("CONT").await;
        self.paused.remove(node);
    }

    /// How many shards each process has connected, by its own account. One that is paused is not asked.
    pub async fn shares(&self) -> BTreeMap<String, u64> {
        let mut shares = BTreeMap::new();
        for (node, process) in self.processes.iter().filter(|(node, _)| !self.paused.contains(*node)) {
            let (_, body) = Bed::health(process, "/health/ready").await;
            let health: Value = serde_json::from_str(&body).expect("health is JSON");
            shares.insert(node.clone(), health["shards"]["connected"].as_u64().expect("a number"));
        }
        shares
    }

    /// Waits until every shard of the simulator is connected once, and the processes have these shares of them, in any order.
    pub async fn shared_as(&self, wanted: &[u64]) -> BTreeMap<String, u64> {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        let shards: u64 = wanted.iter().sum();
        must(&format!("shares of {wanted:?}"), async {
            loop {
                let shares = self.shares().await;
                let mut sizes: Vec<_> = shares.values().copied().collect();
                sizes.sort_unstable();
                if sizes == wanted && self.bed.gateway.live() == shards {
                    return shares;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    fn take(&mut self, node: &str) -> OpticProcess {
        self.processes.remove(node).unwrap_or_else(|| panic!("{node} does not run"))
    }
}
