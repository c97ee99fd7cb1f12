//! Reports for tests.

use super::report::{Commands, Mode, Report, Resources, VERSION};
use crate::cluster::node::NodeId;

/// Of a process without shards that is called so.
pub fn report(name: &str) -> Report {
    Report {
        version: VERSION,
        node: NodeId::of_run(name, 1),
        name: name.to_owned(),
        group: "gateway".to_owned(),
        optic: "0.1.0".to_owned(),
        started_at: 1000,
        at: 2000,
        mode: Mode::NoBot,
        ready: true,
        missing: Vec::new(),
        broker: "connected".to_owned(),
        shard_count: 0,
        shards: Vec::new(),
        events: Vec::new(),
        publishing: None,
        commands: Commands::default(),
        identifies: None,
        queues: Vec::new(),
        singyeong: None,
        forwarding: None,
        amybot: None,
        resources: Resources::default(),
    }
}
