//! Another shard count for a bot that runs: `optic reshard` changes the record, and all processes begin anew with it.
//!
//! ```text
//! told of a later record ─► look at it ─► leave: all shards stop, all leases are given back
//!                                                          │
//!             a member anew ◄── the others have left too ◄─┘
//! ```
//!
//! No shard of the new count runs while one of the old one does, anywhere: their guilds are the same. Spec: spec/cluster.md,
//! "Changing the shard count".

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::cluster::Cluster;
use super::join::declare_commands;
use super::leftovers::{Clearing, Leftovers};
use super::{FIRST_RETRY, LONGEST_RETRY, ServiceError, amybot, until};
use crate::amqp::admin::Admin;
use crate::amqp::bus::BusEvent;
use crate::amqp::leases::LeaseEvent;
use crate::amqp::record::ClusterRecord;
use crate::amybot::optics::Runs;
use crate::cluster::agreement::{Agreed, Alive, Record};
use crate::cluster::announcement::{Announcement, Mode};
use crate::cluster::change::Change;
use crate::cluster::member::{Member, Settings, Want};
use crate::cluster::node::NodeId;
use crate::config::ShardPlan;
use crate::discord::commands::Commands;
use crate::discord::ids::ShardId;
use crate::spectacles::events::Events;

/// Who waits for others says so this often, for those that did not hear it.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

/// What a process needs to begin anew, and what it knows of the record.
pub(super) struct Reshard {
    pub(super) node: NodeId,
    pub(super) name: String,
    pub(super) mode: Mode,
    pub(super) plan: ShardPlan,
    pub(super) group: String,
    /// Over the connection that an alarm does not block: it is only read.
    pub(super) record: ClusterRecord,
    pub(super) administration: Admin,
    pub(super) events: Arc<Events>,
    /// What this process runs, for whoever coordinates amybot's services.
    pub(super) runs: watch::Sender<Runs>,
    pub(super) commands: Arc<Commands>,
    pub(super) leftovers: Arc<Leftovers>,
    /// What this process goes by.
    pub(super) agreed: Agreed,
    /// The count that comes after it, once that is known.
    pub(super) next: Option<u32>,
    pub(super) looks: Looks,
    pub(super) former: Former,
}

/// Looks at the record.
#[derive(Default)]
pub(super) struct Looks {
    under_way: Option<Pin<Box<dyn Future<Output = Option<Record>> + Send>>>,
    /// The latest generation that was heard of.
    heard: u64,
    /// Something was heard while a look was under way, which may have come too early for it.
    again: bool,
}

/// Shards that the bot has no more, and the clearing away after them.
#[derive(Default)]
pub(super) struct Former {
    shards: std::ops::Range<u32>,
    /// The shards whose part is under way, or done.
    begun: BTreeSet<ShardId>,
    clearing: FuturesUnordered<Clearing>,
}

impl Looks {
    /// Looks at the record, unless that is under way.
    pub(super) fn look(&mut self, record: &ClusterRecord) {
        if self.under_way.is_none() {
            self.under_way = Some(Box::pin(read(record.clone())));
        }
    }

    /// Whether a look is under way: what it brings decides whether leases are asked for at all.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What the record says, when it was looked at. Cancel safe.
    pub(super) async fn looked(&mut self) -> Option<Record> {
        let Some(look) = &mut self.under_way else { return pending().await };
        let record = look.await;
        self.under_way = None;
        record
    }

    fn hear(&mut self, generation: u64) {
        self.heard = self.heard.max(generation);
    }
}

impl Former {
    /// The part of each shard that runs here.
    pub(super) fn clear(&mut self, held: &BTreeSet<ShardId>, shard_count: u32, leftovers: &Arc<Leftovers>) {
        if self.shards.is_empty() {
            return;
        }
        for shard in held.iter().filter(|shard| shard.get() < shard_count) {
            if !self.begun.insert(*shard) {
                continue;
            }
            let ours = self.shards.clone().filter(|former| former % shard_count == shard.get()).map(ShardId::new);
            self.clearing.push(leftovers.clone().clear(ours.collect()));
        }
    }

    /// Waits for an end of a clearing. Cancel safe.
    pub(super) async fn cleared(&mut self) {
        if self.clearing.next().await.is_none() {
            pending().await
        }
    }

    pub(super) fn released(&mut self, shard: ShardId) {
        self.begun.remove(&shard);
    }
}

