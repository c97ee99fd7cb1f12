//! Taking single messages out of a queue that others empty too, on a real RabbitMQ.

mod common;

use std::collections::BTreeSet;

use common::{Consumer, FaultyLink, Worker, broker, eventually, must, unique_group};
use optic::amqp::admin::Admin;
use optic::amqp::delivery::Delivery;
use optic::amqp::messenger::Messenger;
use optic::amqp::taker::{Demand, Taker};
use optic::amqp::topology::Queue;
use optic::secret::Secret;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The key, and behind the group the queue, of all these.
const KEY: &str = "app:jobs";

struct Bed {
    group: String,
    queue: Queue,
    worker: Worker,
}

impl Bed {
    async fn new() -> Self {
        let group = unique_group();
        let queue = Queue::of_application(&group, "app", "jobs").expect("short");
        Messenger::new(connect(&broker())).declare(&queue).await.expect("declared");
        let worker = Worker::connect(&broker(), &group).await;
        Self { group, queue, worker }
    }

    async fn publish(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.worker.publish(KEY, &number.to_string()).await;
        }
    }

    fn take(&self, url: &str) -> Taking {
        let (sender, deliveries) = mpsc::channel(8);
        let (taker, demand) = Taker::new(connect(url), self.queue.clone(), sender);
        Taking { demand, deliveries, task: tokio::spawn(taker.run(CancellationToken::new())) }
    }
}

fn connect(url: &str) -> Admin {
    let (admin, driver) = Admin::new(&Secret::new(url), "optic test").expect("a URL");
    tokio::spawn(driver.run(CancellationToken::new()));
    admin
}

struct Taking {
    demand: Demand,
    deliveries: mpsc::Receiver<Delivery>,
    task: JoinHandle<()>,
}

impl Taking {
    async fn next(&mut self) -> Delivery {
        let delivery = must("a delivery", self.deliveries.recv()).await.expect("the taker goes on");
        assert!(self.demand.received(&delivery));
        delivery
    }

    async fn next_numbers(&mut self, count: usize) -> (Vec<Delivery>, Vec<u32>) {
        let (mut deliveries, mut numbers) = (Vec::new(), Vec::new());
        while deliveries.len() < count {
            let delivery = self.next().await;
            numbers.push(number(&delivery));
            deliveries.push(delivery);
        }
        (deliveries, numbers)
    }
}

fn number(delivery: &Delivery) -> u32 {
    std::str::from_utf8(&delivery.body).expect("text").parse().expect("a number")
}

#[tokio::test]
async fn as_many_are_taken_as_are_wanted_and_a_worker_gets_the_rest() {
    let bed = Bed::new().await;
    bed.publish(0..20).await;
    let mut taking = bed.take(&broker());
    taking.demand.set(5);
    let (mut held, numbers) = taking.next_numbers(5).await;
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    bed.worker.sees(KEY, (15, 0)).await;
    let worker = Consumer::start(&broker(), &bed.group, &[KEY]).await;
    let received: Vec<_> = worker.wait_for(15).await.into_iter().map(|received| received.body).collect();
    assert_eq!(received, (5..20).map(|n: u32| n.to_string().into_bytes()).collect::<Vec<_>>());
    held.drain(..3).for_each(Delivery::ack);
    held.drain(..).for_each(Delivery::requeue);
    let given_back: BTreeSet<_> =
        worker.wait_for(17).await[15..].iter().map(|received| received.body.clone()).collect();
    assert_eq!(given_back, [b"3".to_vec(), b"4".to_vec()].into());
    bed.worker.sees(KEY, (0, 1)).await;
}

