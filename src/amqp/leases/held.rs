//! The leases that are held, and what was delivered on them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::{Channel, Consumer, message};

use super::super::delivery::{Delivery, From, Outcome, Receipt};
use crate::discord::ids::ShardId;

/// How long a delivery may stay unsettled before it is given back, to come again: RabbitMQ closes the channel of one that is
/// older than half an hour, and with it all the leases on it.
const HELD_AT_MOST: Duration = Duration::from_secs(10 * 60);

/// One lease of one time: a shard that is released and taken again has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseId(u64);

/// What a lease's consumer tells.
#[derive(Debug)]
pub(super) struct Signal {
    pub(super) shard: ShardId,
    pub(super) lease: LeaseId,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Delivered(Box<message::Delivery>),
    /// Nothing more comes: cancelled by RabbitMQ or by us, or its channel is closed.
    Ended,
}

#[derive(Debug)]
pub(super) struct Lease {
    id: LeaseId,
    /// Shared by the leases that were taken together; closed with the last of them.
    pub(super) channel: Arc<Channel>,
    /// Cancelled when dropped.
    pub(super) consumer: Consumer,
    pub(super) is_releasing: bool,
    /// The newest: with a prefetch of one, those before it are settled.
    newest: Option<Unsettled>,
}

/// What was delivered, maybe settled meanwhile.
#[derive(Debug)]
struct Unsettled {
    receipt: Receipt,
    since: Instant,
}

/// All of them, by shard.
#[derive(Debug, Default)]
pub(super) struct Held {
    leases: HashMap<ShardId, Lease>,
    count: u64,
}

impl Held {
    pub(super) fn insert(&mut self, shard: ShardId, channel: Arc<Channel>, consumer: Consumer) -> LeaseId {
        self.count += 1;
        let id = LeaseId(self.count);
        self.leases.insert(shard, Lease { id, channel, consumer, is_releasing: false, newest: None });
        id
    }

    pub(super) fn contains(&self, shard: ShardId) -> bool {
        self.leases.contains_key(&shard)
    }

    pub(super) fn get_mut(&mut self, shard: ShardId) -> Option<&mut Lease> {
        self.leases.get_mut(&shard)
    }

    /// The lease, if it is still this one.
    pub(super) fn same(&mut self, shard: ShardId, id: LeaseId) -> Option<&mut Lease> {
        self.leases.get_mut(&shard).filter(|lease| lease.id == id)
    }

    pub(super) fn remove(&mut self, shard: ShardId) {
        self.leases.remove(&shard);
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = (ShardId, Lease)> + '_ {
        self.leases.drain()
    }

    /// Gives back what nobody settled for so long that RabbitMQ would soon lose patience.
    pub(super) fn give_back_overdue(&mut self, now: Instant) {
        for unsettled in self.leases.values_mut().filter_map(|lease| lease.newest.as_mut()) {
            unsettled.give_back_if_overdue(now);
        }
    }
}

impl Lease {
    pub(super) fn id(&self) -> LeaseId {
        self.id
    }

    /// A delivery of it, to be settled by whoever gets it, or given back by the lease.
    pub(super) fn delivered(&mut self, shard: ShardId, delivered: message::Delivery, now: Instant) -> Delivery {
        let delivery = Delivery::of(From::Shard(shard), delivered, &self.channel);
        self.newest = Some(Unsettled { receipt: delivery.receipt(), since: now });
        delivery
    }

    /// Whether there is something to be given back.
    pub(super) fn has_unsettled(&self) -> bool {
        self.newest.as_ref().is_some_and(|unsettled| unsettled.receipt.outcome() == Outcome::Held)
    }

    /// What is to be given back.
    pub(super) fn take_unsettled(&mut self) -> Option<Receipt> {
        let unsettled = self.newest.take()?;
        (unsettled.receipt.outcome() == Outcome::Held).then_some(unsettled.receipt)
    }
}

impl Unsettled {
    fn give_back_if_overdue(&self, now: Instant) {
        if now.saturating_duration_since(self.since) >= HELD_AT_MOST {
            self.receipt.requeue();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::delivery::Properties;
    use super::*;

    #[test]
    fn only_what_is_held_for_long_is_given_back() {
        let since = Instant::now();
        let (_delivery, receipt) = Delivery::unattached(From::Shard(ShardId::new(0)), b"", Properties::default());
        let unsettled = Unsettled { receipt: receipt.clone(), since };
        unsettled.give_back_if_overdue(since + HELD_AT_MOST - Duration::from_millis(1));
        assert_eq!(receipt.outcome(), Outcome::Held);
        unsettled.give_back_if_overdue(since + HELD_AT_MOST);
        assert_eq!(receipt.outcome(), Outcome::Requeued);

        let (delivery, receipt) = Delivery::unattached(From::Shard(ShardId::new(0)), b"", Properties::default());
        let unsettled = Unsettled { receipt: receipt.clone(), since };
        delivery.ack();
        unsettled.give_back_if_overdue(since + HELD_AT_MOST);
        assert_eq!(receipt.outcome(), Outcome::Acknowledged);
    }
}
