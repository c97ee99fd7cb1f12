//! Who is there: a look at the next few processes in the order of ids, and at those that others miss.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lapin::Channel;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::error::AdminError;
use super::super::topology::look_at;
use super::listen::missing;
use super::{BusDriver, BusEvent};
use crate::cluster::node::NodeId;

/// How often we look.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many we look at: each process is looked at by as many, so that some who die together are missed all the same.
const NEIGHBOURS: usize = 3;

/// Whom to watch, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Presence {
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    watched: BTreeSet<NodeId>,
    /// Told to be gone: not told again.
    gone: BTreeSet<NodeId>,
    /// Missed by others: looked at next. All of them are watched.
    suspected: BTreeSet<NodeId>,
}

impl Presence {
    pub(super) fn watch(&self, nodes: Vec<NodeId>) {
        let mut known = self.lock();
        let Known { watched, gone, suspected } = &mut *known;
        *watched = nodes.into_iter().collect();
        gone.retain(|node| watched.contains(node));
        suspected.retain(|node| watched.contains(node));
    }

    pub(super) fn suspect(&self, node: NodeId) {
        let mut known = self.lock();
        if known.watched.contains(&node) && !known.gone.contains(&node) {
            known.suspected.insert(node);
            self.changed.notify_one();
        }
    }

    pub(super) fn look_again(&self, node: NodeId) {
        self.lock().gone.remove(&node);
        self.suspect(node);
    }

    fn suspects(&self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.lock().suspected)
    }

    /// Those next to `node` in the ring of ids, and those that are gone, as far as they are watched: they may be back.
    fn neighbours(&self, node: &NodeId) -> Vec<NodeId> {
        let known = self.lock();
        let behind = known.watched.iter().filter(|other| *other > node);
        let ring = behind.chain(known.watched.iter().filter(|other| *other < node));
        let there = ring.filter(|other| !known.gone.contains(other)).take(NEIGHBOURS);
        there.chain(known.gone.iter().take(NEIGHBOURS)).cloned().collect()
    }

    /// Notes what was seen; whether it is news that the process is gone.
    fn seen(&self, node: &NodeId, is_there: bool) -> bool {
        let mut known = self.lock();
        if is_there {
            known.gone.remove(node);
            return false;
        }
        known.watched.contains(node) && known.gone.insert(node.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusDriver {
    /// Looks at our neighbours again and again, and at once at whom others miss; tells who is gone.
    pub(super) async fn look_who_is_there(&self, stop: &CancellationToken) {
        let presence = &self.bus.presence;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut channel = None;
        loop {
            let (nodes, found_by_us) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = presence.changed.notified() => (presence.suspects().into_iter().collect(), false),
                _ = looks.tick() => (presence.neighbours(&self.node), true),
            };
            for node in nodes {
                // Without a connection nothing is known; who asks for one would wait for it.
                if self.consumption.generation().is_none() {
                    break;
                }
                let is_there = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    looked = self.is_there(&mut channel, &node) => match looked {
                        Ok(is_there) => is_there,
                        Err(why) => {
                            debug!(%node, %why, "could not look whether a process is there");
                            channel = None;
                            continue;
                        }
                    },
                };
                if !presence.seen(&node, is_there) {
                    continue;
                }
                if found_by_us {
                    self.bus.outbox.put(missing(&node));
                }
                if !self.tell(BusEvent::Gone(node), stop).await {
                    return;
                }
            }
        }
    }

    /// Whether somebody consumes the process's queue.
    async fn is_there(&self, kept: &mut Option<Channel>, node: &NodeId) -> Result<bool, AdminError> {
        let channel = match kept.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => self.consumption.channel().await?,
        };
        match look_at(&channel, self.line.queue(node).name()).await {
            Ok(consumers) => {
                *kept = Some(channel);
                Ok(consumers > 0)
            }
            // Deleted in order, or expired. The answer has closed the channel.
            Err(AdminError::NotFound { .. }) => Ok(false),
            Err(why) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::try_from(name.to_owned()).expect("an id")
    }

    fn nodes(names: &[&str]) -> Vec<NodeId> {
        names.iter().map(|name| node(name)).collect()
    }

    #[test]
    fn the_next_three_are_looked_at_around_the_ring() {
        let presence = Presence::default();
        presence.watch(nodes(&["a", "b", "c", "e", "f"]));
        assert_eq!(presence.neighbours(&node("d")), nodes(&["e", "f", "a"]));
        assert_eq!(presence.neighbours(&node("z")), nodes(&["a", "b", "c"]));
        presence.watch(nodes(&["a"]));
        assert_eq!(presence.neighbours(&node("d")), nodes(&["a"]));
    }

    #[test]
    fn who_is_gone_is_told_once_and_its_place_is_taken_by_the_next() {
        let presence = Presence::default();
        presence.watch(nodes(&["e", "f", "g", "h"]));
        assert!(presence.seen(&node("e"), false));
        assert!(!presence.seen(&node("e"), false));
        assert_eq!(presence.neighbours(&node("d")), nodes(&["f", "g", "h", "e"]));
        assert!(!presence.seen(&node("e"), true));
        assert!(presence.seen(&node("e"), false), "it was there again");
        presence.watch(nodes(&["f"]));
        presence.watch(nodes(&["e", "f"]));
        assert!(presence.seen(&node("e"), false), "it is watched anew");
    }

    #[test]
    fn only_who_is_watched_and_not_known_to_be_gone_is_suspected() {
        let presence = Presence::default();
        presence.watch(nodes(&["a", "b"]));
        assert!(presence.seen(&node("b"), false));
        for name in ["a", "b", "c"] {
            presence.suspect(node(name));
        }
        assert_eq!(presence.suspects(), BTreeSet::from([node("a")]));
        assert!(presence.suspects().is_empty());
        // But for whom nobody believed it of.
        for name in ["b", "c"] {
            presence.look_again(node(name));
        }
        assert_eq!(presence.suspects(), BTreeSet::from([node("b")]));
        assert!(presence.seen(&node("b"), false), "it is told again");
    }
}
