//! Turns against a model of RabbitMQ's single active consumer, with processes that die, stop for a while and are cut off,
//! and a RabbitMQ that restarts: never two identifies of the bucket within the pace, and everybody's turn comes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::turn::{Found, Marker, Past, Rules, Step, Turn};

const RULES: Rules = Rules { pace: Duration::from_millis(5_500), valid: Duration::from_secs(1) };

/// A bucket's queue: classic, single active consumer, transient messages.
#[derive(Debug, Default)]
struct Queue {
    exists: bool,
    /// By position: what is put back keeps its own.
    ready: BTreeMap<u64, Marker>,
    next_position: u64,
    /// Consumers by their connection, with their priority.
    consumers: BTreeMap<u64, i64>,
    active: Option<u64>,
    unacked: BTreeMap<u64, (u64, Marker)>,
    /// What is on its way to each connection.
    sent: BTreeMap<u64, Marker>,
}

impl Queue {
    fn publish(&mut self, past: Past) {
        if self.ready.len() < 8 {
            self.ready.insert(self.next_position, Marker { past, redelivered: false });
            self.next_position += 1;
        }
        self.deliver();
    }

    fn consume(&mut self, connection: u64, priority: i64) {
        self.consumers.insert(connection, priority);
        self.deliver();
    }

    fn cancel(&mut self, connection: u64) {
        self.consumers.remove(&connection);
        self.active = self.active.filter(|active| *active != connection);
        // And nothing is delivered yet.
    }

    fn ack(&mut self, connection: u64) {
        self.unacked.remove(&connection);
    }

    fn drop_connection(&mut self, connection: u64) {
        self.consumers.remove(&connection);
        self.sent.remove(&connection);
        self.active = self.active.filter(|active| *active != connection);
        if let Some((position, marker)) = self.unacked.remove(&connection) {
            self.ready.insert(position, Marker { redelivered: true, ..marker });
        }
        self.deliver();
    }

    fn restart(&mut self) {
        *self = Self { exists: self.exists, next_position: self.next_position, ..Self::default() };
    }

    fn deliver(&mut self) {
        if self.active.is_none() {
            // The highest priority; of equals whoever came first.
            self.active =
                self.consumers.iter().max_by_key(|(id, priority)| (**priority, u64::MAX - **id)).map(|(id, _)| *id);
        }
        if let Some(active) = self.active
            && !self.unacked.contains_key(&active)
            && let Some((position, marker)) = self.ready.pop_first()
        {
            self.unacked.insert(active, (position, marker));
            self.sent.insert(active, marker);
        }
    }
}

/// A shard's life, with the driver's steps broken where something may come between.
#[derive(Debug)]
struct Shard {
    id: u32,
    turn: Turn,
    /// Its connection; RabbitMQ may know it no longer.
    connection: Option<u64>,
    wanted: bool,
    /// Markers yet to be put there on the way into the line.
    to_publish: Option<VecDeque<Past>>,
    /// When RabbitMQ was asked, and whether the turn was ours then.
    asked: Option<(Instant, bool)>,
    in_line_since: Option<Instant>,
    handing_on: u8,
}

#[derive(Debug)]
struct World {
    now: Instant,
    queue: Queue,
    shards: Vec<Shard>,
    connections: u64,
    /// As RabbitMQ knows them.
    live: Vec<u64>,
    identified: Vec<(Instant, u32)>,
}

impl World {
    fn new(shards: u32) -> Self {
        let shards = (0..shards).map(|id| Shard {
            id,
            turn: Turn::new(RULES),
            connection: None,
            wanted: true,
            to_publish: None,
            asked: None,
            in_line_since: None,
            handing_on: 0,
        });
        Self {
            now: Instant::now(),
            queue: Queue::default(),
            shards: shards.collect(),
            connections: 0,
            live: Vec::new(),
            identified: Vec::new(),
        }
    }

    fn cut(&mut self, index: usize) {
        if let Some(connection) = self.shards[index].connection {
            self.live.retain(|live| *live != connection);
            self.queue.drop_connection(connection);
        }
    }

    /// It dies, and another process takes the shard up.
    fn kill(&mut self, index: usize) {
        self.cut(index);
        let shard = &mut self.shards[index];
        shard.connection = None;
        shard.to_publish = None;
        shard.asked = None;
        shard.turn = Turn::new(RULES);
    }

    fn restart(&mut self) {
        self.live.clear();
        self.queue.restart();
    }

