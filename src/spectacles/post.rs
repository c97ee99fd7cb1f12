//! What commands' drivers publish: a command on its way to its shard, and one that is set aside. None is lost: it is
//! acknowledged where it came from only once it is somewhere else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::warn;

use super::answers::{Answers, Outcome};
use super::route::{Kind, Rejected};
use super::tally::{Count, Tally};
use crate::amqp::delivery::Properties;
use crate::amqp::error::AdminError;
use crate::amqp::messenger::{Message, Messenger, PublishError, brief};
use crate::amqp::topology::{Queue, is_ours, queue_name};
use crate::clock::unix_millis;
use crate::discord::ids::ShardId;
use crate::encoding::{Dialect, Encoding};

/// After how long a command that cannot be published is given back to its queue: another process may be able to.
const GIVE_BACK: Duration = Duration::from_secs(300);
/// Between two tries; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// As much of a body is kept of what is set aside: enough for whoever looks for the mistake.
const KEPT: usize = 64 << 10;
/// How long the body was, where it was cut.
const BYTES: &str = "x-optic-bytes";

/// How many of the last that were set aside are remembered.
const MOST_LAST: usize = 20;

/// The key under which commands are set aside.
const REJECTED: &str = "REJECTED";
/// Of the messenger's lanes; it shares it with some shards.
const REJECTED_LANE: usize = 1;

/// The guild that a command is about: with it the command can be routed anew.
const GUILD_ID: &str = "x-optic-guild-id";
/// The count by which it was routed.
const SHARD_COUNT: &str = "x-optic-shard-count";
/// How often it was routed anew.
const MOVES: &str = "x-optic-moves";
/// The dialect that its answer is to have, where its body had another before it was passed on.
pub const ENCODING: &str = "x-optic-encoding";

/// Publishes for all commands of a process.
#[derive(Debug)]
pub struct Post {
    messenger: Messenger,
    group: String,
    answers: Answers,
    tally: Mutex<Tally>,
    /// The last that were set aside, the latest first.
    last: Mutex<VecDeque<LastRejected>>,
    /// Commands that could not be passed on at their first try.
    delayed: Mutex<Count>,
    /// Answers that were asked for in a queue of ours.
    not_given: Mutex<Count>,
}

/// How a command came to its shard's queue, if by [`Post::forward`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The guild that it is about.
    pub guild_id: u64,
    /// The count by which its shard was found.
    pub shard_count: u32,
    /// How often it was routed anew since it was sent.
    pub moves: u32,
}

/// A command that was set aside. Not its body: tokens were sent so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRejected {
    /// When, in Unix milliseconds.
    pub at: u64,
    /// The queue that it was in.
    pub source: String,
    /// Why, for machines,
    pub kind: Kind,
    /// and in words.
    pub reason: String,
    /// How many bytes it had.
    pub bytes: usize,
}

/// Why a command is not where it was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It is not ours any more: RabbitMQ gives it to another, or to us again.
    NotHeld,
    /// RabbitMQ has not taken it for minutes: it is to be given back.
    GivenUp,
}

#[derive(Clone, Copy)]
enum Destination {
    Shard(ShardId),
    Rejected,
}

impl Way {
    /// The shard that the guild has by this count.
    pub fn shard(self) -> ShardId {
        ShardId::of_guild(self.guild_id, self.shard_count)
    }

    /// From what [`Post::forward`] wrote.
    pub fn of(properties: &Properties) -> Option<Self> {
        let number = |name| properties.headers.get(name)?.parse::<u64>().ok();
        Some(Self {
            guild_id: number(GUILD_ID)?,
            shard_count: number(SHARD_COUNT)?.try_into().ok()?,
            moves: number(MOVES).and_then(|moves| moves.try_into().ok()).unwrap_or_default(),
        })
    }

    fn headers(self) -> BTreeMap<String, String> {
        let mut headers = BTreeMap::from([
            (GUILD_ID.to_owned(), self.guild_id.to_string()),
            (SHARD_COUNT.to_owned(), self.shard_count.to_string()),
        ]);
        if self.moves > 0 {
            headers.insert(MOVES.to_owned(), self.moves.to_string());
        }
        headers
    }
}

