//! RabbitMQ: the connections to it, and what is declared there at the start.

use std::sync::{Arc, Mutex};

use tracing::{error, warn};

use super::{FIRST_RETRY, LONGEST_RETRY, Service, ServiceError, listed};
use crate::amqp::address::Address;
use crate::amqp::admin::{Admin, AdminDriver};
use crate::amqp::error::AdminError;
use crate::amqp::publisher::{Publisher, PublisherSettings, Window};
use crate::amqp::topology;
use crate::broker::Broker;
use crate::cluster::fence::Fence;
use crate::config::{self, Config};
use crate::encoding::Dialect;
use crate::spectacles::demand::Demand;
use crate::spectacles::events::{Events, Feedback, Settings as EventSettings};

/// Events at the broker without a confirm: enough to keep it busy, and little to write again.
const WINDOW: Window = Window { messages: 4096, bytes: 8 << 20 };

/// RabbitMQ.
pub(super) struct Amqp {
    pub(super) events: Arc<Events>,
    /// What shards publish to.
    pub(super) broker: Arc<dyn Broker>,
    pub(super) connections: Connections,
}

/// The connections to RabbitMQ beside the one that publishes events.
pub(super) struct Connections {
    /// Declares and publishes what is small.
    pub(super) administration: Admin,
    /// Consumes, and never publishes: no alarm blocks it.
    pub(super) consumption: Admin,
}

impl Service {
    /// The connections beside the one that publishes events.
    pub(super) fn connect(&mut self, amqp: &config::Amqp) -> Result<Connections, ServiceError> {
        let (address, group) = (address(amqp)?, amqp.group.as_str());
        let administration = self.start_admin(Admin::at(&address, &format!("optic {group} administration")))?;
        let consumption = self.start_admin(Admin::for_leases(&address, &format!("optic {group} consumption")))?;
        let _ = self.view.admin.set(administration.clone());
        Ok(Connections { administration, consumption })
    }

    pub(super) fn start_amqp(
        &mut self,
        config: &Config,
        bot: &config::Discord,
        amqp: &config::Amqp,
        fence: &Fence,
    ) -> Result<Amqp, ServiceError> {
        let (address, group) = (address(amqp)?, amqp.group.as_str());
        let demand = match listed(bot) {
            None => Demand::auto(),
            Some(names) => Demand::listed(names.iter().map(String::as_str)),
        };
        let demand = Arc::new(Mutex::new(demand));
        let _ = self.view.demand.set(demand.clone());
        let feedback = Arc::new(Feedback::new(demand.clone()));
        let settings = PublisherSettings {
            address,
            exchange: group.to_owned(),
            connection_name: format!("optic {group} events"),
            window: WINDOW,
            fence: fence.clone(),
        };
        let (publisher, driver) = Publisher::new(settings, feedback.clone());
        let stop = self.links.clone();
        self.connections.spawn(async move {
            driver.run(stop).await;
            Ok(())
        });
        let _ = self.view.publisher.set(publisher.clone());
        let _ = self.view.fence.set(fence.clone());
        let connections = self.connect(amqp)?;
        let settings = EventSettings {
            group: group.to_owned(),
            persistent: amqp.persistent,
            message_timeout: amqp.message_timeout,
            dialect: Some(amqp.dialect.unwrap_or(Dialect::Plain(bot.encoding.into()))),
        };
        let events = Arc::new(Events::new(publisher, settings, demand));
        feedback.tell(&events);
        let _ = self.view.events.set(events.clone());
        let _ = self.view.gaps.set(events.gaps().clone());
        let broker = self.broker(config, group, &events, &feedback, &connections.administration);
        // Seen from now on: who asks for readiness is told what is missing.
        let _ = self.view.broker.set(broker.clone());
        Ok(Amqp { events, broker, connections })
    }

    fn start_admin(&mut self, made: Result<(Admin, AdminDriver), AdminError>) -> Result<Admin, ServiceError> {
        let (admin, driver) = made.map_err(|error| ServiceError::Address(error.to_string()))?;
        let stop = self.links.clone();
        self.connections.spawn(async move {
            driver.run(stop).await;
            Ok(())
        });
        Ok(admin)
    }
}

fn address(amqp: &config::Amqp) -> Result<Address, ServiceError> {
    Address::parse(amqp.url.secret().expose()).map_err(|error| ServiceError::Address(error.to_string()))
}

/// Declares the queues of `BROKER_DECLARE`, until that is done or refused.
pub(super) async fn declare(admin: &Admin, amqp: &config::Amqp) {
    for queue in &amqp.declare {
        let event = std::slice::from_ref(&queue.event);
        let mut delay = FIRST_RETRY;
        loop {
            match topology::declare_events(admin, amqp.group.as_str(), queue.subgroup.as_deref(), event).await {
                Ok(()) => break,
                Err(error) if error.is_passing() => {
                    warn!(%error, again_in = ?delay, "a queue of BROKER_DECLARE cannot be declared yet");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LONGEST_RETRY);
                }
                Err(error) => {
                    error!(%error, "a queue of BROKER_DECLARE cannot be declared; going on without it");
                    break;
                }
            }
        }
    }
}
