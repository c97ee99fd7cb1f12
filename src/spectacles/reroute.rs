//! `SEND`: commands for a guild, passed on to the queue of the guild's shard, whoever runs that and whether it runs.
//!
//! Those for one shard are passed on one after the other, in the order in which they came; no shard waits for another. Each is
//! acknowledged once RabbitMQ has confirmed it in its new place. Nothing is held here beyond the consumer's prefetch.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::post::{self, Post, Undone, Way};
use super::route;
use crate::amqp::delivery::{Delivery, Properties};
use crate::discord::commands::Commands;
use crate::discord::ids::ShardId;
use crate::encoding::Dialect;

/// The prefetch that this is made for: enough to hide the confirms, few enough that other processes get their part.
pub const PREFETCH: u16 = 32;
/// The key, and the end of the queue's name.
const SEND: &str = "SEND";
/// At the end, for what was published and not yet confirmed: not acknowledged, it would be published again.
const GOODBYE: Duration = Duration::from_secs(1);

/// Passes commands on: to be run by whoever owns the task.
#[derive(Debug)]
pub struct Reroute {
    commands: Arc<Commands>,
    post: Arc<Post>,
}

/// A command on its way to its shard.
struct Routed {
    way: Way,
    /// In JSON.
    packet: Vec<u8>,
    /// As they are to go with it.
    properties: Properties,
    delivery: Delivery,
}

/// What is under way, and what waits for it.
#[derive(Default)]
struct Rows {
    /// A row for each shard that one is under way to.
    waiting: BTreeMap<ShardId, VecDeque<Routed>>,
    under_way: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
}

/// One that was passed on, or not; `None` for one that was set aside.
type Done = Option<(Routed, Result<(), Undone>)>;

impl Reroute {
    /// Passes on what comes by the count of `commands`.
    pub const fn new(commands: Arc<Commands>, post: Arc<Post>) -> Self {
        Self { commands, post }
    }

    /// Takes deliveries of `G:SEND` until `stop`. What is under way then is still acknowledged, if the consumer lasts as long;
    /// what waits is left to RabbitMQ.
    pub async fn run(self, mut deliveries: mpsc::Receiver<Delivery>, stop: CancellationToken) {
        let mut rows = Rows::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = rows.under_way.next() => self.done(&mut rows, done),
                Some(delivery) = deliveries.recv() => self.take(&mut rows, delivery),
            }
        }
        let rest = async {
            while let Some(done) = rows.under_way.next().await {
                if let Some((routed, outcome)) = done {
                    settle(routed.delivery, outcome);
                }
            }
        };
        // What is still without a confirm then may come twice.
        let _ = timeout(GOODBYE, rest).await;
    }

    fn take(&self, rows: &mut Rows, delivery: Delivery) {
        let send =
            match route::read(&delivery.body, delivery.properties.content_type.as_deref(), self.commands.encoding()) {
                Ok(send) => send,
                Err(rejected) => {
                    let post = self.post.clone();
                    rows.under_way.push(Box::pin(async move {
                        let Delivery { body, properties, .. } = &delivery;
                        let outcome = post.set_aside(&rejected, SEND, body, properties, || delivery.is_held()).await;
                        settle(delivery, outcome);
                        None
                    }));
                    return;
                }
            };
        let way = Way { guild_id: send.guild_id, shard_count: self.commands.shard_count(), moves: 0 };
        let packet = send.packet.into_owned().into_bytes();
        let dialect = Dialect::of_body(delivery.properties.content_type.as_deref(), &delivery.body);
        let properties = post::as_json(&delivery.properties, dialect);
        let routed = Routed { way, packet, properties, delivery };
        match rows.waiting.entry(way.shard()) {
            Entry::Occupied(mut row) => row.get_mut().push_back(routed),
            Entry::Vacant(row) => {
                row.insert(VecDeque::new());
                self.pass_on(rows, routed);
            }
        }
    }

    fn pass_on(&self, rows: &mut Rows, routed: Routed) {
        let post = self.post.clone();
        rows.under_way.push(Box::pin(async move {
            let Routed { way, packet, properties, delivery } = &routed;
            let outcome = post.forward(*way, packet, properties, || delivery.is_held()).await;
            Some((routed, outcome))
        }));
    }

    fn done(&self, rows: &mut Rows, done: Done) {
        let Some((Routed { way, delivery, .. }, outcome)) = done else { return };
        settle(delivery, outcome);
        let shard = way.shard();
        let Some(row) = rows.waiting.get_mut(&shard) else { return };
        if outcome == Err(Undone::GivenUp) {
            // All that came after it, too: passed on before it, they would be out of order.
            row.drain(..).for_each(|routed| routed.delivery.requeue());
        }
        match row.pop_front() {
            Some(next) => self.pass_on(rows, next),
            None => _ = rows.waiting.remove(&shard),
        }
    }
}

fn settle(delivery: Delivery, outcome: Result<(), Undone>) {
    match outcome {
        Ok(()) => delivery.ack(),
        Err(Undone::GivenUp) => delivery.requeue(),
        Err(Undone::NotHeld) => {}
    }
}
