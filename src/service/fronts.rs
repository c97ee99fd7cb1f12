//! Where clients connect by websocket: 신경's and amybot's, each at an address of its own or both at one.

use std::sync::Arc;

use tracing::info;

use super::{Connections, Service, ServiceError, descriptors};
use crate::amybot::bridge::Bridge;
use crate::amybot::server::{self, Limits};
use crate::cluster::node::NodeId;
use crate::config::{Amqp, Config};
use crate::websocket::Listener;
use crate::websocket::http::{Endpoint, Front, NoRest, Rest};

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
        let amybot_address = config.amybot.as_ref().and_then(|amybot| amybot.address);
        let singyeong_address = config.singyeong.as_ref().map(|singyeong| singyeong.address);
        let of_singyeong = config.singyeong.as_ref().map_or(0, |singyeong| singyeong.limits.connections);
        let of_amybot = amybot_address.map_or(0, |_| Limits::default().connections);
        if of_singyeong + of_amybot > 0 {
            descriptors::allow(of_singyeong + of_amybot);
        }
        // Before anything is done for them: what cannot be is told at once.
        let bind = |variable, address: Option<_>| address.map(|address| Listener::bind(variable, address)).transpose();
        let singyeong_listener = bind("SINGYEONG_ADDRESS", singyeong_address)?;
        let own_address = amybot_address.filter(|address| Some(*address) != singyeong_address);
        let amybot_listener = bind("AMYBOT_ADDRESS", own_address)?;

        let amybot = config.amybot.as_ref().map(|_| self.bridge(amqp, connections, node));
        let mut amybot: Option<Arc<dyn Endpoint>> = amybot_address
            .and(amybot)
            .map(|bridge| Arc::new(server::Entrance::new(Arc::new(bridge), Limits::default())) as Arc<dyn Endpoint>);
        if let (Some(listener), Some(entrance)) = (amybot_listener, amybot.take_if(|_| own_address.is_some())) {
            info!(address = %listener.address(), "amybot is served at {}", server::PATH);
            self.listen(listener, vec![entrance], Arc::new(NoRest));
        }
        if let (Some(listener), Some(settings)) = (singyeong_listener, &config.singyeong) {
            info!(address = %listener.address(), "신경 is served at /gateway/websocket");
            if amybot.is_some() {
                info!(address = %listener.address(), "amybot is served at {}", server::PATH);
            }
            let (entrance, rest) = self.start_singyeong(settings, config.discord.is_some(), amqp, connections, node);
            self.listen(listener, [entrance].into_iter().chain(amybot).collect(), rest);
        }
        Ok(())
    }

    fn listen(&mut self, listener: Listener, endpoints: Vec<Arc<dyn Endpoint>>, rest: Arc<dyn Rest>) {
        let stop = self.intake.clone();
        self.front(listener.run(Front::new(endpoints, rest), stop));
    }

    /// The way to the coordinator of amybot's services, for those who connect here, and for the admin interface.
    fn bridge(&mut self, amqp: &Amqp, connections: &Connections, node: &NodeId) -> Bridge {
        let Connections { administration, consumption } = connections;
        let (bridge, driver) =
            Bridge::new(node.clone(), amqp.group.as_str(), administration.clone(), consumption.clone());
        self.run(driver.run(self.carriers.clone()));
        let _ = self.view.amybot.set(bridge.clone());
        bridge
    }
}
