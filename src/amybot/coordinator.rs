//! Who is there, which shards they have, and what is to be done for them: the one brain of a group's services.
//!
//! ```text
//! SHARD_CONNECT ─► a shard is taken ─► stored ─► its turn to identify ─► SHARD_ACCEPT ─► stored that it was told
//! ```
//!
//! Knows no queue and no clock. What changes is stored before anything that follows from it is done: [`Action::Store`] comes
//! first, and nothing behind it until [`stored`](Coordinator::stored). So whoever takes over knows of everything that was said.

mod record;
mod words;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

pub use self::record::Unrestorable;
pub use self::words::{Action, Fate, Letter, Proxied, Refused, Said};
use super::answer::Answer;
use super::internal::{Instance, Order, Over, Service, Services};
use super::member::{Address, Member};
use super::message::{Opcode, Request, ServiceName, Topics};
use super::optics::{Optics, Runs};
use super::pool::{Holding, Pool};
use crate::cluster::node::NodeId;
use crate::discord::ids::ShardId;

/// So many instances are known at a time: each is a part of what is stored.
const MOST_MEMBERS: usize = 4096;
/// So many bytes of topics they have in all.
const MOST_TOPIC_BYTES: usize = 1 << 20;

/// The coordinator.
#[derive(Debug)]
pub struct Coordinator {
    pool: Pool,
    /// In how many shards the bot is split, as soon as that is known.
    shard_count: Option<u32>,
    /// What Optic's processes say that they run,
    optics: Optics,
    /// and what was seen beside it.
    noticed: BTreeSet<ShardId>,
    members: BTreeMap<Over, Member>,
    /// So many came since the beginning.
    came: u64,
    topic_bytes: usize,
    actions: VecDeque<Action>,
    /// Shards whose turn is waited for, held or not.
    turns: HashSet<ShardId>,
    /// Held when we took over, by requests that may come again.
    doubted: BTreeSet<ShardId>,
    changes: u64,
    stored: u64,
    storing: Option<u64>,
}

impl Coordinator {
    /// The first of a group: nobody has anything. Without a count no shard is given, until a process has told one.
    pub fn new(shard_count: impl Into<Option<u32>>, noticed: BTreeSet<ShardId>) -> Self {
        let shard_count = shard_count.into();
        let pool = Pool::new(shard_count.unwrap_or(0), noticed.clone());
        Self { shard_count, noticed, ..Self::with(pool, BTreeMap::new(), 0) }
    }

    fn with(pool: Pool, members: BTreeMap<Over, Member>, came: u64) -> Self {
        let topic_bytes = members.values().map(Member::topic_bytes).sum();
        let (actions, turns, doubted, shard_count, optics, noticed) = Default::default();
        // Stored at once: whether we can is found out before anybody is told anything.
        let (changes, stored, storing) = (1, 0, None);
        Self {
            pool,
            shard_count,
            optics,
            noticed,
            members,
            came,
            topic_bytes,
            actions,
            turns,
            doubted,
            changes,
            stored,
            storing,
        }
    }

    /// Asks for the turns of those who were not told of their shards.
    fn go_on(&mut self) {
        self.doubted = self.pool.held().iter().filter(|(_, held)| held.may_repeat).map(|(shard, _)| *shard).collect();
        let waiting: Vec<(ShardId, Over)> = (self.pool.held().iter())
            .filter(|(_, holding)| !holding.accepted)
            .map(|(shard, holding)| (*shard, holding.by.clone()))
            .collect();
        for (shard, by) in waiting {
            if self.pool.is_for_services(shard) {
                self.ask_turn(shard);
            } else {
                // The bot is split in fewer shards now, or Optic runs it.
                self.exchange(shard, &by);
            }
        }
    }

    /// Who was to get this shard gets another, if there is one.
    fn exchange(&mut self, shard: ShardId, by: &Over) {
        let request = self.pool.holding(shard).and_then(|holding| holding.request.clone());
        self.pool.give_back(shard, by);
        self.changed();
        let is_doubted = self.doubted.remove(&shard);
        match self.take(by, request.clone()) {
            // The request may come again all the same.
            Some(other) if is_doubted => _ = self.doubted.insert(other),
            Some(_) => {}
            None => self.tell_used_up(by, request),
        }
    }

