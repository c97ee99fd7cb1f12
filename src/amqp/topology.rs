//! Names in RabbitMQ, and declaring what they name: spec/amqp.md, "Names" and "Declaring".

mod amybot;
pub mod singyeong;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use futures_util::future::{try_join, try_join_all};
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use tracing::info;

use super::admin::{Admin, bounded};
use super::error::AdminError;
use crate::cluster::node::NodeId;
use crate::discord::ids::ShardId;

/// The queue in which workers of a group (and a subgroup) find an event: `G:event`, `G:subgroup:event`.
pub fn queue_name(group: &str, subgroup: Option<&str>, event: &str) -> String {
    match subgroup {
        Some(subgroup) => format!("{group}:{subgroup}:{event}"),
        None => format!("{group}:{event}"),
    }
}

/// The queue that holds a shard's session: `G:<prefix>.<shard>`, where the prefix begins with `optic:`.
pub fn session_queue(group: &str, prefix: &str, shard: ShardId) -> String {
    format!("{group}:{prefix}.{shard}")
}

/// Whether Optic itself reads this queue of the group, or keeps something there: `G:optic:…`, `G:SEND`, `G:REJECTED`,
/// `G:gateway`, `G:gateway-proxy`, `G:SINGYEONG_…`, `G:<digits>`.
pub fn is_ours(group: &str, queue: &str) -> bool {
    let Some(rest) = queue.strip_prefix(group).and_then(|rest| rest.strip_prefix(':')) else { return false };
    rest.starts_with("optic:")
        || rest.starts_with("SINGYEONG_")
        || matches!(rest, "SEND" | "REJECTED" | "gateway" | "gateway-proxy")
        || is_shard(rest)
}

/// Whether it is written as a shard's number.
fn is_shard(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit())
}

/// The key, and behind the group the queue, of events on their way to another 신경 server.
pub const FORWARD: &str = "optic:forward";

/// A durable queue, how it is declared, and the exchange and keys that it is bound with.
#[derive(Clone, Debug)]
pub struct Queue {
    name: String,
    binding: Option<Binding>,
    arguments: FieldTable,
}

#[derive(Clone, Debug)]
struct Binding {
    exchange: String,
    keys: Vec<String>,
}

impl Queue {
    /// The commands of a shard, `G:<shard>`. Without arguments, for workers declare it too. Who consumes it owns the shard.
    pub fn commands(group: &str, shard: ShardId) -> Self {
        Self::shared(group, &shard.to_string())
    }

    /// The commands by guild, `G:SEND`. Without arguments, for workers declare it too.
    pub fn send(group: &str) -> Self {
        Self::shared(group, "SEND")
    }

    /// Commands that were set aside, `G:REJECTED`: at most 10,000 and 64 MiB, each for a week.
    pub fn rejected(group: &str) -> Self {
        const WEEK: i32 = 7 * 24 * 3600 * 1000;
        let limits = [
            ("x-max-length", AMQPValue::LongInt(10_000)),
            ("x-max-length-bytes", AMQPValue::LongInt(64 << 20)),
            ("x-message-ttl", AMQPValue::LongInt(WEEK)),
        ];
        Self { arguments: classic(drop_head(limits)), ..Self::shared(group, "REJECTED") }
    }

    /// A process's queue on the bus, `G:optic:node.<id>`: a process is there as long as this has a consumer.
    pub fn node(group: &str, node: &NodeId) -> Self {
        let limits = [
            ("x-expires", AMQPValue::LongInt(60_000)),
            ("x-max-length", AMQPValue::LongInt(1000)),
            ("x-message-ttl", AMQPValue::LongInt(30_000)),
        ];
        Self { name: format!("{group}:optic:node.{node}"), binding: None, arguments: classic(drop_head(limits)) }
    }

    /// A process's queue for what others tell of their websocket clients, `G:optic:singyeong-news.<id>`: a process is there
    /// as long as this has a consumer. Bounded by bytes, for thousands of clients may be told of in a moment.
    pub fn singyeong_news(group: &str, node: &NodeId) -> Self {
        let limits = [
            ("x-expires", AMQPValue::LongInt(60_000)),
            ("x-max-length-bytes", AMQPValue::LongInt(64 << 20)),
            ("x-message-ttl", AMQPValue::LongInt(30_000)),
        ];
        let name = format!("{group}:optic:singyeong-news.{node}");
        Self { name, binding: None, arguments: classic(drop_head(limits)) }
    }

