//! The metrics that spec-tacles/gateway had: same names, types and labels, so that dashboards and alerts made for it go on.

use std::collections::BTreeMap;

use prometheus::proto::{Quantile, Summary};

use super::catalogue::{PACKETS_RECEIVED, PACKETS_SENT, PING, SHARDS_ALIVE, TOTAL_SHARDS};
use super::exposition::{Exposition, MOST_SERIES, OTHER, cut};
use crate::seen::report::{Report, ShardState};
use crate::seen::{Packets, ShardPackets};

/// As spec-tacles has them.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.95, 0.99];

pub fn put(report: &Report, packets: &[ShardPackets], exposition: &mut Exposition) {
    let shards: Vec<String> = packets.iter().map(|of| of.shard.to_string()).collect();
    // As many opcodes as there can be.
    let opcodes: Vec<String> = (0..=u8::MAX).map(|op| op.to_string()).collect();
    let mut put = |metric, packets_of: fn(&ShardPackets) -> &[Packets]| {
        let mut series = Vec::new();
        for (of, shard) in packets.iter().zip(&shards) {
            for ((op, name), count) in by_kind(packets_of(of)) {
                series.push(([name, &opcodes[usize::from(op)], shard], count as f64));
            }
        }
        exposition.many(metric, series);
    };
    put(&PACKETS_RECEIVED, |of| &of.received);
    put(&PACKETS_SENT, |of| &of.sent);
    let ids: Vec<String> = report.shards.iter().map(|shard| shard.id.to_string()).collect();
    let alive = report.shards.iter().map(|shard| if is_alive(shard.state) { 1.0 } else { 0.0 });
    exposition.many(&SHARDS_ALIVE, ids.iter().zip(alive).map(|(id, alive)| ([id.as_str()], alive)));
    exposition.one(&TOTAL_SHARDS, report.shards.len() as f64);
    let answered = packets.iter().filter(|of| of.pings > 0);
    exposition.summaries(&PING, answered.map(|of| (of.shard.to_string(), ping(of))));
}

/// A shard that does not read because the broker takes nothing has its session all the same.
fn is_alive(state: ShardState) -> bool {
    match state {
        ShardState::Connected | ShardState::Paused => true,
        ShardState::Disconnected
        | ShardState::Connecting
        | ShardState::Waiting
        | ShardState::Identifying
        | ShardState::Resuming
        | ShardState::Suspended
        | ShardState::Ended => false,
    }
}

/// Each kind once, and only so many names.
fn by_kind(packets: &[Packets]) -> BTreeMap<(u8, &str), u64> {
    let mut counts = BTreeMap::new();
    for Packets { op, name, count } in packets {
        let mut kind = (*op, name.as_deref().map_or("", cut));
        if !counts.contains_key(&kind) && counts.len() >= MOST_SERIES {
            kind.1 = OTHER;
        }
        *counts.entry(kind).or_default() += count;
    }
    counts
}

fn ping(of: &ShardPackets) -> Summary {
    let mut latest: Vec<f64> = of.latest_pings_ms.clone();
    latest.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| {
        // The smallest that so many are not above.
        let rank = (q * latest.len() as f64).ceil().max(1.0) as usize - 1;
        let mut quantile = Quantile::default();
        quantile.set_quantile(q);
        quantile.set_value(latest.get(rank).copied().unwrap_or(f64::NAN));
        quantile
    };
    let mut summary = Summary::default();
    summary.set_quantile(QUANTILES.map(quantile).to_vec());
    summary.set_sample_count(of.pings);
    summary.set_sample_sum(of.ping_sum_ms);
    summary
}
