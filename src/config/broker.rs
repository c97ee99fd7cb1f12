//! Where events go, and where sessions are kept.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::amqp::address::Address;
use crate::encoding::Dialect;
use crate::secret::Secret;

use super::intents::{EventFilter, event_name};
use super::report::Report;
use super::values::{duration, list, word, yes_or_no};
use super::variables::{Raw, UNREAD};

/// What carries events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broker {
    /// JSON lines on standard output.
    Stdio,
    /// RabbitMQ.
    Amqp(Amqp),
}

/// Everything that concerns RabbitMQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amqp {
    /// Where it is.
    pub url: AmqpUrl,
    /// The exchange, and the first part of every queue's name.
    pub group: Group,
    /// How events are published; `None`: as Discord wrote them.
    pub dialect: Option<Dialect>,
    /// How long an event waits for a worker; `None`: for ever.
    pub message_timeout: Option<Duration>,
    /// Whether events are written to disk.
    pub persistent: bool,
    /// The queues to declare at the start.
    pub declare: Vec<DeclaredQueue>,
}

/// `BROKER_GROUP`: short enough that every queue's name fits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group(String);

impl Group {
    /// AMQP's names have 255 bytes at most; this leaves as many for subgroup and event, and for our own queues.
    pub const LONGEST: usize = 128;

    /// The group of this name.
    ///
    /// # Errors
    ///
    /// What is wrong with the name, and what to write instead.
    pub fn parse(name: &str) -> Result<Self, (String, String)> {
        let name = name.trim();
        let plain = "write a short name such as gateway".to_owned();
        if name.is_empty() {
            Err(("it is empty".to_owned(), plain))
        } else if name.len() > Self::LONGEST {
            let remedy = format!("write at most {} bytes, so that every queue's name fits", Self::LONGEST);
            Err((format!("it has {} bytes", name.len()), remedy))
        } else if name.starts_with("amq.") {
            Err(("RabbitMQ keeps names that begin with amq. to itself".to_owned(), plain))
        } else if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            Err(("it has white space in it".to_owned(), plain))
        } else {
            Ok(Self(name.to_owned()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Group {
    /// `gateway`, as in spec-tacles/gateway.
    fn default() -> Self {
        Self("gateway".to_owned())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A queue of `BROKER_DECLARE`: `G:[subgroup:]event`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredQueue {
    /// The workers that share it, where they are not all.
    pub subgroup: Option<String>,
    /// The event, and so the routing key.
    pub event: String,
}

impl DeclaredQueue {
    /// The queue's name in a group.
    pub fn name(&self, group: &Group) -> String {
        match &self.subgroup {
            Some(subgroup) => format!("{group}:{subgroup}:{}", self.event),
            None => format!("{group}:{}", self.event),
        }
    }
}

/// `AMQP_URL`. Prints without its user and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmqpUrl {
    url: Secret,
    masked: String,
}

impl AmqpUrl {
    /// Takes the URL in.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what to write instead; neither quotes it.
    pub fn parse(text: &str) -> Result<Self, (String, &'static str)> {
        const FORM: &str = "write amqp://user:password@host:5672/vhost, or amqps:// for TLS";
        const ESCAPES: &str = "write reserved characters of user, password and vhost as escapes: @ is %40, : is %3A, \
                               / is %2F, # is %23, ? is %3F, % is %25, a space is %20";
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(("it has no amqp:// before the host".into(), FORM));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "amqp" | "amqps" => {}
            "http" | "https" => {
                return Err(("http is for RabbitMQ's management page, and amqp for events".into(), FORM));
            }
            _ => return Err(("its scheme is neither amqp nor amqps".into(), FORM)),
        }
        if rest.contains(char::is_whitespace) {
            return Err(("it has white space in it".into(), ESCAPES));
        }
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(url::ParseError::InvalidPort) => return Err(wrong_port(rest, FORM, ESCAPES)),
            Err(url::ParseError::EmptyHost) => return Err(("it has no host".into(), FORM)),
            Err(_) => return Err(("it is not a URL".into(), ESCAPES)),
        };
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err(("it has no host".into(), FORM));
        };
        if url.fragment().is_some() {
            return Err(("it has a # in it".into(), ESCAPES));
        }
        let path = url.path();
        // An @ behind the host was meant to stand before it: what looks like host and port is a user and a password.
        if path.contains('@') || url.query().is_some_and(|query| query.contains('@')) {
            return Err((RESERVED.into(), ESCAPES));
        }
        if path.trim_start_matches('/').contains('/') {
            return Err(("its vhost has a / in it".into(), ESCAPES));
        }
        if let Err(error) = Address::parse(text) {
            return Err((error.to_string(), "mend that, or leave it out"));
        }
        let user = if url.username().is_empty() { "" } else { "***@" };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let masked = format!("{}://{user}{host}{port}{path}", url.scheme());
        Ok(Self { url: Secret::new(text), masked })
    }

    /// The whole URL.
    pub fn secret(&self) -> &Secret {
        &self.url
    }
}

const RESERVED: &str = "its user or password has a reserved character in it";

/// What is wrong with a port that is none. `rest` is what follows the scheme; none of it is quoted, since what looks like the
/// port may be a password.
fn wrong_port(rest: &str, form: &'static str, escapes: &'static str) -> (String, &'static str) {
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if behind.contains('@') {
        return (RESERVED.into(), escapes);
    }
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        ("its port is more than 65535".into(), "write the one of RabbitMQ: 5672, or 5671 with amqps://")
    } else if authority.contains('@') && port.starts_with(|c: char| c.is_ascii_digit()) {
        (
            "its port has something behind the number".into(),
            "write a / before the vhost: amqp://user:password@host:5672/vhost",
        )
    } else {
        ("its port is not a number".into(), form)
    }
}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked)
    }
}