    /// Somebody said something.
    pub fn said(&mut self, said: &Said<'_>) -> Fate {
        let over = said.from.over();
        if !said.redelivered {
            // What comes again comes first.
            self.no_more_repeats(&over);
        }
        if let (Some(number), Some(member)) = (said.number, self.members.get_mut(&over)) {
            let is_known = member.told.is_some_and(|told| number <= told);
            // What comes again may still have to be answered.
            if is_known && !said.redelivered {
                return Fate::Done;
            }
            member.told = member.told.max(Some(number));
        }
        let request = match said.message.request() {
            Ok(request) => request,
            Err(refusal) => return Fate::Refused(refusal.into()),
        };
        let name = said.message.sender().expect("a request has a sender");
        if let Some(known) = self.members.get(&over).filter(|member| member.name != name) {
            return Fate::Refused(Refused::OtherName { known: known.name.clone(), said: name });
        }
        let done = match request {
            Request::Proxy(topic) => return Fate::Proxied(self.proxied(&over, name, topic)),
            Request::Identify(topics) => self.identify(said, over, name, topics),
            Request::ShardConnect => self.connect(said, over, name),
            Request::ShardDeath(shard) => self.death(said, &over, shard),
        };
        match done {
            Ok(()) => Fate::Done,
            Err(refused) => Fate::Refused(refused),
        }
    }

    /// An instance said that it is gone; the shards that are free now.
    pub fn left(&mut self, over: &Over) -> Vec<ShardId> {
        let Some(member) = self.members.remove(over) else { return Vec::new() };
        self.topic_bytes -= member.topic_bytes();
        self.changed();
        self.pool.leave(over)
    }

    /// A queue is gone, and whoever is reached by it; the shards that are free now.
    pub fn queue_gone(&mut self, queue: &str) -> Vec<ShardId> {
        let gone: Vec<Over> = (self.members.iter())
            .filter(|(_, member)| member.address.queue() == queue)
            .map(|(over, _)| over.clone())
            .collect();
        gone.iter().flat_map(|over| self.left(over)).collect()
    }

    /// A queue was gone when this many shards [were given](Self::given); the shards that are free now. Somebody may have declared
    /// it anew since, and have shards of its own. Is nobody there now, it is known no more unless it has.
    pub fn queue_was_gone(&mut self, queue: &str, given: u64, is_there: bool) -> Vec<ShardId> {
        let by_it = self.members.iter().filter(|(_, member)| member.address.queue() == queue);
        let by_it: Vec<Over> = by_it.map(|(over, _)| over.clone()).collect();
        let mut free = Vec::new();
        for over in by_it {
            let freed = self.pool.leave_those(&over, |holding| holding.order < given);
            if !freed.is_empty() {
                self.changed();
                free.extend(freed);
            }
            if !is_there && self.pool.of(&over).next().is_none() {
                self.left(&over);
            }
        }
        free
    }

    /// So many shards were given since the beginning.
    pub const fn given(&self) -> u64 {
        self.pool.given()
    }

    /// Where the service is reached that has this shard.
    pub fn holder(&self, shard: ShardId) -> Option<&Address> {
        let holding = self.pool.holding(shard)?;
        self.members.get(&holding.by).map(|member| &member.address)
    }

    /// Whether websocket connections are reached by this queue.
    pub fn is_of_clients(&self, queue: &str) -> bool {
        self.members
            .values()
            .any(|member| matches!(&member.address, Address::Client(client) if client.reply_to == queue))
    }

    /// Whether the turn of this shard is still of use to somebody. If not, it may be asked for again.
    pub fn wants_turn(&mut self, shard: ShardId) -> bool {
        let is_wanted = self.pool.holding(shard).is_some_and(|holding| !holding.accepted);
        if !is_wanted {
            self.turns.remove(&shard);
        }
        is_wanted
    }

    /// It is the shard's turn, and the time to identify runs: its holder is told.
    pub fn turn(&mut self, shard: ShardId) {
        if !self.turns.remove(&shard) {
            return;
        }
        let Some(holding) = self.pool.holding(shard).filter(|holding| !holding.accepted) else { return };
        let (by, request) = (holding.by.clone(), holding.request.clone());
        if let Some(shard) = self.pool.shard(shard) {
            self.send(&by, request, Answer::ShardAccept(shard));
        }
    }

    /// An instance was told that the shard is its own.
    pub fn accepted(&mut self, shard: ShardId, by: &Over) {
        if self.pool.accepted(shard, by) {
            self.changed();
        }
    }

    /// An instance could not be told, though it may be there: the turn is asked for again.
    pub fn not_accepted(&mut self, shard: ShardId) {
        if self.pool.holding(shard).is_some_and(|holding| !holding.accepted) {
            self.ask_turn(shard);
        }
    }

    /// What the instances of a service are to be told: how many there are.
    pub fn order(&mut self, order: Order, name: &ServiceName) -> usize {
        let mut its: Vec<&Member> = self.members.values().filter(|member| member.name == *name).collect();
        its.sort_by_key(|member| member.order);
        let answer = match order {
            Order::Shutdown => Answer::Shutdown,
            Order::Reboot => Answer::Reboot,
        };
        let letters = its.into_iter().map(|member| Letter {
            to: member.address.clone(),
            dialect: member.dialect,
            correlation_id: None,
            answer: answer.clone(),
        });
        let before = self.actions.len();
        self.actions.extend(letters.map(Action::Send));
        self.actions.len() - before
    }

