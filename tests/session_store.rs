//! spec/amqp.md, "Sessions": the store in a real RabbitMQ.

mod common;

use common::{FaultyLink, PrivateBroker, broker, must, unique_group};
use optic::amqp::admin::{Admin, AdminDriver};
use optic::amqp::session_store::AmqpSessionStore;
use optic::discord::ids::{Seq, SessionId, ShardId};
use optic::discord::intents::Intents;
use optic::secret::Secret;
use optic::session_store::{SessionStore, StoreError, StoredSession};
use tokio_util::sync::CancellationToken;

const PREFIX: &str = AmqpSessionStore::DEFAULT_PREFIX;

fn connect(url: &str) -> Admin {
    let (admin, driver): (Admin, AdminDriver) = Admin::new(&Secret::new(url), "optic test").expect("a URL");
    tokio::spawn(driver.run(CancellationToken::new()));
    admin
}

fn store(url: &str, group: &str) -> AmqpSessionStore {
    AmqpSessionStore::new(connect(url), group, PREFIX)
}

fn record(shard: u32, sequence: u64) -> StoredSession {
    StoredSession {
        version: StoredSession::VERSION,
        shard_id: ShardId::new(shard),
        shard_count: 256,
        intents: Intents::GUILDS,
        session_id: SessionId::new("d41d8cd98f00b204e9800998ecf8427e"),
        resume_url: "wss://gateway-us-east1-b.discord.gg".to_owned(),
        sequence: Seq::new(sequence),
        saved_at: 1_700_000_000_000 + sequence,
        guilds: Some(7),
    }
}

async fn load_when_reachable(store: &AmqpSessionStore, shard: u32) -> Option<StoredSession> {
    let read = async {
        loop {
            match store.load(ShardId::new(shard)).await {
                Ok(record) => return record,
                Err(error) => assert!(matches!(error, StoreError::Unreachable(_)), "{error}"),
            }
        }
    };
    must("the store to be reachable", read).await
}

#[tokio::test]
async fn a_session_is_read_as_often_as_asked_and_the_newest_counts() {
    let (url, group) = (broker(), unique_group());
    let first = store(&url, &group);
    assert_eq!(first.load(ShardId::new(5)).await.expect("reachable"), None);
    for sequence in 1..=20 {
        first.save(record(5, sequence)).await.expect("saved");
    }
    for _ in 0..3 {
        assert_eq!(first.load(ShardId::new(5)).await.expect("reachable"), Some(record(5, 20)));
    }
    let next_process = store(&url, &group);
    assert_eq!(next_process.load(ShardId::new(5)).await.expect("reachable"), Some(record(5, 20)));
    // A save after a load replaces what the load had put back.
    next_process.save(record(5, 21)).await.expect("saved");
    assert_eq!(first.load(ShardId::new(5)).await.expect("reachable"), Some(record(5, 21)));
    assert_eq!(first.load(ShardId::new(4)).await.expect("reachable"), None);
}

#[tokio::test]
async fn groups_and_prefixes_keep_apart() {
    let (url, group) = (broker(), unique_group());
    store(&url, &group).save(record(0, 7)).await.expect("saved");
    assert_eq!(store(&url, &unique_group()).load(ShardId::new(0)).await.expect("reachable"), None);
    let other = AmqpSessionStore::new(connect(&url), &group, "other");
    assert_eq!(other.load(ShardId::new(0)).await.expect("reachable"), None);
}

#[tokio::test]
async fn all_shards_of_a_large_bot_save_at_once() {
    let store = store(&broker(), &unique_group());
    let saved = futures_util::future::join_all((0..256).map(|shard| store.save(record(shard, 9)))).await;
    assert!(saved.iter().all(Result::is_ok), "{saved:?}");
    for shard in 0..256 {
        assert_eq!(store.load(ShardId::new(shard)).await.expect("reachable"), Some(record(shard, 9)));
    }
}

#[tokio::test]
async fn sessions_survive_the_brokers_restart_and_its_power_loss() {
    let node = PrivateBroker::start().await;
    let store = store(node.url(), "g");
    store.save(record(1, 10)).await.expect("saved");
    node.restart().await;
    assert_eq!(load_when_reachable(&store, 1).await, Some(record(1, 10)));
    store.save(record(1, 11)).await.expect("saved");
    node.kill().await;
    let error = store.save(record(1, 12)).await.expect_err("there is no broker");
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    node.start_again().await;
    assert_eq!(load_when_reachable(&store, 1).await, Some(record(1, 11)));
    node.close_connections().await;
    must("a new connection", async { while store.save(record(1, 13)).await.is_err() {} }).await;
    assert_eq!(store.load(ShardId::new(1)).await.expect("reachable"), Some(record(1, 13)));
}

#[tokio::test]
async fn a_deleted_queue_is_made_again() {
    let node = PrivateBroker::start().await;
    let store = store(node.url(), "g");
    store.save(record(1, 10)).await.expect("saved");
    node.ctl(&["delete_queue", "g:optic:session.1"]).await;
    store.save(record(1, 11)).await.expect("saved in a new queue");
    assert_eq!(store.load(ShardId::new(1)).await.expect("reachable"), Some(record(1, 11)));
}

#[tokio::test]
async fn an_alarm_refuses_saves_in_place_of_hoarding_them_and_passes() {
    let node = PrivateBroker::start().await;
    let admin = connect(node.url());
    let store = AmqpSessionStore::new(admin.clone(), "g", PREFIX);
    store.save(record(1, 10)).await.expect("saved");
    node.block().await;
    // The first publish under the alarm makes RabbitMQ say that it blocks the connection; it is confirmed after the alarm.
    let waiting = async {
        while admin.is_taking_messages() {
            let _ = store.save(record(1, 11)).await;
        }
        store.save(record(1, 12)).await
    };
    let error = must("the alarm to be seen", waiting).await.expect_err("refused at once");
    assert!(matches!(&error, StoreError::Unreachable(why) if why.contains("alarm")), "{error}");
    node.unblock().await;
    must("the store to work again", async { while store.save(record(1, 13)).await.is_err() {} }).await;
    assert_eq!(store.load(ShardId::new(1)).await.expect("reachable"), Some(record(1, 13)));
}

#[tokio::test]
async fn a_silent_link_is_an_error_and_a_cut_one_is_made_anew() {
    let url = broker();
    let (_, rest) = url.split_once('@').expect("user and password");
    let link = FaultyLink::to(rest.split('/').next().expect("host and port")).await;
    let store = store(&link.through(&url), &unique_group());
    store.save(record(1, 10)).await.expect("saved");
    link.cut();
    must("a new connection", async { while store.save(record(1, 11)).await.is_err() {} }).await;
    link.freeze();
    let error = store.save(record(1, 12)).await.expect_err("no answer");
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    link.resume();
    link.cut();
    must("a new connection", async { while store.save(record(1, 13)).await.is_err() {} }).await;
    assert_eq!(store.load(ShardId::new(1)).await.expect("reachable"), Some(record(1, 13)));
}
