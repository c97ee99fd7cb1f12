//! Whatever happens in whatever order, it is what a few plain lists say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::singyeong::ids::Application;

const ACKNOWLEDGEMENT: Duration = Duration::from_millis(150);
const PARKED_FOR: Duration = Duration::from_millis(100);
const MOST: Most = Most { of_one: 2, messages: 3, bytes: 25 };
/// This bit of a target says that somebody elsewhere is meant, the others which clients are.
const ELSEWHERE: u8 = 0x80;
const CLIENTS: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A message comes into a queue: the queue's number, target and size.
    Publish(u8, Option<u8>, usize),
    /// Another process sends one.
    Forwarded(u8, Option<u8>, usize),
    /// One is taken out, if it is wanted.
    Take(u8),
    Request(u8, bool),
    Cancel(u8, bool),
    Acknowledge(u8, bool, u8),
    Gone(u8),
    /// The n-th of what is held.
    NotWritten(usize),
    /// The n-th of what leaves; whether it succeeded.
    Settle(usize, bool),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let target = prop_oneof![Just(None), any::<u8>().prop_map(Some), Just(Some(0)), Just(Some(ELSEWHERE))];
    let (queue, client) = (0..6u8, 0..CLIENTS);
    let message = (queue.clone(), target, 0..20usize);
    let one = prop_oneof![
        3 => message.clone().prop_map(|(queue, target, size)| Step::Publish(queue, target, size)),
        1 => message.prop_map(|(queue, target, size)| Step::Forwarded(queue, target, size)),
        6 => queue.prop_map(Step::Take),
        4 => (client.clone(), any::<bool>()).prop_map(|(client, queue)| Step::Request(client, queue)),
        1 => (client.clone(), any::<bool>()).prop_map(|(client, queue)| Step::Cancel(client, queue)),
        2 => (client.clone(), any::<bool>(), 0..2u8).prop_map(|(client, queue, id)| Step::Acknowledge(client, queue, id)),
        1 => client.prop_map(Step::Gone),
        1 => any::<usize>().prop_map(Step::NotWritten),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(n, is_done)| Step::Settle(n, is_done)),
        2 => (0..120u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(one, 0..80)
}

struct Masks;

impl Clients<u8> for Masks {
    fn matches(&self, target: &u8, key: &ClientKey) -> bool {
        is_meant(Some(*target), key.client.as_str().parse().expect("a number"))
    }

    fn elsewhere(&self, target: &u8, _: &Source) -> Option<NodeId> {
        (target & ELSEWHERE != 0).then(elsewhere)
    }
}

fn elsewhere() -> NodeId {
    NodeId::of_run("elsewhere", 1)
}

fn is_meant(target: Option<u8>, client: u8) -> bool {
    target.is_none_or(|target| target & (1 << client) != 0)
}

/// Two clients an application.
fn application(client: u8) -> Application {
    Application::new(if client < 2 { "a" } else { "b" })
}

fn key(client: u8) -> ClientKey {
    ClientKey::new(application(client).as_str(), &client.to_string())
}

fn queue(first: bool) -> QueueName {
    QueueName(if first { "p" } else { "q" }.into())
}

fn source(number: u8) -> Source {
    let application = [Some("a"), Some("b"), None][usize::from(number / 2)].map(Application::new);
    Source { application, queue: queue(number.is_multiple_of(2)) }
}

#[derive(Clone, Debug)]
struct Message {
    source: Source,
    target: Option<u8>,
    size: usize,
    id: u8,
    forwarded: bool,
}

#[derive(Debug)]
enum Place {
    /// It came just now.
    New,
    Held(u8, Instant),
    Parked(Instant),
    Leaving {
        forward: bool,
        rests_until: Option<Instant>,
        is_settled: bool,
    },
}

/// All, as lists.
struct World {
    core: Core<u8>,
    now: Instant,
    next: u64,
    published: usize,
    ended: usize,
    queues: BTreeMap<Source, VecDeque<Message>>,
    taken: BTreeMap<Number, (Message, Place)>,
    waiting: Vec<(u8, QueueName)>,
    /// As far as it was told.
    demand: BTreeMap<Source, usize>,
    connections: [u64; CLIENTS as usize],
}

