//! What is seen of Optic: what each process reports of itself, and what that comes to over all of them.
//!
//! ```text
//! report    one process at one moment
//! sample    one process over five seconds: what charts are drawn of
//! whole     all processes, as one of them knows them
//! clients   신경's clients, and why a query means them or not
//! simulated all of it invented, for tests
//!
//! question  what processes ask each other for it, and answer
//! merge     answers as a whole: who is there, who does not answer any more
//! history   samples of many processes as one row of sums
//! ```
//!
//! Data alone: knows no socket, no broker and no page. The metrics, the page, and what processes tell each other for it are all
//! made of this. No token, no password, no address with one, and nothing that a user of Discord wrote is ever in it.

pub mod clients;
pub mod history;
pub mod merge;
pub mod question;
pub mod report;
pub mod sample;
pub mod simulated;
pub mod whole;

pub use self::report::Report;
pub use self::sample::Sample;
pub use self::whole::Whole;

/// Whoever knows how this process is. Asked for each scrape of the metrics, and every other second while somebody looks at the
/// page: an answer costs little and waits for nothing.
pub trait Reporter: Send + Sync + 'static {
    /// How it is now.
    fn report(&self) -> Report;

    /// What happened since: the samples that begin later than `after`, in Unix seconds, oldest first.
    fn samples(&self, after: u64) -> Vec<Sample>;

    /// What the shards received and sent since they began to run here. Only for the metrics: it is much, and no page shows it.
    fn packets(&self) -> Vec<ShardPackets>;
}

/// What a shard received and sent since it began to run here, and how Discord answered its heartbeats.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardPackets {
    /// The shard's number.
    pub shard: u32,
    /// By opcode and, of dispatches, name. Names that Discord is not known to have, beyond a number of them, are counted
    /// together as `other`.
    pub received: Vec<Packets>,
    /// By opcode.
    pub sent: Vec<Packets>,
    /// How many heartbeats were answered, and after how many milliseconds in all.
    pub pings: u64,
    /// See `pings`.
    pub ping_sum_ms: f64,
    /// The latencies of the latest heartbeats in milliseconds, in no order; a few of them.
    pub latest_pings_ms: Vec<f64>,
}

/// How many packets of a kind there were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packets {
    /// The opcode.
    pub op: u8,
    /// The event's name, of a dispatch.
    pub name: Option<std::sync::Arc<str>>,
    /// How many.
    pub count: u64,
}
