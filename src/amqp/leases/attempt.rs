//! One attempt to take leases: their queues are declared, looked at, and those that nobody consumes are consumed on a channel of
//! their own.
//!
//! A refused consumer closes its channel, so leases that are held are on other channels; and since a channel costs RabbitMQ
//! and us more than a consumer, what one attempt takes shares one.
//!
//! In a quorum queue an exclusive consumer excludes nobody, so that is tried out before a lease counts as held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tracing::error;

use super::super::admin::{Admin, bounded};
use super::super::error::AdminError;
use super::super::topology::{Queue, consumers_of, declare_all, short};
use crate::discord::ids::ShardId;

/// One command of a shard at a time: they are carried out in order, and what one shard cannot take now is no other's to hold.
pub(super) const PREFETCH: u16 = 1;

/// So many consumers are asked for at a time: enough to hide the round trips.
const PIPELINED: usize = 64;

/// A queue that excluded nobody is tried again after this: each try has the first command delivered and put back.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What an attempt took. Dropped, its channel closes, and what it took is free. What is neither taken nor refused is unknown.
#[derive(Debug)]
pub(super) struct Taken {
    /// On one channel, all of them.
    pub(super) consumers: Vec<(ShardId, Arc<Channel>, Consumer)>,
    /// Another has them, or their queue excludes nobody.
    pub(super) refused: Vec<ShardId>,
}

/// What attempts found out about the queues of shards.
#[derive(Debug, Default)]
pub(super) struct Known {
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    /// Held by another when last asked for: the queue exists, and a look is enough.
    refused: BTreeSet<ShardId>,
    /// A second consumer was refused.
    exclusive: BTreeSet<ShardId>,
    /// A second consumer was taken, at that time.
    shared: BTreeMap<ShardId, Instant>,
    /// It was told of these that they are shared.
    told: BTreeSet<ShardId>,
}

/// A queue that nobody consumes.
struct Free {
    shard: ShardId,
    queue: Queue,
    is_of_another_kind: bool,
}

/// Takes what is free of these.
///
/// # Errors
/// What keeps us from taking any: the connection is lost, or a right is missing.
pub(super) async fn take(admin: &Admin, group: &str, shards: &[ShardId], known: &Known) -> Result<Taken, AdminError> {
    let now = Instant::now();
    let (mut refused, shards): (Vec<_>, Vec<_>) = shards.iter().partition(|shard| known.is_shared(**shard, now));
    let (held, shards) = look_first(admin, group, shards, known).await?;
    refused.extend(held);
    let mut free = Vec::with_capacity(shards.len());
    if !shards.is_empty() {
        let queues: Vec<Queue> = shards.iter().map(|shard| Queue::commands(group, *shard)).collect();
        let declared = declare_all(admin, group, &queues).await?;
        for ((shard, queue), declared) in shards.into_iter().zip(queues).zip(declared) {
            if declared.consumers > 0 {
                known.was_refused(shard);
                refused.push(shard);
            } else {
                free.push(Free { shard, queue, is_of_another_kind: declared.is_of_another_kind });
            }
        }
    }
    while !free.is_empty() {
        let channel = Arc::new(admin.channel().await?);
        match consume(&channel, &free).await? {
            Consumed::All(consumers) => {
                let shared = shared(admin, &free, known).await?;
                if shared.is_empty() {
                    known.were_granted(consumers.iter().map(|(shard, _)| *shard));
                    let consumers =
                        consumers.into_iter().map(|(shard, consumer)| (shard, channel.clone(), consumer)).collect();
                    return Ok(Taken { consumers, refused });
                }
                // All are given back, with what was delivered on them, and those that are worth it asked for again.
                bounded("close a channel", channel.close(200, "OK".into())).await?;
                free.retain(|free| !shared.contains(&free.shard));
                refused.extend(shared);
            }
            // Somebody was faster. RabbitMQ has closed the channel and freed what we had on it, on which nothing runs yet.
            Consumed::Refused(at) => {
                let shard = free.remove(at).shard;
                known.was_refused(shard);
                refused.push(shard);
            }
            // Deleted in this moment: declared by the next attempt. The channel is closed as well.
            Consumed::Gone(at) => known.forget(free.remove(at).shard),
        }
    }
    Ok(Taken { consumers: Vec::new(), refused })
}

/// Of those that were refused before, which still are; and all others, which are to be declared and asked for.
async fn look_first(
    admin: &Admin,
    group: &str,
    shards: Vec<ShardId>,
    known: &Known,
) -> Result<(Vec<ShardId>, Vec<ShardId>), AdminError> {
    let (before, mut others): (Vec<ShardId>, Vec<ShardId>) =
        shards.into_iter().partition(|shard| known.lock().refused.contains(shard));
    if before.is_empty() {
        return Ok((before, others));
    }
    let queues: Vec<Queue> = before.iter().map(|shard| Queue::commands(group, *shard)).collect();
    let consumers = match consumers_of(admin, &queues).await {
        // One is gone, and which one is not worth a look for each.
        Err(AdminError::NotFound { .. }) => {
            before.iter().for_each(|shard| known.forget(*shard));
            vec![0; before.len()]
        }
        looked => looked?,
    };
    let mut held = Vec::new();
    for (shard, consumers) in before.into_iter().zip(consumers) {
        if consumers > 0 { held.push(shard) } else { others.push(shard) }
    }
    others.sort_unstable();
    Ok((held, others))
}

