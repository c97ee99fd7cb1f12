//! Commands of the shards that this process holds: checked, handed to the shard's driver, and acknowledged once they are
//! written to Discord's socket.
//!
//! RabbitMQ gives one of a shard at a time, so their order is kept, and no shard waits for another. A shard without a live
//! session keeps its one; what it has not written when its driver ends is still RabbitMQ's, for whoever runs the shard next.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::answers::Outcome;
use super::post::{Post, Undone, Way};
use super::route;
use crate::amqp::delivery::{Delivery, From, Properties};
use crate::discord::commands::Commands;
use crate::discord::ids::ShardId;

/// Before a command is routed anew that was so before, doubling each time up to [`LONGEST_PAUSE`]: while a cluster changes its
/// shard count, processes of both counts may send it to and fro.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Carries commands to shards: to be run by whoever owns the task.
#[derive(Debug)]
pub struct Sends {
    commands: Arc<Commands>,
    post: Arc<Post>,
}

/// The command that a shard is at. RabbitMQ may have it back and give it to us again, while the shard still has it.
#[derive(Debug)]
struct Slot {
    shard: ShardId,
    body: Vec<u8>,
    properties: Properties,
    /// None once it is settled.
    delivery: Mutex<Option<Delivery>>,
    /// Another command has come in its place.
    replaced: CancellationToken,
}

/// A slot's way to its end; which one it was.
type UnderWay = FuturesUnordered<Pin<Box<dyn Future<Output = Arc<Slot>> + Send>>>;

impl Sends {
    /// Commands for the shards of `commands`.
    pub const fn new(commands: Arc<Commands>, post: Arc<Post>) -> Self {
        Self { commands, post }
    }

    /// Takes the shards' deliveries until `stop`. To be stopped after the shards: what they have written by then is
    /// acknowledged, the rest is left to RabbitMQ.
    pub async fn run(self, mut deliveries: mpsc::Receiver<Delivery>, stop: CancellationToken) {
        let mut under_way = UnderWay::new();
        let mut slots: BTreeMap<ShardId, Arc<Slot>> = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = under_way.next() => {
                    if slots.get(&done.shard).is_some_and(|slot| Arc::ptr_eq(slot, &done)) {
                        slots.remove(&done.shard);
                    }
                }
                Some(delivery) = deliveries.recv() => self.take(delivery, &mut slots, &under_way),
            }
        }
        while let Some(Some(_)) = under_way.next().now_or_never() {}
    }

    fn take(&self, delivery: Delivery, slots: &mut BTreeMap<ShardId, Arc<Slot>>, under_way: &UnderWay) {
        let From::Shard(shard) = delivery.from else {
            error!(from = ?delivery.from, "a delivery that is no shard's came to the shards; it is given back");
            return delivery.requeue();
        };
        // RabbitMQ gives one at a time: the former was acknowledged, or it is not ours any more.
        if let Some(former) = slots.get(&shard) {
            let Some(delivery) = former.take_again(delivery) else { return };
            former.replaced.cancel();
            return self.begin(shard, delivery, slots, under_way);
        }
        self.begin(shard, delivery, slots, under_way);
    }

    fn begin(
        &self,
        shard: ShardId,
        mut delivery: Delivery,
        slots: &mut BTreeMap<ShardId, Arc<Slot>>,
        under_way: &UnderWay,
    ) {
        let slot = Arc::new(Slot {
            shard,
            body: std::mem::take(&mut delivery.body),
            properties: std::mem::take(&mut delivery.properties),
            delivery: Mutex::new(Some(delivery)),
            replaced: CancellationToken::new(),
        });
        slots.insert(shard, slot.clone());
        let (commands, post) = (self.commands.clone(), self.post.clone());
        under_way.push(Box::pin(async move {
            slot.replaced.run_until_cancelled(carry_out(&slot, &commands, &post)).await;
            slot
        }));
    }
}

/// Does what a command asks, however long its shard takes.
async fn carry_out(slot: &Slot, commands: &Commands, post: &Post) {
    let Slot { shard, body, properties, .. } = slot;
    let (shard, is_held) = (*shard, || slot.is_held());
    loop {
        let count = commands.shard_count();
        if let Some(way) = way_elsewhere(properties, shard, count) {
            if way.moves > 1 {
                sleep((FIRST_PAUSE * 2_u32.saturating_pow(way.moves - 2)).min(LONGEST_PAUSE)).await;
            }
            return slot.settle(post.forward(way, body, properties, is_held).await);
        }
        let checked = route::check(body, properties.content_type.as_deref(), shard, count, commands.encoding());
        let packet = match checked {
            Ok(packet) => packet.into_owned(),
            Err(rejected) => {
                let source = shard.to_string();
                return slot.settle(post.set_aside(&rejected, &source, body, properties, is_held).await);
            }
        };
        commands.running(shard).await;
        // Both may have changed meanwhile.
        if !slot.is_held() {
            return;
        }
        if commands.shard_count() != count {
            continue;
        }
        let Ok(written) = commands.send(shard, packet).await else { continue };
        if written.await.is_ok() {
            slot.settle(Ok(()));
            return post.answer(properties, body, &Outcome::Sent(shard));
        }
    }
}

/// Where a command is to go that was routed by another count than the bot has now; `None` when it is right here.
fn way_elsewhere(properties: &Properties, shard: ShardId, shard_count: u32) -> Option<Way> {
    let former = Way::of(properties).filter(|way| way.shard_count != shard_count)?;
    let way = Way { shard_count, moves: former.moves.saturating_add(1), ..former };
    (way.shard() != shard).then_some(way)
}

