//! Messages that another server can never take are set aside where commands are, with the reason: none is dropped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::{debug, warn};

use crate::amqp::delivery::{Delivery, Properties};
use crate::amqp::messenger::{Message, Messenger, brief};
use crate::amqp::topology::Queue;
use crate::spectacles::tally::Count;

/// The key under which it is set aside.
const REJECTED: &str = "REJECTED";
/// As much of a body is kept: enough for whoever looks for the mistake.
const KEPT: usize = 64 << 10;
/// Of the messenger's lanes.
const LANE: usize = 1;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Sets aside what came out of the group's queue.
#[derive(Debug)]
pub(super) struct Aside {
    messenger: Messenger,
    group: String,
    source: String,
}

impl Aside {
    pub(super) fn new(messenger: Messenger, group: &str) -> Self {
        let source = Queue::forward(group).name().to_owned();
        Self { messenger, group: group.to_owned(), source }
    }

    /// Publishes it to where those are that cannot be carried out, and acknowledges it then. It is tried for as long as it is
    /// ours; dropped before its end, RabbitMQ has it again.
    pub(super) async fn put(&self, delivery: Delivery, body: Vec<u8>, reason: &str) {
        let mut headers = BTreeMap::from([
            ("x-optic-reason".to_owned(), brief(reason).to_owned()),
            ("x-optic-kind".to_owned(), "forwarding".to_owned()),
            ("x-optic-source".to_owned(), self.source.clone()),
        ]);
        if body.len() > KEPT {
            headers.insert("x-optic-bytes".to_owned(), body.len().to_string());
        }
        let properties = Properties {
            content_type: delivery.properties.content_type.clone(),
            message_id: delivery.properties.message_id.clone(),
            headers,
            ..Properties::default()
        };
        let body = &body[..body.len().min(KEPT)];
        let message = Message {
            exchange: &self.group,
            key: REJECTED,
            mandatory: true,
            persistent: true,
            properties: &properties,
            body,
        };
        while delivery.is_held() {
            let error = match self.messenger.publish(LANE, &message).await {
                Ok(()) => return delivery.ack(),
                Err(error) if error.is_undeclared() => {
                    match self.messenger.declare(&Queue::rejected(&self.group)).await {
                        Ok(()) => continue,
                        Err(error) => error.to_string(),
                    }
                }
                Err(error) => error.to_string(),
            };
            debug!(error, "what cannot be forwarded cannot be set aside yet");
            sleep(PAUSE).await;
        }
    }
}

/// What the log tells of now and then.
#[derive(Debug, Default)]
pub(super) struct Told {
    aside: Count,
    no_route: Count,
    refused: Count,
    dropped: Count,
    unreadable: Count,
}

impl Told {
    pub(super) fn aside(&mut self, reason: &str) {
        if let Some(more) = self.aside.count(Instant::now()) {
            warn!(reason = brief(reason), more, "an event cannot be forwarded: it is set aside in REJECTED");
        }
    }

    pub(super) fn no_route(&mut self) {
        if let Some(more) = self.no_route.count(Instant::now()) {
            warn!(more, "the other 신경 server has no client that a forwarded event's target matches");
        }
    }

    pub(super) fn dropped(&mut self) {
        if let Some(more) = self.dropped.count(Instant::now()) {
            warn!(more, "a command of a client of the other 신경 server is dropped: too many wait for RabbitMQ");
        }
    }

    pub(super) fn unreadable(&mut self, why: &str) {
        if let Some(more) = self.unreadable.count(Instant::now()) {
            warn!(reason = brief(why), more, "what the other 신경 server, or a client of it, says cannot be read");
        }
    }

    pub(super) fn refused(&mut self, error: &str) {
        if let Some(more) = self.refused.count(Instant::now()) {
            warn!(error, more, "the other 신경 server refuses something that was said to it");
        }
    }
}
