//! One process among the processes of its bot: which leases it asks for, runs, hands over and gives back.
//!
//! Knows no broker and no clock: the driver hands in what happened and when, and carries [`Action`]s out. What may be run
//! is the broker's word alone, by the leases; announcements only say what is worth asking for. So whatever others say, or
//! do not say, no shard runs twice. Rules: spec/cluster.md.
//!
//! ```text
//! connected ─► hello, and former leases at once ─► settling: listens who is there ─► sharing ─► leave ─► Left
//!      ▲                                                                                │
//!      └──────── disconnected: all leases in doubt, the fence is closed ◄───────────────┘
//! ```
//!
//! A driver carries all actions out after each call, then sleeps until something comes or the deadline passes. It may be
//! late, and what piled up meanwhile may come in any order.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::announcement::{Announcement, AnnouncementError, Mode};
use super::node::NodeId;
use crate::discord::ids::ShardId;

mod action;
mod asking;
mod handover;
#[cfg(test)]
mod model;
mod others;
mod own;
#[cfg(test)]
mod properties;
mod sharing;
#[cfg(test)]
mod tests;

pub use self::action::{Action, Notice, Settings, Want};

use self::asking::Asking;
use self::handover::Handovers;
use self::others::{Heard, Others};
use self::own::{Own, State};

/// For how long one that joins listens before it takes shards. All others answer its hello well within.
pub const SETTLE: Duration = Duration::from_secs(1);
/// The same for one that comes back: if RabbitMQ was away, the others are on their way to their former shards.
pub const SETTLE_AGAIN: Duration = Duration::from_secs(4);
/// An announcement comes this often, changes or not.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);
/// Changes within this are one announcement, and one look at what to do.
const COALESCE: Duration = Duration::from_millis(20);
/// An answer to hello waits for more of them, the longer the more processes there are.
const ANSWER: Duration = Duration::from_millis(20);
const ANSWER_EACH: Duration = Duration::from_millis(5);
const LONGEST_ANSWER: Duration = Duration::from_millis(400);
/// A deadline that is missed by this much: the process was paused, and what it knows of others is old.
const SLEPT: Duration = Duration::from_secs(2);
/// Versions that were told of; more are not told.
const MOST_VERSIONS: usize = 8;

/// One process's part in the cluster; see the module's head.
#[derive(Debug)]
pub struct Member {
    node: NodeId,
    name: String,
    shard_count: u32,
    generation: u64,
    want: Want,
    connected: bool,
    leaving: bool,
    left: bool,
    own: Own,
    /// Shards whose drivers ended for good: not started again, unless another process had them since.
    ended: BTreeSet<ShardId>,
    others: Others,
    asking: Asking,
    handovers: Handovers,
    /// Until when we listen before we take a share, if we do.
    settling: Option<Instant>,
    has_settled: bool,
    sequence: u64,
    /// When to announce next; `None` while that is in vain.
    announce_at: Option<Instant>,
    /// When to look at what there is to do.
    look_at: Option<Instant>,
    actions: VecDeque<Action>,
    told_certain: bool,
    told_versions: BTreeSet<u64>,
    watch_changed: bool,
}

impl Member {
    /// A process that is not connected yet.
    pub fn new(settings: Settings, _now: Instant) -> Self {
        let Settings { node, name, shard_count, generation, want, running } = settings;
        Self {
            node,
            name,
            shard_count,
            generation,
            connected: false,
            leaving: false,
            left: false,
            own: Own::running(running),
            ended: BTreeSet::new(),
            others: Others::default(),
            asking: Asking::new(want != Want::Fair),
            want,
            handovers: Handovers::default(),
            settling: None,
            has_settled: false,
            sequence: 0,
            announce_at: None,
            look_at: None,
            actions: VecDeque::new(),
            told_certain: false,
            told_versions: BTreeSet::new(),
            watch_changed: false,
        }
    }

    /// A process that was a member before: its announcements go on counting, so that none of them is taken for an old one.
    #[must_use]
    pub fn counting_from(self, sequence: u64) -> Self {
        Self { sequence, ..self }
    }

    /// The number of its last announcement.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The other processes that live, as they last announced themselves.
    pub fn others(&self) -> impl Iterator<Item = &Announcement> {
        self.others.iter().map(|other| &other.said)
    }

    // ---- the connection that holds the leases ----

