//! The service: everything that runs for as long as Optic does, and who waits for it.
//!
//! ```text
//! service
//! ├─ http                   an answer fails: that request only
//! ├─ publishing connection  lost: reconnects; shards pause, then close resumable
//! ├─ administration         lost: reconnects; sessions are stored later
//! ├─ identify gate
//! ├─ gateway's address     cannot be asked for: the one told before is kept
//! ├─ shard × n              refused by Discord: that shard only; all of them: the service ends
//! └─ stdio: output          nobody reads: the service ends
//!           input           at its end: no more commands
//! ```
//!
//! A task that panics ends the service: whatever it had in hand is resumed by the next start.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, info_span, warn};

use crate::amqp::address::Address;
use crate::amqp::admin::Admin;
use crate::amqp::publisher::{Counters, Publisher, PublisherSettings, Window};
use crate::amqp::session_store::AmqpSessionStore;
use crate::amqp::topology;
use crate::broker::{Broker, BrokerState};
use crate::config::{self, Config, EventFilter, NoSuchShard};
use crate::discord::commands::Commands;
use crate::discord::gateway::Gateway;
use crate::discord::gateway_url::{GatewayUrl, InvalidGatewayUrl};
use crate::discord::identify_gate::IdentifyGate;
use crate::discord::identify_queue::{self, IdentifyQueue};
use crate::discord::ids::Shard;
use crate::discord::rest::{self, RestError};
use crate::discord::rest_types::GatewayBot;
use crate::discord::session::{End, Session, State};
use crate::discord::shard::status::Status;
use crate::discord::shard::{Driver, Shared};
use crate::http::{self, BindError, Health, ShardHealth, Snapshot};
use crate::session_store::{FileSessionStore, MemorySessionStore, SessionStore, StoreError, StoredSession};
use crate::spectacles::demand::Demand;
use crate::spectacles::events::{Events, Feedback, Settings as EventSettings};
use crate::stdio;
use crate::tls;

/// Events at the broker without a confirm: enough to keep it busy, and little to write again.
const WINDOW: Window = Window { messages: 4096, bytes: 8 << 20 };

