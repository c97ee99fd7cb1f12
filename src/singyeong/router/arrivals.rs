//! Messages that came out of RabbitMQ, each on its way to its end: to a client here, to another process, to Discord, or to
//! nobody. A delivery is acknowledged once it is somewhere else, or written to a socket.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::envelope::{self, Envelope, Malformed};
use super::mail::{self, Letter, Undone};
use super::origin::{self, Address, Op, Origin};
use super::parcel::{self, Kind, Parcel, Unreadable};
use super::split::Split;
use super::told::Told;
use super::{Forwarded, MOST_TRIES, Shared};
use crate::amqp::delivery::{Delivery, Properties};
use crate::cluster::node::NodeId;
use crate::singyeong::client;
use crate::singyeong::ids::{Application, ClientKey};
use crate::singyeong::packet::dispatch::QueueName;
use crate::spectacles::post;

/// Another process may know a client that is news to us: so long news may take.
const NEWS: Duration = Duration::from_millis(250);
/// So long a message is routed again that could not be delivered, over all processes and without the time in which it was on
/// its way: its sender hears within a second.
const PATIENCE: Duration = Duration::from_millis(700);
/// Before a message is routed again: as long as it has waited already, so it doubles.
const SHORTEST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(300);
/// After the start, and after RabbitMQ was away, clients come back: so long a message from before waits for one that matches.
const GRACE: Duration = Duration::from_secs(5);
/// Between two tries of what RabbitMQ refuses, and before it is given back.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// So often RabbitMQ may refuse what a message asks for, before the message is set aside.
const MOST_REFUSALS: u32 = 5;
/// The headers of a message are sent on: no more than fit into a frame beside others.
const MOST_IN_HEADERS: usize = 6000;
/// Where a delivery was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// What everybody routes.
    Shared(Op),
    /// Our own queue.
    Own,
}

/// What became of a message, for whoever is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was written, or is for several who are reached.
    Done,
    /// Whoever has it now answers, or nobody is to be.
    Elsewhere,
    /// It was not, and why.
    Failed(String),
}

/// What is the queues' of what is in our own queue.
pub(super) fn for_queues(mut delivery: Delivery) -> Result<Forwarded, Box<Delivery>> {
    let parcel = delivery.properties.headers.get(parcel::HEADER).map(|header| Parcel::read(header));
    let Some(Ok(Parcel { kind: Kind::Queued { application, queue }, .. })) = parcel else {
        return Err(Box::new(delivery));
    };
    delivery.properties.headers.remove(parcel::HEADER);
    let application = application.as_deref().map(Application::new);
    Ok(Forwarded { application, queue: QueueName(queue.into()), delivery })
}

impl Shared {
    /// Brings a delivery to its end.
    pub(super) async fn take(self: Arc<Self>, source: Source, mut delivery: Delivery) {
        let parcel = delivery.properties.headers.get(parcel::HEADER).map(|header| Parcel::read(header));
        if matches!(parcel, Some(Ok(Parcel { kind: Kind::Queued { .. }, .. }))) {
            delivery.properties.headers.remove(parcel::HEADER);
        }
        let mut refusals = 0;
        let ended = loop {
            match self.bring(source, parcel.as_ref(), &delivery).await {
                // Nobody else would be taken this from, and given back it would be here again at once.
                Err(Undone::Refused(error)) if refusals < MOST_REFUSALS => {
                    debug!(%error, "RabbitMQ refuses what a message between clients asks for");
                    refusals += 1;
                    sleep(REFUSED_PAUSE).await;
                    if !delivery.is_held() {
                        break Err(Undone::NotHeld);
                    }
                }
                Err(Undone::Refused(error)) => break self.set_aside("refused", &error.to_string(), &delivery).await,
                ended => break ended,
            }
        };
        match ended {
            Ok(verdict) => {
                let dialect = post::dialect_of(&delivery.properties, &delivery.body);
                let properties = std::mem::take(&mut delivery.properties);
                delivery.ack();
                self.answer(&properties, dialect, &verdict).await;
            }
            Err(Undone::NotHeld) => {}
            // At our end others take it at once.
            Err(Undone::Ending) if source != Source::Own => delivery.requeue(),
            Err(undone) => {
                debug!(?undone, "a message between clients is given back");
                sleep(REFUSED_PAUSE).await;
                delivery.requeue();
            }
        }
    }

