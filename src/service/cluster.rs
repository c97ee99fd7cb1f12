//! This process's part in the cluster: what happens is told to the member, and what the member decides is carried out.
//!
//! ```text
//! leases ──┐                       ┌──► leases: acquire, release
//! bus ─────┼──► member (decides) ──┼──► bus: announce, watch
//! shards ──┘                       └──► pool: start, stop, abandon      fence: certain or not
//! ```
//!
//! Decides nothing by itself, but for one thing: a process all of whose shards Discord refused ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::ServiceError;
use super::pool::Pool;
use super::reshard::Reshard;
use super::view::View;
use crate::amqp::bus::{Bus, BusEvent};
use crate::amqp::leases::{LeaseEvent, Leases};
use crate::cluster::agreement::Record;
use crate::cluster::announcement::Announcement;
use crate::cluster::change::Change;
use crate::cluster::fence::Fence;
use crate::cluster::member::{Action, Member, Notice, Want};
use crate::discord::ids::{Shard, ShardId};
use crate::discord::session::End;

/// After the order to end, everything is to be handed over within this; a shard's own end takes 3 s at most.
const LEAVING: Duration = Duration::from_secs(4);

/// After a connection, a process that has no shard by then has no share.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// What comes from RabbitMQ.
pub(super) struct Ears {
    pub(super) leases: mpsc::Receiver<LeaseEvent>,
    pub(super) bus: mpsc::Receiver<BusEvent>,
}

/// What goes there, and how both connections' parts are.
pub(super) struct Links {
    pub(super) leases: Leases,
    pub(super) bus: Bus,
    pub(super) leases_are_up: bool,
    pub(super) bus_is_up: bool,
    /// Whether the member was told that it is connected. It loses that with the leases alone: without the bus it is deaf for a
    /// while, and holds what it holds.
    pub(super) connected: bool,
}

/// The cluster as seen from this process.
pub(super) struct Cluster {
    pub(super) member: Member,
    pub(super) want: Want,
    pub(super) shard_count: u32,
    pub(super) links: Links,
    pub(super) ears: Ears,
    pub(super) fence: Fence,
    pub(super) pool: Pool,
    pub(super) view: Arc<View>,
    /// The leases that are held, as far as was told.
    pub(super) held: BTreeSet<ShardId>,
    /// Shards that Discord refused for good.
    pub(super) refused: BTreeMap<ShardId, End>,
    /// For when the bot gets another number of shards.
    pub(super) reshard: Reshard,
    /// Leases that the member wants, to be asked for once it is known that the number of shards stays.
    pub(super) postponed: Option<Vec<ShardId>>,
    /// When it counts as known which shards are to run here, though no lease was granted or refused.
    pub(super) settled_at: Option<Instant>,
}

/// What was waited for.
enum Happened {
    Stop,
    Lease(Option<LeaseEvent>),
    Bus(Option<BusEvent>),
    Ended(Option<Result<(ShardId, End), ServiceError>>),
    Looked(Option<Record>),
    Cleared,
    Settled,
    Due,
    TooLate,
}

