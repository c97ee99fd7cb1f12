//! A world for members: a broker that grants leases to connections, a fanout that delays and drops, drivers of shards that
//! take their time, and everything that goes wrong with them.
//!
//! Time is simulated. After every event the one thing that must never be is looked for: two processes that publish the
//! same shard's events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::*;
use crate::cluster::fence;

/// RabbitMQ gives a silent connection up after this.
const SILENT_CONNECTION: u64 = 30_000;

#[derive(Clone, Debug)]
enum Input {
    Connected,
    Disconnected,
    Heard(Announcement),
    Gone(NodeId),
    Acquired(Vec<ShardId>, Vec<ShardId>),
    Released(ShardId),
    Stopped(ShardId),
}

#[derive(Clone, Debug)]
enum Event {
    Deliver(usize, Input),
    /// The broker hears of it, on a connection.
    Acquire(usize, u64, Vec<ShardId>),
    Release(usize, u64, ShardId),
    /// A driver that was told to end has ended.
    DriverEnds(usize, ShardId),
    /// A process asks the broker whether it is there, and who else is.
    Ping(usize),
    Reconnect(usize),
    /// The broker notices that a connection is dead.
    Free(usize, u64),
    Wake(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Runs,
    Ends,
    Abandoned,
}

#[derive(Debug)]
pub(super) struct Process {
    pub member: Member,
    pub id: NodeId,
    pub alive: bool,
    /// The connection as the process believes, and as the broker does.
    connection: Option<u64>,
    leases_of: Option<u64>,
    /// What it sends and is sent is lost, though neither side has noticed.
    cut: bool,
    paused: bool,
    inbox: Vec<Input>,
    drivers: BTreeMap<ShardId, Driver>,
    certain: bool,
    answered_at: Option<Instant>,
    watched: Vec<NodeId>,
    asks: bool,
    pub starts: usize,
    pub stops: usize,
    pub announced: usize,
    pub notices: Vec<Notice>,
}

#[derive(Debug)]
pub(super) struct World {
    pub now: Instant,
    pub shard_count: u32,
    pub processes: Vec<Process>,
    leases: BTreeMap<ShardId, u64>,
    connections: u64,
    broker_is_up: bool,
    events: BTreeMap<(Instant, u64), Event>,
    event_count: u64,
    rng: fastrand::Rng,
    /// Whether answers and drivers are slow at times.
    pub slow: bool,
}

impl World {
    pub fn new(shard_count: u32, seed: u64) -> Self {
        Self {
            now: Instant::now(),
            shard_count,
            processes: Vec::new(),
            leases: BTreeMap::new(),
            connections: 0,
            broker_is_up: true,
            events: BTreeMap::new(),
            event_count: 0,
            rng: fastrand::Rng::with_seed(seed),
            slow: false,
        }
    }

    // ---- what happens ----

    /// A process starts; gives its number.
    pub fn join(&mut self, want: Want) -> usize {
        let number = self.processes.len();
        let name = format!("p{number}");
        let id = NodeId::of_run(&name, self.rng.u32(..));
        let settings = Settings {
            node: id.clone(),
            name,
            shard_count: self.shard_count,
            generation: 1,
            want,
            running: BTreeSet::new(),
        };
        self.processes.push(Process {
            member: Member::new(settings, self.now),
            id,
            alive: true,
            connection: None,
            leases_of: None,
            cut: false,
            paused: false,
            inbox: Vec::new(),
            drivers: BTreeMap::new(),
            certain: false,
            answered_at: None,
            watched: Vec::new(),
            asks: false,
            starts: 0,
            stops: 0,
            announced: 0,
            notices: Vec::new(),
        });
        self.after(0, Event::Reconnect(number));
        let phase = self.rng.u64(0..1000);
        self.after(phase, Event::Ping(number));
        number
    }

    /// kill -9.
    pub fn crash(&mut self, number: usize) {
        let process = &mut self.processes[number];
        process.alive = false;
        process.drivers.clear();
        let (_, theirs) = (process.connection.take(), process.leases_of.take());
        // The operating system closes its sockets; the broker reads that.
        self.free(theirs);
    }

    /// SIGTERM. A paused process does not get it.
    pub fn leave(&mut self, number: usize) {
        if self.is_up(number) {
            self.processes[number].member.leave(self.now);
            self.acts(number);
        }
    }