    /// Optic is seen to run these shards now, whatever its processes say. Who was to be told of one of them gets another.
    pub fn optic_runs(&mut self, noticed: BTreeSet<ShardId>) {
        self.noticed = noticed;
        self.count_optics();
    }

    /// A process of the group says what it runs; whether that is news. Who was to be told of such a shard gets another.
    pub fn runs(&mut self, node: NodeId, runs: Runs) -> bool {
        let is_news = self.optics.told(node, runs);
        if is_news {
            self.changed();
            self.count_optics();
            if let Some(count) = self.optics.services().filter(|_| self.shard_count.is_none()) {
                self.shard_count = Some(count);
                self.pool.resize(count);
            }
        }
        is_news
    }

    /// Some time has passed: a process that has said nothing for long is not waited for any more.
    pub fn round(&mut self) {
        if self.optics.round() {
            self.changed();
            self.count_optics();
        }
    }

    /// Shards that services run, and Optic's processes, too.
    pub fn contested(&self) -> BTreeSet<ShardId> {
        self.optics.shards().filter(|shard| self.pool.holding(*shard).is_some_and(|holding| holding.accepted)).collect()
    }

    /// How many shards Discord lets identify at a time, as far as a process told.
    pub fn max_concurrency(&self) -> Option<u32> {
        self.optics.max_concurrency()
    }

    /// In how many shards the bot is split, as far as it is known.
    pub const fn shard_count(&self) -> Option<u32> {
        self.shard_count
    }

    fn count_optics(&mut self) {
        let optics: BTreeSet<ShardId> = self.noticed.iter().copied().chain(self.optics.shards()).collect();
        let taken: Vec<(ShardId, Over)> = (self.pool.held().iter())
            .filter(|(shard, holding)| optics.contains(shard) && !holding.accepted)
            .map(|(shard, holding)| (*shard, holding.by.clone()))
            .collect();
        self.pool.optic_runs(optics);
        for (shard, by) in taken {
            self.exchange(shard, &by);
        }
    }

    /// All that was said so far is stored and acknowledged.
    pub fn settled(&mut self) {
        let doubted = &self.doubted;
        self.pool.settle(|shard, _| !doubted.contains(&shard));
    }

    /// What was to be stored is.
    pub fn stored(&mut self) {
        if let Some(changes) = self.storing.take() {
            self.stored = changes;
        }
    }