enum Consumed {
    All(Vec<(ShardId, Consumer)>),
    /// The place of the first that was refused.
    Refused(usize),
    /// The place of the first that does not exist any more.
    Gone(usize),
}

async fn consume(channel: &Channel, queues: &[Free]) -> Result<Consumed, AdminError> {
    bounded("limit the prefetch", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
    let mut consumers = Vec::with_capacity(queues.len());
    for queues in queues.chunks(PIPELINED) {
        let asked = queues.iter().map(|free| consume_one(channel, free));
        // Answers come in the order of the questions: the first error is the refusal, the others are its consequence.
        for (consumed, Free { shard, .. }) in join_all(asked).await.into_iter().zip(queues) {
            match consumed {
                Ok(consumer) => consumers.push((*shard, consumer)),
                Err(error) if error.is_held_by_another() => return Ok(Consumed::Refused(consumers.len())),
                Err(AdminError::NotFound { .. }) => return Ok(Consumed::Gone(consumers.len())),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Consumed::All(consumers))
}

async fn consume_one(channel: &Channel, Free { shard, queue, .. }: &Free) -> Result<Consumer, AdminError> {
    let exclusive = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
    let tag = short(&shard.to_string())?;
    let consumed = channel.basic_consume(short(queue.name())?, tag, exclusive, FieldTable::default());
    bounded(&format!("consume the queue \"{}\"", queue.name()), consumed).await
}

/// Which of these, all consumed by us, take a second consumer. Queues declared in the same way are of one kind: one stands for
/// them, until it disappoints.
async fn shared(admin: &Admin, consumed: &[Free], known: &Known) -> Result<Vec<ShardId>, AdminError> {
    let mut shared = Vec::new();
    let mut first_is_shared = false;
    for (place, free) in consumed.iter().enumerate() {
        let is_doubtful = place == 0 || first_is_shared || free.is_of_another_kind;
        if !is_doubtful || known.lock().exclusive.contains(&free.shard) {
            continue;
        }
        if takes_a_second(admin, free).await? {
            first_is_shared |= place == 0;
            shared.push(free.shard);
            known.is_shared_since(free, Instant::now());
        } else {
            known.lock().exclusive.insert(free.shard);
        }
    }
    Ok(shared)
}

/// Whether a second exclusive consumer is granted; it is given back at once.
async fn takes_a_second(admin: &Admin, free: &Free) -> Result<bool, AdminError> {
    // The refusal closes it.
    let channel = admin.channel().await?;
    bounded("limit the prefetch", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
    match consume_one(&channel, free).await {
        Ok(_second) => {
            bounded("close a channel", channel.close(200, "OK".into())).await?;
            Ok(true)
        }
        Err(error) if error.is_held_by_another() => Ok(false),
        Err(error) => Err(error),
    }
}

impl Known {
    /// The queue may be another by now.
    pub(super) fn forget(&self, shard: ShardId) {
        let mut facts = self.lock();
        facts.refused.remove(&shard);
        facts.exclusive.remove(&shard);
    }

    fn was_refused(&self, shard: ShardId) {
        self.lock().refused.insert(shard);
    }

    fn were_granted(&self, shards: impl Iterator<Item = ShardId>) {
        let mut facts = self.lock();
        for shard in shards {
            facts.refused.remove(&shard);
            facts.shared.remove(&shard);
        }
    }

    /// Whether it was found of late that the queue excludes nobody.
    fn is_shared(&self, shard: ShardId, now: Instant) -> bool {
        self.lock().shared.get(&shard).is_some_and(|found| now < *found + TRY_AGAIN_AFTER)
    }

    fn is_shared_since(&self, Free { shard, queue, .. }: &Free, now: Instant) {
        let mut facts = self.lock();
        facts.shared.insert(*shard, now);
        if facts.told.insert(*shard) {
            error!(
                %shard, queue = queue.name(),
                "two can consume the queue exclusively, so it is no lease, and the shard is not run: it is a quorum queue. \
                 Delete it, and have it declared as a classic one (by workers, or as the virtual host's default queue \
                 type). It is looked at again each minute"
            );
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_excludes_nobody_is_not_consumed_again_for_a_minute() {
        let (known, shard, now) = (Known::default(), ShardId::new(1), Instant::now());
        let free = Free { shard, queue: Queue::commands("g", shard), is_of_another_kind: true };
        assert!(!known.is_shared(shard, now));
        known.is_shared_since(&free, now);
        assert!(known.is_shared(shard, now + TRY_AGAIN_AFTER - Duration::from_millis(1)));
        assert!(!known.is_shared(shard, now + TRY_AGAIN_AFTER));
        assert!(!known.is_shared(ShardId::new(0), now));
    }
}
