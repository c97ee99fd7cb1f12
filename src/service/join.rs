//! Joining the cluster: who is there, how many shards the bot has, and then this process's part.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::cluster::{Cluster, Ears, Links};
use super::leftovers::Leftovers;
use super::pool::Pool;
use super::reshard::{Former, Looks, Reshard};
use super::view::View;
use super::{Amqp, Connections, Discord, FIRST_RETRY, LONGEST_RETRY, Service, ServiceError, amybot, tell_start};
use crate::amqp::admin::Admin;
use crate::amqp::bus::{Bus, BusEvent};
use crate::amqp::consumer::Consumer;
use crate::amqp::delivery::Delivery;
use crate::amqp::error::AdminError;
use crate::amqp::leases::Leases;
use crate::amqp::messenger::Messenger;
use crate::amqp::record::ClusterRecord;
use crate::amqp::topology::{self, Queue};
use crate::clock::unix_millis;
use crate::cluster::agreement::{self, Agreed, Alive, Answer, Decision, Question, Record};
use crate::cluster::announcement::{Announcement, Mode};
use crate::cluster::change::Change;
use crate::cluster::fence::Fence;
use crate::cluster::member::{Member, Settings, Want};
use crate::cluster::node::NodeId;
use crate::config::{ClusterMode, Config};
use crate::discord::commands::Commands;
use crate::discord::ids::BotId;
use crate::discord::shard::Shared;
use crate::spectacles::answers::Answers;
use crate::spectacles::leftovers;
use crate::spectacles::post::Post;
use crate::spectacles::reroute::{self, Reroute};
use crate::spectacles::sends::Sends;

/// How long others have to say that they are there.
const ANSWERS: Duration = Duration::from_secs(1);

/// A process that may not join asks again this often, also when it heard of nobody's end.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// A process that made the record is seen by others within this.
const LOOK_TWICE: Duration = Duration::from_secs(3);

/// How often it says why it waits.
const SAY_AGAIN: Duration = Duration::from_secs(60);

impl Service {
    /// Becomes a process of the cluster; `None` if `stop` comes first.
    ///
    /// # Errors
    /// The shards that this process is set to run are not there.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the whole, made once")]
    pub(super) async fn join(
        &mut self,
        config: &Config,
        group: &str,
        discord: &Discord,
        amqp: &Amqp,
        fence: Fence,
        shared: Shared,
        node: NodeId,
        stop: &CancellationToken,
    ) -> Result<Option<Cluster>, ServiceError> {
        let Connections { administration, consumption } = &amqp.connections;
        let (leases, driver, told_of_leases) = Leases::new(consumption.clone(), group, fence.clone());
        self.run(driver.run(self.carriers.clone()));
        let (bus, driver, heard) = Bus::new(consumption.clone(), administration.clone(), group, node.clone());
        self.run(driver.run(self.carriers.clone()));
        let mode = match config.cluster.mode {
            ClusterMode::Static => Mode::Static,
            ClusterMode::Leased => Mode::Leased,
        };
        let mut newcomer = Newcomer {
            name: config.cluster.node.clone(),
            node,
            mode,
            configured: discord.settings.shards.count(),
            advised: discord.told.shards,
            bot: BotId::of_token(&discord.settings.token),
            record: ClusterRecord::new(administration.clone(), group),
            send: Queue::send(group),
            administration: administration.clone(),
            bus,
            heard,
            bus_is_up: false,
            alive: BTreeMap::new(),
            to_replace: None,
            view: self.view.clone(),
        };
        let ending = stop.child_token();
        let agreeing = async { Ok(super::until(&ending, newcomer.agree()).await) };
        let Some(agreed) = self.beside(agreeing, &ending).await? else { return Ok(None) };
        let Newcomer { node, name, bus, heard, bus_is_up, .. } = newcomer;
        let mine = discord.settings.shards.shards(agreed.shard_count)?;
        let declared = declare_commands(administration, group, agreed.shard_count);
        if self.beside(async { Ok(super::until(&ending, declared).await) }, &ending).await?.is_none() {
            return Ok(None);
        }
        amqp.events.set_shard_count(agreed.shard_count);
        self.view.set_shard_count(agreed.shard_count);
        let commands = Arc::new(Commands::new(agreed.shard_count).in_encoding(discord.settings.encoding));
        let post = self.carry_commands(group, amqp, &commands, told_of_leases.deliveries);
        let want = match mode {
            Mode::Static => Want::These(mine.iter().map(|shard| shard.id()).collect()),
            Mode::Leased => Want::Fair,
        };
        self.runs.send_modify(|told| *told = amybot::runs(told, &want, agreed.shard_count));
        tell_start(&mine, &discord.told);
        let leftovers = Arc::new(Leftovers {
            store: shared.store.clone(),
            broker: shared.broker.clone(),
            commands: leftovers::Leftovers::new(consumption.clone(), group, commands.clone(), post),
        });
        let reshard = Reshard {
            node: node.clone(),
            name: name.clone(),
            mode,
            plan: discord.settings.shards.clone(),
            group: group.to_owned(),
            record: ClusterRecord::new(consumption.clone(), group),
            administration: administration.clone(),
            events: amqp.events.clone(),
            runs: self.runs.clone(),
            commands: commands.clone(),
            leftovers,
            agreed,
            next: None,
            looks: Looks::default(),
            former: Former::default(),
        };
        let settings = Settings {
            node,
            name,
            shard_count: agreed.shard_count,
            generation: agreed.generation,
            want: want.clone(),
            running: BTreeSet::new(),
        };
        Ok(Some(Cluster {
            member: Member::new(settings, Instant::now()),
            want,
            shard_count: agreed.shard_count,
            links: Links { leases, bus, leases_are_up: false, bus_is_up, connected: false },
            ears: Ears { leases: told_of_leases.events, bus: heard },
            fence,
            pool: Pool::new(discord.settings.clone(), shared, commands, self.view.clone()),
            view: self.view.clone(),
            held: BTreeSet::new(),
            refused: BTreeMap::new(),
            reshard,
            postponed: None,
            settled_at: None,
        }))
    }

