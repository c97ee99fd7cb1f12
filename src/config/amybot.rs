//! amybot services: where they come in, and how many shards they run.

use std::net::SocketAddr;

use super::broker::Broker;
use super::report::Report;
use super::shards::MOST_SHARDS;
use super::singyeong::Singyeong;
use super::values::{address, number};
use super::variables::Raw;

/// Everything that concerns amybot services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amybot {
    /// Where they come in by websocket; `None`: only over RabbitMQ.
    pub address: Option<SocketAddr>,
    /// How many shards they run in all; `None`: as another process of the group says.
    pub shard_count: Option<u32>,
}

/// The address that is asked for, if one is.
fn wanted_address(raw: &Raw) -> Option<&str> {
    raw.amybot_address.as_deref().filter(|text| !text.trim().eq_ignore_ascii_case("off"))
}

/// Whether they are served at all, be it with a mistake.
pub(super) fn is_on(raw: &Raw) -> bool {
    wanted_address(raw).is_some() || raw.amybot_shard_count.is_some()
}

pub(super) fn parse(raw: &Raw, broker: &Broker, singyeong: Option<&Singyeong>, report: &mut Report) -> Option<Amybot> {
    if !is_on(raw) {
        return None;
    }
    let text = wanted_address(raw);
    if matches!(broker, Broker::Stdio) {
        let (name, given) = match text {
            Some(text) => ("AMYBOT_ADDRESS", text),
            None => ("AMYBOT_SHARD_COUNT", raw.amybot_shard_count.as_deref().unwrap_or_default()),
        };
        let problem = "services are known to each other through RabbitMQ, and there is none with BROKER_TYPE=stdio";
        report.wrong(name, given, problem, format!("set AMQP_URL, or unset {name}"));
    }
    let address = text.and_then(|text| address("AMYBOT_ADDRESS", text, report));
    if let Some(address) = address
        && !address.ip().is_loopback()
    {
        let text = "everybody who reaches this address is a service: keep it inside your own network";
        report.warn("AMYBOT_ADDRESS", text);
    }
    if singyeong.is_some_and(|singyeong| singyeong.auth.is_some() && Some(singyeong.address) == address) {
        let text = "shares 신경's port, and its services need no password, whatever SINGYEONG_AUTH says";
        report.warn("AMYBOT_ADDRESS", text);
    }
    let shard_count =
        raw.amybot_shard_count.as_deref().and_then(|text| number("AMYBOT_SHARD_COUNT", text, 0..=MOST_SHARDS, report));
    Some(Amybot { address, shard_count })
}
