//! Who is to have how many shards, and who takes which of the free ones.
//!
//! A pure function: processes that see the same make the same plan and need not talk about it. Where they see different
//! things for a moment, two may ask for one shard; the broker grants it to one, and the other looks again.
//!
//! Shares differ by one at most. The larger ones go to those that have as much already, in the order of their ids: so a
//! plan that is carried out stands still, and while it is carried out, each step leaves the rest of it as it was.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::discord::ids::ShardId;

use super::node::NodeId;

/// A process that takes its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Who.
    pub node: NodeId,
    /// How many shards it has and does not give away already.
    pub keeps: usize,
    /// Whether it takes what is handed over at once; else it will later.
    pub ready: bool,
}

/// What everybody is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    free: Vec<ShardId>,
    shares: BTreeMap<NodeId, Share>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Share {
    keeps: usize,
    target: usize,
    ready: bool,
    /// Where in `free` its part is.
    dealt: Range<usize>,
}

impl Plan {
    /// The plan for these processes, for what they have, the shards that are `free` (in order), and how many more will
    /// be soon: those of processes that are about to end, or that are being handed over.
    pub fn new(parties: impl IntoIterator<Item = Party>, free: Vec<ShardId>, coming: usize) -> Self {
        let share = |party: Party| {
            let Party { node, keeps, ready } = party;
            (node, Share { keeps, target: 0, ready, dealt: 0..0 })
        };
        let mut shares: BTreeMap<NodeId, Share> = parties.into_iter().map(share).collect();
        let shards = shares.values().map(|share| share.keeps).sum::<usize>() + free.len() + coming;
        let (base, mut larger) = (shards / shares.len().max(1), shards % shares.len().max(1));
        for has_it in [true, false] {
            for share in shares.values_mut().filter(|share| (share.keeps > base) == has_it) {
                share.target = base + usize::from(larger > 0);
                larger = larger.saturating_sub(1);
            }
        }
        let mut dealt = 0;
        for share in shares.values_mut() {
            let end = (dealt + share.lacks()).min(free.len());
            share.dealt = dealt..end;
            dealt = end;
        }
        Self { free, shares }
    }

    /// How many shards this process is to have.
    pub fn target(&self, node: &NodeId) -> usize {
        self.shares.get(node).map_or(0, |share| share.target)
    }

    /// The free shards that this process is to take, in order.
    pub fn dealt(&self, node: &NodeId) -> &[ShardId] {
        self.shares.get(node).map_or(&[], |share| &self.free[share.dealt.clone()])
    }

    /// Who is to take this free shard.
    pub fn taker(&self, shard: ShardId) -> Option<&NodeId> {
        let at = self.free.binary_search(&shard).ok()?;
        self.shares.iter().find(|(_, share)| share.dealt.contains(&at)).map(|(node, _)| node)
    }

    /// How many shards those that are ready lack beyond the free ones: so many may be handed over now.
    pub fn lacking(&self) -> usize {
        let ready = self.shares.values().filter(|share| share.ready);
        ready.map(|share| share.lacks() - share.dealt.len()).sum()
    }
}