impl Cluster {
    /// Takes part until `stop`, and then hands everything over.
    ///
    /// # Errors
    /// No shard can run, or one of them panicked.
    pub(super) async fn run(mut self, stop: CancellationToken, intake: CancellationToken) -> Result<(), ServiceError> {
        let mut result = Ok(());
        let mut leaving = None;
        // Between our joining and our listening it may have changed.
        self.reshard.looks.look(&self.reshard.record);
        self.tell_connection(Instant::now());
        let mut begins_anew = false;
        loop {
            if self.carry_out() {
                if !begins_anew || leaving.is_some() || !self.begin_anew(&stop).await? {
                    return result;
                }
                begins_anew = false;
                continue;
            }
            let happened = self.next(&stop, leaving).await;
            let now = Instant::now();
            match happened {
                Happened::Stop => {
                    leaving = Some(now + LEAVING);
                    self.view.stopping.cancel();
                    intake.cancel();
                    self.member.leave(now);
                }
                Happened::Lease(Some(event)) => self.lease(event, now),
                Happened::Bus(Some(event)) => self.heard(event, now),
                // Their tasks failed, and whoever waits for those ends the service.
                Happened::Lease(None) | Happened::Bus(None) => return result.and(self.end_shards().await),
                Happened::Ended(None) => {}
                Happened::Ended(Some(Err(failure))) => {
                    result = result.and(Err(failure));
                    stop.cancel();
                }
                Happened::Ended(Some(Ok((shard, End::ShutDown)))) => self.member.stopped(shard, now),
                Happened::Ended(Some(Ok((shard, end)))) => {
                    self.refused.insert(shard, end.clone());
                    self.member.ended(shard, now);
                    if leaving.is_none() && !begins_anew && self.nothing_can_run() {
                        result = result.and(Err(ServiceError::NoShardLeft(end)));
                        stop.cancel();
                    }
                }
                Happened::Looked(record) => {
                    let postponed = self.postponed.take();
                    if self.reshard.looked(record) {
                        begins_anew = true;
                        self.view.waits_for("the number of shards is being changed".to_owned());
                        self.member.leave(now);
                        if let Some(shards) = postponed {
                            self.member.acquired(&[], &shards, now);
                        }
                    } else {
                        self.clear_leftovers();
                        match postponed {
                            Some(shards) if !self.reshard.looks.is_under_way() => self.links.leases.acquire(&shards),
                            postponed => self.postponed = postponed,
                        }
                    }
                }
                Happened::Cleared => {}
                Happened::Settled => self.settled(),
                Happened::Due => self.member.handle_timeout(now),
                Happened::TooLate => {
                    warn!("not every shard was handed over in time; others take them over as of a process that died");
                    return result;
                }
            }
        }
    }

    /// Ends all shards without the cluster's help.
    async fn end_shards(&mut self) -> Result<(), ServiceError> {
        self.pool.stop_all();
        let mut result = Ok(());
        while let Some(ended) = self.pool.next_ended().await {
            result = result.and(ended.map(drop));
        }
        result
    }

    async fn next(&mut self, stop: &CancellationToken, leaving: Option<Instant>) -> Happened {
        let deadline = self.member.deadline();
        // Cancel safe, all of it. What tells of lost leases comes before what was heard of others.
        tokio::select! {
            biased;
            () = stop.cancelled(), if leaving.is_none() => Happened::Stop,
            event = self.ears.leases.recv() => Happened::Lease(event),
            ended = self.pool.next_ended(), if !self.pool.is_empty() => Happened::Ended(ended),
            event = self.ears.bus.recv() => Happened::Bus(event),
            record = self.reshard.looks.looked() => Happened::Looked(record),
            () = self.reshard.former.cleared() => Happened::Cleared,
            () = at(deadline) => Happened::Due,
            () = at(self.settled_at) => Happened::Settled,
            () = at(leaving) => Happened::TooLate,
        }
    }

    /// It is known which shards are to run here.
    fn settled(&mut self) {
        if self.settled_at.take().is_some() {
            self.view.joined();
        }
    }

    fn lease(&mut self, event: LeaseEvent, now: Instant) {
        match event {
            LeaseEvent::Connected => self.links.leases_are_up = true,
            LeaseEvent::Disconnected => {
                self.links.leases_are_up = false;
                self.held.clear();
            }
            LeaseEvent::Acquired { granted, refused } => {
                self.settled();
                self.held.extend(&granted);
                self.member.acquired(&granted, &refused, now);
                self.clear_leftovers();
            }
            LeaseEvent::Released(shard) => {
                self.held.remove(&shard);
                self.member.released(shard, now);
            }
            LeaseEvent::Lost(shards) => {
                self.held.retain(|shard| !shards.contains(shard));
                self.member.lease_lost(&shards, now);
            }
        }
        self.tell_connection(now);
    }

