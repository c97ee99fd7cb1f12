//! Keeps the books: what comes is told to the coordinator, what it says is done in its order, and only then is what came
//! acknowledged.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::carrier::{Parcel, What};
use super::letters::Sent;
use super::{Found, Term};
use crate::amqp::delivery::{Delivery, From};
use crate::amqp::error::AdminError;
use crate::amqp::seat::Intake;
use crate::amqp::topology::{Presence, is_ours, queue_name};
use crate::amybot::answer::Answer;
use crate::amybot::coordinator::{Action, Fate, Letter, Refused, Said};
use crate::amybot::internal::{Client, Internal, InternalAnswer, Order, number_of};
use crate::amybot::member::Address;
use crate::amybot::message::{Message, ServiceName};
use crate::amybot::post::Aside;
use crate::discord::ids::ShardId;
use crate::discord::turnstile::Pass;
use crate::encoding::{Dialect, Encoding};

const JSON: Dialect = Dialect::Plain(Encoding::Json);

/// So much of what comes at most has its effects stored together.
const BATCH: usize = 64;
/// Waits for a shard's turn.
type Waiting<'a> = Pin<Box<dyn Future<Output = (ShardId, Pass)> + Send + 'a>>;

pub(super) struct Books<'a> {
    term: &'a Term<'a>,
    intakes: [Intake; 3],
    found: mpsc::Receiver<Found>,
    carrier: mpsc::Sender<Parcel>,
    turns: FuturesUnordered<Waiting<'a>>,
    page: Page,
}

/// What came and is not settled yet.
#[derive(Default)]
struct Page {
    came: Vec<Delivery>,
    refused: VecDeque<Refusing>,
}

/// Something that is refused.
struct Refusing {
    delivery: Delivery,
    /// Who is told, if anybody is.
    letter: Option<Letter>,
    /// What is set aside: always, or if nobody could be told.
    aside: Aside,
    is_kept: bool,
}

enum Came {
    Said(Delivery),
    Internal(Delivery),
    Turn(ShardId, Pass),
    Found(Found),
}

impl<'a> Books<'a> {
    pub(super) fn new(
        term: &'a Term<'a>,
        intakes: [Intake; 3],
        found: mpsc::Receiver<Found>,
        carrier: mpsc::Sender<Parcel>,
    ) -> Self {
        Self { term, intakes, found, carrier, turns: FuturesUnordered::new(), page: Page::default() }
    }

    /// Keeps them; why it had to end.
    pub(super) async fn keep(mut self) -> AdminError {
        loop {
            if let Err(why) = self.write_page().await {
                return why;
            }
        }
    }

    async fn write_page(&mut self) -> Result<(), AdminError> {
        // Also before anything came: whoever takes over has something to do.
        self.settle().await?;
        let first = self.next().await?;
        self.enter(first).await?;
        for _ in 1..BATCH {
            let Some(next) = self.next().now_or_never() else { break };
            self.enter(next?).await?;
        }
        self.settle().await
    }

    /// What comes next. Nothing is lost when this is dropped.
    async fn next(&mut self) -> Result<Came, AdminError> {
        let [said, internal, proxied] = &mut self.intakes;
        tokio::select! {
            Some((shard, pass)) = self.turns.next() => Ok(Came::Turn(shard, pass)),
            Some(found) = self.found.recv() => Ok(Came::Found(found)),
            delivery = said.next() => delivery.map(Came::Said),
            delivery = internal.next() => delivery.map(Came::Internal),
            delivery = proxied.next() => delivery.map(Came::Said),
        }
    }

    async fn enter(&mut self, came: Came) -> Result<(), AdminError> {
        match came {
            Came::Said(delivery) => self.over_amqp(delivery).await,
            Came::Internal(delivery) => return self.internal(delivery).await,
            Came::Found(Found::Gone { queue, given }) => self.look_again(&queue, given).await,
            Came::Found(Found::Round) => self.term.round(),
            Came::Found(Found::OpticRuns(shards)) => self.term.coordinator().optic_runs(shards),
            Came::Turn(shard, pass) => return self.turn(shard, pass).await,
        }
        Ok(())
    }

