//! Passes messages on: to the key of their topic, and to the websocket services that want it. Of one source in its order: what
//! has to wait is waited for by what comes after it, and by nothing else.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tracing::debug;

use super::Term;
use crate::amqp::delivery::{Delivery, Properties};
use crate::amqp::topology::Queue;
use crate::amybot::coordinator::Proxied;
use crate::amybot::message::ServiceName;
use crate::amybot::post::{Aside, Undone};

/// So many are held of the queues that operations come out of, before there is little patience with those who take nothing: what
/// is held uses up their prefetch.
pub(super) const MOST_HELD: usize = 64;

/// What came, on its way out.
pub(super) struct Parcel {
    /// Without its body: there is one copy of a message.
    pub(super) delivery: Delivery,
    pub(super) what: What,
    /// What is set aside should nobody want it.
    pub(super) aside: Aside,
}

/// What is to be done with it.
pub(super) enum What {
    /// It is passed on.
    Passed { proxied: Proxied, body: Vec<u8> },
    /// It is set aside.
    SetAside,
}

/// What waits for its turn, by source; what is set aside has none. Who is in it has one on its way.
type Lines = HashMap<Option<ServiceName>, VecDeque<Parcel>>;

pub(super) struct Carrier<'a> {
    term: &'a Term<'a>,
}

impl<'a> Carrier<'a> {
    pub(super) const fn new(term: &'a Term<'a>) -> Self {
        Self { term }
    }

    /// Carries until there are no more to come.
    pub(super) async fn carry(&self, mut parcels: mpsc::Receiver<Parcel>) {
        let (mut lines, mut under_way, mut held) = (Lines::new(), FuturesUnordered::new(), 0_usize);
        let proxy = Queue::amybot_proxy(self.term.group());
        let is_among_operations = |parcel: &Parcel| parcel.aside.source != proxy.name();
        loop {
            tokio::select! {
                biased;
                Some((source, was_among_operations)) = under_way.next() => {
                    held -= usize::from(was_among_operations);
                    match lines.get_mut(&source).and_then(VecDeque::pop_front) {
                        Some(next) => under_way.push(self.carry_one(source, is_among_operations(&next), next)),
                        None => drop(lines.remove(&source)),
                    }
                }
                parcel = parcels.recv() => {
                    let Some(parcel) = parcel else { return };
                    let is_among_operations = is_among_operations(&parcel);
                    held += usize::from(is_among_operations);
                    let source = parcel.source();
                    match lines.get_mut(&source) {
                        Some(line) => line.push_back(parcel),
                        None => {
                            lines.insert(source.clone(), VecDeque::new());
                            under_way.push(self.carry_one(source, is_among_operations, parcel));
                        }
                    }
                }
            }
            self.term.post.press(held >= MOST_HELD);
        }
    }

    /// Gives back what it was told of the parcel.
    async fn carry_one(
        &self,
        source: Option<ServiceName>,
        is_among_operations: bool,
        parcel: Parcel,
    ) -> (Option<ServiceName>, bool) {
        let Parcel { delivery, what, aside } = parcel;
        let is_done = match what {
            What::Passed { proxied, body } => self.pass(&proxied, &body, aside, &delivery).await,
            What::SetAside => self.term.post.set_aside(&aside, || delivery.is_held()).await.is_ok(),
        };
        if is_done {
            delivery.ack();
        }
        (source, is_among_operations)
    }

    /// Whether it is somewhere else now.
    async fn pass(&self, proxied: &Proxied, body: &[u8], aside: Aside, delivery: &Delivery) -> bool {
        let Proxied { source, topic, to } = proxied;
        let post = &self.term.post;
        let is_held = || delivery.is_held();
        let mut is_told = false;
        for client in to {
            match post.to_client(lane_of(&client.reply_to), client, body, is_held).await {
                Ok(()) => is_told = true,
                // Who cannot be reached any more is found by the rounds.
                Err(why) => debug!(?why, topic = %topic, "a message is not passed on to a websocket service"),
            }
        }
        let Properties { reply_to, correlation_id, message_id, .. } = aside.properties.clone();
        // Who takes it may answer its sender without us.
        let content_type = Some("application/json".to_owned());
        let properties = Properties { content_type, reply_to, correlation_id, message_id, ..Properties::default() };
        let (kind, reason) = match post.to_topic(lane_of(source), topic, &properties, body, is_held).await {
            Err(Undone::NotHeld) => return false,
            Err(Undone::Unroutable) if !is_told => {
                ("no_receiver", format!("nobody wants the topic {topic:?}: no queue is bound to it"))
            }
            // Also where somebody else has it: who was to have it has not.
            Err(Undone::Refused(why)) => ("refused", why),
            Ok(()) | Err(Undone::Unroutable) => {
                self.term.office.counts.count(source.as_str(), topic, true);
                return true;
            }
        };
        let is_done = post.set_aside(&aside.because(kind, reason), is_held).await.is_ok();
        if is_done {
            self.term.office.counts.count(source.as_str(), topic, false);
        }
        is_done
    }
}

impl Parcel {
    fn source(&self) -> Option<ServiceName> {
        match &self.what {
            What::Passed { proxied, .. } => Some(proxied.source.clone()),
            What::SetAside => None,
        }
    }
}

/// Any number is a lane.
fn lane_of(what: impl Hash) -> usize {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    usize::try_from(hasher.finish() >> 33).expect("31 bits")
}
