//! 신경's clients as the page asks for them, and what it is told: JSON between processes, and to the browser.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whoever knows 신경's clients, those that are connected to other processes too.
pub trait Nerve: Send + Sync + 'static {
    /// Answers; `None` where there is no 신경 server. Goes through many clients without keeping others waiting.
    fn answer(&self, question: ClientsQuestion) -> BoxFuture<'static, Option<ClientsAnswer>>;
}

/// Which clients are asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientsQuestion {
    /// A target as in SEND's `target`, JSON; none: nobody is sorted out.
    pub target: Option<Value>,
    /// So many clients are told of at most, those that match first.
    pub limit: u32,
}

/// What there is to tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientsAnswer {
    /// How many clients there are.
    pub total: u64,
    /// How many match; all, without a target.
    pub matching: u64,
    /// Why the target is refused, if it is: then no client is judged.
    pub invalid: Option<String>,
    /// What SEND would do with it, in words: `goes to one of 3 clients`, `is refused: nobody matches`.
    pub send: Option<String>,
    /// Those that match first, then the others.
    pub clients: Vec<ClientReport>,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientReport {
    /// Its application.
    pub application: String,
    /// Its id.
    pub client: String,
    /// The process that it is connected to.
    pub node: String,
    /// Whether it may only be looked at.
    pub restricted: bool,
    /// What it speaks.
    pub encoding: String,
    /// Since when, in Unix milliseconds.
    pub since: u64,
    /// When it last sent a heartbeat, in Unix milliseconds.
    pub last_heartbeat: u64,
    /// The queues that it waits at.
    pub queues: Vec<String>,
    /// What it says of itself; left out where it is long.
    pub metadata: Value,
    /// The same as JSON text, as the client wrote its numbers; cut where it is long.
    #[serde(default)]
    pub metadata_text: String,
    /// Whether the target means it.
    pub matches: bool,
    /// Why not, in words that name the part of the target and what the client has: `/shards $contains 3: it has [0,1]`.
    pub why_not: Option<String>,
}