impl Reshard {
    /// What somebody said is the generation of the record.
    pub(super) fn hear(&mut self, generation: u64) {
        self.looks.hear(generation);
        if generation > self.agreed.generation {
            self.looks.again |= self.looks.is_under_way();
            self.looks.look(&self.record);
        }
    }

    /// Takes in what the record says; whether this process is to begin anew.
    pub(super) fn looked(&mut self, record: Option<Record>) -> bool {
        match record {
            Some(record) if record.generation > self.agreed.generation => {
                info!(shards = record.shard_count, set_by = record.set_by, "the bot gets another number of shards");
                self.looks.hear(record.generation);
                self.next = Some(record.shard_count);
                true
            }
            record => {
                // Whoever said so was wrong, or the record is lost: it stays as it is.
                self.looks.heard = self.agreed.generation;
                if let Some(record) = record.filter(|record| record.agreed() == self.agreed) {
                    self.former.shards = record.former_shards();
                }
                if std::mem::take(&mut self.looks.again) {
                    self.looks.look(&self.record);
                }
                false
            }
        }
    }

    fn announcement(&self, agreed: Agreed, leaving: bool, sequence: u64) -> Announcement {
        Announcement {
            node: self.node.clone(),
            name: self.name.clone(),
            mode: self.mode,
            shard_count: agreed.shard_count,
            generation: agreed.generation,
            owned: BTreeSet::new(),
            leaving,
            hello: !leaving,
            settling: true,
            sequence,
        }
    }

    /// A setting that would not let this process join again.
    fn warn_of_setting(&self, shard_count: u32) {
        if let Some(set) = self.plan.count().filter(|set| *set != shard_count) {
            warn!(
                "this process is set to {set} shards, and the bot has {shard_count} now: set DISCORD_SHARD_COUNT={shard_count} \
                 before it starts the next time, or unset it; until then it goes by what the bot has"
            );
        }
        if self.plan.ids().is_some() {
            warn!(
                "this process is set to certain shards, of which another count may need others: see that each is run"
            );
        }
    }
}

impl Cluster {
    /// Nothing runs here any more. Waits until that is so everywhere, then is a member anew, with what the record says; `false`
    /// if `stop` comes first.
    ///
    /// # Errors
    /// The shards that this process is set to run are not there any more.
    pub(super) async fn begin_anew(&mut self, stop: &CancellationToken) -> Result<bool, ServiceError> {
        self.reshard.former = Former::default();
        // Before anybody can know that we have left: nothing is sent to a shard that is no more.
        if let Some(next) = self.reshard.next.take() {
            self.reshard.commands.set_shard_count(next);
        }
        let mut sequence = self.member.sequence();
        let joined = self.member.others();
        let mut others: BTreeMap<NodeId, Alive> = joined.map(|said| (said.node.clone(), Alive::from(said))).collect();
        let record = loop {
            self.view.waits_for("the number of shards is being changed".to_owned());
            let Some(read) = until(stop, read(self.reshard.record.clone())).await else { return Ok(false) };
            let Some(record) = read.filter(|record| record.generation > self.reshard.agreed.generation) else {
                // It was lost meanwhile. Nobody has an older one.
                if until(stop, tokio::time::sleep(FIRST_RETRY)).await.is_none() {
                    return Ok(false);
                }
                continue;
            };
            // What was heard of before is in it; what was only said is not waited for in a circle.
            self.reshard.looks.heard = record.generation;
            let waited = self.wait_for_the_others(record.agreed(), &mut others, &mut sequence);
            if until(stop, waited).await.is_none() {
                let goodbye = self.reshard.announcement(record.agreed(), true, sequence + 1);
                self.links.bus.publish(goodbye.to_json());
                return Ok(false);
            }
            if self.reshard.looks.heard <= record.generation {
                break record;
            }
        };
        self.reshard.warn_of_setting(record.shard_count);
        let mine: BTreeSet<ShardId> =
            self.reshard.plan.shards_of(record.shard_count)?.iter().map(|shard| shard.id()).collect();
        let declared = declare_commands(&self.reshard.administration, &self.reshard.group, record.shard_count);
        if until(stop, declared).await.is_none() {
            return Ok(false);
        }
        info!(shards = record.shard_count, generation = record.generation, "beginning anew");
        self.start_over(&record, mine, sequence);
        Ok(true)
    }