    /// The shard's driver does one thing.
    fn step(&mut self, index: usize) {
        let Self { now, queue, shards, connections, live, identified } = self;
        let (now, shard) = (*now, &mut shards[index]);
        let up = shard.connection.filter(|connection| live.contains(connection));
        match (shard.turn.step(), up) {
            (Step::Register, _) if !shard.wanted => shard.turn = Turn::new(RULES),
            (Step::Register, None) => {
                *connections += 1;
                live.push(*connections);
                shard.connection = Some(*connections);
                shard.to_publish = None;
            }
            (Step::Register, Some(connection)) => match &mut shard.to_publish {
                None => {
                    let (messages, consumers) = (queue.ready.len() as u32, queue.consumers.len() as u32);
                    let found = Found { is_new: !std::mem::replace(&mut queue.exists, true), messages, consumers };
                    let (count, past) = found.missing().unwrap_or((0, Past::Known));
                    shard.to_publish = Some(std::iter::repeat_n(past, count).collect());
                }
                Some(markers) => match markers.pop_front() {
                    Some(past) => queue.publish(past),
                    None => {
                        queue.consume(connection, -i64::from(shard.id));
                        shard.turn.registered(now);
                        shard.to_publish = None;
                        shard.in_line_since = Some(now);
                    }
                },
            },
            (Step::Wait, Some(connection)) => {
                if let Some(marker) = queue.sent.remove(&connection) {
                    shard.turn.delivered(marker, now);
                } else if shard.in_line_since.is_some_and(|since| now > since + Duration::from_secs(10)) {
                    live.retain(|live| *live != connection);
                    queue.drop_connection(connection);
                    shard.turn.lost();
                }
            }
            (Step::Until(_), Some(_)) => shard.turn.due(now, shard.wanted),
            (Step::Keep(_), Some(_)) => shard.turn.kept(now),
            // What was delivered or answered before the connection went is still read, and the loss is not noticed yet.
            (Step::Prove, up) => match shard.asked.take() {
                None => shard.asked = Some((now, up.is_some())),
                Some((asked, true)) => shard.turn.answered(asked, now, shard.wanted),
                Some((_, false)) => shard.turn.lost(),
            },
            (Step::Grant(until), _) => {
                if shard.wanted && now < until {
                    identified.push((now, shard.id));
                    shard.turn.used(Some(now));
                    shard.wanted = false;
                } else {
                    shard.turn.used(None);
                }
                shard.handing_on = 0;
            }
            (Step::HandOn, Some(connection)) => {
                match shard.handing_on {
                    0 => queue.publish(Past::Known),
                    1 => queue.cancel(connection),
                    _ => {
                        queue.ack(connection);
                        shard.turn.handed_on();
                    }
                }
                shard.handing_on += 1;
            }
            (Step::Over, _) => {
                if let Some(connection) = shard.connection.take() {
                    live.retain(|live| *live != connection);
                    queue.drop_connection(connection);
                }
                shard.handing_on = 0;
                shard.turn = Turn::new(RULES);
            }
            (Step::Wait | Step::Until(_) | Step::Keep(_) | Step::HandOn, None) => {
                shard.turn.lost();
                shard.asked = None;
                shard.handing_on = 0;
            }
        }
    }

    fn lead_to_grant(&mut self, index: usize) {
        for _ in 0..12 {
            if !matches!(self.shards[index].turn.step(), Step::Grant(_)) {
                self.step(index);
            }
        }
    }

