//! Carries what processes tell each other of their clients between the hub and RabbitMQ.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::hub::Hub;
use crate::amqp::admin::Admin;
use crate::amqp::bus::{Bus, BusDriver, BusEvent, Line};

/// After RabbitMQ was lost for us, others may have lost it, too: for so long they may need to be back, and nobody is believed to
/// be gone.
const RETURN: Duration = Duration::from_secs(5);

/// How long the last message may take. Without it others find our queue without a consumer.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long others have to be heard of, after we can hear them. Those have told of their clients by then, or are telling.
const ANSWERS: Duration = Duration::from_secs(1);
/// Between two looks whether they have.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Longer than any of them takes: one that does not tell keeps nobody from being served.
const PATIENCE: Duration = Duration::from_secs(15);

/// The one of a process: to be run by whoever owns the task.
#[derive(Debug)]
pub struct News {
    hub: Arc<Hub>,
    bus: Bus,
    driver: BusDriver,
    events: mpsc::Receiver<BusEvent>,
}

impl News {
    /// For this hub, with the other processes of the group: it listens over `consumption` and publishes over
    /// `administration`.
    pub fn new(hub: Arc<Hub>, consumption: Admin, administration: Admin, group: &str) -> Self {
        let (bus, driver, events) = Bus::on(Line::singyeong(group), consumption, administration, hub.own().clone());
        Self { hub, bus, driver, events }
    }

    /// Carries news until `stop`, and then tells others that our clients are gone.
    pub async fn run(self, stop: CancellationToken) {
        let Self { hub, bus, driver, events } = self;
        let bus_stop = CancellationToken::new();
        let carried = async {
            carry(&hub, &bus, events, &stop).await;
            bus_stop.cancel();
        };
        tokio::join!(driver.run(bus_stop.clone()), carried);
    }
}

async fn carry(hub: &Hub, bus: &Bus, mut events: mpsc::Receiver<BusEvent>, stop: &CancellationToken) {
    let (mut is_up, mut was_up) = (false, false);
    let mut watched = Vec::new();
    // When to look whether others' clients are known, and until when at most.
    let mut informed: Option<(Instant, Instant)> = None;
    // Who was missed while others may have been on their way back, and when to look for them again.
    let (mut missed, mut returned) = (BTreeSet::new(), None);
    // One at a time: what is not said yet changes meanwhile, and is then said as it is.
    let mut saying: Option<Pin<Box<dyn Future<Output = bool> + Send + '_>>> = None;
    loop {
        if is_up && saying.is_none() {
            saying = hub.next_message(Instant::now()).map(|message| Box::pin(bus.deliver(message)) as _);
        }
        let due = hub.deadline().filter(|_| is_up && saying.is_none());
        // Not biased: neither may a flood of others' news silence ours, nor ours make us deaf.
        tokio::select! {
            () = stop.cancelled() => break,
            event = events.recv() => match event {
                // While it is down we know of others what we knew.
                Some(BusEvent::Down) => {
                    (is_up, informed, returned) = (false, None, None);
                    hub.cut_off();
                }
                Some(BusEvent::Up) => {
                    is_up = true;
                    hub.joined();
                    let now = Instant::now();
                    informed = Some((now + ANSWERS, now + PATIENCE));
                    // At first we know only those that were heard after it.
                    returned = was_up.then_some(now + RETURN);
                    was_up = true;
                }
                Some(BusEvent::Message(message)) => {
                    hub.hear(&message, Instant::now());
                    watch(hub, bus, &mut watched);
                }
                Some(BusEvent::Gone(node)) if !is_up || returned.is_some() => _ = missed.insert(node),
                Some(BusEvent::Gone(node)) => {
                    hub.process_gone(&node);
                    watch(hub, bus, &mut watched);
                }
                // The bus ends after us, or has panicked, which ends us, too.
                None => return,
            },
            // Never refused: the bus lives longer.
            _ = said(&mut saying) => saying = None,
            () = hub.changed() => {}
            () = until(due) => {}
            () = until(informed.map(|(look, _)| look)) => {
                let now = Instant::now();
                informed = informed.map(|(_, latest)| (now + LOOK_AGAIN, latest));
                if hub.is_whole() || informed.is_some_and(|(_, latest)| latest <= now) {
                    informed = None;
                    hub.informed();
                }
            }
            () = until(returned) => {
                returned = None;
                bus.look_again(std::mem::take(&mut missed));
            }
        }
    }
    if is_up {
        // What was being said goes out before it: the bus has one at a time.
        let _ = timeout(GOODBYE, bus.deliver(hub.farewell())).await;
    }
}

/// Watches whom the hub knows.
fn watch(hub: &Hub, bus: &Bus, watched: &mut Vec<crate::cluster::node::NodeId>) {
    let others = hub.others();
    if *watched != others {
        bus.watch(others.clone());
        *watched = others;
    }
}

async fn said(saying: &mut Option<Pin<Box<dyn Future<Output = bool> + Send + '_>>>) -> bool {
    match saying {
        Some(saying) => saying.await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