    /// Until nobody runs shards of before.
    async fn wait_for_the_others(&mut self, agreed: Agreed, others: &mut BTreeMap<NodeId, Alive>, sequence: &mut u64) {
        let mut announce_at = Instant::now();
        let mut said = None;
        loop {
            let behind = |other: &&Alive| other.agreed.generation < agreed.generation;
            if self.reshard.looks.heard > agreed.generation {
                return;
            }
            let names: Vec<&str> = others.values().filter(behind).map(|other| other.name.as_str()).collect();
            let is_done = names.is_empty();
            if !is_done {
                let why = format!("waiting until {} run no shard of before the change", names.join(", "));
                if said.as_ref() != Some(&why) {
                    info!("{why}");
                    self.view.waits_for(why.clone());
                    said = Some(why);
                }
            }
            let now = Instant::now();
            if announce_at <= now || is_done {
                announce_at = now + ANNOUNCE_EVERY;
                *sequence += 1;
                let here = self.reshard.announcement(agreed, false, *sequence);
                self.links.bus.publish(here.to_json());
                self.links.bus.watch(others.keys().cloned().collect());
            }
            if is_done {
                return;
            }
            tokio::select! {
                event = self.ears.leases.recv() => match event {
                    Some(event) => self.note_lease(&event),
                    None => pending().await,
                },
                event = self.ears.bus.recv() => match event {
                    Some(event) => {
                        if self.note_other(event, others) {
                            announce_at = Instant::now();
                        }
                    }
                    None => pending().await,
                },
                () = tokio::time::sleep_until(announce_at.into()) => {}
            }
        }
    }

    fn note_lease(&mut self, event: &LeaseEvent) {
        match event {
            LeaseEvent::Connected => self.links.leases_are_up = true,
            LeaseEvent::Disconnected => self.links.leases_are_up = false,
            // Nothing is held and nothing is asked for.
            LeaseEvent::Acquired { .. } | LeaseEvent::Released(_) | LeaseEvent::Lost(_) => {}
        }
    }

    /// Whether somebody wants to know who is there.
    fn note_other(&mut self, event: BusEvent, others: &mut BTreeMap<NodeId, Alive>) -> bool {
        match event {
            BusEvent::Up => self.links.bus_is_up = true,
            BusEvent::Down => self.links.bus_is_up = false,
            BusEvent::Gone(node) => _ = others.remove(&node),
            BusEvent::Message(text) => match (Change::from_json(&text), Announcement::from_json(&text)) {
                (Some(change), _) => self.reshard.looks.hear(change.generation),
                (None, Ok(said)) if said.is_newcomer() => return true,
                (None, Ok(said)) if said.is_goodbye() => _ = others.remove(&said.node),
                (None, Ok(said)) if said.node != self.reshard.node => {
                    self.reshard.looks.hear(said.generation);
                    others.insert(said.node.clone(), Alive::from(&said));
                }
                // Our own; or what cannot be read, which the member tells of.
                (None, _) => {}
            },
        }
        false
    }

    fn start_over(&mut self, record: &Record, mine: BTreeSet<ShardId>, sequence: u64) {
        let now = Instant::now();
        let Record { shard_count, generation, .. } = *record;
        self.reshard.agreed = record.agreed();
        self.reshard.events.set_shard_count(shard_count);
        self.view.set_shard_count(shard_count);
        self.reshard.commands.set_shard_count(shard_count);
        if let Want::These(shards) = &mut self.want {
            *shards = mine;
        }
        self.reshard.runs.send_modify(|told| *told = amybot::runs(told, &self.want, shard_count));
        let settings = Settings {
            node: self.reshard.node.clone(),
            name: self.reshard.name.clone(),
            shard_count,
            generation,
            want: self.want.clone(),
            running: BTreeSet::new(),
        };
        self.member = Member::new(settings, now).counting_from(sequence);
        self.shard_count = shard_count;
        self.held.clear();
        self.refused.clear();
        self.links.connected = false;
        self.tell_connection(now);
        self.reshard.looks.look(&self.reshard.record);
    }
}

/// What the record says, as soon as it can be read.
async fn read(record: ClusterRecord) -> Option<Record> {
    let mut delay = FIRST_RETRY;
    loop {
        match record.read().await {
            Ok(text) => match text.as_deref().map(Record::from_json).transpose() {
                Ok(record) => return record,
                Err(error) => {
                    warn!(%error, "the number of shards is not looked at");
                    return None;
                }
            },
            Err(error) => {
                warn!(%error, again_in = ?delay, "the number of shards cannot be looked at");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(LONGEST_RETRY);
            }
        }
    }
}
