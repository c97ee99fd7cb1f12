//! amybot's services: who coordinates them, and how they are paced.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Mutex;
use tracing::warn;

use super::{Connections, Discord, Service};
use crate::amqp::identify_gate::{AmqpTurnstile, Rules};
use crate::amybot::office::{Office, Settings, Turn, Turns};
use crate::config::{self, ClusterMode, Config, NoSuchShard};
use crate::discord::identify_gate::IdentifyGate;
use crate::discord::ids::ShardId;
use crate::discord::turnstile::Turnstile;

impl Service {
    /// Coordinates amybot's services, if they are served, beside the shards of a bot. They wait at the bot's own gate.
    pub(super) fn start_amybot(
        &mut self,
        config: &Config,
        amqp: &config::Amqp,
        connections: &Connections,
        discord: &Discord,
        gate: &IdentifyGate,
    ) -> Result<(), NoSuchShard> {
        let Some(settings) = &config.amybot else { return Ok(()) };
        let shards = discord.settings.shards.shards(discord.told.shards)?;
        let count = shards.first().map_or(discord.told.shards, |shard| shard.count());
        if settings.shard_count > 0 && settings.shard_count != count {
            warn!(
                AMYBOT_SHARD_COUNT = settings.shard_count,
                shard_count = count,
                "services and Optic split the bot in different numbers of shards: guilds may be missing or there twice"
            );
        }
        let optics = match config.cluster.mode {
            ClusterMode::Static => shards.iter().map(|shard| shard.id()).collect(),
            // This process or another of the group.
            ClusterMode::Leased => (0..count).map(ShardId::new).collect(),
        };
        self.coordinate(settings, amqp, connections, optics, Arc::new(gate.clone()));
        Ok(())
    }

    /// The same without a bot: all shards are services'.
    pub(super) fn start_amybot_alone(&mut self, config: &Config, amqp: &config::Amqp, connections: &Connections) {
        let Some(settings) = &config.amybot else { return };
        let Connections { administration, consumption } = connections;
        let (turnstile, driver) =
            AmqpTurnstile::new(administration.clone(), consumption.clone(), amqp.group.as_str(), Rules::DISCORD);
        self.run(driver.run(self.intake.clone()));
        let turns = OneByOne { turnstile, place: Mutex::default() };
        self.coordinate(settings, amqp, connections, BTreeSet::new(), Arc::new(turns));
    }

    fn coordinate(
        &mut self,
        settings: &config::Amybot,
        amqp: &config::Amqp,
        connections: &Connections,
        optics: BTreeSet<ShardId>,
        turns: Arc<dyn Turns>,
    ) {
        let Connections { administration, consumption } = connections;
        let settings = Settings { group: amqp.group.as_str().to_owned(), shard_count: settings.shard_count, optics };
        let office = Office::new(settings, administration.clone(), consumption.clone());
        self.run(office.run(turns, self.carriers.clone()));
    }
}

/// Without a bot, Discord cannot be asked how many may identify at a time: one at a time always may.
struct OneByOne {
    turnstile: AmqpTurnstile,
    /// One waits there, for a place costs something; the others here, in the order of their coming.
    place: Mutex<()>,
}

impl Turns for OneByOne {
    fn turn(&self, shard: ShardId) -> Turn<'_> {
        Box::pin(async move {
            let _place = self.place.lock().await;
            self.turnstile.enter(0, shard).await
        })
    }
}
