//! Messages that came out of RabbitMQ, each on its way to its end: to a client here, to another process, to Discord, or to
//! nobody. A delivery is acknowledged once it is somewhere else, or written to a socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::debug;

use super::envelope::{self, Envelope, Malformed};
use super::mail::{Letter, Undone};
use super::origin::{self, Address, Op, Origin};
use super::parcel::{self, Kind, Parcel};
use super::told::Told;
use super::{Forwarded, MOST_TRIES, Shared, mail};
use crate::amqp::delivery::{Delivery, Properties};
use crate::cluster::node::NodeId;
use crate::singyeong::client::{self, Client};
use crate::singyeong::ids::{Application, ClientKey};
use crate::singyeong::packet::dispatch::QueueName;
use crate::singyeong::packet::outgoing::Outgoing;

/// Another process may know a client that is news to us: so long news may take. A sender hears within a second.
const NEWS: Duration = Duration::from_millis(250);
/// Before a message is routed again that could not be delivered; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

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
        let ended = match (parcel, source) {
            (Some(Ok(Parcel { kind: Kind::Queued { application, queue }, .. })), _) => {
                delivery.properties.headers.remove(parcel::HEADER);
                self.queue_again(application.as_deref(), &queue, &delivery).await.map(|()| Verdict::Elsewhere)
            }
            (Some(Ok(parcel)), Source::Own) => self.open(parcel, &delivery).await,
            (Some(Ok(parcel)), Source::Shared(_)) => self.returned(parcel, &delivery).await,
            (Some(Err(unreadable)), _) => self.set_aside("parcel", &unreadable.to_string(), &delivery).await,
            (None, Source::Own) => self.set_aside("parcel", "it is no parcel", &delivery).await,
            (None, Source::Shared(Op::Send)) => self.send(&delivery, 0).await,
            (None, Source::Shared(Op::Broadcast)) => self.broadcast(&delivery).await,
        };
        match ended {
            Ok(verdict) => {
                let properties = std::mem::take(&mut delivery.properties);
                delivery.ack();
                self.answer(&properties, &verdict).await;
            }
            Err(Undone::NotHeld) => {}
            Err(_) => delivery.requeue(),
        }
    }

    /// Routes a message to one client, again if it was not written.
    async fn send(&self, delivery: &Delivery, mut tries: u32) -> Result<Verdict, Undone> {
        let origin = origin_of(delivery);
        let mut news_awaited = false;
        loop {
            let envelope = match self.read(delivery) {
                Ok(envelope) => envelope,
                Err(malformed) => return self.set_aside(malformed.name(), &malformed.to_string(), delivery).await,
            };
            let Some(client) = self.hub.choose(&envelope.query).filter(|_| tries < MOST_TRIES) else {
                if !std::mem::replace(&mut news_awaited, true) {
                    sleep(NEWS).await;
                    continue;
                }
                return self.no_route(&envelope, origin.as_ref(), delivery).await;
            };
            if client.kind == client::Kind::Gateway {
                return self.command(&envelope, origin.as_ref(), delivery).await;
            }
            if client.node == *self.hub.own() {
                if self.hand_over(&client.key, envelope.into_packet(false)).await {
                    return Ok(Verdict::Done);
                }
            } else {
                let parcel = Parcel::again(Kind::Send { to: Address::of(&client.key) }, tries);
                match self.forward(&client.key, &client.node, &parcel, delivery).await {
                    Ok(()) => return Ok(Verdict::Elsewhere),
                    Err(Undone::Unroutable) => {}
                    Err(undone) => return Err(undone),
                }
            }
            sleep(FIRST_PAUSE * 2_u32.saturating_pow(tries)).await;
            tries += 1;
            if !delivery.is_held() {
                return Err(Undone::NotHeld);
            }
        }
    }

    /// Routes a message to all who match, the gateway once.
    async fn broadcast(&self, delivery: &Delivery) -> Result<Verdict, Undone> {
        let origin = origin_of(delivery);
        let envelope = match self.read(delivery) {
            Ok(envelope) => envelope,
            Err(malformed) => return self.set_aside(malformed.name(), &malformed.to_string(), delivery).await,
        };
        let mut matches = self.hub.all(&envelope.query);
        if matches.is_empty() {
            sleep(NEWS).await;
            matches = self.hub.all(&envelope.query);
        }
        if matches.is_empty() {
            return self.no_route(&envelope, origin.as_ref(), delivery).await;
        }
        let Split { here, elsewhere, gateway } = Split::of(&matches, self.hub.own());
        drop(matches);
        let written = self.hand_over_all(&here, &envelope);
        // Two processes that know different news would else choose differently.
        let listed = envelope.query.has_selector();
        let shares = elsewhere
            .iter()
            .map(|(node, clients)| self.share(&envelope, node, listed.then_some(&clients[..]), delivery));
        let shared = join_all(shares);
        let command = async {
            if gateway { self.command(&envelope, origin.as_ref(), delivery).await } else { Ok(Verdict::Done) }
        };
        let (shared, command, ()) = tokio::join!(shared, command, written);
        shared.into_iter().collect::<Result<(), Undone>>()?;
        let only_gateway = here.is_empty() && elsewhere.is_empty();
        command.map(|verdict| if only_gateway { verdict } else { Verdict::Done })
    }

    /// A parcel that is for us.
    async fn open(&self, Parcel { tries, kind, .. }: Parcel, delivery: &Delivery) -> Result<Verdict, Undone> {
        let body = || envelope::read(&delivery.body, delivery.properties.content_type.as_deref());
        let told = match kind {
            Kind::Send { to } => {
                if let Ok(envelope) = self.read(delivery)
                    && self.hand_over(&to.key(), envelope.into_packet(false)).await
                {
                    return Ok(Verdict::Done);
                }
                return self.send(delivery, tries + 1).await;
            }
            Kind::Share { .. } => return self.take_share(delivery).await,
            Kind::NoRoute { to, op } => body().map(|body| (to, Told::of_no_route(op, &body))),
            Kind::Answer { to } => body().map(|body| (to, Told::of_answer(&body))),
            Kind::Probe { id, to, from } => {
                self.probed(id, &to.key(), &from).await;
                return Ok(Verdict::Elsewhere);
            }
            Kind::Probed { id, healthy } => {
                self.probes.answered(id, healthy);
                return Ok(Verdict::Elsewhere);
            }
            Kind::Queued { .. } => unreachable!("taken before"),
        };
        let Some((to, told)) = told else {
            return self.set_aside("parcel", "the body of a parcel cannot be read", delivery).await;
        };
        self.tell(&to.key(), None, told, tries + 1, || delivery.is_held()).await?;
        Ok(Verdict::Elsewhere)
    }

    /// A parcel that its process did not take in time, and that anybody is to handle now.
    async fn returned(&self, parcel: Parcel, delivery: &Delivery) -> Result<Verdict, Undone> {
        let tries = parcel.tries + 1;
        match &parcel.kind {
            Kind::Send { .. } => self.send(delivery, tries).await,
            Kind::Share { node } if node == self.hub.own() => self.take_share(delivery).await,
            Kind::Share { node } => {
                if self.hub.knows(node) && tries < MOST_TRIES {
                    let parcel = Parcel::again(Kind::Share { node: node.clone() }, tries);
                    let shared = self.forward(node, node, &parcel, delivery).await;
                    if let Err(undone @ (Undone::NotHeld | Undone::GivenUp)) = shared {
                        return Err(undone);
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
            None => Split::of(&self.hub.all(&envelope.query), self.hub.own()).here,
        };
        self.hand_over_all(&here, &envelope).await;
        Ok(Verdict::Elsewhere)
    }

    /// Sends a process its part of a broadcast. No part is for a process that is gone.
    async fn share(
        &self,
        envelope: &Envelope,
        node: &NodeId,
        clients: Option<&[ClientKey]>,
        delivery: &Delivery,
    ) -> Result<(), Undone> {
        let parcel = Parcel::new(Kind::Share { node: node.clone() });
        let shared = match clients {
            None => self.forward(node, node, &parcel, delivery).await,
            Some(clients) => {
                let (content_type, body) = envelope.listing(clients);
                let (properties, is_held) = (mail::of_type(content_type), || delivery.is_held());
                self.mail.to_node(node, node, &parcel, Letter { properties: &properties, body: &body }, is_held).await
            }
        };
        match shared {
            Err(undone @ (Undone::NotHeld | Undone::GivenUp)) => Err(undone),
            Err(undone) => {
                debug!(%node, ?undone, "a process does not get its part of a broadcast");
                Ok(())
            }
            Ok(()) => Ok(()),
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
        if let Some(origin) = asked.headers.get(origin::HEADER) {
            properties.headers.insert(origin::HEADER.to_owned(), origin.clone());
        }
        let letter = Letter { properties: &properties, body: &delivery.body };
        self.mail.to_node(receiver, node, parcel, letter, || delivery.is_held()).await
    }

    /// Whether it was written to the client's socket.
    async fn hand_over(&self, key: &ClientKey, packet: Outgoing) -> bool {
        let (tell, told) = oneshot::channel();
        let fate = Box::new(move |written| {
            // Who waited is gone at the end of this process.
            let _ = tell.send(written);
        });
        self.hub.deliver(key, packet, Some(fate)).is_ok() && told.await.unwrap_or(false)
    }

    /// Done when each of them has it, or is gone. It is on its way when this returns.
    fn hand_over_all(&self, keys: &[ClientKey], envelope: &Envelope) -> impl Future<Output = ()> + use<> {
        let (all, ended) = oneshot::channel::<()>();
        let all = Arc::new(all);
        for key in keys {
            let one = all.clone();
            // Who is not connected any more does not match any more.
            let _ = self.hub.deliver(key, envelope.clone().into_packet(true), Some(Box::new(move |_| drop(one))));
        }
        async move {
            let _ = ended.await;
        }
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

    /// Whether a client of ours is alive, told to whoever wants its id.
    async fn probed(&self, id: u64, key: &ClientKey, from: &NodeId) {
        let healthy = self.is_healthy(key).await;
        let parcel = Parcel::new(Kind::Probed { id, healthy });
        let letter = Letter { properties: &Properties::default(), body: b"" };
        // Who asked waits for a moment only.
        let _ = self.mail.to_node(id, from, &parcel, letter, || false).await;
    }

    /// Forgets a client of ours that is not.
    pub(super) async fn is_healthy(&self, key: &ClientKey) -> bool {
        let Some(outbox) = self.hub.outbox(key) else { return false };
        if outbox.is_healthy().await {
            return true;
        }
        // Meanwhile it may have come again.
        if self.hub.outbox(key).is_some_and(|now| now.is_same(&outbox)) {
            self.hub.forget(key);
        }
        false
    }
}

fn origin_of(delivery: &Delivery) -> Option<Origin> {
    Origin::read(delivery.properties.headers.get(origin::HEADER)?)
}

/// Where a broadcast goes.
#[derive(Debug, Default, PartialEq)]
struct Split {
    here: Vec<ClientKey>,
    elsewhere: BTreeMap<NodeId, Vec<ClientKey>>,
    /// Whether Discord is meant, too.
    gateway: bool,
}

impl Split {
    fn of(matches: &[Arc<Client>], own: &NodeId) -> Self {
        let mut split = Self::default();
        for client in matches {
            match client.kind {
                client::Kind::Gateway => split.gateway = true,
                client::Kind::Websocket if client.node == *own => split.here.push(client.key.clone()),
                client::Kind::Websocket => {
                    split.elsewhere.entry(client.node.clone()).or_default().push(client.key.clone());
                }
            }
        }
        split
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::encoding::{Encoding, Value};
    use crate::singyeong::metadata::Metadata;

    #[test]
    fn a_broadcast_is_split_by_process_and_the_gateway_counts_once() {
        let (own, other) = (NodeId::of_run("own", 1), NodeId::of_run("other", 2));
        let client = |name: &str, node: &NodeId, kind| {
            Arc::new(Client {
                key: ClientKey::new("app", name),
                node: node.clone(),
                since: 0,
                kind,
                restricted: false,
                encoding: Encoding::Json,
                ip: None,
                namespace: Value::Null.into(),
                receives_client_updates: false,
                last_heartbeat: 0,
                queues: BTreeSet::new(),
                metadata: Metadata::default(),
            })
        };
        let (here, gateway) = (client::Kind::Websocket, client::Kind::Gateway);
        let matches = [
            client("1", &own, here),
            client("2", &other, here),
            client("3", &own, here),
            client("own", &own, gateway),
            client("other", &other, gateway),
        ];
        let key = |name: &str| ClientKey::new("app", name);
        let expected = Split {
            here: vec![key("1"), key("3")],
            elsewhere: BTreeMap::from([(other, vec![key("2")])]),
            gateway: true,
        };
        assert_eq!(Split::of(&matches, &own), expected);
    }
}
