//! The service: everything that runs for as long as Optic does, and who waits for it.
//!
//! ```text
//! service
//! ├─ observer               looks every few seconds: rates, samples, a line a minute
//! ├─ lookout                while somebody looks: asks all processes how they are
//! │  ├─ survey              lost: asks, and is asked, anew
//! │  └─ queues              while somebody looks: lost: looks again later
//! ├─ http, metrics          an answer fails: that request only
//! ├─ 신경
//! │  ├─ server              a connection fails: that client only
//! │  ├─ router, queues      lost: RabbitMQ has again what was not acknowledged
//! │  └─ news                lost: what is known of other processes' clients stays until it is told anew
//! ├─ 신경 elsewhere         lost: reconnects; forwarded events wait in RabbitMQ
//! ├─ amybot
//! │  ├─ server              a connection fails: that client only
//! │  ├─ bridge              its queue lost: its clients are closed, and come back
//! │  ├─ teller              lost: what runs here is told again
//! │  └─ office              lost: RabbitMQ has again what was not acknowledged, and another process goes on
//! ├─ publishing connection  lost: reconnects; shards pause, then close resumable
//! ├─ administration         lost: reconnects; sessions are stored later
//! ├─ consumption            lost: reconnects; leases are in doubt, and the fence is closed, until they are held again
//! │  ├─ leases, bus         follow the connection
//! │  └─ commands            RabbitMQ has again what was not acknowledged
//! ├─ identify gate
//! ├─ gateway's address      cannot be asked for: the one told before is kept
//! ├─ stdio: output          nobody reads: the service ends
//! │         input           at its end: no more commands
//! └─ shards, by one of
//!    ├─ alone               all, or those that were set
//!    └─ cluster             those whose leases are held
//!       └─ shard × n        refused by Discord: that shard only; all of them: the service ends
//! ```
//!
//! A task that panics ends the service: whatever it had in hand is resumed by the next start.

mod amybot;
mod cluster;
mod descriptors;
mod discord;
mod error;
mod forwarding;
mod fronts;
mod join;
mod leftovers;
pub mod lookout;
pub mod observer;
mod pool;
pub mod queues;
mod rabbit;
mod reshard;
mod seeing;
mod singyeong;
mod site;
mod view;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use self::discord::Discord;
pub use self::error::ServiceError;
use self::pool::Pool;
use self::rabbit::{Amqp, Connections, declare};
pub use self::view::View;
use crate::amqp::identify_gate::{AmqpTurnstile, Rules};
use crate::amqp::session_store::AmqpSessionStore;
use crate::amybot::optics::Runs;
use crate::broker::{Broker, BrokerState};
use crate::cluster::fence::Fence;
use crate::cluster::node::NodeId;
use crate::config::{self, Config, EventFilter};
use crate::discord::commands::Commands;
use crate::discord::gateway::Gateway;
use crate::discord::identify_gate::IdentifyGate;
use crate::discord::identify_queue::{self, IdentifyQueue};
use crate::discord::ids::Shard;
use crate::discord::rest;
use crate::discord::rest_types::GatewayBot;
use crate::discord::shard::Shared;
use crate::session_store::{FileSessionStore, MemorySessionStore, SessionStore};
use crate::stdio;

/// Waits between tries to ask Discord, or the store.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How long what carries events and commands has for its last words, and then the connections to RabbitMQ for their goodbyes.
const GOODBYE: Duration = Duration::from_millis(500);

/// The same for 신경's: what has been taken for clients is written to them, or given back.
const SINGYEONG_GOODBYE: Duration = Duration::from_millis(2500);

/// How long clients have until their last dispatches are safe and they have read that we go.
const FRONTS_GOODBYE: Duration = Duration::from_secs(3);

/// Runs the service until `stop`, or until it cannot go on.
///
/// # Errors
/// Why it could not go on.
pub async fn run(config: Config, view: Arc<View>, stop: CancellationToken) -> Result<(), ServiceError> {
    let mut service = Service::new(view);
    let result = service.serve(&config, &stop).await;
    let ended = service.end().await;
    result.and(ended)
}

/// The service's tasks beside the shards, in the order in which they are stopped.
struct Service {
    view: Arc<View>,
    /// What this process runs, for whoever coordinates amybot's services.
    runs: watch::Sender<Runs>,
    /// Who serves clients ends first: until their last dispatches are safe, all else is needed.
    fronts: JoinSet<Result<(), ServiceError>>,
    /// A failure of one is the service's.
    tasks: JoinSet<Result<(), ServiceError>>,
    /// How long they have at the end.
    goodbye: Duration,
    /// The connections to RabbitMQ, which the others use.
    connections: JoinSet<Result<(), ServiceError>>,
    /// What feeds shards stops with them,
    intake: CancellationToken,
    /// then what carries their last events and records,
    carriers: CancellationToken,
    /// and last the connections.
    links: CancellationToken,
}

