//! The 신경 server: where it listens, who may do what, and how much.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::broker::Broker;
use super::report::Report;
use super::values::{address, bytes, duration, list, number};
use super::variables::{Raw, UNREAD};
use crate::secret::Secret;
use crate::singyeong::limits::Limits;

/// Everything that concerns the 신경 server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Singyeong {
    /// Where it listens.
    pub address: SocketAddr,
    /// The password of clients that may do everything; `None`: all may.
    pub auth: Option<Secret>,
    /// Addresses that the proxy may ask though they are this machine's, or this network's own.
    pub proxy_allow: Vec<IpNet>,
    /// How much a client may ask for.
    pub limits: Limits,
}

/// Whether it is asked for at all, be it with a mistake.
pub(super) fn is_on(raw: &Raw) -> bool {
    raw.singyeong_address.as_deref().is_some_and(|text| !text.trim().eq_ignore_ascii_case("off"))
}

pub(super) fn parse(raw: &Raw, broker: &Broker, report: &mut Report) -> Option<Singyeong> {
    let auth = raw.singyeong_auth.as_deref().and_then(|text| auth(text, report));
    let proxy_allow = raw.singyeong_proxy_allow.as_deref().map(|text| networks(text, report)).unwrap_or_default();
    let limits = limits(raw, report);
    let text = raw.singyeong_address.as_deref().filter(|_| is_on(raw));
    let Some(text) = text else {
        warn_of_no_effect(raw, report);
        return None;
    };
    if matches!(broker, Broker::Stdio) {
        let problem = "its clients' messages are kept in RabbitMQ, and there is none with BROKER_TYPE=stdio";
        report.wrong("SINGYEONG_ADDRESS", text, problem, "set AMQP_URL, or unset SINGYEONG_ADDRESS");
    }
    let address = address("SINGYEONG_ADDRESS", text, report)?;
    if auth.is_none() && raw.singyeong_auth.is_none() && !address.ip().is_loopback() {
        let text =
            "everybody who reaches this address may send commands to Discord and read queues: set SINGYEONG_AUTH";
        report.warn("SINGYEONG_ADDRESS", text);
    }
    Some(Singyeong { address, auth, proxy_allow, limits })
}

fn warn_of_no_effect(raw: &Raw, report: &mut Report) {
    for (name, set) in [
        ("SINGYEONG_AUTH", &raw.singyeong_auth),
        ("SINGYEONG_PROXY_ALLOW", &raw.singyeong_proxy_allow),
        ("SINGYEONG_HEARTBEAT", &raw.singyeong_heartbeat),
        ("SINGYEONG_ACK_TIMEOUT", &raw.singyeong_ack_timeout),
        ("SINGYEONG_MAX_CONNECTIONS", &raw.singyeong_max_connections),
        ("SINGYEONG_MAX_MESSAGE", &raw.singyeong_max_message),
        ("SINGYEONG_MAX_METADATA", &raw.singyeong_max_metadata),
        ("SINGYEONG_MAX_QUERY_DEPTH", &raw.singyeong_max_query_depth),
        ("SINGYEONG_CLIENT_BUFFER", &raw.singyeong_client_buffer),
    ] {
        if set.is_some() {
            report.warn(name, "has no effect: SINGYEONG_ADDRESS is not set");
        }
    }
}

/// The password as it is, blanks included: clients send it so.
fn auth(text: &str, report: &mut Report) -> Option<Secret> {
    if text == UNREAD {
        return None;
    }
    if text.trim() != text {
        report.warn("SINGYEONG_AUTH", "it has white space around it, which counts");
    }
    Some(Secret::new(text))
}

fn networks(text: &str, report: &mut Report) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for part in list(text) {
        match part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => networks.push(network),
            Err(_) => {
                let problem = format!("{part:?} is no network");
                report.wrong("SINGYEONG_PROXY_ALLOW", text, problem, "write such as 10.0.0.0/8,127.0.0.1,fd00::/8");
            }
        }
    }
    networks
}

fn limits(raw: &Raw, report: &mut Report) -> Limits {
    let usual = Limits::default();
    let mut size = |name, text: &Option<String>, range: RangeInclusive<usize>, usual| {
        text.as_deref().and_then(|text| bytes(name, text, range, report)).unwrap_or(usual)
    };
    let message = size("SINGYEONG_MAX_MESSAGE", &raw.singyeong_max_message, 1 << 10..=128 << 20, usual.message);
    let metadata = size("SINGYEONG_MAX_METADATA", &raw.singyeong_max_metadata, 256..=1 << 20, usual.metadata);
    let client_buffer =
        size("SINGYEONG_CLIENT_BUFFER", &raw.singyeong_client_buffer, 64 << 10..=1 << 30, usual.client_buffer);
    let mut count = |name, text: &Option<String>, most, usual| {
        text.as_deref().and_then(|text| number(name, text, 1..=most, report)).unwrap_or(usual)
    };
    let connections = count("SINGYEONG_MAX_CONNECTIONS", &raw.singyeong_max_connections, 1_000_000, usual.connections);
    let query_depth = count("SINGYEONG_MAX_QUERY_DEPTH", &raw.singyeong_max_query_depth, 64, usual.query_depth);
    let mut wait =
        |name, text: &Option<String>, usual| text.as_deref().and_then(|text| wait(name, text, report)).unwrap_or(usual);
    let heartbeat = wait("SINGYEONG_HEARTBEAT", &raw.singyeong_heartbeat, usual.heartbeat);
    let acknowledgement = wait("SINGYEONG_ACK_TIMEOUT", &raw.singyeong_ack_timeout, usual.acknowledgement);
    Limits { connections, message, metadata, query_depth, client_buffer, heartbeat, acknowledgement }
}

/// From a tenth of a second to 25 minutes: RabbitMQ itself takes back after half an hour what is not acknowledged.
fn wait(name: &str, text: &str, report: &mut Report) -> Option<Duration> {
    const SANE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(1500);
    let found = duration(text).filter(|wait| SANE.contains(wait));
    if found.is_none() {
        report.wrong(name, text, "not a time that it can have", "write one from 100ms to 25m, such as 15s");
    }
    found
}
