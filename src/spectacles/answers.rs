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

use super::route::{Encoding, Rejected};
use crate::amqp::delivery::Properties;
use crate::amqp::messenger::{Message, Messenger};
use crate::discord::ids::ShardId;

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

    /// Answers whoever sent a command with these properties, if an answer was asked for. Never waits.
    pub fn give(&self, asked: &Properties, outcome: &Outcome<'_>) {
        let Some(to) = &asked.reply_to else { return };
        let (content_type, body) = outcome.encode();
        let properties = Properties {
            content_type: Some(content_type.to_owned()),
            correlation_id: asked.correlation_id.clone(),
            ..Properties::default()
        };
        if self.waiting.try_send(Answer { to: to.clone(), properties, body }).is_err() {
            debug!(reply_to = %to, "an answer to a command is dropped: RabbitMQ has not taken {QUEUE} others yet");
        }
    }
}

impl Outcome<'_> {
    /// The content type and the body. In the asker's encoding, as far as we can: who sent MessagePack by mistake shall be able to
    /// read why it was not taken.
    fn encode(&self) -> (&'static str, Vec<u8>) {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Body {
            Sent { ok: bool, shard: ShardId },
            Failed { ok: bool, error: String },
        }
        let body = match self {
            Self::Sent(shard) => Body::Sent { ok: true, shard: *shard },
            Self::SetAside(rejected @ Rejected::Encoding(Encoding::MessagePack)) => {
                return ("application/msgpack", failed_in_message_pack(&rejected.to_string()));
            }
            Self::SetAside(rejected) => Body::Failed { ok: false, error: rejected.to_string() },
        };
        ("application/json", serde_json::to_vec(&body).expect("it is plain data"))
    }
}

/// `{"ok":false,"error":error}`, for a text of less than 64 KiB.
fn failed_in_message_pack(error: &str) -> Vec<u8> {
    let mut bytes = b"\x82\xa2ok\xc2\xa5error\xda".to_vec();
    bytes.extend(u16::try_from(error.len()).expect("a text of ours is short").to_be_bytes());
    bytes.extend_from_slice(error.as_bytes());
    bytes
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

    #[test]
    fn answers_are_json_and_message_pack_for_who_sent_that() {
        let json = |outcome: Outcome<'_>| String::from_utf8(outcome.encode().1).expect("text");
        assert_eq!(json(Outcome::Sent(ShardId::new(3))), r#"{"ok":true,"shard":3}"#);
        assert_eq!(
            json(Outcome::SetAside(&Rejected::NoGuildId)),
            r#"{"ok":false,"error":"the body has no \"guild_id\""}"#
        );
        let rejected = Rejected::Encoding(Encoding::MessagePack);
        let (content_type, body) = Outcome::SetAside(&rejected).encode();
        assert_eq!(content_type, "application/msgpack");
        let text = rejected.to_string();
        assert_eq!(&body[..12], &b"\x82\xa2ok\xc2\xa5error\xda"[..12]);
        assert_eq!(body[12..], [&[0, text.len() as u8], text.as_bytes()].concat());
    }
}
