//! One process among the processes of its bot: which leases it asks for, runs, hands over and gives back.

use std::collections::VecDeque;
use std::time::Instant;

use super::announcement::{Announcement, AnnouncementError};
use super::node::NodeId;
use crate::discord::ids::ShardId;

mod action;

pub use self::action::{Action, Notice, Settings, Want};

/// One process's part in the cluster; see the module's head.
#[derive(Debug)]
pub struct Member {
    actions: VecDeque<Action>,
}

impl Member {
    /// A process that is not connected yet.
    pub fn new(_settings: Settings, _now: Instant) -> Self {
        Self { actions: VecDeque::new() }
    }

    /// The leases' connection is up, and announcements are heard.
    pub fn connected(&mut self, _now: Instant) {}

    /// The leases' connection is lost: RabbitMQ has freed every lease, or will.
    pub fn disconnected(&mut self, _now: Instant) {}

    /// Somebody announced something; own announcements are passed over.
    pub fn heard(&mut self, _said: Announcement, _now: Instant) {}

    /// Somebody announced what cannot be read.
    pub fn unreadable(&mut self, _error: &AnnouncementError, _now: Instant) {}

    /// The broker says that this process is not there any more.
    pub fn gone(&mut self, _node: &NodeId, _now: Instant) {}

    /// The answer to [`Action::Acquire`], always given; after a lost connection it may be empty.
    pub fn acquired(&mut self, _granted: &[ShardId], _refused: &[ShardId], _now: Instant) {}

    /// Single leases were lost, though the connection stands.
    pub fn lease_lost(&mut self, _shards: &[ShardId], _now: Instant) {}

    /// The driver of a shard that was told to [`Action::Stop`] or to [`Action::Abandon`] has ended.
    pub fn stopped(&mut self, _shard: ShardId, _now: Instant) {}

    /// The driver of a shard ended for good by itself. Its lease is kept, so that nobody else tries it in a circle.
    pub fn ended(&mut self, _shard: ShardId, _now: Instant) {}

    /// The answer to [`Action::Release`].
    pub fn released(&mut self, _shard: ShardId, _now: Instant) {}

    /// The process is to end: hand all shards over, say goodbye.
    pub fn leave(&mut self, _now: Instant) {}

    /// When [`Self::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}
