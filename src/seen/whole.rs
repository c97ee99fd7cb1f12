//! All processes of a group at one moment, as one of them knows them.

use std::sync::Arc;

use super::report::{Mode, Report};
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
    /// Whether the others could be asked.
    pub reach: Reach,
    /// The process with a bot that was there last, if there is none any more.
    pub gone: Option<Gone>,
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

/// What it says of a process that it is not in the [`Whole`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing yet: somebody has just begun to look, and who is there had no time to answer.
    Asking,
    /// Nothing: nobody can be asked.
    Away,
    /// It is not there.
    All,
}

/// A process that is not there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// As it was called.
    pub name: String,
    /// When it was heard last, in Unix milliseconds.
    pub heard_at: u64,
    /// How many shards the bot had over all processes.
    pub shard_count: u32,
}

impl Whole {
    /// What is known before anybody looks.
    pub fn nobody(here: NodeId) -> Self {
        Self { at: 0, here, processes: Vec::new(), reach: Reach::Asking, gone: None, history: Arc::default() }
    }

    /// What the process says of itself that knows it.
    pub fn own(&self) -> Option<&Report> {
        self.processes.iter().map(|process| &*process.report).find(|report| report.node == self.here)
    }

    /// Whether the others are seen: also our own broker tells. Who runs alone has none.
    pub fn sight(&self) -> Reach {
        match self.own() {
            Some(own) if own.mode == Mode::Alone => Reach::All,
            Some(own) if own.broker != "connected" => Reach::Away,
            _ => self.reach,
        }
    }
}
