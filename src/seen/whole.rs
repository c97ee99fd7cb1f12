//! All processes of a group at one moment, as one of them knows them.

use std::sync::Arc;

use super::report::Report;
use super::sample::Sample;
use crate::cluster::node::NodeId;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// When this was so, in Unix milliseconds.
    pub at: u64,
    /// The process that knows it.
    pub here: NodeId,
    /// All that are there, or were a short time ago, in the order of their names and ids.
    pub processes: Vec<Process>,
    /// The sums over all of them, oldest first, without holes: a sample in which nothing was heard is there and empty.
    pub history: Arc<[Sample]>,
}

/// A process in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// What it told last.
    pub report: Arc<Report>,
    /// When that was, in Unix milliseconds by our clock.
    pub heard_at: u64,
    /// Whether it still answers. One that does not is shown for a while, and then forgotten.
    pub answers: bool,
}