    /// A service said something over RabbitMQ.
    async fn over_amqp(&mut self, mut delivery: Delivery) {
        let properties = delivery.properties.clone();
        let group = self.term.group();
        let named = properties.reply_to.as_deref().filter(|queue| !queue.is_empty());
        let dialect = Dialect::of_body(properties.content_type.as_deref(), &delivery.body);
        let read = Message::read(dialect, &delivery.body);
        let (refused, kind) = match (named, read) {
            (Some(queue), _) if is_ours(group, queue) => {
                (format!("its \"reply_to\", {queue:?}, is a queue of Optic's own"), "reply_to")
            }
            (Some(queue), Ok(message)) => {
                let address = Address::Queue(queue.to_owned());
                return self.said(&address, dialect, message, delivery).await;
            }
            (None, Ok(message)) => match ServiceName::new(&message.s) {
                Ok(name) => {
                    let queue = queue_name(group, None, name.as_str());
                    return self.said(&Address::Key(name, queue), dialect, message, delivery).await;
                }
                Err(error) => (error.to_string(), "name"),
            },
            (_, Err(error)) => (error.to_string(), "malformed"),
        };
        let letter = named.filter(|queue| !is_ours(group, queue)).map(|queue| Letter {
            to: Address::Queue(queue.to_owned()),
            dialect,
            correlation_id: properties.correlation_id.clone(),
            answer: Answer::Refused { opcode: None, reason: refused.clone() },
        });
        let aside = aside(&mut delivery).because(kind, refused);
        self.page.refused.push_back(Refusing { delivery, letter, aside, is_kept: true });
    }

    /// A process said something.
    async fn internal(&mut self, mut delivery: Delivery) -> Result<(), AdminError> {
        match Internal::read(&delivery.body) {
            Ok(Internal::Said(Client { reply_to, .. }, _)) if is_ours(self.term.group(), &reply_to) => {
                let reason = format!("its \"reply_to\", {reply_to:?}, is a queue of Optic's own");
                let aside = aside(&mut delivery).because("reply_to", reason);
                self.page.refused.push_back(Refusing { delivery, letter: None, aside, is_kept: true });
            }
            Ok(Internal::Said(client, message)) => {
                self.said(&Address::Client(client), JSON, message, delivery).await;
            }
            Ok(Internal::Left(client)) => {
                let over = Address::Client(client).over();
                let freed = self.term.coordinator().left(&over);
                if !freed.is_empty() {
                    info!(?over, shards = ?freed, "a service has left: its shards are free");
                }
                self.page.came.push(delivery);
            }
            Ok(Internal::Runs(node, runs)) => {
                self.term.runs(node, runs);
                self.page.came.push(delivery);
            }
            Ok(Internal::Order(order, service)) => return self.order(order, &service, delivery).await,
            Ok(Internal::List) => {
                let mut services = self.term.coordinator().services();
                services.proxied = self.term.office.counts.listed();
                self.term.tell(&delivery.properties, &InternalAnswer::Services(services)).await?;
                self.page.came.push(delivery);
            }
            Err(error) => {
                let aside = aside(&mut delivery).because("malformed", error.to_string());
                self.page.refused.push_back(Refusing { delivery, letter: None, aside, is_kept: true });
            }
        }
        Ok(())
    }