    fn all_but(&mut self, paused: Option<usize>) {
        for _ in 0..8 {
            (0..self.shards.len()).filter(|index| Some(*index) != paused).for_each(|index| self.step(index));
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for pair in self.identified.windows(2) {
            let apart = pair[1].0 - pair[0].0;
            prop_assert!(apart >= RULES.pace, "{} and {} only {apart:?} apart", pair[0].1, pair[1].1);
        }
        prop_assert!(self.queue.ready.len() <= 9, "markers pile up: {:?}", self.queue);
        Ok(())
    }

    /// All drivers run as they should, until nobody wants a turn any more.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        let patience = (RULES.pace + RULES.valid) * (4 * self.shards.len() as u32 + 16) + Duration::from_secs(60);
        let give_up = self.now + patience;
        while self.shards.iter().any(|shard| shard.wanted) {
            prop_assert!(self.now < give_up, "somebody's turn never comes: {self:#?}");
            self.now += Duration::from_millis(50);
            for index in 0..self.shards.len() {
                self.step(index);
            }
        }
        self.check()
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Step(usize),
    Steps(usize, u8),
    /// It, up to where it may identify and has not: what comes next finds it there.
    ToGrant(usize),
    /// Everybody, as often as it takes to get anywhere.
    All,
    /// The same, and this one is paused.
    AllBut(usize),
    Cut(usize),
    Kill(usize),
    Restart,
    Want(usize),
    Withdraw(usize),
}

const SHARDS: u32 = 4;

fn act() -> impl Strategy<Value = Act> {
    let shard = || 0..SHARDS as usize;
    prop_oneof![
        8 => shard().prop_map(Act::Step),
        8 => (shard(), 1..12_u8).prop_map(|(shard, count)| Act::Steps(shard, count)),
        4 => shard().prop_map(Act::ToGrant),
        6 => Just(Act::All),
        6 => shard().prop_map(Act::AllBut),
        2 => shard().prop_map(Act::Cut),
        2 => shard().prop_map(Act::Kill),
        1 => Just(Act::Restart),
        4 => shard().prop_map(Act::Want),
        1 => shard().prop_map(Act::Withdraw),
    ]
}

/// Mostly moments, now and then about as long as things take.
fn wait() -> impl Strategy<Value = Duration> {
    prop_oneof![3 => 0..50_u64, 2 => 0..2_000_u64, 1 => 0..9_000_u64].prop_map(Duration::from_millis)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn never_two_identifies_within_the_pace_and_everybodys_turn_comes(
        story in prop::collection::vec((act(), wait()), 1..150),
    ) {
        let mut world = World::new(SHARDS);
        for (act, wait) in story {
            world.now += wait;
            match act {
                Act::Step(index) => world.step(index),
                Act::Steps(index, count) => (0..count).for_each(|_| world.step(index)),
                Act::ToGrant(index) => world.lead_to_grant(index),
                Act::All => world.all_but(None),
                Act::AllBut(index) => world.all_but(Some(index)),
                Act::Cut(index) => world.cut(index),
                Act::Kill(index) => world.kill(index),
                Act::Restart => world.restart(),
                Act::Want(index) => world.shards[index].wanted = true,
                Act::Withdraw(index) => world.shards[index].wanted = false,
            }
            world.check()?;
        }
        world.settle()?;
    }
}

#[test]
fn at_a_cold_start_the_lowest_shard_goes_first_and_each_a_pace_after_the_last() {
    let mut world = World::new(12);
    // Shard 7 is the first to be there; then all of them wait.
    (0..8).for_each(|_| world.step(7));
    let start = world.now;
    world.settle().expect("paced");
    let order: Vec<u32> = world.identified.iter().map(|(_, id)| *id).collect();
    assert_eq!(order, [7, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11]);
    let last = world.identified.last().expect("twelve").0;
    assert!(last - start < RULES.pace * 11 + Duration::from_secs(5), "nobody waits for nothing: {:?}", last - start);
}

#[test]
fn after_a_death_in_the_middle_the_next_one_waits() {
    let mut world = World::new(2);
    while world.identified.is_empty() {
        world.step(0);
    }
    (0..8).for_each(|_| world.step(1));
    world.kill(0);
    world.settle().expect("paced");
    assert_eq!(world.identified[1].1, 1);
    assert!(world.identified[1].0 - world.identified[0].0 >= RULES.pace + RULES.valid);
}

#[test]
fn who_is_cut_off_and_has_not_noticed_may_still_identify_and_the_next_one_is_a_pace_later() {
    let mut world = World::new(2);
    world.lead_to_grant(0);
    let Step::Grant(until) = world.shards[0].turn.step() else { panic!("{world:#?}") };
    (0..8).for_each(|_| world.step(1));
    world.cut(0);
    world.step(1);
    world.now = until - Duration::from_millis(1);
    world.step(0);
    world.settle().expect("paced");
    assert_eq!(world.identified.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn who_was_paused_with_the_turn_does_not_use_it() {
    let mut world = World::new(2);
    world.lead_to_grant(0);
    (0..8).for_each(|_| world.step(1));
    world.cut(0);
    world.now += Duration::from_secs(60);
    world.step(0);
    assert!(world.identified.is_empty());
    world.settle().expect("paced");
    assert_eq!(world.identified.len(), 2);
}
