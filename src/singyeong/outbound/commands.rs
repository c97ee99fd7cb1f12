//! Messages from clients of the other server to us: commands to Discord, which go where those of AMQP workers go.
//!
//! `{"guild_id" or "shard_id", "packet"}`, as the gateway's application takes them. A client cannot be addressed by its id at such
//! a server: who wants the outcome says by `reply_to` which target it is for, and by a nonce which question it answers.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, warn};

use super::packet::Message;
use crate::amqp::delivery::Properties;
use crate::amqp::messenger::{self, Messenger, PublishError};
use crate::amqp::replies::{Replies, ReplyEvent};
use crate::encoding::{self, Encoding, Value};
use crate::singyeong::command::Command;
use crate::singyeong::limits::Limits;
use crate::singyeong::query::Query;
use crate::singyeong::waiting::{LONGEST, Waiting};
use crate::spectacles::tally::Count;

/// How long a command is tried that RabbitMQ does not take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// Of the messenger's lanes: one, for the order in which they came.
const LANE: usize = 2;

/// An outcome on its way.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) target: Value,
    pub(super) nonce: Value,
    pub(super) payload: Value,
}

/// Who waits for an outcome.
#[derive(Debug)]
struct Asker {
    target: Value,
    nonce: Value,
}

/// Publishes commands.
#[derive(Debug)]
pub(super) struct Commands {
    group: String,
    messenger: Messenger,
    replies: Replies,
    answers: mpsc::Sender<Answer>,
    waiting: Waiting<Asker>,
    refused: Count,
}

impl Commands {
    pub(super) fn new(group: &str, messenger: Messenger, replies: Replies, answers: mpsc::Sender<Answer>) -> Self {
        let (waiting, refused) = Default::default();
        Self { group: group.to_owned(), messenger, replies, answers, waiting, refused }
    }

    /// Takes commands one after another, and their outcomes; ends when nobody sends any more.
    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>, mut outcomes: mpsc::Receiver<ReplyEvent>) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.command(message).await,
                    None => return,
                },
                Some(outcome) = outcomes.recv() => self.outcome(outcome),
                _ = ticks.tick() => {
                    for asker in self.waiting.expired(Instant::now()) {
                        self.answer(asker, failed(&format!("no outcome within {} s", LONGEST.as_secs())));
                    }
                }
            }
        }
    }

    async fn command(&mut self, Message { nonce, payload }: Message) {
        let asker = payload.get("reply_to").filter(|target| !target.is_null() && !nonce.is_null()).cloned();
        let asker = match asker.map(|target| (Query::compile(&target, Limits::default().query_depth), target)) {
            None => None,
            Some((Ok(_), target)) => Some(Asker { target, nonce }),
            Some((Err(why), _)) => return self.tell_refused(&format!("\"reply_to\" is no query: {why}")),
        };
        let command = match Command::of(&payload) {
            Ok(command) => command,
            Err(why) => return self.refuse(asker, &why.to_string()),
        };
        let mut properties = Properties { content_type: Some("application/json".to_owned()), ..Properties::default() };
        let mut number = None;
        if let Some(asker) = asker {
            let Some(queue) = self.replies.queue() else {
                return self.refuse(Some(asker), "RabbitMQ has no queue for the outcome now");
            };
            // Bounded by number and time.
            number = self.waiting.add(asker, Instant::now());
            let Some(number) = number else { return self.tell_refused("too many commands wait for their outcome") };
            properties.reply_to = Some(queue);
            properties.correlation_id = Some(number.to_string());
        }
        if let Err(why) = self.publish(&command, &properties).await {
            let asker = number.and_then(|number| self.waiting.take(number));
            self.refuse(asker, &why);
        }
    }

    async fn publish(&self, Command { key, body }: &Command, properties: &Properties) -> Result<(), String> {
        let message =
            messenger::Message { exchange: &self.group, key, mandatory: true, persistent: true, properties, body };
        let since = Instant::now();
        loop {
            match self.messenger.publish(LANE, &message).await {
                Ok(()) => return Ok(()),
                Err(PublishError::Unroutable { .. }) => return Err(format!("nobody takes commands for \"{key}\"")),
                Err(error) if !error.is_passing() || since.elapsed() >= PATIENCE => return Err(error.to_string()),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    fn outcome(&mut self, outcome: ReplyEvent) {
        match outcome {
            ReplyEvent::Answer { correlation_id, body } => {
                let asker = correlation_id.and_then(|id| id.parse().ok()).and_then(|id| self.waiting.take(id));
                let Some(asker) = asker else { return debug!("an outcome that nobody waits for any more") };
                let payload = encoding::read(Encoding::Json, &body);
                self.answer(asker, payload.unwrap_or_else(|_| failed("the outcome cannot be read")));
            }
            ReplyEvent::Lost => {
                for asker in self.waiting.take_all() {
                    let why = "the connection to RabbitMQ was lost: what became of it is not known";
                    self.answer(asker, failed(why));
                }
            }
        }
    }

    fn refuse(&mut self, asker: Option<Asker>, why: &str) {
        self.tell_refused(why);
        if let Some(asker) = asker {
            self.answer(asker, failed(why));
        }
    }

    fn tell_refused(&mut self, why: &str) {
        if let Some(more) = self.refused.count(Instant::now()) {
            warn!(reason = why, more, "a command of a client of the other 신경 server is not carried out");
        }
    }

    /// Its asker waits a while only: where too many outcomes wait for the connection, it is not told.
    fn answer(&self, Asker { target, nonce }: Asker, payload: Value) {
        if self.answers.try_send(Answer { target, nonce, payload }).is_err() {
            debug!("the outcome of a command is not told: too many wait for the connection");
        }
    }
}

fn failed(error: &str) -> Value {
    Value::map([("ok", Value::Bool(false)), ("error", Value::string(error))])
}