    async fn bring(
        &self,
        source: Source,
        parcel: Option<&Result<Parcel, Unreadable>>,
        delivery: &Delivery,
    ) -> Result<Verdict, Undone> {
        if let Some(Ok(Parcel { kind: Kind::Queued { application, queue }, .. })) = parcel {
            return self.queue_again(application.as_deref(), queue, delivery).await.map(|()| Verdict::Elsewhere);
        }
        if delivery.properties.headers.values().map(String::len).sum::<usize>() > MOST_IN_HEADERS {
            let why = format!("its headers \"x-singyeong-…\" have more than {MOST_IN_HEADERS} bytes");
            return self.set_aside("headers", &why, delivery).await;
        }
        match (parcel, source) {
            (Some(Ok(parcel)), Source::Own) => self.open(parcel, delivery).await,
            (Some(Ok(parcel)), Source::Shared(_)) => self.returned(parcel, delivery).await,
            (Some(Err(unreadable)), _) => self.set_aside("parcel", &unreadable.to_string(), delivery).await,
            (None, Source::Own) => self.set_aside("parcel", "it is no parcel", delivery).await,
            (None, Source::Shared(Op::Send)) => self.send(delivery, Duration::ZERO).await,
            (None, Source::Shared(Op::Broadcast)) => self.broadcast(delivery).await,
        }
    }

    /// Routes a message to one client, again if it was not written. It has `waited` so long already after such failures.
    async fn send(&self, delivery: &Delivery, mut waited: Duration) -> Result<Verdict, Undone> {
        let envelope = match self.read(delivery) {
            Ok(envelope) => envelope,
            Err(malformed) => return self.set_aside(malformed.name(), &malformed.to_string(), delivery).await,
        };
        let origin = origin_of(delivery);
        let origin = origin.as_ref();
        // What waits for somebody to come has not failed yet.
        let mut for_somebody = Duration::ZERO;
        loop {
            let chosen = self.choose(&envelope.query);
            let is_over = match &chosen {
                Some(_) => waited >= PATIENCE,
                None => waited + for_somebody >= NEWS && !self.awaits_clients(origin, delivery),
            };
            if self.ending.is_cancelled() && (is_over || chosen.is_none()) {
                return Err(Undone::Ending);
            }
            if is_over {
                return self.no_route(&envelope, origin, delivery).await;
            }
            if let Some(client) = &chosen {
                if client.kind == client::Kind::Gateway {
                    return self.command(&envelope, origin, delivery).await;
                }
                if client.node == *self.hub.own() {
                    if self.hand_over_once(origin, &client.key, envelope.packet(false)).await {
                        return Ok(Verdict::Done);
                    }
                } else {
                    let parcel = Parcel::new(Kind::Send { to: Address::of(&client.key) }).waited(waited);
                    match self.forward(&client.key, &client.node, &parcel, delivery).await {
                        Ok(()) => return Ok(Verdict::Elsewhere),
                        Err(Undone::Unroutable) => {}
                        Err(undone) => return Err(undone),
                    }
                }
            }
            let total = if chosen.is_some() { &mut waited } else { &mut for_somebody };
            *total += pause(*total).await;
            if !delivery.is_held() {
                return Err(Undone::NotHeld);
            }
        }
    }

    /// Routes a message to all who match, the gateway once.
    async fn broadcast(&self, delivery: &Delivery) -> Result<Verdict, Undone> {
        let origin = origin_of(delivery);
        let origin = origin.as_ref();
        let envelope = match self.read(delivery) {
            Ok(envelope) => envelope,
            Err(malformed) => return self.set_aside(malformed.name(), &malformed.to_string(), delivery).await,
        };
        let (mut matches, mut waited) = (self.all(&envelope.query), Duration::ZERO);
        while matches.is_empty() {
            if self.ending.is_cancelled() {
                return Err(Undone::Ending);
            }
            if waited >= NEWS && !self.awaits_clients(origin, delivery) {
                return self.no_route(&envelope, origin, delivery).await;
            }
            waited += pause(waited).await;
            if !delivery.is_held() {
                return Err(Undone::NotHeld);
            }
            matches = self.all(&envelope.query);
        }
        let Split { here, elsewhere, gateway } = Split::of(&matches, self.hub.own());
        drop(matches);
        let written = self.hand_over_all_once(origin, &here, &envelope);
        // Two processes that know different news would else choose differently.
        let listed = envelope.query.has_selector();
        let shares = elsewhere
            .iter()
            .map(|(node, clients)| self.share(&envelope, node, listed.then_some(&clients[..]), delivery));
        let shared = join_all(shares);
        let command =
            async { if gateway { self.command(&envelope, origin, delivery).await } else { Ok(Verdict::Done) } };
        let ((), shared, command) = tokio::join!(written, shared, command);
        shared.into_iter().collect::<Result<(), Undone>>()?;
        let only_gateway = here.is_empty() && elsewhere.is_empty();
        command.map(|verdict| if only_gateway { verdict } else { Verdict::Done })
    }

