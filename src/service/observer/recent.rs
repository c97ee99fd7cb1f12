//! The last half hour: rates over the last seconds, and samples for charts. Sans-I/O: looks come in, with their times.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use crate::discord::ids::ShardId;
use crate::discord::shard::status::names::{self, NameId};
use crate::seen::Sample;
use crate::seen::sample::{KEPT, SECONDS};

/// What is found at a look: counts of all that was, and how things are.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// When.
    pub at: Instant,
    /// Events received, by the numbers of their names.
    pub events: Box<[u64]>,
    /// Events received, by shard.
    pub shards: BTreeMap<ShardId, u64>,
    /// CPU time taken, in seconds.
    pub cpu_seconds: f64,
    /// Messages not settled.
    pub unconfirmed: u32,
    /// From the write of a message to its confirm, in milliseconds.
    pub latency_ms: Option<f32>,
    /// Shards that are connected.
    pub connected: u32,
}

/// What is known of the last half hour.
#[derive(Debug)]
pub(super) struct Recent {
    last: Look,
    /// Events a second, by the numbers of their names.
    events: Box<[f32]>,
    shards: BTreeMap<ShardId, f32>,
    cpu: f32,
    samples: VecDeque<Kept>,
}

/// A sample, with numbers for names: there are some hundred samples of some dozen names.
#[derive(Debug)]
struct Kept {
    at: u64,
    events: Box<[(NameId, u32)]>,
    unconfirmed: u32,
    latency_ms: Option<f32>,
    connected: u32,
}

impl Recent {
    /// Nothing happened before `begin`.
    pub fn new(begin: Instant) -> Self {
        let last = Look {
            at: begin,
            events: [0; names::COUNT].into(),
            shards: BTreeMap::new(),
            cpu_seconds: 0.0,
            unconfirmed: 0,
            latency_ms: None,
            connected: 0,
        };
        let (shards, samples) = Default::default();
        Self { last, events: [0.0; names::COUNT].into(), shards, cpu: 0.0, samples }
    }

    /// The end of a sample, in Unix seconds, and how things were then.
    pub fn look(&mut self, end: u64, look: Look) {
        let seconds = look.at.saturating_duration_since(self.last.at).as_secs_f64();
        let rate = |more: f64| if seconds > 0.0 { (more / seconds) as f32 } else { 0.0 };
        let more = |now: u64, before: u64| now.saturating_sub(before);
        let mut events = Vec::new();
        for name in NameId::all() {
            let at = name.index();
            let came = more(look.events[at], self.last.events[at]);
            self.events[at] = rate(came as f64);
            if came > 0 {
                events.push((name, u32::try_from(came).unwrap_or(u32::MAX)));
            }
        }
        let of_shard = |(shard, count): (&ShardId, &u64)| {
            // One that came back counts anew.
            let before = self.last.shards.get(shard).filter(|before| *before <= count).copied().unwrap_or(0);
            (*shard, rate(more(*count, before) as f64))
        };
        self.shards = look.shards.iter().map(of_shard).collect();
        self.cpu = rate((look.cpu_seconds - self.last.cpu_seconds).max(0.0));
        if self.samples.len() >= KEPT {
            self.samples.pop_front();
        }
        let Look { unconfirmed, latency_ms, connected, .. } = look;
        let at = end.saturating_sub(SECONDS);
        self.samples.push_back(Kept { at, events: events.into(), unconfirmed, latency_ms, connected });
        self.last = look;
    }

    /// Events a second, by this name.
    pub fn event_rate(&self, name: NameId) -> f32 {
        self.events[name.index()]
    }

    /// Events a second, of this shard.
    pub fn shard_rate(&self, shard: ShardId) -> f32 {
        self.shards.get(&shard).copied().unwrap_or_default()
    }

    /// CPU: 1 is one core.
    pub const fn cpu(&self) -> f32 {
        self.cpu
    }

    /// The samples that begin later than `after`, in Unix seconds, oldest first.
    pub fn samples(&self, after: u64) -> Vec<Sample> {
        let told = |kept: &Kept| Sample {
            at: kept.at,
            events: kept.events.iter().map(|(name, count)| (name.name(), *count)).collect(),
            unconfirmed: kept.unconfirmed,
            latency_ms: kept.latency_ms,
            connected: kept.connected,
            heard: 1,
        };
        self.samples.iter().filter(|kept| kept.at > after).map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// After so many seconds so many READYs came, all to shard 3.
    fn look(begin: Instant, seconds: u64, count: u64) -> Look {
        let mut events: Box<[u64]> = [0; names::COUNT].into();
        events[NameId::of("READY").index()] = count;
        Look {
            at: begin + Duration::from_secs(seconds),
            events,
            shards: [(ShardId::new(3), count)].into(),
            cpu_seconds: seconds as f64 / 4.0,
            unconfirmed: 7,
            latency_ms: Some(1.5),
            connected: 1,
        }
    }

    #[test]
    fn rates_are_of_the_time_since_the_look_before() {
        let begin = Instant::now();
        let mut recent = Recent::new(begin);
        recent.look(100, look(begin, 2, 10));
        assert_eq!(recent.event_rate(NameId::of("READY")), 5.0);
        recent.look(105, look(begin, 7, 20));
        assert_eq!(recent.event_rate(NameId::of("READY")), 2.0);
        assert_eq!(recent.event_rate(NameId::of("RESUMED")), 0.0);
        assert_eq!((recent.shard_rate(ShardId::new(3)), recent.shard_rate(ShardId::new(4))), (2.0, 0.0));
        assert_eq!(recent.cpu(), 0.25);
    }

    #[test]
    fn a_shard_that_came_back_counts_anew() {
        let begin = Instant::now();
        let mut recent = Recent::new(begin);
        recent.look(100, look(begin, 5, 1000));
        recent.look(105, look(begin, 10, 50));
        assert_eq!(recent.shard_rate(ShardId::new(3)), 10.0);
        recent.look(110, Look { shards: BTreeMap::new(), ..look(begin, 15, 50) });
        assert_eq!(recent.shard_rate(ShardId::new(3)), 0.0);
    }

    #[test]
    fn samples_begin_five_seconds_before_their_end_and_are_told_once_each() {
        let begin = Instant::now();
        let mut recent = Recent::new(begin);
        recent.look(100, look(begin, 5, 10));
        recent.look(105, look(begin, 10, 10));
        let sample = Sample {
            at: 95,
            events: [("READY".into(), 10)].into(),
            unconfirmed: 7,
            latency_ms: Some(1.5),
            connected: 1,
            heard: 1,
        };
        let quiet = Sample { at: 100, events: BTreeMap::new(), ..sample.clone() };
        assert_eq!(recent.samples(0), [sample, quiet.clone()]);
        assert_eq!(recent.samples(95), [quiet]);
        assert_eq!(recent.samples(100), []);
    }

    #[test]
    fn half_an_hour_is_kept() {
        let begin = Instant::now();
        let mut recent = Recent::new(begin);
        for n in 1..=KEPT as u64 + 3 {
            recent.look(5 * n, look(begin, 5 * n, n));
        }
        let samples = recent.samples(0);
        assert_eq!((samples.len(), samples[0].at), (KEPT, 15));
    }
}