    /// The cluster's record, `G:optic:record`: one message.
    pub fn record(group: &str) -> Self {
        let limits = [("x-max-length", AMQPValue::LongInt(1))];
        Self { name: format!("{group}:optic:record"), binding: None, arguments: classic(drop_head(limits)) }
    }

    /// The lock for the record, `G:optic:lock`: never holds a message, its consumer holds the lock.
    pub fn lock(group: &str) -> Self {
        Self { name: format!("{group}:optic:lock"), binding: None, arguments: classic(FieldTable::default()) }
    }

    /// Events on their way to another 신경 server, `G:optic:forward`: of those that consume it one alone gets them, in order,
    /// and another takes over where that one has stopped.
    pub fn forward(group: &str) -> Self {
        let mut arguments = classic(FieldTable::default());
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        Self { arguments, ..Self::shared(group, FORWARD) }
    }

    fn shared(group: &str, key: &str) -> Self {
        let binding = Some(Binding { exchange: group.to_owned(), keys: vec![key.to_owned()] });
        Self { name: format!("{group}:{key}"), binding, arguments: FieldTable::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Declares it, whatever its properties are, and binds it, if it is to be bound, to its exchange, which is declared first.
    /// `channel` may be another afterwards.
    pub(super) async fn declare(&self, admin: &Admin, channel: &mut Channel) -> Result<Declared, AdminError> {
        if let Some(binding) = &self.binding {
            exchange(channel, &binding.exchange).await?;
        }
        let declared = declare_queue(admin, channel, &self.name, self.arguments.clone()).await?;
        self.bind(channel).await?;
        Ok(declared)
    }

    /// The same, where the exchange exists, and other properties are an error.
    async fn declare_once(&self, channel: &Channel) -> Result<Declared, AdminError> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(short(&self.name)?, options, self.arguments.clone());
        let action = format!("declare the queue \"{}\"", self.name);
        let declared = bounded(&action, declared);
        let (queue, ()) = try_join(declared, self.bind(channel)).await?;
        Ok(Declared { consumers: queue.consumer_count(), is_of_another_kind: false })
    }

    async fn bind(&self, channel: &Channel) -> Result<(), AdminError> {
        let Some(Binding { exchange, keys }) = &self.binding else { return Ok(()) };
        for key in keys {
            bind(channel, &self.name, exchange, key).await?;
        }
        Ok(())
    }
}

/// What was found when a queue was declared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Declared {
    pub(super) consumers: u32,
    /// It exists with other properties, and is used as it is.
    pub(super) is_of_another_kind: bool,
}

/// Whatever the virtual host's default type is: in a quorum queue an exclusive consumer excludes nobody, and the lengths and
/// ages of these are meant for a classic one.
fn classic(mut arguments: FieldTable) -> FieldTable {
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    arguments
}

fn drop_head<const N: usize>(limits: [(&str, AMQPValue); N]) -> FieldTable {
    let mut arguments = FieldTable::default();
    for (name, value) in limits {
        arguments.insert(name.into(), value);
    }
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    arguments
}

/// The exchange on which processes announce themselves, `G:optic:cluster`.
pub fn cluster_exchange(group: &str) -> String {
    format!("{group}:optic:cluster")
}

/// The exchange on which processes tell of their websocket clients, `G:optic:singyeong`.
pub fn singyeong_exchange(group: &str) -> String {
    format!("{group}:optic:singyeong")
}

/// The exchange on which a process asks all of them how they are, `G:optic:looks`.
pub fn looks_exchange(group: &str) -> String {
    format!("{group}:optic:looks")
}

/// A process's queue for such questions, `G:optic:look.<id>.<n>`: the *n*th of its run, for RabbitMQ may hold the former one
/// for a connection of which it has not noticed that it is lost.
pub fn look_queue(group: &str, node: &NodeId, number: u64) -> String {
    format!("{group}:optic:look.{node}.{number}")
}

/// What the names of queues for answers begin with: no answer goes to any other queue.
pub fn told_queues(group: &str) -> String {
    format!("{group}:optic:told.")
}

/// A process's queue for answers, `G:optic:told.<id>.<n>`; the same holds for its number.
pub fn told_queue(group: &str, node: &NodeId, number: u64) -> String {
    format!("{}{node}.{number}", told_queues(group))
}

/// A queue that never came to have a consumer is deleted after this, in milliseconds: its connection may live for months.
const UNUSED: i32 = 60_000;

/// Declares a queue that ends with its connection, with its consumer, or when it has had none for a minute, and drops the oldest
/// beyond these limits.
pub(super) async fn declare_passing(
    channel: &Channel,
    queue: &str,
    max_length: i32,
    max_bytes: i32,
) -> Result<(), AdminError> {
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(short(queue)?, options, passing(max_length, max_bytes));
    bounded(&format!("declare the queue \"{queue}\""), declared).await.map(drop)
}