    /// The leases' connection is up, and announcements are heard.
    pub fn connected(&mut self, now: Instant) {
        if self.left {
            return;
        }
        // Whoever connects anew holds nothing of before.
        self.lose_connection();
        self.connected = true;
        self.settle(if self.has_settled { SETTLE_AGAIN } else { SETTLE }, now);
        self.look(now);
    }

    /// The leases' connection is lost: RabbitMQ has freed every lease, or will.
    pub fn disconnected(&mut self, _now: Instant) {
        self.lose_connection();
        self.finish();
    }

    fn lose_connection(&mut self) {
        self.connected = false;
        self.announce_at = None;
        self.look_at = None;
        self.asking.disconnected();
        self.handovers.clear();
        let all: Vec<ShardId> = self.own.iter().map(|(shard, _)| shard).collect();
        all.into_iter().for_each(|shard| self.lose(shard));
    }

    /// The lease is not known to be ours any more.
    fn lose(&mut self, shard: ShardId) {
        match self.own.get(shard) {
            Some(State::Running | State::Doubtful) if !self.leaving => self.own.set(shard, State::Doubtful),
            Some(State::Running | State::Doubtful | State::Stopping) => self.abandon(shard),
            Some(State::Releasing | State::Ended) => self.own.remove(shard),
            Some(State::Abandoning) | None => {}
        }
    }

    fn abandon(&mut self, shard: ShardId) {
        self.own.set(shard, State::Abandoning);
        self.actions.push_back(Action::Abandon(shard));
    }

    // ---- the leases ----

    /// The answer to [`Action::Acquire`], always given; after a lost connection it may be empty.
    pub fn acquired(&mut self, granted: &[ShardId], refused: &[ShardId], now: Instant) {
        self.wake(now);
        let answer = self.asking.answered(granted, refused, now);
        let owned = (self.own.count(State::is_owned), answer.granted.len());
        let (mut taken, mut lost) = (BTreeSet::new(), BTreeSet::new());
        for shard in answer.granted {
            let runs = self.own.get(shard) == Some(State::Doubtful);
            match (runs, self.leaving) {
                (true, false) => self.own.set(shard, State::Running),
                (true, true) => self.stop(shard),
                (false, true) => self.release(shard),
                (false, false) if self.ended.contains(&shard) => self.own.set(shard, State::Ended),
                (false, false) => {
                    self.own.set(shard, State::Running);
                    self.actions.push_back(Action::Start(shard));
                    taken.insert(shard);
                }
            }
        }
        for shard in &answer.refused {
            if self.own.get(*shard) == Some(State::Doubtful) {
                self.abandon(*shard);
                lost.insert(*shard);
            }
        }
        if self.leaving {
            // Nobody will ask for them again.
            self.own.all(State::Doubtful).into_iter().for_each(|shard| self.abandon(shard));
        }
        for (shards, notice) in [(taken, Notice::Taken as fn(_) -> _), (lost, Notice::Lost)] {
            if !shards.is_empty() {
                self.notice(notice(shards));
            }
        }
        self.tell_refused(&answer.refused, now);
        if owned != (self.own.count(State::is_owned), 0) {
            self.changed(now);
        }
        self.look(now);
        self.finish();
    }

    /// Single leases were lost, though the connection stands.
    pub fn lease_lost(&mut self, shards: &[ShardId], now: Instant) {
        self.wake(now);
        for shard in shards {
            self.asking.lost(*shard);
            self.lose(*shard);
        }
        self.changed(now);
        self.look(now);
        self.finish();
    }

    /// The answer to [`Action::Release`].
    pub fn released(&mut self, shard: ShardId, now: Instant) {
        self.wake(now);
        if self.own.get(shard) != Some(State::Releasing) {
            return;
        }
        self.own.remove(shard);
        self.handovers.released(shard, now);
        self.changed(now);
        self.finish();
    }

    // ---- the shards' drivers ----

    /// The driver of a shard that was told to [`Action::Stop`] or to [`Action::Abandon`] has ended.
    pub fn stopped(&mut self, shard: ShardId, now: Instant) {
        self.wake(now);
        match self.own.get(shard) {
            Some(State::Stopping) => self.release(shard),
            Some(State::Abandoning) => {
                self.own.remove(shard);
                self.look_by(now + COALESCE);
            }
            Some(State::Running | State::Doubtful | State::Releasing | State::Ended) | None => {}
        }
        self.finish();
    }

