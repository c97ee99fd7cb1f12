//! The task behind [`Leases`](super::Leases): carries out what is asked, and tells in order what becomes of the leases.

use std::collections::{BTreeSet, VecDeque};
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, join3};
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::Channel;
use lapin::message::DeliveryResult;
use lapin::options::{BasicCancelOptions, BasicQosOptions};
use tokio::sync::mpsc;
use tokio::sync::mpsc::Permit;
use tokio::sync::mpsc::error::SendError;
use tokio::time::{Instant as TokioInstant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::admin::{Admin, Generation, bounded};
use super::super::delivery::{Delivery, From};
use super::super::error::AdminError;
use super::attempt::{self, PREFETCH, Taken};
use super::held::{Held, Lease, LeaseId, Signal, What};
use super::{Asked, LeaseEvent, LeasesDriver};
use crate::discord::ids::ShardId;

/// RabbitMQ is asked so often whether it is there: far more often than the fence needs it, unless heartbeats are short.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// Below this, a connection or process that is slow for a moment closes the fence.
const FENCE_SHOULD_STAND: Duration = Duration::from_secs(8);

pub(super) async fn run(parts: LeasesDriver, stop: CancellationToken) {
    let LeasesDriver { leases, fence, events, deliveries } = parts;
    let (signals, mut signalled) = mpsc::unbounded_channel();
    let mut driver = Driver {
        admin: leases.admin.clone(),
        group: leases.group.clone(),
        fence,
        link: None,
        is_up: false,
        held: Held::default(),
        attempt: None,
        attempts: 0,
        work: FuturesUnordered::new(),
        told: VecDeque::new(),
        waiting: VecDeque::new(),
        signals,
        probe: None,
        probe_at: None,
        probe_every: PROBE_EVERY,
        has_warned_of_heartbeat: false,
        last_failure: None,
    };
    loop {
        let seen = driver.link;
        // Top to bottom: a flood of commands delays neither the fence nor what is told. No branch loses anything when dropped.
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            link = driver.admin.changed_from(seen) => driver.link_changed(link),
            permit = events.reserve(), if !driver.told.is_empty() => hand_over(permit, &mut driver.told),
            Some(done) = driver.work.next(), if !driver.work.is_empty() => {
                // What was delivered before an answer came was queued before it.
                while let Ok(signal) = signalled.try_recv() {
                    driver.take_signal(signal);
                }
                driver.done(done);
                // What was asked while an attempt was under way is looked at again.
                leases.requests.changed.notify_one();
            }
            () = sleep_until(driver.probe_at.unwrap_or_else(TokioInstant::now)), if driver.probe_at.is_some() => driver.ask_whether_it_is_there(),
            // What would tell more waits until what is told is taken.
            () = leases.requests.changed.notified(), if driver.told.is_empty() => {
                driver.begin(leases.requests.take(driver.attempt.is_none()));
            }
            Some(signal) = signalled.recv(), if driver.told.is_empty() => driver.take_signal(signal),
            permit = deliveries.reserve(), if !driver.waiting.is_empty() => hand_over(permit, &mut driver.waiting),
        }
    }
    driver.end().await;
}

/// The first of them, or none where nobody takes them any more.
fn hand_over<T>(permit: Result<Permit<'_, T>, SendError<()>>, queued: &mut VecDeque<T>) {
    match permit {
        Ok(permit) => {
            if let Some(first) = queued.pop_front() {
                permit.send(first);
            }
        }
        Err(_) => queued.clear(),
    }
}

struct Driver {
    admin: Admin,
    group: Arc<str>,
    fence: crate::cluster::fence::Fence,
    /// The connection as the link last told it; may be lost already.
    link: Option<Generation>,
    /// Whether [`LeaseEvent::Connected`] was the last that was told of the connection.
    is_up: bool,
    held: Held,
    /// The attempt under way.
    attempt: Option<AttemptId>,
    attempts: u64,
    work: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    /// What is to be told.
    told: VecDeque<LeaseEvent>,
    /// One of a shard at most.
    waiting: VecDeque<Delivery>,
    /// From the consumers. Unbounded in type only: a consumer has one delivery unsettled at most, and ends once.
    signals: mpsc::UnboundedSender<Signal>,
    /// The channel on which RabbitMQ is asked whether it is there, unless a question is under way.
    probe: Option<Channel>,
    /// When to ask next, unless a question is under way or nobody is there.
    probe_at: Option<TokioInstant>,
    probe_every: Duration,
    has_warned_of_heartbeat: bool,
    /// Told in the log once, until something else happens.
    last_failure: Option<AdminError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AttemptId(u64);

/// What was asked of RabbitMQ and is answered.
enum Done {
    Attempted { attempt: AttemptId, asked: BTreeSet<ShardId>, taken: Result<Taken, AdminError> },
    GivenBack { shard: ShardId, lease: LeaseId },
    Probed { answered: Result<(Channel, Instant), AdminError>, link: Option<Generation> },
}

impl Driver {
    fn link_changed(&mut self, link: Option<Generation>) {
        self.connection_lost();
        self.link = link;
        (self.probe, self.probe_at) = (None, None);
        if link.is_some() {
            self.is_up = true;
            self.told.push_back(LeaseEvent::Connected);
            self.mind_the_heartbeat();
            self.ask_whether_it_is_there();
        }
    }