fn passing(max_length: i32, max_bytes: i32) -> FieldTable {
    let limits = [("x-max-length", max_length), ("x-max-length-bytes", max_bytes), ("x-expires", UNUSED)];
    classic(drop_head(limits.map(|(name, limit)| (name, AMQPValue::LongInt(limit)))))
}

/// Declares and binds the queues for the commands of all shards, `G:SEND` and `G:REJECTED`, so that no command is lost for want of
/// a queue, whichever process runs.
///
/// # Errors
/// The first that failed.
pub async fn declare_commands(admin: &Admin, group: &str, shard_count: u32) -> Result<(), AdminError> {
    let shards = (0..shard_count).map(|shard| Queue::commands(group, ShardId::new(shard)));
    let queues: Vec<Queue> = [Queue::send(group), Queue::rejected(group)].into_iter().chain(shards).collect();
    declare_all(admin, group, &queues).await.map(drop)
}

/// Declares queues of the group and binds them, whatever their properties are.
///
/// # Errors
/// The first that failed.
pub async fn declare_queues(admin: &Admin, group: &str, queues: &[Queue]) -> Result<(), AdminError> {
    declare_all(admin, group, queues).await.map(drop)
}

/// So many declarations wait for their answers at a time: enough to hide the round trips.
const PIPELINED: usize = 64;

