//! How a client gets its place: who has its ids already is asked whether it lives.

use std::sync::Arc;
use std::time::Duration;

use super::Services;
use crate::clock;
use crate::singyeong::client::Client;
use crate::singyeong::close_code::CloseCode;
use crate::singyeong::hub::Place;
use crate::singyeong::ids::{ClientKey, ConnectionId};
use crate::singyeong::outbox::Outbox;
use crate::singyeong::session::Registration;

/// Another process that has said nothing by then does not have the client any more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// So often a dead holder is replaced by a live newcomer that is dead, too.
const MOST_TRIES: usize = 3;

/// A client's place; given up when it is dropped, whatever happened to the connection.
pub struct Registered {
    services: Arc<Services>,
    key: ClientKey,
    connection: ConnectionId,
    is_restricted: bool,
    outbox: Outbox,
}

impl Registered {
    /// Registers a client; `None` if somebody healthy has its ids.
    pub async fn new(
        services: &Arc<Services>,
        registration: Registration,
        connection: ConnectionId,
        outbox: &Outbox,
    ) -> Option<Self> {
        let key = registration.key.clone();
        let is_restricted = registration.restricted;
        let mut client = registration.into_client(services.hub.own().clone());
        for _ in 0..MOST_TRIES {
            let now = clock::unix_millis();
            client = Client { since: now, last_heartbeat: now, ..client };
            let Err(place) = services.hub.register(client.clone(), connection, outbox.clone()) else {
                let services = Arc::clone(services);
                return Some(Self { services, key, connection, is_restricted, outbox: outbox.clone() });
            };
            let holder_is_restricted = services.hub.get(&key).is_none_or(|holder| holder.restricted);
            if is_restricted {
                // Whoever knows no password takes nobody's place, whether he lives or not.
                return None;
            } else if holder_is_restricted {
                replace(services, &key);
            } else if is_healthy(services, &key, place).await {
                return None;
            }
        }
        None
    }

    /// Who it is.
    pub fn key(&self) -> &ClientKey {
        &self.key
    }

    /// Whether it may only be looked at.
    pub fn is_restricted(&self) -> bool {
        self.is_restricted
    }

    /// It is not to be chosen any more, and what it has is given back.
    pub fn leave(&self) {
        self.services.hub.unregister(&self.key, self.connection);
        // A restricted client has never had anything from it.
        if !self.is_restricted {
            self.services.exchange.gone(&self.key, self.connection);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.leave();
        self.outbox.end();
    }
}

/// A restricted client gives way to one that knows the password.
fn replace(services: &Services, key: &ClientKey) {
    if let Some(holder) = services.hub.outbox(key) {
        holder.close(CloseCode::AlreadyRegistered);
    }
    services.hub.forget(key);
}

/// Whether the holder of these ids lives. A dead one is forgotten.
async fn is_healthy(services: &Services, key: &ClientKey, place: Place) -> bool {
    let hub = &services.hub;
    match place {
        Place::Here => {
            let Some(holder) = hub.outbox(key) else {
                // Gone by now, or of no connection at all: forgetting it is all there is to do.
                hub.forget(key);
                return false;
            };
            if holder.is_healthy().await {
                return true;
            }
            // Another one may have come in the meantime.
            if hub.outbox(key).is_some_and(|now| now.is_same(&holder)) {
                hub.forget(key);
            }
            false
        }
        Place::At(node) => {
            let asked = tokio::time::timeout(ANSWER_TIMEOUT, services.exchange.probe(&node, key)).await;
            if asked.unwrap_or(false) {
                return true;
            }
            if hub.get(key).is_some_and(|now| now.node == node) {
                hub.forget(key);
            }
            false
        }
    }
}
