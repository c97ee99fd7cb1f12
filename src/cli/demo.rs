//! `optic demo`: a simulated Discord, Optic with two shards and a worker, in one process with a real RabbitMQ.
//!
//! ```text
//! simulator ──► service (2 shards) ──► RabbitMQ ──► worker: counts, prints
//! ```
//!
//! It ends with what was counted on the way: sent by the simulator, published and confirmed by Optic's publisher, received by
//! the worker. Everything in RabbitMQ is of a group of its own, and deleted at the end.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use optic::amqp::admin::Admin;
use optic::amqp::tail::{Delivery, Subscription, tail};
use optic::amqp::topology;
use optic::broker::GAP_EVENT;
use optic::config::{self, Config, EventFilter, Store};
use optic::discord::events::{self, Known};
use optic::discord::ids::ShardId;
use optic::discord::intents::Intents;
use optic::service::{self, View};
use optic::simulator::{Handle, Settings, Simulator, Start};
use tokio::time::{Instant, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::tally::{Counts, Tally};
use super::environment::{Environment, read_file, wrong};
use super::exit::{Exit, ExitWith};
use super::output;
use super::run::failed;
use super::signals::stop_on_signal;
use super::tail::{cannot_use, line_for_people};

mod tally;

/// What the demo is to be like.
#[derive(Debug, Args)]
#[command(after_help = "\
RabbitMQ is the one of AMQP_URL; `make demo` starts one where there is none. With DISCORD_TOKEN the events are those of the real \
Discord, and DISCORD_* and CLUSTER_* hold; without, they are the simulator's. The last line is
  sent=N published=N confirmed=N received=N
and the exit code 0 if they are equal. Queues and exchange are of a group of its own, and deleted at the end.")]
pub struct DemoArgs {
    /// End by itself after so many seconds [default: DEMO_SECONDS, else Ctrl-C ends it]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    seconds: Option<u32>,
    /// Events a second of the simulator, over both shards
    #[arg(long, value_name = "EVENTS", default_value_t = 10.0, value_parser = rate)]
    rate: f64,
    /// Print no events
    #[arg(long)]
    quiet: bool,
}

/// How long what was sent may take to arrive once nothing more is sent: RabbitMQ may just be starting again.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the counts are looked at meanwhile: the simulator's cannot be awaited.
const LOOK: Duration = Duration::from_millis(50);

/// How long RabbitMQ has to delete what the demo declared.
const CLEAN_UP: Duration = Duration::from_secs(20);

/// Shards of the simulated bot.
const SHARDS: u32 = 2;

/// As wide as most events' names.
const NAME_WIDTH: usize = 20;

pub async fn run(args: DemoArgs, environment: &Environment) -> Result<()> {
    let seconds = args.seconds.map_or_else(|| seconds_of(environment), |seconds| Ok(Some(seconds)))?;
    let is_real = environment.vars().any(|(name, text)| is_token(&name) && !text.trim().is_empty());
    let simulator = match is_real {
        true => None,
        false => Some(Simulator::bind(simulated(&args)).await.context("the simulator cannot listen on 127.0.0.1")?),
    };
    // Of its own: nothing else in this RabbitMQ is touched, and all of it can be deleted.
    let group = format!("optic-demo-{:06x}", fastrand::u32(..1 << 24));
    let vars = variables(environment, &group, simulator.as_ref().map(|simulator| simulator.address().to_string()));
    let (config, warnings) = Config::from_vars(vars, read_file).map_err(wrong)?;
    let config::Broker::Amqp(amqp) = &config.broker else { unreachable!("BROKER_TYPE=amqp was given") };
    optic::logging::init(&config.log, environment.wants_colours())?;
    for warning in &warnings {
        warn!(variable = warning.variable, "{}", warning.text);
    }
    let Some(bot) = &config.discord else { unreachable!("DISCORD_TOKEN was given") };
    info!(group, discord = bot.api.base_url(), "demo: Ctrl-C ends it with a summary");
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let (admin, driver) = Admin::new(amqp.url.secret(), "optic demo").map_err(cannot_use)?;
    let (stop, disconnect, silence) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let demo = Demo {
        admin,
        group,
        events: listened_to(&bot.events),
        simulator: simulator.as_ref().map(Simulator::handle),
        view: Arc::default(),
        tally: RefCell::default(),
        quiet: args.quiet,
        declared: Cell::new(false),
    };
    let playing = async {
        let done = stop_on_signal(&stop, demo.run(config, end, &stop)).await;
        disconnect.cancel();
        silence.cancel();
        done
    };
    let simulating = async {
        if let Some(simulator) = simulator {
            simulator.run(silence.clone()).await;
        }
    };
    tokio::join!(playing, driver.run(disconnect.clone()), simulating).0
}

fn is_token(name: &str) -> bool {
    matches!(name, "DISCORD_TOKEN" | "DISCORD_TOKEN_FILE")
}

fn seconds_of(environment: &Environment) -> Result<Option<u32>> {
    let Some((_, text)) = environment.vars().filter(|(name, _)| name == "DEMO_SECONDS").last() else { return Ok(None) };
    if text.trim().is_empty() {
        return Ok(None);
    }
    match text.trim().parse() {
        Ok(seconds @ 1..) => Ok(Some(seconds)),
        _ => {
            let problem = format!("DEMO_SECONDS={text:?} is no number of seconds; write such as 10");
            Err(ExitWith::new(Exit::Configuration, problem).into())
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| (0.1..=100_000.0).contains(rate));
    rate.ok_or_else(|| "write a number from 0.1 to 100000".to_owned())
}

/// A Discord with both shards at once, and traffic from the first moment.
fn simulated(args: &DemoArgs) -> Settings {
    Settings {
        recommended_shards: SHARDS,
        max_concurrency: SHARDS,
        rate: args.rate,
        start: Start::AtOnce,
        ..Settings::default()
    }
}

/// The configuration of the demo's Optic: what the person set, but for what makes it a demo.
fn variables(environment: &Environment, group: &str, simulator: Option<String>) -> Vec<(String, String)> {
    let is_ours = |name: &str| match name {
        "DISCORD_COMPRESSION" | "BROKER_PERSISTENT" => false,
        // Nobody shares a demo's group.
        "CLUSTER_MODE" => true,
        _ if name.starts_with("BROKER_") || name.starts_with("SHARD_STORE_") => true,
        _ => simulator.is_some() && (name.starts_with("DISCORD_") || name.starts_with("CLUSTER_")),
    };
    // Before what the person set: they go before it.
    let lists_events =
        |(name, text): &(String, String)| name == "DISCORD_EVENTS" && !text.trim().eq_ignore_ascii_case("auto");
    // What is set to nothing is not set.
    let theirs: Vec<_> = environment
        .vars()
        .filter(|(name, text)| !is_ours(name) && (name == "HTTP_ADDRESS" || !text.trim().is_empty()))
        .filter(|var| var.0 != "DISCORD_EVENTS" || lists_events(var))
        .collect();
    // Another Optic may have the usual port.
    let mut vars = vec![("HTTP_ADDRESS".to_owned(), "127.0.0.1:0".to_owned())];
    if !theirs.iter().any(lists_events) {
        // Its queues are known, so that what has to arrive is, too. Before what the person set: that goes before it.
        vars.push(("DISCORD_EVENTS".to_owned(), every_event().join(",")));
        vars.push(("DISCORD_INTENTS".to_owned(), INTENTS.names().collect::<Vec<_>>().join(",")));
    }
    vars.extend(theirs);
    let mut fixed = vec![("BROKER_TYPE", "amqp".to_owned()), ("BROKER_GROUP", group.to_owned())];
    match simulator {
        Some(address) => fixed.extend([
            ("DISCORD_TOKEN", "simulated".to_owned()),
            ("DISCORD_API_PROTOCOL", "http".to_owned()),
            ("DISCORD_API_HOST", address),
            ("DISCORD_SHARD_COUNT", SHARDS.to_string()),
        ]),
        // Ends with the demo: nobody will resume it.
        None => fixed.push(("SHARD_STORE_TYPE", "memory".to_owned())),
    }
    vars.extend(fixed.into_iter().map(|(name, text)| (name.to_owned(), text)));
    vars
}

/// What the demo identifies with: any bot may.
const INTENTS: Intents = Intents::ALL.without(Intents::PRIVILEGED);

/// All that these intents bring, but for RESUMED: it belongs to a connection and not to the session, so that nobody can say
/// how many must arrive.
fn every_event() -> Vec<String> {
    let comes = |event: &&Known| event.intents == Intents::NONE || event.intents.intersects(INTENTS);
    let known = events::ALL.iter().filter(|event| event.name != "RESUMED").filter(comes);
    known.map(|event| event.name.to_owned()).collect()
}

/// What the worker has queues for.
fn listened_to(events: &EventFilter) -> Vec<String> {
    let events = match events {
        EventFilter::Listed(names) => names.iter().cloned().collect(),
        EventFilter::Auto => every_event(),
    };
    events.into_iter().chain([GAP_EVENT.to_owned()]).collect()
}

/// What a demo is made of.
struct Demo {
    admin: Admin,
    group: String,
    events: Vec<String>,
    simulator: Option<Handle>,
    view: Arc<View>,
    tally: RefCell<Tally>,
    quiet: bool,
    /// Whether there is something in RabbitMQ to delete.
    declared: Cell<bool>,
}

impl Demo {
    /// Plays until `end` or `stop`, cleans up, and prints the summary.
    async fn run(self, config: Config, end: Option<Instant>, stop: &CancellationToken) -> Result<()> {
        let mut queues: Vec<String> =
            self.events.iter().map(|event| topology::queue_name(&self.group, None, event)).collect();
        if let Store::Amqp { prefix } = &config.store {
            queues.extend((0..SHARDS).map(|shard| topology::session_queue(&self.group, prefix, ShardId::new(shard))));
        }
        let played = self.play(config, end, stop).await;
        if self.declared.get() {
            match timeout(CLEAN_UP, topology::delete(&self.admin, &self.group, &queues)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => warn!(%why, group = self.group, "the demo's queues stay"),
                Err(_) => warn!(group = self.group, "RabbitMQ does not answer: the demo's queues stay"),
            }
        }
        let counts = played?;
        self.explain();
        output::print(&format!("{counts}\n"))?;
        if !counts.are_equal() {
            return Err(ExitWith::new(Exit::Failed, "these numbers should be equal").into());
        }
        if end.is_some() && counts.published == 0 {
            return Err(ExitWith::new(Exit::Failed, "no event came in this time").into());
        }
        Ok(())
    }

    /// Runs worker and service, and stops them in that order in which everything arrives; the counts at the end.
    async fn play(&self, config: Config, end: Option<Instant>, stop: &CancellationToken) -> Result<Counts> {
        let (stop_service, stop_worker) = (CancellationToken::new(), CancellationToken::new());
        let (service_over, worker_over) = (CancellationToken::new(), CancellationToken::new());
        let ready = CancellationToken::new();
        let working = async {
            let subscription = Subscription { group: self.group.clone(), subgroup: None, events: self.events.clone() };
            let on_delivery = |delivery: Delivery| self.receive(&delivery, stop);
            let on_ready = || {
                self.declared.set(true);
                ready.cancel();
            };
            let done = tail(&self.admin, &subscription, &stop_worker, on_ready, on_delivery).await;
            worker_over.cancel();
            done.map_err(cannot_use)
        };
        let serving = async {
            // The worker's queues come first: what is published before them would go nowhere.
            let begun = tokio::select! {
                biased;
                () = stop_service.cancelled() => false,
                () = ready.cancelled() => true,
            };
            let done = match begun {
                true => service::run(config, self.view.clone(), stop_service.clone()).await.map_err(failed),
                false => Ok(()),
            };
            service_over.cancel();
            done
        };
        let directing = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = service_over.cancelled() => {}
                () = worker_over.cancelled() => {}
                () = at(end) => info!("the time is up: waiting for what is under way"),
            }
            let mut counts = None;
            if let Some(simulator) = &self.simulator {
                simulator.control("stop", "", b"").context("the simulator does not stop")?;
                tokio::select! {
                    arrived = self.all_arrived() => counts = arrived,
                    () = service_over.cancelled() => {}
                    () = worker_over.cancelled() => {}
                }
            }
            stop_service.cancel();
            service_over.cancelled().await;
            if self.simulator.is_none() {
                // Discord goes on sending, so that the end is the service's.
                tokio::select! {
                    arrived = self.all_arrived() => counts = arrived,
                    () = worker_over.cancelled() => {}
                }
            }
            stop_worker.cancel();
            Ok(counts)
        };
        let (worked, served, directed): (_, _, Result<Option<Counts>>) = tokio::join!(working, serving, directing);
        served?;
        worked?;
        Ok(directed?.unwrap_or_else(|| self.counts()))
    }

    fn receive(&self, delivery: &Delivery, stop: &CancellationToken) {
        self.tally.borrow_mut().count(delivery);
        if !self.quiet {
            match output::print(&line_for_people(NAME_WIDTH, delivery)) {
                Ok(true) => {}
                // Nobody reads any more.
                Ok(false) | Err(_) => stop.cancel(),
            }
        }
    }

    /// Waits until everything arrived, for as long as there is patience; the counts then.
    async fn all_arrived(&self) -> Option<Counts> {
        let patience = Instant::now() + PATIENCE;
        let mut look = interval(LOOK);
        while Instant::now() < patience {
            look.tick().await;
            let counts = self.counts();
            if counts.are_equal() {
                return Some(counts);
            }
        }
        None
    }

    fn counts(&self) -> Counts {
        let tally = self.tally.borrow();
        let outbox = self.view.publisher().map(|counters| counters.outbox).unwrap_or_default();
        Counts {
            sent: self.simulator.as_ref().map(|simulator| simulator.stats().events),
            // The notice of a gap is published like an event, and is none.
            published: outbox.published.saturating_sub(tally.gaps()),
            confirmed: outbox.confirmed.saturating_sub(tally.gaps()),
            received: tally.received,
        }
    }

    /// Says what the numbers do not.
    fn explain(&self) {
        let tally = self.tally.borrow();
        if tally.again > 0 {
            info!(
                count = tally.again,
                "events came twice, as they may after a fault; each is counted once, by its message_id"
            );
        }
        if tally.gaps() > 0 {
            warn!(count = tally.gaps(), "gaps were told by {GAP_EVENT}");
        }
        if tally.nameless > 0 {
            warn!(count = tally.nameless, "messages came that are not Optic's");
        }
    }
}

