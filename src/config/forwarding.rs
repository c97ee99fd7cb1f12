//! Rules by which events are forwarded to 신경 clients, and where these are.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::broker::Broker;
use super::file;
use super::intents::doubt_about_event;
use super::report::Report;
use super::singyeong::{self, Singyeong};
use super::variables::{Raw, UNREAD};
use crate::forwarding::Rules;
use crate::singyeong::outbound::Dsn;

const NAME: &str = "FORWARDING";
const DSN: &str = "SINGYEONG_DSN";

/// Everything that concerns forwarding.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// What is forwarded, and to whom.
    pub rules: Arc<Rules>,
    /// This process's number among the clusters: `{{CLUSTER}}` in a target.
    pub cluster: u32,
    /// Where the clients are.
    pub to: ForwardTo,
}

/// At which 신경 server the clients are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardTo {
    /// At those of this group.
    BuiltIn,
    /// At another.
    Another(Dsn),
}

/// The rules, if there are any.
pub(super) fn rules(
    raw: &Raw,
    read_file: impl Fn(&Path) -> io::Result<String>,
    report: &mut Report,
) -> Option<Arc<Rules>> {
    const FORM: &str =
        "write [{\"type\":\"send\",\"target\":{\"application\":\"worker\"},\"events\":[\"MESSAGE_CREATE\"]}]";
    let text = raw.forwarding.as_deref()?.trim();
    let json = if text.starts_with(['[', '{']) {
        text.to_owned()
    } else {
        let path = Path::new(text);
        let read = read_file(path).map_err(|error| format!("the file cannot be read: {error}"));
        match read.and_then(|content| file::rules(path, &content).map_err(|error| error.to_string())) {
            Ok(json) => json,
            Err(problem) => {
                report.wrong(NAME, text, problem, format!("name a file with rules, or {FORM}"));
                return None;
            }
        }
    };
    match Rules::parse(&json) {
        Ok(rules) => {
            for doubt in rules.events().into_iter().filter_map(doubt_about_event) {
                report.warn(NAME, format!("{doubt}; it is kept as it is"));
            }
            Some(Arc::new(rules))
        }
        Err(error) => {
            report.wrong(NAME, text, error.to_string(), FORM);
            None
        }
    }
}

/// Whether a server that listens at `address` is the one that is named: on this machine, at that port.
fn is_at(dsn: &Dsn, address: SocketAddr) -> bool {
    let url = dsn.address();
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let named = host.parse::<IpAddr>().ok();
    let is_here =
        host.eq_ignore_ascii_case("localhost") || named.is_some_and(|ip| ip.is_loopback() || ip == address.ip());
    is_here && url.port_or_known_default() == Some(address.port())
}

/// The events that the rules list.
pub(super) fn events(rules: Option<&Rules>) -> BTreeSet<&str> {
    rules.map(Rules::events).unwrap_or_default()
}

pub(super) fn parse(
    raw: &Raw,
    rules: Option<Arc<Rules>>,
    broker: &Broker,
    own: Option<&Singyeong>,
    report: &mut Report,
) -> Option<Forwarding> {
    // To have a file's DSN not count.
    let given = raw.singyeong_dsn.as_deref().filter(|text| !text.trim().eq_ignore_ascii_case("off"));
    let dsn = given.filter(|text| *text != UNREAD).and_then(|text| {
        let remedy = "write singyeong://application:password@host:port/?encoding=json, or ssingyeong:// for TLS";
        Dsn::parse(text).map_err(|error| report.wrong_secret(DSN, error.to_string(), remedy)).ok()
    });
    if raw.forwarding.is_none() {
        if given.is_some() {
            report.warn(DSN, "has no effect: FORWARDING lists no events to forward");
        }
        return None;
    }
    if matches!(broker, Broker::Stdio) && raw.amqp_url.is_none() {
        let problem = "events to be forwarded wait in RabbitMQ, so that none is lost, and AMQP_URL is not set";
        report.wrong(NAME, raw.forwarding.as_deref().unwrap_or_default(), problem, "set AMQP_URL, or unset FORWARDING");
    } else if matches!(broker, Broker::Stdio) {
        report.warn(NAME, "has no effect: events go to standard output, since BROKER_TYPE is stdio");
    }
    if given.is_none() && !singyeong::is_on(raw) {
        let text = "nobody is here to forward to: set SINGYEONG_DSN or SINGYEONG_ADDRESS, unless another process of the \
                    group serves 신경";
        report.warn(NAME, text);
    }
    let cluster = raw.cluster_id.as_deref().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let to = match dsn {
        Some(dsn) if own.is_some_and(|own| is_at(&dsn, own.address)) => {
            report
                .warn(DSN, "names this process's own 신경 server: events are forwarded to that, without a connection");
            ForwardTo::BuiltIn
        }
        Some(dsn) => ForwardTo::Another(dsn),
        None => ForwardTo::BuiltIn,
    };
    Some(Forwarding { rules: rules?, cluster, to })
}