/// Declares the group's exchange and these queues of the group, and binds them; gives what was found, in their order.
pub(super) async fn declare_all(admin: &Admin, group: &str, queues: &[Queue]) -> Result<Vec<Declared>, AdminError> {
    let mut channel = admin.channel().await?;
    exchange(&channel, group).await?;
    let mut found = Vec::with_capacity(queues.len());
    for queues in queues.chunks(PIPELINED) {
        match try_join_all(queues.iter().map(|queue| queue.declare_once(&channel))).await {
            Ok(declared) => found.extend(declared),
            // One of them exists with other properties, and the channel is closed for all: which one shows one by one.
            Err(AdminError::Conflict { .. }) => {
                channel = admin.channel().await?;
                for queue in queues {
                    found.push(queue.declare(admin, &mut channel).await?);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// How many consumers each of these has, all of which exist.
pub(super) async fn consumers_of(admin: &Admin, queues: &[Queue]) -> Result<Vec<u32>, AdminError> {
    let channel = admin.channel().await?;
    let mut consumers = Vec::with_capacity(queues.len());
    for queues in queues.chunks(PIPELINED) {
        consumers.extend(try_join_all(queues.iter().map(|queue| look_at(&channel, queue.name()))).await?);
    }
    Ok(consumers)
}

/// How many consumers an existing queue has. Where there is none the channel is closed.
pub(super) async fn look_at(channel: &Channel, queue: &str) -> Result<u32, AdminError> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let looked = channel.queue_declare(short(queue)?, passive, FieldTable::default());
    bounded(&format!("look at the queue \"{queue}\""), looked).await.map(|queue| queue.consumer_count())
}

/// How many messages wait in an existing queue, and how many consumers it has. Where there is none the channel is closed.
pub(super) async fn depth(channel: &Channel, queue: &str) -> Result<(u32, u32), AdminError> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let looked = channel.queue_declare(short(queue)?, passive, FieldTable::default());
    let found = bounded(&format!("look at the queue \"{queue}\""), looked).await?;
    Ok((found.message_count(), found.consumer_count()))
}

/// The queue by which processes take turns to identify in a bucket: `G:optic:identify.<bucket>`.
pub fn identify_queue(group: &str, bucket: u32) -> String {
    format!("{group}:optic:identify.{bucket}")
}

/// Declares the group's exchange: direct, durable.
///
/// # Errors
/// [`AdminError::Conflict`] when there is an exchange of this name with another type: events could not be published there.
pub async fn declare_exchange(admin: &Admin, group: &str) -> Result<(), AdminError> {
    exchange(&admin.channel().await?, group).await
}

/// Declares the queues of these events as workers do, and binds them, so that nothing is lost before the first worker runs.
///
/// # Errors
/// The first that failed; those before it are declared.
pub async fn declare_events(
    admin: &Admin,
    group: &str,
    subgroup: Option<&str>,
    events: &[String],
) -> Result<(), AdminError> {
    let mut channel = admin.channel().await?;
    exchange(&channel, group).await?;
    for event in events {
        let queue = queue_name(group, subgroup, event);
        declare_queue(admin, &mut channel, &queue, FieldTable::default()).await?;
        bind(&channel, &queue, group, event).await?;
    }
    Ok(())
}

/// How many consume a queue; none, if there is no such queue.
///
/// # Errors
/// What RabbitMQ said.
pub async fn consumers(admin: &Admin, queue: &Queue) -> Result<u32, AdminError> {
    let channel = admin.channel().await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel.queue_declare(short(queue.name())?, passive, FieldTable::default());
    match bounded(&format!("look at the queue \"{}\"", queue.name()), asked).await {
        Ok(found) => Ok(found.consumer_count()),
        Err(error) if error.is_absent() => Ok(0),
        Err(error) => Err(error),
    }
}

/// How many messages are in a queue that nobody has taken out yet.
///
/// # Errors
/// What RabbitMQ said.
pub async fn messages(admin: &Admin, queue: &Queue) -> Result<u32, AdminError> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let channel = admin.channel().await?;
    let asked = channel.queue_declare(short(queue.name())?, passive, FieldTable::default());
    bounded(&format!("look at the queue \"{}\"", queue.name()), asked).await.map(|found| found.message_count())
}

/// Whether there is a queue of this name, be it another connection's alone. Direct reply-to's names count as long as their
/// consumer is there.
///
/// # Errors
/// What RabbitMQ said; nothing is known then.
pub async fn exists(admin: &Admin, queue: &str) -> Result<bool, AdminError> {
    presence(admin, queue).await.map(|presence| presence != Presence::Gone)
}

/// Whether there is a queue, and somebody behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// There is both; of another connection's own queue its owner is enough.
    There,
    /// There is a queue, and nobody consumes it.
    Silent,
    /// There is no such queue.
    Gone,
}

/// The same as [`exists`], with who is behind it.
///
/// # Errors
/// What RabbitMQ said; nothing is known then.
pub async fn presence(admin: &Admin, queue: &str) -> Result<Presence, AdminError> {
    match look_at(&admin.channel().await?, queue).await {
        Ok(0) => Ok(Presence::Silent),
        Ok(_) | Err(AdminError::Locked { .. }) => Ok(Presence::There),
        Err(error) if error.is_absent() => Ok(Presence::Gone),
        Err(error) => Err(error),
    }
}

/// Deletes queues with all that is in them, and an exchange. What does not exist is no error.
///
/// # Errors
/// The first that failed; those before it are gone.
pub async fn delete(admin: &Admin, exchange: &str, queues: &[String]) -> Result<(), AdminError> {
    let channel = admin.channel().await?;
    for queue in queues {
        let deleted = channel.queue_delete(short(queue)?, QueueDeleteOptions::default());
        bounded(&format!("delete the queue \"{queue}\""), deleted).await?;
    }
    let deleted = channel.exchange_delete(short(exchange)?, ExchangeDeleteOptions::default());
    bounded(&format!("delete the exchange \"{exchange}\""), deleted).await
}

pub(super) async fn exchange(channel: &Channel, group: &str) -> Result<(), AdminError> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(short(group)?, ExchangeKind::Direct, options, FieldTable::default());
    match bounded(&format!("declare the direct, durable exchange \"{group}\""), declared).await {
        Err(AdminError::Conflict { action, reason }) => {
            let reason = format!("{reason}. Delete that exchange, or set BROKER_GROUP to another name");
            Err(AdminError::Conflict { action, reason })
        }
        declared => declared,
    }
}

/// Declares an exchange on which processes speak to each other: fanout, durable.
pub(super) async fn fanout(channel: &Channel, exchange: &str) -> Result<(), AdminError> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(short(exchange)?, ExchangeKind::Fanout, options, FieldTable::default());
    bounded(&format!("declare the fanout, durable exchange \"{exchange}\""), declared).await
}

/// Declares a durable queue, or takes it as it is: the worker that declared it with arguments of its own (or the broker's
/// default type, when it was another) has its reasons. A refusal closes the channel: `channel` is then a new one.
pub(super) async fn declare_queue(
    admin: &Admin,
    channel: &mut Channel,
    queue: &str,
    arguments: FieldTable,
) -> Result<Declared, AdminError> {
    let name = short(queue)?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let action = format!("declare the queue \"{queue}\"");
    match bounded(&action, channel.queue_declare(name, options, arguments)).await {
        Ok(queue) => Ok(Declared { consumers: queue.consumer_count(), is_of_another_kind: false }),
        Err(AdminError::Conflict { reason, .. }) => {
            if is_first_time(queue) {
                info!(%queue, %reason, "the queue exists with other properties and is used as it is");
            }
            *channel = admin.channel().await?;
            Ok(Declared { consumers: look_at(channel, queue).await?, is_of_another_kind: true })
        }
        Err(error) => Err(error),
    }
}

