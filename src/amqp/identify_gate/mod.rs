//! The turn to identify among all processes of a bot, by a queue for each bucket (spec/cluster.md, "The identify gate").
//!
//! ```text
//! shard ─ enter ─► claim ─► one life a waiting shard: Turn (sans-I/O) says what to do, the life does it
//! ```
//!
//! [`AmqpTurnstile`] is the handle, [`TurnstileDriver::run`] holds all lives. A shard that no longer waits leaves only its
//! claim: its place in line stays, and is its own again if it comes back, or passes the turn on. To leave the line while a
//! marker may be under way would let the next one go before its time.

#[cfg(test)]
mod model;
mod turn;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Consumer, Queue};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub use self::turn::Rules;
use self::turn::{Found, Marker, Past, Step, Turn};
use super::admin::{Admin, bounded};
use super::error::AdminError;
use super::topology::{identify_queue, short};
use crate::cluster::ranges::MOST_SHARDS;
use crate::discord::identify_queue::PACE;
use crate::discord::ids::ShardId;
use crate::discord::lately::Lately;
use crate::discord::turnstile::{Entering, Pass, Turnstile};

impl Rules {
    /// Discord's.
    pub const DISCORD: Self = Self { pace: PACE, valid: Duration::from_secs(1) };
}

/// More markers than one are harmless; so many are kept at most.
const MOST_MARKERS: i32 = 8;

/// Shards on their way to the driver; who comes next waits.
const NEWCOMERS: usize = 64;

/// After how long who waits gets in line anew. Somebody may have purged the queue; and RabbitMQ (3.10) does not look for the
/// next one when a consumer is cancelled, but when a channel closes and no message came in between, or another one consumes.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How long RabbitMQ has to confirm a marker. Without one the held marker is put back, which only takes longer.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);

/// The pauses between tries to get in line. What fails is a connection as a rule, and that has pauses of its own.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A shard in its bucket.
type Place = (u32, ShardId);

/// Where shards wait for their turn. Cheap to clone.
#[derive(Clone)]
pub struct AmqpTurnstile {
    claims: Claims,
    newcomers: mpsc::Sender<Place>,
}

/// Shards that wait, and who is to be told; a place is here for as long as its life has not granted or passed on its turn.
type Claims = Arc<Mutex<HashMap<Place, oneshot::Sender<Pass>>>>;

/// Takes the turns of its [`AmqpTurnstile`]s: to be run by whoever owns the task.
pub struct TurnstileDriver {
    /// Publishes markers.
    administration: Admin,
    /// Holds the places in line; it never publishes, so that no alarm stops it.
    consumption: Admin,
    group: String,
    rules: Rules,
    claims: Claims,
    newcomers: mpsc::Receiver<Place>,
}

impl AmqpTurnstile {
    /// A handle and the driver that it needs. `administration` publishes, `consumption` never does.
    pub fn new(administration: Admin, consumption: Admin, group: &str, rules: Rules) -> (Self, TurnstileDriver) {
        let (sender, newcomers) = mpsc::channel(NEWCOMERS);
        let claims = Claims::default();
        let handle = Self { claims: claims.clone(), newcomers: sender };
        let group = group.to_owned();
        (handle, TurnstileDriver { administration, consumption, group, rules, claims, newcomers })
    }
}

impl Turnstile for AmqpTurnstile {
    fn enter(&self, bucket: u32, shard: ShardId) -> Entering<'_> {
        Box::pin(async move {
            let place = (bucket, shard);
            let (sender, turn) = oneshot::channel();
            if let Ok(permit) = self.newcomers.reserve().await {
                // Who comes back finds his place in line.
                if lock(&self.claims).insert(place, sender).is_none() {
                    permit.send(place);
                }
            }
            match turn.await {
                Ok(pass) => pass,
                // Optic stops, or another waiter of the same shard took this one's place: nobody waits here any more.
                Err(_) => pending().await,
            }
        })
    }
}

impl fmt::Debug for AmqpTurnstile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpTurnstile").field("waiting", &lock(&self.claims).len()).finish_non_exhaustive()
    }
}