impl Share {
    fn lacks(&self) -> usize {
        self.target.saturating_sub(self.keeps)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn party(number: usize, keeps: usize) -> Party {
        Party { node: node(number), keeps, ready: true }
    }

    fn node(number: usize) -> NodeId {
        NodeId::try_from(format!("node-{number:02}")).expect("an id")
    }

    fn shards(ids: impl IntoIterator<Item = u32>) -> Vec<ShardId> {
        ids.into_iter().map(ShardId::new).collect()
    }

    fn plan(keeps: &[usize], free: Vec<ShardId>, coming: usize) -> Plan {
        Plan::new(keeps.iter().enumerate().map(|(number, keeps)| party(number, *keeps)), free, coming)
    }

    fn targets(keeps: &[usize], free: u32, coming: usize) -> Vec<usize> {
        let plan = plan(keeps, shards(0..free), coming);
        (0..keeps.len()).map(|number| plan.target(&node(number))).collect()
    }

    #[test]
    fn shares_differ_by_one_and_the_larger_go_where_they_are() {
        for (keeps, free, coming, expected) in [
            (&[0][..], 8, 0, &[8][..]),
            (&[0, 0, 0], 8, 0, &[3, 3, 2]),
            (&[2, 3, 3], 0, 0, &[2, 3, 3]),
            (&[4, 4, 0], 0, 0, &[3, 3, 2]),
            (&[3, 2, 2, 0], 0, 0, &[2, 2, 2, 1]),
            (&[3, 0, 2], 3, 0, &[3, 3, 2]),
            (&[3, 3], 0, 2, &[4, 4]),
            (&[0, 9], 0, 0, &[4, 5]),
            (&[1, 1, 0], 0, 0, &[1, 1, 0]),
            (&[], 8, 0, &[]),
        ] {
            assert_eq!(targets(keeps, free, coming), expected, "{keeps:?}");
        }
    }

    #[test]
    fn free_shards_are_dealt_to_those_that_lack_some() {
        let plan = plan(&[3, 1, 0], shards([2, 5, 7, 9, 11]), 0);
        assert_eq!(plan.dealt(&node(0)), []);
        assert_eq!(plan.dealt(&node(1)), shards([2, 5]));
        assert_eq!(plan.dealt(&node(2)), shards([7, 9, 11]));
        assert_eq!(plan.taker(ShardId::new(5)), Some(&node(1)));
        assert_eq!(plan.taker(ShardId::new(6)), None);
        assert_eq!(plan.dealt(&node(7)), []);
    }

    #[test]
    fn only_what_somebody_takes_at_once_is_handed_over() {
        let settling = |ready| {
            let parties = [party(0, 8), Party { ready, ..party(1, 0) }, Party { ready: false, ..party(2, 0) }];
            Plan::new(parties, shards([8]), 0)
        };
        assert_eq!(settling(true).lacking(), 2, "three for the second, one of which is free");
        assert_eq!(settling(false).lacking(), 0);
    }

    proptest! {
        /// Whoever takes the next step, and however many of them: nothing is moved that need not be, and the end is fair.
        #[test]
        fn steps_of_a_plan_do_not_change_it(keeps in prop::collection::vec(0..40_usize, 1..12), order: u64) {
            let mut rng = fastrand::Rng::with_seed(order);
            let total: usize = keeps.iter().sum();
            let (base, nodes) = (total / keeps.len(), keeps.len());
            let above = |least: usize| keeps.iter().map(|keeps| keeps.saturating_sub(least)).sum::<usize>();
            // All above the larger share must move, and of those who have it, all but those who may.
            let least = above(base + 1) + keeps.iter().filter(|keeps| **keeps > base).count().saturating_sub(total % nodes);
            let (mut keeps, mut free, mut moves) = (keeps, 0, 0);
            loop {
                let plan = plan(&keeps, shards(0..free), 0);
                let lacks = |number: &usize| !plan.dealt(&node(*number)).is_empty();
                let gives = |number: &usize| keeps[*number] > plan.target(&node(*number));
                let able: Vec<usize> = (0..nodes).filter(|number| lacks(number) || gives(number)).collect();
                let Some(number) = rng.choice(able) else { break };
                if keeps[number] > plan.target(&node(number)) {
                    (keeps[number], free, moves) = (keeps[number] - 1, free + 1, moves + 1);
                } else {
                    (keeps[number], free) = (keeps[number] + 1, free - 1);
                }
                prop_assert!(moves <= least);
            }
            prop_assert_eq!((free, moves), (0, least));
            prop_assert!(keeps.iter().max().unwrap() - keeps.iter().min().unwrap() <= 1);
        }
    }
}
