//! How one process is at one moment, as it tells others: JSON with a version.
//!
//! Whoever reads one may be older or newer than who wrote it: fields that are added have a default, and what is not known is
//! passed over.

use serde::{Deserialize, Serialize};

use crate::cluster::node::NodeId;

/// Read and written.
pub const VERSION: u32 = 1;

/// A process. Counts are of all that happened since it began; times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The layout of this.
    pub version: u32,
    /// Which process, this run of it.
    pub node: NodeId,
    /// As it is called: `CLUSTER_NODE`.
    pub name: String,
    /// `BROKER_GROUP`.
    pub group: String,
    /// Optic's version.
    pub optic: String,
    /// When the process began.
    pub started_at: u64,
    /// When this was true.
    pub at: u64,
    /// How it comes to its shards.
    pub mode: Mode,
    /// Whether nothing is missing.
    pub ready: bool,
    /// What is missing, in words.
    pub missing: Vec<String>,
    /// How its broker is, in a word: `connected`, `disconnected`, `blocked`.
    pub broker: String,
    /// How many shards the bot has over all processes; 0 while that is not known, or there is no bot.
    pub shard_count: u32,
    /// Those that run here, in order.
    pub shards: Vec<ShardReport>,
    /// What came from Discord, by event; the names in alphabetical order.
    pub events: Vec<EventReport>,
    /// Losses told by `OPTIC_GAP`, by reason; none where there is no bot.
    #[serde(default)]
    pub gaps: Vec<Counted>,
    /// How publishing goes; none: to standard output, or there is no bot.
    pub publishing: Option<Publishing>,
    /// What workers wanted sent.
    pub commands: Commands,
    /// How many sessions may still be started; none while that is not known, or there is no bot.
    pub identifies: Option<Identifies>,
    /// Queues that were looked at lately; none as long as nobody looks at the page or the metrics.
    pub queues: Vec<QueueReport>,
    /// 신경's server, if it is on.
    pub singyeong: Option<Singyeong>,
    /// What goes to another 신경 server, if anything does.
    pub forwarding: Option<Forwarding>,
    /// amybot, if it is on.
    pub amybot: Option<Amybot>,
    /// What the process takes.
    pub resources: Resources,
}

/// How a process comes to its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All by itself, without RabbitMQ.
    Alone,
    /// Those that it was told to run.
    Static,
    /// Its share.
    Leased,
    /// None: it serves 신경 or amybot alone.
    NoBot,
}

/// A shard, as the process that runs it sees it. Counts begin anew when it comes to another process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardReport {
    /// Its number.
    pub id: u32,
    /// How it is.
    pub state: ShardState,
    /// Since when.
    pub since: u64,
    /// From the last heartbeat to its acknowledgement, in milliseconds.
    pub latency_ms: Option<f64>,
    /// How many guilds it has, as far as is known.
    pub guilds: Option<u32>,
    /// Events received, replays included.
    pub events: u64,
    /// Events a second, over the last seconds.
    pub rate: f32,
    /// How often its session was resumed.
    pub resumes: u64,
    /// When that was last.
    pub last_resume: Option<u64>,
    /// How often it identified.
    pub identifies: u64,
    /// How often its connection ended, whoever ended it.
    pub disconnects: u64,
    /// Why it did last, in words.
    pub last_disconnect: Option<String>,
    /// How often a session was lost, and its gap told by `OPTIC_GAP`.
    pub gaps: u64,
    /// When that was last.
    #[serde(default)]
    pub last_gap: Option<u64>,
    /// How often a connection was given up because Discord sent what cannot be read.
    pub malformed: u64,
}

/// How a shard is. What a person has to know, not each turn that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShardState {
    /// Its events come.
    Connected,
    /// It does not read, because the broker takes nothing.
    Paused,
    /// It has no connection, and will try again.
    Disconnected,
    /// It connects.
    Connecting,
    /// It waits for its turn to identify.
    Waiting,
    /// It has identified, and waits for READY.
    Identifying,
    /// It takes a session up again.
    Resuming,
    /// It has not begun, or it is kept from connecting.
    Suspended,
    /// Discord has refused it for good.
    Ended,
}

