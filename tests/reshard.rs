//! Another number of shards for a bot that runs, by `optic reshard`: spec/cluster.md, "Changing the shard count".

mod common;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use common::{Bed, FaultyLink, Fleet, OpticProcess, Received, Worker, broker, eventually, unique_group};
use optic::simulator::Settings;
use serde_json::{Value, json};

/// Discord's answers to the commands, which nobody consumes, begin so.
const UNWANTED: &str = "VOICE_";

/// Some thirty guilds, and all shards may identify at once.
fn bed(shards: u32) -> Bed {
    let settings = Settings {
        recommended_shards: shards,
        guilds: 30,
        max_concurrency: 16,
        identify_window: Duration::from_secs(1),
        heartbeat_interval: Duration::from_secs(2),
        ..Bed::settings()
    };
    Bed::new(&broker(), settings).with("CLUSTER_MODE", "leased")
}

async fn three<'a>(bed: &'a Bed, shares: &[u64]) -> Fleet<'a> {
    let mut fleet = Fleet::of(bed);
    for node in ["anna", "bert", "carl"] {
        fleet.start(node);
    }
    fleet.shared_as(shares).await;
    fleet
}

/// The command, which is to succeed; what it printed.
async fn reshard(bed: &Bed, shards: &str) -> Vec<String> {
    let mut command = command(&bed.group, shards);
    let code = command.wait().await.code();
    assert_eq!(code, Some(0), "{}", command.stderr().join("\n"));
    command.stdout()
}

fn command(group: &str, shards: &str) -> OpticProcess {
    OpticProcess::spawn(&["reshard", shards], &[("AMQP_URL", &broker()), ("BROKER_GROUP", group)])
}

/// Waits until traffic has made so many events more.
async fn traffic(bed: &Bed, events: u64) {
    let until = bed.gateway.count() + events;
    eventually("traffic", || bed.gateway.count() >= until).await;
}

/// A command for a guild, told apart by its number.
fn packet(guild_id: u64, number: u32) -> String {
    json!({ "op": 4, "d": { "guild_id": guild_id.to_string(), "channel_id": number.to_string(), "self_mute": false, "self_deaf": false } })
        .to_string()
}

/// The numbers of the commands that came to Discord, and each one's shard.
fn sent(bed: &Bed) -> Vec<(u32, u32)> {
    let number = |d: &Value| d["channel_id"].as_str()?.parse().ok();
    bed.gateway.commands().iter().filter_map(|command| Some((number(&command.d)?, command.shard))).collect()
}

fn session_of(message: &Received) -> Option<&str> {
    message.message_id.as_deref()?.split(':').next()
}

/// What holds of any change of the shard count: each session of before ends in a gap that says how far it came, nothing of it is published after
/// anything of the new ones, and nothing of those is missing.
async fn assert_switched(bed: &Bed, before: &HashSet<String>, consumer: &common::Consumer) {
    let new: Vec<String> = bed
        .gateway
        .sent()
        .iter()
        .filter(|sent| !before.contains(&sent.session) && !sent.name.starts_with(UNWANTED))
        .map(common::Sent::message_id)
        .collect();
    let received = consumer
        .wait_until("every event of the new sessions, and every gap", |received| {
            let there: HashSet<&str> = received.iter().filter_map(|message| message.message_id.as_deref()).collect();
            received.iter().filter(|message| message.is_gap()).count() >= before.len()
                && new.iter().all(|id| there.contains(id.as_str()))
        })
        .await;
    let (gaps, events): (Vec<&Received>, Vec<&Received>) = received.iter().partition(|message| message.is_gap());

    let is_old = |message: &&&Received| session_of(message).is_some_and(|session| before.contains(session));
    let last_old = events.iter().rposition(|message| is_old(&message)).expect("they were busy");
    let first_new = events.iter().position(|message| !is_old(&message)).expect("they are busy");
    assert!(last_old < first_new, "an event of before at {last_old}, one of the new sessions at {first_new}");

    let there: HashSet<&str> = events.iter().filter_map(|message| message.message_id.as_deref()).collect();
    let mut told = BTreeMap::new();
    for gap in gaps {
        let gap: Value = serde_json::from_slice(&gap.body).expect("a gap is JSON");
        let session = gap["old_session"].as_str().expect("a session").to_owned();
        assert_eq!(gap["reason"], "session_not_usable", "{gap}");
        let last = gap["last_committed"].as_u64().expect("a number");
        assert_eq!(told.insert(session, last), None, "told twice");
    }
    assert_eq!(told.keys().cloned().collect::<HashSet<_>>(), *before);
    for sent in bed.gateway.sent().into_iter().filter(|sent| !sent.name.starts_with(UNWANTED)) {
        let is_promised = told.get(&sent.session).is_some_and(|last| sent.seq <= *last);
        assert!(!is_promised || there.contains(sent.message_id().as_str()), "{} is in no gap", sent.message_id());
    }
}