impl Service {
    fn new(view: Arc<View>) -> Self {
        let (intake, carriers, links) = Default::default();
        let (fronts, tasks, connections) = Default::default();
        let runs = watch::Sender::default();
        Self { view, runs, fronts, tasks, goodbye: GOODBYE, connections, intake, carriers, links }
    }

    async fn serve(&mut self, config: &Config, stop: &CancellationToken) -> Result<(), ServiceError> {
        let node = NodeId::of_run(&config.cluster.node, fastrand::u32(..));
        let seeing = self.start_seeing(config, &node);
        self.start_site(config, &seeing).await?;
        match (&config.broker, &config.discord) {
            (config::Broker::Stdio, Some(bot)) => {
                let Some(discord) = self.ask_discord(bot, stop).await? else { return Ok(()) };
                self.run_alone(config, &discord, stop).await
            }
            (config::Broker::Amqp(amqp), Some(bot)) => {
                let fence = Fence::closed(Instant::now());
                let rabbit = self.start_amqp(config, bot, amqp, &fence)?;
                // Its clients need no Discord, which may be long in answering.
                self.start_fronts(config, amqp, &rabbit.connections, &node)?;
                self.see_others(seeing, config, amqp, &rabbit.connections, &node);
                self.start_forwarding(config, amqp.group.as_str(), &rabbit.connections, &node);
                let Some(discord) = self.ask_discord(bot, stop).await? else { return Ok(()) };
                self.run_in_cluster(config, amqp, &discord, &rabbit, fence, node, stop).await
            }
            (config::Broker::Amqp(amqp), None) => {
                let connections = self.connect(amqp)?;
                self.start_fronts(config, amqp, &connections, &node)?;
                self.see_others(seeing, config, amqp, &connections, &node);
                self.start_amybot_alone(config, amqp, &connections, &node);
                info!("there is no DISCORD_TOKEN: no shard runs, and 신경 and amybot alone are served");
                self.view.joined();
                let ending = stop.child_token();
                let stopped = async {
                    ending.cancelled().await;
                    Ok(())
                };
                self.beside(stopped, &ending).await
            }
            (config::Broker::Stdio, None) => unreachable!("the configuration has something to run"),
        }
    }

    /// All shards, or those that were set, with standard input and output.
    async fn run_alone(
        &mut self,
        config: &Config,
        discord: &Discord,
        stop: &CancellationToken,
    ) -> Result<(), ServiceError> {
        let shards = discord.settings.shards.shards(discord.told.shards)?;
        let output = Arc::new(stdio::Output::new(listed(&discord.settings)));
        let (writer, until) = (output.clone(), self.carriers.clone());
        self.tasks.spawn(async move { writer.run(tokio::io::stdout(), until).await.map_err(ServiceError::Output) });
        let _ = self.view.broker.set(output.clone());
        let _ = self.view.gaps.set(output.gaps().clone());
        let store: Arc<dyn SessionStore> = match &config.store {
            config::Store::File { folder } => Arc::new(FileSessionStore::new(folder)),
            config::Store::Memory | config::Store::Amqp { .. } => Arc::new(MemorySessionStore::new()),
        };
        let gate = IdentifyGate::new(IdentifyQueue::new(
            discord.told.session_start_limit,
            identify_queue::PACE,
            Instant::now(),
        ));
        let encoding = discord.settings.encoding;
        let shared = self.share(discord, output, store, Fence::open(), gate);
        let shard_count = shards.first().map_or(1, |shard| shard.count());
        self.view.set_shard_count(shard_count);
        let commands = Arc::new(Commands::new(shard_count).in_encoding(encoding));
        let (input, until) = (commands.clone(), self.intake.clone());
        self.tasks.spawn(async move {
            stdio::read_commands(tokio::io::stdin(), input, until).await;
            Ok(())
        });
        tell_start(&shards, &discord.told);
        let mut pool = Pool::new(discord.settings.clone(), shared, commands, self.view.clone());
        shards.into_iter().for_each(|shard| pool.start(shard));
        self.view.joined();
        let ending = stop.child_token();
        let (view, intake) = (self.view.clone(), self.intake.clone());
        self.beside(run_all(pool, ending.clone(), intake, view), &ending).await
    }

