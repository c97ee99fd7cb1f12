//! Several Optics of one bot, end to end: they share the shards, hand them over and take them over, and no event is missed.
//! spec/cluster.md.

mod common;

use std::collections::HashSet;

use common::{Bed, FaultyLink, Fleet, PrivateBroker, Received, broker, eventually};
use optic::simulator::Settings;

/// Shards of the bot; Discord advises as many.
const SHARDS: u32 = 12;

/// Each shard has two guilds, and all may identify at once.
fn settings() -> Settings {
    Settings {
        recommended_shards: SHARDS,
        guilds: 2 * u64::from(SHARDS),
        max_concurrency: 16,
        // Sessions are stored before each heartbeat: every second and a half.
        heartbeat_interval: std::time::Duration::from_secs(2),
        ..Bed::settings()
    }
}

fn leased(amqp_url: &str, settings: Settings) -> Bed {
    Bed::new(amqp_url, settings).with("CLUSTER_MODE", "leased")
}

/// Three processes with four shards each.
async fn three(bed: &Bed) -> Fleet<'_> {
    let mut fleet = Fleet::of(bed);
    for node in ["anna", "bert", "carl"] {
        fleet.start(node);
    }
    fleet.shared_as(&[4, 4, 4]).await;
    assert_eq!(bed.gateway.stats().identifies, u64::from(SHARDS));
    fleet
}

/// No session was lost, and Discord saw nothing wrong.
fn assert_each_session_lived(bed: &Bed, shards: u32) {
    let stats = bed.gateway.stats();
    assert_eq!((stats.identifies, stats.identifies_too_early, stats.resumes_refused), (u64::from(shards), 0, 0));
    let most: Vec<u32> = bed.gateway.shards().iter().map(|shard| shard.most_live).collect();
    assert_eq!(most, vec![1; shards as usize], "a shard with two sessions");
}

/// Which message ids came more than once.
fn twice(received: &[Received]) -> Vec<&str> {
    let mut seen = HashSet::new();
    received.iter().filter_map(|message| message.message_id.as_deref()).filter(|id| !seen.insert(*id)).collect()
}

/// Waits until traffic has made so many events more.
async fn traffic(bed: &Bed, events: u64) {
    let until = bed.gateway.count() + events;
    eventually("traffic", || bed.gateway.count() >= until).await;
}

#[tokio::test]
async fn shards_are_shared_evenly_as_processes_come_and_go_and_as_few_as_can_be_move() {
    let bed = leased(&broker(), settings());
    let mut fleet = three(&bed).await;

    let before = bed.gateway.stats().resumes;
    fleet.start("dora");
    fleet.shared_as(&[3, 3, 3, 3]).await;
    assert_eq!(bed.gateway.stats().resumes, before + 3, "dora's three");

    fleet.stop("anna").await;
    fleet.shared_as(&[4, 4, 4]).await;
    assert_eq!(bed.gateway.stats().resumes, before + 6, "and anna's three");

    assert_each_session_lived(&bed, SHARDS);
    assert_eq!(bed.gateway.stats().mistakes, Default::default());
    fleet.stop_all().await;
}

#[tokio::test]
async fn a_rolling_restart_under_load_misses_no_event_and_spends_no_identify() {
    let bed = leased(&broker(), settings());
    let consumer = bed.consumer(&broker()).await;
    let mut fleet = three(&bed).await;
    bed.gateway.control("start", "rate=400");
    for (old, new) in [("anna", "dora"), ("bert", "emil"), ("carl", "fred")] {
        traffic(&bed, 100).await;
        fleet.stop(old).await;
        fleet.start(new);
        fleet.shared_as(&[4, 4, 4]).await;
    }
    traffic(&bed, 100).await;
    bed.gateway.control("stop", "");
    let received = bed.gateway.reached(&consumer, bed.gateway.count()).await;
    assert!(!received.iter().any(Received::is_gap));
    assert_eq!(twice(&received), [""; 0], "what was handed over was confirmed");
    assert_each_session_lived(&bed, SHARDS);
    assert_eq!(bed.gateway.stats().mistakes, Default::default());
    fleet.stop_all().await;
}