impl Slot {
    /// The same command once more is settled in place of the former delivery; another one is given back.
    fn take_again(&self, delivery: Delivery) -> Option<Delivery> {
        let mut slot = self.delivery.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() || delivery.body != self.body || delivery.properties != self.properties {
            return Some(delivery);
        }
        *slot = Some(delivery);
        None
    }

    fn is_held(&self) -> bool {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(Delivery::is_held)
    }

    fn settle(&self, outcome: Result<(), Undone>) {
        let Some(delivery) = self.delivery.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        match outcome {
            Ok(()) => delivery.ack(),
            Err(Undone::GivenUp) => delivery.requeue(),
            Err(Undone::NotHeld) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;
    use crate::amqp::admin::Admin;
    use crate::amqp::delivery::{Outcome as Became, Receipt};
    use crate::amqp::messenger::Messenger;
    use crate::discord::shard::Command;
    use crate::secret::Secret;
    use crate::spectacles::answers::Answers;

    const PACKET: &[u8] = br#"{"op":3,"d":{}}"#;
    const ONE: ShardId = ShardId::new(1);
    const TWO: ShardId = ShardId::new(2);

    /// Commands for a bot of eight shards, of which none runs; RabbitMQ is never there.
    struct Bed {
        commands: Arc<Commands>,
        deliveries: mpsc::Sender<Delivery>,
        stop: CancellationToken,
        running: JoinHandle<()>,
    }

    impl Bed {
        fn new() -> Self {
            let (admin, _) = Admin::new(&Secret::new("amqp://127.0.0.1:1"), "test").expect("an address");
            let messenger = Messenger::new(admin);
            let (answers, _) = Answers::new(messenger.clone());
            let commands = Arc::new(Commands::new(8));
            let (deliveries, receiver) = mpsc::channel(8);
            let sends = Sends::new(commands.clone(), Arc::new(Post::new(messenger, "g", answers)));
            let stop = CancellationToken::new();
            let running = tokio::spawn(sends.run(receiver, stop.clone()));
            Self { commands, deliveries, stop, running }
        }

        async fn deliver(&self, shard: ShardId, packet: &[u8]) -> Receipt {
            let (delivery, receipt) = Delivery::unattached(From::Shard(shard), packet, Properties::default());
            self.deliveries.send(delivery).await.expect("it takes them");
            receipt
        }

        async fn stop(self) {
            self.stop.cancel();
            self.running.await.expect("no panic");
        }
    }

    async fn next(driver: &mut mpsc::Receiver<Command>) -> Command {
        driver.recv().await.expect("the way is open")
    }

    #[tokio::test]
    async fn a_command_is_acknowledged_once_it_is_written_and_holds_up_no_other_shard() {
        let bed = Bed::new();
        let (mut one, mut two) = (bed.commands.add(ONE), bed.commands.add(TWO));
        let first = bed.deliver(ONE, PACKET).await;
        let at_one = next(&mut one).await;
        let second = bed.deliver(TWO, PACKET).await;
        next(&mut two).await.written.send(()).expect("waited for");
        let third = bed.deliver(TWO, br#"{"op":4,"d":{}}"#).await;
        assert_eq!(next(&mut two).await.packet, br#"{"op":4,"d":{}}"#);
        assert_eq!([first.outcome(), second.outcome()], [Became::Held, Became::Acknowledged]);
        at_one.written.send(()).expect("waited for");
        bed.stop().await;
        assert_eq!([first.outcome(), third.outcome()], [Became::Acknowledged, Became::Held]);
    }

    #[tokio::test]
    async fn a_command_waits_for_its_shard_and_outlives_its_driver() {
        let bed = Bed::new();
        let receipt = bed.deliver(ONE, PACKET).await;
        let mut driver = bed.commands.add(ONE);
        drop(next(&mut driver).await);
        drop(driver);
        let mut driver = bed.commands.add(ONE);
        let again = next(&mut driver).await;
        assert_eq!(receipt.outcome(), Became::Held);
        again.written.send(()).expect("waited for");
        bed.stop().await;
        assert_eq!(receipt.outcome(), Became::Acknowledged);
    }

    #[tokio::test]
    async fn what_is_rabbitmqs_again_is_not_handed_over_when_the_shard_comes_back() {
        let bed = Bed::new();
        let lost = bed.deliver(ONE, PACKET).await;
        lost.lose();
        let mut driver = bed.commands.add(ONE);
        bed.deliver(TWO, PACKET).await;
        next(&mut bed.commands.add(TWO)).await;
        let fresh = bed.deliver(ONE, br#"{"op":4,"d":{}}"#).await;
        let handed_over = next(&mut driver).await;
        assert_eq!(handed_over.packet, br#"{"op":4,"d":{}}"#, "the other one may be written elsewhere by now");
        handed_over.written.send(()).expect("waited for");
        bed.stop().await;
        assert_eq!([lost.outcome(), fresh.outcome()], [Became::Lost, Became::Acknowledged]);
    }

    #[tokio::test]
    async fn a_command_that_comes_again_while_its_shard_has_it_is_written_once() {
        let bed = Bed::new();
        let mut driver = bed.commands.add(ONE);
        let former = bed.deliver(ONE, PACKET).await;
        let command = next(&mut driver).await;
        former.lose();
        let again = bed.deliver(ONE, PACKET).await;
        // It is taken before the next one is.
        let mut two = bed.commands.add(TWO);
        bed.deliver(TWO, PACKET).await;
        next(&mut two).await;
        command.written.send(()).expect("waited for");
        bed.stop().await;
        assert_eq!(again.outcome(), Became::Acknowledged);
        assert!(driver.try_recv().is_err());
    }
}