/// An event by name, over all shards of the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventReport {
    /// Its name.
    pub name: String,
    /// How many were received.
    pub received: u64,
    /// How many a second, over the last seconds.
    pub rate: f32,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is published.
    Published,
    /// It has no queue: it is published only now and then, to find out whether it has one now.
    NoQueue,
    /// `DISCORD_EVENTS` does not list it.
    NotListed,
}

/// How publishing goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Publishing {
    /// Messages confirmed.
    pub confirmed: u64,
    /// Messages that RabbitMQ refused.
    pub refused: u64,
    /// Messages that no queue took.
    pub returned: u64,
    /// Messages given up, and told by `OPTIC_GAP`.
    pub abandoned: u64,
    /// When the last of them was.
    #[serde(default)]
    pub last_abandoned: Option<u64>,
    /// Messages published once more.
    pub again: u64,
    /// Events that went out as they were received, because they cannot be converted.
    pub unconverted: u64,
    /// Messages not settled now,
    pub unconfirmed: u64,
    /// and their bytes.
    pub unconfirmed_bytes: u64,
    /// From the write of a recent message to its confirm, in milliseconds.
    pub latency_ms: Option<f64>,
    /// Connections made, the first included.
    pub connections: u64,
}

/// What workers wanted sent to Discord, and to whom else they speak through Optic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Commands {
    /// Written to Discord's socket.
    pub sent: u64,
    /// Of these: had to wait for Discord's limit of 120 packets a minute.
    pub delayed: u64,
    /// Could not be passed on to their shard's queue at once.
    pub held_up: u64,
    /// Set aside, by reason; reasons without any are left out.
    pub rejected: Vec<Counted>,
    /// The last that were set aside, the latest first; some of them.
    pub last_rejected: Vec<RejectedCommand>,
}

/// So many for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The reason, as machines call it: `forbidden_op`.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// A command that was set aside. Not its text: tokens were sent so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedCommand {
    /// When.
    pub at: u64,
    /// The queue that it was in.
    pub source: String,
    /// The reason, as machines call it.
    pub kind: String,
    /// The same in words, cut where it is long.
    pub reason: String,
    /// How many bytes it had.
    pub bytes: u64,
}

/// How many sessions may be started, as Discord told this process last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identifies {
    /// How many are left.
    pub remaining: u32,
    /// Of how many.
    pub total: u32,
    /// When they are all there again.
    pub resets_at: u64,
    /// How many shards may identify at a time.
    pub max_concurrency: u32,
    /// How many shards of this process wait for their turn.
    pub waiting: u32,
}

/// A queue, as RabbitMQ told this process last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueReport {
    /// Its name.
    pub name: String,
    /// The event whose default queue it is.
    pub event: Option<String>,
    /// How many messages wait in it. Not those that consumers have and did not acknowledge.
    pub messages: u64,
    /// How many consumers it has.
    pub consumers: u64,
}

/// 신경's server in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Singyeong {
    /// Clients connected here.
    pub clients: u64,
    /// Of these, those that may only be looked at.
    pub restricted: u64,
    /// SENDs and BROADCASTs set aside.
    pub set_aside: u64,
}

/// What goes to another 신경 server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarding {
    /// Events sent.
    pub sent: u64,
    /// Sent again after a lost connection.
    pub sent_again: u64,
    /// Known to have arrived.
    pub covered: u64,
    /// Set aside.
    pub set_aside: u64,
    /// Those that no client of the other server wanted.
    pub no_route: u64,
    /// Answers and commands of the other server that cannot be read.
    pub unreadable: u64,
    /// Connections made.
    pub connections: u64,
}

/// amybot in this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amybot {
    /// Messages passed on by this process while it coordinates, by source and topic; at most some hundred pairs.
    pub proxied: Vec<Proxied>,
}

/// How many messages of a source under a topic were passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxied {
    /// Who said it.
    pub source: String,
    /// Under which topic.
    pub topic: String,
    /// So many went to somebody.
    pub delivered: u64,
    /// So many were wanted by nobody, and set aside.
    pub set_aside: u64,
}

/// What the process takes of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU time since its start, in seconds.
    pub cpu_seconds: f64,
    /// CPU over the last seconds: 1 is one core.
    pub cpu: f32,
    /// Memory held, in bytes.
    pub resident_bytes: u64,
}