    /// A connection is closed, and both sides see it at once.
    pub fn close(&mut self, number: usize) {
        let process = &mut self.processes[number];
        if process.connection.take().is_some() {
            let theirs = process.leases_of.take();
            process.cut = false;
            self.free(theirs);
            self.deliver(number, Input::Disconnected);
            self.reconnect_soon(number);
        }
    }

    /// A connection goes dead: the process notices at some time, the broker after its heartbeats.
    pub fn cut(&mut self, number: usize, noticed_after: u64) {
        let process = &mut self.processes[number];
        if let (Some(connection), false) = (process.connection, process.cut) {
            process.cut = true;
            self.after(SILENT_CONNECTION, Event::Free(number, connection));
            self.after(noticed_after, Event::Deliver(number, Input::Disconnected));
        }
    }

    /// A process does nothing for a while.
    pub fn pause(&mut self, number: usize, millis: u64) {
        let process = &mut self.processes[number];
        if process.alive && !process.paused {
            process.paused = true;
            if let Some(connection) = process.connection
                && millis >= SILENT_CONNECTION
            {
                self.after(SILENT_CONNECTION, Event::Free(number, connection));
            }
            self.after(millis, Event::Wake(number));
        }
    }

    /// RabbitMQ restarts: every connection is closed, and comes back when it can.
    pub fn restart_broker(&mut self, down: u64) {
        self.broker_is_up = false;
        for number in 0..self.processes.len() {
            self.close(number);
        }
        self.pass(down);
        self.broker_is_up = true;
    }

