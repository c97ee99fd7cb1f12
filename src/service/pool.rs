//! The shards that run in this process: started, ended and waited for one by one.
//!
//! Knows nothing of why a shard is to run here. A task a shard: it loads the stored session, then drives the shard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::{Instrument, error, info, info_span, warn};

use super::view::View;
use super::{ServiceError, failed};
use crate::config;
use crate::discord::commands::Commands;
use crate::discord::ids::{Shard, ShardId};
use crate::discord::session::{End, Session};
use crate::discord::shard::status::Status;
use crate::discord::shard::{Beginning, Driver, Orders, Shared};
use crate::session_store::{SessionStore, StoreError, StoredSession};

/// Waits between tries to load a session: the shard is dark meanwhile.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// The shards of this process.
pub(super) struct Pool {
    discord: config::Discord,
    shared: Shared,
    commands: Arc<Commands>,
    view: Arc<View>,
    running: BTreeMap<ShardId, Orders>,
    tasks: JoinSet<(Shard, End)>,
}

impl Pool {
    pub(super) fn new(discord: config::Discord, shared: Shared, commands: Arc<Commands>, view: Arc<View>) -> Self {
        Self { discord, shared, commands, view, running: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Starts a shard that does not run here.
    pub(super) fn start(&mut self, shard: Shard) {
        let orders = Orders::default();
        let former = self.running.insert(shard.id(), orders.clone());
        debug_assert!(former.is_none(), "shard {} runs already", shard.id());
        let status = Arc::new(Status::new(shard));
        self.view.shard_starts(&status);
        let (settings, shared) = (self.discord.session(shard), self.shared.clone());
        let commands = self.commands.add(shard.id());
        let run = async move {
            let loading = load(&*shared.store, shard.id());
            let stored = tokio::select! {
                biased;
                () = orders.ended() => return (shard, End::ShutDown),
                stored = loading => stored,
            };
            let begins = Beginning::of(stored.as_ref());
            let session = Session::new(settings, shared.gateway.url(), stored, fastrand::u64(..), Instant::now());
            // Boxed: a driver is large, and the task's other states are not.
            let driver = Driver::new(session, begins, shared, status, commands);
            (shard, Box::pin(driver.run(orders)).await)
        };
        self.tasks.spawn(run.instrument(info_span!("shard", id = %shard.id())));
    }

    /// Ends a shard in order, its session kept. Its end comes by [`next_ended`](Self::next_ended).
    pub(super) fn stop(&self, shard: ShardId) {
        if let Some(orders) = self.running.get(&shard) {
            orders.stop();
        }
    }

    /// Ends a shard that another process has. Its end comes by [`next_ended`](Self::next_ended).
    pub(super) fn abandon(&self, shard: ShardId) {
        match self.running.get(&shard) {
            Some(orders) => orders.abandon(),
            // One that Discord refused may have left something unconfirmed.
            None => self.shared.broker.discard(shard),
        }
    }

    /// Ends all shards in order.
    pub(super) fn stop_all(&self) {
        self.running.values().for_each(Orders::stop);
    }

    /// Whether no shard runs here.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits for a shard's end; `None` when none runs.
    ///
    /// # Errors
    /// When it panicked.
    pub(super) async fn next_ended(&mut self) -> Option<Result<(ShardId, End), ServiceError>> {
        let (shard, end) = match self.tasks.join_next().await? {
            Ok(ended) => ended,
            Err(panic) => return Some(Err(failed(panic))),
        };
        self.running.remove(&shard.id());
        self.commands.remove(shard.id());
        match &end {
            End::ShutDown => {
                self.view.shard_left(shard.id());
                info!(shard = %shard.id(), "shard stopped; its session is kept");
            }
            // Stays in sight: somebody has to do something about it.
            End::Fatal { .. } => error!(shard = %shard.id(), reason = %end, "shard ended for good"),
        }
        Some(Ok((shard.id(), end)))
    }
}

/// A shard's stored session. A store that cannot be reached is asked again: to identify instead would lose events.
async fn load(store: &dyn SessionStore, shard: ShardId) -> Option<StoredSession> {
    let mut delay = FIRST_RETRY;
    let mut told = false;
    loop {
        match store.load(shard).await {
            Ok(stored) => return stored,
            Err(error @ StoreError::Unreadable { .. }) => {
                error!(%shard, %error, "the session is begun anew");
                return None;
            }
            Err(error @ StoreError::Unreachable(_)) => {
                if !std::mem::replace(&mut told, true) {
                    warn!(%shard, %error, "waiting for the session store, trying on");
                }
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(LONGEST_RETRY);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::future::Future;

    use super::*;
    use crate::broker::Broker;
    use crate::cluster::fence::Fence;
    use crate::config::Config;
    use crate::discord::compression::Compression;
    use crate::discord::gateway::Gateway;
    use crate::discord::gateway_url::GatewayUrl;
    use crate::discord::identify_gate::IdentifyGate;
    use crate::discord::identify_queue::{IdentifyQueue, PACE};
    use crate::discord::rest_types::SessionStartLimit;
    use crate::session_store::MemorySessionStore;
    use crate::stdio;

    /// A pool whose own shards would find no Discord.
    pub(in crate::service) fn pool() -> Pool {
        let vars = [("DISCORD_TOKEN", "any"), ("DISCORD_INTENTS", "1")].map(|(name, text)| (name.into(), text.into()));
        let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let (config, _) = Config::from_vars(vars, no_file).expect("enough");
        pool_at("ws://127.0.0.1:1", &config, Arc::new(stdio::Output::new(None)), Arc::default()).0
    }

    /// A pool at this Discord, and the gate at which its shards wait.
    pub(in crate::service) fn pool_at(
        gateway: &str,
        config: &Config,
        broker: Arc<dyn Broker>,
        view: Arc<View>,
    ) -> (Pool, IdentifyGate) {
        let limit = SessionStartLimit { total: 10, remaining: 10, reset_after: 1000, max_concurrency: 1 };
        let gate = IdentifyGate::new(IdentifyQueue::new(limit, PACE, Instant::now()));
        let shared = Shared {
            broker,
            store: Arc::new(MemorySessionStore::new()),
            fence: Fence::open(),
            gate: gate.clone(),
            gateway: Arc::new(Gateway::new(GatewayUrl::parse(gateway).expect("an address"))),
            tls: Arc::default(),
            compression: Compression::None,
            scratch: Arc::default(),
        };
        let bot = config.discord.clone().expect("a bot");
        let commands = Arc::new(Commands::new(3).in_encoding(bot.encoding));
        (Pool::new(bot, shared, commands, view), gate)
    }

    impl Pool {
        /// Something in the place of a shard.
        pub(in crate::service) fn put(&mut self, shard: Shard, run: impl Future<Output = End> + Send + 'static) {
            self.running.insert(shard.id(), Orders::default());
            self.tasks.spawn(async move { (shard, run.await) });
        }
    }

    #[tokio::test]
    async fn a_shard_is_ended_alone_and_can_start_again() {
        let mut pool = pool();
        let shard = |id| Shard::new(ShardId::new(id), 3).expect("of three");
        for id in 0..2 {
            pool.start(shard(id));
        }
        for _ in 0..2 {
            pool.stop(ShardId::new(1));
            let ended = pool.next_ended().await.expect("one runs").expect("no panic");
            assert_eq!(ended, (ShardId::new(1), End::ShutDown));
            assert_eq!(pool.view.shards().len(), 1);
            pool.start(shard(1));
        }
        pool.abandon(ShardId::new(0));
        assert_eq!(pool.next_ended().await.expect("one runs").expect("no panic").0, ShardId::new(0));
        pool.stop_all();
        assert!(pool.next_ended().await.is_some() && pool.next_ended().await.is_none() && pool.is_empty());
    }
}