    /// A parcel that is for us.
    async fn open(&self, parcel: &Parcel, delivery: &Delivery) -> Result<Verdict, Undone> {
        let body = || envelope::read(&delivery.body, delivery.properties.content_type.as_deref());
        let told = match &parcel.kind {
            Kind::Send { to } => {
                if let Ok(envelope) = self.read(delivery)
                    && self.hand_over_once(origin_of(delivery).as_ref(), &to.key(), envelope.packet(false)).await
                {
                    return Ok(Verdict::Done);
                }
                let waited = parcel.has_waited();
                return self.send(delivery, waited + pause(waited).await).await;
            }
            Kind::Share { .. } => return self.take_share(delivery).await,
            Kind::NoRoute { to, op } => body().map(|body| (to, Told::of_no_route(*op, &body))),
            Kind::Answer { to } => body().map(|body| (to, Told::of_answer(&body))),
            Kind::Probe { id, to, from } => {
                self.probed(*id, &to.key(), from).await;
                return Ok(Verdict::Elsewhere);
            }
            Kind::Probed { id, healthy } => {
                self.probes.answered(*id, *healthy);
                return Ok(Verdict::Elsewhere);
            }
            Kind::Queued { .. } => unreachable!("taken before"),
        };
        let Some((to, told)) = told else {
            return self.set_aside("parcel", "the body of a parcel cannot be read", delivery).await;
        };
        self.tell(&to.key(), None, told, parcel.tries.saturating_add(1), || delivery.is_held()).await?;
        Ok(Verdict::Elsewhere)
    }

    /// A parcel that its process did not take in time, and that anybody is to handle now.
    async fn returned(&self, parcel: &Parcel, delivery: &Delivery) -> Result<Verdict, Undone> {
        let tries = parcel.tries.saturating_add(1);
        match &parcel.kind {
            Kind::Send { .. } => self.send(delivery, parcel.has_waited()).await,
            Kind::Share { node } if node == self.hub.own() => self.take_share(delivery).await,
            Kind::Share { node } => {
                if self.hub.knows(node) && tries < MOST_TRIES {
                    let parcel = Parcel::again(Kind::Share { node: node.clone() }, tries);
                    match self.forward(node, node, &parcel, delivery).await {
                        Ok(()) | Err(Undone::Unroutable) => {}
                        Err(undone) => return Err(undone),
                    }
                }
                Ok(Verdict::Elsewhere)
            }
            // Who asked has given up by now.
            Kind::Probe { .. } | Kind::Probed { .. } => Ok(Verdict::Elsewhere),
            Kind::NoRoute { .. } | Kind::Answer { .. } | Kind::Queued { .. } => self.open(parcel, delivery).await,
        }
    }

    /// Our part of a broadcast.
    async fn take_share(&self, delivery: &Delivery) -> Result<Verdict, Undone> {
        let envelope = match self.read(delivery) {
            Ok(envelope) => envelope,
            Err(malformed) => return self.set_aside(malformed.name(), &malformed.to_string(), delivery).await,
        };
        let here = match &envelope.clients {
            Some(clients) => clients.clone(),
            None => Split::of(&self.all(&envelope.query), self.hub.own()).here,
        };
        self.hand_over_all_once(origin_of(delivery).as_ref(), &here, &envelope).await;
        Ok(Verdict::Elsewhere)
    }

