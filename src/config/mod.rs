//! Text of the environment into one validated [`Config`], or every mistake in it at once.
//!
//! Pure: the environment and the reading of secrets' files are arguments. Knows no socket, no clock and no log.
//! What each variable means is in [`VARIABLES`] and in spec/configuration.md, which a test holds together.

mod amybot;
mod broker;
mod cluster;
mod discord;
pub mod env_file;
pub mod file;
mod forwarding;
mod intents;
mod nearest;
mod presence;
mod prometheus;
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

pub use amybot::Amybot;
pub use broker::{Amqp, AmqpUrl, Broker, DeclaredQueue, Group, Store};
pub use cluster::{Cluster, ClusterMode};
pub use discord::{Api, Discord, Protocol};
pub use forwarding::{ForwardTo, Forwarding};
pub use intents::{EventFilter, IntentChoice, IntentOrigin, doubt_about_event};
pub use prometheus::Prometheus;
pub use report::{ConfigErrors, Given, Mistake, Warning};
pub use shards::{MOST_SHARDS, NoSuchShard, ShardPlan};
pub use singyeong::Singyeong;
pub use values::duration;
pub use variables::{PREFIXES, VARIABLES, Variable};

use nearest::{did_you_mean, nearest};
use report::Report;
use values::word;
use variables::{Raw, UNREAD};

use crate::secret::Secret;

/// Everything there is to decide, decided. Prints without its secrets.
#[derive(Clone, Debug)]
pub struct Config {
    /// Discord; `None`: without a bot, 신경 and amybot alone are served.
    pub discord: Option<Discord>,
    /// What carries events.
    pub broker: Broker,
    /// Where sessions outlive the process.
    pub store: Store,
    /// How shards are shared among processes.
    pub cluster: Cluster,
    /// The 신경 server; `None`: there is none.
    pub singyeong: Option<Singyeong>,
    /// What is forwarded to 신경 clients; `None`: nothing.
    pub forwarding: Option<Forwarding>,
    /// amybot services; `None`: they are not served.
    pub amybot: Option<Amybot>,
    /// Where health and the admin interface are served; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// What the admin interface asks for; `None`: there is none.
    pub http_token: Option<Secret>,
    /// Who reads the page without that.
    pub http_readers: HttpReaders,
    /// Where the metrics are served besides; `None`: nowhere else.
    pub prometheus: Option<Prometheus>,
    /// What is logged, and how.
    pub log: Log,
}

/// Who reads the page without the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpReaders {
    /// Who is on the machine itself.
    #[default]
    Loopback,
    /// Nobody.
    Token,
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
        let raw = Raw::read(vars, &read_file, &mut report);
        let rules = forwarding::rules(&raw, &read_file, &mut report);
        let discord = discord::parse(&raw, &forwarding::events(rules.as_deref()), &mut report);
        let (broker, store) = broker::parse(&raw, &discord.events, &mut report);
        let singyeong = singyeong::parse(&raw, &broker, &mut report);
        let discord = Some(discord).filter(|_| discord::is_wanted(&raw, &mut report));
        let forwarding = forwarding::parse(&raw, rules, &broker, singyeong.as_ref(), &mut report);
        let amybot = amybot::parse(&raw, &broker, singyeong.as_ref(), &mut report);
        let cluster = cluster::parse(&raw, host.as_deref(), &broker, &store, &mut report);
        let mut http = http_address(raw.http_address.as_deref(), &mut report);
        let http_token = http_token(&raw, &mut report);
        let http_readers = http_readers(&raw, &mut report);
        let prometheus = prometheus::parse(&raw, &mut http, &mut report);
        check_places(http, prometheus.as_ref(), singyeong.as_ref(), amybot.as_ref(), &mut report);
        let log = log(&raw, &mut report);
        report.finish(Self {
            discord,
            broker,
            store,
            cluster,
            singyeong,
            forwarding,
            amybot,
            http,
            http_token,
            http_readers,
            prometheus,
            log,
        })
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

/// Whom a command asks that speaks to a running Optic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAccess {
    /// Where it listens; `None`: nowhere.
    pub address: Option<SocketAddr>,
    /// What its admin interface asks for, if that was set.
    pub token: Option<Secret>,
}

impl HttpAccess {
    /// Reads `HTTP_ADDRESS` and `HTTP_TOKEN`, also from its file; the rest may be wrong or missing.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with these.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let mut report = Report::default();
        let needed = vars
            .into_iter()
            .filter(|(name, _)| matches!(name.as_str(), "HTTP_ADDRESS" | "HTTP_TOKEN" | "HTTP_TOKEN_FILE"));
        let raw = Raw::read(needed, read_file, &mut report);
        let address = http_address(raw.http_address.as_deref(), &mut report);
        let token = http_token(&raw, &mut report);
        report.finish(Self { address, token })
    }
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

