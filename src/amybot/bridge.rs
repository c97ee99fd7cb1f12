//! The way from websocket services and the admin interface to the coordinator, in whatever process it is, and back.
//!
//! There it goes through the coordinator's queue, each message confirmed; back through this process's queue for answers. That
//! queue is also how the coordinator knows that this process lives: where it is lost, the services that are connected here are
//! closed, so that they come back and identify anew, and after a while the coordinator takes them for gone, told or not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::answer::Answer;
use super::internal::{Client, Internal, InternalAnswer, KEY, message_id};
use super::message::Message as Said;
use super::server::line::Line;
use super::server::outbox::Outbox;
use super::server::{Close, CloseCode};
use crate::amqp::admin::Admin;
use crate::amqp::delivery::Properties;
use crate::amqp::messenger::{Message, Messenger, PublishError};
use crate::amqp::replies::{Replies, RepliesDriver, ReplyEvent};
use crate::amqp::topology::Queue;
use crate::cluster::node::NodeId;

/// So many messages are told at a time: each waits until it is on disk.
const LANES: usize = 16;

/// Waits between tries to tell something.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// How long an answer is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

/// A question that no coordinator has taken by then is dropped, in milliseconds: nobody waits for what it does any more.
const QUESTION_EXPIRES: &str = "4000";

/// So many questions are asked at a time.
const MOST_QUESTIONS: usize = 64;

/// What questions' `correlation_id`s begin with; connections' are bare numbers.
const QUESTION: &str = "ask-";

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bridge(Arc<Shared>);

/// Takes what comes back: to be run by whoever owns the task.
#[derive(Debug)]
pub struct BridgeDriver {
    bridge: Bridge,
    replies: RepliesDriver,
    events: mpsc::Receiver<ReplyEvent>,
}

#[derive(Debug)]
struct Shared {
    node: NodeId,
    group: String,
    messenger: Messenger,
    replies: Replies,
    connections: Mutex<HashMap<u64, Joined>>,
    questions: Mutex<HashMap<String, oneshot::Sender<Vec<u8>>>>,
    /// How many questions there have been, and how many messages.
    asked: AtomicU64,
    told: AtomicU64,
}

#[derive(Debug)]
struct Joined {
    reply_to: String,
    outbox: Outbox,
}

/// Why the coordinator has not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// amybot is not served here.
    #[error("amybot is not served here: neither AMYBOT_ADDRESS nor AMYBOT_SHARD_COUNT is set")]
    Off,
    /// Too many ask already.
    #[error("too many questions at a time")]
    TooMany,
    /// It could not be asked.
    #[error("RabbitMQ cannot be reached: {0}")]
    NoBroker(String),
    /// No process coordinates, or it hangs.
    #[error("no process of this group coordinates amybot's services, or it does not answer")]
    NoCoordinator,
    /// It answered what this process does not understand.
    #[error("the coordinator's answer cannot be read: {0}")]
    Unreadable(String),
}

impl Bridge {
    /// A bridge of this process, and the driver that it needs.
    pub fn new(node: NodeId, group: &str, administration: Admin, consumption: Admin) -> (Self, BridgeDriver) {
        let (replies, driver, events) = Replies::new(consumption);
        let bridge = Self(Arc::new(Shared {
            node,
            group: group.to_owned(),
            messenger: Messenger::with_lanes(administration, LANES),
            replies,
            connections: Mutex::default(),
            questions: Mutex::default(),
            asked: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }));
        (bridge.clone(), BridgeDriver { bridge, replies: driver, events })
    }

    /// Asks the coordinator. What it has not taken in time, it does not do later.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn ask(&self, what: Internal) -> Result<InternalAnswer, AskError> {
        let shared = &*self.0;
        let no_queue = || AskError::NoBroker("there is no queue for answers yet".to_owned());
        let reply_to = shared.replies.queue().ok_or_else(no_queue)?;
        let correlation_id = format!("{QUESTION}{}", shared.asked.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        {
            let mut questions = lock(&shared.questions);
            if questions.len() >= MOST_QUESTIONS {
                return Err(AskError::TooMany);
            }
            questions.insert(correlation_id.clone(), answer);
        }
        let asking = async {
            let properties = Properties {
                content_type: Some("application/json".to_owned()),
                reply_to: Some(reply_to),
                correlation_id: Some(correlation_id.clone()),
                expiration: Some(QUESTION_EXPIRES.to_owned()),
                ..Properties::default()
            };
            match shared.publish(0, &what.to_json(), &properties, false).await {
                Ok(()) => {}
                // No coordinator was ever there.
                Err(error) if error.is_undeclared() => return Err(AskError::NoCoordinator),
                Err(error) => return Err(AskError::NoBroker(error.to_string())),
            }
            let lost = |_| AskError::NoBroker("the queue for answers was lost".to_owned());
            let body = answered.await.map_err(lost)?;
            InternalAnswer::read(&body).map_err(|error| AskError::Unreadable(error.to_string()))
        };
        let asked = timeout(ANSWER_TIMEOUT, asking).await.unwrap_or(Err(AskError::NoCoordinator));
        lock(&shared.questions).remove(&correlation_id);
        asked
    }
}