    /// Sends a process its part of a broadcast, again if that fails: the others have theirs. No part is for a process that is
    /// gone.
    async fn share(
        &self,
        envelope: &Envelope,
        node: &NodeId,
        clients: Option<&[ClientKey]>,
        delivery: &Delivery,
    ) -> Result<(), Undone> {
        let parcel = Parcel::new(Kind::Share { node: node.clone() });
        let listed = clients.map(|clients| envelope.listing(clients));
        let mut refusals = 0;
        loop {
            let shared = match &listed {
                None => self.forward(node, node, &parcel, delivery).await,
                Some((content_type, body)) => {
                    let mut properties = mail::of_type(content_type);
                    properties.headers.extend(origin_header(delivery));
                    let letter = Letter { properties: &properties, body };
                    self.to_node(node, node, &parcel, letter, || delivery.is_held()).await
                }
            };
            match shared {
                Ok(()) => return Ok(()),
                Err(undone @ (Undone::NotHeld | Undone::Ending)) => return Err(undone),
                Err(Undone::Unroutable) if !self.hub.knows(node) => {
                    debug!(%node, "a process is gone, and needs no part of a broadcast");
                    return Ok(());
                }
                Err(Undone::GivenUp | Undone::Unroutable) => {}
                Err(Undone::Refused(error)) => {
                    refusals += 1;
                    if refusals > MOST_REFUSALS {
                        warn!(%node, %error, "a process does not get its part of a broadcast");
                        return self.set_aside("refused", &error.to_string(), delivery).await.map(drop);
                    }
                }
            }
            sleep(REFUSED_PAUSE).await;
            if !delivery.is_held() {
                return Err(Undone::NotHeld);
            }
        }
    }

    /// Sends a delivery on as it is, with what its outcome is told by.
    async fn forward(
        &self,
        receiver: impl std::hash::Hash,
        node: &NodeId,
        parcel: &Parcel,
        delivery: &Delivery,
    ) -> Result<(), Undone> {
        let asked = &delivery.properties;
        let mut properties = Properties {
            content_type: asked.content_type.clone(),
            message_id: asked.message_id.clone(),
            ..Properties::default()
        };
        // A broadcast's outcome is told by whoever split it.
        if matches!(parcel.kind, Kind::Send { .. }) {
            properties.reply_to.clone_from(&asked.reply_to);
            properties.correlation_id.clone_from(&asked.correlation_id);
        }
        properties.headers.extend(origin_header(delivery));
        let letter = Letter { properties: &properties, body: &delivery.body };
        self.to_node(receiver, node, parcel, letter, || delivery.is_held()).await
    }

    /// Publishes a parcel to a process's own queue, which is there as long as the process is.
    pub(super) async fn to_node(
        &self,
        receiver: impl std::hash::Hash,
        node: &NodeId,
        parcel: &Parcel,
        letter: Letter<'_>,
        is_ours: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        self.mail.to_node(receiver, node, self.hub.knows(node), parcel, letter, is_ours).await
    }

    /// Whether clients may come back for whom this message has waited: from a sender that is there it is new.
    fn awaits_clients(&self, origin: Option<&Origin>, delivery: &Delivery) -> bool {
        let is_there = |origin: &Origin| self.hub.get(&origin.key()).is_some_and(|client| client.node == origin.node);
        if !delivery.redelivered && origin.is_some_and(is_there) {
            return false;
        }
        self.consuming.borrow().is_none_or(|since| since.elapsed() < GRACE)
    }

    /// Nobody matches.
    async fn no_route(
        &self,
        envelope: &Envelope,
        origin: Option<&Origin>,
        delivery: &Delivery,
    ) -> Result<Verdict, Undone> {
        let failed = || Ok(Verdict::Failed("no_route".to_owned()));
        if envelope.query.is_droppable() {
            return failed();
        }
        if let Some(origin) = origin {
            let told = Told::no_route(origin, envelope);
            self.tell(&origin.key(), Some(&origin.node), told, 0, || delivery.is_held()).await?;
            return failed();
        }
        if delivery.properties.reply_to.is_some() {
            return failed();
        }
        self.set_aside("no_route", "no client matches the target", delivery).await
    }

    fn read(&self, delivery: &Delivery) -> Result<Envelope, Malformed> {
        Envelope::read(&delivery.body, delivery.properties.content_type.as_deref(), &mut self.targets())
    }
}

fn origin_of(delivery: &Delivery) -> Option<Origin> {
    Origin::read(delivery.properties.headers.get(origin::HEADER)?)
}

/// The header that tells where a message is from, to be sent on.
fn origin_header(delivery: &Delivery) -> Option<(String, String)> {
    Some((origin::HEADER.to_owned(), delivery.properties.headers.get(origin::HEADER)?.clone()))
}

/// Pauses before a message that has waited so long is routed again; for how long.
async fn pause(waited: Duration) -> Duration {
    let pause = waited.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    sleep(pause).await;
    pause
}
