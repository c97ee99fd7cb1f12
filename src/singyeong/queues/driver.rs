//! Carries the decisions out: takes messages out of RabbitMQ, hands them to clients, and settles them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::core::{Action, Arrival, Bounds, Clients, Core, Number};
use super::publish::{Publisher, queue as queue_of};
use super::requests::Waiting;
use super::room::Most;
use super::{Forward, ForwardedMessage, Source, message};
use crate::amqp::admin::Admin;
use crate::amqp::delivery::{Delivery, From};
use crate::amqp::messenger::Messenger;
use crate::amqp::taker::{Demand, Taker};
use crate::cluster::node::NodeId;
use crate::encoding::Value;
use crate::singyeong::exchange::{Later, Sender};
use crate::singyeong::hub::Hub;
use crate::singyeong::ids::{Application, ClientKey, ConnectionId};
use crate::singyeong::limits::Limits;
use crate::singyeong::outbox::{Fate, Undeliverable};
use crate::singyeong::packet::dispatch::{QueueName, Queued};
use crate::singyeong::packet::outgoing::{Outgoing, Refusal};
use crate::singyeong::query::Query;

/// So many queues of applications are served at a time. Each may have a channel, and so may the queue of the same name that is of
/// no application; a connection has some 2,000.
const MOST_SERVED: usize = 900;
/// So many queues may be in what is known of a client.
const MOST_OF_CLIENT: usize = 256;
/// Messages on their way from RabbitMQ; each is looked at at once.
const DELIVERIES: usize = 64;
/// So long what is being published may take in the end, before it is given back as well.
const LAST_PUBLISHED: Duration = Duration::from_secs(1);
/// How often it is looked which queues nobody asks for any more.
const SWEEP: Duration = Duration::from_secs(60);

/// The queues of a process. Cheap to clone.
#[derive(Clone)]
pub struct Queues(Arc<Shared>);

/// Carries the queues: to be run by whoever owns the task.
#[derive(Debug)]
pub struct QueuesDriver {
    queues: Queues,
    deliveries: mpsc::Receiver<Delivery>,
}

struct Shared {
    hub: Arc<Hub>,
    consumption: Admin,
    publisher: Publisher,
    forward: Arc<dyn Forward>,
    deliveries: mpsc::Sender<Delivery>,
    state: Mutex<State>,
    /// Of connections that ended: they tell it while they hold locks of their own, so it is only noted.
    not_written: Mutex<Vec<Number>>,
    /// There is something for the driver.
    changed: Notify,
}

struct State {
    core: Core<Query>,
    next: u64,
    messages: HashMap<Number, Taken>,
    served: HashMap<Source, Served>,
    names: HashMap<Arc<str>, Source>,
    starting: Vec<(Taker, CancellationToken)>,
    jobs: Vec<Job>,
    stop: CancellationToken,
}

struct Served {
    demand: Demand,
    stop: CancellationToken,
    /// Messages that are not settled: they live as long as the taker.
    unsettled: usize,
}

struct Taken {
    delivery: Delivery,
    source: Source,
    id: Box<str>,
    forwarded: bool,
}

/// What is published for a message, before it is settled.
struct Job {
    number: Number,
    taken: Taken,
    /// None: to the tail of its queue.
    to: Option<NodeId>,
}

impl Queues {
    /// The queues of a group for the clients of this hub, and what carries them: messages are taken over `consumption`.
    pub fn new(
        hub: Arc<Hub>,
        group: &str,
        limits: &Limits,
        consumption: Admin,
        messenger: Messenger,
        forward: Arc<dyn Forward>,
    ) -> (Self, QueuesDriver) {
        let bounds = Bounds {
            acknowledgement: limits.acknowledgement,
            parked_for: Duration::from_secs(1),
            most: Most { of_one: 64, messages: 1_024, bytes: 16 << 20 },
        };
        let (sender, deliveries) = mpsc::channel(DELIVERIES);
        let state = State {
            core: Core::new(bounds),
            next: 0,
            messages: HashMap::new(),
            served: HashMap::new(),
            names: HashMap::new(),
            starting: Vec::new(),
            jobs: Vec::new(),
            stop: CancellationToken::new(),
        };
        let queues = Self(Arc::new(Shared {
            hub,
            consumption,
            publisher: Publisher::new(messenger, group),
            forward,
            deliveries: sender,
            state: Mutex::new(state),
            not_written: Mutex::default(),
            changed: Notify::new(),
        }));
        (queues.clone(), QueuesDriver { queues, deliveries })
    }

    /// `QUEUE`: done when the message is in its queue, with the confirm, or with a refusal. Tried for as long as the sender is
    /// connected.
    pub fn publish(&self, sender: Sender, queued: Queued) -> Later<Option<Outgoing>> {
        let shared = self.0.clone();
        Box::pin(async move { shared.publish(&sender, &queued).await })
    }