    /// The driver of a shard ended for good by itself. Its lease is kept, so that nobody else tries it in a circle.
    pub fn ended(&mut self, shard: ShardId, now: Instant) {
        self.wake(now);
        self.ended.insert(shard);
        match self.own.get(shard) {
            Some(State::Running) => self.own.set(shard, State::Ended),
            // It is asked for again, but not to run it.
            Some(State::Doubtful) => self.own.remove(shard),
            Some(State::Stopping) => self.release(shard),
            Some(State::Abandoning) => self.own.remove(shard),
            Some(State::Releasing | State::Ended) | None => {}
        }
        self.look_by_if_connected(now);
        self.finish();
    }

    /// Another process says that it has this shard: if it had ended here for good, that is over. A refusal alone does not say so:
    /// RabbitMQ may hold the lease for a former connection of ours.
    fn forget_ended(&mut self, shard: ShardId) {
        if self.own.get(shard).is_none() && self.ended.remove(&shard) {
            self.actions.push_back(Action::Forget(shard));
        }
    }

    fn stop(&mut self, shard: ShardId) {
        self.own.set(shard, State::Stopping);
        self.actions.push_back(Action::Stop(shard));
    }

    fn release(&mut self, shard: ShardId) {
        self.own.set(shard, State::Releasing);
        self.actions.push_back(Action::Release(shard));
    }

    // ---- the others ----

    /// Somebody announced something; own announcements are passed over.
    pub fn heard(&mut self, said: Announcement, now: Instant) {
        self.wake(now);
        if self.left || said.node == self.node {
            return;
        }
        if said.is_goodbye() {
            return self.gone(&said.node, now);
        }
        if said.is_newcomer() {
            return self.answer_by(now);
        }
        if !self.is_stranger(&said) {
            let theirs: Vec<ShardId> = self.ended.intersection(&said.owned).copied().collect();
            theirs.into_iter().for_each(|shard| self.forget_ended(shard));
        }
        let (node, hello) = (said.node.clone(), said.hello);
        match self.others.heard(said, now) {
            Heard::Nothing => return,
            Heard::Alive => {}
            Heard::New => {
                self.watch_changed = true;
                self.greet(&node);
                self.look_by_if_connected(now + COALESCE);
            }
            Heard::Changed { freed } => {
                freed.into_iter().for_each(|shard| self.asking.forget(shard));
                self.look_by_if_connected(now + COALESCE);
            }
        }
        if hello {
            self.answer_by(now);
        }
    }

    /// Somebody wants to know who is there. Not all answer in one moment.
    fn answer_by(&mut self, now: Instant) {
        if self.connected {
            let others = u32::try_from(self.others.len()).unwrap_or(u32::MAX);
            let wait = (ANSWER + ANSWER_EACH.saturating_mul(others)).min(LONGEST_ANSWER);
            self.announce_by(now + wait);
        }
    }

    fn greet(&mut self, node: &NodeId) {
        let Some(other) = self.others.get(node) else { return };
        let (node, name) = (node.clone(), other.said.name.clone());
        self.notice(match self.is_stranger(&other.said) {
            true => Notice::CountDiffers { node, name, theirs: other.said.shard_count, ours: self.shard_count },
            false => Notice::Joined { node, name, owned: other.said.owned.len() },
        });
    }

    /// Whether it goes by another count: its shards are not ours.
    fn is_stranger(&self, said: &Announcement) -> bool {
        (said.shard_count, said.generation) != (self.shard_count, self.generation)
    }

    /// Somebody announced what cannot be read.
    pub fn unreadable(&mut self, error: &AnnouncementError, now: Instant) {
        self.wake(now);
        if let AnnouncementError::OtherVersion(version) = *error
            && self.told_versions.len() < MOST_VERSIONS
            && self.told_versions.insert(version)
        {
            self.notice(Notice::OtherVersion(version));
        }
    }

    /// The broker says that this process is not there any more: all it held is free.
    pub fn gone(&mut self, node: &NodeId, now: Instant) {
        self.wake(now);
        let Some(said) = self.others.gone(node) else { return };
        self.watch_changed = true;
        said.owned.iter().for_each(|shard| self.asking.forget(*shard));
        self.notice(Notice::Gone { node: said.node, name: said.name, owned: said.owned.len() });
        self.look_by_if_connected(now + COALESCE);
    }

