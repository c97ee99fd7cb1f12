//! Passes messages on: to the key of their topic, and to the websocket services that want it. Of one source in its order.

use std::hash::{DefaultHasher, Hash, Hasher};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tracing::debug;

use super::{Found, Term};
use crate::amqp::delivery::{Delivery, Properties};
use crate::amybot::coordinator::Proxied;
use crate::amybot::message::Message;
use crate::amybot::post::{Aside, Undone};

/// A message to be passed on.
pub(super) struct Parcel {
    pub(super) proxied: Proxied,
    pub(super) data: Box<RawValue>,
    pub(super) delivery: Delivery,
    /// What is set aside should nobody want it.
    pub(super) aside: Aside,
}

pub(super) struct Carrier<'a> {
    term: &'a Term<'a>,
    found: mpsc::Sender<Found>,
}

impl<'a> Carrier<'a> {
    pub(super) const fn new(term: &'a Term<'a>, found: mpsc::Sender<Found>) -> Self {
        Self { term, found }
    }

    /// Carries until there are no more to come.
    pub(super) async fn carry(&self, mut parcels: mpsc::Receiver<Parcel>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = under_way.next() => {}
                parcel = parcels.recv() => {
                    let Some(parcel) = parcel else { return };
                    // Begun at once, so that they are on their way in the order in which they came.
                    let mut carried = Box::pin(self.carry_one(parcel));
                    if (&mut carried).now_or_never().is_none() {
                        under_way.push(carried);
                    }
                }
            }
        }
    }

    async fn carry_one(&self, parcel: Parcel) {
        let Parcel { proxied: Proxied { source, topic, to }, data, delivery, aside } = parcel;
        let post = &self.term.post;
        let is_held = || delivery.is_held();
        let body = Message { s: source.as_str().into(), t: topic.clone(), d: data }.to_json();
        let Properties { reply_to, correlation_id, message_id, .. } = aside.properties.clone();
        // Who takes it may answer its sender without us.
        let content_type = Some("application/json".to_owned());
        let properties = Properties { content_type, reply_to, correlation_id, message_id, ..Properties::default() };
        let lane = lane_of(&source);
        let mut outcome = post.to_topic(lane, &topic, &properties, &body, is_held).await;
        for client in &to {
            match post.to_client(lane_of(&client.reply_to), client, &body, is_held).await {
                Ok(()) => outcome = Ok(()),
                Err(Undone::Unroutable) => {
                    // The books live as long as we do.
                    let _ = self.found.send(Found::Gone(client.reply_to.clone())).await;
                }
                Err(why) => debug!(?why, topic = %topic, "a message is not passed on to a websocket service"),
            }
        }
        let is_on = outcome.is_ok();
        let reason = match outcome {
            Ok(()) => None,
            Err(Undone::NotHeld) => return,
            Err(Undone::Unroutable) => Some(format!("nobody wants the topic {topic:?}: no queue is bound to it")),
            Err(Undone::Refused(why)) => Some(why),
        };
        if let Some(reason) = reason {
            let aside = Aside { reason, kind: "no_receiver", ..aside };
            if post.set_aside(&aside, is_held).await.is_err() {
                return;
            }
        }
        self.term.office.counts.count(source.as_str(), &topic, is_on);
        delivery.ack();
    }
}

/// Any number is a lane.
fn lane_of(what: impl Hash) -> usize {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    usize::try_from(hasher.finish() >> 33).expect("31 bits")
}
