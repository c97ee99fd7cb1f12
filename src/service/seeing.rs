//! Who makes reports of this process, who looks at all others, and who looks at queues: started here.

use std::sync::Arc;

use super::lookout::Watch;
use super::observer::Observer;
use super::queues::{Named, QueueWatch};
use super::{Connections, Service};
use crate::amqp::survey::Survey;
use crate::amqp::topology::{FORWARD, singyeong};
use crate::cluster::node::NodeId;
use crate::config::{Amqp, Config, ForwardTo};
use crate::seen::Reporter;

/// What looks, before there is anything to see but this process.
pub(super) struct Seeing {
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) watch: Watch,
}

impl Service {
    /// From now on it is seen how this process is, by whoever asks.
    pub(super) fn start_seeing(&mut self, config: &Config, node: &NodeId) -> Seeing {
        let (observer, watching) = Observer::new(self.view.clone(), config, node);
        self.run(watching.run(self.carriers.clone()));
        let watch = Watch::new(node.clone(), observer.clone(), self.view.queue_book().clone());
        self.run(watch.clone().run(self.carriers.clone()));
        Seeing { reporter: observer, watch }
    }

    /// And how the other processes and the queues of the group are. To be called once it is known who serves 신경's clients.
    pub(super) fn see_others(
        &mut self,
        seeing: Seeing,
        config: &Config,
        amqp: &Amqp,
        connections: &Connections,
        node: &NodeId,
    ) {
        let Seeing { reporter, watch } = seeing;
        let Connections { administration, consumption } = connections;
        let group = amqp.group.as_str();
        if let Some(nerve) = self.view.nerve.get() {
            watch.serve_clients(nerve.clone());
        }
        let (survey, driver, heard) = Survey::new(consumption.clone(), administration.clone(), group, node.clone());
        watch.connect(survey);
        self.run(driver.run(self.carriers.clone()));
        self.run(watch.hear(heard, self.carriers.clone()));
        let book = self.view.queue_book().clone();
        let queues = QueueWatch::new(book, consumption.clone(), group, configured(config, amqp), reporter);
        self.run(queues.run(self.carriers.clone()));
    }
}

/// The queues that there are by configuration, beside those of events and shards.
fn configured(config: &Config, amqp: &Amqp) -> Vec<Named> {
    let group = &amqp.group;
    let shared = |key: &str| Named { name: format!("{group}:{key}"), event: None };
    let declared = amqp
        .declare
        .iter()
        .map(|queue| Named { name: queue.name(group), event: queue.subgroup.is_none().then(|| queue.event.clone()) });
    let has_bot = config.discord.is_some();
    let forwards = config.forwarding.as_ref().is_some_and(|it| matches!(it.to, ForwardTo::Another(_)));
    let keys = [
        (has_bot, "SEND"),
        (true, "REJECTED"),
        (config.singyeong.is_some(), singyeong::SEND),
        (config.singyeong.is_some(), singyeong::BROADCAST),
        (config.amybot.is_some(), "gateway"),
        (config.amybot.is_some(), "gateway-proxy"),
        (forwards, FORWARD),
    ];
    declared.chain(keys.into_iter().filter(|(is_there, _)| *is_there).map(|(_, key)| shared(key))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Broker;

    fn names(variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables.iter().chain(&[("AMQP_URL", "amqp://localhost")]);
        let variables = variables.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let (config, _) = Config::from_vars(variables, no_file).expect("a configuration");
        let Broker::Amqp(amqp) = &config.broker else { panic!("AMQP_URL is set") };
        configured(&config, amqp).into_iter().map(|queue| queue.name).collect()
    }

    #[test]
    fn queues_that_there_are_by_configuration_are_looked_at() {
        let bot = [("DISCORD_TOKEN", "any"), ("DISCORD_EVENTS", "READY"), ("BROKER_DECLARE", "READY,logs:READY")];
        let expected = ["gateway:READY", "gateway:logs:READY", "gateway:SEND", "gateway:REJECTED"];
        assert_eq!(names(&bot), expected);
        let alone = [("SINGYEONG_ADDRESS", "127.0.0.1:4567"), ("AMYBOT_SHARD_COUNT", "4")];
        let expected = ["REJECTED", "SINGYEONG_SEND", "SINGYEONG_BROADCAST", "gateway", "gateway-proxy"];
        assert_eq!(names(&alone), expected.map(|key| format!("gateway:{key}")));
    }
}