/// A guild of the bot for which this holds.
fn guild(bed: &Bed, wanted: impl Fn(u64) -> bool) -> u64 {
    let create =
        |sent: common::Sent| (sent.name == "GUILD_CREATE").then(|| serde_json::from_slice(&sent.data).expect("JSON"));
    let id = |guild: Value| guild["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    bed.gateway.sent().into_iter().filter_map(create).map(id).find(|id| wanted(*id)).expect("there is one")
}

/// The shard that a guild has.
fn shard_of(guild_id: u64, count: u64) -> u32 {
    u32::try_from((guild_id >> 22) % count).expect("few shards")
}

/// What the sessions are called that there are now.
fn sessions(bed: &Bed) -> HashSet<String> {
    bed.gateway.sessions().iter().map(|session| session.id.to_string()).collect()
}

#[tokio::test]
async fn a_bot_gets_more_shards_while_it_runs() {
    let bed = bed(4);
    let consumer = bed.consumer(&broker()).await;
    let mut fleet = three(&bed, &[1, 1, 2]).await;
    bed.gateway.stored().await;
    let before = sessions(&bed);
    bed.gateway.control("start", "rate=400");
    traffic(&bed, 400).await;

    // More than Discord takes of a session in a minute: the rest waits for the shard of before.
    let worker = Worker::connect(&broker(), &bed.group).await;
    let guild_id = guild(&bed, |id| shard_of(id, 4) != shard_of(id, 6));
    for number in 0..150 {
        let send = json!({ "guild_id": guild_id.to_string(), "packet": serde_json::from_str::<Value>(&packet(guild_id, number)).expect("JSON") });
        worker.publish("SEND", &send.to_string()).await;
    }
    eventually("the shard of before sends", || sent(&bed).len() > 60).await;

    let printed = reshard(&bed, "6").await;
    assert!(printed.iter().any(|line| line.contains("from 4 to 6 shards")), "{printed:?}");
    assert!(printed.last().expect("lines").contains("6 of 6 new ones"), "{printed:?}");
    fleet.shared_as(&[2, 2, 2]).await;
    traffic(&bed, 400).await;
    bed.gateway.control("stop", "");
    assert_switched(&bed, &before, &consumer).await;

    eventually("all commands came to Discord", || {
        sent(&bed).iter().map(|(number, _)| *number).collect::<HashSet<_>>().len() == 150
    })
    .await;
    let at: HashSet<u32> = sent(&bed).iter().map(|(_, shard)| *shard).collect();
    assert_eq!(
        at,
        HashSet::from([shard_of(guild_id, 4), shard_of(guild_id, 6)]),
        "the guild's shards of before and after"
    );

    let live = bed.gateway.shards().into_iter().filter(|shard| shard.live == 1);
    assert!(live.map(|shard| shard.count).all(|count| count == 6));
    assert_eq!(bed.gateway.stats().mistakes, BTreeMap::new());
    assert_eq!(bed.gateway.stats().identifies_too_early, 0);
    // Who comes now is one of them.
    fleet.start("dora");
    fleet.shared_as(&[1, 1, 2, 2]).await;
    fleet.stop_all().await;
}

#[tokio::test]
async fn a_bot_gets_fewer_shards_and_nothing_stays_behind() {
    let bed = bed(6);
    let consumer = bed.consumer(&broker()).await;
    let mut fleet = three(&bed, &[2, 2, 2]).await;
    bed.gateway.stored().await;
    let before = sessions(&bed);
    bed.gateway.control("start", "rate=400");
    traffic(&bed, 400).await;

    let worker = Worker::connect(&broker(), &bed.group).await;
    let guild_id = guild(&bed, |id| shard_of(id, 6) == 5);
    for number in 0..140 {
        worker.publish("5", &packet(guild_id, number)).await;
    }
    worker.publish("5", r#"{"op":3,"d":{"since":null,"activities":[],"status":"idle","afk":false}}"#).await;
    eventually("shard 5 sends", || sent(&bed).len() > 60).await;

    reshard(&bed, "4").await;
    fleet.shared_as(&[1, 1, 2]).await;
    traffic(&bed, 400).await;
    bed.gateway.control("stop", "");
    assert_switched(&bed, &before, &consumer).await;

    eventually("all commands came to Discord", || {
        sent(&bed).iter().map(|(number, _)| *number).collect::<HashSet<_>>().len() == 140
    })
    .await;
    let at: HashSet<u32> = sent(&bed).iter().map(|(_, shard)| *shard).collect();
    assert_eq!(at, HashSet::from([5, shard_of(guild_id, 4)]), "the guild's shards of before and after");
    let aside = worker.wait_for("REJECTED").await;
    assert!(aside.headers["x-optic-reason"].contains("there is no shard 5"), "{aside:?}");
    assert!(aside.body.contains(r#""op":3"#));
    assert_eq!(bed.gateway.stats().mistakes, BTreeMap::new());

    // And back again: of shards 4 and 5 there is nothing left to tell.
    bed.gateway.stored().await;
    reshard(&bed, "6").await;
    fleet.shared_as(&[2, 2, 2]).await;
    let received = consumer
        .wait_until("the gaps of four shards more", |received| {
            received.iter().filter(|message| message.is_gap()).count() >= 10
        })
        .await;
    let old_session =
        |gap: &Received| serde_json::from_slice::<Value>(&gap.body).expect("JSON")["old_session"].to_string();
    let told: HashSet<String> = received.iter().filter(|message| message.is_gap()).map(old_session).collect();
    assert_eq!((told.len(), received.iter().filter(|message| message.is_gap()).count()), (10, 10));
    fleet.stop_all().await;
}

/// It cannot know of the change, and may go on with its shards at any moment.
#[tokio::test]
async fn a_process_that_stands_still_is_waited_for_and_has_nothing_of_before_when_it_wakes() {
    let bed = bed(6);
    let consumer = bed.consumer(&broker()).await;
    let link = FaultyLink::to(address_of(&broker())).await;
    let mut fleet = Fleet::of(&bed);
    fleet.start("anna");
    fleet.start("bert");
    fleet.start_with("carl", &[("AMQP_URL", &link.through(&broker()))]);
    fleet.shared_as(&[2, 2, 2]).await;
    bed.gateway.stored().await;
    let before = sessions(&bed);
    bed.gateway.control("start", "rate=200");
    traffic(&bed, 200).await;
    fleet.pause("carl").await;
    let mut command = command(&bed.group, "4");
    command.wait_for_output("2 of the former shards still run").await;
    for node in ["anna", "bert"] {
        Bed::health_until(fleet.process(node), "it waits for carl", |status, body| {
            status == 503 && body.contains("waiting until carl run")
        })
        .await;
    }
    let of_four = || bed.gateway.shards().into_iter().filter(|shard| shard.count == 4 && shard.live > 0).count();
    assert_eq!(of_four(), 0);
    // RabbitMQ drops it, as it does with a process that stays silent.
    link.cut();
    assert_eq!(command.wait().await.code(), Some(0));
    eventually("the new shards", || of_four() == 4).await;
    traffic(&bed, 100).await;
    fleet.go_on("carl").await;
    fleet.shared_as(&[1, 1, 2]).await;
    traffic(&bed, 200).await;
    bed.gateway.control("stop", "");
    assert_switched(&bed, &before, &consumer).await;
    fleet.stop_all().await;
}

#[tokio::test]
async fn a_second_change_overtakes_the_first_and_a_process_that_dies_holds_up_neither() {
    let bed = bed(4);
    let mut fleet = three(&bed, &[1, 1, 2]).await;
    let mut first = command(&bed.group, "6");
    first.wait_for_output("from 4 to 6 shards").await;
    fleet.kill("bert").await;
    reshard(&bed, "5").await;
    fleet.shared_as(&[2, 3]).await;
    assert!(bed.gateway.shards().iter().filter(|shard| shard.live > 0).all(|shard| shard.count == 5));
    assert!(first.wait().await.code().is_some());
    fleet.start("dora");
    fleet.shared_as(&[1, 2, 2]).await;
    fleet.stop_all().await;
}

#[tokio::test]
async fn processes_that_are_set_to_a_count_follow_and_say_what_to_set() {
    let bed = bed(4).with("CLUSTER_MODE", "").with("DISCORD_SHARD_COUNT", "2");
    let mut fleet = Fleet::of(&bed);
    fleet.start("anna");
    fleet.shared_as(&[2]).await;
    fleet.start("bert");
    fleet.process("bert").wait_for_line("held by anna").await;
    reshard(&bed, "3").await;
    fleet.process("anna").wait_for_line("set DISCORD_SHARD_COUNT=3").await;
    fleet.process("bert").wait_for_line("set DISCORD_SHARD_COUNT=3").await;
    eventually("three shards", || bed.gateway.live() == 3).await;
    assert!(bed.gateway.shards().iter().filter(|shard| shard.live > 0).all(|shard| shard.count == 3));
    fleet.stop_all().await;
}

#[tokio::test]
async fn what_cannot_be_changed_is_said_and_nothing_is() {
    let bed = bed(2);
    let mut fleet = Fleet::of(&bed);
    fleet.start("anna");
    fleet.shared_as(&[2]).await;
    let sessions_before = sessions(&bed);
    let nobody = unique_group();
    for (group, shards, code, text) in [
        (&bed.group, "2", 1, "the bot has 2 shards already"),
        (&bed.group, "0", 2, "0 is not in 1..=65536"),
        (&bed.group, "65537", 2, "65537 is not in"),
        (&nobody, "2", 1, "no process of this group has ever run"),
    ] {
        let mut command = command(group, shards);
        assert_eq!(command.wait().await.code(), Some(code), "{shards}");
        assert!(command.stderr().iter().any(|line| line.contains(text)), "{text}: {:?}", command.stderr());
    }
    assert_eq!(sessions(&bed), sessions_before);
    fleet.stop_all().await;

    // Without a process it is for the next one.
    let printed = reshard(&bed, "3").await;
    assert!(printed.last().expect("lines").contains("no process runs"), "{printed:?}");
    fleet.start("bert");
    fleet.shared_as(&[3]).await;
    fleet.stop_all().await;
}

/// `host:port` of an AMQP URL.
fn address_of(url: &str) -> &str {
    let after_login = url.split('@').nth(1).expect("a URL with user and password");
    after_login.split('/').next().expect("split gives one part at least")
}