impl TurnstileDriver {
    /// Takes turns until `stop`. What is held then goes back to RabbitMQ, as from a process that died.
    pub async fn run(self, stop: CancellationToken) {
        let Self { administration, consumption, group, rules, claims, mut newcomers } = self;
        let gate = Gate {
            administration,
            consumption,
            group,
            rules,
            claims,
            publishing: tokio::sync::Mutex::default(),
            told: Mutex::default(),
            seen: Mutex::default(),
            lately: Mutex::default(),
        };
        let mut lives = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(place) = newcomers.recv() => lives.push(gate.live(place, &stop)),
                Some(()) = lives.next() => {}
                else => break,
            }
        }
        while lives.next().await.is_some() {}
    }
}

/// What lives share.
struct Gate {
    administration: Admin,
    consumption: Admin,
    group: String,
    rules: Rules,
    claims: Claims,
    /// One publish at a time: RabbitMQ may tell a message's return so that lapin hands it to another's confirm.
    publishing: tokio::sync::Mutex<Option<Channel>>,
    /// Why shards cannot get in line, as it was last told.
    told: Mutex<Option<AdminError>>,
    /// Buckets whose queue this process has seen: if it is new again, somebody deleted it.
    seen: Mutex<HashSet<u32>>,
    /// Who identified lately, through this process: it gets in line behind those who did not.
    lately: Mutex<Lately>,
}

/// The lowest shard first, of those who had the fewest turns lately.
fn priority(shard: ShardId, turns: usize) -> i64 {
    // No turn weighs more than all shards that a bot can have; so many turns fit.
    let turns = i64::try_from(turns).unwrap_or(i64::from(u32::MAX));
    -(turns * i64::from(MOST_SHARDS) + i64::from(shard.get()))
}

/// A place in line.
struct Line {
    channel: Channel,
    consumer: Consumer,
    /// The marker that we hold.
    held: Option<u64>,
}