/// Waits between tries to ask Discord, or the store.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How long the connections to RabbitMQ have for their goodbyes.
const GOODBYE: Duration = Duration::from_millis(500);

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The address for health cannot be listened on.
    #[error(transparent)]
    Http(#[from] BindError),
    /// Something about RabbitMQ's address is wrong.
    #[error("AMQP_URL: {0}")]
    Address(String),
    /// Discord does not tell where its gateway is.
    #[error(transparent)]
    Discord(#[from] RestError),
    /// What Discord told is no address.
    #[error("Discord's answer: {0}")]
    GatewayUrl(#[from] InvalidGatewayUrl),
    /// The shards asked for are not there.
    #[error(transparent)]
    Shards(#[from] NoSuchShard),
    /// No shard is left. Each one's end was told.
    #[error("no shard can run: {0}")]
    NoShardLeft(End),
    /// Nobody reads the events any more.
    #[error("standard output cannot be written to: {0}")]
    Output(io::Error),
    /// A task panicked: a bug.
    #[error("a part of Optic failed: {0}")]
    Failed(JoinError),
}

/// What can be seen of a running service.
#[derive(Default)]
pub struct View {
    shards: OnceLock<Vec<Arc<Status>>>,
    broker: OnceLock<Arc<dyn Broker>>,
    publisher: OnceLock<Publisher>,
    admin: OnceLock<Admin>,
    stopping: CancellationToken,
}

impl View {
    /// The publishing connection's numbers, once there is one.
    pub fn publisher(&self) -> Option<Counters> {
        self.publisher.get().map(Publisher::counters)
    }

    /// The shards, once their number is known.
    pub fn shards(&self) -> &[Arc<Status>] {
        self.shards.get().map_or(&[], Vec::as_slice)
    }
}

impl Health for View {
    fn snapshot(&self) -> Snapshot {
        let shards = self.shards().iter().map(|status| {
            let now = status.now();
            ShardHealth {
                id: status.shard().id(),
                state: if now.paused { "waiting for the broker" } else { word(now.state) },
                connected: now.state == State::Connected,
            }
        });
        let also_missing = if self.stopping.is_cancelled() { vec!["it is stopping".to_owned()] } else { Vec::new() };
        let broker = self.broker.get().map_or(BrokerState::Disconnected, |broker| broker.state());
        // RabbitMQ tells a connection of an alarm only once it publishes; the other one may have heard of it before.
        let blocked = broker == BrokerState::Connected && self.admin.get().is_some_and(Admin::is_blocked);
        Snapshot { shards: shards.collect(), broker: if blocked { BrokerState::Blocked } else { broker }, also_missing }
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Disconnected { .. } => "disconnected",
        State::Connecting => "connecting",
        State::AwaitingHello => "awaiting hello",
        State::AwaitingIdentify => "waiting to identify",
        State::Identifying => "identifying",
        State::Resuming => "resuming",
        State::Connected => "connected",
        State::Suspended => "suspended",
        State::Ended => "ended",
    }
}

/// Runs the service until `stop`, or until it cannot go on.
///
/// # Errors
/// Why it could not go on.
pub async fn run(config: Config, view: Arc<View>, stop: CancellationToken) -> Result<(), ServiceError> {
    let mut service = Service::new(view);
    let result = service.serve(config, &stop).await;
    let ended = service.end().await;
    result.and(ended)
}

/// The service's tasks, in the order in which they are stopped.
struct Service {
    view: Arc<View>,
    /// Apart from the others: their end is what the rest of them waits for.
    shards: JoinSet<(Shard, End)>,
    /// All others. A failure is the service's.
    tasks: JoinSet<Result<(), ServiceError>>,
    /// Shards and what feeds them stop first,
    intake: CancellationToken,
    /// then what carries their last events and records.
    carriers: CancellationToken,
}

impl Service {
    fn new(view: Arc<View>) -> Self {
        Self {
            view,
            shards: JoinSet::new(),
            tasks: JoinSet::new(),
            intake: CancellationToken::new(),
            carriers: CancellationToken::new(),
        }
    }

    async fn serve(&mut self, config: Config, stop: &CancellationToken) -> Result<(), ServiceError> {
        if let Some(address) = config.http {
            let server = http::Server::bind(address).await?;
            info!(address = %server.address(), "health is served at /health/live and /health/ready");
            let (health, stop): (Arc<dyn Health>, _) = (self.view.clone(), self.carriers.clone());
            self.tasks.spawn(async move {
                server.run(health, stop).await;
                Ok(())
            });
        }
        let tls = Arc::new(tls::Lazy::default());
        let Some(gateway) = until(stop, ask_discord(&config, &tls)).await.transpose()? else { return Ok(()) };
        let shards = config.discord.shards.shards(gateway.shards)?;
        let shard_count = shards.first().map_or(1, |shard| shard.count());
        let url = GatewayUrl::parse(&gateway.url)?;
        let (broker, store) = self.start_broker(&config, shard_count, stop).await?;
        if stop.is_cancelled() {
            return Ok(());
        }
        let Some(stored) = until(stop, load_all(&*store, &shards)).await else { return Ok(()) };

        let limit = gateway.session_start_limit;
        info!(
            shards = shards.len(),
            of = shard_count,
            starts_left = limit.remaining,
            max_concurrency = limit.max_concurrency,
            "starting shards"
        );
        let gate = IdentifyGate::new(IdentifyQueue::new(limit, identify_queue::PACE, Instant::now()));
        let (run_gate, stop_gate) = (gate.clone(), self.intake.clone());
        self.tasks.spawn(async move {
            run_gate.run(stop_gate).await;
            Ok(())
        });
        let gateway = Arc::new(Gateway::new(url));
        self.keep_gateway_fresh(&config, gateway.clone(), gate.clone(), tls.clone());
        let compression = config.discord.compression;
        let shared = Shared { broker, store, gate, gateway, tls, compression, scratch: Arc::default() };
        self.start_shards(&config, &shards, stored, &shared);
        self.watch(stop).await
    }

    fn keep_gateway_fresh(&mut self, config: &Config, gateway: Arc<Gateway>, gate: IdentifyGate, tls: Arc<tls::Lazy>) {
        let (base_url, token) = (config.discord.api.base_url(), config.discord.token.clone());
        let stop = self.intake.clone();
        self.tasks.spawn(async move {
            gateway.keep_fresh(|| rest::gateway_bot(&base_url, &token, &tls), &gate, stop).await;
            Ok(())
        });
    }

    /// Starts what carries events and keeps sessions, and waits until it is there.
    async fn start_broker(
        &mut self,
        config: &Config,
        shard_count: u32,
        stop: &CancellationToken,
    ) -> Result<(Arc<dyn Broker>, Arc<dyn SessionStore>), ServiceError> {
        let listed: Option<Vec<String>> = match &config.discord.events {
            EventFilter::Auto => None,
            EventFilter::Listed(names) => Some(names.iter().cloned().collect()),
        };
        let (broker, admin): (Arc<dyn Broker>, Option<Admin>) = match &config.broker {
            config::Broker::Stdio => {
                let output = Arc::new(stdio::Output::new(listed));
                let (writer, stop) = (output.clone(), self.carriers.clone());
                self.tasks
                    .spawn(async move { writer.run(tokio::io::stdout(), stop).await.map_err(ServiceError::Output) });
                (output, None)
            }
            config::Broker::Amqp(amqp) => {
                let (events, admin) = self.start_amqp(amqp, listed, shard_count)?;
                (events, Some(admin))
            }
        };
        // Seen from now on: who asks for readiness is told what is missing.
        let _ = self.view.broker.set(broker.clone());
        let store: Arc<dyn SessionStore> = match (&config.store, &config.broker, &admin) {
            (config::Store::Amqp { prefix }, config::Broker::Amqp(amqp), Some(admin)) => {
                Arc::new(AmqpSessionStore::new(admin.clone(), amqp.group.as_str(), prefix))
            }
            (config::Store::File { folder }, ..) => Arc::new(FileSessionStore::new(folder)),
            (config::Store::Memory | config::Store::Amqp { .. }, ..) => Arc::new(MemorySessionStore::new()),
        };
        if let (config::Broker::Amqp(amqp), Some(admin)) = (&config.broker, &admin) {
            let ready = async {
                if let Some(publisher) = self.view.publisher.get() {
                    let mut state = publisher.watch_state();
                    // The sender lives as long as the publisher does.
                    let _ = state.wait_for(|state| *state != BrokerState::Disconnected).await;
                }
                declare(admin, amqp).await;
            };
            until(stop, ready).await;
        }
        Ok((broker, store))
    }

    fn start_amqp(
        &mut self,
        amqp: &config::Amqp,
        listed: Option<Vec<String>>,
        shard_count: u32,
    ) -> Result<(Arc<dyn Broker>, Admin), ServiceError> {
        let address =
            Address::parse(amqp.url.secret().expose()).map_err(|error| ServiceError::Address(error.to_string()))?;
        let group = amqp.group.as_str();
        let demand = match listed {
            None => Demand::auto(),
            Some(names) => Demand::listed(names.iter().map(String::as_str)),
        };
        let demand = Arc::new(Mutex::new(demand));
        let feedback = Arc::new(Feedback::new(demand.clone()));
        let settings = PublisherSettings {
            address: address.clone(),
            exchange: group.to_owned(),
            connection_name: format!("optic {group} events"),
            window: WINDOW,
        };
        let (publisher, driver) = Publisher::new(settings, feedback.clone());
        let stop = self.carriers.clone();
        self.tasks.spawn(async move {
            driver.run(stop).await;
            Ok(())
        });
        let (admin, driver) = Admin::at(&address, &format!("optic {group} administration"))
            .map_err(|error| ServiceError::Address(error.to_string()))?;
        let stop = self.carriers.clone();
        self.tasks.spawn(async move {
            driver.run(stop).await;
            Ok(())
        });
        let _ = self.view.publisher.set(publisher.clone());
        let _ = self.view.admin.set(admin.clone());
        let settings = EventSettings {
            group: group.to_owned(),
            persistent: amqp.persistent,
            message_timeout: amqp.message_timeout,
            shard_count,
        };
        let events = Arc::new(Events::new(publisher, settings, demand));
        feedback.tell(&events);
        Ok((events, admin))
    }

    fn start_shards(
        &mut self,
        config: &Config,
        shards: &[Shard],
        mut stored: Vec<Option<StoredSession>>,
        shared: &Shared,
    ) {
        let discord = &config.discord;
        let commands = Arc::new(Commands::new(shards.first().map_or(1, |shard| shard.count())));
        let statuses: Vec<Arc<Status>> = shards.iter().map(|shard| Arc::new(Status::new(*shard))).collect();
        for (status, stored) in statuses.iter().zip(stored.drain(..)) {
            let shard = status.shard();
            let settings = discord.session(shard);
            let committed = stored.as_ref().map(|stored| stored.sequence).unwrap_or_default();
            let session = Session::new(settings, shared.gateway.url(), stored, fastrand::u64(..), Instant::now());
            let receiver = commands.add(shard.id());
            let driver = Driver::new(session, committed, shared.clone(), status.clone(), receiver);
            let stop = self.intake.clone();
            let span = info_span!("shard", id = %shard.id());
            self.shards.spawn(async move { (shard, driver.run(stop).await) }.instrument(span));
        }
        let _ = self.view.shards.set(statuses);
        if config.broker == config::Broker::Stdio {
            let stop = self.intake.clone();
            self.tasks.spawn(async move {
                stdio::read_commands(tokio::io::stdin(), commands, stop).await;
                Ok(())
            });
        }
    }

    /// Waits for the end, whatever it is.
    async fn watch(&mut self, stop: &CancellationToken) -> Result<(), ServiceError> {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(ended) = self.tasks.join_next() => task_ended(ended)?,
                Some(ended) = self.shards.join_next() => {
                    let end = shard_ended(ended)?;
                    if self.shards.is_empty() {
                        return Err(ServiceError::NoShardLeft(end));
                    }
                }
            }
        }
    }

    /// Stops what still runs, in order, and waits for it.
    async fn end(&mut self) -> Result<(), ServiceError> {
        self.view.stopping.cancel();
        self.intake.cancel();
        let mut result = Ok(());
        while let Some(ended) = self.shards.join_next().await {
            result = result.and(shard_ended(ended).map(drop));
        }
        self.carriers.cancel();
        let rest = async {
            while let Some(ended) = self.tasks.join_next().await {
                result = std::mem::replace(&mut result, Ok(())).and(task_ended(ended));
            }
        };
        if tokio::time::timeout(GOODBYE, rest).await.is_err() {
            self.tasks.shutdown().await;
        }
        result
    }
}

fn shard_ended(ended: Result<(Shard, End), JoinError>) -> Result<End, ServiceError> {
    let (shard, end) = ended.map_err(failed)?;
    match &end {
        End::ShutDown => info!(shard = %shard.id(), "shard stopped; its session is kept"),
        End::Fatal { .. } => error!(shard = %shard.id(), "shard ended for good: {end}"),
    }
    Ok(end)
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

/// Asks Discord for its gateway until it tells, or says that asking is of no use.
async fn ask_discord(config: &Config, tls: &tls::Lazy) -> Result<GatewayBot, RestError> {
    let base_url = config.discord.api.base_url();
    let mut delay = FIRST_RETRY;
    loop {
        match rest::gateway_bot(&base_url, &config.discord.token, tls).await {
            Ok(gateway) => return Ok(gateway),
            Err(error) if error.is_retryable() => {
                let wait = error.retry_after().unwrap_or(delay);
                warn!(%error, again_in = ?wait, "Discord does not tell where its gateway is");
                tokio::time::sleep(wait).await;
                delay = (delay * 2).min(LONGEST_RETRY);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Declares the queues of `BROKER_DECLARE`, until that is done or refused.
async fn declare(admin: &Admin, amqp: &config::Amqp) {
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

/// Every shard's stored session. A store that cannot be reached is asked again: to identify instead would lose events.
async fn load_all(store: &dyn SessionStore, shards: &[Shard]) -> Vec<Option<StoredSession>> {
    let mut loaded = Vec::with_capacity(shards.len());
    for shard in shards {
        let mut delay = FIRST_RETRY;
        loaded.push(loop {
            match store.load(shard.id()).await {
                Ok(stored) => break stored,
                Err(error @ StoreError::Unreadable { .. }) => {
                    error!(shard = %shard.id(), %error, "the session is begun anew");
                    break None;
                }
                Err(error @ StoreError::Unreachable(_)) => {
                    warn!(shard = %shard.id(), %error, again_in = ?delay, "waiting for the session store");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LONGEST_RETRY);
                }
            }
        });
    }
    loaded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discord::ids::ShardId;

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

    #[tokio::test]
    async fn a_shard_that_panics_ends_the_service_and_the_others_stop_in_order() {
        let mut service = service();
        let (stop, carriers) = (service.intake.clone(), service.carriers.clone());
        service.shards.spawn(async move {
            stop.cancelled().await;
            assert!(!carriers.is_cancelled(), "its last events are still carried");
            (shard(0), End::ShutDown)
        });
        service.shards.spawn(async { panic!("a bug") });
        let why = service.watch(&CancellationToken::new()).await.expect_err("a panic");
        assert!(matches!(why, ServiceError::Failed(_)), "{why}");
        service.end().await.expect("the others end well");
        assert!(service.shards.is_empty() && service.tasks.is_empty());
    }

    #[tokio::test]
    async fn a_task_that_fails_ends_the_service() {
        let mut service = service();
        service.shards.spawn(std::future::pending());
        service.tasks.spawn(async { Err(ServiceError::Output(io::ErrorKind::BrokenPipe.into())) });
        let why = service.watch(&CancellationToken::new()).await.expect_err("the output's");
        assert!(matches!(why, ServiceError::Output(_)), "{why}");
    }

    #[tokio::test]
    async fn the_last_shard_that_discord_refuses_ends_the_service() {
        let fatal =
            || End::Fatal { code: crate::discord::close_code::CloseCode::AuthenticationFailed, advice: String::new() };
        let mut service = service();
        for id in 0..3 {
            service.shards.spawn(async move { (shard(id), fatal()) });
        }
        let why = service.watch(&CancellationToken::new()).await.expect_err("no shard is left");
        assert!(matches!(why, ServiceError::NoShardLeft(End::Fatal { .. })), "{why}");
        service.end().await.expect("nothing else failed");
    }
}
