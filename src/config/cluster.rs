//! How this process shares the shards with others, and what they call it.

use super::broker::{Broker, Store, is_stdio};
use super::report::Report;
use super::values::word;
use super::variables::Raw;

/// How the shards are shared among processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Who says which shards run here.
    pub mode: ClusterMode,
    /// This process's name in the logs of the others; never empty, at most [`Cluster::LONGEST_NODE`] bytes.
    pub node: String,
}

/// Who says which shards run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterMode {
    /// The configuration.
    Static,
    /// All processes of the group, by sharing them out fairly.
    Leased,
}

impl Cluster {
    /// The longest name: it is a part of a queue's name, and of lines in a log.
    pub const LONGEST_NODE: usize = 64;
}

/// Whether the shards are shared out by leases.
pub(super) fn is_leased(raw: &Raw) -> bool {
    raw.cluster_mode.as_deref().is_some_and(|text| text.trim().eq_ignore_ascii_case("leased"))
}

/// `host` is the machine's name, if it has one.
pub(super) fn parse(raw: &Raw, host: Option<&str>, broker: &Broker, store: &Store, report: &mut Report) -> Cluster {
    let modes = [("static", ClusterMode::Static), ("leased", ClusterMode::Leased)];
    let given = raw.cluster_mode.as_deref();
    let mode = given.and_then(|text| word("CLUSTER_MODE", text, &modes, report)).unwrap_or(ClusterMode::Static);
    if let (ClusterMode::Leased, Some(given)) = (mode, given) {
        check_what_leases_need(raw, given, broker, store, report);
    }
    let node = raw.cluster_node.as_deref().and_then(|text| node(text, report));
    Cluster { mode, node: node.unwrap_or_else(|| node_of(host.unwrap_or_default())) }
}

fn check_what_leases_need(raw: &Raw, given: &str, broker: &Broker, store: &Store, report: &mut Report) {
    if is_stdio(raw) {
        let problem = "shards are shared through RabbitMQ, and there is none with BROKER_TYPE=stdio";
        let remedy = "set AMQP_URL and BROKER_TYPE=amqp, or unset CLUSTER_MODE";
        report.wrong("CLUSTER_MODE", given, problem, remedy);
    }
    // Without RabbitMQ that mistake is told, and another store would not mend it.
    if let (Broker::Amqp(_), Store::File { .. } | Store::Memory, Some(text)) = (broker, store, &raw.shard_store_type) {
        let problem = "with CLUSTER_MODE=leased a shard moves to other processes, and each resumes it from RabbitMQ";
        report.wrong("SHARD_STORE_TYPE", text, problem, "write amqp, or unset it");
    }
}

fn node(text: &str, report: &mut Report) -> Option<String> {
    const NAME: &str = "CLUSTER_NODE";
    let text = text.trim();
    if text.len() > Cluster::LONGEST_NODE {
        let remedy = format!("write at most {} bytes", Cluster::LONGEST_NODE);
        report.wrong(NAME, text, format!("it has {} bytes", text.len()), remedy);
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        report.wrong(NAME, text, "it has white space in it", "write a short name such as web-1");
    } else {
        return Some(text.to_owned());
    }
    None
}

/// The name by default. Nobody chose it for us, so what does not fit is left out and no mistake.
fn node_of(host: &str) -> String {
    let mut name = String::new();
    for c in host.chars().filter(|c| !c.is_control() && !c.is_whitespace()) {
        if name.len() + c.len_utf8() > Cluster::LONGEST_NODE {
            break;
        }
        name.push(c);
    }
    if name.is_empty() { "optic".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_name_that_fits() {
        for (host, node) in [("web-1.example", "web-1.example"), ("", "optic"), ("a b\n", "ab"), (" \n", "optic")] {
            assert_eq!(node_of(host), node);
        }
        assert_eq!(node_of(&"é".repeat(200)), "é".repeat(32));
        assert_eq!(node_of(&format!("x{}", "é".repeat(200))), format!("x{}", "é".repeat(31)));
    }
}
