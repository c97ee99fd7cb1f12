//! What became of commands, told to those who asked: a message to the queue that `reply_to` names.
//!
//! An answer is worth something while its asker waits, and Spectacles' clients wait 5 s unless told otherwise: it is tried for
//! a while, and nothing is held up for it.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::route::Rejected;
use crate::amqp::delivery::Properties;
use crate::amqp::messenger::{Message, Messenger};
use crate::discord::ids::ShardId;
use crate::encoding::convert::{Taking, convert};
use crate::encoding::{Dialect, Encoding};

/// Answers that wait for RabbitMQ; more are dropped, for their askers have most likely gone.
const QUEUE: usize = 1024;
/// How long one answer is tried.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// At the end, for what was answered last.
const GOODBYE: Duration = Duration::from_millis(300);
/// Of the messenger's lanes.
const LANE: usize = 0;

/// What became of a command.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// This shard has written it to Discord's socket.
    Sent(ShardId),
    /// It was set aside.
    SetAside(&'a Rejected),
}

/// Where answers go in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Answers {
    waiting: mpsc::Sender<Answer>,
}

/// Publishes the answers: to be run by whoever owns the task.
#[derive(Debug)]
pub struct AnswersDriver {
    messenger: Messenger,
    waiting: mpsc::Receiver<Answer>,
    /// RabbitMQ refuses answers, which the log was told.
    refused: bool,
}

#[derive(Debug)]
struct Answer {
    to: String,
    properties: Properties,
    body: Vec<u8>,
}

impl Answers {
    /// A handle and the driver that it needs.
    pub fn new(messenger: Messenger) -> (Self, AnswersDriver) {
        let (sender, waiting) = mpsc::channel(QUEUE);
        (Self { waiting: sender }, AnswersDriver { messenger, waiting, refused: false })
    }

    /// Answers whoever sent a command with these properties in this dialect, if an answer was asked for. Never waits.
    pub fn give(&self, asked: &Properties, dialect: Dialect, outcome: &Outcome<'_>) {
        let Some(to) = &asked.reply_to else { return };
        let body = outcome.encode(dialect);
        let properties = Properties {
            content_type: Some(dialect.content_type().to_owned()),
            correlation_id: asked.correlation_id.clone(),
            ..Properties::default()
        };
        if self.waiting.try_send(Answer { to: to.clone(), properties, body }).is_err() {
            debug!(reply_to = %to, "an answer to a command is dropped: RabbitMQ has not taken {QUEUE} others yet");
        }
    }
}

impl Outcome<'_> {
    fn encode(&self, dialect: Dialect) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Body {
            Sent { ok: bool, shard: ShardId },
            Failed { ok: bool, error: String },
        }
        let body = match self {
            Self::Sent(shard) => Body::Sent { ok: true, shard: *shard },
            Self::SetAside(rejected) => Body::Failed { ok: false, error: rejected.to_string() },
        };
        let json = serde_json::to_vec(&body).expect("it is plain data");
        let mut body = Vec::new();
        convert(Encoding::Json, &json, dialect, Taking::EXACT, &mut body).expect("serde_json writes JSON");
        body
    }
}

impl AnswersDriver {
    /// Publishes answers until `stop`, and those that wait then.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let answer = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                answer = self.waiting.recv() => answer,
            };
            let Some(answer) = answer else { return };
            tokio::select! {
                biased;
                () = self.publish(&answer) => {}
                () = stop.cancelled() => break,
            }
        }
        let rest = async {
            while let Ok(answer) = self.waiting.try_recv() {
                self.publish(&answer).await;
            }
        };
        // Whoever is not answered by then hears no more of this process.
        let _ = timeout(GOODBYE, rest).await;
    }

    async fn publish(&mut self, answer: &Answer) {
        let message = Message {
            exchange: "",
            key: &answer.to,
            // Whoever has gone without waiting is nobody's problem.
            mandatory: false,
            persistent: false,
            properties: &answer.properties,
            body: &answer.body,
        };
        let until = Instant::now() + PATIENCE;
        while let Err(error) = self.messenger.publish(LANE, &message).await {
            if !error.is_passing() {
                if !std::mem::replace(&mut self.refused, true) {
                    warn!(%error, "answers to commands are dropped: the user may have no right to write to amq.default");
                }
                return;
            }
            if Instant::now() >= until {
                return debug!(%error, reply_to = %answer.to, "an answer to a command is dropped");
            }
            sleep(PAUSE).await;
        }
        self.refused = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::convert::to_json;

    #[test]
    fn answers_are_in_the_dialect_of_the_question() {
        for dialect in Dialect::ALL {
            let json = |outcome: Outcome<'_>| {
                let body = outcome.encode(dialect);
                assert_eq!(Dialect::of_body(Some(dialect.content_type()), &body), dialect);
                String::from_utf8(to_json(dialect, &body, Taking::EXACT).expect("it is in that").into_owned())
                    .expect("text")
            };
            assert_eq!(json(Outcome::Sent(ShardId::new(3))), r#"{"ok":true,"shard":3}"#);
            assert_eq!(
                json(Outcome::SetAside(&Rejected::NoGuildId)),
                r#"{"ok":false,"error":"the body has no \"guild_id\""}"#
            );
        }
    }
}
