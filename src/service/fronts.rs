//! Where clients connect by websocket.

use tracing::info;

use super::{Connections, Service, ServiceError, descriptors};
use crate::cluster::node::NodeId;
use crate::config::{Amqp, Config};
use crate::websocket::Listener;

impl Service {
    /// Serves what is asked for.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub(super) fn start_fronts(
        &mut self,
        config: &Config,
        amqp: &Amqp,
        connections: &Connections,
        node: &NodeId,
    ) -> Result<(), ServiceError> {
        let Some(settings) = &config.singyeong else { return Ok(()) };
        descriptors::allow(settings.limits.connections);
        let listener = Listener::bind("SINGYEONG_ADDRESS", settings.address)?;
        info!(address = %listener.address(), "신경 is served at /gateway/websocket");
        let front = self.start_singyeong(settings, config.discord.is_some(), amqp, connections, node);
        let stop = self.intake.clone();
        self.front(listener.run(front, stop));
        Ok(())
    }
}
