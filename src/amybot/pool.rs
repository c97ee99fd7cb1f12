//! The shards that services run, and which service has which: none has two holders.
//!
//! Knows no message and no queue. What it says is kept by its owner before anybody acts on it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::internal::Over;
use crate::discord::ids::{Shard, ShardId};

/// All shards of the bot but those that Optic runs itself.
#[derive(Clone, Debug)]
pub struct Pool {
    shard_count: u32,
    /// Not for services.
    optics: BTreeSet<ShardId>,
    free: BTreeSet<ShardId>,
    held: BTreeMap<ShardId, Holding>,
    /// So many were given.
    given: u64,
}

/// A shard in a service's hands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Whose it is.
    pub by: Over,
    /// Whether it was told.
    pub accepted: bool,
    /// Its name for the request, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Whether the request may still come again: it is not known to be acknowledged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_repeat: bool,
    /// What was given before it has a lower one.
    #[serde(default)]
    pub order: u64,
}

impl Pool {
    /// A pool of all `shard_count` shards but `optics`.
    pub fn new(shard_count: u32, optics: BTreeSet<ShardId>) -> Self {
        Self::restored(shard_count, optics, BTreeMap::new())
    }

    /// The same with what was held before. That stays as it is, also where the count or what Optic runs have changed since: its
    /// holders live.
    pub fn restored(shard_count: u32, optics: BTreeSet<ShardId>, held: BTreeMap<ShardId, Holding>) -> Self {
        let given = held.values().map(|holding| holding.order + 1).max().unwrap_or(0);
        let mut pool = Self { shard_count, optics, free: BTreeSet::new(), held, given };
        pool.count_free();
        pool
    }

    /// Takes the lowest free shard for a service; `None` when there is none.
    pub fn take(&mut self, by: &Over, request: Option<String>) -> Option<ShardId> {
        let shard = self.free.pop_first()?;
        let holding = Holding { by: by.clone(), accepted: false, request, may_repeat: true, order: self.given };
        self.given += 1;
        let former = self.held.insert(shard, holding);
        debug_assert!(former.is_none(), "what is free is not held");
        Some(shard)
    }

    /// The service was told of it. False: it does not have it any more.
    pub fn accepted(&mut self, shard: ShardId, by: &Over) -> bool {
        let holding = self.held.get_mut(&shard).filter(|holding| holding.by == *by && !holding.accepted);
        holding.map(|holding| holding.accepted = true).is_some()
    }

    /// A service gives a shard back. False: it does not have it.
    pub fn give_back(&mut self, shard: ShardId, by: &Over) -> bool {
        let is_its = self.held.get(&shard).is_some_and(|holding| holding.by == *by);
        if is_its {
            self.held.remove(&shard);
            self.free_if_ours(shard);
        }
        is_its
    }

    /// A service is gone, and what it had is free; that.
    pub fn leave(&mut self, by: &Over) -> Vec<ShardId> {
        self.leave_those(by, |_| true)
    }

    /// The same with those of what it had alone.
    pub fn leave_those(&mut self, by: &Over, are_they: impl Fn(&Holding) -> bool) -> Vec<ShardId> {
        let its: Vec<ShardId> = self.of(by).filter(|(_, holding)| are_they(holding)).map(|(shard, _)| shard).collect();
        for shard in &its {
            self.held.remove(shard);
            self.free_if_ours(*shard);
        }
        its
    }

    /// Optic runs these from now on, and no others. Those of them that services have are theirs until they give them back.
    pub fn optic_runs(&mut self, optics: BTreeSet<ShardId>) {
        if self.optics != optics {
            self.optics = optics;
            self.count_free();
        }
    }

    /// The bot is split in so many shards. What is held stays so.
    pub fn resize(&mut self, shard_count: u32) {
        self.shard_count = shard_count;
        self.count_free();
    }

    /// The requests for these will not come again.
    pub fn settle(&mut self, is_settled: impl Fn(ShardId, &Over) -> bool) {
        for (shard, holding) in &mut self.held {
            holding.may_repeat &= !is_settled(*shard, &holding.by);
        }
    }