impl Gate {
    /// A shard's time from its first wish to the turn handed on.
    async fn live(&self, place: Place, stop: &CancellationToken) {
        let mut line = None;
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.take_turn(place, &mut line) => {}
        }
        abandon(line).await;
    }

    async fn take_turn(&self, place: Place, line: &mut Option<Line>) {
        let mut turn = Turn::new(self.rules);
        let mut pause = FIRST_PAUSE;
        loop {
            let done = match turn.step() {
                Step::Over => return,
                Step::Register => {
                    abandon(line.take()).await;
                    if !self.is_wanted(place) {
                        return;
                    }
                    match self.register(place).await {
                        Ok(registered) => {
                            *line = Some(registered);
                            turn.registered(Instant::now());
                            pause = FIRST_PAUSE;
                            lock(&self.told).take();
                        }
                        Err(error) => {
                            // All that wait meet the same: it is told once.
                            let known = lock(&self.told).replace(error.clone()).is_some_and(|told| told == error);
                            if !known {
                                warn!(shard = %place.1, bucket = place.0, %error, "shards cannot wait for their turn to identify, trying on");
                            }
                            sleep(pause).await;
                            pause = (pause * 2).min(LONGEST_PAUSE);
                        }
                    }
                    continue;
                }
                step => match line {
                    Some(line) => self.step(step, &mut turn, line, place).await,
                    None => Err(AdminError::Unreachable("not in line".to_owned())),
                },
            };
            if let Err(error) = done {
                debug!(shard = %place.1, bucket = place.0, %error, "lost the place in line to identify");
                turn.lost();
            }
        }
    }

    /// Does a step on a place in line; an error is the loss of the place.
    async fn step(&self, step: Step, turn: &mut Turn, line: &mut Line, place: Place) -> Result<(), AdminError> {
        match step {
            Step::Wait => tokio::select! {
                marker = line.marker() => turn.delivered(marker?, Instant::now()),
                () = sleep(AGAIN_AFTER) => turn.lost(),
            },
            Step::Until(at) => tokio::select! {
                biased;
                lost = line.lost() => return Err(lost),
                () = sleep_until(at.into()) => turn.due(Instant::now(), self.is_wanted(place)),
            },
            Step::Keep(until) => tokio::select! {
                biased;
                lost = line.lost() => return Err(lost),
                () = sleep_until(until.into()) => turn.kept(Instant::now()),
            },
            Step::Prove => {
                let asked = Instant::now();
                self.look(&line.channel, place.0, true).await?;
                turn.answered(asked, Instant::now(), self.is_wanted(place));
            }
            Step::Grant(until) => {
                let (pass, mut spent) = Pass::reporting(until);
                // Where nobody takes it, the pass is dropped: unspent.
                drop(lock(&self.claims).remove(&place).map(|shard| shard.send(pass)));
                let lost = tokio::select! {
                    biased;
                    when = &mut spent => {
                        self.used(place, turn, when.ok());
                        return Ok(());
                    }
                    lost = line.lost() => Some(lost),
                    () = sleep_until(until.into()) => None,
                };
                // Void from now on; what was spent before that counts.
                spent.close();
                self.used(place, turn, spent.try_recv().ok());
                return lost.map_or(Ok(()), Err);
            }
            Step::HandOn => {
                self.hand_on(line, place.0).await?;
                turn.handed_on();
            }
            Step::Register | Step::Over => {}
        }
        Ok(())
    }

    /// The turn was used, at that time, or was not.
    fn used(&self, (_, shard): Place, turn: &mut Turn, when: Option<Instant>) {
        if let Some(when) = when {
            lock(&self.lately).had_turn(shard, when);
        }
        turn.used(when);
    }

    /// Whether the shard still waits; who does not, gives its claim up.
    fn is_wanted(&self, place: Place) -> bool {
        let mut claims = lock(&self.claims);
        let wanted = claims.get(&place).is_some_and(|shard| !shard.is_closed());
        if !wanted {
            claims.remove(&place);
        }
        wanted
    }

    /// Gets in line.
    async fn register(&self, (bucket, shard): Place) -> Result<Line, AdminError> {
        self.replenish(bucket).await?;
        let queue = identify_queue(&self.group, bucket);
        let action = format!("consume the queue \"{queue}\"");
        let channel = self.consumption.channel().await?;
        bounded(&action, channel.basic_qos(1, BasicQosOptions::default())).await?;
        // When the one whose turn it is goes, RabbitMQ takes the highest priority of those who wait.
        let mut arguments = FieldTable::default();
        let turns = {
            let mut lately = lock(&self.lately);
            lately.forget(Instant::now());
            lately.turns(shard)
        };
        arguments.insert("x-priority".into(), AMQPValue::LongLongInt(priority(shard, turns)));
        let consumer = channel.basic_consume(short(&queue)?, "".into(), BasicConsumeOptions::default(), arguments);
        let consumer = bounded(&action, consumer).await?;
        Ok(Line { channel, consumer, held: None })
    }

    /// Declares the bucket's queue, and puts markers there if none is to be had.
    async fn replenish(&self, bucket: u32) -> Result<(), AdminError> {
        let queue = identify_queue(&self.group, bucket);
        let mut channel = self.consumption.channel().await?;
        let is_new = match self.look(&channel, bucket, true).await {
            Ok(_) => false,
            Err(AdminError::NotFound { .. }) => {
                channel = self.consumption.channel().await?;
                true
            }
            Err(error) => return Err(error),
        };
        let declared = self.look(&channel, bucket, false).await?;
        let was_seen = !lock(&self.seen).insert(bucket);
        let (messages, consumers) = (declared.message_count(), declared.consumer_count());
        let found = Found { is_new: is_new && !was_seen, messages, consumers };
        if let Some((count, past)) = found.missing() {
            debug!(%queue, count, ?past, "putting markers into the identify gate");
            for _ in 0..count {
                self.publish(&queue, past).await?;
            }
        }
        Ok(())
    }

    /// Asks for the bucket's queue, or declares it.
    async fn look(&self, channel: &Channel, bucket: u32, passive: bool) -> Result<Queue, AdminError> {
        let queue = identify_queue(&self.group, bucket);
        let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        if !passive {
            // Classic whatever the broker's default: its transient messages are gone after a restart, which has to be seen.
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
            arguments.insert("x-max-length".into(), AMQPValue::LongInt(MOST_MARKERS));
            arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        }
        let declared = channel.queue_declare(short(&queue)?, options, arguments);
        bounded(&format!("declare the queue \"{queue}\""), declared).await
    }

    /// Puts a marker there. Refused because there are enough, it is as good.
    async fn publish(&self, queue: &str, past: Past) -> Result<(), AdminError> {
        let action = format!("put a marker into \"{queue}\"");
        let publish = async {
            let mut slot = self.publishing.lock().await;
            // lapin sends nothing on a blocked connection, and would keep all of it in memory.
            self.administration.unblocked().await?;
            // Taken out: after an error or a time-out its state is not known.
            let channel = match slot.take() {
                Some(channel) if channel.status().connected() => channel,
                _ => self.administration.confirming_channel().await?,
            };
            // Transient: a marker that survived RabbitMQ's restart could have forgotten that it was delivered before.
            let properties = BasicProperties::default()
                .with_content_type("application/json".into())
                .with_delivery_mode(1)
                .with_app_id("optic".into());
            let (name, body) = (short(queue)?, past.to_json());
            bounded(&action, async {
                channel.basic_publish("".into(), name, BasicPublishOptions::default(), &body, properties).await?.await
            })
            .await?;
            *slot = Some(channel);
            Ok(())
        };
        let late = |_| Err(AdminError::Unreachable(format!("no answer in time to: {action}")));
        timeout(PUBLISH_TIMEOUT, publish).await.unwrap_or_else(late)
    }

    /// Hands the turn on. The order matters: a marker for the next one first, while nobody else can identify; the held one
    /// is taken away last, so that a crash in between leaves one more and never one less. The channel has to be closed then:
    /// only that has RabbitMQ deliver to the next one, and a message between cancel and close would keep it from doing so.
    async fn hand_on(&self, line: &Line, bucket: u32) -> Result<(), AdminError> {
        let queue = identify_queue(&self.group, bucket);
        let renewed = self.publish(&queue, Past::Known).await;
        let action = format!("hand on the turn of \"{queue}\"");
        let cancel = line.channel.basic_cancel(line.consumer.tag(), BasicCancelOptions::default());
        bounded(&action, cancel).await?;
        let Some(held) = line.held else { return Ok(()) };
        match renewed {
            Ok(()) => bounded(&action, line.channel.basic_ack(held, BasicAckOptions::default())).await,
            Err(error) => {
                // RabbitMQ takes no messages: put back, the next one only waits longer than he would have to.
                debug!(%queue, %error, "the marker is put back");
                let back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                bounded(&action, line.channel.basic_nack(held, back)).await
            }
        }
    }
}

impl Line {
    /// Waits for the marker.
    async fn marker(&mut self) -> Result<Marker, AdminError> {
        match self.consumer.next().await {
            Some(Ok(delivery)) => {
                self.held = Some(delivery.delivery_tag);
                Ok(Marker { past: Past::from_json(&delivery.data), redelivered: delivery.redelivered })
            }
            Some(Err(error)) => Err(AdminError::of("go on waiting for the turn to identify", &error)),
            None => Err(AdminError::Unreachable("the consumer was cancelled".to_owned())),
        }
    }

    /// Waits for the loss of the place.
    async fn lost(&mut self) -> AdminError {
        loop {
            // With a prefetch of one nothing more is delivered.
            if let Err(lost) = self.marker().await {
                return lost;
            }
        }
    }
}

/// Leaves the line, and gives back what is held, at once: with the channel, RabbitMQ puts it first in the queue before it
/// lets the next one go. Dropping the consumer alone would let the next one go sooner, with another marker.
async fn abandon(line: Option<Line>) {
    if let Some(line) = line
        && line.channel.status().connected()
    {
        // Whether it answers or not, the channel is not used any more.
        let _ = bounded("close a channel", line.channel.close(200, "OK".into())).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
