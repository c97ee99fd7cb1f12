//! Optic's own metrics: names begin with `optic_`, units are seconds and bytes, counters end in `_total`. The process's have the
//! names that every program's have.

use std::collections::BTreeMap;

use super::catalogue::*;
use super::exposition::{Bounded, Exposition, MOST_SERIES, cut};
use crate::amybot::proxy::MOST_PAIRS;
use crate::seen::report::{
    Commands, Forwarding, Identifies, Mode, Publishing, QueueReport, Report, ShardReport, ShardState, Singyeong,
};
use crate::spectacles::route::Kind;

/// All there are; a broker in one that is not known is in none.
const BROKER_STATES: [&str; 3] = ["connected", "disconnected", "blocked"];

pub fn put(report: &Report, to: &mut Exposition) {
    to.many(&BUILD_INFO, [([cut(&report.optic)], 1.0)]);
    to.many(&NODE_INFO, [([cut(&report.name), cut(&report.group), mode(report.mode)], 1.0)]);
    to.one(&READY, is(report.ready));
    to.many(&BROKER_STATE, BROKER_STATES.map(|state| ([state], is(report.broker == state))));
    shards(report, to);
    if let Some(publishing) = &report.publishing {
        self::publishing(publishing, to);
    }
    commands(&report.commands, to);
    if let Some(identifies) = &report.identifies {
        self::identifies(identifies, to);
    }
    queues(&report.queues, to);
    if let Some(Singyeong { clients, restricted, set_aside }) = &report.singyeong {
        to.one(&SINGYEONG_CLIENTS, *clients as f64);
        to.one(&SINGYEONG_RESTRICTED, *restricted as f64);
        to.one(&SINGYEONG_SET_ASIDE, *set_aside as f64);
    }
    if let Some(forwarding) = &report.forwarding {
        self::forwarding(forwarding, to);
    }
    if let Some(amybot) = &report.amybot {
        // Those that are counted each for itself, two series each: one that is new takes no place of an old one's.
        let mut proxied = Bounded::<3>::new(2 * MOST_PAIRS);
        for of in &amybot.proxied {
            proxied.add([&of.source, &of.topic, "delivered"], 2, of.delivered as f64);
            proxied.add([&of.source, &of.topic, "set_aside"], 2, of.set_aside as f64);
        }
        to.many(&AMYBOT_PROXIED, proxied.into_series());
    }
    to.one(&PROCESS_CPU, report.resources.cpu_seconds);
    to.one(&PROCESS_RESIDENT, report.resources.resident_bytes as f64);
    to.one(&PROCESS_START, seconds(report.started_at));
}

fn shards(report: &Report, to: &mut Exposition) {
    to.one(&SHARD_COUNT, f64::from(report.shard_count));
    let shards = || report.shards.iter();
    let ids: Vec<String> = shards().map(|shard| shard.id.to_string()).collect();
    to.many(&SHARD_STATE, ids.iter().zip(shards()).map(|(id, shard)| ([id.as_str(), state(shard.state)], 1.0)));
    let guilds = ids.iter().zip(shards()).filter_map(|(id, shard)| Some(([id.as_str()], f64::from(shard.guilds?))));
    to.many(&SHARD_GUILDS, guilds);
    let put = |to: &mut Exposition, metric, count: fn(&ShardReport) -> u64| {
        to.many(metric, ids.iter().zip(shards()).map(|(id, shard)| ([id.as_str()], count(shard) as f64)));
    };
    put(to, &RESUMES, |shard| shard.resumes);
    put(to, &IDENTIFIES, |shard| shard.identifies);
    put(to, &DISCONNECTS, |shard| shard.disconnects);
    let mut gaps = Bounded::<1>::new(MOST_SERIES);
    for counted in &report.gaps {
        gaps.add([&counted.kind], 1, counted.count as f64);
    }
    to.many(&GAPS, gaps.into_series());
    put(to, &MALFORMED, |shard| shard.malformed);
}

