//! A question to all processes of a group, and their answers (spec/cluster.md, "Looking at all processes").
//!
//! ```text
//! ask ── G:optic:looks (fanout) ── G:optic:look.<id>.<n> of each process ── Heard::Question
//! answer ── default exchange ── G:optic:told.<id>.<n> of who asked, while it waits for any ── Heard::Answer
//! ```
//!
//! Knows nothing of what is asked. Nothing here must arrive: who does not hear an answer asks again. So all of it is transient,
//! expires in seconds, and is bounded in length for a process that hangs. Each queue ends with its connection, or with its
//! channel; then there is one of another name. While an alarm is on nothing is sent.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::admin::{Admin, bounded};
use super::delivery::Properties;
use super::error::AdminError;
use super::messenger::{Message, Messenger, PublishError};
use super::topology::{bind, declare_passing, fanout, look_queue, looks_exchange, short, told_queue, told_queues};
use crate::cluster::node::NodeId;

/// How long a question or an answer may take to go out. With an alarm it would take for ever.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What nobody has taken by then is dropped, in milliseconds: there is a newer one.
const EXPIRES: &str = "4000";

/// The connection has a back-off of its own; this one is for what fails on a live connection, and grows as long as it does: each
/// attempt may leave a queue behind for a minute.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// So long the queue for answers is kept after the last who waits for any: who looks again finds it.
const LINGER: Duration = Duration::from_secs(10);

/// What is heard and not taken yet; the rest waits in RabbitMQ.
const HEARD: usize = 16;
/// Unacknowledged at a time, of each of the two queues.
const PREFETCH: u16 = 16;

/// Questions are small, and a process answers them at once: more of them wait only for one that hangs.
const MOST_QUESTIONS: i32 = 32;
/// An answer is some 10 KiB for 64 shards, and 200 KiB at first.
const MOST_ANSWERS: i32 = 2048;
const MOST_BYTES: i32 = 64 << 20;

/// Longer ones are no answers, and not read.
const LONGEST: usize = 8 << 20;

/// Questions and answers go out in these lanes, each one after the other.
const QUESTIONS: usize = 0;
const ANSWERS: usize = 1;
const LANES: usize = 2;

/// A handle. Cheap to clone.
#[derive(Clone)]
pub struct Survey(Arc<Shared>);

struct Shared {
    group: String,
    exchange: String,
    messenger: Messenger,
    administration: Admin,
    /// How many wait for answers.
    waiting: watch::Sender<usize>,
    /// The queue for answers, while there is one.
    told: watch::Sender<Option<String>>,
}

/// Hears what comes: to be run by whoever owns the task.
pub struct SurveyDriver {
    survey: Survey,
    consumption: Admin,
    node: NodeId,
    heard: mpsc::Sender<Heard>,
    /// How many queues there have been.
    declared: AtomicU64,
}

/// What comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// What a process asks all, maybe we ourselves.
    Question(Asked),
    /// An answer to one of ours.
    Answer {
        /// Which one.
        correlation_id: String,
        /// What it says.
        body: Vec<u8>,
    },
}

/// A question, and the way back to who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is asked.
    pub body: Vec<u8>,
    reply_to: String,
    correlation_id: String,
}

/// Somebody waits for answers as long as there is one of these: there is a queue for them.
#[derive(Debug)]
pub struct Waiting(watch::Sender<usize>);

/// Which of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ear {
    Questions,
    Answers,
}

impl Survey {
    /// The process `node` of a group: it listens over `consumption` and publishes over `administration`. A handle, the driver
    /// that it needs, and what is heard.
    pub fn new(
        consumption: Admin,
        administration: Admin,
        group: &str,
        node: NodeId,
    ) -> (Self, SurveyDriver, mpsc::Receiver<Heard>) {
        let (sender, heard) = mpsc::channel(HEARD);
        let survey = Self(Arc::new(Shared {
            group: group.to_owned(),
            exchange: looks_exchange(group),
            messenger: Messenger::with_lanes(administration.clone(), LANES),
            administration,
            waiting: watch::Sender::new(0),
            told: watch::Sender::new(None),
        }));
        let driver =
            SurveyDriver { survey: survey.clone(), consumption, node, heard: sender, declared: AtomicU64::new(0) };
        (survey, driver, heard)
    }