#[tokio::test]
async fn whoever_waits_is_handed_the_next_at_once_and_no_more_than_that() {
    let bed = Bed::new().await;
    let mut taking = bed.take(&broker());
    taking.demand.set(2);
    bed.worker.sees(KEY, (0, 1)).await;
    bed.publish(0..3).await;
    let (held, numbers) = taking.next_numbers(2).await;
    assert_eq!(numbers, [0, 1]);
    bed.worker.sees(KEY, (1, 0)).await;
    held.into_iter().for_each(Delivery::ack);
    // Were it a consumer with a prefetch, RabbitMQ would hand it another now; it has had the acknowledgements before it answers.
    bed.publish(3..4).await;
    bed.worker.sees(KEY, (2, 0)).await;
    taking.demand.set(2);
    assert_eq!(taking.next_numbers(2).await.1, [2, 3]);
}

#[tokio::test]
async fn where_nothing_is_wanted_any_more_nothing_is_held() {
    let bed = Bed::new().await;
    let mut taking = bed.take(&broker());
    taking.demand.set(1);
    bed.worker.sees(KEY, (0, 1)).await;
    taking.demand.set(0);
    bed.worker.sees(KEY, (0, 0)).await;
    bed.publish(0..1).await;
    assert_eq!(bed.worker.look(KEY).await, (1, 0));
    taking.demand.set(1);
    assert_eq!(number(&taking.next().await), 0);
}

#[tokio::test]
async fn two_share_a_queue() {
    let bed = Bed::new().await;
    let (mut one, mut two) = (bed.take(&broker()), bed.take(&broker()));
    bed.publish(0..5).await;
    one.demand.set(4);
    two.demand.set(4);
    bed.publish(5..10).await;
    let ((_held, numbers), (_held_too, others)) = tokio::join!(one.next_numbers(4), two.next_numbers(4));
    let both: BTreeSet<u32> = numbers.into_iter().chain(others).collect();
    assert_eq!(both.len(), 8, "none twice");
    bed.worker.sees(KEY, (2, 0)).await;
}

#[tokio::test]
async fn a_cut_connection_gives_back_what_is_held_and_it_goes_on() {
    let bed = Bed::new().await;
    let link = FaultyLink::to_the_broker().await;
    let mut taking = bed.take(&link.through(&broker()));
    bed.publish(0..1).await;
    taking.demand.set(2);
    let first = taking.next().await;
    taking.demand.set(1);
    bed.worker.sees(KEY, (0, 1)).await;
    link.cut();
    eventually("the loss", || !first.is_held()).await;
    first.ack();
    let again = taking.next().await;
    assert_eq!((number(&again), again.redelivered), (0, true));
    taking.demand.set(0);
    again.ack();
    bed.worker.sees(KEY, (0, 0)).await;
}

#[tokio::test]
async fn a_deleted_queue_is_declared_again() {
    let bed = Bed::new().await;
    let mut taking = bed.take(&broker());
    taking.demand.set(1);
    bed.worker.sees(KEY, (0, 1)).await;
    bed.worker.delete(KEY).await;
    bed.worker.declare(KEY).await;
    bed.publish(0..1).await;
    assert_eq!(number(&taking.next().await), 0);
}

#[tokio::test]
async fn it_ends_with_the_demand_and_gives_back_what_is_held() {
    let bed = Bed::new().await;
    bed.publish(0..2).await;
    let mut taking = bed.take(&broker());
    taking.demand.set(2);
    let (held, _) = taking.next_numbers(2).await;
    let Taking { demand, mut deliveries, task } = taking;
    drop(demand);
    must("the end", task).await.expect("no panic");
    assert!(deliveries.recv().await.is_none());
    held.into_iter().for_each(Delivery::ack);
    bed.worker.sees(KEY, (2, 0)).await;
}

#[tokio::test]
async fn a_delivery_of_one_that_took_before_is_known_for_that() {
    let bed = Bed::new().await;
    bed.publish(0..1).await;
    let mut former = bed.take(&broker());
    former.demand.set(1);
    let delivery = former.next().await;
    let mut taking = bed.take(&broker());
    assert!(!taking.demand.received(&delivery));
    delivery.requeue();
    taking.demand.set(1);
    assert_eq!(number(&taking.next().await), 0);
}