    /// `QUEUE_REQUEST`: the next message of the queue that is for this client comes to it, once. A refusal goes to it, too.
    pub fn request(&self, sender: &Sender, queue: QueueName) {
        if let Err(error) = self.0.request(sender, &queue) {
            let info = Value::map([("queue", Value::string(&queue.0))]);
            // Whoever is gone needs no refusal.
            let _ = self.0.deliver(&sender.key, sender.connection, Outgoing::Invalid(Refusal::with(error, info)), None);
        }
    }

    /// `QUEUE_REQUEST_CANCEL`.
    pub fn cancel(&self, sender: &Sender, queue: QueueName) {
        if self.0.hub.get(&sender.key).is_some_and(|client| client.queues.contains(&queue)) {
            self.0.hub.update(&sender.key, sender.connection, |client| {
                client.queues.remove(&queue);
            });
        }
        self.0.with(|state| state.core.cancel(sender.connection, &queue));
    }

    /// `QUEUE_ACK`: a message was worked on.
    pub fn ack(&self, sender: &Sender, queue: QueueName, id: &str) {
        self.0.with(|state| state.core.acknowledge(sender.connection, &queue, id));
    }

    /// A client's connection is gone: what it did not acknowledge goes to others.
    pub fn gone(&self, _key: &ClientKey, connection: ConnectionId) {
        self.0.with(|state| state.core.gone(connection));
    }

    /// A message that another process took for clients of this one. It is acknowledged when it was worked on, or is back in
    /// its queue.
    pub fn forwarded(&self, delivery: Delivery, application: Option<Application>, queue: QueueName) {
        self.0.arrived(delivery, Source { application, queue }, true);
    }
}

impl QueuesDriver {
    /// Serves the queues until `stop`; what was not settled by then goes back to them.
    pub async fn run(mut self, stop: CancellationToken) {
        let shared = self.queues.0.clone();
        let mut takers = JoinSet::new();
        let mut jobs = FuturesUnordered::new();
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = {
                let mut state = shared.lock();
                for (taker, stop) in state.starting.drain(..) {
                    takers.spawn(taker.run(stop));
                }
                jobs.extend(state.jobs.drain(..).map(|job| shared.clone().carry_out(job)));
                state.core.deadline()
            };
            let due = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = shared.changed.notified() => shared.take_back_unwritten(),
                () = due => shared.with(|state| state.core.handle_timeout(Instant::now())),
                Some(delivery) = self.deliveries.recv() => shared.taken(delivery),
                Some(()) = jobs.next() => {}
                Some(ended) = takers.join_next() => examine(ended),
                _ = sweep.tick() => shared.lock().drop_unused(),
            }
        }
        // What is in RabbitMQ in another place by now is better not given back.
        let _ = timeout(LAST_PUBLISHED, async { while jobs.next().await.is_some() {} }).await;
        // What is unfinished is given back with the takers' channels.
        shared.lock().stop.cancel();
        drop(self.deliveries);
        while let Some(ended) = takers.join_next().await {
            examine(ended);
        }
    }
}