    /// Lets time pass.
    pub fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let deadlines = self.processes.iter().enumerate().filter(|(_, process)| process.alive && !process.paused);
            let deadline = deadlines.filter_map(|(number, process)| Some((process.member.deadline()?, number))).min();
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            match (deadline, event) {
                (Some((at, number)), event) if at <= end && event.is_none_or(|event| at < event) => {
                    assert!(at >= self.now || at + Duration::from_secs(60) > self.now, "a deadline that does not move");
                    self.now = self.now.max(at);
                    self.processes[number].member.handle_timeout(self.now);
                    self.acts(number);
                }
                (_, Some(at)) if at <= end => {
                    self.now = self.now.max(at);
                    let (_, event) = self.events.pop_first().expect("it was seen");
                    self.happens(event);
                }
                _ => break,
            }
            self.nobody_publishes_twice();
        }
        self.now = end;
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Deliver(number, input) => {
                if matches!(input, Input::Disconnected) {
                    // A cut connection, noticed by the process.
                    let process = &mut self.processes[number];
                    if !process.cut || process.connection.take().is_none() {
                        return;
                    }
                    process.cut = false;
                    self.reconnect_soon(number);
                }
                self.deliver(number, input);
            }
            Event::Acquire(number, connection, shards) => self.broker_grants(number, connection, shards),
            Event::Release(number, connection, shard) => {
                if self.leases.get(&shard) == Some(&connection) {
                    self.leases.remove(&shard);
                }
                self.deliver_soon(number, Input::Released(shard));
            }
            Event::DriverEnds(number, shard) => {
                if self.processes[number].paused {
                    self.after(1000, Event::DriverEnds(number, shard));
                } else if self.processes[number].drivers.remove(&shard).is_some() {
                    self.deliver(number, Input::Stopped(shard));
                }
            }
            Event::Ping(number) => {
                if self.processes[number].alive {
                    self.ping(number);
                    self.after(1000, Event::Ping(number));
                }
            }
            Event::Reconnect(number) => self.reconnects(number),
            Event::Free(number, connection) => {
                if self.processes[number].leases_of == Some(connection) {
                    self.processes[number].leases_of = None;
                }
                self.free(Some(connection));
                // A process that was not cut off but paused finds its connection closed.
                let process = &mut self.processes[number];
                if process.paused && process.connection == Some(connection) {
                    process.connection = None;
                    process.cut = false;
                    self.deliver(number, Input::Disconnected);
                    self.reconnect_soon(number);
                }
            }
            Event::Wake(number) => {
                let process = &mut self.processes[number];
                process.paused = false;
                let mut inbox = std::mem::take(&mut process.inbox);
                self.rng.shuffle(&mut inbox);
                // It has missed its deadlines: that may be what it sees first.
                if self.is_up(number) && self.rng.bool() {
                    self.processes[number].member.handle_timeout(self.now);
                    self.acts(number);
                }
                inbox.into_iter().for_each(|input| self.deliver(number, input));
            }
        }
    }

    // ---- the broker ----

    fn broker_grants(&mut self, number: usize, connection: u64, shards: Vec<ShardId>) {
        let process = &self.processes[number];
        let (mut granted, mut refused) = (Vec::new(), Vec::new());
        if process.connection == Some(connection) && process.leases_of == Some(connection) && !process.cut {
            for shard in shards {
                if let std::collections::btree_map::Entry::Vacant(free) = self.leases.entry(shard) {
                    free.insert(connection);
                    granted.push(shard);
                } else {
                    assert_ne!(self.leases[&shard], connection, "asked for what it holds");
                    refused.push(shard);
                }
            }
        }
        self.deliver_soon(number, Input::Acquired(granted, refused));
    }

    fn free(&mut self, connection: Option<u64>) {
        self.leases.retain(|_, holder| Some(*holder) != connection);
    }

    /// The process asks the broker; what it learns comes a little later.
    fn ping(&mut self, number: usize) {
        let process = &mut self.processes[number];
        if process.paused || process.cut || process.connection.is_none() {
            return;
        }
        process.answered_at = Some(self.now);
        for node in process.watched.clone() {
            let there = self.processes.iter().any(|other| other.id == node && other.leases_of.is_some());
            if !there {
                self.deliver_soon(number, Input::Gone(node));
            }
        }
    }

    fn reconnects(&mut self, number: usize) {
        let process = &self.processes[number];
        if !process.alive || process.connection.is_some() {
            return;
        }
        if process.paused || !self.broker_is_up {
            return self.reconnect_soon(number);
        }
        self.connections += 1;
        let connection = self.connections;
        let process = &mut self.processes[number];
        // The old connection may still have its leases; its process's queue has a consumer anew.
        process.connection = Some(connection);
        process.leases_of = Some(connection);
        process.answered_at = Some(self.now);
        self.deliver(number, Input::Connected);
    }

    fn reconnect_soon(&mut self, number: usize) {
        let millis = self.rng.u64(200..3000);
        self.after(millis, Event::Reconnect(number));
    }

    // ---- the processes ----

    fn is_up(&self, number: usize) -> bool {
        self.processes[number].alive && !self.processes[number].paused
    }

    fn deliver_soon(&mut self, number: usize, input: Input) {
        let millis = self.some_time(1, 20, 2000);
        self.after(millis, Event::Deliver(number, input));
    }

    fn deliver(&mut self, number: usize, input: Input) {
        let now = self.now;
        let process = &mut self.processes[number];
        if !process.alive {
            return;
        }
        if process.paused {
            return process.inbox.push(input);
        }
        let member = &mut process.member;
        match input {
            Input::Connected => member.connected(now),
            Input::Disconnected => member.disconnected(now),
            Input::Heard(said) => member.heard(said, now),
            Input::Gone(node) => member.gone(&node, now),
            Input::Acquired(granted, refused) => {
                process.asks = false;
                member.acquired(&granted, &refused, now);
            }
            Input::Released(shard) => member.released(shard, now),
            Input::Stopped(shard) => member.stopped(shard, now),
        }
        self.acts(number);
    }

    fn acts(&mut self, number: usize) {
        while let Some(action) = self.processes[number].member.poll_action() {
            self.act(number, action);
        }
    }

    fn act(&mut self, number: usize, action: Action) {
        let process = &mut self.processes[number];
        assert!(process.alive, "{action:?} after the end");
        match action {
            Action::Announce(said) => {
                process.announced += 1;
                if process.connection.is_some() && !process.cut {
                    let said = Announcement::from_json(&said.to_json()).expect("it reads back");
                    self.announce(number, &said);
                }
            }
            Action::Acquire(shards) => {
                assert!(!std::mem::replace(&mut process.asks, true), "one question at a time");
                assert!(!shards.is_empty());
                // Without a connection the driver answers with nothing.
                let connection = process.connection.unwrap_or(0);
                let millis = self.some_time(1, 10, 500);
                self.after(millis, Event::Acquire(number, connection, shards));
            }
            Action::Start(shard) => {
                process.starts += 1;
                assert_eq!(process.drivers.insert(shard, Driver::Runs), None, "it runs already");
            }
            Action::Stop(shard) => {
                process.stops += 1;
                assert_eq!(process.drivers.insert(shard, Driver::Ends), Some(Driver::Runs));
                let millis = self.some_time(20, 200, 4000);
                self.after(millis, Event::DriverEnds(number, shard));
            }
            Action::Abandon(shard) => match process.drivers.insert(shard, Driver::Abandoned) {
                Some(Driver::Runs) => {
                    process.stops += 1;
                    let millis = self.some_time(1, 50, 1000);
                    self.after(millis, Event::DriverEnds(number, shard));
                }
                // It ends already.
                Some(Driver::Ends) => {}
                other => panic!("abandoned: {other:?}"),
            },
            Action::Release(shard) => {
                assert_eq!(process.drivers.get(&shard), None, "its driver has not ended");
                if let Some(connection) = process.connection.filter(|_| !process.cut) {
                    let millis = self.some_time(1, 10, 500);
                    self.after(millis, Event::Release(number, connection, shard));
                }
            }
            Action::Forget(_) => unreachable!("no driver ends by itself"),
            Action::Certain(certain) => process.certain = certain,
            Action::Watch(nodes) => process.watched = nodes,
            Action::Notice(notice) => process.notices.push(notice),
            Action::Left => {
                assert!(process.drivers.is_empty());
                let held = self.leases.values().filter(|holder| process.connection == Some(**holder)).count();
                assert_eq!(held, 0, "leases are left over");
                self.crash(number);
            }
        }
    }

    fn announce(&mut self, number: usize, said: &Announcement) {
        for other in 0..self.processes.len() {
            let process = &self.processes[other];
            // Own announcements come back, too.
            if process.leases_of.is_some() && process.connection.is_some() && !process.cut {
                let millis = if other == number { 1 } else { self.rng.u64(1..40) };
                self.after(millis, Event::Deliver(other, Input::Heard(said.clone())));
            }
        }
    }

    fn some_time(&mut self, least: u64, most: u64, slow: u64) -> u64 {
        match self.slow && self.rng.u8(0..20) == 0 {
            true => self.rng.u64(most..slow),
            false => self.rng.u64(least..most),
        }
    }

    fn after(&mut self, millis: u64, event: Event) {
        self.event_count += 1;
        self.events.insert((self.now + Duration::from_millis(millis), self.event_count), event);
    }

    // ---- what is looked at ----

    fn publishes(&self, process: &Process) -> bool {
        let fresh = process.answered_at.is_some_and(|at| self.now < at + fence::VALID);
        process.alive && !process.paused && process.certain && fresh
    }

    fn nobody_publishes_twice(&self) {
        let mut publishers = BTreeMap::new();
        for (number, process) in self.processes.iter().enumerate().filter(|(_, process)| self.publishes(process)) {
            for shard in
                process.drivers.iter().filter(|(_, driver)| **driver != Driver::Abandoned).map(|(shard, _)| *shard)
            {
                let before = publishers.insert(shard, number);
                assert_eq!(before, None, "{number} publishes shard {shard}, too");
            }
        }
    }

    /// The shards that run at a process, published.
    pub fn runs(&self, number: usize) -> BTreeSet<ShardId> {
        let process = &self.processes[number];
        let runs = process.drivers.iter().filter(|(shard, driver)| {
            **driver == Driver::Runs
                && self.leases.get(shard).copied() == process.connection
                && process.connection.is_some()
        });
        if self.publishes(process) { runs.map(|(shard, _)| *shard).collect() } else { BTreeSet::new() }
    }

    /// How many shards run at each process that lives.
    pub fn counts(&self) -> Vec<usize> {
        self.alive().into_iter().map(|number| self.runs(number).len()).collect()
    }

    pub fn alive(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|number| self.processes[*number].alive).collect()
    }

    pub fn total(&self, of: impl Fn(&Process) -> usize) -> usize {
        self.processes.iter().map(of).sum()
    }

    /// All shards run, and the processes that share have as many each, or one less.
    pub fn is_fair(&self) -> bool {
        let counts = self.counts();
        let spread = counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0);
        counts.iter().sum::<usize>() == self.shard_count as usize && spread <= 1
    }

    /// Whether it shares, and stays.
    pub fn shares(&self, number: usize) -> bool {
        let member = &self.processes[number].member;
        member.want == Want::Fair && !member.leaving
    }
}