    async fn said(&mut self, from: &Address, dialect: Dialect, message: Message, mut delivery: Delivery) {
        let properties = &delivery.properties;
        let number = match from {
            Address::Client(client) => properties.message_id.as_deref().and_then(|id| number_of(&client.node, id)),
            Address::Queue(_) | Address::Key(..) => None,
        };
        let fate = self.term.coordinator().said(&Said {
            from,
            dialect,
            correlation_id: properties.correlation_id.as_deref(),
            message_id: properties.message_id.as_deref(),
            number,
            redelivered: delivery.redelivered,
            message: &message,
        });
        if !matches!(fate, Fate::Done) && matches!(from, Address::Client(_)) {
            // What is set aside is what the service said.
            delivery.body = message.to_json();
        }
        match fate {
            Fate::Done => self.page.came.push(delivery),
            Fate::Proxied(proxied) => {
                let aside = aside(&mut delivery);
                let passed = Message { s: proxied.source.as_str().into(), t: proxied.topic.clone(), d: message.d };
                let what = What::Passed { proxied, body: passed.to_json() };
                self.carry(Parcel { delivery, what, aside }).await;
            }
            Fate::Refused(refused) => {
                let opcode = message.opcode();
                let letter = Letter {
                    to: from.clone(),
                    dialect,
                    correlation_id: properties.correlation_id.clone(),
                    answer: Answer::Refused { opcode, reason: refused.to_string() },
                };
                let aside = aside(&mut delivery).because(kind_of(&refused), refused.to_string());
                let letter = Some(letter);
                self.page.refused.push_back(Refusing { delivery, letter, aside, is_kept: opcode.is_none() });
            }
        }
    }

    async fn carry(&mut self, parcel: Parcel) {
        // There is room for all that RabbitMQ delivers at a time.
        let _ = self.carrier.send(parcel).await;
    }

    async fn order(&mut self, order: Order, service: &ServiceName, delivery: Delivery) -> Result<(), AdminError> {
        self.settle().await?;
        self.term.coordinator().order(order, service);
        let instances = self.carry_out().await?;
        info!(%service, ?order, instances, "instances of a service are told");
        self.term.tell(&delivery.properties, &InternalAnswer::Told { instances }).await?;
        self.page.came.push(delivery);
        Ok(())
    }

    async fn turn(&mut self, shard: ShardId, pass: Pass) -> Result<(), AdminError> {
        if !self.term.coordinator().wants_turn(shard) {
            return Ok(());
        }
        // Another process may run it since: then its holder-to-be gets another.
        match self.term.is_run_by_optic(shard).await {
            Ok(false) => {}
            Ok(true) => {
                warn!(%shard, "a shard for services is run by Optic: another is given");
                let optics = self.term.notice(|noticed| _ = noticed.insert(shard));
                self.term.coordinator().optic_runs(optics);
                self.term.coordinator().wants_turn(shard);
                return Ok(());
            }
            Err(error) => {
                warn!(%shard, %error, "a shard for services is not given yet: whether Optic runs it is not known");
                self.ask_turn(shard);
                return Ok(());
            }
        }
        let holder = self.term.coordinator().holder(shard).cloned();
        if let Some(address) = holder.filter(|address| matches!(address, Address::Queue(_)))
            && !self.term.may_be_reached(&address).await
        {
            self.gone(address.queue());
            self.term.coordinator().wants_turn(shard);
            return Ok(());
        }
        // What is not stored is stored first, for the turn is short.
        self.carry_out().await?;
        if self.term.seat.is_blocked() {
            // It would hear of it when its turn is long over.
            self.ask_turn(shard);
        } else if pass.spend(Instant::now()) {
            self.term.coordinator().turn(shard);
            self.carry_out().await?;
        } else {
            self.ask_turn(shard);
        }
        Ok(())
    }

    /// Does all that is to be done for what came, and acknowledges it.
    async fn settle(&mut self) -> Result<(), AdminError> {
        self.carry_out().await?;
        while let Some(Refusing { delivery, letter, aside, is_kept }) = self.page.refused.pop_front() {
            let sent = match &letter {
                Some(letter) => self.term.send(letter).await?,
                None => Sent::Not,
            };
            if is_kept || sent != Sent::Told {
                // Not here: there may be nobody who takes it.
                self.carry(Parcel { delivery, what: What::SetAside, aside }).await;
            } else {
                delivery.ack();
            }
        }
        if !self.page.came.is_empty() {
            self.page.came.drain(..).for_each(Delivery::ack);
            self.term.coordinator().settled();
        }
        Ok(())
    }