/// A taker's panic is ours.
fn examine(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and does what follows from it.
    fn with(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let mut packets = {
            let mut state = self.lock();
            change(&mut state);
            state.settle()
        };
        // Outside the lock: a connection may tell a packet's fate at once.
        while !packets.is_empty() {
            let mut failed = Vec::new();
            for (number, Waiting { key, connection }, packet) in packets {
                if self.deliver(&key, connection, packet, Some(self.fate_of(number))).is_err() {
                    failed.push(number);
                }
            }
            let mut state = self.lock();
            for number in failed {
                state.core.not_written(number);
            }
            packets = state.settle();
        }
        self.changed.notify_one();
    }

    /// Only by the connection that asked: a client that came back by another has not.
    fn deliver(
        &self,
        key: &ClientKey,
        connection: ConnectionId,
        packet: Outgoing,
        fate: Option<Fate>,
    ) -> Result<(), Undeliverable> {
        self.hub.outbox_of(key, connection).ok_or(Undeliverable::Closed)?.push(packet, fate)
    }

    fn fate_of(self: &Arc<Self>, number: Number) -> Fate {
        let shared = Arc::downgrade(self);
        Box::new(move |written| {
            if let (false, Some(shared)) = (written, shared.upgrade()) {
                shared.not_written.lock().unwrap_or_else(PoisonError::into_inner).push(number);
                shared.changed.notify_one();
            }
        })
    }

    fn take_back_unwritten(self: &Arc<Self>) {
        let numbers = std::mem::take(&mut *self.not_written.lock().unwrap_or_else(PoisonError::into_inner));
        if !numbers.is_empty() {
            self.with(|state| numbers.into_iter().for_each(|number| state.core.not_written(number)));
        }
    }

    fn request(self: &Arc<Self>, sender: &Sender, queue: &QueueName) -> Result<(), &'static str> {
        // Who is not connected any more would wait for ever.
        let is_connected = self.hub.outbox_of(&sender.key, sender.connection).is_some();
        let Some(client) = self.hub.get(&sender.key).filter(|_| is_connected) else { return Ok(()) };
        let is_known = client.queues.contains(queue);
        if !is_known && client.queues.len() >= MOST_OF_CLIENT {
            return Err("too many queues");
        }
        let sources = Source::of_client(&sender.key.application, queue);
        {
            let mut state = self.lock();
            for source in &sources {
                state.serve(self, source)?;
            }
        }
        if !is_known {
            self.hub.update(&sender.key, sender.connection, |client| {
                client.queues.insert(queue.clone());
            });
        }
        let clients = OfHub(&self.hub);
        self.with(|state| state.core.request(&sender.key, sender.connection, queue, Instant::now(), &clients));
        Ok(())
    }

    /// A taker's.
    fn taken(self: &Arc<Self>, delivery: Delivery) {
        let From::Queue(name) = &delivery.from else { return delivery.requeue() };
        let source = {
            let mut state = self.lock();
            let State { core, served, names, .. } = &mut *state;
            let known = names.get(name).and_then(|source| Some((source.clone(), served.get_mut(source)?)));
            let known =
                known.and_then(|(source, served)| served.demand.received(&delivery).then_some((source, served)));
            // Its taker has ended, and with it what it took.
            let Some((source, served)) = known else { return delivery.requeue() };
            // Lost with its connection: it comes again.
            if !delivery.is_held() {
                return served.demand.set(core.demand(&source));
            }
            source
        };
        self.arrived(delivery, source, false);
    }

    fn arrived(self: &Arc<Self>, delivery: Delivery, source: Source, forwarded: bool) {
        let clients = OfHub(&self.hub);
        let target = message::target(&delivery.properties);
        let id: Box<str> = match &delivery.properties.message_id {
            Some(id) => id.as_str().into(),
            None => message::fresh_id().into(),
        };
        let size = delivery.body.len();
        self.with(|state| {
            let number = Number(state.next);
            state.next += 1;
            if let (false, Some(served)) = (forwarded, state.served.get_mut(&source)) {
                served.unsettled += 1;
            }
            state.messages.insert(number, Taken { delivery, source: source.clone(), id: id.clone(), forwarded });
            let message = Arrival { number, source, id, target, size, forwarded };
            state.core.arrived(message, Instant::now(), &clients);
        });
    }

    async fn carry_out(self: Arc<Self>, Job { number, taken, to }: Job) {
        let (delivery, source) = (&taken.delivery, &taken.source);
        let properties = message::again(&delivery.properties, &taken.id);
        let is_done = match to {
            // It is back in its queue already.
            _ if !delivery.is_held() => false,
            None => {
                let lane = usize::from(fastrand::u8(..));
                let put = self.publisher.put(lane, source, &properties, &delivery.body, || delivery.is_held()).await;
                if let Err(error) = &put {
                    debug!(queue = %source.queue.0, %error, "a message is not put behind the others");
                }
                put.is_ok()
            }
            Some(node) => {
                let (application, queue) = (source.application.clone(), source.queue.clone());
                let message = ForwardedMessage { application, queue, properties, body: delivery.body.clone() };
                self.forward.queued(&node, message).await.is_ok()
            }
        };
        self.with(|state| {
            state.end(&taken);
            state.core.settled(number);
        });
        if is_done { taken.delivery.ack() } else { taken.delivery.requeue() }
    }

    async fn publish(&self, sender: &Sender, queued: &Queued) -> Option<Outgoing> {
        let refused = |error: &str, info| Some(Outgoing::Invalid(Refusal::with(error, info)));
        let queue = &queued.queue.0;
        if queued.target.is_for_nobody() {
            return refused("invalid dispatch payload", as_dispatched(sender, queued));
        }
        let Some((properties, body)) = message::write(queued, sender.key.client.as_str()) else {
            let info = format!("nonce and target take more than {} bytes", message::MOST_IN_HEADERS);
            return refused("invalid dispatch payload", Value::string(&info));
        };
        let application = queued.target.application().map(Application::new);
        let source = Source { application, queue: queued.queue.clone() };
        let lane = sender.connection.get();
        match self.publisher.publish(lane, &source, &properties, &body).await {
            Ok(()) => Some(Outgoing::QueueConfirm(queued.queue.clone())),
            Err(error) => {
                warn!(%queue, client = %sender.key, %error, "a message was not queued, and its sender is told");
                refused(
                    "message not queued",
                    Value::map([("queue", Value::string(queue)), ("nonce", queued.nonce.clone())]),
                )
            }
        }
    }
}

