//! Who of the clients gets a message, and the handing over to those of this process.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::yield_now;

use super::Shared;
use super::envelope::Envelope;
use super::origin::Origin;
use crate::singyeong::client::{self, Client};
use crate::singyeong::ids::ClientKey;
use crate::singyeong::packet::outgoing::Outgoing;
use crate::singyeong::query::Query;
use crate::singyeong::query::key::ClientHash;

/// So many clients get a broadcast before others have their turn.
const PORTION: usize = 100;

impl Shared {
    /// One that matches. The gateway does not, unless its application is asked for.
    pub(super) fn choose(&self, query: &Query) -> Option<Arc<Client>> {
        let chosen = self.hub.choose(query)?;
        if chosen.kind == client::Kind::Websocket || self.is_for_gateway(query) {
            return Some(chosen);
        }
        let mut others = self.all(query);
        let weight = |client: &Arc<Client>, key| ClientHash::of(client.key.client.as_str()).weight(key);
        match query.key() {
            Some(key) => others.into_iter().max_by_key(|client| weight(client, key)),
            None if others.is_empty() => None,
            None => Some(others.swap_remove(fastrand::usize(..others.len()))),
        }
    }

    /// All that match.
    pub(super) fn all(&self, query: &Query) -> Vec<Arc<Client>> {
        let mut all = self.hub.all(query);
        if !self.is_for_gateway(query) {
            all.retain(|client| client.kind == client::Kind::Websocket);
        }
        all
    }

    fn is_for_gateway(&self, query: &Query) -> bool {
        query.application() == Some(&*self.group)
    }

    /// Whether it was written to the client's socket.
    async fn hand_over(&self, key: &ClientKey, packet: Outgoing) -> bool {
        let (tell, told) = oneshot::channel();
        let fate = Box::new(move |written| {
            // Who waited is gone at the end of this process.
            let _ = tell.send(written);
        });
        self.hub.deliver(key, packet, Some(fate)).is_ok() && told.await.unwrap_or(false)
    }

    /// The same; or whether the same message was written here lately.
    pub(super) async fn hand_over_once(&self, origin: Option<&Origin>, key: &ClientKey, packet: Outgoing) -> bool {
        let Some(origin) = origin else { return self.hand_over(key, packet).await };
        let turn = self.recent.turn(origin.message);
        let mut is_done = turn.lock().await;
        if !*is_done {
            *is_done = self.hand_over(key, packet).await;
        }
        *is_done
    }

    /// Done when each of them has it, or is gone; or had it lately.
    pub(super) async fn hand_over_all_once(&self, origin: Option<&Origin>, keys: &[ClientKey], envelope: &Envelope) {
        let Some(origin) = origin else { return self.hand_over_all(keys, envelope).await };
        let turn = self.recent.turn(origin.message);
        let mut is_done = turn.lock().await;
        if !*is_done {
            self.hand_over_all(keys, envelope).await;
            *is_done = true;
        }
    }

    async fn hand_over_all(&self, keys: &[ClientKey], envelope: &Envelope) {
        let (all, ended) = oneshot::channel::<()>();
        let all = Arc::new(all);
        for (n, key) in keys.iter().enumerate() {
            if n % PORTION == PORTION - 1 {
                yield_now().await;
            }
            let one = all.clone();
            // Who is not connected any more does not match any more.
            let _ = self.hub.deliver(key, envelope.packet(true), Some(Box::new(move |_| drop(one))));
        }
        drop(all);
        // It ends without a word.
        let _ = ended.await;
    }
}