    /// The shards whose leases RabbitMQ grants us.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the whole, made once")]
    async fn run_in_cluster(
        &mut self,
        config: &Config,
        amqp: &config::Amqp,
        discord: &Discord,
        rabbit: &Amqp,
        fence: Fence,
        node: NodeId,
        stop: &CancellationToken,
    ) -> Result<(), ServiceError> {
        // Before anything else: what cannot be is told at once.
        discord.settings.shards.shards(discord.told.shards)?;
        let Connections { administration, consumption } = &rabbit.connections;
        let group = amqp.group.as_str();
        let store: Arc<dyn SessionStore> = match &config.store {
            config::Store::Amqp { prefix } => Arc::new(AmqpSessionStore::new(administration.clone(), group, prefix)),
            config::Store::File { folder } => Arc::new(FileSessionStore::new(folder)),
            config::Store::Memory => Arc::new(MemorySessionStore::new()),
        };
        let view = self.view.clone();
        let ready = async {
            if let Some(publisher) = view.publisher.get() {
                let mut state = publisher.watch_state();
                // The sender lives as long as the publisher does.
                let _ = state.wait_for(|state| *state != BrokerState::Disconnected).await;
            }
            declare(administration, amqp).await;
            forwarding::declare(administration, group, config.forwarding.as_ref()).await
        };
        let ending = stop.child_token();
        if self.beside(async { until(&ending, ready).await.transpose() }, &ending).await?.is_none() {
            return Ok(());
        }
        let queue = IdentifyQueue::new(discord.told.session_start_limit, identify_queue::PACE, Instant::now());
        let (turnstile, driver) =
            AmqpTurnstile::new(administration.clone(), consumption.clone(), group, Rules::DISCORD);
        self.run(driver.run(self.intake.clone()));
        let gate = IdentifyGate::shared(queue, discord.asked, Arc::new(turnstile));
        self.start_amybot(config, amqp, &rabbit.connections, discord, &gate, &node)?;
        let shared = self.share(discord, rabbit.broker.clone(), store, fence.clone(), gate);
        let Some(cluster) = self.join(config, group, discord, rabbit, fence, shared, node, stop).await? else {
            return Ok(());
        };
        let ending = stop.child_token();
        self.beside(cluster.run(ending.clone(), self.intake.clone()), &ending).await
    }

    /// What shards share, and the tasks behind it.
    fn share(
        &mut self,
        discord: &Discord,
        broker: Arc<dyn Broker>,
        store: Arc<dyn SessionStore>,
        fence: Fence,
        gate: IdentifyGate,
    ) -> Shared {
        let tls = discord.tls.clone();
        let _ = self.view.gate.set(gate.clone());
        let (run_gate, until) = (gate.clone(), self.intake.clone());
        self.tasks.spawn(async move {
            run_gate.run(until).await;
            Ok(())
        });
        let gateway = Arc::new(Gateway::new(discord.url.clone()));
        let (base_url, token) = (discord.settings.api.base_url(), discord.settings.token.clone());
        let (fresh, limits, until, dial) = (gateway.clone(), gate.clone(), self.intake.clone(), tls.clone());
        self.tasks.spawn(async move {
            fresh.keep_fresh(|| rest::gateway_bot(&base_url, &token, &dial), &limits, until).await;
            Ok(())
        });
        let compression = discord.settings.compression;
        Shared { broker, store, fence, gate, gateway, tls, compression, scratch: Arc::default() }
    }

    /// Does the work that ends by `ending`, and watches the other tasks meanwhile: should one fail, the work is ended in order.
    async fn beside<T>(
        &mut self,
        work: impl Future<Output = Result<T, ServiceError>>,
        ending: &CancellationToken,
    ) -> Result<T, ServiceError> {
        tokio::pin!(work);
        let failure = loop {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => {
                    if let Err(failure) = task_ended(ended) {
                        break failure;
                    }
                }
                Some(ended) = self.fronts.join_next() => {
                    if let Err(failure) = task_ended(ended) {
                        break failure;
                    }
                }
                Some(ended) = self.connections.join_next() => {
                    if let Err(failure) = task_ended(ended) {
                        break failure;
                    }
                }
                done = &mut work => return done,
            }
        };
        ending.cancel();
        // What failed first is why.
        let _ = work.await;
        Err(failure)
    }

    /// Stops what still runs, in order, and waits for it.
    async fn end(&mut self) -> Result<(), ServiceError> {
        self.view.stopping.cancel();
        self.intake.cancel();
        let fronts = all_ended(&mut self.fronts, FRONTS_GOODBYE).await;
        self.carriers.cancel();
        let tasks = all_ended(&mut self.tasks, self.goodbye).await;
        // Not before: what waits on a connection that closes is thrown away, the last acknowledgements and answers too.
        self.links.cancel();
        fronts.and(tasks).and(all_ended(&mut self.connections, GOODBYE).await)
    }
}

