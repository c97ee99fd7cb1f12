//! Commands to Discord by clients, and their outcome, which goes back to whoever asked by a nonce.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep;
use tracing::debug;

use super::arrivals::Verdict;
use super::envelope::{self, Envelope};
use super::mail::{self, Letter, Undone};
use super::origin::Origin;
use super::told::Told;
use super::{MOST_TRIES, PAUSE, Shared};
use crate::amqp::delivery::{Delivery, Properties};
use crate::amqp::replies::ReplyEvent;
use crate::cluster::node::NodeId;
use crate::encoding::Value;
use crate::singyeong::command::Command;
use crate::singyeong::ids::ClientKey;
use crate::singyeong::waiting::LONGEST;
use crate::spectacles::post;

/// A client that waits for the outcome of its command.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asker {
    key: ClientKey,
    /// Where it was.
    node: NodeId,
    /// Its name for what it asked.
    nonce: Value,
}

impl Shared {
    /// Publishes the command that a message to the gateway is.
    pub(super) async fn command(
        &self,
        envelope: &Envelope,
        origin: Option<&Origin>,
        delivery: &Delivery,
    ) -> Result<Verdict, Undone> {
        let command = match Command::of(&envelope.contents.payload) {
            Ok(command) => command,
            Err(why) => return self.refuse(&why.to_string(), envelope, origin, delivery).await,
        };
        let mut properties = mail::of_type("application/json");
        let asker = origin.filter(|_| !envelope.contents.nonce.is_null());
        let mut number = None;
        if let Some(origin) = asker {
            let Some(queue) = self.reply_queue().await else {
                return self
                    .refuse("RabbitMQ has no queue for the outcome now", envelope, Some(origin), delivery)
                    .await;
            };
            let asker = Asker { key: origin.key(), node: origin.node.clone(), nonce: envelope.contents.nonce.clone() };
            number = self.waiting().add(asker, Instant::now());
            let Some(number) = number else {
                return self.refuse("too many commands wait for their outcome", envelope, Some(origin), delivery).await;
            };
            properties.reply_to = Some(queue);
            properties.correlation_id = Some(number.to_string());
        } else if origin.is_none() {
            let Properties { reply_to, correlation_id, .. } = delivery.properties.clone();
            let asked = Properties { reply_to, correlation_id, ..properties };
            properties = post::as_json(&asked, post::dialect_of(&delivery.properties, &delivery.body));
        }
        let letter = Letter { properties: &properties, body: &command.body };
        let lane = mail::lane_of(&command.key);
        let published = self.mail.to_key(lane, &command.key, letter, || delivery.is_held()).await;
        if published.is_err()
            && let Some(number) = number
        {
            self.waiting().take(number);
        }
        match published {
            Ok(()) => Ok(Verdict::Elsewhere),
            Err(Undone::Unroutable) => {
                let why = format!("nobody takes commands for \"{}\"", command.key);
                self.refuse(&why, envelope, origin, delivery).await
            }
            Err(Undone::Refused(error)) => self.refuse(&error.to_string(), envelope, origin, delivery).await,
            Err(undone) => Err(undone),
        }
    }

    /// What comes to our queue for answers.
    pub(super) async fn outcome(self: Arc<Self>, event: ReplyEvent) {
        match event {
            ReplyEvent::Answer { correlation_id, body } => {
                let asker = correlation_id.and_then(|id| id.parse().ok()).and_then(|id| self.waiting().take(id));
                let Some(asker) = asker else {
                    return debug!("an outcome that nobody waits for any more");
                };
                let payload = envelope::read(&body, None).unwrap_or_else(|| failed("the outcome cannot be read"));
                self.tell_asker(asker, payload).await;
            }
            ReplyEvent::Lost => {
                let all = self.waiting().take_all();
                for asker in all {
                    self.tell_asker(
                        asker,
                        failed("the connection to RabbitMQ was lost: what became of it is not known"),
                    )
                    .await;
                }
            }
        }
    }

    /// Tells those who have waited long enough.
    pub(super) async fn expire(self: Arc<Self>) {
        let expired = self.waiting().expired(Instant::now());
        let error = format!("no outcome within {} s", LONGEST.as_secs());
        for asker in expired {
            self.tell_asker(asker, failed(&error)).await;
        }
    }

    /// The queue for answers; there is none for a moment while the connection is new.
    async fn reply_queue(&self) -> Option<String> {
        for _ in 0..MOST_TRIES {
            if let Some(queue) = self.replies.queue() {
                return Some(queue);
            }
            sleep(PAUSE).await;
        }
        self.replies.queue()
    }

    /// Answers a client that waits, and sets the message aside; a worker is answered for that.
    async fn refuse(
        &self,
        why: &str,
        envelope: &Envelope,
        origin: Option<&Origin>,
        delivery: &Delivery,
    ) -> Result<Verdict, Undone> {
        if let Some(origin) = origin.filter(|_| !envelope.contents.nonce.is_null()) {
            let told = self.gateway_says(envelope.contents.nonce.clone(), failed(why));
            self.tell(&origin.key(), Some(&origin.node), told, 0, || delivery.is_held()).await?;
        }
        self.set_aside("command", why, delivery).await
    }

    async fn tell_asker(&self, Asker { key, node, nonce }: Asker, payload: Value) {
        let since = Instant::now();
        let told = self.tell(&key, Some(&node), self.gateway_says(nonce, payload), 0, || since.elapsed() < LONGEST);
        if let Err(undone) = told.await {
            debug!(client = %key, ?undone, "a client is not told the outcome of its command");
        }
    }

    fn gateway_says(&self, nonce: Value, payload: Value) -> Told {
        Told::Answer { nonce, payload, sender: Value::string(self.hub.own().as_str()) }
    }
}

fn failed(error: &str) -> Value {
    Value::map([("ok", Value::Bool(false)), ("error", Value::string(error))])
}