    fn heard(&mut self, event: BusEvent, now: Instant) {
        match event {
            BusEvent::Up => self.links.bus_is_up = true,
            BusEvent::Down => self.links.bus_is_up = false,
            BusEvent::Message(text) => match (Change::from_json(&text), Announcement::from_json(&text)) {
                (Some(change), _) => self.reshard.hear(change.generation),
                // It has begun anew, as we are about to.
                (None, Ok(said)) if said.generation > self.reshard.agreed.generation => {
                    self.reshard.hear(said.generation);
                }
                (None, Ok(said)) => {
                    if self.want == Want::Fair {
                        self.view.run_elsewhere(&said.owned);
                    }
                    self.member.heard(said, now);
                }
                (None, Err(error)) => self.member.unreadable(&error, now),
            },
            BusEvent::Gone(node) => self.member.gone(&node, now),
        }
        self.tell_connection(now);
    }

    pub(super) fn tell_connection(&mut self, now: Instant) {
        let Links { leases_are_up, bus_is_up, connected, .. } = &mut self.links;
        match (*connected, *leases_are_up) {
            (false, true) if *bus_is_up => {
                *connected = true;
                self.settled_at = Some(now + SETTLED_AFTER);
                // What was said meanwhile is lost.
                self.reshard.looks.look(&self.reshard.record);
                self.member.connected(now);
            }
            (true, false) => {
                *connected = false;
                self.member.disconnected(now);
                if self.postponed.take().is_some() {
                    self.member.acquired(&[], &[], now);
                }
            }
            _ => {}
        }
    }

    /// Does what the member wants; whether it has left.
    fn carry_out(&mut self) -> bool {
        while let Some(action) = self.member.poll_action() {
            match action {
                Action::Announce(announcement) => self.links.bus.publish(announcement.to_json()),
                // What others give back for a change is not to be taken, nor what we had before one that we did not hear of.
                Action::Acquire(shards) if self.reshard.looks.is_under_way() => self.postponed = Some(shards),
                Action::Acquire(shards) => self.links.leases.acquire(&shards),
                Action::Start(shard) => match Shard::new(shard, self.shard_count) {
                    Some(shard) => self.pool.start(shard),
                    None => debug_assert!(false, "no shard {shard} of {}", self.shard_count),
                },
                Action::Stop(shard) => self.pool.stop(shard),
                Action::Abandon(shard) => self.pool.abandon(shard),
                Action::Release(shard) => {
                    self.refused.remove(&shard);
                    self.reshard.former.released(shard);
                    self.view.shard_left(shard);
                    self.links.leases.release(shard);
                }
                Action::Forget(shard) => {
                    self.refused.remove(&shard);
                    self.view.shard_left(shard);
                }
                Action::Certain(certain) => self.fence.set_certain(certain),
                Action::Watch(nodes) => self.links.bus.watch(nodes),
                Action::Notice(notice) => self.tell(&notice),
                Action::Left => return true,
            }
        }
        false
    }

    fn clear_leftovers(&mut self) {
        let Reshard { former, leftovers, .. } = &mut self.reshard;
        former.clear(&self.held, self.shard_count, leftovers);
    }

    fn tell(&self, notice: &Notice) {
        if let Notice::HeldByOther { shards, holder } = notice {
            let by = holder.as_deref().unwrap_or("a consumer that is no process of this group");
            shards.iter().for_each(|shard| self.view.held(*shard, by.to_owned()));
        }
        match notice {
            notice if notice.is_warning() => warn!("{notice}"),
            Notice::GivenUp(_) => debug!("{notice}"),
            _ => info!("{notice}"),
        }
    }

    /// Whether every shard that this process has, and all that it is set to run, was refused by Discord.
    fn nothing_can_run(&self) -> bool {
        let wanted = match &self.want {
            Want::These(shards) => shards,
            Want::Fair => &self.held,
        };
        self.pool.is_empty() && wanted.iter().chain(&self.held).all(|shard| self.refused.contains_key(shard))
    }
}

/// Waits until then; for ever, if there is no such time.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