impl Line for Bridge {
    fn join(&self, connection: u64, outbox: Outbox) -> BoxFuture<'static, Client> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let mut queues = shared.replies.watch();
            loop {
                let queue = queues.wait_for(Option::is_some).await.expect("its sender is in our hands").clone();
                let mut connections = lock(&shared.connections);
                // What is lost from now on is told to whoever is in there.
                if let Some(reply_to) = shared.replies.queue().filter(|now| Some(now) == queue.as_ref()) {
                    let outbox = outbox.clone();
                    connections.insert(connection, Joined { reply_to: reply_to.clone(), outbox });
                    return Client { node: shared.node.clone(), connection, reply_to };
                }
            }
        })
    }

    fn tell(&self, connection: u64, what: Internal) -> BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.tell(connection, &what).await })
    }

    fn lost(&self, client: &Client) -> BoxFuture<'static, ()> {
        let (mut queues, reply_to) = (self.0.replies.watch(), client.reply_to.clone());
        Box::pin(async move {
            // Its sender outlives all connections, or nothing is known of them any more.
            let _ = queues.wait_for(|queue| queue.as_ref() != Some(&reply_to)).await;
        })
    }

    fn part(&self, connection: u64) {
        lock(&self.0.connections).remove(&connection);
    }
}

impl Shared {
    /// Told again, it has the same `message_id`: RabbitMQ may have it already.
    async fn tell(&self, connection: u64, what: &Internal) {
        let body = what.to_json();
        let number = self.told.fetch_add(1, Ordering::Relaxed);
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            message_id: Some(message_id(&self.node, number)),
            ..Properties::default()
        };
        let mut delay = FIRST_RETRY;
        loop {
            // A lane keeps the order of its messages, and a connection its lane.
            let error = match self.publish(connection as usize, &body, &properties, true).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let error = if error.is_undeclared() {
                match self.messenger.declare(&Queue::amybot_internal(&self.group)).await {
                    Ok(()) => continue,
                    Err(error) => error.into(),
                }
            } else {
                error
            };
            if error.is_passing() {
                debug!(%error, "the coordinator cannot be told yet");
            } else if let Internal::Said(_, message) = what {
                // It is too large, say: what comes after it does not wait for it.
                warn!(%error, "amybot's coordinator cannot be told what a service said: it is refused");
                self.refuse(connection, message, &error);
                return;
            } else {
                warn!(%error, again_in = ?delay, "amybot's coordinator cannot be told what a service said");
            }
            sleep(delay).await;
            delay = (delay * 2).min(LONGEST_RETRY);
        }
    }

    fn refuse(&self, connection: u64, message: &Said, error: &PublishError) {
        let reason = format!("RabbitMQ never takes it: {error}");
        let answer = Answer::Refused { opcode: message.opcode(), reason };
        if let Some(joined) = lock(&self.connections).get(&connection) {
            joined.outbox.push(&answer.message().to_json());
        }
    }

    async fn publish(
        &self,
        lane: usize,
        body: &[u8],
        properties: &Properties,
        persistent: bool,
    ) -> Result<(), PublishError> {
        let message = Message { exchange: &self.group, key: KEY, mandatory: true, persistent, properties, body };
        self.messenger.publish(lane, &message).await
    }

    /// Takes what came back. Gives a connection that the coordinator takes for one of ours, and it is none.
    fn take(&self, correlation_id: Option<String>, body: Vec<u8>) -> Option<u64> {
        let Some(id) = correlation_id else {
            debug!("an answer to nobody");
            return None;
        };
        if id.starts_with(QUESTION) {
            // Who asked may have given up.
            if let Some(question) = lock(&self.questions).remove(&id) {
                let _ = question.send(body);
            }
            return None;
        }
        let connection: u64 = id.parse().ok()?;
        let outbox = lock(&self.connections).get(&connection).map(|joined| joined.outbox.clone());
        match outbox {
            Some(outbox) if std::str::from_utf8(&body).is_ok() => outbox.push(&body),
            Some(_) => warn!(connection, "the coordinator sent what is no text"),
            None => return Some(connection),
        }
        None
    }

    /// The coordinator hears, once more, that a connection is gone.
    async fn tell_of_none(&self, connection: u64) {
        if let Some(reply_to) = self.replies.queue() {
            self.tell(connection, &Internal::Left(Client { node: self.node.clone(), connection, reply_to })).await;
        }
    }

    /// Whoever is reached by a queue that is no more comes back.
    fn lost(&self) {
        lock(&self.questions).clear();
        let now = self.replies.queue();
        let mut closed = 0;
        for joined in lock(&self.connections).values() {
            if Some(&joined.reply_to) != now.as_ref() {
                joined.outbox.close(Close::new(CloseCode::ComeBack, "the coordinator was lost; come back"));
                closed += 1;
            }
        }
        if closed > 0 {
            info!(closed, "the queue for answers was lost: services are closed, and come back");
        }
    }
}

impl BridgeDriver {
    /// Takes what comes until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { bridge, replies, mut events } = self;
        let mut telling = FuturesUnordered::new();
        let taking = async {
            loop {
                let event = tokio::select! {
                    event = events.recv() => event,
                    Some(()) = telling.next() => continue,
                };
                match event {
                    Some(ReplyEvent::Answer { correlation_id, body }) => {
                        let unknown = bridge.0.take(correlation_id, body);
                        // Whoever is not told of now, the coordinator has something for again.
                        if let Some(connection) = unknown.filter(|_| telling.len() < LANES) {
                            telling.push(bridge.0.tell_of_none(connection));
                        }
                    }
                    Some(ReplyEvent::Lost) => bridge.0.lost(),
                    None => return,
                }
            }
        };
        tokio::join!(replies.run(stop), taking);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