    /// A request that was delivered before: the shard that it got then, which is not given for it once more.
    pub fn repeated(&mut self, by: &Over, request: Option<&str>) -> Option<ShardId> {
        let is_it =
            |holding: &Holding| holding.may_repeat && holding.by == *by && holding.request.as_deref() == request;
        let (shard, holding) = self.held.iter_mut().find(|(_, holding)| is_it(holding))?;
        holding.may_repeat = false;
        Some(*shard)
    }

    /// Who has a shard.
    pub fn holding(&self, shard: ShardId) -> Option<&Holding> {
        self.held.get(&shard)
    }

    /// What a service has, the lowest first.
    pub fn of(&self, by: &Over) -> impl Iterator<Item = (ShardId, &Holding)> {
        self.held.iter().filter(move |(_, holding)| holding.by == *by).map(|(shard, holding)| (*shard, holding))
    }

    /// So many were given: what is given later has at least this order.
    pub const fn given(&self) -> u64 {
        self.given
    }

    /// Everything that is held.
    pub const fn held(&self) -> &BTreeMap<ShardId, Holding> {
        &self.held
    }

    /// What can be taken, the lowest first.
    pub const fn free(&self) -> &BTreeSet<ShardId> {
        &self.free
    }

    /// In how many shards the bot is split.
    pub const fn shard_count(&self) -> u32 {
        self.shard_count
    }

    /// A shard with the count; `None` for one beyond it, which was given when the count was another.
    pub fn shard(&self, id: ShardId) -> Option<Shard> {
        Shard::new(id, self.shard_count)
    }

    /// Whether it is one that services get.
    pub fn is_for_services(&self, id: ShardId) -> bool {
        id.get() < self.shard_count && !self.optics.contains(&id)
    }

    fn count_free(&mut self) {
        let all = (0..self.shard_count).map(ShardId::new);
        self.free = all.filter(|shard| !self.optics.contains(shard) && !self.held.contains_key(shard)).collect();
    }

