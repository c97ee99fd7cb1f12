//! Whatever happens to processes and to what they tell each other, in the end they agree.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::tests::{client, count_updates, node};
use super::*;
use crate::singyeong::close_code::CloseCode;
use crate::singyeong::packet::dispatch::QueueName;

const PROCESSES: usize = 3;
/// So few that processes often have the same.
const KEYS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// A client comes to a process. Whoever has its key is asked, and answers or not.
    Connect {
        at: usize,
        key: usize,
        restricted: bool,
        others_answer: bool,
    },
    /// A client goes.
    Disconnect {
        at: usize,
        key: usize,
    },
    /// A client asks for messages of a queue.
    Update {
        at: usize,
        key: usize,
        n: u8,
    },
    Heartbeat {
        at: usize,
        key: usize,
    },
    /// A process tells something, if it has something to tell.
    Say {
        at: usize,
        lost_to: [bool; PROCESSES],
        doubled: bool,
    },
    /// The first message in a process's queue comes to it, or the second one before it.
    Hear {
        at: usize,
        overtaken: bool,
    },
    /// RabbitMQ loses what is in a process's queue.
    Lose {
        at: usize,
    },
    /// A process is cut off, or stopped for a while; maybe long enough for others to find its queue without a consumer.
    Cut {
        at: usize,
        seen: bool,
    },
    /// It is back.
    Mend {
        at: usize,
    },
    /// A process is killed and started again.
    Restart {
        at: usize,
        seen: bool,
    },
    Wait {
        milliseconds: u16,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (at, key) = (0..PROCESSES, 0..KEYS);
    prop_oneof![
        4 => (at.clone(), key.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(at, key, restricted, others_answer)| Step::Connect { at, key, restricted, others_answer }),
        2 => (at.clone(), key.clone()).prop_map(|(at, key)| Step::Disconnect { at, key }),
        2 => (at.clone(), key.clone(), 0..4_u8).prop_map(|(at, key, n)| Step::Update { at, key, n }),
        1 => (at.clone(), key).prop_map(|(at, key)| Step::Heartbeat { at, key }),
        6 => (at.clone(), any::<[bool; PROCESSES]>(), any::<bool>(), any::<bool>()).prop_map(
            |(at, lost_to, some_lost, doubled)| Step::Say { at, lost_to: lost_to.map(|lost| lost && some_lost), doubled }
        ),
        8 => (at.clone(), any::<bool>()).prop_map(|(at, overtaken)| Step::Hear { at, overtaken }),
        1 => at.clone().prop_map(|at| Step::Lose { at }),
        1 => (at.clone(), any::<bool>()).prop_map(|(at, seen)| Step::Cut { at, seen }),
        1 => at.clone().prop_map(|at| Step::Mend { at }),
        1 => (at, any::<bool>()).prop_map(|(at, seen)| Step::Restart { at, seen }),
        3 => (0..3000_u16).prop_map(|milliseconds| Step::Wait { milliseconds }),
    ]
}

struct World {
    began: Instant,
    /// Since then.
    passed: Duration,
    processes: Vec<Process>,
    runs: u64,
    connections: u64,
}

struct Process {
    hub: Hub,
    /// Its queue on the bus.
    queue: VecDeque<Vec<u8>>,
    is_cut: bool,
    clients: BTreeMap<ClientKey, (ConnectionId, Outbox)>,
    /// A client that wants client updates, and what it was told: by application, so many connected and not disconnected.
    listener: Outbox,
    told: BTreeMap<String, i64>,
}

impl World {
    fn new() -> Self {
        let mut world =
            Self { began: Instant::now(), passed: Duration::ZERO, processes: Vec::new(), runs: 0, connections: 0 };
        for at in 0..PROCESSES {
            let process = world.process(at);
            world.processes.push(process);
        }
        world
    }

    fn process(&mut self, at: usize) -> Process {
        self.runs += 1;
        let hub = Hub::new(node(&format!("process-{at}.{}", self.runs)));
        let listener = Outbox::default();
        let mut about = client(&hub, "listeners", hub.own().as_str());
        about.receives_client_updates = true;
        hub.register(about, ConnectionId::new(0), listener.clone()).expect("a new id");
        hub.joined();
        // So that all whom it sees are told.
        hub.informed();
        Process {
            hub,
            queue: VecDeque::new(),
            is_cut: false,
            clients: BTreeMap::new(),
            listener,
            told: BTreeMap::new(),
        }
    }

    fn now(&self) -> Instant {
        self.began + self.passed
    }

