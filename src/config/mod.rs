//! Text of the environment into one validated [`Config`], or every mistake in it at once.
//!
//! Pure: the environment and the reading of secrets' files are arguments. Knows no socket, no clock and no log.
//! What each variable means is in [`VARIABLES`] and in spec/configuration.md, which a test holds together.

mod broker;
mod cluster;
mod discord;
pub mod env_file;
mod intents;
mod nearest;
mod presence;
mod report;
mod shards;
mod singyeong;
mod values;
mod variables;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use tracing_subscriber::filter::LevelFilter;

pub use broker::{Amqp, AmqpUrl, Broker, DeclaredQueue, Group, Store};
pub use cluster::{Cluster, ClusterMode};
pub use discord::{Api, Discord, Protocol};
pub use intents::{EventFilter, IntentChoice, IntentOrigin, doubt_about_event};
pub use report::{ConfigErrors, Given, Mistake, Warning};
pub use shards::{MOST_SHARDS, NoSuchShard, ShardPlan};
pub use singyeong::Singyeong;
pub use values::duration;
pub use variables::{LATER, VARIABLES, Variable};

use report::Report;
use values::word;
use variables::Raw;

/// Everything there is to decide, decided. Prints without its secrets.
#[derive(Clone, Debug)]
pub struct Config {
    /// Discord; `None`: without a bot, the 신경 server alone runs.
    pub discord: Option<Discord>,
    /// What carries events.
    pub broker: Broker,
    /// Where sessions outlive the process.
    pub store: Store,
    /// How shards are shared among processes.
    pub cluster: Cluster,
    /// The 신경 server; `None`: there is none.
    pub singyeong: Option<Singyeong>,
    /// Where health is served; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// What is logged, and how.
    pub log: Log,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or levels by module, as `tracing_subscriber`'s `Targets` reads it.
    pub filter: String,
    /// For whom.
    pub format: LogFormat,
}

/// For whom the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: an object a line.
    Json,
}

impl Config {
    /// Reads the variables. `read_file` reads the files that `<NAME>_FILE` names. `HOSTNAME` is the machine's name.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with its variable's name.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let mut report = Report::default();
        let mut host = None;
        let vars = vars.into_iter().inspect(|(name, text)| {
            if name == "HOSTNAME" {
                host = Some(text.clone());
            }
        });
        let raw = Raw::read(vars, read_file, &mut report);
        let discord = discord::parse(&raw, &mut report);
        let (broker, store) = broker::parse(&raw, &discord.events, &mut report);
        let singyeong = singyeong::parse(&raw, &broker, &mut report);
        let discord = Some(discord).filter(|_| discord::is_wanted(&raw, &mut report));
        let cluster = cluster::parse(&raw, host.as_deref(), &broker, &store, &mut report);
        let http = http_address(raw.http_address.as_deref(), &mut report);
        let log = log(&raw, &mut report);
        report.finish(Self { discord, broker, store, cluster, singyeong, http, log })
    }
}

/// What a command needs that only looks at RabbitMQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAccess {
    /// Where RabbitMQ is, if that was set.
    pub url: Option<AmqpUrl>,
    /// The group.
    pub group: Group,
    /// What is logged, and how.
    pub log: Log,
}

impl BrokerAccess {
    /// Reads `AMQP_URL`, also from its file, `BROKER_GROUP` and `LOG_*`; the rest may be wrong or missing.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with these.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let mut report = Report::default();
        let needed =
            vars.into_iter().filter(|(name, _)| matches!(name.as_str(), "AMQP_URL" | "AMQP_URL_FILE" | "BROKER_GROUP"));
        let raw = Raw::read(needed, read_file, &mut report);
        let (url, group) = broker::parse_access(&raw, &mut report);
        let log = log(&raw, &mut report);
        report.finish(Self { url, group, log })
    }
}

/// The address that `HTTP_ADDRESS` alone says, for a command that asks the health server.
///
/// # Errors
///
/// What is wrong with it.
pub fn http_address_from(
    vars: impl IntoIterator<Item = (String, String)>,
) -> Result<(Option<SocketAddr>, Vec<Warning>), ConfigErrors> {
    let mut report = Report::default();
    let text = vars.into_iter().find(|(name, _)| name == "HTTP_ADDRESS").map(|(_, text)| text);
    let address = http_address(text.as_deref(), &mut report);
    report.finish(address)
}

/// Where health is served by default: nobody else's business.
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

fn http_address(text: Option<&str>, report: &mut Report) -> Option<SocketAddr> {
    let Some(text) = text.map(str::trim) else { return Some(HTTP_DEFAULT) };
    if text.is_empty() || text.eq_ignore_ascii_case("off") {
        return None;
    }
    values::address("HTTP_ADDRESS", text, report)
}

fn log(raw: &Raw, report: &mut Report) -> Log {
    let filter =
        raw.log_level.as_deref().and_then(|text| log_filter(text, report)).unwrap_or_else(|| "info".to_owned());
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = raw.log_format.as_deref().and_then(|text| word("LOG_FORMAT", text, &formats, report));
    Log { filter, format: format.unwrap_or(LogFormat::Text) }
}

/// Holds each part to be a level or `module=level`: a filter takes any other word for a module's name, in silence.
fn log_filter(text: &str, report: &mut Report) -> Option<String> {
    let mut parts = Vec::new();
    for part in values::list(text) {
        let (module, level) = part.split_once('=').map_or((None, part), |(module, level)| (Some(module), level));
        let Ok(level) = level.parse::<LevelFilter>() else {
            let problem = format!("{level:?} is no level");
            let remedy = "write error, warn, info, debug, trace or off, or by module: info,optic::discord=debug";
            report.wrong("LOG_LEVEL", text, problem, remedy);
            return None;
        };
        parts.push(module.map_or(level.to_string(), |module| format!("{module}={level}")));
    }
    Some(parts.join(",")).filter(|filter| !filter.is_empty())
}