    // ---- the end ----

    /// The process is to end: hand all shards over, say goodbye.
    pub fn leave(&mut self, now: Instant) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        self.settling = None;
        self.handovers.clear();
        for (shard, state) in self.own.iter().collect::<Vec<_>>() {
            match state {
                State::Running => self.stop(shard),
                State::Ended => self.release(shard),
                // Its answer decides.
                State::Doubtful if self.asking.awaits(shard) => {}
                State::Doubtful => self.abandon(shard),
                State::Stopping | State::Releasing | State::Abandoning => {}
            }
        }
        // Who has nothing to hand over says goodbye at once.
        if self.connected && !self.is_done() {
            self.announce(false, now);
        }
        self.finish();
    }

    fn is_done(&self) -> bool {
        self.leaving && self.own.is_empty() && !self.asking.awaits_any()
    }

    fn finish(&mut self) {
        if self.left || !self.is_done() {
            return;
        }
        self.left = true;
        self.look_at = None;
        if self.connected {
            let goodbye = self.announcement(false);
            self.actions.push_back(Action::Announce(goodbye));
        }
        self.announce_at = None;
        self.actions.push_back(Action::Left);
    }

    // ---- time ----

    /// When [`Self::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        [self.announce_at, self.look_at].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.wake(now);
        if self.look_at.is_some_and(|at| at <= now) {
            self.look(now);
        }
        if self.announce_at.is_some_and(|at| at <= now) {
            self.announce(false, now);
        }
    }

    /// Whoever wakes late may have missed anything: it listens first, as if it came anew.
    fn wake(&mut self, now: Instant) {
        if self.connected && !self.left && self.deadline().is_some_and(|deadline| now > deadline + SLEPT) {
            self.settle(SETTLE, now);
        }
    }

    fn settle(&mut self, time: Duration, now: Instant) {
        self.others.excuse(now);
        if !self.leaving {
            self.settling = Some(now + time);
            self.look_at = Some(now + time);
        }
        self.announce(true, now);
    }

    fn look_by(&mut self, at: Instant) {
        self.look_at = Some(self.look_at.map_or(at, |sooner| sooner.min(at)));
    }

    fn look_by_if_connected(&mut self, at: Instant) {
        if self.connected && !self.left {
            self.look_by(at);
        }
    }

    fn announce_by(&mut self, at: Instant) {
        self.announce_at = Some(self.announce_at.map_or(at, |sooner| sooner.min(at)));
    }

    /// Something that others should know, or that makes room for more to do.
    fn changed(&mut self, now: Instant) {
        if self.connected && !self.left {
            self.announce_by(now + COALESCE);
            self.look_by(now + COALESCE);
        }
    }

    fn announce(&mut self, hello: bool, now: Instant) {
        let announcement = self.announcement(hello);
        self.actions.push_back(Action::Announce(announcement));
        self.announce_at = Some(now + ANNOUNCE_EVERY);
    }

    fn announcement(&mut self, hello: bool) -> Announcement {
        self.sequence += 1;
        let is_static = self.want != Want::Fair;
        Announcement {
            node: self.node.clone(),
            name: self.name.clone(),
            mode: if is_static { Mode::Static } else { Mode::Leased },
            shard_count: self.shard_count,
            generation: self.generation,
            owned: self.own.owned(),
            leaving: self.leaving,
            hello,
            settling: self.settling.is_some() && !is_static,
            sequence: self.sequence,
        }
    }

    // ---- actions ----

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        let certain = self.connected && self.own.count(|state| state == State::Doubtful) == 0;
        // Doubt comes before all else, certainty behind: what is abandoned is thrown away before the fence opens.
        if self.told_certain && !certain {
            self.told_certain = false;
            return Some(Action::Certain(false));
        }
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if self.left {
            return None;
        }
        if certain && !self.told_certain {
            self.told_certain = true;
            return Some(Action::Certain(true));
        }
        if std::mem::take(&mut self.watch_changed) {
            return Some(Action::Watch(self.others.iter().map(|other| other.said.node.clone()).collect()));
        }
        None
    }

    fn notice(&mut self, notice: Notice) {
        self.actions.push_back(Action::Notice(notice));
    }
}