    /// To be held by who asks, for as long as it waits for answers.
    pub fn wait(&self) -> Waiting {
        let waiting = self.0.waiting.clone();
        waiting.send_modify(|waiting| *waiting += 1);
        Waiting(waiting)
    }

    /// Asks all processes, ourselves too. Done when RabbitMQ has the question; answers come with this `correlation_id`.
    ///
    /// # Errors
    /// It was not asked, or whether it was is not known. There is no queue for answers where nobody [waits](Self::wait) for them.
    pub async fn ask(&self, correlation_id: &str, body: &[u8]) -> Result<(), PublishError> {
        let shared = &*self.0;
        let asking = async {
            let mut told = shared.told.subscribe();
            let queue = told.wait_for(Option::is_some).await.expect("its sender is in our hands").clone();
            let properties = Properties { reply_to: queue, ..properties(correlation_id) };
            let question = Message {
                exchange: &shared.exchange,
                key: "",
                mandatory: false,
                persistent: false,
                properties: &properties,
                body,
            };
            match shared.messenger.publish(QUESTIONS, &question).await {
                // Somebody deleted it. Who hears us binds its queue to it again when that is lost.
                Err(error) if error.is_undeclared() => {
                    fanout(&shared.administration.channel().await?, &shared.exchange).await?;
                    shared.messenger.publish(QUESTIONS, &question).await
                }
                asked => asked,
            }
        };
        in_time("ask all processes", asking).await
    }

    /// Answers a question. Done when RabbitMQ has it; who asked may be gone, which is no error.
    ///
    /// # Errors
    /// It was not answered, or whether it was is not known.
    pub async fn answer(&self, asked: &Asked, body: &[u8]) -> Result<(), PublishError> {
        let shared = &*self.0;
        if !asked.reply_to.starts_with(&told_queues(&shared.group)) {
            // Whoever may publish a question must not have us write into any queue.
            let reason = format!("\"{}\" is no queue for answers", asked.reply_to);
            return Err(AdminError::Protocol { action: "answer a question".to_owned(), reason }.into());
        }
        let properties = properties(&asked.correlation_id);
        let answer = Message {
            exchange: "",
            key: &asked.reply_to,
            mandatory: false,
            persistent: false,
            properties: &properties,
            body,
        };
        in_time("answer a question", shared.messenger.publish(ANSWERS, &answer)).await
    }
}

fn properties(correlation_id: &str) -> Properties {
    Properties {
        content_type: Some("application/json".to_owned()),
        correlation_id: Some(correlation_id.to_owned()),
        expiration: Some(EXPIRES.to_owned()),
        ..Properties::default()
    }
}

async fn in_time(what: &str, publishing: impl Future<Output = Result<(), PublishError>>) -> Result<(), PublishError> {
    let late = || AdminError::Unreachable(format!("no answer within {} ms to: {what}", PATIENCE.as_millis()));
    timeout(PATIENCE, publishing).await.unwrap_or_else(|_| Err(late().into()))
}

impl fmt::Debug for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Survey").field("exchange", &self.0.exchange).finish_non_exhaustive()
    }
}

impl fmt::Debug for SurveyDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SurveyDriver").field("survey", &self.survey).field("node", &self.node).finish_non_exhaustive()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