    /// As this process's clock has it: they differ.
    fn clock(&self, at: usize) -> u64 {
        10_000 * at as u64 + u64::try_from(self.passed.as_millis()).expect("a short time")
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connect { at, key, restricted, others_answer } => self.connect(at, key, restricted, others_answer),
            Step::Disconnect { at, key } => {
                let process = &mut self.processes[at];
                if let Some((connection, outbox)) = process.clients.remove(&key_of(key)) {
                    outbox.end();
                    process.hub.unregister(&key_of(key), connection);
                }
            }
            Step::Update { at, key, n } => {
                if let Some((connection, _)) = self.processes[at].clients.get(&key_of(key)) {
                    self.processes[at].hub.update(&key_of(key), *connection, |client| {
                        client.queues = [QueueName(n.to_string().into())].into();
                    });
                }
            }
            Step::Heartbeat { at, key } => {
                let now = self.clock(at);
                if let Some((connection, _)) = self.processes[at].clients.get(&key_of(key)) {
                    self.processes[at].hub.update(&key_of(key), *connection, |client| client.last_heartbeat = now);
                }
            }
            Step::Say { at, lost_to, doubled } => {
                self.say(at, lost_to, doubled);
            }
            Step::Hear { at, overtaken } => {
                if overtaken && self.processes[at].queue.len() > 1 {
                    self.processes[at].queue.swap(0, 1);
                }
                self.hear(at);
            }
            Step::Lose { at } => self.processes[at].queue.clear(),
            Step::Cut { at, seen } => {
                self.processes[at].is_cut = true;
                if seen {
                    self.look_who_is_there();
                }
            }
            Step::Mend { at } => self.mend(at),
            Step::Restart { at, seen } => {
                self.processes[at] = self.process(at);
                if seen {
                    self.look_who_is_there();
                }
            }
            Step::Wait { milliseconds } => self.passed += Duration::from_millis(milliseconds.into()),
        }
    }

    fn connect(&mut self, at: usize, key: usize, restricted: bool, others_answer: bool) {
        self.connections += 1;
        let (connection, outbox, since) = (ConnectionId::new(self.connections), Outbox::default(), self.clock(at));
        let process = &mut self.processes[at];
        let about = || Client { since, restricted, ..client(&process.hub, "app", &key.to_string()) };
        if process.hub.register(about(), connection, outbox.clone()).is_err() {
            // Who knows no password takes nobody's place, and so nobody is asked.
            if others_answer || restricted {
                return;
            }
            process.hub.forget(&key_of(key));
            if let Some((_, before)) = process.clients.remove(&key_of(key)) {
                assert!(before.closing().is_some(), "who does not answer is closed");
            }
            let registered = process.hub.register(about(), connection, outbox.clone());
            assert_eq!(registered, Ok(()));
        }
        process.clients.insert(key_of(key), (connection, outbox));
    }

    fn say(&mut self, at: usize, lost_to: [bool; PROCESSES], doubled: bool) -> bool {
        let now = self.now();
        let says = &mut self.processes[at];
        let Some(message) = (!says.is_cut).then(|| says.hub.next_message(now)).flatten() else { return false };
        for (process, lost) in self.processes.iter_mut().zip(lost_to) {
            for _ in 0..usize::from(!lost) * (1 + usize::from(doubled)) {
                process.queue.push_back(message.clone());
            }
        }
        true
    }

    fn hear(&mut self, at: usize) -> bool {
        let now = self.now();
        let hears = &mut self.processes[at];
        let Some(message) = (!hears.is_cut).then(|| hears.queue.pop_front()).flatten() else { return false };
        hears.hub.hear(&message, now);
        true
    }

    /// As RabbitMQ shows it to those who are not cut off.
    fn look_who_is_there(&self) {
        let there: Vec<_> = self.processes.iter().filter(|other| !other.is_cut).map(|other| other.hub.own()).collect();
        for process in self.processes.iter().filter(|process| !process.is_cut) {
            for gone in process.hub.others().iter().filter(|other| !there.contains(other)) {
                process.hub.process_gone(gone);
            }
        }
    }

    fn mend(&mut self, at: usize) {
        let process = &mut self.processes[at];
        if std::mem::take(&mut process.is_cut) {
            process.hub.joined();
        }
    }

    /// Nothing fails any more, for some time.
    fn calm_down(&mut self) {
        for at in 0..PROCESSES {
            self.mend(at);
        }
        for _ in 0..60 {
            for at in 0..PROCESSES {
                while self.hear(at) {}
                self.look_who_is_there();
                while self.say(at, [false; PROCESSES], false) {}
            }
            self.passed += Duration::from_millis(500);
        }
    }

    /// Who wants client updates was told neither more nor less than what is visible.
    fn check_updates(&mut self) {
        for process in &mut self.processes {
            count_updates(&process.listener, &mut process.told);
            process.told.retain(|_, count| *count != 0);
            let mut visible: BTreeMap<String, i64> = BTreeMap::new();
            for client in process.hub.lock().registry.iter() {
                *visible.entry(client.key.application.to_string()).or_default() += 1;
            }
            assert_eq!(process.told, visible, "told by {}", process.hub.own());
        }
    }

    fn check_agreement(&self) {
        let mut all: BTreeMap<ClientKey, NodeId> = BTreeMap::new();
        for process in &self.processes {
            let listener = ClientKey::new("listeners", process.hub.own().as_str());
            let mut own: Vec<_> =
                process.clients.iter().filter(|(_, (_, outbox))| outbox.closing().is_none()).collect();
            assert_eq!(process.hub.connected_here(), own.len() + 1);
            for (_, (_, closed)) in process.clients.iter().filter(|(_, (_, outbox))| outbox.closing().is_some()) {
                assert_eq!(closed.closing(), Some(CloseCode::AlreadyRegistered));
            }
            for key in own.drain(..).map(|(key, _)| key).chain([&listener]) {
                let before = all.insert(key.clone(), process.hub.own().clone());
                assert_eq!(before, None, "{key} is connected twice");
            }
        }
        let seen = |process: &Process| -> Vec<Client> {
            process.hub.lock().registry.iter().map(|client| Client::clone(client)).collect()
        };
        let first = seen(&self.processes[0]);
        assert!(first.iter().map(|client| (&client.key, &client.node)).eq(all.iter()), "{first:#?} are not {all:?}");
        for process in &self.processes[1..] {
            assert_eq!(seen(process), first);
        }
    }
}

fn key_of(key: usize) -> ClientKey {
    ClientKey::new("app", &key.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn in_the_end_all_processes_agree(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check_updates();
        }
        world.calm_down();
        world.check_updates();
        world.check_agreement();
    }
}
