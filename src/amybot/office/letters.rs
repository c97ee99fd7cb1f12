//! What is said over the seat: to instances, and to processes that asked.

use tracing::{debug, warn};

use super::Term;
use crate::amqp::delivery::Properties;
use crate::amqp::error::AdminError;
use crate::amqp::messenger::{Message as Publishing, PublishError};
use crate::amqp::topology::{self, Presence};
use crate::amybot::answer::Answer;
use crate::amybot::coordinator::Letter;
use crate::amybot::internal::InternalAnswer;
use crate::amybot::member::Address;
use crate::encoding::Encoding;

/// What RabbitMQ names the queue of who is answered directly; there is no such queue to be returned from.
const DIRECT: &str = "amq.rabbitmq.reply-to.";

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It was taken.
    Told,
    /// The queue is gone, and who is behind it.
    Gone,
    /// It was not taken, this time.
    Not,
}

impl Term<'_> {
    /// Whether it is worth trying. What is published directly is taken and returned all the same: whether anybody is there has
    /// to be asked.
    pub(super) async fn may_be_reached(&self, address: &Address) -> bool {
        !matches!(address, Address::Queue(queue) if queue.starts_with(DIRECT))
            || !matches!(self.presence(address.queue()).await, Ok(Presence::Gone))
    }

    /// Whether somebody is behind a queue.
    pub(super) async fn presence(&self, queue: &str) -> Result<Presence, AdminError> {
        let presence = topology::presence(&self.office.consumption, queue).await?;
        // Direct reply-to's are there with their consumer or not at all.
        Ok(if queue.starts_with(DIRECT) && presence == Presence::Silent { Presence::There } else { presence })
    }

    /// Says something to an instance.
    pub(super) async fn send(&self, letter: &Letter) -> Result<Sent, AdminError> {
        let (exchange, key, correlation_id) = match &letter.to {
            Address::Queue(queue) => ("", queue.as_str(), letter.correlation_id.clone()),
            Address::Key(name, _) => (self.group(), name.as_str(), letter.correlation_id.clone()),
            Address::Client(client) => ("", client.reply_to.as_str(), Some(client.connection.to_string())),
        };
        let is_direct = key.starts_with(DIRECT);
        if matches!(letter.answer, Answer::ShardAccept(_)) {
            // Its time is short, and who is to have it was looked for just now. After an alarm it would be over.
            if self.seat.is_blocked() {
                return Ok(Sent::Not);
            }
        } else if !self.may_be_reached(&letter.to).await {
            return Ok(Sent::Gone);
        }
        let properties = Properties {
            content_type: Some(letter.dialect.content_type().to_owned()),
            correlation_id,
            ..Properties::default()
        };
        let body = letter.answer.message().to_dialect(letter.dialect).expect("it is plain data of ours");
        let (properties, body) = (&properties, body.as_slice());
        let publishing = Publishing { exchange, key, mandatory: !is_direct, persistent: true, properties, body };
        Ok(match self.seat.publish(&publishing).await? {
            Ok(()) => Sent::Told,
            Err(PublishError::Unroutable { .. }) => Sent::Gone,
            // There is no way to it.
            Err(error) if !error.is_passing() => {
                warn!(%error, %key, "a service cannot be answered");
                Sent::Gone
            }
            Err(error) => {
                warn!(%error, %key, "an answer to a service was not taken");
                Sent::Not
            }
        })
    }

    /// Answers a process.
    pub(super) async fn tell(&self, asked: &Properties, answer: &InternalAnswer) -> Result<(), AdminError> {
        let Some(key) = asked.reply_to.as_deref() else { return Ok(()) };
        let properties = Properties {
            content_type: Some(Encoding::Json.content_type().to_owned()),
            correlation_id: asked.correlation_id.clone(),
            ..Properties::default()
        };
        let (body, properties) = (answer.to_json(), &properties);
        // Whoever does not wait any more is nobody's problem.
        let publishing = Publishing { exchange: "", key, mandatory: false, persistent: false, properties, body: &body };
        if let Err(error) = self.seat.publish(&publishing).await? {
            debug!(%error, "an answer to a process was not taken");
        }
        Ok(())
    }
}
