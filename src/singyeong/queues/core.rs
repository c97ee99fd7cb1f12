//! Who gets which message, who holds it, and when it goes back: the decisions, without RabbitMQ, clients and clock.
//!
//! ```text
//! arrived ── somebody here waits and matches ───────────► held ── acknowledged by its receiver ► Acknowledge
//!    │                                                     └─── time-out, gone, not written ──► GiveBack (ToTail)
//!    ├─ nobody waits, or everybody matches ► GiveBack
//!    ├─ somebody elsewhere wants it ───────► Forward
//!    └─ else ──────────────────────────────► parked ── somebody asks who matches ► held
//!                                              └─ a second later ───────────────► ToTail (GiveBack, if nobody waits)
//! ```
//!
//! What another process forwarded cannot be given back to its place: it goes to the tail.
//!
//! What is parked or on its way to a tail or to another process takes room here, a forwarded message for as long as a parked one:
//! so messages that nobody works on go round slowly.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Source;
use super::requests::{Requests, Waiting};
use super::room::{Most, Room};
use crate::cluster::node::NodeId;
use crate::singyeong::ids::{ClientKey, ConnectionId};
use crate::singyeong::packet::dispatch::QueueName;

/// A message that was taken, by the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub u64);

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// So long a receiver may take to acknowledge.
    pub acknowledgement: Duration,
    /// So long a message is parked.
    pub parked_for: Duration,
    /// So much is parked, or leaves.
    pub most: Most,
}

/// A message that was taken.
#[derive(Clone, Debug)]
pub struct Arrival<T> {
    /// Its own; higher than those before.
    pub number: Number,
    /// Where it was.
    pub source: Source,
    /// Its name when it is acknowledged.
    pub id: Box<str>,
    /// Who may have it; none for anybody.
    pub target: Option<T>,
    /// How many bytes it holds.
    pub size: usize,
    /// Whether another process took it, for clients of this one.
    pub forwarded: bool,
}

/// What is known of clients.
pub trait Clients<T> {
    /// Whether this client is meant.
    fn matches(&self, target: &T, key: &ClientKey) -> bool;

    /// Another process with a client that is meant and has asked for messages of the queue.
    fn elsewhere(&self, target: &T, source: &Source) -> Option<NodeId>;
}

/// What is to be done with a message. All but `Deliver` end it here; `ToTail` and `Forward` when they are
/// [done](Core::settled).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To be put on its way to a client.
    Deliver(Number, Waiting),
    /// Worked on.
    Acknowledge(Number),
    /// Back to its place in the queue.
    GiveBack(Number),
    /// Behind all others of its queue.
    ToTail(Number),
    /// To this process.
    Forward(Number, NodeId),
}

/// The decisions of a process, for all queues.
#[derive(Debug)]
pub struct Core<T> {
    bounds: Bounds,
    requests: Requests,
    held: HashMap<Number, Held>,
    /// What each client holds, by queue, id and age.
    holders: HashMap<ConnectionId, BTreeSet<(QueueName, Box<str>, Number)>>,
    parked: BTreeMap<Number, Parked<T>>,
    parked_of: HashMap<Source, BTreeSet<Number>>,
    leaving: HashMap<Number, Leaving>,
    room: Room,
    deadlines: BTreeSet<(Instant, Number)>,
    actions: VecDeque<Action>,
    touched: BTreeSet<Source>,
}

#[derive(Debug)]
struct Held {
    by: ConnectionId,
    source: Source,
    id: Box<str>,
    size: usize,
    forwarded: bool,
    until: Instant,
}

#[derive(Debug)]
struct Parked<T> {
    message: Arrival<T>,
    until: Instant,
}

/// On its way to a tail, or to another process.
#[derive(Debug)]
struct Leaving {
    source: Source,
    size: usize,
    /// It takes its room so long at least.
    rests: bool,
    is_settled: bool,
}

