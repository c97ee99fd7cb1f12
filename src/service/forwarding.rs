//! Forwarding: the broker around the events' own, and the client of another 신경 server.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::singyeong::tell_of_shards;
use super::{Connections, FIRST_RETRY, LONGEST_RETRY, SINGYEONG_GOODBYE, Service};
use crate::amqp::admin::Admin;
use crate::broker::Broker;
use crate::cluster::node::NodeId;
use crate::config::{Config, ForwardTo, Forwarding};
use crate::forwarding::{Destination, Forwarder};
use crate::singyeong::outbound::{Outbound, Settings};
use crate::spectacles::events::{Events, Feedback};

/// What shards publish to: the events' broker, and where there are rules the one that forwards around it.
pub(super) fn broker(events: &Arc<Events>, feedback: &Feedback, forwarding: Option<&Forwarding>) -> Arc<dyn Broker> {
    let Some(forwarding) = forwarding else { return events.clone() };
    let Forwarding { rules, cluster, to } = forwarding;
    let rules = (**rules).clone();
    let forwarder: Arc<dyn Broker> = Arc::new(Forwarder::new(events.clone(), rules, *cluster, destination(to)));
    // A loss is forwarded, too, where a rule asks for it.
    feedback.tell_by(Arc::downgrade(&forwarder));
    forwarder
}

/// Declares the queues into which events are forwarded, until that is done or refused: before the first event.
pub(super) async fn declare(admin: &Admin, group: &str, forwarding: Option<&Forwarding>) {
    let Some(Forwarding { to, .. }) = forwarding else { return };
    let mut delay = FIRST_RETRY;
    loop {
        match destination(to).declare(admin, group).await {
            Ok(()) => return,
            Err(error) if error.is_passing() => {
                warn!(%error, again_in = ?delay, "the queue of forwarded events cannot be declared yet");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(LONGEST_RETRY);
            }
            Err(error) => {
                error!(%error, "the queue of forwarded events cannot be declared; going on without it");
                return;
            }
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
    /// Connects to another 신경 server, if events are forwarded there. Of several processes one alone gets them out of the
    /// queue, and all take commands.
    pub(super) fn start_forwarding(&mut self, config: &Config, group: &str, connections: &Connections, node: &NodeId) {
        let Some(Forwarding { to: ForwardTo::Another(dsn), .. }) = &config.forwarding else { return };
        info!(%dsn, "events are forwarded to another 신경 server");
        let (tell, metadata) = watch::channel(None);
        let settings = Settings { dsn: dsn.clone(), client: node.to_string(), group: group.to_owned() };
        let outbound = Outbound::new(settings, &connections.consumption, &connections.administration, metadata);
        self.run(tell_of_shards(self.view.clone(), self.intake.clone(), move |gateway| {
            tell.send_replace(Some(gateway.clone()));
        }));
        // Not before the shards' last events are in the queue.
        self.run(outbound.run(self.carriers.clone()));
        self.goodbye = self.goodbye.max(SINGYEONG_GOODBYE);
    }
}
