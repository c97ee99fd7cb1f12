//! What the coordinator promises; and, against a model of services and a broker that lose it at any moment, that no shard is
//! run twice and no request forgotten.

use proptest::prelude::*;

use super::*;
use crate::amybot::internal::Client;
use crate::amybot::message::{Message, Refusal};
use crate::cluster::node::NodeId;
use crate::encoding::{Dialect, Encoding};

const JSON: Dialect = Dialect::Plain(Encoding::Json);

fn queue(name: &str) -> Address {
    Address::Queue(name.to_owned())
}

fn client(connection: u64) -> Address {
    Address::Client(Client { node: NodeId::of_run("web", 1), connection, reply_to: "front".to_owned() })
}

fn message(s: &str, t: &str, d: &str) -> Message {
    Message::read_json(format!(r#"{{"s":"{s}","t":"{t}","d":{d}}}"#).as_bytes()).expect("a message")
}

fn op(s: &str, d: &str) -> Message {
    message(s, "gateway:opcode", d)
}

fn connect(s: &str) -> Message {
    op(s, r#"{"opcode":10}"#)
}

fn death(s: &str, shard: u32) -> Message {
    op(s, &format!(r#"{{"opcode":12,"shard_id":{shard}}}"#))
}

fn say(coordinator: &mut Coordinator, from: &Address, message: &Message) -> Fate {
    say_as(coordinator, from, message, None, false)
}

fn say_as(
    coordinator: &mut Coordinator,
    from: &Address,
    message: &Message,
    correlation_id: Option<&str>,
    redelivered: bool,
) -> Fate {
    let (message_id, number) = (None, None);
    coordinator.said(&Said { from, dialect: JSON, correlation_id, message_id, number, redelivered, message })
}

/// Does all that can be done; what was said, and to whom.
fn done(coordinator: &mut Coordinator) -> Vec<(Over, Answer)> {
    let mut said = Vec::new();
    while let Some(action) = coordinator.poll_action() {
        match action {
            Action::Store(_) => coordinator.stored(),
            Action::AskTurn(_) => {}
            Action::Send(Letter { to, answer, .. }) => {
                if let Answer::ShardAccept(shard) = &answer {
                    coordinator.accepted(shard.id(), &to.over());
                }
                said.push((to.over(), answer));
            }
        }
    }
    said
}

fn accept(id: u32, count: u32) -> Answer {
    Answer::ShardAccept(crate::discord::ids::Shard::new(ShardId::new(id), count).expect("below the count"))
}

#[test]
fn a_shard_is_stored_before_its_turn_is_asked_for_and_said_in_its_turn() {
    let mut coordinator = Coordinator::new(2, BTreeSet::new());
    assert_eq!(done(&mut coordinator), []);
    let bot = queue("bot.1");
    assert_eq!(say_as(&mut coordinator, &bot, &connect("bot"), Some("c"), false), Fate::Done);
    let Some(Action::Store(record)) = coordinator.poll_action() else { panic!("stored first") };
    assert_eq!(coordinator.poll_action(), None, "nothing until it is stored");
    coordinator.stored();
    assert_eq!(coordinator.poll_action(), Some(Action::AskTurn(ShardId::new(0))));
    assert_eq!(coordinator.poll_action(), None, "nothing until its turn");
    coordinator.turn(ShardId::new(0));
    let letter = Letter { to: bot.clone(), dialect: JSON, correlation_id: Some("c".to_owned()), answer: accept(0, 2) };
    assert_eq!(coordinator.poll_action(), Some(Action::Send(letter.clone())));
    // Lost here, it is done again by whoever takes over.
    let mut next = Coordinator::restored(&record, 2, BTreeSet::new()).expect("readable");
    assert!(matches!(next.poll_action(), Some(Action::Store(_))));
    next.stored();
    assert_eq!(next.poll_action(), Some(Action::AskTurn(ShardId::new(0))));
    next.turn(ShardId::new(0));
    assert_eq!(next.poll_action(), Some(Action::Send(letter)));
}

#[test]
fn what_a_process_tells_twice_is_done_once() {
    let (from, mut coordinator) = (client(1), Coordinator::new(4, BTreeSet::new()));
    let tell = |coordinator: &mut Coordinator, number: u64, redelivered: bool, message: &Message| {
        let (message_id, number, correlation_id) = (format!("web.00000001:{number}"), Some(number), None);
        let message_id = Some(message_id.as_str());
        let said = Said { from: &from, dialect: JSON, correlation_id, message_id, number, redelivered, message };
        coordinator.said(&said)
    };
    let free = |coordinator: &Coordinator| coordinator.free().len();
    for (number, left) in [(5, 3), (5, 3), (9, 2), (5, 2), (9, 2)] {
        assert_eq!(tell(&mut coordinator, number, false, &connect("bot")), Fate::Done);
        assert_eq!(free(&coordinator), left, "after {number}");
    }
    assert_eq!(tell(&mut coordinator, 10, false, &death("bot", 1)), Fate::Done);
    assert_eq!(tell(&mut coordinator, 10, false, &death("bot", 1)), Fate::Done, "not told that it is not its own");
    // Nor by who takes over, to whom all of it comes again.
    let mut next = Coordinator::restored(&coordinator.record(), 4, BTreeSet::new()).expect("readable");
    for number in [5, 5, 9, 9] {
        assert_eq!(tell(&mut next, number, true, &connect("bot")), Fate::Done);
        assert_eq!(free(&next), 3, "{number} once more");
    }
    assert_eq!(tell(&mut next, 9, false, &connect("bot")), Fate::Done);
    assert_eq!(free(&next), 3);
    assert_eq!(tell(&mut next, 11, false, &connect("bot")), Fate::Done);
    assert_eq!(free(&next), 2);
}

#[test]
fn who_identifies_over_rabbitmq_begins_anew_and_what_comes_again_frees_nothing_of_after() {
    let (bot, mut coordinator) = (queue("bot"), Coordinator::new(4, BTreeSet::new()));
    let identify = op("bot", r#"{"opcode":0}"#);
    assert_eq!(say_as(&mut coordinator, &bot, &connect("bot"), Some("a"), false), Fate::Done);
    coordinator.settled();
    assert_eq!(say(&mut coordinator, &bot, &identify), Fate::Done);
    assert_eq!(coordinator.free().len(), 4);
    assert_eq!(say_as(&mut coordinator, &bot, &connect("bot"), Some("b"), false), Fate::Done);
    // Both were not acknowledged.
    let mut next = Coordinator::restored(&coordinator.record(), 4, BTreeSet::new()).expect("readable");
    assert_eq!(say_as(&mut next, &bot, &identify, None, true), Fate::Done);
    assert_eq!(next.free().len(), 3);
    assert_eq!(say_as(&mut next, &bot, &connect("bot"), Some("b"), true), Fate::Done);
    assert_eq!(next.free().len(), 3);
    // A connection is itself one life.
    assert_eq!(say(&mut next, &client(1), &connect("web")), Fate::Done);
    assert_eq!(say(&mut next, &client(1), &op("web", r#"{"opcode":0}"#)), Fate::Done);
    assert_eq!(next.free().len(), 2);
}

#[test]
fn a_queue_that_was_gone_loses_what_it_had_then_and_nothing_of_after() {
    let (bot, mut coordinator) = (queue("bot"), Coordinator::new(4, BTreeSet::new()));
    say(&mut coordinator, &bot, &connect("bot"));
    let given = coordinator.given();
    let mut coordinator = Coordinator::restored(&coordinator.record(), 4, BTreeSet::new()).expect("readable");
    assert_eq!(coordinator.given(), given);
    say(&mut coordinator, &bot, &connect("bot"));
    assert_eq!(coordinator.queue_was_gone("bot", given, true), [ShardId::new(0)]);
    assert_eq!(coordinator.queue_was_gone("bot", given, false), []);
    assert_eq!(coordinator.queues(), ["bot".to_owned()].into());
    assert_eq!(coordinator.queue_was_gone("bot", coordinator.given(), true), [ShardId::new(1)]);
    assert_eq!(coordinator.queues(), ["bot".to_owned()].into(), "it is there, and may be told orders");
    assert_eq!(coordinator.queue_was_gone("bot", coordinator.given(), false), []);
    assert_eq!(coordinator.queues(), BTreeSet::new());
}

#[test]
fn a_takeover_exchanges_what_optic_runs_and_the_request_may_still_come_again() {
    let (bot, mut coordinator) = (queue("bot"), Coordinator::new(3, BTreeSet::new()));
    say_as(&mut coordinator, &bot, &connect("bot"), Some("c"), false);
    let mut next = Coordinator::restored(&coordinator.record(), 3, [ShardId::new(0)].into()).expect("readable");
    next.settled();
    assert_eq!(done(&mut next), []);
    assert!(!next.wants_turn(ShardId::new(0)) && next.wants_turn(ShardId::new(1)));
    assert_eq!(say_as(&mut next, &bot, &connect("bot"), Some("c"), true), Fate::Done);
    assert_eq!(next.free(), &[ShardId::new(2)].into(), "it has its shard");
    let mut none_left = Coordinator::restored(&coordinator.record(), 1, [ShardId::new(0)].into()).expect("readable");
    let said = done(&mut none_left);
    assert!(matches!(&said[..], [(_, Answer::Refused { .. })]), "{said:?}");
}

#[test]
fn a_used_up_pool_says_so_and_what_comes_back_is_given_again() {
    let mut coordinator = Coordinator::new(1, BTreeSet::new());
    let (first, second) = (queue("bot.1"), queue("bot.2"));
    assert_eq!(say(&mut coordinator, &first, &connect("bot")), Fate::Done);
    let used_up = Fate::Refused(Refused::UsedUp { shard_count: 1 });
    assert_eq!(say(&mut coordinator, &second, &connect("bot")), used_up);
    let another = Fate::Refused(Refused::NotItsShard(ShardId::new(0)));
    assert_eq!(say(&mut coordinator, &second, &death("bot", 0)), another);
    assert_eq!(say(&mut coordinator, &second, &connect("bot")), used_up);
    assert_eq!(say(&mut coordinator, &first, &death("bot", 0)), Fate::Done);
    assert_eq!(say(&mut coordinator, &second, &connect("bot")), Fate::Done);
    done(&mut coordinator);
    coordinator.turn(ShardId::new(0));
    assert_eq!(done(&mut coordinator), [(second.over(), accept(0, 1))]);
    assert_eq!(coordinator.queue_gone("bot.2"), [ShardId::new(0)]);
    assert_eq!(say(&mut coordinator, &first, &connect("bot")), Fate::Done);
}

#[test]
fn without_a_shard_for_services_each_is_told_so() {
    let mut coordinator = Coordinator::new(2, [0, 1].map(ShardId::new).into());
    let used_up = Fate::Refused(Refused::UsedUp { shard_count: 2 });
    assert_eq!(say(&mut coordinator, &queue("bot.1"), &connect("bot")), used_up);
}

#[test]
fn who_dies_while_it_waits_leaves_its_turn_to_the_next() {
    let mut coordinator = Coordinator::new(1, BTreeSet::new());
    let (first, second) = (queue("bot.1"), queue("bot.2"));
    say(&mut coordinator, &first, &connect("bot"));
    done(&mut coordinator);
    coordinator.left(&first.over());
    say(&mut coordinator, &second, &connect("bot"));
    coordinator.stored();
    let asked: Vec<Action> = std::iter::from_fn(|| {
        let action = coordinator.poll_action()?;
        coordinator.stored();
        Some(action)
    })
    .collect();
    assert!(!asked.contains(&Action::AskTurn(ShardId::new(0))), "it is waited for already: {asked:?}");
    coordinator.turn(ShardId::new(0));
    assert_eq!(done(&mut coordinator), [(second.over(), accept(0, 1))]);
}

#[test]
fn a_shard_that_optic_turns_out_to_run_is_exchanged_for_another() {
    let mut coordinator = Coordinator::new(2, BTreeSet::new());
    let bot = queue("bot.1");
    say_as(&mut coordinator, &bot, &connect("bot"), Some("c"), false);
    done(&mut coordinator);
    coordinator.optic_runs([ShardId::new(0)].into());
    assert!(!coordinator.wants_turn(ShardId::new(0)));
    done(&mut coordinator);
    coordinator.turn(ShardId::new(1));
    assert_eq!(done(&mut coordinator), [(bot.over(), accept(1, 2))]);
    coordinator.optic_runs([0, 1].map(ShardId::new).into());
    assert_eq!(coordinator.left(&bot.over()), [ShardId::new(1)]);
    assert!(coordinator.free().is_empty());
}

#[test]
fn an_instance_has_one_name_and_is_who_it_says() {
    let mut coordinator = Coordinator::new(0, BTreeSet::new());
    let bot = client(1);
    assert_eq!(say(&mut coordinator, &bot, &op("bot", r#"{"opcode":0}"#)), Fate::Done);
    assert_eq!(done(&mut coordinator), [(bot.over(), Answer::Identified)]);
    let other = Refused::OtherName {
        known: ServiceName::new("bot").expect("a name"),
        said: ServiceName::new("other").expect("a name"),
    };
    let forged = message("other", "gateway-proxy:other:x", "1");
    assert_eq!(say(&mut coordinator, &bot, &forged), Fate::Refused(other.clone()));
    assert_eq!(say(&mut coordinator, &bot, &op("other", r#"{"opcode":0}"#)), Fate::Refused(other));
    let forged = message("bot", "gateway-proxy:other:x", "1");
    assert!(matches!(say(&mut coordinator, &bot, &forged), Fate::Refused(Refused::Message(Refusal::Forged { .. }))));
    assert_eq!(done(&mut coordinator), []);
}

#[test]
fn a_message_goes_to_the_websockets_that_want_it_and_not_back() {
    let mut coordinator = Coordinator::new(0, BTreeSet::new());
    for (connection, topics) in [(1, r#"["a.*"]"#), (2, r#"["a.b"]"#), (3, r#"["b"]"#)] {
        let identify = op("bot", &format!(r#"{{"opcode":0,"topics":{topics}}}"#));
        assert_eq!(say(&mut coordinator, &client(connection), &identify), Fate::Done);
    }
    let identify = op("bot", r#"{"opcode":0,"topics":["*"]}"#);
    assert_eq!(say(&mut coordinator, &queue("bot.1"), &identify), Fate::Done);
    let record = coordinator.record();
    let mut coordinator = Coordinator::restored(&record, 0, BTreeSet::new()).expect("readable");
    let mut to = |from: u64| match say(&mut coordinator, &client(from), &message("bot", "gateway-proxy:bot:a.b", "1")) {
        Fate::Proxied(Proxied { to, .. }) => to.iter().map(|client| client.connection).collect::<Vec<_>>(),
        fate => panic!("{fate:?}"),
    };
    assert_eq!(to(1), [2]);
    assert_eq!(to(9), [1, 2]);
}

#[test]
fn all_instances_of_a_service_are_told_an_order() {
    let mut coordinator = Coordinator::new(1, BTreeSet::new());
    for (address, name) in [(client(1), "bot"), (queue("bot.1"), "bot"), (client(2), "other")] {
        say(&mut coordinator, &address, &op(name, r#"{"opcode":0}"#));
    }
    say(&mut coordinator, &queue("bot.1"), &connect("bot"));
    done(&mut coordinator);
    let bot = ServiceName::new("bot").expect("a name");
    assert_eq!(coordinator.order(Order::Reboot, &bot), 2);
    let told = [(client(1).over(), Answer::Reboot), (queue("bot.1").over(), Answer::Reboot)];
    assert_eq!(done(&mut coordinator), told);
    assert_eq!(coordinator.order(Order::Shutdown, &ServiceName::new("none").expect("a name")), 0);
    let services = coordinator.services();
    assert_eq!((services.shard_count, services.free), (1, 0));
    let of: Vec<_> = services.services.iter().map(|service| (service.name.as_str(), service.instances.len())).collect();
    assert_eq!(of, [("bot", 2), ("other", 1)]);
    assert_eq!(services.services[0].instances[1].waiting, 1);
}

#[test]
fn topics_and_instances_are_bounded() {
    let mut coordinator = Coordinator::new(0, BTreeSet::new());
    let topics = vec!["x".repeat(250); 256];
    let identify = op("bot", &serde_json::json!({"opcode": 0, "topics": topics}).to_string());
    let fates: Vec<Fate> = (0..20).map(|n| say(&mut coordinator, &client(n), &identify)).collect();
    let room = MOST_TOPIC_BYTES / (250 * 256);
    assert!(fates[..room].iter().all(|fate| *fate == Fate::Done));
    assert!(fates[room..].iter().all(|fate| *fate == Fate::Refused(Refused::TooManyTopics)));
    coordinator.left(&client(0).over());
    assert_eq!(say(&mut coordinator, &client(19), &identify), Fate::Done);
    let plain = op("bot", r#"{"opcode":0}"#);
    let known = coordinator.members.len() as u64;
    for n in 0..(MOST_MEMBERS as u64 - known) {
        assert_eq!(say(&mut coordinator, &client(1000 + n), &plain), Fate::Done);
    }
    assert_eq!(say(&mut coordinator, &client(999), &plain), Fate::Refused(Refused::TooManyMembers));
    assert_eq!(say(&mut coordinator, &client(1000), &plain), Fate::Done, "who is known stays so");
}

#[test]
fn what_cannot_be_read_is_not_gone_on_without() {
    let restored = |record: &[u8]| Coordinator::restored(record, 1, BTreeSet::new()).expect_err("unreadable");
    assert_eq!(restored(br#"{"version":2}"#), Unrestorable::Version(2));
    assert!(matches!(restored(b"{}"), Unrestorable::Malformed(_)));
    assert!(matches!(restored(br#"{"version":1}"#), Unrestorable::Malformed(_)));
}

fn runs(shards: &[u32]) -> Runs {
    Runs { shards: shards.iter().copied().map(ShardId::new).collect(), ..Runs::default() }
}

#[test]
fn what_a_process_runs_is_kept_for_it_while_it_is_away_also_by_who_takes_over() {
    let mut coordinator = Coordinator::new(3, BTreeSet::new());
    let web = NodeId::of_run("web", 1);
    assert!(coordinator.runs(web.clone(), runs(&[0])));
    assert!(!coordinator.runs(web.clone(), runs(&[0])), "it says it again");
    say(&mut coordinator, &queue("bot.1"), &connect("bot"));
    coordinator.optic_runs([ShardId::new(2)].into());
    assert!(coordinator.free().is_empty());
    let mut next = Coordinator::restored(&coordinator.record(), 3, BTreeSet::new()).expect("readable");
    assert_eq!(next.free(), &[ShardId::new(2)].into(), "what was only seen is looked at again");
    for _ in 0..=crate::amybot::optics::MOST_SILENT {
        assert!(!next.free().contains(&ShardId::new(0)));
        next.round();
    }
    assert!(next.free().contains(&ShardId::new(0)));
}

#[test]
fn who_waits_for_a_shard_that_a_process_says_it_runs_gets_another() {
    let mut coordinator = Coordinator::new(3, BTreeSet::new());
    say(&mut coordinator, &queue("bot.1"), &connect("bot"));
    done(&mut coordinator);
    coordinator.turn(ShardId::new(0));
    assert_eq!(done(&mut coordinator), [(queue("bot.1").over(), accept(0, 3))]);
    say(&mut coordinator, &queue("bot.1"), &connect("bot"));
    coordinator.runs(NodeId::of_run("web", 1), runs(&[0, 1]));
    assert_eq!(coordinator.contested(), [ShardId::new(0)].into(), "the service has it, and nobody takes it away");
    done(&mut coordinator);
    coordinator.turn(ShardId::new(2));
    assert_eq!(done(&mut coordinator), [(queue("bot.1").over(), accept(2, 3))]);
}

#[test]
fn without_a_count_it_is_the_one_that_is_known_or_no_shard_is_given() {
    let mut coordinator = Coordinator::new(None, BTreeSet::new());
    let bot = queue("bot.1");
    assert_eq!(say(&mut coordinator, &bot, &connect("bot")), Fate::Refused(Refused::NoCount));
    coordinator.runs(NodeId::of_run("web", 1), Runs { services: Some(2), ..Runs::default() });
    assert_eq!(say(&mut coordinator, &bot, &connect("bot")), Fate::Done);
    let record = coordinator.record();
    assert_eq!(Coordinator::recorded_count(&record), Ok(Some(2)));
    let restored = |count: Option<u32>| Coordinator::restored(&record, count, BTreeSet::new()).expect("readable");
    assert_eq!(restored(None).free(), &[ShardId::new(1)].into());
    assert_eq!(restored(Some(1)).free(), &BTreeSet::new());
}

// ---- a model of services and a broker ----

/// A service over RabbitMQ; dead, it comes back with another queue.
#[derive(Default)]
struct Bot {
    life: u32,
    asked: u32,
    /// What it was told to its requests, the first time.
    answers: BTreeMap<String, Option<ShardId>>,
    runs: BTreeSet<ShardId>,
}

#[derive(Clone)]
struct Mailed {
    from: usize,
    life: u32,
    message: Message,
    correlation_id: Option<String>,
    redelivered: bool,
}

struct World {
    shard_count: u32,
    bots: [Bot; 3],
    queue: VecDeque<Mailed>,
    stored: Option<Vec<u8>>,
    coordinator: Coordinator,
    turns: BTreeSet<ShardId>,
}

#[derive(Clone, Debug)]
enum Step {
    Connect(usize),
    GiveBack(usize),
    Die(usize),
    /// Takes a message; lost after so many actions.
    Take(Option<u8>),
    Turn(usize, Option<u8>),
    Look,
}

impl World {
    fn new(shard_count: u32) -> Self {
        let coordinator = Coordinator::new(shard_count, BTreeSet::new());
        let (bots, queue, stored, turns) = Default::default();
        Self { shard_count, bots, queue, stored, coordinator, turns }
    }

    fn address(bot: usize, life: u32) -> Address {
        queue(&format!("bot.{bot}.{life}"))
    }

    fn mail(&mut self, from: usize, message: Message, correlation_id: Option<String>) {
        let life = self.bots[from].life;
        self.queue.push_back(Mailed { from, life, message, correlation_id, redelivered: false });
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Connect(bot) => {
                self.bots[bot].asked += 1;
                let correlation_id = format!("{}.{}", self.bots[bot].life, self.bots[bot].asked);
                self.mail(bot, connect("bot"), Some(correlation_id));
            }
            Step::GiveBack(bot) => {
                if let Some(shard) = self.bots[bot].runs.pop_first() {
                    self.mail(bot, death("bot", shard.get()), None);
                }
            }
            Step::Die(bot) => self.bots[bot] = Bot { life: self.bots[bot].life + 1, ..Bot::default() },
            Step::Take(fuel) => self.take(fuel),
            Step::Turn(nth, fuel) => {
                let Some(shard) = self.turns.iter().nth(nth % self.turns.len().max(1)).copied() else { return };
                self.turns.remove(&shard);
                if self.coordinator.wants_turn(shard) {
                    self.coordinator.turn(shard);
                }
                if !self.carry_out(fuel) {
                    self.take_over();
                }
            }
            Step::Look => {
                for name in self.coordinator.queues() {
                    let living = (0..self.bots.len()).any(|bot| name == format!("bot.{bot}.{}", self.bots[bot].life));
                    if !living {
                        self.coordinator.queue_gone(&name);
                    }
                }
                self.carry_out(None);
            }
        }
    }

    fn take(&mut self, fuel: Option<u8>) {
        let Some(Mailed { from, life, message, correlation_id, redelivered }) = self.queue.front().cloned() else {
            return;
        };
        let address = Self::address(from, life);
        let fate = say_as(&mut self.coordinator, &address, &message, correlation_id.as_deref(), redelivered);
        if !self.carry_out(fuel) {
            self.queue.iter_mut().take(2).for_each(|mailed| mailed.redelivered = true);
            return self.take_over();
        }
        match fate {
            Fate::Done => {}
            Fate::Refused(Refused::UsedUp { .. }) if self.bots[from].life == life => {
                self.bots[from].answers.insert(correlation_id.expect("of a request"), None);
            }
            Fate::Refused(_) | Fate::Proxied(_) => {}
        }
        self.queue.pop_front();
        self.coordinator.settled();
    }

    /// False: lost on the way.
    fn carry_out(&mut self, mut fuel: Option<u8>) -> bool {
        while let Some(action) = self.coordinator.poll_action() {
            match action {
                Action::Store(record) => {
                    self.stored = Some(record);
                    self.coordinator.stored();
                }
                Action::AskTurn(shard) => assert!(self.turns.insert(shard), "asked twice"),
                Action::Send(Letter { to, correlation_id, answer, .. }) => {
                    let told = self.deliver(&to, correlation_id, &answer);
                    // It may be lost between what it said and what it knows of it.
                    if fuel == Some(0) {
                        return false;
                    }
                    match (told, answer) {
                        (false, _) => drop(self.coordinator.queue_gone(to.queue())),
                        (true, Answer::ShardAccept(shard)) => self.coordinator.accepted(shard.id(), &to.over()),
                        (true, _) => {}
                    }
                }
            }
            if let Some(left) = &mut fuel {
                let Some(less) = left.checked_sub(1) else { return false };
                *left = less;
            }
        }
        fuel.is_none()
    }

    fn deliver(&mut self, to: &Address, correlation_id: Option<String>, answer: &Answer) -> bool {
        let is_its = |(n, bot): &(usize, &mut Bot)| to.queue() == format!("bot.{n}.{}", bot.life);
        let Some((_, bot)) = self.bots.iter_mut().enumerate().find(is_its) else { return false };
        if let Answer::ShardAccept(shard) = answer {
            // Said once more after a takeover, it says nothing new.
            if let std::collections::btree_map::Entry::Vacant(first) = bot.answers.entry(correlation_id.expect("given"))
            {
                first.insert(Some(shard.id()));
                assert!(bot.runs.insert(shard.id()), "shard {} twice", shard.id());
            }
        }
        let mut all: Vec<ShardId> = self.bots.iter().flat_map(|bot| bot.runs.iter().copied()).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "a shard is run twice: {all:?}");
        true
    }

    fn take_over(&mut self) {
        let none = BTreeSet::new();
        self.coordinator = match &self.stored {
            Some(record) => Coordinator::restored(record, self.shard_count, none).expect("readable"),
            None => Coordinator::new(self.shard_count, none),
        };
        self.turns.clear();
        assert!(self.carry_out(None));
    }

    /// Everything comes to its end, and nobody is forgotten.
    fn settle(&mut self) {
        while !self.queue.is_empty() {
            self.take(None);
        }
        self.step(&Step::Look);
        while !self.turns.is_empty() {
            self.step(&Step::Turn(0, None));
        }
        for (n, bot) in self.bots.iter().enumerate() {
            assert_eq!(
                bot.answers.len(),
                bot.asked as usize,
                "bot {n} was answered to each request: {:?}",
                bot.answers
            );
        }
        let run: usize = self.bots.iter().map(|bot| bot.runs.len()).sum();
        assert_eq!(self.coordinator.free().len() + run, self.shard_count as usize, "what nobody runs is free");
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let bot = || 0..3_usize;
    let fuel = || proptest::option::weighted(0.3, 0..4_u8);
    prop_oneof![
        4 => bot().prop_map(Step::Connect),
        2 => bot().prop_map(Step::GiveBack),
        1 => bot().prop_map(Step::Die),
        6 => fuel().prop_map(Step::Take),
        4 => (0..4_usize, fuel()).prop_map(|(nth, fuel)| Step::Turn(nth, fuel)),
        1 => Just(Step::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn no_shard_is_run_twice_and_no_request_forgotten_whenever_it_is_lost(
        shard_count in 0..5_u32,
        steps in proptest::collection::vec(any_step(), 0..80),
    ) {
        let mut world = World::new(shard_count);
        world.carry_out(None);
        for step in &steps {
            world.step(step);
        }
        world.settle();
    }
}
