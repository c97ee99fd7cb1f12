//! What one process did in five seconds: what charts are drawn of. Samples of all processes begin at the same moments.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How long a sample is, in seconds. They begin at multiples of it.
pub const SECONDS: u64 = 5;

/// How many are kept: half an hour.
pub const KEPT: usize = 360;

/// Five seconds of a process, or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it began, in Unix seconds.
    pub at: u64,
    /// Events received in it, by name. Names that did not come are left out.
    pub events: BTreeMap<Arc<str>, u32>,
    /// Messages not settled at its end.
    pub unconfirmed: u32,
    /// From the write of a message to its confirm, at its end, in milliseconds; of several processes the longest.
    pub latency_ms: Option<f32>,
    /// Shards that were connected at its end.
    pub connected: u32,
    /// How many processes it is of. 0: nobody was heard, and how it was is not known.
    #[serde(skip, default = "one")]
    pub heard: u32,
}

/// What a process tells is of itself.
const fn one() -> u32 {
    1
}
