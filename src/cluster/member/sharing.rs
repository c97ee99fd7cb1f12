//! What a member does when it looks around: ask for what it should have, give up what it has too much of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::own::State;
use super::{Action, Member, Notice, Want};
use crate::cluster::plan::{Party, Plan};
use crate::discord::ids::ShardId;

/// While a handover is under way it is looked at this often, whether its taker shows that it lives.
const HANDOVER_LOOK: Duration = Duration::from_secs(1);

impl Member {
    /// Looks at what there is to do now, and when to look again.
    pub(super) fn look(&mut self, now: Instant) {
        if !self.connected || self.leaving {
            self.look_at = None;
            return;
        }
        self.look_at = None;
        if self.settling.is_some_and(|until| until <= now) {
            self.settling = None;
            self.has_settled = true;
            self.announce_by(now + super::COALESCE);
        }
        if let Some(until) = self.settling {
            self.look_by(until);
        }
        let doubtful = self.own.all(State::Doubtful);
        if !doubtful.is_empty() {
            // Nothing else counts before these are decided.
            return self.ask(doubtful, now);
        }
        match &self.want {
            Want::These(shards) => {
                let missing = shards.iter().copied().filter(|shard| self.own.get(*shard).is_none()).collect();
                self.ask(missing, now);
            }
            Want::Fair if self.settling.is_none() => self.share(now),
            Want::Fair => {}
        }
    }

    /// Asks for what of these is due.
    fn ask(&mut self, shards: Vec<ShardId>, now: Instant) {
        if self.asking.is_busy() {
            return;
        }
        let (due, next) = self.asking.due(shards, now);
        if let Some(next) = next {
            self.look_by(next);
        }
        if !due.is_empty() {
            self.asking.ask(&due);
            self.actions.push_back(Action::Acquire(due));
        }
    }

    fn share(&mut self, now: Instant) {
        let map = self.map(now);
        if let Some(silent_at) = self.others.iter().map(|other| other.silent_at()).filter(|at| now < *at).min() {
            self.look_by(silent_at);
        }
        self.hand_over(&map, now);
        let mine = map.plan.dealt(&self.node).iter().copied();
        let mine = mine.filter(|shard| self.own.get(*shard).is_none()).collect();
        self.ask(mine, now);
    }

    fn hand_over(&mut self, map: &Map, now: Instant) {
        let (others, plan) = (&self.others, &map.plan);
        let heard = |shard| plan.taker(shard).and_then(|node| others.get(node)).map(|other| other.heard_at);
        self.handovers.settle(|shard| map.is_held(shard), heard, now);
        let surplus = self.own.count(State::is_kept).saturating_sub(plan.target(&self.node));
        // What is on its way out already will be free for those who lack some.
        let lacking = plan.lacking().saturating_sub(self.own.count(State::is_leaving));
        let room = self.handovers.room(surplus).min(lacking);
        let given: Vec<(ShardId, State)> = {
            let of = |which: State| self.own.iter().rev().filter(move |(_, state)| *state == which);
            of(State::Running).chain(of(State::Ended)).take(room).collect()
        };
        for (shard, state) in given {
            self.handovers.begin(shard);
            self.notice(Notice::GivenUp(shard));
            match state {
                State::Ended => self.release(shard),
                _ => self.stop(shard),
            }
        }
        if !self.handovers.is_empty() {
            self.look_by(now + HANDOVER_LOOK);
        }
    }

    /// Who has what, and what follows.
    fn map(&self, now: Instant) -> Map {
        let count = self.shard_count as usize;
        let mut held = vec![false; count];
        let mut hold = |shard: ShardId| {
            let shard = held.get_mut(shard.get() as usize);
            // A shard that two say to hold is counted once.
            shard.is_some_and(|held| !std::mem::replace(held, true))
        };
        let (mut parties, mut coming) = (Vec::new(), 0);
        let own = self.own.iter().filter(|(shard, state)| state.is_owned() && hold(*shard));
        let leaving = own.filter(|(_, state)| state.is_leaving()).count();
        parties.push(Party { node: self.node.clone(), keeps: self.own.count(State::is_kept), ready: true });
        coming += leaving;
        for other in self.others.iter() {
            let keeps = other.said.owned.iter().filter(|shard| hold(**shard)).count();
            if self.is_stranger(&other.said) {
                continue;
            }
            if other.shares(now) {
                parties.push(Party { node: other.said.node.clone(), keeps, ready: !other.said.settling });
            } else if other.said.leaving {
                coming += keeps;
            }
        }
        let free = (0..self.shard_count).map(ShardId::new).filter(|shard| !held[shard.get() as usize]).collect();
        Map { plan: Plan::new(parties, free, coming), held }
    }

    /// Tells of leases that are somebody else's, when it is time to.
    pub(super) fn tell_refused(&mut self, refused: &[ShardId], now: Instant) {
        if self.settling.is_some_and(|until| now < until) {
            // Nobody has said its name yet.
            return;
        }
        let mut holders = BTreeMap::<Option<String>, BTreeSet<ShardId>>::new();
        for shard in self.asking.tell_now(refused, now) {
            let name = self.others.holder(shard).map(|said| said.name.clone());
            holders.entry(name).or_default().insert(shard);
        }
        for (holder, shards) in holders {
            self.notice(Notice::HeldByOther { shards, holder });
        }
    }
}

/// Who has what.
struct Map {
    plan: Plan,
    held: Vec<bool>,
}

impl Map {
    fn is_held(&self, shard: ShardId) -> bool {
        self.held.get(shard.get() as usize).is_some_and(|held| *held)
    }
}