impl World {
    fn connection(&self, client: u8) -> ConnectionId {
        ConnectionId::new(self.connections[usize::from(client)])
    }

    /// Who waits for messages of this queue.
    fn asking(&self, source: &Source) -> Vec<u8> {
        let is_its = |client: &u8| source.application.as_ref().is_none_or(|its| *its == application(*client));
        self.waiting
            .iter()
            .filter(|(_, queue)| *queue == source.queue)
            .map(|(client, _)| *client)
            .filter(is_its)
            .collect()
    }

    fn kept(&self) -> Vec<&Message> {
        let is_kept = |place: &Place| matches!(place, Place::Parked(_) | Place::Leaving { .. });
        self.taken.values().filter(|(_, place)| is_kept(place)).map(|(message, _)| message).collect()
    }

    fn has_room(&self, source: &Source) -> bool {
        let kept = self.kept();
        kept.len() < MOST.messages
            && kept.iter().filter(|message| message.source == *source).count() < MOST.of_one
            && kept.iter().map(|message| message.size).sum::<usize>() < MOST.bytes
    }

    fn arrive(&mut self, message: Message) {
        let number = Number(self.next);
        self.next += 1;
        let Message { source, target, size, id, forwarded } = message.clone();
        let (id, has_room) = (id.to_string().into(), self.has_room(&source));
        let asking = self.asking(&source);
        self.taken.insert(number, (message, Place::New));
        let arrival = Arrival { number, source, id, target, size, forwarded };
        self.core.arrived(arrival, self.now, &Masks);
        let first = asking.iter().copied().find(|client| is_meant(target, *client));
        let expected = match (first, target) {
            (Some(first), _) => Some(Action::Deliver(number, self.waiting_as(first))),
            (None, None) if !forwarded => Some(Action::GiveBack(number)),
            (None, Some(_)) if !forwarded && asking.is_empty() => Some(Action::GiveBack(number)),
            (None, Some(target)) if !forwarded && target & ELSEWHERE != 0 => Some(Action::Forward(number, elsewhere())),
            _ if !has_room => Some(Action::ToTail(number)),
            _ => None,
        };
        match expected {
            None => self.taken.get_mut(&number).expect("just put in").1 = Place::Parked(self.now + PARKED_FOR),
            Some(expected) => self.expect([expected]),
        }
    }

    fn waiting_as(&self, client: u8) -> Waiting {
        Waiting { key: key(client), connection: self.connection(client) }
    }

    /// What is to be done is this, in this order; does it.
    fn expect(&mut self, expected: impl IntoIterator<Item = Action>) {
        for expected in expected {
            assert_eq!(self.core.poll_action().as_ref(), Some(&expected));
            match expected {
                Action::Deliver(number, to) => {
                    let client = to.key.client.as_str().parse().expect("a number");
                    let (message, place) = self.taken.get_mut(&number).expect("it is ours");
                    assert!(matches!(place, Place::New | Place::Parked(_)), "delivered twice: {place:?}");
                    *place = Place::Held(client, self.now + ACKNOWLEDGEMENT);
                    self.waiting.retain(|waiting| *waiting != (client, message.source.queue.clone()));
                }
                Action::Acknowledge(number) => {
                    self.taken.remove(&number).expect("it is ours");
                    self.ended += 1;
                }
                Action::GiveBack(number) => {
                    let (message, _) = self.taken.remove(&number).expect("it is ours");
                    assert!(!message.forwarded, "its queue is another process's");
                    self.queues.entry(message.source.clone()).or_default().push_front(message);
                }
                Action::ToTail(number) => self.leave(number, false),
                Action::Forward(number, _) => self.leave(number, true),
            }
        }
    }

    fn leave(&mut self, number: Number, forward: bool) {
        let rests_until = forward.then_some(self.now + PARKED_FOR);
        self.taken.get_mut(&number).expect("it is ours").1 = Place::Leaving { forward, rests_until, is_settled: false };
    }

