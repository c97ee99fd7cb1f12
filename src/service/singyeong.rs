//! The 신경 server and all that it needs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::view::View;
use super::{Connections, SINGYEONG_GOODBYE, Service};
use crate::amqp::messenger::Messenger;
use crate::clock::unix_millis;
use crate::cluster::node::NodeId;
use crate::config;
use crate::passwords::Passwords;
use crate::singyeong::hub::{Gateway, Hub};
use crate::singyeong::ids::Application;
use crate::singyeong::lookup::Lookup;
use crate::singyeong::news::News;
use crate::singyeong::queues::Queues;
use crate::singyeong::rest::RestApi;
use crate::singyeong::rest::proxy::address::Allowed;
use crate::singyeong::router::{Dispatcher, Router};
use crate::singyeong::server::{Entrance, Services};
use crate::singyeong::session::Rules;
use crate::websocket::http::{Endpoint, Rest};

/// So many messages are put into queues at a time: each waits until it is on disk.
const LANES: usize = 32;

/// How often the gateway's application is told how the shards are.
const LOOK_AT_SHARDS: Duration = Duration::from_secs(1);

impl Service {
    /// All that 신경's clients need, and what lets them in; with a bot, also its gateway's application.
    pub(super) fn start_singyeong(
        &mut self,
        settings: &config::Singyeong,
        has_bot: bool,
        amqp: &config::Amqp,
        connections: &Connections,
        node: &NodeId,
    ) -> (Arc<dyn Endpoint>, Arc<dyn Rest>) {
        let (limits, group) = (settings.limits, amqp.group.as_str());
        let Connections { administration, consumption } = connections;
        let hub = Arc::new(Hub::new(node.clone()));
        let _ = self.view.nerve.set(Arc::new(Lookup::new(hub.clone(), limits.query_depth)));
        let news = News::new(hub.clone(), consumption.clone(), administration.clone(), group);
        let (router, routing) = Router::new(group, hub.clone(), &limits, administration, consumption);
        let (queues, queueing) = Queues::new(
            hub.clone(),
            group,
            &limits,
            consumption.clone(),
            Messenger::with_lanes(administration.clone(), LANES),
            Arc::new(router.clone()),
        );
        let _ = self.view.singyeong.set((hub.clone(), router.clone()));
        let passwords = Arc::new(Passwords::new(settings.auth.clone()));
        let rest = RestApi::new(hub.clone(), passwords.clone(), &limits, Allowed::new(settings.proxy_allow.clone()));
        let (queues, reached) = (Arc::new(queues), router.clone());
        let services = Services {
            hub: hub.clone(),
            exchange: Arc::new(Dispatcher::new(router, queues.clone())),
            rules: Arc::new(Rules { limits, passwords, gateway: Application::new(group) }),
        };
        let (stop, carriers) = (self.intake.clone(), self.carriers.clone());
        self.run(queueing.run(carriers.clone()));
        self.run(routing.run(queues, stop.clone(), carriers.clone()));
        self.run(async move {
            // Who hears of our clients may have something for them at once.
            tokio::select! {
                biased;
                () = carriers.cancelled() => return,
                () = reached.is_reached() => {}
            }
            news.run(carriers).await;
        });
        if has_bot {
            let group = group.to_owned();
            let tell = move |gateway: &Gateway| hub.put_gateway(&group, gateway, unix_millis());
            self.run(tell_of_shards(self.view.clone(), stop, tell));
        }
        self.goodbye = SINGYEONG_GOODBYE;
        (Arc::new(Entrance::new(services)), Arc::new(rest))
    }
}

/// Keeps somebody up to date about the shards, as the gateway's application has them.
pub(super) async fn tell_of_shards(view: Arc<View>, stop: CancellationToken, tell: impl Fn(&Gateway)) {
    let mut ticks = interval(LOOK_AT_SHARDS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told: Option<Gateway> = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let shards = view.shards();
        // With none left, the count is as it was.
        let count = shards.first().map(|status| status.shard().count());
        let Some(shard_count) = count.or_else(|| Some(told.as_ref()?.shard_count)) else { continue };
        let latencies: Vec<f64> = shards
            .iter()
            .filter_map(|status| status.now().latency)
            .map(|latency| latency.as_secs_f64() * 1000.0)
            .collect();
        let gateway = Gateway {
            shards: shards.iter().map(|status| status.shard().id().get()).collect(),
            shard_count,
            // Of whole milliseconds: it is told to all processes whenever it changes.
            latency: (!latencies.is_empty()).then(|| (latencies.iter().sum::<f64>() / latencies.len() as f64).round()),
        };
        if told.as_ref() != Some(&gateway) {
            tell(&gateway);
            told = Some(gateway);
        }
    }
}
