//! What is published for services beside answers: messages that are passed on, and what is set aside. None is lost: it is
//! acknowledged where it came from only once it is somewhere else.
//!
//! What a queue refuses, being full, is tried for a minute and no longer: behind it others wait.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use super::internal::Client;
use crate::amqp::delivery::Properties;
use crate::amqp::messenger::{Message, Messenger, PublishError, brief};
use crate::amqp::topology::Queue;
use crate::spectacles::tally::Count;

/// Between two tries; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The same where a queue refuses: each try may give other queues another copy.
const FIRST_REFUSED_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// So long what is refused is tried.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long where too much waits behind it.
const PRESSED_PATIENCE: Duration = Duration::from_secs(5);
/// So many keys that refuse are remembered.
const MOST_REFUSALS: usize = 1000;
/// As much of a body is kept of what is set aside: enough for whoever looks for the mistake.
pub(super) const KEPT: usize = 64 << 10;
/// The key under which it is set aside.
const REJECTED: &str = "REJECTED";

/// Publishes.
#[derive(Debug)]
pub(super) struct Post {
    messenger: Messenger,
    group: String,
    aside: Mutex<Count>,
    delayed: Mutex<Count>,
    dropped: Mutex<Count>,
    refusals: Mutex<Refusals>,
    /// Whether so much waits that there is little patience.
    pressed: watch::Sender<bool>,
}

/// The keys whose queues refuse, and since when. Once they have refused for long, what comes next is tried once.
#[derive(Debug, Default)]
struct Refusals(HashMap<String, Refusal>);

#[derive(Clone, Copy, Debug)]
struct Refusal {
    since: Instant,
    last: Instant,
}

/// Something that nobody can do anything with.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    /// Why.
    pub(super) reason: String,
    /// In a word.
    pub(super) kind: &'static str,
    /// The queue that it came out of.
    pub(super) source: String,
    /// What came beside it.
    pub(super) properties: Properties,
    /// It itself, the first [`KEPT`] bytes.
    pub(super) body: Vec<u8>,
    /// So many bytes it had.
    pub(super) bytes: usize,
}

/// Why something is not where it was to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undone {
    /// It is not ours any more: RabbitMQ gives it to another, or to us again.
    NotHeld,
    /// No queue takes it.
    Unroutable,
    /// RabbitMQ never takes it, or did not for long.
    Refused(String),
}

impl Aside {
    /// Takes what is kept of a body.
    pub(super) fn new(source: String, properties: Properties, mut body: Vec<u8>) -> Self {
        let bytes = body.len();
        body.truncate(KEPT);
        body.shrink_to_fit();
        Self { reason: String::new(), kind: "", source, properties, body, bytes }
    }

    /// With the reason.
    pub(super) fn because(self, kind: &'static str, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), ..self }
    }
}

impl Refusals {
    /// Since when the key refuses, now too. What it did long ago does not count.
    fn refused(&mut self, key: &str, now: Instant) -> Instant {
        if !self.0.contains_key(key) && self.0.len() >= MOST_REFUSALS {
            self.0.retain(|_, refusal| now < refusal.last + PATIENCE);
            if self.0.len() >= MOST_REFUSALS {
                return now;
            }
        }
        let refusal = self.0.entry(key.to_owned()).or_insert(Refusal { since: now, last: now });
        if now >= refusal.last + PATIENCE {
            refusal.since = now;
        }
        refusal.last = now;
        refusal.since
    }

    fn taken(&mut self, key: &str) {
        if !self.0.is_empty() {
            self.0.remove(key);
        }
    }
}

impl Post {
    pub(super) fn new(messenger: Messenger, group: &str) -> Self {
        let (aside, delayed, dropped, refusals, pressed) = Default::default();
        Self { messenger, group: group.to_owned(), aside, delayed, dropped, refusals, pressed }
    }

    /// Whether so much waits that what is refused is to be given up soon.
    pub(super) fn press(&self, is_pressed: bool) {
        self.pressed.send_if_modified(|pressed| std::mem::replace(pressed, is_pressed) != is_pressed);
    }

    /// Publishes to the key of a topic, for as long as what it is for is held.
    pub(super) async fn to_topic(
        &self,
        lane: usize,
        topic: &str,
        properties: &Properties,
        body: &[u8],
        is_held: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        let message =
            Message { exchange: &self.group, key: topic, mandatory: true, persistent: true, properties, body };
        self.publish(lane, &message, None, is_held).await
    }