    /// What becomes of messages that nobody holds any more.
    fn taken_back(&self, numbers: impl IntoIterator<Item = Number>) -> Vec<Action> {
        let action = |number| if self.taken[&number].0.forwarded { Action::ToTail } else { Action::GiveBack }(number);
        numbers.into_iter().map(action).collect()
    }

    fn held(&self) -> Vec<(Number, u8)> {
        let held = |(number, (_, place)): (&Number, &(Message, Place))| match place {
            Place::Held(client, _) => Some((*number, *client)),
            _ => None,
        };
        self.taken.iter().filter_map(held).collect()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Publish(number, target, size) => {
                let source = source(number);
                let id = u8::try_from(self.published % 2).expect("small");
                self.published += 1;
                let message = Message { source: source.clone(), target, size, id, forwarded: false };
                self.queues.entry(source).or_default().push_back(message);
            }
            Step::Forwarded(number, target, size) => {
                self.published += 1;
                self.arrive(Message { source: source(number), target, size, id: 0, forwarded: true });
            }
            Step::Take(number) => {
                let source = source(number);
                if self.demand.get(&source).is_some_and(|demand| *demand > 0)
                    && let Some(message) = self.queues.get_mut(&source).and_then(VecDeque::pop_front)
                {
                    self.arrive(message);
                }
            }
            Step::Request(client, first) => {
                let (queue, connection) = (queue(first), self.connection(client));
                let is_new = !self.waiting.contains(&(client, queue.clone()));
                self.core.request(&key(client), connection, &queue, self.now, &Masks);
                if is_new {
                    self.waiting.push((client, queue.clone()));
                    let sources = Source::of_client(&application(client), &queue);
                    let fits = |(message, place): &(Message, Place)| {
                        matches!(place, Place::Parked(_))
                            && sources.contains(&message.source)
                            && is_meant(message.target, client)
                    };
                    let oldest = self.taken.iter().find(|(_, taken)| fits(taken)).map(|(number, _)| *number);
                    self.expect(oldest.map(|number| Action::Deliver(number, self.waiting_as(client))));
                }
            }
            Step::Cancel(client, first) => {
                self.core.cancel(self.connection(client), &queue(first));
                self.waiting.retain(|waiting| *waiting != (client, queue(first)));
            }
            Step::Acknowledge(client, first, id) => {
                self.core.acknowledge(self.connection(client), &queue(first), &id.to_string());
                let is_it = |(number, holder): &(Number, u8)| {
                    let message = &self.taken[number].0;
                    *holder == client && message.source.queue == queue(first) && message.id == id
                };
                let oldest = self.held().into_iter().find(is_it);
                self.expect(oldest.map(|(number, _)| Action::Acknowledge(number)));
            }
            Step::Gone(client) => {
                self.core.gone(self.connection(client));
                self.waiting.retain(|(waiting, _)| *waiting != client);
                let its = self.held().into_iter().filter(|(_, holder)| *holder == client).map(|(number, _)| number);
                self.expect(self.taken_back(its.rev()));
                self.connections[usize::from(client)] += u64::from(CLIENTS);
            }
            Step::NotWritten(n) => {
                let held = self.held();
                let Some((number, client)) = held.get(n % held.len().max(1)).copied() else { return };
                self.core.not_written(number);
                self.waiting.retain(|(waiting, _)| *waiting != client);
                self.expect(self.taken_back([number]));
            }
            Step::Settle(n, is_done) => self.settle(n, is_done),
            Step::Pass(millis) => {
                self.now += Duration::from_millis(millis);
                self.core.handle_timeout(self.now);
                self.time_out();
            }
        }
    }

    fn settle(&mut self, n: usize, is_done: bool) {
        let leaving = |place: &Place| matches!(place, Place::Leaving { is_settled: false, .. });
        let leaving: Vec<_> = self.taken.iter().filter(|(_, (_, place))| leaving(place)).map(|(n, _)| *n).collect();
        let Some(number) = leaving.get(n % leaving.len().max(1)).copied() else { return };
        self.core.settled(number);
        let (message, place) = self.taken.get_mut(&number).expect("it is ours");
        let Place::Leaving { forward, rests_until, is_settled } = place else { unreachable!("it leaves") };
        *is_settled = true;
        let (message, forward, rests) = (message.clone(), *forward, rests_until.is_some());
        if !rests {
            self.taken.remove(&number);
        }
        let queue = self.queues.entry(message.source.clone()).or_default();
        match (forward, is_done) {
            (true, true) => self.ended += 1,
            (false, true) => queue.push_back(Message { forwarded: false, ..message }),
            (_, false) => queue.push_front(Message { forwarded: false, ..message }),
        }
    }

    fn time_out(&mut self) {
        let mut due: Vec<(Instant, Number)> = Vec::new();
        for (number, (_, place)) in &self.taken {
            due.extend(deadline(place).filter(|at| *at <= self.now).map(|at| (at, *number)));
        }
        due.sort_unstable();
        for (_, number) in due {
            let asking = self.asking(&self.taken[&number].0.source).len();
            match &mut self.taken.get_mut(&number).expect("it is ours").1 {
                Place::Leaving { is_settled: true, .. } => drop(self.taken.remove(&number)),
                Place::Leaving { rests_until, .. } => *rests_until = None,
                Place::Parked(_) if asking > 0 => self.expect([Action::ToTail(number)]),
                _ => self.expect(self.taken_back([number])),
            }
        }
    }

    fn check(&mut self) {
        assert_eq!(self.core.poll_action(), None, "nothing else is done");
        while let Some(source) = self.core.poll_touched() {
            self.demand.insert(source.clone(), self.core.demand(&source));
        }
        for source in (0..6).map(source) {
            let wanted = if self.has_room(&source) { self.asking(&source).len() } else { 0 };
            assert_eq!(self.core.demand(&source), wanted, "{source:?}");
            assert_eq!(self.demand.get(&source).copied().unwrap_or(0), wanted, "{source:?} was told");
        }
        let first = self.taken.values().filter_map(|(_, place)| deadline(place)).min();
        assert_eq!(self.core.deadline(), first);
        let settled = |place: &Place| matches!(place, Place::Leaving { is_settled: true, .. });
        let taken = self.taken.values().filter(|(_, place)| !settled(place)).count();
        let queued: usize = self.queues.values().map(VecDeque::len).sum();
        assert_eq!(self.published, queued + taken + self.ended, "each is in one place");
    }
}