#[tokio::test]
async fn the_shards_of_a_killed_process_are_resumed_by_the_others() {
    let bed = leased(&broker(), settings());
    let consumer = bed.consumer(&broker()).await;
    let mut fleet = three(&bed).await;
    bed.gateway.stored().await;
    bed.gateway.control("start", "rate=400");
    traffic(&bed, 400).await;
    fleet.kill("bert").await;
    fleet.shared_as(&[6, 6]).await;
    traffic(&bed, 100).await;
    bed.gateway.control("stop", "");
    let received = bed.gateway.reached(&consumer, bed.gateway.count()).await;
    assert!(!received.iter().any(Received::is_gap));
    assert_each_session_lived(&bed, SHARDS);
    fleet.stop_all().await;
}

#[tokio::test]
async fn processes_that_are_told_their_shards_run_those_and_no_others() {
    let bed = Bed::new(&broker(), settings()).with("CLUSTER_COUNT", "3").with("CLUSTER_SHARDS", "4");
    let consumer = bed.consumer(&broker()).await;
    let mut fleet = Fleet::of(&bed);
    for (node, id) in [("anna", "0"), ("bert", "1"), ("carl", "2")] {
        fleet.start_with(node, &[("CLUSTER_ID", id)]);
    }
    fleet.shared_as(&[4, 4, 4]).await;
    bed.gateway.stored().await;
    bed.gateway.control("start", "rate=400");
    traffic(&bed, 200).await;
    fleet.kill("bert").await;
    eventually("bert's shards are nobody's", || bed.gateway.live() == 8).await;
    let dark = bed.gateway.shards().into_iter().filter(|shard| shard.live == 0).map(|shard| shard.shard);
    assert_eq!(dark.collect::<Vec<_>>(), [4, 5, 6, 7]);
    fleet.start_with("bert", &[("CLUSTER_ID", "1")]);
    fleet.shared_as(&[4, 4, 4]).await;
    bed.gateway.control("stop", "");
    let received = bed.gateway.reached(&consumer, bed.gateway.count()).await;
    assert!(!received.iter().any(Received::is_gap));
    assert_each_session_lived(&bed, SHARDS);
    fleet.stop_all().await;
}

#[tokio::test]
async fn of_two_that_are_told_to_run_a_shard_the_second_waits_says_for_whom_and_takes_over() {
    let bed = Bed::new(&broker(), Bed::settings()).with("DISCORD_SHARD_COUNT", "1");
    let consumer = bed.consumer(&broker()).await;
    let mut fleet = Fleet::of(&bed);
    fleet.start("anna");
    bed.gateway.connected(1).await;
    fleet.start("bert");
    fleet.process("bert").wait_for_line("anna").await;
    assert_eq!(bed.gateway.stats().connections, 1, "bert leaves Discord alone");

    bed.gateway.control("start", "rate=100");
    traffic(&bed, 50).await;
    fleet.stop("anna").await;
    eventually("bert has the shard", || bed.gateway.stats().resumes == 1).await;

    fleet.start("carl");
    fleet.process("carl").wait_for_line("bert").await;
    traffic(&bed, 50).await;
    fleet.kill("bert").await;
    eventually("carl has the shard", || bed.gateway.stats().resumes == 2).await;

    bed.gateway.control("stop", "");
    let received = bed.gateway.reached(&consumer, bed.gateway.count()).await;
    assert!(!received.iter().any(Received::is_gap));
    assert_each_session_lived(&bed, 1);
    fleet.stop_all().await;
}