    /// Publishes to a connection of a process.
    pub(super) async fn to_client(
        &self,
        lane: usize,
        client: &Client,
        body: &[u8],
        is_held: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            correlation_id: Some(client.connection.to_string()),
            ..Properties::default()
        };
        let (key, properties) = (&client.reply_to, &properties);
        let message = Message { exchange: "", key, mandatory: true, persistent: false, properties, body };
        self.publish(lane, &message, None, is_held).await
    }

    /// Publishes to where those are that nobody can do anything with. What is refused there, too, is dropped.
    pub(super) async fn set_aside(&self, aside: &Aside, is_held: impl Fn() -> bool) -> Result<(), Undone> {
        let Aside { reason, kind, source, properties, body, bytes } = aside;
        let reason = brief(reason);
        let mut headers = vec![("x-optic-reason", reason.to_owned()), ("x-optic-kind", (*kind).to_owned())];
        headers.push(("x-optic-source", source.clone()));
        if *bytes > body.len() {
            headers.push(("x-optic-bytes", bytes.to_string()));
        }
        let properties = Properties {
            content_type: properties.content_type.clone(),
            correlation_id: properties.correlation_id.clone(),
            message_id: properties.message_id.clone(),
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ..Properties::default()
        };
        let queue = Queue::rejected(&self.group);
        let (exchange, properties) = (self.group.as_str(), &properties);
        let message = Message { exchange, key: REJECTED, mandatory: true, persistent: true, properties, body };
        match self.publish(0, &message, Some(&queue), is_held).await {
            Err(Undone::Refused(error)) => {
                if let Some(more) = count(&self.dropped) {
                    error!(queue = %source, %kind, %reason, %error, more, "a message of a service is lost: {} takes nothing", queue.name());
                }
            }
            Err(undone) => return Err(undone),
            Ok(()) => {
                if let Some(more) = count(&self.aside) {
                    warn!(queue = %source, %kind, %reason, more, "a message of a service is set aside in {}", queue.name());
                }
            }
        }
        Ok(())
    }

    async fn publish(
        &self,
        lane: usize,
        message: &Message<'_>,
        queue: Option<&Queue>,
        is_held: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        let (mut pause, mut refused_pause) = (FIRST_PAUSE, FIRST_REFUSED_PAUSE);
        let (mut declared, mut delayed, mut since) = (false, false, None);
        while is_held() {
            let error = match self.messenger.publish(lane, message).await {
                Ok(()) => {
                    self.refusals().taken(message.key);
                    return Ok(());
                }
                Err(error) => error,
            };
            let error = match (error, queue) {
                (error, Some(queue)) if error.is_undeclared() && !declared => {
                    match self.messenger.declare(queue).await {
                        Ok(()) => {
                            declared = true;
                            continue;
                        }
                        Err(error) => error.into(),
                    }
                }
                (PublishError::Unroutable { .. }, None) => return Err(Undone::Unroutable),
                // What is set aside has no other place to go to: tried on.
                (error, None) if !error.is_passing() => return Err(Undone::Refused(error.to_string())),
                (error, _) => error,
            };
            if !std::mem::replace(&mut delayed, true)
                && let Some(more) = count(&self.delayed)
            {
                warn!(%error, more, "a message of a service cannot be passed on: it waits");
            }
            if error.is_passing() && error != PublishError::Refused {
                // RabbitMQ is away, or an alarm is on: so is everything else.
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            let now = Instant::now();
            let of_key = self.refusals().refused(message.key, now);
            let since = of_key.min(*since.get_or_insert(now));
            let is_pressed = *self.pressed.borrow();
            let patience = if is_pressed { PRESSED_PATIENCE } else { PATIENCE };
            let left = (since + patience).saturating_duration_since(now);
            if left.is_zero() {
                return Err(Undone::Refused(error.to_string()));
            }
            let pause = refused_pause.min(left);
            refused_pause = (refused_pause * 2).min(LONGEST_REFUSED_PAUSE);
            if is_pressed {
                sleep(pause).await;
            } else {
                let mut pressed = self.pressed.subscribe();
                // Its time is over, or its patience.
                let _ = timeout(pause, pressed.wait_for(|pressed| *pressed)).await;
            }
        }
        Err(Undone::NotHeld)
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one, and says whether the log is to tell, and of how many more.
fn count(of: &Mutex<Count>) -> Option<u64> {
    of.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_refuses_since_its_first_refusal_until_it_takes_or_was_not_tried_for_long() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(refusals.refused("a", start), start);
        assert_eq!(refusals.refused("a", start + 30 * second), start);
        assert_eq!(refusals.refused("b", start + 40 * second), start + 40 * second);
        // As long as it is tried, one refusal is enough for what comes next.
        assert_eq!(refusals.refused("a", start + 80 * second), start);
        refusals.taken("a");
        assert_eq!(refusals.refused("a", start + 81 * second), start + 81 * second);
        assert_eq!(refusals.refused("b", start + 40 * second + PATIENCE), start + 40 * second + PATIENCE);
    }

    #[test]
    fn so_many_keys_that_refuse_are_remembered() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        for n in 0..2 * MOST_REFUSALS {
            refusals.refused(&n.to_string(), start);
        }
        assert_eq!(refusals.0.len(), MOST_REFUSALS);
        refusals.refused("later", start + PATIENCE);
        assert_eq!(refusals.0.len(), 1);
    }

    #[test]
    fn of_what_is_set_aside_the_beginning_is_kept() {
        let aside = Aside::new("g:gateway".to_owned(), Properties::default(), vec![7; 3 * KEPT]);
        assert_eq!((aside.body.len(), aside.body.capacity(), aside.bytes), (KEPT, KEPT, 3 * KEPT));
    }
}