fn publishing(publishing: &Publishing, to: &mut Exposition) {
    if let Some(latency) = publishing.latency_ms {
        to.one(&PUBLISH_LATENCY, latency / 1000.0);
    }
    to.one(&UNCONFIRMED_MESSAGES, publishing.unconfirmed as f64);
    to.one(&UNCONFIRMED_BYTES, publishing.unconfirmed_bytes as f64);
    to.one(&CONFIRMED, publishing.confirmed as f64);
    to.one(&REFUSED, publishing.refused as f64);
    to.one(&RETURNED, publishing.returned as f64);
    to.one(&ABANDONED, publishing.abandoned as f64);
    to.one(&AGAIN, publishing.again as f64);
    to.one(&UNCONVERTED, publishing.unconverted as f64);
    to.one(&PUBLISH_CONNECTIONS, publishing.connections as f64);
}

fn commands(commands: &Commands, to: &mut Exposition) {
    to.one(&COMMANDS_SENT, commands.sent as f64);
    to.one(&COMMANDS_DELAYED, commands.delayed as f64);
    to.one(&COMMANDS_HELD_UP, commands.held_up as f64);
    let mut rejected = Bounded::<1>::new(MOST_SERIES);
    // From 0 on: nobody sees the increase of a series that begins at 1.
    for kind in Kind::ALL {
        rejected.add([kind.name()], 1, 0.0);
    }
    for counted in &commands.rejected {
        rejected.add([&counted.kind], 1, counted.count as f64);
    }
    to.many(&COMMANDS_REJECTED, rejected.into_series());
}

fn identifies(identifies: &Identifies, to: &mut Exposition) {
    to.one(&SESSION_STARTS_REMAINING, f64::from(identifies.remaining));
    to.one(&SESSION_STARTS_LIMIT, f64::from(identifies.total));
    to.one(&SESSION_STARTS_RESET, seconds(identifies.resets_at));
    to.one(&MAX_CONCURRENCY, f64::from(identifies.max_concurrency));
    to.one(&IDENTIFIES_WAITING, f64::from(identifies.waiting));
}

/// Depths are not added up: of too many queues the first in alphabetical order are told, so that they stay the same ones.
fn queues(queues: &[QueueReport], to: &mut Exposition) {
    let named: BTreeMap<&str, &QueueReport> = queues.iter().map(|queue| (cut(&queue.name), queue)).collect();
    let told = || named.iter().take(MOST_SERIES);
    to.many(&QUEUE_MESSAGES, told().map(|(name, queue)| ([*name], queue.messages as f64)));
    to.many(&QUEUE_CONSUMERS, told().map(|(name, queue)| ([*name], queue.consumers as f64)));
}

fn forwarding(forwarding: &Forwarding, to: &mut Exposition) {
    to.one(&FORWARDING_SENT, forwarding.sent as f64);
    to.one(&FORWARDING_SENT_AGAIN, forwarding.sent_again as f64);
    to.one(&FORWARDING_COVERED, forwarding.covered as f64);
    to.one(&FORWARDING_SET_ASIDE, forwarding.set_aside as f64);
    to.one(&FORWARDING_NO_ROUTE, forwarding.no_route as f64);
    to.one(&FORWARDING_UNREADABLE, forwarding.unreadable as f64);
    to.one(&FORWARDING_CONNECTIONS, forwarding.connections as f64);
}

fn is(so: bool) -> f64 {
    if so { 1.0 } else { 0.0 }
}

/// Of milliseconds.
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Alone => "alone",
        Mode::Static => "static",
        Mode::Leased => "leased",
        Mode::NoBot => "no_bot",
    }
}

fn state(state: ShardState) -> &'static str {
    match state {
        ShardState::Connected => "connected",
        ShardState::Paused => "paused",
        ShardState::Disconnected => "disconnected",
        ShardState::Connecting => "connecting",
        ShardState::Waiting => "waiting",
        ShardState::Identifying => "identifying",
        ShardState::Resuming => "resuming",
        ShardState::Suspended => "suspended",
        ShardState::Ended => "ended",
    }
}