/// No two may listen at one place, but for 신경 and amybot, which share a port where their addresses are the same.
fn check_places(
    http: Option<SocketAddr>,
    prometheus: Option<&Prometheus>,
    singyeong: Option<&Singyeong>,
    amybot: Option<&Amybot>,
    report: &mut Report,
) {
    let singyeong = singyeong.map(|singyeong| ("SINGYEONG_ADDRESS", singyeong.address));
    let amybot = amybot.and_then(|amybot| amybot.address).map(|address| ("AMYBOT_ADDRESS", address));
    let http = http.map(|address| ("HTTP_ADDRESS", "health and metrics are", address));
    let prometheus = prometheus.map(|prometheus| ("PROMETHEUS_ADDRESS", "the metrics are", prometheus.address));
    let taken: Vec<_> = http.into_iter().chain(prometheus).collect();
    for (name, address) in singyeong.into_iter().chain(amybot) {
        if let Some((taker, what, at)) = taken.iter().find(|(.., at)| values::is_same_place(*at, address)) {
            let problem = format!("{what} there already, at {taker}={at}");
            report.wrong(name, &address.to_string(), problem, format!("write another port, here or for {taker}"));
        }
    }
    if let (Some((_, one)), Some((name, other))) = (singyeong, amybot)
        && one != other
        && values::is_same_place(one, other)
    {
        let problem = format!("SINGYEONG_ADDRESS={one} has that port already");
        report.wrong(name, &other.to_string(), problem, format!("write {one} to share it, or another port"));
    }
}

/// As it is to stand behind `Bearer` in a header.
fn http_token(raw: &Raw, report: &mut Report) -> Option<Secret> {
    const NAME: &str = "HTTP_TOKEN";
    const SHORT: usize = 16;
    let text = raw.http_token.as_deref().filter(|text| *text != UNREAD)?.trim();
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let remedy = "write letters and digits, such as `openssl rand -hex 32` prints";
        report.wrong_secret(NAME, "it has a character that no header can carry", remedy);
    } else if text.len() < SHORT {
        report.warn(NAME, format!("it has less than {SHORT} characters, and may be guessed"));
    }
    Some(Secret::new(text))
}

fn http_readers(raw: &Raw, report: &mut Report) -> HttpReaders {
    const NAME: &str = "HTTP_READERS";
    let words = [("loopback", HttpReaders::Loopback), ("token", HttpReaders::Token)];
    let readers = raw.http_readers.as_deref().and_then(|text| word(NAME, text, &words, report)).unwrap_or_default();
    if readers == HttpReaders::Token && raw.http_token.is_none() {
        let problem = "HTTP_TOKEN is not set, and nobody could read";
        report.wrong(
            NAME,
            "token",
            problem,
            "set HTTP_TOKEN, such as `openssl rand -hex 32` prints, or write loopback",
        );
    }
    readers
}

fn log(raw: &Raw, report: &mut Report) -> Log {
    let filter =
        raw.log_level.as_deref().and_then(|text| log_filter(text, report)).unwrap_or_else(|| "info".to_owned());
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = raw.log_format.as_deref().and_then(|text| word("LOG_FORMAT", text, &formats, report));
    Log { filter, format: format.unwrap_or(LogFormat::Text) }
}

/// What a level is called elsewhere, or mistyped.
fn level_meant(given: &str) -> Option<&'static str> {
    let given = given.to_ascii_lowercase();
    let elsewhere =
        [("warning", "warn"), ("critical", "error"), ("fatal", "error"), ("verbose", "debug"), ("suppress", "off")];
    let named = elsewhere.into_iter().find(|(other, _)| *other == given).map(|(_, ours)| ours);
    named.or_else(|| nearest(&given, ["error", "warn", "info", "debug", "trace", "off"]))
}

/// Holds each part to be a level or `module=level`: a filter takes any other word for a module's name, in silence.
fn log_filter(text: &str, report: &mut Report) -> Option<String> {
    let mut parts = Vec::new();
    for part in values::list(text) {
        let (module, level) = part.split_once('=').map_or((None, part), |(module, level)| (Some(module), level));
        let Ok(level) = level.parse::<LevelFilter>() else {
            let problem = format!("{level:?} is no level{}", did_you_mean(level_meant(level)));
            let remedy = "write error, warn, info, debug, trace or off, or by module: info,optic::discord=debug";
            report.wrong("LOG_LEVEL", text, problem, remedy);
            return None;
        };
        parts.push(module.map_or(level.to_string(), |module| format!("{module}={level}")));
    }
    Some(parts.join(",")).filter(|filter| !filter.is_empty())
}
