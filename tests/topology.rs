//! spec/amqp.md, "Names" and "Declaring": against a real RabbitMQ.

mod common;

use common::{Consumer, broker, must, unique_group};
use lapin::options::{
    BasicPublishOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use optic::amqp::admin::Admin;
use optic::amqp::error::AdminError;
use optic::amqp::tail::{Subscription, tail};
use optic::amqp::topology::{declare_events, declare_exchange};
use optic::secret::Secret;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

fn connect(url: &str) -> Admin {
    let (admin, driver) = Admin::new(&Secret::new(url), "optic test").expect("a URL");
    tokio::spawn(driver.run(CancellationToken::new()));
    admin
}

/// Another client of the broker.
async fn other() -> (Connection, Channel) {
    let connection = Connection::connect(&broker(), ConnectionProperties::default()).await.expect("reachable");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

async fn publish(channel: &Channel, group: &str, key: &str, body: &[u8]) {
    let properties = BasicProperties::default().with_message_id("s:1".into()).with_delivery_mode(2);
    channel
        .basic_publish(group.into(), key.into(), BasicPublishOptions::default(), body, properties)
        .await
        .expect("published");
}

#[tokio::test]
async fn declared_queues_hold_events_and_workers_may_declare_them_too() {
    let group = unique_group();
    let admin = connect(&broker());
    declare_events(&admin, &group, None, &["MESSAGE_CREATE".to_owned()]).await.expect("declared");
    declare_events(&admin, &group, None, &["MESSAGE_CREATE".to_owned()]).await.expect("declared twice");
    let (_connection, channel) = other().await;
    publish(&channel, &group, "MESSAGE_CREATE", b"{\"id\":\"1\"}").await;
    // Its declarations are those of Spectacles' clients: another argument would end in a 406.
    let worker = Consumer::start(&broker(), &group, &["MESSAGE_CREATE"]).await;
    let received = worker.wait_for(1).await;
    assert_eq!(received[0].body, b"{\"id\":\"1\"}");
}

#[tokio::test]
async fn an_exchange_of_another_type_is_an_error_that_says_which_and_what_to_do() {
    let group = unique_group();
    let (_connection, channel) = other().await;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare(group.as_str().into(), ExchangeKind::Topic, durable, FieldTable::default())
        .await
        .expect("declared");
    let admin = connect(&broker());
    let error = declare_exchange(&admin, &group).await.expect_err("it is a topic exchange");
    assert!(matches!(error, AdminError::Conflict { .. }), "{error:?}");
    assert!(!error.is_passing());
    let text = error.to_string();
    for part in [group.as_str(), "'topic'", "'direct'", "BROKER_GROUP"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    // The refusal closed a channel of its own, no other.
    declare_exchange(&admin, &unique_group()).await.expect("the connection goes on");
    channel.exchange_delete(group.into(), ExchangeDeleteOptions::default()).await.expect("deleted");
}

#[tokio::test]
async fn a_queue_that_a_worker_declared_with_arguments_is_used_as_it_is() {
    let group = unique_group();
    let (_connection, channel) = other().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let queue = format!("{group}:GUILD_CREATE");
    channel.queue_declare(queue.as_str().into(), durable, arguments).await.expect("declared");
    let events = ["GUILD_CREATE".to_owned(), "GUILD_DELETE".to_owned()];
    declare_events(&connect(&broker()), &group, None, &events).await.expect("taken as it is");
    publish(&channel, &group, "GUILD_CREATE", b"{}").await;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    must("the event in the queue", async {
        while channel
            .queue_declare(queue.as_str().into(), passive, FieldTable::default())
            .await
            .expect("it is")
            .message_count()
            == 0
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
}

#[tokio::test]
async fn names_that_amqp_cannot_carry_are_refused_before_anything_is_sent() {
    let error = declare_exchange(&connect(&broker()), &"g".repeat(256)).await.expect_err("too long");
    assert!(matches!(error, AdminError::NameTooLong(_)), "{error}");
}

#[tokio::test]
async fn a_wrong_login_or_virtual_host_is_said_at_once_and_shows_no_password() {
    let url = broker();
    let (_, place) = url.split_once('@').expect("user and password");
    let host = place.split('/').next().expect("host and port");
    for wrong in [format!("amqp://guest:hunter2@{host}/%2f"), format!("amqp://guest:guest@{host}/nowhere")] {
        let error = connect(&wrong).connected().await.expect_err("refused");
        assert!(matches!(error, AdminError::LoginRefused(_)), "{error:?}");
        assert!(!error.is_passing());
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn tail_hands_deliveries_over_acknowledged_and_ends_when_told() {
    let group = unique_group();
    let admin = connect(&broker());
    let stop = CancellationToken::new();
    let events = vec!["MESSAGE_CREATE".to_owned(), "GUILD_CREATE".to_owned()];
    let subscription = Subscription { group: group.clone(), subgroup: Some("logs".to_owned()), events };
    let (ready, mut is_ready) = mpsc::unbounded_channel();
    let (sender, mut deliveries) = mpsc::unbounded_channel();
    let tailing = tokio::spawn({
        let (admin, stop) = (admin.clone(), stop.clone());
        async move {
            let ready = || ready.send(()).expect("awaited");
            tail(&admin, &subscription, &stop, ready, |delivery| sender.send(delivery).expect("awaited")).await
        }
    });
    must("the consumer", is_ready.recv()).await.expect("it goes on");
    let (_connection, channel) = other().await;
    publish(&channel, &group, "MESSAGE_CREATE", b"1").await;
    publish(&channel, &group, "TYPING_START", b"nobody's").await;
    publish(&channel, &group, "GUILD_CREATE", b"2").await;
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let delivery = must("a delivery", deliveries.recv()).await.expect("it goes on");
        assert_eq!((delivery.message_id.as_deref(), delivery.redelivered), (Some("s:1"), false));
        bodies.push((delivery.event, delivery.body));
    }
    bodies.sort();
    assert_eq!(bodies, [("GUILD_CREATE".to_owned(), b"2".to_vec()), ("MESSAGE_CREATE".to_owned(), b"1".to_vec())]);
    stop.cancel();
    must("the end", tailing).await.expect("no panic").expect("no error");
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    for event in ["MESSAGE_CREATE", "GUILD_CREATE"] {
        let queue = format!("{group}:logs:{event}");
        let left = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.expect("it is");
        assert_eq!((left.message_count(), left.consumer_count()), (0, 0));
    }
}

#[tokio::test]
async fn tail_finds_its_queue_again_after_somebody_deleted_it() {
    let group = unique_group();
    let admin = connect(&broker());
    let stop = CancellationToken::new();
    let events = vec!["A".to_owned(), "B".to_owned()];
    let subscription = Subscription { group: group.clone(), subgroup: None, events };
    let (ready, mut is_ready) = mpsc::unbounded_channel();
    let (sender, mut deliveries) = mpsc::unbounded_channel();
    let tailing = {
        let stop = stop.clone();
        tokio::spawn(async move {
            let ready = || ready.send(()).expect("awaited");
            tail(&admin, &subscription, &stop, ready, |delivery| sender.send(delivery).expect("awaited")).await
        })
    };
    must("the consumer", is_ready.recv()).await.expect("it goes on");
    let (_connection, channel) = other().await;
    channel.queue_delete(format!("{group}:A").into(), QueueDeleteOptions::default()).await.expect("deleted");
    must("the consumer, again", is_ready.recv()).await.expect("it goes on");
    publish(&channel, &group, "A", b"after").await;
    assert_eq!(must("a delivery", deliveries.recv()).await.expect("it goes on").body, b"after");
    stop.cancel();
    must("the end", tailing).await.expect("no panic").expect("no error");
}