    /// Does what the coordinator says; how many instances were told of an order.
    async fn carry_out(&mut self) -> Result<usize, AdminError> {
        let mut ordered = 0;
        loop {
            let action = self.term.coordinator().poll_action();
            match action {
                None => return Ok(ordered),
                Some(Action::Store(record)) => {
                    self.term.seat.store(&record).await?;
                    self.term.coordinator().stored();
                }
                Some(Action::AskTurn(shard)) => self.ask_turn(shard),
                Some(Action::Send(letter)) => {
                    let sent = self.term.send(&letter).await?;
                    let mut coordinator = self.term.coordinator();
                    match (sent, &letter.answer) {
                        // The process may be cut off, and its service run a shard still: the rounds know.
                        (Sent::Gone, _) if matches!(letter.to, Address::Client(_)) => {}
                        (Sent::Gone, _) => {
                            drop(coordinator);
                            self.gone(letter.to.queue());
                        }
                        (Sent::Told, Answer::ShardAccept(shard)) => {
                            info!(shard = %shard.id(), to = ?letter.to.over(), "a service has a shard");
                            coordinator.accepted(shard.id(), &letter.to.over());
                        }
                        (Sent::Not, Answer::ShardAccept(shard)) => coordinator.not_accepted(shard.id()),
                        (Sent::Told, Answer::Shutdown | Answer::Reboot) => ordered += 1,
                        (Sent::Told | Sent::Not, _) => {}
                    }
                }
            }
        }
    }

    /// Since it was found gone, somebody may have declared it anew, and asked for shards.
    async fn look_again(&mut self, queue: &str, given: u64) {
        let presence = self.term.presence(queue).await;
        let freed = match presence {
            Ok(Presence::Gone) => return self.gone(queue),
            Ok(Presence::Silent) => self.term.coordinator().queue_was_gone(queue, given, false),
            Ok(Presence::There) | Err(_) => self.term.coordinator().queue_was_gone(queue, given, true),
        };
        if !freed.is_empty() {
            info!(%queue, shards = ?freed, "a service's queue was gone: its shards are free");
        }
    }

    fn gone(&self, queue: &str) {
        let freed = self.term.coordinator().queue_gone(queue);
        if !freed.is_empty() {
            info!(%queue, shards = ?freed, "a service's queue is gone: its shards are free");
        }
    }

    fn ask_turn(&self, shard: ShardId) {
        let (turns, seat) = (self.term.turns, self.term.seat);
        self.turns.push(Box::pin(async move {
            // A turn in an alarm is of no use. Is the seat lost, so is this.
            let _ = seat.unblocked().await;
            (shard, turns.turn(shard).await)
        }));
    }
}

/// What is set aside of a delivery, which has no body any more.
fn aside(delivery: &mut Delivery) -> Aside {
    let From::Queue(source) = &delivery.from else { unreachable!("the seat consumes no shard") };
    let (properties, body) = (delivery.properties.clone(), std::mem::take(&mut delivery.body));
    Aside::new(source.to_string(), properties, body)
}

const fn kind_of(refused: &Refused) -> &'static str {
    use crate::amybot::message::Refusal;
    match refused {
        Refused::Message(Refusal::Forged { .. }) | Refused::OtherName { .. } => "forged",
        Refused::Message(Refusal::Topic(..)) => "topic",
        Refused::Message(_) => "not_understood",
        Refused::UsedUp { .. } | Refused::NoCount => "used_up",
        Refused::NotItsShard(_) => "not_its_shard",
        Refused::TooManyMembers | Refused::TooManyTopics => "too_many",
    }
}
