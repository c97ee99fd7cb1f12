//! How many sockets the process may open: many systems allow 1,024, and let a process ask for more itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// For connections to RabbitMQ and Discord, files, and whoever asks for health.
const OTHERS: u64 = 1024;

/// Asks for as many as so many connections take, as far as the system lets it.
pub(super) fn allow(connections: usize) {
    let wanted = connections as u64 + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is no limit.
    let Some(current) = current.filter(|current| *current < wanted) else { return };
    let raised = maximum.map_or(wanted, |most| wanted.min(most)).max(current);
    if setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_err() || raised < wanted {
        let room = getrlimit(Resource::Nofile).current.unwrap_or(wanted).saturating_sub(OTHERS);
        warn!(
            connections,
            room,
            "the system's limit of open files (ulimit -n) is too low for SINGYEONG_MAX_CONNECTIONS and amybot's services: raise it"
        );
    }
}