/// Queues with other properties, by name: each is told of once in a process, over whatever connection it was found.
static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn is_first_time(queue: &str) -> bool {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(queue.to_owned())
}

pub(super) async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), AdminError> {
    let bound = channel.queue_bind(
        short(queue)?,
        short(exchange)?,
        short(key)?,
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bounded(&format!("bind the queue \"{queue}\" to the exchange \"{exchange}\""), bound).await
}

/// A name as AMQP carries it.
pub(super) fn short(name: &str) -> Result<ShortString, AdminError> {
    ShortString::try_new(name).map_err(|_| AdminError::NameTooLong(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_in_passing_that_nobody_came_to_consume_does_not_stay() {
        let arguments = passing(32, 1 << 20);
        assert_eq!(arguments.inner().get("x-expires"), Some(&AMQPValue::LongInt(60_000)));
    }

    #[test]
    fn names_are_those_of_the_layout() {
        assert_eq!(queue_name("gateway", None, "MESSAGE_CREATE"), "gateway:MESSAGE_CREATE");
        assert_eq!(queue_name("gateway", Some("logs"), "MESSAGE_CREATE"), "gateway:logs:MESSAGE_CREATE");
        assert_eq!(session_queue("gateway", "optic:session", ShardId::new(7)), "gateway:optic:session.7");
        assert_eq!(identify_queue("gateway", 3), "gateway:optic:identify.3");
        assert_eq!(Queue::commands("gateway", ShardId::new(7)).name(), "gateway:7");
        assert_eq!(Queue::node("gateway", &NodeId::of_run("web-1", 1)).name(), "gateway:optic:node.web-1.00000001");
        assert_eq!(Queue::forward("gateway").name(), "gateway:optic:forward");
        let news = Queue::singyeong_news("gateway", &NodeId::of_run("web-1", 1));
        assert_eq!(news.name(), "gateway:optic:singyeong-news.web-1.00000001");
        let node = NodeId::of_run("web-1", 1);
        assert_eq!(looks_exchange("gateway"), "gateway:optic:looks");
        assert_eq!(look_queue("gateway", &node, 0), "gateway:optic:look.web-1.00000001.0");
        assert_eq!(told_queue("gateway", &node, 3), "gateway:optic:told.web-1.00000001.3");
    }

    #[test]
    fn queues_of_ours_alone_are_classic_and_those_that_workers_declare_have_no_arguments() {
        let node = NodeId::of_run("web-1", 1);
        let of_node = [Queue::node("g", &node), Queue::singyeong_news("g", &node)];
        let forward = Queue::forward("g");
        for ours in [Queue::lock("g"), Queue::record("g"), Queue::rejected("g"), forward].iter().chain(&of_node) {
            let kind = ours.arguments.inner().get("x-queue-type");
            assert_eq!(kind, Some(&AMQPValue::LongString("classic".into())), "{}", ours.name());
        }
        for theirs in [Queue::commands("g", ShardId::new(0)), Queue::send("g")] {
            assert!(theirs.arguments.inner().is_empty(), "{}", theirs.name());
        }
    }

    #[test]
    fn our_own_queues_are_told_from_those_of_workers() {
        for ours in [
            "a:b:optic:session.0",
            "a:b:optic:record",
            "a:b:SEND",
            "a:b:REJECTED",
            "a:b:0",
            "a:b:17",
            "a:b:SINGYEONG_SEND",
        ] {
            assert!(is_ours("a:b", ours), "{ours}");
        }
        for other in
            ["amq.rabbitmq.reply-to.x", "a:b", "a:b:", "a:b:MESSAGE_CREATE", "a:b:7x", "a:b:x:7", "a:c:7", "SEND"]
        {
            assert!(!is_ours("a:b", other), "{other}");
        }
    }

    #[test]
    fn other_properties_are_told_once_for_each_queue() {
        assert!(is_first_time("told-once:0") && is_first_time("told-once:1"));
        assert!(!is_first_time("told-once:0"));
    }

    #[test]
    fn a_name_too_long_for_amqp_is_an_error_and_no_panic() {
        assert!(short(&"x".repeat(255)).is_ok());
        assert!(matches!(short(&"x".repeat(256)), Err(AdminError::NameTooLong(_))));
    }
}