impl Post {
    /// Publishes to the exchange of `group`.
    pub fn new(messenger: Messenger, group: &str, answers: Answers) -> Self {
        let (tally, last, delayed, not_given) = Default::default();
        Self { messenger, group: group.to_owned(), answers, tally, last, delayed, not_given }
    }

    /// Publishes a packet that came with these properties to the shard of its guild, for as long as it is held. Who asked is
    /// answered by that shard's process, in the dialect that the [`ENCODING`] header names, if it is there.
    ///
    /// # Errors
    /// When it is not known to be there.
    pub async fn forward(
        &self,
        way: Way,
        packet: &[u8],
        properties: &Properties,
        is_held: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        let mut headers = way.headers();
        headers.extend(properties.headers.get_key_value(ENCODING).map(|(name, value)| (name.clone(), value.clone())));
        let properties = Properties { headers, ..properties.clone() };
        self.carry(Destination::Shard(way.shard()), &properties, packet, is_held).await
    }

    /// Publishes a command out of the queue of this key to where those are that cannot be carried out, for as long as it is
    /// held, and answers who asked.
    ///
    /// # Errors
    /// When it is not known to be there.
    pub async fn set_aside(
        &self,
        rejected: &Rejected,
        source: &str,
        body: &[u8],
        properties: &Properties,
        is_held: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        let source = queue_name(&self.group, None, source);
        let headers = [
            ("x-optic-reason", brief(&rejected.to_string()).to_owned()),
            ("x-optic-kind", rejected.kind().name().to_owned()),
            ("x-optic-source", source.clone()),
        ];
        let cut = (body.len() > KEPT).then(|| (BYTES, body.len().to_string()));
        let aside = Properties {
            content_type: properties.content_type.clone(),
            correlation_id: properties.correlation_id.clone(),
            message_id: properties.message_id.clone(),
            headers: headers.into_iter().chain(cut).map(|(name, value)| (name.to_owned(), value)).collect(),
            ..Properties::default()
        };
        self.carry(Destination::Rejected, &aside, &body[..body.len().min(KEPT)], is_held).await?;
        let tell = self.tally().count(rejected.kind(), Instant::now());
        self.remember(rejected, &source, body.len());
        if let Some(more) = tell {
            let to = queue_name(&self.group, None, REJECTED);
            warn!(queue = %source, kind = rejected.kind().name(), reason = %rejected, more, "a command is set aside in {to}");
        }
        self.answer(properties, body, &Outcome::SetAside(rejected));
        Ok(())
    }

    /// Answers whoever sent a command with these properties and this body, if an answer was asked for.
    pub fn answer(&self, asked: &Properties, body: &[u8], outcome: &Outcome<'_>) {
        let Some(to) = asked.reply_to.as_deref() else { return };
        // The default exchange would take it into any queue: a stored session, say, would be an answer then.
        if is_ours(&self.group, to) {
            if let Some(more) = count(&self.not_given) {
                warn!(reply_to = %to, more, "an answer is not given: its \"reply_to\" is a queue of Optic's own");
            }
            return;
        }
        self.answers.give(asked, dialect_of(asked, body), outcome);
    }

    /// How many commands were set aside for this kind of reason.
    pub fn set_aside_for(&self, kind: Kind) -> u64 {
        self.tally().total(kind)
    }

    /// The last commands that were set aside, the latest first.
    pub fn last_set_aside(&self) -> Vec<LastRejected> {
        lock(&self.last).iter().cloned().collect()
    }

    /// How many commands could not be passed on at their first try.
    pub fn held_up(&self) -> u64 {
        lock(&self.delayed).total()
    }

    fn remember(&self, rejected: &Rejected, source: &str, bytes: usize) {
        let mut last = lock(&self.last);
        last.truncate(MOST_LAST - 1);
        last.push_front(LastRejected {
            at: unix_millis(),
            source: source.to_owned(),
            kind: rejected.kind(),
            reason: brief(&rejected.to_string()).to_owned(),
            bytes,
        });
    }