/// Where sessions outlive the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In RabbitMQ, queues `G:<prefix>.<shard>`.
    Amqp {
        /// The part of the queues' names, always `optic:` and something: what is Optic's own is named so, and policies
        /// for workers' queues leave it alone.
        prefix: String,
    },
    /// In a folder, a file a shard.
    File {
        /// The folder.
        folder: PathBuf,
    },
    /// Nowhere: a restart begins new sessions.
    Memory,
}

/// The longest part that a store may have in its queues' names.
const LONGEST_STORE_NAME: usize = 64;

/// What the commands that only look at RabbitMQ need.
pub(super) fn parse_access(raw: &Raw, report: &mut Report) -> (Option<AmqpUrl>, Group) {
    let url = raw.amqp_url.as_deref().filter(|text| *text != UNREAD).and_then(|text| {
        AmqpUrl::parse(text).map_err(|(problem, remedy)| report.wrong_secret("AMQP_URL", problem, remedy)).ok()
    });
    if let Some(port) = url.as_ref().and_then(management_port) {
        let text =
            format!("{port} is the port of RabbitMQ's management, as a rule; events go to 5672, or 5671 with amqps://");
        report.warn("AMQP_URL", text);
    }
    let group = raw.broker_group.as_deref().map(|text| {
        Group::parse(text).map_err(|(problem, remedy)| report.wrong("BROKER_GROUP", text, problem, remedy)).ok()
    });
    let group = group.flatten().unwrap_or_default();
    if group.as_str().contains(':') {
        let text = "a colon also divides group, subgroup and event: two groups may come to share a queue";
        report.warn("BROKER_GROUP", text);
    }
    (url, group)
}

/// The port, if RabbitMQ's other services usually have it.
fn management_port(url: &AmqpUrl) -> Option<u16> {
    let port = Address::parse(url.secret().expose()).ok()?.port();
    Some(port).filter(|port| matches!(port, 15671 | 15672 | 15692 | 25672))
}

/// Whether events go to standard output because it was set so, and not because of a mistake.
pub(super) fn is_stdio(raw: &Raw) -> bool {
    match raw.broker_type.as_deref() {
        None => raw.amqp_url.is_none(),
        Some(text) => text.trim().eq_ignore_ascii_case("stdio"),
    }
}

pub(super) fn parse(raw: &Raw, events: &EventFilter, report: &mut Report) -> (Broker, Store) {
    let given = raw.broker_type.as_deref();
    let amqp = match given {
        None => raw.amqp_url.is_some(),
        Some(text) if text.trim().eq_ignore_ascii_case("redis") => {
            report.wrong("BROKER_TYPE", text, "Optic needs no Redis and has none", "write amqp and set AMQP_URL");
            false
        }
        Some(text) => word("BROKER_TYPE", text, &[("amqp", true), ("stdio", false)], report).unwrap_or(false),
    };
    let (url, group) = parse_access(raw, report);
    let dialects = Dialect::ALL.map(|dialect| (dialect.name(), dialect));
    let dialect = raw.broker_encoding.as_deref().and_then(|text| word("BROKER_ENCODING", text, &dialects, report));
    let message_timeout = raw.broker_message_timeout.as_deref().and_then(|text| message_timeout(text, report));
    let persistent = raw.broker_persistent.as_deref().and_then(|text| {
        let answer = yes_or_no(text);
        if answer.is_none() {
            report.wrong("BROKER_PERSISTENT", text, "neither yes nor no", "write true or false");
        }
        answer
    });
    let declare = raw.broker_declare.as_deref().map(|text| declared(text, &group, events, report)).unwrap_or_default();
    let store = store(raw, amqp, report);
    if !amqp {
        warn_without_amqp(raw, report);
        return (Broker::Stdio, store);
    }
    if raw.amqp_url.is_none() {
        let remedy = "set it to amqp://user:password@host:5672/vhost, or AMQP_URL_FILE to a file with it";
        report.missing("AMQP_URL", "BROKER_TYPE=amqp has to know where RabbitMQ is", remedy);
    }
    match url {
        Some(url) => {
            let persistent = persistent.unwrap_or(true);
            (Broker::Amqp(Amqp { url, group, dialect, message_timeout, persistent, declare }), store)
        }
        // Missing or wrong, which is reported.
        None => (Broker::Stdio, store),
    }
}