/// The packet as it came in, as the original tells it back.
fn as_dispatched(sender: &Sender, queued: &Queued) -> Value {
    let d = Value::map([
        ("nonce", queued.nonce.clone()),
        ("payload", queued.payload.clone()),
        ("queue", Value::string(&queued.queue.0)),
        ("target", queued.target.to_value()),
    ]);
    let op = Value::string("dispatch");
    Value::map([("op", op), ("t", Value::string("QUEUE")), ("ts", sender.ts.clone()), ("d", d)])
}

impl State {
    /// Does what was decided; gives the packets that are to go out.
    fn settle(&mut self) -> Vec<(Number, Waiting, Outgoing)> {
        let mut packets = Vec::new();
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Deliver(number, to) => {
                    let taken = self.messages.get_mut(&number).expect("it is not at its end");
                    let (properties, body) = (&taken.delivery.properties, &taken.delivery.body);
                    packets.push((number, to, message::packet(&taken.source, &taken.id, properties, body)));
                    if !taken.forwarded {
                        // RabbitMQ has it for the next.
                        taken.delivery.body = Vec::new();
                    }
                }
                Action::Acknowledge(number) => {
                    let taken = self.take(number);
                    self.end(&taken);
                    taken.delivery.ack();
                }
                Action::GiveBack(number) => {
                    let taken = self.take(number);
                    self.end(&taken);
                    taken.delivery.requeue();
                }
                Action::ToTail(number) => {
                    let taken = self.take(number);
                    self.jobs.push(Job { number, taken, to: None });
                }
                Action::Forward(number, node) => {
                    let taken = self.take(number);
                    self.jobs.push(Job { number, taken, to: Some(node) });
                }
            }
        }
        while let Some(source) = self.core.poll_touched() {
            if let Some(served) = self.served.get(&source) {
                served.demand.set(self.core.demand(&source));
            }
        }
        packets
    }

    fn take(&mut self, number: Number) -> Taken {
        self.messages.remove(&number).expect("a message ends once")
    }

    /// It is settled now.
    fn end(&mut self, taken: &Taken) {
        if let (false, Some(served)) = (taken.forwarded, self.served.get_mut(&taken.source)) {
            served.unsettled -= 1;
        }
    }

    fn serve(&mut self, shared: &Shared, source: &Source) -> Result<(), &'static str> {
        if self.served.contains_key(source) {
            return Ok(());
        }
        let queue = queue_of(shared.publisher.group(), source).map_err(|_| "queue name too long")?;
        // The others are bounded by these: there is one of no application for each name.
        let is_full = |state: &Self| {
            source.application.is_some()
                && state.served.keys().filter(|served| served.application.is_some()).count() >= MOST_SERVED
        };
        if is_full(self) {
            self.drop_unused();
            if is_full(self) {
                return Err("too many queues");
            }
        }
        self.names.insert(queue.name().into(), source.clone());
        let (taker, demand) = Taker::new(shared.consumption.clone(), queue, shared.deliveries.clone());
        let stop = self.stop.child_token();
        self.starting.push((taker, stop.clone()));
        self.served.insert(source.clone(), Served { demand, stop, unsettled: 0 });
        Ok(())
    }

    /// Ends the serving of queues that nobody waits for and holds a message of.
    fn drop_unused(&mut self) {
        let Self { core, served, names, .. } = self;
        served.retain(|source, served| {
            let is_used = served.unsettled > 0 || core.waiting(source) > 0;
            if !is_used {
                served.stop.cancel();
            }
            is_used
        });
        names.retain(|_, source| served.contains_key(source));
    }
}

/// Clients as the hub knows them.
struct OfHub<'a>(&'a Hub);

impl Clients<Query> for OfHub<'_> {
    fn matches(&self, target: &Query, key: &ClientKey) -> bool {
        self.0.matches(target, key)
    }

    fn elsewhere(&self, target: &Query, source: &Source) -> Option<NodeId> {
        let mut meant = self.0.all(target);
        meant.retain(|client| {
            let is_its = source.application.as_ref().is_none_or(|application| *application == client.key.application);
            is_its && !client.restricted && client.node != *self.0.own() && client.queues.contains(&source.queue)
        });
        let chosen = fastrand::usize(..meant.len().max(1));
        meant.get(chosen).map(|client| client.node.clone())
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").field("served", &self.0.lock().served.len()).finish_non_exhaustive()
    }
}
