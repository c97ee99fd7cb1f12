//! Forwarding: the broker around the events' own, and the client of another 신경 server.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::{info, warn};

use super::singyeong::tell_of_shards;
use super::{Connections, FIRST_RETRY, LONGEST_RETRY, SINGYEONG_GOODBYE, Service, ServiceError};
use crate::amqp::admin::Admin;
use crate::amqp::standing::Standing;
use crate::amqp::topology;
use crate::broker::Broker;
use crate::cluster::node::NodeId;
use crate::config::{Config, ForwardTo, Forwarding};
use crate::forwarding::{Destination, Forwarder};
use crate::singyeong::outbound::{Outbound, Settings};
use crate::spectacles::events::{Events, Feedback};

/// Declares the queues into which events are forwarded, until that is done: before the first event.
///
/// # Errors
/// When RabbitMQ refuses it: all forwarded events would be lost.
pub(super) async fn declare(admin: &Admin, group: &str, forwarding: Option<&Forwarding>) -> Result<(), ServiceError> {
    let Some(Forwarding { to, .. }) = forwarding else { return Ok(()) };
    let queues = destination(to).queues(group);
    let mut delay = FIRST_RETRY;
    loop {
        match topology::declare_queues(admin, group, &queues).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_passing() => {
                warn!(%error, again_in = ?delay, "the queue of forwarded events cannot be declared yet");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(LONGEST_RETRY);
            }
            Err(error) => return Err(ServiceError::Forwarding(error)),
        }
    }
}

const fn destination(to: &ForwardTo) -> Destination {
    match to {
        ForwardTo::BuiltIn => Destination::BuiltIn,
        ForwardTo::Another(_) => Destination::Elsewhere,
    }
}

impl Service {
    /// What shards publish to: the events' broker, and where there are rules the one that forwards around it.
    pub(super) fn broker(
        &mut self,
        config: &Config,
        group: &str,
        events: &Arc<Events>,
        feedback: &Feedback,
        administration: &Admin,
    ) -> Arc<dyn Broker> {
        let Some(Forwarding { rules, cluster, to }) = &config.forwarding else { return events.clone() };
        let destination = destination(to);
        let rules = (**rules).clone();
        let forwarder: Arc<dyn Broker> = Arc::new(Forwarder::new(events.clone(), rules, *cluster, destination));
        // A loss is forwarded, too, where a rule asks for it.
        feedback.tell_by(Arc::downgrade(&forwarder));
        let (queues, driver) = Standing::new(administration.clone(), group, destination.queues(group));
        feedback.forward_to(queues);
        self.run(driver.run(self.carriers.clone()));
        forwarder
    }

    /// Connects to another 신경 server, if events are forwarded there. Of several processes one alone gets them out of the
    /// queue, and all take commands.
    pub(super) fn start_forwarding(&mut self, config: &Config, group: &str, connections: &Connections, node: &NodeId) {
        let Some(Forwarding { to: ForwardTo::Another(dsn), .. }) = &config.forwarding else { return };
        info!(%dsn, "events are forwarded to another 신경 server");
        let (tell, metadata) = watch::channel(None);
        let settings = Settings { dsn: dsn.clone(), client: node.to_string(), group: group.to_owned() };
        let outbound = Outbound::new(settings, &connections.consumption, &connections.administration, metadata);
        let _ = self.view.outbound.set(outbound.counters());
        self.run(tell_of_shards(self.view.clone(), self.intake.clone(), move |gateway| {
            tell.send_replace(Some(gateway.clone()));
        }));
        // Not before the shards' last events are in the queue.
        self.run(outbound.run(self.carriers.clone()));
        self.goodbye = self.goodbye.max(SINGYEONG_GOODBYE);
    }
}