fn message_timeout(text: &str, report: &mut Report) -> Option<Duration> {
    const NAME: &str = "BROKER_MESSAGE_TIMEOUT";
    /// `expiration` is milliseconds; older brokers hold them in 32 bits.
    const LONGEST: Duration = Duration::from_millis(u32::MAX as u64);
    match duration(text) {
        None => {
            report.wrong(NAME, text, "not a duration", "write such as 2m, 30s, 500ms or 1h30m");
            None
        }
        Some(time) if time < Duration::from_millis(1) => {
            let problem = "events would be dropped at once";
            report.wrong(NAME, text, problem, "write a longer time, or unset it so that events never expire");
            None
        }
        Some(time) if time < Duration::from_secs(10) && text.trim().bytes().all(|b| b.is_ascii_digit()) => {
            let bare = text.trim();
            report.warn(NAME, format!("{bare} without a unit is {bare} milliseconds; write {bare}s for seconds"));
            Some(time)
        }
        Some(time) if time > LONGEST => {
            report.wrong(NAME, text, "longer than RabbitMQ counts", "write at most 49d, or unset it");
            None
        }
        some => some,
    }
}

fn declared(text: &str, group: &Group, events: &EventFilter, report: &mut Report) -> Vec<DeclaredQueue> {
    const NAME: &str = "BROKER_DECLARE";
    let mut queues = Vec::new();
    for part in list(text) {
        let (subgroup, event) = match part.rsplit_once(':') {
            Some((subgroup, event)) => (Some(subgroup), event),
            None => (None, part),
        };
        if subgroup.is_some_and(|subgroup| subgroup.is_empty() || subgroup.contains(':')) || event.is_empty() {
            report.wrong(NAME, text, format!("{part:?} is no queue"), "write EVENT or subgroup:EVENT");
            continue;
        }
        let Some(event) = event_name(NAME, text, event, report) else { continue };
        if let EventFilter::Listed(names) = events
            && !names.contains(&event)
            && event != "OPTIC_GAP"
        {
            report.warn(NAME, format!("the queue of {event} stays empty: DISCORD_EVENTS does not list it"));
        }
        let queue = DeclaredQueue { subgroup: subgroup.map(str::to_owned), event };
        let name = queue.name(group);
        if name.len() > 255 {
            let problem = format!("the queue's name {} would have {} bytes", part, name.len());
            report.wrong(NAME, text, problem, "write shorter names: 255 bytes are the most");
        } else if !queues.contains(&queue) {
            queues.push(queue);
        }
    }
    queues
}

fn store(raw: &Raw, amqp: bool, report: &mut Report) -> Store {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Amqp,
        File,
        Memory,
    }
    const NAME: &str = "SHARD_STORE_TYPE";
    let default = if amqp { Kind::Amqp } else { Kind::Memory };
    let kind = match raw.shard_store_type.as_deref() {
        None => default,
        Some(text) if text.trim().eq_ignore_ascii_case("redis") => {
            report.wrong(NAME, text, "Optic needs no Redis and has none", "write amqp, or unset it");
            default
        }
        Some(text) => {
            let kinds = [("amqp", Kind::Amqp), ("file", Kind::File), ("memory", Kind::Memory)];
            let kind = word(NAME, text, &kinds, report).unwrap_or(default);
            if kind == Kind::Amqp && !amqp {
                report.wrong(NAME, text, "there is no RabbitMQ with BROKER_TYPE=stdio", "write file or memory");
            }
            kind
        }
    };
    let prefix = raw.shard_store_prefix.as_deref().map(str::trim);
    match kind {
        Kind::Amqp => Store::Amqp { prefix: store_prefix(prefix.unwrap_or("session"), report) },
        Kind::File => Store::File { folder: PathBuf::from(prefix.unwrap_or("optic-sessions")) },
        Kind::Memory => {
            if prefix.is_some() {
                report.warn("SHARD_STORE_PREFIX", "has no effect: sessions are kept in memory alone");
            }
            Store::Memory
        }
    }
}

fn store_prefix(text: &str, report: &mut Report) -> String {
    if text.len() > LONGEST_STORE_NAME || !text.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
        let remedy = format!("write at most {LONGEST_STORE_NAME} letters, digits, dots or dashes");
        report.wrong("SHARD_STORE_PREFIX", text, "it cannot be a part of a queue's name", remedy);
    }
    format!("optic:{text}")
}

fn warn_without_amqp(raw: &Raw, report: &mut Report) {
    for (name, text) in [
        ("AMQP_URL", &raw.amqp_url),
        ("BROKER_GROUP", &raw.broker_group),
        ("BROKER_ENCODING", &raw.broker_encoding),
        ("BROKER_MESSAGE_TIMEOUT", &raw.broker_message_timeout),
        ("BROKER_PERSISTENT", &raw.broker_persistent),
        ("BROKER_DECLARE", &raw.broker_declare),
        ("CLUSTER_NODE", &raw.cluster_node),
    ] {
        if text.is_some() {
            report.warn(name, "has no effect: events go to standard output, since BROKER_TYPE is stdio");
        }
    }
}