/// RabbitMQ gives a silent process up after some 30 s; here its connections are cut, which it sees only when it wakes. Its fence
/// is open by the clock then, and its connections to Discord live until others resume the sessions: no heartbeat is due.
#[tokio::test]
async fn a_paused_process_finds_its_shards_taken_and_harms_nobody_when_it_wakes() {
    let heartbeat_interval = Settings::default().heartbeat_interval;
    let bed = leased(&broker(), Settings { heartbeat_interval, ..settings() });
    let consumer = bed.consumer(&broker()).await;
    let link = FaultyLink::to(address_of(&broker())).await;
    let mut fleet = Fleet::of(&bed);
    fleet.start_with("anna", &[("AMQP_URL", &link.through(&broker()))]);
    fleet.start("bert");
    fleet.start("carl");
    fleet.shared_as(&[4, 4, 4]).await;
    bed.gateway.control("start", "rate=200");
    traffic(&bed, 200).await;
    fleet.pause("anna").await;
    link.cut();
    fleet.shared_as(&[6, 6]).await;
    traffic(&bed, 200).await;
    fleet.go_on("anna").await;
    fleet.shared_as(&[4, 4, 4]).await;
    traffic(&bed, 200).await;
    // What is stored is not an older one of anna's: the next process resumes from it.
    fleet.stop_all().await;
    fleet.start("dora");
    fleet.shared_as(&[SHARDS.into()]).await;
    bed.gateway.control("stop", "");
    let received = bed.gateway.reached(&consumer, bed.gateway.count()).await;
    assert!(!received.iter().any(Received::is_gap));
    assert_each_session_lived(&bed, SHARDS);
    fleet.stop_all().await;
}

#[tokio::test]
async fn a_process_with_another_shard_count_says_whose_differs_and_begins_when_they_are_gone() {
    let bed = leased(&broker(), Settings { identify_window: std::time::Duration::from_secs(1), ..settings() });
    let mut fleet = Fleet::of(&bed);
    fleet.start_with("anna", &[("DISCORD_SHARD_COUNT", "4")]);
    fleet.start_with("bert", &[("DISCORD_SHARD_COUNT", "4")]);
    fleet.shared_as(&[2, 2]).await;
    fleet.start_with("carl", &[("DISCORD_SHARD_COUNT", "6")]);
    let line = fleet.process("carl").wait_for_line("to run 6 shards").await;
    assert!(line.contains("anna") && line.contains("bert"), "{line}");
    let of_six = || bed.gateway.shards().into_iter().filter(|shard| shard.count == 6);
    assert_eq!(of_six().count(), 0);
    fleet.stop("anna").await;
    // Carl, who waits, has none.
    fleet.shared_as(&[0, 4]).await;
    assert_eq!(of_six().count(), 0, "bert is there still");
    fleet.stop("bert").await;
    eventually("carl's six", || of_six().filter(|shard| shard.live == 1).count() == 6).await;
    fleet.stop_all().await;
}

/// One after the other with one broker: a node takes some 10 s to start.
#[tokio::test]
async fn what_happens_to_rabbitmq_takes_no_event_and_no_session() {
    let broker = PrivateBroker::start().await;
    let bed = leased(broker.url(), settings());
    let consumer = bed.consumer(broker.url()).await;
    let mut fleet = three(&bed).await;
    bed.gateway.stored().await;

    println!("the connection with the leases is closed, the one that publishes stays");
    bed.gateway.control("start", "rate=100");
    close_one_consumption(&broker).await;
    traffic(&bed, 200).await;
    fleet.shared_as(&[4, 4, 4]).await;
    bed.gateway.reached(&consumer, bed.gateway.count()).await;
    assert_each_session_lived(&bed, SHARDS);

    println!("stopped and started");
    let shares = fleet.shared_as(&[4, 4, 4]).await;
    let connections = bed.gateway.stats().connections;
    broker.restart().await;
    traffic(&bed, 100).await;
    bed.gateway.control("stop", "");
    let received = bed.gateway.reached(&consumer, bed.gateway.count()).await;
    assert!(!received.iter().any(Received::is_gap));
    assert_eq!(fleet.shared_as(&[4, 4, 4]).await, shares, "each has its own again");
    assert_eq!(bed.gateway.stats().connections, connections, "Discord noticed nothing");
    assert_each_session_lived(&bed, SHARDS);
    fleet.stop_all().await;
}

/// `host:port` of an AMQP URL.
fn address_of(url: &str) -> &str {
    let after_login = url.split('@').nth(1).expect("a URL with user and password");
    after_login.split('/').next().expect("split gives one part at least")
}

/// As an operator does, to one process.
async fn close_one_consumption(broker: &PrivateBroker) {
    let listed = broker.ctl(&["list_connections", "pid", "client_properties"]).await;
    let line = listed.lines().find(|line| line.contains("consumption")).unwrap_or_else(|| panic!("none in {listed}"));
    let pid = line.split_whitespace().next().expect("the first column");
    broker.ctl(&["close_connection", pid, "closed by a test"]).await;
}