    /// Workers' commands: those for guilds on to their shards' queues, and those for our shards to Discord.
    fn carry_commands(
        &mut self,
        group: &str,
        amqp: &Amqp,
        commands: &Arc<Commands>,
        for_shards: mpsc::Receiver<Delivery>,
    ) -> Arc<Post> {
        let Connections { administration, consumption } = &amqp.connections;
        let messenger = Messenger::new(administration.clone());
        let (answers, driver) = Answers::new(messenger.clone());
        self.run(driver.run(self.carriers.clone()));
        let post = Arc::new(Post::new(messenger, group, answers));
        let _ = self.view.post.set(post.clone());
        self.run(Sends::new(commands.clone(), post.clone()).run(for_shards, self.carriers.clone()));
        let (consumer, for_guilds) = Consumer::new(consumption.clone(), Queue::send(group), reroute::PREFETCH);
        // The consumer ends right after it: what it has passed on by then is acknowledged, and what waits goes back to its
        // queue at once, for other processes, and not only when our shards have stopped.
        let (reroute, consume) = (Reroute::new(commands.clone(), post.clone()), CancellationToken::new());
        self.run(consumer.run(consume.clone()));
        let stop = self.intake.clone();
        self.run(async move {
            let _consume = consume.drop_guard();
            reroute.run(for_guilds, stop).await;
        });
        post
    }

    pub(super) fn run(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            Ok(())
        });
    }

    /// The same for what serves clients, which ends before all else.
    pub(super) fn front(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.fronts.spawn(async move {
            task.await;
            Ok(())
        });
    }
}

/// A process that has not joined yet.
struct Newcomer {
    node: NodeId,
    name: String,
    mode: Mode,
    configured: Option<u32>,
    advised: u32,
    bot: Option<BotId>,
    record: ClusterRecord,
    /// Every process that has joined consumes it.
    send: Queue,
    administration: Admin,
    bus: Bus,
    heard: mpsc::Receiver<BusEvent>,
    bus_is_up: bool,
    alive: BTreeMap<NodeId, Alive>,
    /// The record that was found with another count, and with nobody there who goes by it.
    to_replace: Option<Record>,
    view: Arc<View>,
}

impl Newcomer {
    /// Waits until this process may join, and says with how many shards.
    async fn agree(&mut self) -> Agreed {
        let mut said: Option<(String, Instant)> = None;
        let mut delay = FIRST_RETRY;
        loop {
            let answer = match self.ask().await {
                Ok(answer) => answer,
                Err(error) => {
                    warn!(%error, again_in = ?delay, "the number of shards cannot be agreed on yet");
                    self.view.waits_for(format!("the number of shards is not agreed on: {error}"));
                    self.listen(delay, |_| false).await;
                    delay = (delay * 2).min(LONGEST_RETRY);
                    continue;
                }
            };
            let answer = match answer {
                Asked::Answered(answer) => answer,
                Asked::LookAgain => {
                    self.listen(LOOK_TWICE, |_| false).await;
                    continue;
                }
            };
            if let Some(warning) = answer.warning {
                warn!("{warning}");
            }
            let why = match answer.decision {
                Decision::Use(agreed) => return agreed,
                Decision::Store(Record { shard_count, generation, .. }) => return Agreed { shard_count, generation },
                Decision::Wait(why) => why.to_string(),
                Decision::OtherBot(why) => why.to_string(),
            };
            let known = said.as_ref().is_some_and(|(text, at)| *text == why && at.elapsed() < SAY_AGAIN);
            if !known {
                error!("not joining: {why}");
                self.view.waits_for(why.clone());
                said = Some((why, Instant::now()));
            }
            self.bus.watch(self.alive.keys().cloned().collect());
            let before = self.alive.len();
            self.listen(ASK_AGAIN, |alive| alive.len() < before).await;
        }
    }