impl<T> Core<T> {
    /// With nobody waiting.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            room: Room::new(bounds.most),
            bounds,
            requests: Requests::default(),
            held: HashMap::new(),
            holders: HashMap::new(),
            parked: BTreeMap::new(),
            parked_of: HashMap::new(),
            leaving: HashMap::new(),
            deadlines: BTreeSet::new(),
            actions: VecDeque::new(),
            touched: BTreeSet::new(),
        }
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// A queue whose [`demand`](Self::demand) may have changed.
    pub fn poll_touched(&mut self) -> Option<Source> {
        self.touched.pop_first()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// How many more messages of this queue are wanted.
    pub fn demand(&self, source: &Source) -> usize {
        if self.room.has_for(source) { self.requests.waiting(source) } else { 0 }
    }

    /// How many clients wait for messages of this queue.
    pub fn waiting(&self, source: &Source) -> usize {
        self.requests.waiting(source)
    }

    /// A client wants a message of a queue. While it waits, asking again changes nothing.
    pub fn request(
        &mut self,
        key: &ClientKey,
        connection: ConnectionId,
        queue: &QueueName,
        now: Instant,
        clients: &impl Clients<T>,
    ) {
        if !self.requests.add(key, connection, queue) {
            return;
        }
        let sources = Source::of_client(&key.application, queue);
        self.touched.extend(sources.iter().cloned());
        let parked = sources.iter().filter_map(|source| self.parked_of.get(source)).flatten();
        let fits = |number: &&Number| {
            let target = &self.parked[number].message.target;
            target.as_ref().is_none_or(|target| clients.matches(target, key))
        };
        if let Some(number) = parked.filter(fits).min().copied() {
            let message = self.unpark(number).expect("it was found parked");
            self.deliver(message, Waiting { key: key.clone(), connection }, now);
        }
    }

    /// A client wants none any more.
    pub fn cancel(&mut self, connection: ConnectionId, queue: &QueueName) {
        if let Some(application) = self.requests.remove(connection, queue) {
            self.touched.extend(Source::of_client(&application, queue));
        }
    }

    /// A client has worked on a message. Whose it is not may say so, and nothing happens. Of several with one id it is the one
    /// that the client has held longest.
    pub fn acknowledge(&mut self, connection: ConnectionId, queue: &QueueName, id: &str) {
        let Some(holds) = self.holders.get(&connection) else { return };
        let from = (queue.clone(), id.into(), Number(0));
        let found = holds.range(from..).next().filter(|(of, name, _)| of == queue && **name == *id);
        if let Some(number) = found.map(|(_, _, number)| *number) {
            self.release(number);
            self.actions.push_back(Action::Acknowledge(number));
        }
    }

    /// A client's connection is gone.
    pub fn gone(&mut self, connection: ConnectionId) {
        for queue in self.requests.of(connection) {
            self.cancel(connection, &queue);
        }
        // The earliest is given back last, and so is the first again where RabbitMQ puts it at the head.
        let mut numbers: Vec<Number> =
            self.holders.get(&connection).into_iter().flatten().map(|(_, _, number)| *number).collect();
        numbers.sort_unstable();
        for number in numbers.into_iter().rev() {
            self.take_from_holder(number);
        }
    }

    /// A message did not reach its receiver, whose connection is thus as good as gone.
    pub fn not_written(&mut self, number: Number) {
        if let Some(held) = self.held.get(&number) {
            let connection = held.by;
            self.take_from_holder(number);
            for queue in self.requests.of(connection) {
                self.cancel(connection, &queue);
            }
        }
    }

    /// A message was taken.
    pub fn arrived(&mut self, message: Arrival<T>, now: Instant, clients: &impl Clients<T>) {
        self.touched.insert(message.source.clone());
        let target = message.target.as_ref();
        let matches = |key: &ClientKey| target.is_none_or(|target| clients.matches(target, key));
        if let Some(first) = self.requests.first(&message.source, matches) {
            return self.deliver(message, first, now);
        }
        if !message.forwarded {
            // Who wanted it does not any more.
            let (Some(target), true) = (target, self.requests.waiting(&message.source) > 0) else {
                return self.actions.push_back(Action::GiveBack(message.number));
            };
            if let Some(node) = clients.elsewhere(target, &message.source) {
                let rests_until = now + self.bounds.parked_for;
                self.deadlines.insert((rests_until, message.number));
                self.leave(message.number, message.source, message.size, true);
                return self.actions.push_back(Action::Forward(message.number, node));
            }
        }
        if self.room.has_for(&message.source) {
            self.park(message, now);
        } else {
            self.send_to_tail(message.number, message.source, message.size);
        }
    }

    /// A message is at the tail, or at the other process; or it is given back.
    pub fn settled(&mut self, number: Number) {
        if let Some(leaving) = self.leaving.get_mut(&number) {
            leaving.is_settled = true;
            if !leaving.rests {
                self.left(number);
            }
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, number)) = self.deadlines.first().copied()
            && at <= now
        {
            if let Some(message) = self.unpark(number) {
                if !message.forwarded && self.requests.waiting(&message.source) == 0 {
                    self.actions.push_back(Action::GiveBack(number));
                } else {
                    self.send_to_tail(number, message.source, message.size);
                }
            } else if let Some(leaving) = self.leaving.get_mut(&number) {
                self.deadlines.pop_first();
                leaving.rests = false;
                if leaving.is_settled {
                    self.left(number);
                }
            } else {
                self.take_from_holder(number);
            }
        }
    }

    fn deliver(&mut self, message: Arrival<T>, to: Waiting, now: Instant) {
        let Arrival { number, source, id, size, forwarded, .. } = message;
        self.cancel(to.connection, &source.queue);
        let until = now + self.bounds.acknowledgement;
        self.deadlines.insert((until, number));
        self.holders.entry(to.connection).or_default().insert((source.queue.clone(), id.clone(), number));
        self.held.insert(number, Held { by: to.connection, source, id, size, forwarded, until });
        self.actions.push_back(Action::Deliver(number, to));
    }

    /// Whoever holds it does so no more.
    fn release(&mut self, number: Number) -> Option<Held> {
        let held = self.held.remove(&number)?;
        self.deadlines.remove(&(held.until, number));
        if let Some(holds) = self.holders.get_mut(&held.by) {
            holds.remove(&(held.source.queue.clone(), held.id.clone(), number));
            if holds.is_empty() {
                self.holders.remove(&held.by);
            }
        }
        Some(held)
    }

    fn take_from_holder(&mut self, number: Number) {
        let Some(held) = self.release(number) else { return };
        if held.forwarded {
            self.send_to_tail(number, held.source, held.size);
        } else {
            self.actions.push_back(Action::GiveBack(number));
        }
    }

    fn send_to_tail(&mut self, number: Number, source: Source, size: usize) {
        self.leave(number, source, size, false);
        self.actions.push_back(Action::ToTail(number));
    }

    fn leave(&mut self, number: Number, source: Source, size: usize, rests: bool) {
        self.enter_room(&source, size);
        self.leaving.insert(number, Leaving { source, size, rests, is_settled: false });
    }

    fn left(&mut self, number: Number) {
        if let Some(Leaving { source, size, .. }) = self.leaving.remove(&number) {
            self.leave_room(&source, size);
        }
    }

    fn park(&mut self, message: Arrival<T>, now: Instant) {
        let until = now + self.bounds.parked_for;
        self.deadlines.insert((until, message.number));
        self.enter_room(&message.source, message.size);
        self.parked_of.entry(message.source.clone()).or_default().insert(message.number);
        self.parked.insert(message.number, Parked { message, until });
    }

    fn unpark(&mut self, number: Number) -> Option<Arrival<T>> {
        let Parked { message, until } = self.parked.remove(&number)?;
        self.deadlines.remove(&(until, number));
        if let Some(of_one) = self.parked_of.get_mut(&message.source) {
            of_one.remove(&number);
            if of_one.is_empty() {
                self.parked_of.remove(&message.source);
            }
        }
        self.leave_room(&message.source, message.size);
        Some(message)
    }

    fn enter_room(&mut self, source: &Source, size: usize) {
        let concerns_others = !self.room.enter(source, size);
        self.touch(source, concerns_others);
    }

    fn leave_room(&mut self, source: &Source, size: usize) {
        let concerns_others = !self.room.leave(source, size);
        self.touch(source, concerns_others);
    }

    fn touch(&mut self, source: &Source, concerns_others: bool) {
        if concerns_others {
            self.touched.extend(self.requests.sources());
        }
        self.touched.insert(source.clone());
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
