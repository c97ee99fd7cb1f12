//! A cluster that there is not: for tests, measurements and pictures of the page, as large as they want it. It is well.
//!
//! The same numbers make the same cluster; from one moment to the next it lives on.

use std::sync::Arc;

use super::report::{
    Commands, Counted, EventReport, Fate, Identifies, Mode, Publishing, QueueReport, RejectedCommand, Report,
    Resources, ShardReport, ShardState, VERSION,
};
use super::sample::{KEPT, SECONDS, Sample};
use super::whole::{Process, Reach, Whole};
use crate::cluster::node::NodeId;

/// When it began, in Unix milliseconds; half an hour before its first moment.
pub const BEGAN: u64 = 1_750_000_000_000;

/// From one moment to the next.
const TICK: u64 = 2000;

/// Events as often as a large bot has them in a second, a thousandth each, and what becomes of them.
const EVENTS: [(&str, u32, Fate); 8] = [
    ("GUILD_CREATE", 20, Fate::Published),
    ("INTERACTION_CREATE", 300, Fate::Published),
    ("MESSAGE_CREATE", 2500, Fate::Published),
    ("MESSAGE_DELETE", 200, Fate::NoQueue),
    ("MESSAGE_UPDATE", 600, Fate::Published),
    ("PRESENCE_UPDATE", 6000, Fate::NotListed),
    ("TYPING_START", 3000, Fate::NoQueue),
    ("VOICE_STATE_UPDATE", 700, Fate::Published),
];

/// So many processes with so many shards in all, at the first moment.
pub fn whole(processes: u32, shards: u32) -> Whole {
    whole_at(processes, shards, 0)
}

/// The same, so many moments later.
pub fn whole_at(processes: u32, shards: u32, moment: u64) -> Whole {
    let at = BEGAN + KEPT as u64 * SECONDS * 1000 + moment * TICK;
    let all: Vec<Process> = (0..processes)
        .map(|process| Process { report: report(process, processes, shards, at).into(), heard_at: at, answers: true })
        .collect();
    let here = all.first().map_or_else(|| NodeId::of_run("optic", 0), |first| first.report.node.clone());
    Whole { at, here, processes: all, reach: Reach::All, gone: None, history: history(shards, at / 1000) }
}

/// A process that is called so, and does nothing.
pub fn idle(name: &str) -> Report {
    Report {
        version: VERSION,
        node: NodeId::of_run(name, 1),
        name: name.to_owned(),
        group: "gateway".to_owned(),
        optic: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: BEGAN,
        at: BEGAN,
        mode: Mode::Leased,
        ready: true,
        missing: Vec::new(),
        broker: "connected".to_owned(),
        shard_count: 0,
        shards: Vec::new(),
        events: Vec::new(),
        gaps: Vec::new(),
        publishing: None,
        commands: Commands::default(),
        identifies: None,
        queues: Vec::new(),
        singyeong: None,
        forwarding: None,
        amybot: None,
        resources: Resources::default(),
    }
}

fn report(process: u32, processes: u32, shard_count: u32, at: u64) -> Report {
    let range = process * shard_count / processes..(process + 1) * shard_count / processes;
    let name = format!("optic-{process}");
    let here = range.len() as f32;
    let seconds = (at - BEGAN) / 1000;
    let rate = |thousandths: u32| thousandths as f32 / 1000.0 * here * sway(u64::from(process) + seconds / SECONDS);
    let events = EVENTS.map(|(name, thousandths, fate)| EventReport {
        name: name.to_owned(),
        received: u64::from(thousandths) * u64::from(range.end - range.start) * seconds / 1000,
        rate: rate(thousandths),
        fate,
    });
    let published = events.iter().filter(|event| event.fate == Fate::Published).map(|event| event.received).sum();
    Report {
        node: NodeId::of_run(&name, process),
        at,
        shard_count,
        shards: range.map(|id| shard(id, at)).collect(),
        events: events.into(),
        gaps: Vec::new(),
        publishing: Some(Publishing {
            confirmed: published,
            unconfirmed: 12 + seconds % 5,
            unconfirmed_bytes: 9000 + seconds % 5 * 800,
            latency_ms: Some(1.5 + f64::from(sway(seconds))),
            connections: 1,
            ..Publishing::default()
        }),
        commands: commands(process, seconds),
        identifies: Some(Identifies {
            remaining: 1000.max(4 * shard_count) - shard_count,
            total: 1000.max(4 * shard_count),
            resets_at: BEGAN + 86_400_000,
            max_concurrency: 16,
            waiting: 0,
        }),
        queues: EVENTS
            .iter()
            .filter(|(_, _, fate)| *fate == Fate::Published)
            .map(|(event, ..)| QueueReport {
                name: format!("gateway:{event}"),
                event: Some((*event).to_owned()),
                messages: seconds % 7,
                consumers: 4,
            })
            .collect(),
        resources: Resources { cpu_seconds: seconds as f64 * 0.03, cpu: 0.03, resident_bytes: 40 << 20 },
        ..idle(&name)
    }
}

fn shard(id: u32, at: u64) -> ShardReport {
    let seconds = (at - BEGAN) / 1000;
    ShardReport {
        id,
        state: ShardState::Connected,
        since: BEGAN + u64::from(id) * 300,
        latency_ms: Some(40.0 + 20.0 * f64::from(sway(u64::from(id) + seconds / 41))),
        guilds: Some(1000 + id % 37),
        events: 13 * seconds,
        rate: 13.3 * sway(u64::from(id) * 7 + seconds / SECONDS),
        resumes: u64::from(id.is_multiple_of(3)),
        last_resume: id.is_multiple_of(3).then_some(BEGAN + u64::from(id) * 300),
        identifies: 1,
        disconnects: u64::from(id.is_multiple_of(3)),
        last_disconnect: id.is_multiple_of(3).then(|| "Discord asked to reconnect".to_owned()),
        gaps: 0,
        last_gap: None,
        malformed: 0,
    }
}

fn commands(process: u32, seconds: u64) -> Commands {
    let rejected = RejectedCommand {
        at: BEGAN + u64::from(process) * 60_000,
        source: "gateway:SEND".to_owned(),
        kind: "forbidden_op".to_owned(),
        reason: "op 2 is Optic's own to send".to_owned(),
        bytes: 120,
    };
    Commands {
        sent: 3 * seconds,
        delayed: seconds / 60,
        held_up: 0,
        rejected: vec![Counted { kind: "forbidden_op".to_owned(), count: 1 }],
        last_rejected: vec![rejected],
    }
}

fn history(shards: u32, until: u64) -> Arc<[Sample]> {
    let end = until / SECONDS * SECONDS;
    let sample = |back: u64| {
        let at = end - back * SECONDS;
        let count = |thousandths: u32| (thousandths as f32 / 200.0 * shards as f32 * sway(at / SECONDS)) as u32;
        Sample {
            at,
            events: EVENTS.iter().map(|(name, thousandths, _)| (Arc::from(*name), count(*thousandths))).collect(),
            unconfirmed: 12 + (at % 9) as u32,
            latency_ms: Some(1.5 + sway(at)),
            connected: shards,
            heard: 1,
        }
    };
    (1..=KEPT as u64).rev().map(sample).collect()
}

/// Between 0.5 and 1.5, without a pattern that shows.
fn sway(n: u64) -> f32 {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    0.5 + (mixed >> 40) as f32 / (1 << 24) as f32
}