/// Waits until all have ended, as far as they do so in time; the first failure.
async fn all_ended(tasks: &mut JoinSet<Result<(), ServiceError>>, within: Duration) -> Result<(), ServiceError> {
    let mut result = Ok(());
    let rest = async {
        while let Some(ended) = tasks.join_next().await {
            result = std::mem::replace(&mut result, Ok(())).and(task_ended(ended));
        }
    };
    if tokio::time::timeout(within, rest).await.is_err() {
        tasks.shutdown().await;
    }
    result
}

/// Waits for shards that nobody else can have: until `stop`, or until none is left.
async fn run_all(
    mut pool: Pool,
    stop: CancellationToken,
    intake: CancellationToken,
    view: Arc<View>,
) -> Result<(), ServiceError> {
    let mut result = Ok(());
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                view.stopping.cancel();
                intake.cancel();
                pool.stop_all();
            }
            ended = pool.next_ended() => match ended {
                None => return result,
                Some(Err(failure)) => {
                    result = result.and(Err(failure));
                    stop.cancel();
                }
                Some(Ok((_, end))) => {
                    if pool.is_empty() && !stopping {
                        return result.and(Err(ServiceError::NoShardLeft(end)));
                    }
                }
            }
        }
    }
}

/// The events that are to be published; `None`: whatever is consumed.
fn listed(bot: &config::Discord) -> Option<Vec<String>> {
    match &bot.events {
        EventFilter::Auto => None,
        EventFilter::Listed(names) => Some(names.iter().cloned().collect()),
    }
}

fn tell_start(shards: &[Shard], told: &GatewayBot) {
    let limit = told.session_start_limit;
    info!(
        shards = shards.len(),
        of = shards.first().map_or(1, |shard| shard.count()),
        starts_left = limit.remaining,
        max_concurrency = limit.max_concurrency,
        "starting shards"
    );
}

fn task_ended(ended: Result<Result<(), ServiceError>, JoinError>) -> Result<(), ServiceError> {
    ended.map_err(failed)?
}

fn failed(panic: JoinError) -> ServiceError {
    error!(%panic, "a task failed");
    ServiceError::Failed(panic)
}

/// The work's outcome, or `None` if `stop` comes first.
async fn until<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        done = work => Some(done),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::pool::tests::pool;
    use super::*;
    use crate::discord::close_code::CloseCode;
    use crate::discord::ids::ShardId;
    use crate::discord::session::End;

    fn shard(id: u32) -> Shard {
        Shard::new(ShardId::new(id), 3).expect("of three")
    }

    /// A service with a task that carries the shards' last events: it must be told to stop after them, and not sooner.
    fn service() -> Service {
        let mut service = Service::new(Arc::default());
        let (intake, carriers) = (service.intake.clone(), service.carriers.clone());
        service.tasks.spawn(async move {
            carriers.cancelled().await;
            assert!(intake.is_cancelled());
            Ok(())
        });
        service
    }

    async fn run(service: &mut Service, pool: Pool) -> Result<(), ServiceError> {
        let ending = CancellationToken::new();
        let work = run_all(pool, ending.clone(), service.intake.clone(), service.view.clone());
        let result = service.beside(work, &ending).await;
        service.end().await.expect("the others end well");
        assert!(service.tasks.is_empty());
        result
    }

    #[tokio::test]
    async fn a_shard_that_panics_ends_the_service_and_the_others_stop_in_order() {
        let mut service = service();
        let (intake, carriers) = (service.intake.clone(), service.carriers.clone());
        let mut pool = pool();
        pool.put(shard(0), async move {
            intake.cancelled().await;
            assert!(!carriers.is_cancelled(), "its last events are still carried");
            End::ShutDown
        });
        pool.put(shard(1), async { panic!("a bug") });
        let why = run(&mut service, pool).await.expect_err("a panic");
        assert!(matches!(why, ServiceError::Failed(_)), "{why}");
    }

    #[tokio::test]
    async fn a_task_that_fails_ends_the_service() {
        let mut service = service();
        let mut pool = pool();
        let intake = service.intake.clone();
        pool.put(shard(0), async move {
            intake.cancelled().await;
            End::ShutDown
        });
        service.tasks.spawn(async { Err(ServiceError::Output(io::ErrorKind::BrokenPipe.into())) });
        let why = run(&mut service, pool).await.expect_err("the output's");
        assert!(matches!(why, ServiceError::Output(_)), "{why}");
    }

    #[tokio::test]
    async fn the_last_shard_that_discord_refuses_ends_the_service() {
        let mut service = service();
        let mut pool = pool();
        for id in 0..3 {
            let fatal = End::Fatal { code: CloseCode::AuthenticationFailed, advice: String::new() };
            pool.put(shard(id), async { fatal });
        }
        let why = run(&mut service, pool).await.expect_err("no shard is left");
        assert!(matches!(why, ServiceError::NoShardLeft(End::Fatal { .. })), "{why}");
    }
}