    /// The fence goes by the heartbeat that was agreed upon: the lower of ours and RabbitMQ's.
    fn mind_the_heartbeat(&mut self) {
        let heartbeat = self.admin.heartbeat();
        let valid_for = self.fence.set_heartbeat(heartbeat);
        // Two answers may be late before the fence closes.
        self.probe_every = PROBE_EVERY.min(valid_for / 4);
        if valid_for < FENCE_SHOULD_STAND && !std::mem::replace(&mut self.has_warned_of_heartbeat, true) {
            warn!(
                ?heartbeat,
                ?valid_for,
                "RabbitMQ's heartbeat is so short that shards pause as soon as RabbitMQ is slow for some seconds: \
                 set it to 10 s or more"
            );
        }
    }

    /// All leases are free again at RabbitMQ; what is answered from now on is of no worth.
    fn connection_lost(&mut self) {
        if !std::mem::take(&mut self.is_up) {
            return;
        }
        self.fence.lost(Instant::now());
        self.waiting.clear();
        for (shard, lease) in self.held.drain() {
            if lease.is_releasing {
                self.told.push_back(LeaseEvent::Released(shard));
            }
        }
        self.told.push_back(LeaseEvent::Disconnected);
        if self.attempt.take().is_some() {
            self.told.push_back(nothing_acquired());
        }
    }

    fn begin(&mut self, asked: Asked) {
        for shard in asked.release {
            self.release(shard);
        }
        let Some(shards) = asked.acquire else { return };
        if !self.is_up {
            self.told.push_back(nothing_acquired());
            return;
        }
        self.attempts += 1;
        let attempt = AttemptId(self.attempts);
        self.attempt = Some(attempt);
        let (admin, group) = (self.admin.clone(), self.group.clone());
        let wanted: Vec<ShardId> = shards.iter().copied().filter(|shard| !self.held.contains(*shard)).collect();
        self.work.push(Box::pin(async move {
            let taken = attempt::take(&admin, &group, &wanted).await;
            Done::Attempted { attempt, asked: shards, taken }
        }));
    }

    fn release(&mut self, shard: ShardId) {
        let Some(lease) = self.held.get_mut(shard) else {
            self.told.push_back(LeaseEvent::Released(shard));
            return;
        };
        if std::mem::replace(&mut lease.is_releasing, true) {
            return;
        }
        let cancelled = self.work_of_giving_back(shard, true);
        self.waiting.retain(|delivery| delivery.from != From::Shard(shard));
        self.work.extend(cancelled);
    }

    /// Cancels the consumer and gives back what it has, in this order: else RabbitMQ would deliver it to us again. Both are
    /// sent at once, so that no other consumer comes between and finds what is behind it. RabbitMQ has done it when it
    /// answers to what is asked after it on the same channel.
    fn work_of_giving_back(
        &mut self,
        shard: ShardId,
        cancel: bool,
    ) -> Option<Pin<Box<dyn Future<Output = Done> + Send>>> {
        let lease = self.held.get_mut(shard)?;
        let (id, channel, tag) = (lease.id(), lease.channel.clone(), lease.consumer.tag());
        let receipt = lease.take_unsettled();
        Some(Box::pin(async move {
            let cancelled = async {
                if cancel {
                    let _ =
                        bounded("cancel a consumer", channel.basic_cancel(tag, BasicCancelOptions::default())).await;
                }
            };
            let given_back = async { receipt.is_some_and(|receipt| receipt.requeue()) };
            let settled = bounded("give a delivery back", channel.basic_qos(PREFETCH, BasicQosOptions::default()));
            // An error means that the channel is closed, and that gives all back too.
            let _ = join3(cancelled, given_back, settled).await;
            Done::GivenBack { shard, lease: id }
        }))
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Attempted { attempt, asked, taken } => {
                // Of a connection that is lost: dropped. Where the loss is not told yet, that brings the answer.
                if self.attempt == Some(attempt) && self.stands() {
                    self.attempt = None;
                    let answer = self.take_over(asked, taken);
                    self.told.push_back(answer);
                }
            }
            Done::GivenBack { shard, lease } => {
                let Some(lease) = self.held.same(shard, lease) else { return };
                if lease.has_unsettled() {
                    // It came while the consumer was being cancelled.
                    let again = self.work_of_giving_back(shard, false);
                    self.work.extend(again);
                    return;
                }
                self.held.remove(shard);
                self.told.push_back(LeaseEvent::Released(shard));
            }
            Done::Probed { answered, link } => {
                if !self.is_up || link != self.link {
                    return;
                }
                match answered {
                    Ok((channel, asked)) if self.stands() => {
                        self.fence.answered(asked);
                        self.probe = Some(channel);
                        self.probe_at = Some(TokioInstant::from_std(asked + self.probe_every));
                    }
                    // The next question gets a channel of its own. If it is the connection, that is told soon.
                    Ok(_) | Err(_) => self.probe_at = Some(TokioInstant::now() + self.probe_every),
                }
                self.held.give_back_overdue(Instant::now());
            }
        }
    }

