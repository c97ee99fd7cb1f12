//! Reports of a real shard, at a simulated Discord.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;
use crate::discord::ids::{Shard, ShardId};
use crate::service::pool::Pool;
use crate::service::pool::tests::pool_at;
use crate::simulator::{self, Mix, Simulator};
use crate::stdio;

/// A process with a shard, which nobody but the test looks at.
struct Process {
    observer: Arc<Observer>,
    pool: Pool,
    discord: simulator::Handle,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

fn config(encoding: &str) -> Config {
    let vars = [
        ("DISCORD_TOKEN", "any"),
        ("DISCORD_INTENTS", "GUILDS,GUILD_MESSAGES"),
        ("DISCORD_EVENTS", "READY,GUILD_CREATE"),
        ("DISCORD_ENCODING", encoding),
        ("DISCORD_COMPRESSION", "none"),
        ("BROKER_TYPE", "stdio"),
        ("CLUSTER_NODE", "here"),
    ];
    let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    Config::from_vars(vars.map(|(name, text)| (name.into(), text.into())), no_file).expect("enough").0
}

fn shard() -> Shard {
    Shard::new(ShardId::new(0), 1).expect("one of one")
}

impl Process {
    async fn start(encoding: &str) -> Self {
        let settings = simulator::Settings {
            guilds: 3,
            mix: "MESSAGE_CREATE=1".parse::<Mix>().expect("a mix"),
            heartbeat_interval: Duration::from_millis(200),
            ..simulator::Settings::default()
        };
        let simulator = Simulator::bind(settings).await.expect("a free port");
        let (discord, address, stop) = (simulator.handle(), simulator.address(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(simulator.run(stop.clone()));
        let (view, config) = (Arc::new(View::default()), config(encoding));
        let (observer, _) = Observer::new(view.clone(), &config, &NodeId::of_run("here", 7));
        let output = Arc::new(stdio::Output::new(None));
        let (written, until) = (output.clone(), stop.clone());
        tasks.spawn(async move { written.run(tokio::io::sink(), until).await.expect("a sink takes all") });
        let _ = view.broker.set(output.clone());
        let (mut pool, gate) = pool_at(&format!("ws://{address}"), &config, output, view.clone());
        let _ = view.gate.set(gate.clone());
        view.joined();
        let until = stop.clone();
        tasks.spawn(async move { gate.run(until).await });
        pool.start(shard());
        Self { observer, pool, discord, stop, tasks }
    }

    fn control(&self, verb: &str, query: &str) {
        self.discord.control(verb, query, b"").expect("a connection is open");
    }

    /// Waits until the shard's report is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&ShardReport) -> bool) -> Report {
        let reached = async {
            loop {
                let report = self.observer.report();
                if report.shards.first().is_some_and(&wanted) {
                    return report;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
        reached.unwrap_or_else(|_| panic!("{what}: {:#?}", self.observer.report()))
    }

    async fn stop_shard(&mut self) {
        self.pool.stop(shard().id());
        self.pool.next_ended().await.expect("it runs").expect("no panic");
    }

    async fn end(mut self) {
        self.stop_shard().await;
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no panic");
        }
    }
}

async fn a_shards_life_is_reported(encoding: &str) {
    let mut process = Process::start(encoding).await;
    let ready = |shard: &ShardReport| shard.state == ShardState::Connected && shard.events >= 4;
    let report = process.until("READY and three guilds", |shard| ready(shard) && shard.latency_ms.is_some()).await;
    let of = &report.shards[0];
    assert_eq!((of.guilds, of.identifies, of.disconnects, of.resumes), (Some(3), 1, 0, 0));
    assert!(of.since >= report.started_at && of.since <= report.at);
    assert_eq!((report.mode, report.name.as_str(), report.shard_count), (Mode::Alone, "here", 0));
    assert_eq!(report.identifies.map(|left| (left.remaining, left.total, left.waiting)), Some((9, 10, 0)));
    assert!(report.ready && report.missing.is_empty() && report.broker == "connected", "{report:?}");
    let fates: Vec<_> = report.events.iter().map(|event| (event.name.as_str(), event.received, event.fate)).collect();
    assert_eq!(fates, [("GUILD_CREATE", 3, Fate::Published), ("READY", 1, Fate::Published)]);

    // The connection is lost, and the session taken up again.
    process.control("close", "code=4000");
    let report = process.until("a resume", |shard| shard.resumes == 1 && shard.state == ShardState::Connected).await;
    let of = &report.shards[0];
    assert_eq!((of.guilds, of.disconnects, of.gaps), (Some(3), 1, 0));
    assert_eq!(of.last_disconnect.as_deref(), Some("closed by Discord: 4000 Unknown error"));
    assert!(of.last_resume.is_some_and(|at| at >= report.started_at));

    // What comes and is not listed, and guilds that come and go.
    process.control("event", "name=MESSAGE_CREATE");
    let (guild, other) = (r#"{"id":"99","members":[{"user":{"id":"7"}}]}"#, r#"{"unavailable":true,"id":"98"}"#);
    for (name, data) in [("GUILD_CREATE", guild), ("GUILD_CREATE", other), ("GUILD_DELETE", r#"{"id":"98"}"#)] {
        process.discord.control("event", &format!("name={name}"), data.as_bytes()).expect("a session");
    }
    let report = process.until("a guild more", |shard| shard.guilds == Some(4)).await;
    let message = report.events.iter().find(|event| event.name == "MESSAGE_CREATE").expect("it came");
    assert_eq!((message.received, message.fate), (1, Fate::NotListed));
    process.observer.look(1_000_000);
    let samples = process.observer.samples(0);
    assert_eq!((samples.len(), samples[0].at, samples[0].connected), (1, 999_995, 1));
    assert_eq!(samples[0].events.get("MESSAGE_CREATE"), Some(&1));

    let packets = &process.observer.packets()[0];
    let count = |list: &[Packets], op, name: Option<&str>| {
        let found = list.iter().find(|packets| packets.op == op && packets.name.as_deref() == name);
        found.map_or(0, |packets| packets.count)
    };
    assert_eq!(count(&packets.received, 0, Some("RESUMED")), 1);
    assert_eq!(count(&packets.received, 10, None), 2, "a Hello a connection");
    assert_eq!((count(&packets.sent, 2, None), count(&packets.sent, 6, None)), (1, 1));
    assert!(packets.pings > 0 && packets.latest_pings_ms.len() as u64 == packets.pings.min(32), "{packets:?}");

    // It leaves and comes back: what it counted stays the process's, and how many guilds there are is stored with its session.
    process.stop_shard().await;
    let before = process.observer.report();
    assert_eq!(before.shards, []);
    process.pool.start(shard());
    let report = process.until("a resume of what was stored", |shard| shard.resumes == 1).await;
    assert_eq!((report.shards[0].identifies, report.shards[0].guilds), (0, Some(4)));
    let received =
        |report: &Report, name: &str| report.events.iter().find(|event| event.name == name).map(|event| event.received);
    assert!(received(&before, "READY").is_some());
    assert_eq!(received(&report, "RESUMED"), Some(2), "of this shard and of its former run here");
    process.end().await;
}

#[tokio::test]
async fn a_shards_life_is_reported_in_json() {
    a_shards_life_is_reported("json").await;
}

#[tokio::test]
async fn a_shards_life_is_reported_in_etf() {
    a_shards_life_is_reported("etf").await;
}
