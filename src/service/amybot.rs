//! amybot's services: who coordinates them, how they are paced, and what they are told that this process runs itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::sync::Mutex;

use super::{Connections, Discord, Service};
use crate::amqp::identify_gate::{AmqpTurnstile, Rules};
use crate::amybot::office::{Office, Settings, Turn, Turns};
use crate::amybot::optics::Runs;
use crate::amybot::teller::Teller;
use crate::cluster::member::Want;
use crate::cluster::node::NodeId;
use crate::config::{self, ClusterMode, Config, NoSuchShard};
use crate::discord::identify_gate::IdentifyGate;
use crate::discord::ids::ShardId;
use crate::discord::turnstile::Turnstile;

/// What a process that wants these shards of so many runs.
pub(super) fn runs(of: &Runs, want: &Want, shard_count: u32) -> Runs {
    let shards = match want {
        Want::These(shards) => shards.clone(),
        // This process or another of the group.
        Want::Fair => (0..shard_count).map(ShardId::new).collect(),
    };
    Runs { shards, shard_count: Some(shard_count), ..of.clone() }
}

impl Service {
    /// Tells whoever coordinates amybot's services what runs here, and coordinates them, if they are served, beside the shards
    /// of a bot. They wait at the bot's own gate.
    pub(super) fn start_amybot(
        &mut self,
        config: &Config,
        amqp: &config::Amqp,
        connections: &Connections,
        discord: &Discord,
        gate: &IdentifyGate,
        node: &NodeId,
    ) -> Result<(), NoSuchShard> {
        let shards = discord.settings.shards.shards(discord.told.shards)?;
        let count = shards.first().map_or(discord.told.shards, |shard| shard.count());
        let want = match config.cluster.mode {
            ClusterMode::Static => Want::These(shards.iter().map(|shard| shard.id()).collect::<BTreeSet<_>>()),
            ClusterMode::Leased => Want::Fair,
        };
        let of = Runs { max_concurrency: Some(gate.max_concurrency()), services: services(config), ..Runs::default() };
        // Before it is agreed on: what may run soon is not given away until then.
        self.runs.send_replace(runs(&of, &want, count));
        self.tell(amqp, connections, Some(gate.clone()), node);
        self.coordinate(config, amqp, connections, Arc::new(gate.clone()), Arc::default(), node);
        Ok(())
    }

    /// The same without a bot: no shard runs here.
    pub(super) fn start_amybot_alone(
        &mut self,
        config: &Config,
        amqp: &config::Amqp,
        connections: &Connections,
        node: &NodeId,
    ) {
        if config.amybot.is_none() {
            return;
        }
        let Connections { administration, consumption } = connections;
        let (turnstile, driver) =
            AmqpTurnstile::new(administration.clone(), consumption.clone(), amqp.group.as_str(), Rules::DISCORD);
        self.run(driver.run(self.intake.clone()));
        self.runs.send_replace(Runs { services: services(config), ..Runs::default() });
        self.tell(amqp, connections, None, node);
        let max_concurrency: Arc<AtomicU32> = Arc::default();
        let turns = AsTold { turnstile, max_concurrency: max_concurrency.clone(), places: std::sync::Mutex::default() };
        self.coordinate(config, amqp, connections, Arc::new(turns), max_concurrency, node);
    }

    fn tell(&mut self, amqp: &config::Amqp, connections: &Connections, gate: Option<IdentifyGate>, node: &NodeId) {
        let (administration, runs) = (connections.administration.clone(), self.runs.subscribe());
        let teller = Teller::new(node.clone(), amqp.group.as_str(), administration, runs, gate);
        self.run(teller.run(self.intake.clone()));
    }

    fn coordinate(
        &mut self,
        config: &Config,
        amqp: &config::Amqp,
        connections: &Connections,
        turns: Arc<dyn Turns>,
        max_concurrency: Arc<AtomicU32>,
        node: &NodeId,
    ) {
        let Some(config::Amybot { shard_count, .. }) = config.amybot else { return };
        let Connections { administration, consumption } = connections;
        let (group, runs) = (amqp.group.as_str().to_owned(), self.runs.subscribe());
        let settings = Settings { group, shard_count, node: node.clone(), runs, max_concurrency };
        let office = Office::new(settings, administration.clone(), consumption.clone());
        let _ = self.view.proxied.set(office.counts());
        self.run(office.run(turns, self.carriers.clone()));
    }
}

fn services(config: &Config) -> Option<u32> {
    config.amybot.as_ref().and_then(|amybot| amybot.shard_count)
}

/// Without a bot, Discord cannot be asked how many may identify at a time: it is as many as a process with one told, and
/// otherwise one at a time, which always may.
struct AsTold<T> {
    turnstile: T,
    /// 0: nobody told.
    max_concurrency: Arc<AtomicU32>,
    /// Of each bucket one waits at the turnstile, for a place costs something; the others here, in the order of their coming.
    places: std::sync::Mutex<HashMap<u32, Arc<Mutex<()>>>>,
}

impl<T: Turnstile> AsTold<T> {
    fn bucket(&self, shard: ShardId) -> u32 {
        shard.get() % self.max_concurrency.load(Ordering::Relaxed).max(1)
    }

    fn place(&self, bucket: u32) -> Arc<Mutex<()>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).entry(bucket).or_default().clone()
    }
}

impl<T: Turnstile + 'static> Turns for AsTold<T> {
    fn turn(&self, shard: ShardId) -> Turn<'_> {
        Box::pin(async move {
            loop {
                let bucket = self.bucket(shard);
                let place = self.place(bucket);
                let _place = place.lock().await;
                if self.bucket(shard) != bucket {
                    continue;
                }
                let pass = self.turnstile.enter(bucket, shard).await;
                // It was told meanwhile: another bucket's turn is none of ours.
                if self.bucket(shard) == bucket {
                    return pass;
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::discord::turnstile::{Entering, Pass};

    /// Lets through at once, and tells on its first time how many may identify.
    #[derive(Debug, Default)]
    struct Told(Arc<AtomicU32>, std::sync::Mutex<Vec<u32>>);

    impl Turnstile for Told {
        fn enter(&self, bucket: u32, _shard: ShardId) -> Entering<'_> {
            self.1.lock().expect("not poisoned").push(bucket);
            self.0.store(4, Ordering::Relaxed);
            Box::pin(std::future::ready(Pass::until(Instant::now())))
        }
    }

    #[tokio::test]
    async fn without_a_bot_the_buckets_are_those_that_others_told() {
        let turnstile = Told::default();
        let turns = AsTold { max_concurrency: turnstile.0.clone(), turnstile, places: std::sync::Mutex::default() };
        let _ = turns.turn(ShardId::new(7)).await;
        let _ = turns.turn(ShardId::new(8)).await;
        assert_eq!(*turns.turnstile.1.lock().expect("not poisoned"), [0, 3, 0]);
    }

    #[test]
    fn in_leased_mode_all_shards_of_the_new_count_are_the_groups() {
        let of = Runs { max_concurrency: Some(2), ..Runs::default() };
        let leased = runs(&of, &Want::Fair, 3);
        assert_eq!(leased.shards, [0, 1, 2].map(ShardId::new).into());
        let these = runs(&leased, &Want::These([ShardId::new(4)].into()), 6);
        assert_eq!(these, Runs { shards: [ShardId::new(4)].into(), shard_count: Some(6), ..of });
    }
}