    /// Looks who is there, and at the record, under its lock.
    async fn ask(&mut self) -> Result<Asked, AskError> {
        let others = topology::consumers(&self.administration, &self.send).await?;
        if others > 0 {
            self.hello().await;
            let others = usize::try_from(others).unwrap_or(usize::MAX);
            self.listen(ANSWERS, |alive| alive.len() >= others).await;
        } else {
            self.alive.clear();
        }
        let alive: Vec<Alive> = self.alive.values().cloned().collect();
        let (seen, to_replace) = (self.to_replace.take(), &mut self.to_replace);
        let answer = self.record.update(|stored| {
            let stored = match stored.as_deref().map(Record::from_json).transpose() {
                Ok(stored) => stored,
                Err(error) => return (None, Err(AskError::Record(error))),
            };
            let answer = agreement::agree(&Question {
                stored: stored.as_ref(),
                alive: &alive,
                configured: self.configured,
                mode: self.mode,
                advised: self.advised,
                bot: self.bot.as_ref(),
                name: &self.name,
                now: unix_millis(),
            });
            match (&answer.decision, stored) {
                (Decision::Store(new), Some(old))
                    if (new.shard_count, &new.bot) != (old.shard_count, &old.bot) && seen.as_ref() != Some(&old) =>
                {
                    *to_replace = Some(old);
                    (None, Ok(Asked::LookAgain))
                }
                (Decision::Store(new), _) => (Some(new.to_json()), Ok(Asked::Answered(answer))),
                (Decision::Use(_) | Decision::Wait(_) | Decision::OtherBot(_), _) => {
                    (None, Ok(Asked::Answered(answer)))
                }
            }
        });
        answer.await?
    }

    /// Asks all to announce themselves.
    async fn hello(&mut self) {
        while !self.bus_is_up {
            self.view.waits_for("it is not on the bus of the cluster yet".to_owned());
            self.hear().await;
        }
        let hello = Announcement::newcomer(self.node.clone(), self.name.clone(), self.mode);
        self.bus.publish(hello.to_json());
    }

    /// Listens for so long, or until what is known is enough.
    async fn listen(&mut self, patience: Duration, enough: impl Fn(&BTreeMap<NodeId, Alive>) -> bool) {
        let _ = tokio::time::timeout(patience, async {
            while !enough(&self.alive) {
                self.hear().await;
            }
        })
        .await;
    }

    /// Waits for one event of the bus. Cancel safe.
    async fn hear(&mut self) {
        match self.heard.recv().await {
            Some(BusEvent::Up) => self.bus_is_up = true,
            Some(BusEvent::Down) => self.bus_is_up = false,
            Some(BusEvent::Gone(node)) => _ = self.alive.remove(&node),
            // The record is looked at before joining, and once more after it.
            Some(BusEvent::Message(text)) if Change::from_json(&text).is_some() => {}
            Some(BusEvent::Message(text)) => match Announcement::from_json(&text) {
                Ok(said) if said.is_goodbye() => _ = self.alive.remove(&said.node),
                Ok(said) if said.is_newcomer() => {}
                Ok(said) => _ = self.alive.insert(said.node.clone(), Alive::from(&said)),
                Err(error) => warn!(%error, "an announcement is passed over"),
            },
            // The bus failed, and whoever waits for its task ends the service.
            None => std::future::pending().await,
        }
    }
}

/// What a look at the record brought.
enum Asked {
    Answered(Answer),
    /// The record is to be replaced, and may have been made a moment ago by a process that cannot be seen yet.
    LookAgain,
}

/// Why the count could not be agreed on.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Amqp(#[from] AdminError),
    #[error(transparent)]
    Record(#[from] agreement::RecordError),
}

/// Declares the queues for commands, until that is done.
pub(super) async fn declare_commands(admin: &Admin, group: &str, shard_count: u32) {
    let mut delay = FIRST_RETRY;
    while let Err(error) = topology::declare_commands(admin, group, shard_count).await {
        warn!(%error, again_in = ?delay, "the queues for commands cannot be declared yet");
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_RETRY);
    }
}
