//! How each shard fares: which connections have a session of it, and for how long none had.
//!
//! A shard is dark from the end of its last such connection to the next identify or resume that is granted. Sans-I/O: `now`
//! is handed in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::session::ConnectionId;
use crate::discord::ids::Shard;

/// Times of darkness that are remembered of a shard, the last ones.
const REMEMBERED: usize = 1_000;

/// Every shard that ever had a session.
#[derive(Debug, Default)]
pub struct Shards {
    shards: BTreeMap<Key, Life>,
    connections: HashMap<ConnectionId, Key>,
}

/// Shard count and id: shards of another count are other shards.
type Key = (u32, u32);

#[derive(Debug, Default)]
struct Life {
    live: u32,
    most_live: u32,
    identifies: u64,
    resumes: u64,
    dark_since: Option<Instant>,
    dark: VecDeque<Duration>,
    dark_times: u64,
}

/// A shard as `/control/shards` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardView {
    /// The shard's number.
    pub shard: u32,
    /// The shard count it belongs to.
    pub count: u32,
    /// Connections that have a session of it. Two have two sessions: a session has one.
    pub live: u32,
    /// The most that it ever was at the same time.
    pub most_live: u32,
    /// Identifies that started a session.
    pub identifies: u64,
    /// Resumes that took one up.
    pub resumes: u64,
    /// How often it was dark and is not any more.
    pub dark_times: u64,
    /// For how many milliseconds, the last 1,000 times, in order.
    pub dark_ms: Vec<u64>,
    /// For how many milliseconds it is dark now, if it is.
    pub dark_for_ms: Option<u64>,
}

impl Shards {
    /// A connection has a new session.
    pub fn identified(&mut self, shard: Shard, by: ConnectionId, now: Instant) {
        self.lit(shard, by, now).identifies += 1;
    }

    /// A connection took a session up, that `former` had until now.
    pub fn resumed(&mut self, shard: Shard, by: ConnectionId, former: Option<ConnectionId>, now: Instant) {
        // From one to the other it is never dark, nor has it two.
        if let Some(life) = former.and_then(|former| self.leave(former)) {
            life.live -= 1;
        }
        self.lit(shard, by, now).resumes += 1;
    }

    /// A connection is gone, or has no session any more.
    pub fn gone(&mut self, connection: ConnectionId, now: Instant) {
        let Some(life) = self.leave(connection) else { return };
        life.live -= 1;
        if life.live == 0 {
            life.dark_since = Some(now);
        }
    }

    /// Every shard, as shown.
    pub fn views(&self, now: Instant) -> Vec<ShardView> {
        let ms = |time: Duration| time.as_millis() as u64;
        let view = |(&(count, shard), life): (&Key, &Life)| ShardView {
            shard,
            count,
            live: life.live,
            most_live: life.most_live,
            identifies: life.identifies,
            resumes: life.resumes,
            dark_times: life.dark_times,
            dark_ms: life.dark.iter().copied().map(ms).collect(),
            dark_for_ms: life.dark_since.map(|since| ms(now.duration_since(since))),
        };
        self.shards.iter().map(view).collect()
    }

    /// The shard that a connection had, which has it no more.
    fn leave(&mut self, connection: ConnectionId) -> Option<&mut Life> {
        let key = self.connections.remove(&connection)?;
        Some(self.shards.get_mut(&key).expect("a connection is of a shard that is known"))
    }

    fn lit(&mut self, shard: Shard, by: ConnectionId, now: Instant) -> &mut Life {
        let key = (shard.count(), shard.id().get());
        self.connections.insert(by, key);
        let life = self.shards.entry(key).or_default();
        life.live += 1;
        life.most_live = life.most_live.max(life.live);
        if let Some(since) = life.dark_since.take() {
            if life.dark.len() == REMEMBERED {
                life.dark.pop_front();
            }
            life.dark.push_back(now.duration_since(since));
            life.dark_times += 1;
        }
        life
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discord::ids::ShardId;

    fn shard(id: u32) -> Shard {
        Shard::new(ShardId::new(id), 2).expect("id < 2")
    }

    #[test]
    fn a_shard_is_dark_from_its_last_connection_s_end_to_the_next_one() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut shards = Shards::default();
        shards.identified(shard(0), 1, at(0));
        shards.identified(shard(1), 2, at(0));
        shards.gone(1, at(100));
        assert_eq!(shards.views(at(150))[0].dark_for_ms, Some(50));
        shards.resumed(shard(0), 3, None, at(350));
        shards.gone(1, at(360));
        let [zero, one] = &shards.views(at(400))[..] else { panic!("two shards") };
        assert_eq!((zero.live, zero.dark_times, &zero.dark_ms[..], zero.dark_for_ms), (1, 1, &[250][..], None));
        assert_eq!((zero.identifies, zero.resumes), (1, 1));
        assert_eq!((one.live, one.dark_times, one.dark_for_ms), (1, 0, None));
    }

    #[test]
    fn who_takes_a_session_over_leaves_no_darkness() {
        let now = Instant::now();
        let mut shards = Shards::default();
        shards.identified(shard(0), 1, now);
        shards.resumed(shard(0), 2, Some(1), now);
        shards.gone(1, now);
        let view = &shards.views(now)[0];
        assert_eq!((view.live, view.most_live, view.dark_times, view.dark_for_ms), (1, 1, 0, None));
    }

    #[test]
    fn two_sessions_of_a_shard_are_seen() {
        let now = Instant::now();
        let mut shards = Shards::default();
        shards.identified(shard(0), 1, now);
        shards.identified(shard(0), 2, now);
        shards.gone(1, now);
        let view = &shards.views(now)[0];
        assert_eq!((view.live, view.most_live, view.dark_for_ms), (1, 2, None));
    }
}