    /// What is to be done next, if anything can be done now.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.storing.is_some() {
            return None;
        }
        if self.stored < self.changes {
            self.storing = Some(self.changes);
            return Some(Action::Store(self.record()));
        }
        self.actions.pop_front()
    }

    /// The queues that instances need: those of who is gone are gone.
    pub fn queues(&self) -> BTreeSet<String> {
        self.members.values().map(|member| member.address.queue().to_owned()).collect()
    }

    /// Shards that services could get.
    pub const fn free(&self) -> &BTreeSet<ShardId> {
        self.pool.free()
    }

    /// Everybody who is there. What was passed on is counted elsewhere.
    pub fn services(&self) -> Services {
        let mut members: Vec<(&Over, &Member)> = self.members.iter().collect();
        members.sort_by(|(_, a), (_, b)| (&a.name, a.order).cmp(&(&b.name, b.order)));
        let mut services: Vec<Service> = Vec::new();
        for (over, member) in members {
            if services.last().is_none_or(|service| service.name != member.name) {
                services.push(Service { name: member.name.clone(), instances: Vec::new() });
            }
            let shards = self.pool.of(over).filter(|(_, holding)| holding.accepted).map(|(shard, _)| shard);
            let instance = Instance {
                over: over.clone(),
                shards: shards.collect(),
                waiting: self.pool.of(over).filter(|(_, holding)| !holding.accepted).count(),
                topics: member.topics.clone(),
            };
            services.last_mut().expect("one was pushed").instances.push(instance);
        }
        let free = u32::try_from(self.pool.free().len()).expect("not more than the count");
        Services { shard_count: self.pool.shard_count(), free, services, proxied: Vec::new() }
    }

    fn identify(&mut self, said: &Said<'_>, over: Over, name: ServiceName, topics: Vec<Topics>) -> Result<(), Refused> {
        let before = self.members.get(&over).map_or(0, Member::topic_bytes);
        let now: usize = topics.iter().map(Topics::bytes).sum();
        if self.topic_bytes - before + now > MOST_TOPIC_BYTES {
            return Err(Refused::TooManyTopics);
        }
        if matches!(over, Over::Amqp { .. }) {
            // It begins anew: what it had before, it does not run. What it asked for after this comes again after this.
            let is_of_before = |holding: &Holding| !said.redelivered || !holding.may_repeat;
            if !self.pool.leave_those(&over, is_of_before).is_empty() {
                self.changed();
            }
        }
        let member = self.know(said, &over, name)?;
        if member.topics != topics {
            member.topics = topics;
            self.topic_bytes = self.topic_bytes - before + now;
            self.changed();
        }
        self.send(&over, said.correlation_id.map(str::to_owned), Answer::Identified);
        Ok(())
    }

    fn connect(&mut self, said: &Said<'_>, over: Over, name: ServiceName) -> Result<(), Refused> {
        // Without a name of its own, the one for its answer tells a request from others.
        let request = said.correlation_id.or(said.message_id);
        if said.redelivered
            && let Some(shard) = self.pool.repeated(&over, request)
        {
            self.doubted.remove(&shard);
            return Ok(());
        }
        if said.number.is_some() && self.members.get(&over).is_some_and(|member| said.number <= member.given) {
            // It got one then, also if it has given that back since.
            return Ok(());
        }
        if self.shard_count.is_none() {
            return Err(Refused::NoCount);
        }
        if self.pool.free().is_empty() {
            return Err(Refused::UsedUp { shard_count: self.pool.shard_count() });
        }
        self.know(said, &over, name)?.given = said.number;
        self.take(&over, request.map(str::to_owned));
        Ok(())
    }

    /// The shard, if there was one.
    fn take(&mut self, over: &Over, request: Option<String>) -> Option<ShardId> {
        let shard = self.pool.take(over, request)?;
        self.doubted.remove(&shard);
        self.changed();
        self.ask_turn(shard);
        Some(shard)
    }

    fn death(&mut self, said: &Said<'_>, over: &Over, shard: ShardId) -> Result<(), Refused> {
        if self.pool.give_back(shard, over) {
            self.changed();
        } else if !said.redelivered {
            return Err(Refused::NotItsShard(shard));
        }
        Ok(())
    }

    /// Who is passed this message, beside those whose queues are bound to the topic.
    fn proxied(&self, over: &Over, source: ServiceName, topic: Box<str>) -> Proxied {
        let others = self.members.iter().filter(|(other, _)| *other != over);
        let to = others.filter_map(|(_, member)| member.wants(&topic)).cloned().collect();
        Proxied { source, topic, to }
    }

    /// The member that says this, new or known.
    fn know(&mut self, said: &Said<'_>, over: &Over, name: ServiceName) -> Result<&mut Member, Refused> {
        if !self.members.contains_key(over) {
            if self.members.len() >= MOST_MEMBERS {
                return Err(Refused::TooManyMembers);
            }
            let order = self.came;
            self.came += 1;
            let (address, dialect, told) = (said.from.clone(), said.dialect, said.number);
            let member = Member { name, address, dialect, topics: Vec::new(), order, told, given: None };
            self.members.insert(over.clone(), member);
            self.changed();
        }
        let member = self.members.get_mut(over).expect("it is there now");
        if member.dialect != said.dialect || member.address != *said.from {
            member.dialect = said.dialect;
            member.address = said.from.clone();
            self.changes += 1;
        }
        Ok(member)
    }

    fn ask_turn(&mut self, shard: ShardId) {
        if self.turns.insert(shard) {
            self.actions.push_back(Action::AskTurn(shard));
        }
    }

    fn send(&mut self, to: &Over, correlation_id: Option<String>, answer: Answer) {
        let Some(member) = self.members.get(to) else { return };
        let letter = Letter { to: member.address.clone(), dialect: member.dialect, correlation_id, answer };
        self.actions.push_back(Action::Send(letter));
    }

    fn tell_used_up(&mut self, to: &Over, request: Option<String>) {
        let reason = Refused::UsedUp { shard_count: self.pool.shard_count() }.to_string();
        let opcode = Some(u64::from(Opcode::ShardConnect.number()));
        self.send(to, request, Answer::Refused { opcode, reason });
    }

    const fn changed(&mut self) {
        self.changes += 1;
    }

    fn no_more_repeats(&mut self, over: &Over) {
        if self.doubted.is_empty() {
            return;
        }
        let is_websocket = |over: &Over| matches!(over, Over::Websocket { .. });
        let pool = &self.pool;
        let is_of_other_queue = |shard: &ShardId| {
            pool.holding(*shard).is_some_and(|holding| is_websocket(&holding.by) != is_websocket(over))
        };
        self.doubted.retain(is_of_other_queue);
    }
}

#[cfg(test)]
mod tests;