    /// Makes leases of what was taken; the answer to who asked for them.
    fn take_over(&mut self, asked: BTreeSet<ShardId>, taken: Result<Taken, AdminError>) -> LeaseEvent {
        let taken = match taken {
            Ok(taken) => taken,
            Err(why) => {
                let granted: Vec<_> = asked.iter().copied().filter(|shard| self.is_ours(*shard)).collect();
                let refused = asked.into_iter().filter(|shard| !granted.contains(shard)).collect();
                if self.last_failure.as_ref() != Some(&why) {
                    warn!(%why, "no shard could be taken");
                    self.last_failure = Some(why);
                }
                return LeaseEvent::Acquired { granted, refused };
            }
        };
        self.last_failure = None;
        for (shard, consumer) in taken.consumers {
            let signals = self.signals.clone();
            let handle = consumer.clone();
            let lease = self.held.insert(shard, taken.channel.clone(), consumer);
            // What was delivered so far is handed to it at once.
            handle.set_delegate(move |delivered: DeliveryResult| {
                let what = match delivered {
                    Ok(Some(delivered)) => Some(What::Delivered(Box::new(delivered))),
                    Ok(None) => Some(What::Ended),
                    // The end follows.
                    Err(_) => None,
                };
                if let Some(what) = what {
                    // Nobody listens any more when the driver has ended, and the channel closes then.
                    let _ = signals.send(Signal { shard, lease, what });
                }
                ready(())
            });
        }
        let (granted, refused) = asked.into_iter().partition(|shard| self.is_ours(*shard));
        LeaseEvent::Acquired { granted, refused }
    }

    fn take_signal(&mut self, signal: Signal) {
        let Signal { shard, lease, what } = signal;
        let Some(lease) = self.held.same(shard, lease) else { return };
        match what {
            What::Delivered(delivered) => {
                let delivery = lease.delivered(shard, *delivered, Instant::now());
                if !lease.is_releasing {
                    self.waiting.push_back(delivery);
                }
            }
            // Our own cancelling is answered apart.
            What::Ended if lease.is_releasing => {}
            What::Ended if self.stands() => {
                info!(%shard, "RabbitMQ took the lease of a shard back: its queue was deleted or its channel closed");
                self.waiting.retain(|delivery| delivery.from != From::Shard(shard));
                self.held.remove(shard);
                match self.told.back_mut() {
                    Some(LeaseEvent::Lost(shards)) => shards.push(shard),
                    _ => self.told.push_back(LeaseEvent::Lost(vec![shard])),
                }
            }
            What::Ended => self.connection_lost(),
        }
    }

    fn ask_whether_it_is_there(&mut self) {
        self.probe_at = None;
        let (admin, channel, link) = (self.admin.clone(), self.probe.take(), self.link);
        self.work.push(Box::pin(async move { Done::Probed { answered: probe(&admin, channel).await, link } }));
    }

    /// Whether the connection that we know is the one there is.
    fn stands(&self) -> bool {
        self.is_up && self.link.is_some() && self.admin.generation() == self.link
    }

    fn is_ours(&mut self, shard: ShardId) -> bool {
        self.held.get_mut(shard).is_some_and(|lease| !lease.is_releasing)
    }

    /// Gives everything back: a closed channel frees its consumers and what they held in one step.
    async fn end(mut self) {
        self.fence.lost(Instant::now());
        self.work.clear();
        let mut channels: Vec<Arc<Channel>> = Vec::new();
        for (_, Lease { channel, .. }) in self.held.drain() {
            if !channels.iter().any(|known| Arc::ptr_eq(known, &channel)) {
                channels.push(channel);
            }
        }
        let closing = channels.iter().map(|channel| bounded("close a channel", channel.close(200, "OK".into())));
        // Lost or refused, it is closed all the same.
        join_all(closing).await;
    }
}

/// A question that RabbitMQ answers and that changes nothing; gives the channel for the next, and when it was asked.
async fn probe(admin: &Admin, channel: Option<Channel>) -> Result<(Channel, Instant), AdminError> {
    let channel = match channel {
        Some(channel) => channel,
        None => admin.channel().await?,
    };
    let asked = Instant::now();
    bounded("answer", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
    Ok((channel, asked))
}

fn nothing_acquired() -> LeaseEvent {
    LeaseEvent::Acquired { granted: Vec::new(), refused: Vec::new() }
}