fn deadline(place: &Place) -> Option<Instant> {
    match place {
        Place::New => unreachable!("it was decided at once"),
        Place::Held(_, until) | Place::Parked(until) => Some(*until),
        Place::Leaving { rests_until, .. } => *rests_until,
    }
}

proptest! {
    #[test]
    fn it_is_what_plain_lists_say(steps in steps()) {
        let bounds = Bounds { acknowledgement: ACKNOWLEDGEMENT, parked_for: PARKED_FOR, most: MOST };
        let mut world = World {
            core: Core::new(bounds),
            now: Instant::now(),
            next: 0,
            published: 0,
            ended: 0,
            queues: BTreeMap::new(),
            taken: BTreeMap::new(),
            waiting: Vec::new(),
            demand: BTreeMap::new(),
            connections: [0, 1, 2, 3],
        };
        for step in steps {
            world.take(step);
            world.check();
        }
        // When all are gone and all is done, nothing is left here.
        for client in 0..CLIENTS {
            world.take(Step::Gone(client));
        }
        world.take(Step::Pass(1_000));
        while !world.taken.is_empty() {
            world.take(Step::Settle(0, true));
        }
        world.check();
        prop_assert!(world.core.held.is_empty() && world.core.holders.is_empty());
        prop_assert!(world.core.parked_of.is_empty() && world.core.leaving.is_empty());
        prop_assert_eq!(world.core.requests.sources().count(), 0);
    }
}