    fn free_if_ours(&mut self, shard: ShardId) {
        if self.is_for_services(shard) {
            self.free.insert(shard);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(n: u8) -> Over {
        Over::Amqp { queue: format!("service-{n}") }
    }

    fn shards(ids: &[u32]) -> BTreeSet<ShardId> {
        ids.iter().copied().map(ShardId::new).collect()
    }

    #[test]
    fn the_lowest_free_shard_goes_first_and_a_used_up_pool_has_none() {
        let mut pool = Pool::new(3, shards(&[1]));
        assert_eq!(pool.take(&service(0), None), Some(ShardId::new(0)));
        assert_eq!(pool.take(&service(1), None), Some(ShardId::new(2)));
        assert_eq!(pool.take(&service(2), None), None);
        assert!(!pool.give_back(ShardId::new(0), &service(1)), "another's");
        assert!(pool.give_back(ShardId::new(0), &service(0)));
        assert!(!pool.give_back(ShardId::new(0), &service(0)), "once");
        assert_eq!(pool.take(&service(2), None), Some(ShardId::new(0)));
        assert_eq!(pool.leave(&service(2)), [ShardId::new(0)]);
        assert_eq!(pool.leave(&service(2)), []);
    }

    #[test]
    fn what_optic_runs_is_given_to_nobody_also_when_it_comes_back() {
        let mut pool = Pool::new(2, shards(&[]));
        assert_eq!(pool.take(&service(0), None), Some(ShardId::new(0)));
        pool.optic_runs(shards(&[0]));
        assert!(pool.holding(ShardId::new(0)).is_some(), "its holder lives");
        pool.leave(&service(0));
        assert_eq!(pool.take(&service(1), None), Some(ShardId::new(1)));
        assert_eq!(pool.take(&service(1), None), None);
        pool.optic_runs(shards(&[]));
        assert_eq!(pool.take(&service(1), None), Some(ShardId::new(0)));
    }

    #[test]
    fn a_shard_beyond_a_new_count_is_its_holders_and_then_nobodys() {
        let mut pool = Pool::new(4, shards(&[]));
        while pool.take(&service(0), None).is_some() {}
        let mut pool = Pool::restored(2, shards(&[]), pool.held().clone());
        assert_eq!(pool.of(&service(0)).count(), 4);
        assert_eq!(pool.shard(ShardId::new(3)), None);
        pool.leave(&service(0));
        assert_eq!(pool.free(), &shards(&[0, 1]));
    }

    #[test]
    fn a_request_that_comes_again_gets_what_it_got() {
        let mut pool = Pool::new(3, shards(&[]));
        let first = pool.take(&service(0), Some("a".to_owned()));
        pool.settle(|_, _| true);
        let second = pool.take(&service(0), Some("b".to_owned()));
        let mut pool = Pool::restored(3, shards(&[]), pool.held().clone());
        assert_eq!(pool.repeated(&service(0), Some("a")), None, "acknowledged: {first:?}");
        assert_eq!(pool.repeated(&service(1), Some("b")), None, "another's");
        assert_eq!(pool.repeated(&service(0), Some("b")), second);
        assert_eq!(pool.repeated(&service(0), Some("b")), None, "once");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(u8),
        Accept(u8, u32),
        GiveBack(u8, u32),
        Leave(u8),
        OpticRuns(BTreeSet<u32>),
        Restart(u32),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let (who, shard) = (|| 0..4_u8, || 0..10_u32);
        prop_oneof![
            4 => who().prop_map(Step::Take),
            1 => (who(), shard()).prop_map(|(who, shard)| Step::Accept(who, shard)),
            2 => (who(), shard()).prop_map(|(who, shard)| Step::GiveBack(who, shard)),
            1 => who().prop_map(Step::Leave),
            1 => proptest::collection::btree_set(shard(), 0..4).prop_map(Step::OpticRuns),
            1 => (0..10_u32).prop_map(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn no_shard_has_two_holders_and_none_that_optic_runs_is_given(
            count in 0..10_u32,
            steps in proptest::collection::vec(any_step(), 0..60),
        ) {
            let mut optics = BTreeSet::new();
            let mut pool = Pool::new(count, optics.clone());
            let mut count = count;
            // Who has what, as services know it.
            let mut theirs: BTreeMap<ShardId, Over> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Take(who) => {
                        let all = (0..count).map(ShardId::new);
                        let expected = all.filter(|id| !theirs.contains_key(id) && !optics.contains(id)).min();
                        let taken = pool.take(&service(who), None);
                        prop_assert_eq!(taken, expected);
                        if let Some(shard) = taken {
                            prop_assert_eq!(theirs.insert(shard, service(who)), None);
                        }
                    }
                    Step::Accept(who, shard) => {
                        let shard = ShardId::new(shard);
                        let was = pool.holding(shard).is_some_and(|holding| holding.accepted);
                        let is_its = theirs.get(&shard) == Some(&service(who));
                        prop_assert_eq!(pool.accepted(shard, &service(who)), is_its && !was);
                    }
                    Step::GiveBack(who, shard) => {
                        let shard = ShardId::new(shard);
                        let is_its = theirs.get(&shard) == Some(&service(who));
                        prop_assert_eq!(pool.give_back(shard, &service(who)), is_its);
                        if is_its {
                            theirs.remove(&shard);
                        }
                    }
                    Step::Leave(who) => {
                        let left = pool.leave(&service(who));
                        let gone: Vec<ShardId> =
                            theirs.iter().filter(|(_, by)| **by == service(who)).map(|(shard, _)| *shard).collect();
                        theirs.retain(|_, by| *by != service(who));
                        prop_assert_eq!(left, gone);
                    }
                    Step::OpticRuns(ids) => {
                        optics = ids.into_iter().map(ShardId::new).collect();
                        pool.optic_runs(optics.clone());
                    }
                    Step::Restart(new) => {
                        count = new;
                        let json = serde_json::to_string(pool.held()).expect("plain");
                        pool = Pool::restored(count, optics.clone(), serde_json::from_str(&json).expect("plain"));
                    }
                }
                let held: BTreeMap<ShardId, Over> =
                    pool.held().iter().map(|(shard, holding)| (*shard, holding.by.clone())).collect();
                prop_assert_eq!(&held, &theirs);
                let is_free = |id: &ShardId| pool.free().contains(id);
                prop_assert!(!theirs.keys().any(is_free) && !optics.iter().any(is_free));
            }
        }
    }
}
