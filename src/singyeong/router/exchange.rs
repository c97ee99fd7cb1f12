//! Dispatches begin here.

use futures_util::FutureExt;
use futures_util::future::ready;

use super::mail::{Letter, Undone};
use super::origin::{Address, Op};
use super::parcel::{Kind, Parcel};
use super::{Router, Shared};
use crate::amqp::delivery::Properties;
use crate::cluster::node::NodeId;
use crate::encoding::Value;
use crate::singyeong::exchange::{Later, Sender};
use crate::singyeong::ids::ClientKey;
use crate::singyeong::packet::dispatch::Message;
use crate::singyeong::packet::outgoing::Outgoing;

impl Router {
    /// Takes a `SEND`; see [`Exchange::dispatch`](crate::singyeong::exchange::Exchange::dispatch). To be polled to its end or
    /// dropped: others wait for their turn behind it.
    pub fn send(&self, sender: Sender, message: Message) -> Later<Option<Outgoing>> {
        self.message(sender, Op::Send, message)
    }

    /// The same of a `BROADCAST`.
    pub fn broadcast(&self, sender: Sender, message: Message) -> Later<Option<Outgoing>> {
        self.message(sender, Op::Broadcast, message)
    }

    /// The same of any other dispatch.
    pub fn publish(&self, sender: Sender, name: Box<str>, data: Value) -> Later<Option<Outgoing>> {
        let shared = self.0.clone();
        begun(Box::pin(async move { shared.publish_other(sender, &name, data).await }))
    }

    /// Asks another process whether a client of its own is healthy; no answer in time is no.
    pub fn probe(&self, node: &NodeId, key: &ClientKey) -> Later<bool> {
        let (shared, node, key) = (self.0.clone(), node.clone(), key.clone());
        Box::pin(async move { shared.probe(&node, &key).await })
    }

    fn message(&self, sender: Sender, op: Op, message: Message) -> Later<Option<Outgoing>> {
        let shared = self.0.clone();
        begun(Box::pin(async move { shared.publish_message(sender, op, message).await }))
    }
}

/// Takes its turn now, whenever it is polled: dispatches keep the order in which they were asked for.
fn begun<T: Send + 'static>(mut later: Later<T>) -> Later<T> {
    match (&mut later).now_or_never() {
        Some(done) => Box::pin(ready(done)),
        None => later,
    }
}

impl Shared {
    async fn probe(&self, node: &NodeId, key: &ClientKey) -> bool {
        if node == self.hub.own() {
            return self.is_healthy(key).await;
        }
        let mut probe = self.probes.ask();
        let kind = Kind::Probe { id: probe.id, to: Address::of(key), from: self.hub.own().clone() };
        let letter = Letter { properties: &Properties::default(), body: b"" };
        let asked = async {
            match self.to_node(key, node, &Parcel::new(kind), letter, || false).await {
                Ok(()) => {}
                // It is gone.
                Err(Undone::Unroutable) => return true,
                Err(_) => {}
            }
            std::future::pending().await
        };
        // Also the way there is bounded by the wait for the answer.
        tokio::select! {
            healthy = probe.answer() => healthy,
            gone = asked => !gone,
        }
    }

    /// Whether a client of ours is alive, told to whoever wants its id.
    pub(super) async fn probed(&self, id: u64, key: &ClientKey, from: &NodeId) {
        let healthy = self.is_healthy(key).await;
        let parcel = Parcel::new(Kind::Probed { id, healthy });
        let letter = Letter { properties: &Properties::default(), body: b"" };
        // Who asked waits for a moment only.
        let _ = self.to_node(id, from, &parcel, letter, || false).await;
    }

    /// Forgets a client of ours that is not.
    pub(super) async fn is_healthy(&self, key: &ClientKey) -> bool {
        let Some(outbox) = self.hub.outbox(key) else { return false };
        if outbox.is_healthy().await {
            return true;
        }
        // Meanwhile it may have come again.
        if self.hub.outbox(key).is_some_and(|now| now.is_same(&outbox)) {
            self.hub.forget(key);
        }
        false
    }
}