    async fn carry(
        &self,
        to: Destination,
        properties: &Properties,
        body: &[u8],
        is_held: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        let (lane, key) = match to {
            Destination::Shard(shard) => (shard.get() as usize, shard.to_string()),
            Destination::Rejected => (REJECTED_LANE, REJECTED.to_owned()),
        };
        let message = Message { exchange: &self.group, key: &key, mandatory: true, persistent: true, properties, body };
        let (since, mut pause, mut declared, mut delayed) = (Instant::now(), FIRST_PAUSE, false, false);
        loop {
            if !is_held() {
                return Err(Undone::NotHeld);
            }
            let error = match self.messenger.publish(lane, &message).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_undeclared() && !declared => match self.declare(to).await {
                    Ok(()) => {
                        declared = true;
                        continue;
                    }
                    Err(error) => error.into(),
                },
                Err(error) => error,
            };
            // Each counts once: one queue that takes nothing is no news while the others do.
            if !std::mem::replace(&mut delayed, true) {
                self.tell_delayed(&error);
            }
            if since.elapsed() >= GIVE_BACK {
                return Err(Undone::GivenUp);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn declare(&self, to: Destination) -> Result<(), AdminError> {
        let queue = match to {
            Destination::Shard(shard) => Queue::commands(&self.group, shard),
            Destination::Rejected => Queue::rejected(&self.group),
        };
        self.messenger.declare(&queue).await
    }

    fn tell_delayed(&self, error: &PublishError) {
        if let Some(more) = count(&self.delayed) {
            warn!(%error, more, "a command cannot be passed on: it waits");
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }
}

/// The properties of a command whose body became JSON: who asked is answered in the dialect that it had.
pub fn as_json(properties: &Properties, dialect: Dialect) -> Properties {
    let mut properties = properties.clone();
    if !dialect.is_json() {
        properties.content_type = Some(Encoding::Json.content_type().to_owned());
        properties.headers.insert(ENCODING.to_owned(), dialect.name().to_owned());
    }
    properties
}

/// The dialect in which a command was sent, and is to be answered.
pub fn dialect_of(asked: &Properties, body: &[u8]) -> Dialect {
    let named = asked.headers.get(ENCODING).and_then(|name| Dialect::of_name(name));
    named.unwrap_or_else(|| Dialect::of_body(asked.content_type.as_deref(), body))
}

/// Counts one, and says whether the log is to tell, and of how many more.
fn count(of: &Mutex<Count>) -> Option<u64> {
    lock(of).count(Instant::now())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_read_as_it_was_written() {
        for moves in [0, 3] {
            let way = Way { guild_id: u64::MAX, shard_count: 16, moves };
            let properties = Properties { headers: way.headers(), ..Properties::default() };
            assert_eq!(Way::of(&properties), Some(way));
        }
        assert_eq!(Way::of(&Properties::default()), None);
        let way = Way { guild_id: 41_771_983_423_143_937, shard_count: 16, moves: 0 };
        assert_eq!(way.shard(), ShardId::new(6));
    }

    #[test]
    fn an_answer_is_in_the_dialect_of_the_command_also_after_that_became_json() {
        let named =
            |content_type: &str| Properties { content_type: Some(content_type.to_owned()), ..Properties::default() };
        for dialect in Dialect::ALL {
            let passed_on = as_json(&named(dialect.content_type()), dialect);
            assert_eq!(passed_on.content_type.as_deref(), Some("application/json"));
            assert_eq!(dialect_of(&passed_on, b"{}"), dialect);
        }
        let wrong = Properties { headers: [(ENCODING.to_owned(), "x".to_owned())].into(), ..Properties::default() };
        assert_eq!(dialect_of(&wrong, b"\x80"), Dialect::Plain(Encoding::Msgpack));
        // A JSON packet that is declared as something else stays as it was declared.
        let odd = named("text/plain");
        assert_eq!(as_json(&odd, Dialect::Plain(Encoding::Json)), odd);
    }
}