impl SurveyDriver {
    /// Hears until `stop`, or until nobody takes what is heard.
    pub async fn run(self, stop: CancellationToken) {
        let ended = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.heard.closed() => {}
            }
        };
        tokio::select! {
            biased;
            () = ended => {}
            // Dropped in the middle, they leave channels that close, and with them their queues.
            _ = async { tokio::join!(self.listen(Ear::Questions), self.listen_for_answers()) } => {}
        }
        self.survey.0.told.send_replace(None);
    }

    /// Has a queue for answers whenever somebody waits for any.
    async fn listen_for_answers(&self) {
        let mut waiting = self.survey.0.waiting.subscribe();
        let ours = "its sender is in our hands";
        loop {
            waiting.wait_for(|waiting| *waiting > 0).await.expect(ours);
            let unneeded = async {
                loop {
                    waiting.wait_for(|waiting| *waiting == 0).await.expect(ours);
                    if timeout(LINGER, waiting.wait_for(|waiting| *waiting > 0)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = self.listen(Ear::Answers) => {}
                () = unneeded => {}
            }
            self.survey.0.told.send_replace(None);
        }
    }

    /// Consumes a queue, and another one when that is lost.
    async fn listen(&self, ear: Ear) {
        let mut last_failure = None;
        let mut pause = FIRST_RETRY;
        loop {
            let why = match self.prepare(ear).await {
                Ok((queue, channel, consumer)) => {
                    last_failure = None;
                    pause = FIRST_RETRY;
                    let told = Some(queue).filter(|_| ear == Ear::Answers);
                    if told.is_some() {
                        self.survey.0.told.send_replace(told);
                    }
                    let why = self.hear(ear, &channel, consumer).await;
                    if ear == Ear::Answers {
                        self.survey.0.told.send_replace(None);
                    }
                    why
                }
                Err(why) => why,
            };
            if last_failure.as_ref() != Some(&why) {
                match why {
                    // The connection tells of itself.
                    AdminError::Unreachable(_) => debug!(%why, ?ear, "processes cannot ask each other, trying on"),
                    _ => warn!(%why, ?ear, "processes cannot ask each other how they are, trying on"),
                }
                last_failure = Some(why);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
    }

    async fn prepare(&self, ear: Ear) -> Result<(String, Channel, Consumer), AdminError> {
        let Shared { group, exchange, .. } = &*self.survey.0;
        let channel = self.consumption.channel().await?;
        let number = self.declared.fetch_add(1, Ordering::Relaxed);
        let queue = match ear {
            Ear::Questions => {
                fanout(&channel, exchange).await?;
                let queue = look_queue(group, &self.node, number);
                declare_passing(&channel, &queue, MOST_QUESTIONS, MOST_BYTES).await?;
                bind(&channel, &queue, exchange, "").await?;
                queue
            }
            Ear::Answers => {
                let queue = told_queue(group, &self.node, number);
                declare_passing(&channel, &queue, MOST_ANSWERS, MOST_BYTES).await?;
                queue
            }
        };
        bounded("limit the prefetch", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let exclusive = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consumed = channel.basic_consume(short(&queue)?, "".into(), exclusive, FieldTable::default());
        let consumer = bounded(&format!("consume the queue \"{queue}\""), consumed).await?;
        Ok((queue, channel, consumer))
    }

    /// Hands over what comes; says why there is no more.
    async fn hear(&self, ear: Ear, channel: &Channel, mut consumer: Consumer) -> AdminError {
        while let Some(next) = consumer.next().await {
            let delivered = match next {
                Ok(delivered) => delivered,
                Err(error) => return AdminError::of("go on listening", &error),
            };
            let tag = delivered.delivery_tag;
            if let Some(heard) = heard(ear, delivered)
                && self.heard.send(heard).await.is_err()
            {
                break;
            }
            // Queued for the socket at the first poll.
            let _ = channel.basic_ack(tag, BasicAckOptions::default()).now_or_never();
        }
        AdminError::Unreachable("a consumer was cancelled".to_owned())
    }
}

/// Nothing of what is neither.
fn heard(ear: Ear, delivered: Delivery) -> Option<Heard> {
    if delivered.data.len() > LONGEST {
        return None;
    }
    let correlation_id = delivered.properties.correlation_id().as_ref()?.to_string();
    let body = delivered.data;
    Some(match ear {
        Ear::Questions => {
            let reply_to = delivered.properties.reply_to().as_ref()?.to_string();
            Heard::Question(Asked { body, reply_to, correlation_id })
        }
        Ear::Answers => Heard::Answer { correlation_id, body },
    })
}