/// That moment; never, if there is none.
async fn at(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)], simulator: Option<&str>) -> Config {
        let environment = Environment::of(vars);
        let vars = variables(&environment, "optic-demo-1", simulator.map(str::to_owned));
        let (config, warnings) =
            Config::from_vars(vars, |_| unreachable!("no file is named")).expect("a good configuration");
        assert_eq!(warnings, []);
        config
    }

    const BROKER: (&str, &str) = ("AMQP_URL", "amqp://localhost");

    #[test]
    fn without_a_token_nothing_of_a_real_bot_is_used() {
        let real = [BROKER, ("DISCORD_SHARD_COUNT", "64"), ("CLUSTER_ID", "3"), ("BROKER_GROUP", "gateway")];
        let config = config(&real, Some("127.0.0.1:7"));
        let bot = config.discord.expect("a bot");
        assert_eq!(bot.api.base_url(), "http://127.0.0.1:7/api/v10");
        assert_eq!(bot.shards.count(), Some(2));
        let config::Broker::Amqp(amqp) = config.broker else { panic!("not AMQP") };
        assert_eq!(amqp.group.as_str(), "optic-demo-1");
    }

    #[test]
    fn with_a_token_the_bot_is_as_configured_but_for_the_group_and_the_store() {
        let vars = [
            BROKER,
            ("DISCORD_TOKEN", "a.b.c"),
            ("DISCORD_EVENTS", "GUILD_MEMBER_ADD"),
            ("BROKER_DECLARE", "MESSAGE_CREATE"),
            ("DISCORD_SHARD_COUNT", "3"),
            ("CLUSTER_MODE", "leased"),
        ];
        let config = config(&vars, None);
        let bot = config.discord.expect("a bot");
        assert_eq!(listened_to(&bot.events), ["GUILD_MEMBER_ADD", GAP_EVENT]);
        assert_eq!(bot.intents.intents(), Intents::GUILD_MEMBERS);
        assert_eq!((bot.shards.count(), config.store), (Some(3), Store::Memory));
        let config::Broker::Amqp(amqp) = config.broker else { panic!("not AMQP") };
        assert_eq!((amqp.group.as_str(), amqp.declare.len()), ("optic-demo-1", 0));
    }

    #[test]
    fn auto_is_every_event_that_must_arrive_without_privileged_intents() {
        let config = config(&[BROKER, ("DISCORD_TOKEN", "a.b.c"), ("DISCORD_EVENTS", "Auto")], None);
        let bot = config.discord.expect("a bot");
        let events = listened_to(&bot.events);
        assert!(events.len() > 70 && !events.iter().any(|name| name == "RESUMED"));
        assert!(!bot.intents.intents().intersects(Intents::PRIVILEGED));
    }

    #[test]
    fn the_time_is_a_number_of_seconds_or_nothing() {
        let of = |text| seconds_of(&Environment::of(&[("DEMO_SECONDS", text)]));
        assert_eq!(of(" 10 ").expect("a number"), Some(10));
        assert_eq!(of("").expect("nothing"), None);
        for wrong in ["0", "-1", "soon", "1.5"] {
            assert_eq!(ExitWith::of(&of(wrong).expect_err(wrong)), Exit::Configuration);
        }
    }
}
