//! spec/singyeong.md, "Several processes": what processes know of each other's clients, over a real RabbitMQ.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{FaultyLink, broker, eventually, must, unique_group};
use optic::amqp::admin::Admin;
use optic::cluster::node::NodeId;
use optic::encoding::{Encoding, Value};
use optic::secret::Secret;
use optic::singyeong::client::{Client, Kind};
use optic::singyeong::hub::Hub;
use optic::singyeong::ids::{Application, ClientKey, ConnectionId};
use optic::singyeong::metadata::{Changes, Metadata};
use optic::singyeong::news::News;
use optic::singyeong::outbox::Outbox;
use optic::singyeong::packet::outgoing::Outgoing;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A process with its hub.
struct Process {
    hub: Arc<Hub>,
    stop: CancellationToken,
    news: JoinHandle<()>,
}

impl Process {
    fn start(url: &str, group: &str, name: &str) -> Self {
        let hub = Arc::new(Hub::new(NodeId::try_from(name.to_owned()).expect("an id")));
        let stop = CancellationToken::new();
        let news = tokio::spawn(News::new(hub.clone(), connect(url), connect(url), group).run(stop.clone()));
        Self { hub, stop, news }
    }

    fn register(&self, id: &str, n: i64) {
        self.hub.register(client(&self.hub, id, n), ConnectionId::new(1), Outbox::default()).expect("a new id");
    }

    /// A client that is told who comes and goes.
    fn listen(&self) -> Outbox {
        let outbox = Outbox::default();
        let listener = Client { receives_client_updates: true, ..client(&self.hub, self.hub.own().as_str(), 0) };
        self.hub.register(listener, ConnectionId::new(0), outbox.clone()).expect("a new id");
        outbox
    }

    fn update(&self, id: &str, n: i64) {
        self.hub.update(&key(id), ConnectionId::new(1), |client| client.metadata = metadata(n));
    }

    fn unregister(&self, id: &str) {
        assert!(self.hub.unregister(&key(id), ConnectionId::new(1)));
    }

    /// Waits until this is what is known of a client: the process, and its `n`.
    async fn sees(&self, id: &str, expected: Option<(&str, i64)>) {
        let what = format!("{id} to be {expected:?} for {}", self.hub.own());
        eventually(&what, || {
            let seen = self.hub.get(&key(id));
            let seen = seen.as_ref().map(|client| {
                let Some((_, Value::Integer(n))) = client.metadata.get("n") else { panic!("an integer") };
                (client.node.as_str(), *n)
            });
            seen == expected
        })
        .await;
    }
}

fn connect(url: &str) -> Admin {
    let (admin, driver) = Admin::new(&Secret::new(url), "optic test").expect("a URL");
    tokio::spawn(driver.run(CancellationToken::new()));
    admin
}

fn key(id: &str) -> ClientKey {
    ClientKey::new("app", id)
}

fn metadata(n: i64) -> Metadata {
    let entry = Value::map([("type", Value::string("integer")), ("value", Value::Integer(n))]);
    let mut metadata = Metadata::default();
    metadata.merge(Changes::read(&Value::map([("n", entry)])).expect("an integer"));
    metadata
}

fn client(hub: &Hub, id: &str, n: i64) -> Client {
    Client {
        key: key(id),
        node: hub.own().clone(),
        since: 1,
        kind: Kind::Websocket,
        restricted: false,
        encoding: Encoding::Json,
        ip: None,
        namespace: Value::Null.into(),
        receives_client_updates: false,
        last_heartbeat: 1,
        queues: BTreeSet::new(),
        metadata: metadata(n),
    }
}

/// How many came and how many went, as a listener was told.
fn updates(listener: &Outbox) -> (usize, usize) {
    let (mut connected, mut disconnected) = (0, 0);
    while let Some(parcel) = listener.take() {
        match &parcel.packet {
            Outgoing::Connected(application) if *application == Application::new("app") => connected += 1,
            Outgoing::Disconnected(application) if *application == Application::new("app") => disconnected += 1,
            other => panic!("{other:?}"),
        }
        parcel.written();
    }
    (connected, disconnected)
}

#[tokio::test]
async fn clients_come_change_and_go_for_all_processes() {
    let (url, group) = (broker(), unique_group());
    let processes = ["a", "b", "c"].map(|name| Process::start(&url, &group, name));
    let stranger = Process::start(&url, &unique_group(), "of-another-bot");
    for (process, id) in processes.iter().zip(["1", "2", "3"]) {
        process.register(id, 0);
    }
    for process in &processes {
        for (id, node) in [("1", "a"), ("2", "b"), ("3", "c")] {
            process.sees(id, Some((node, 0))).await;
        }
    }
    processes[0].update("1", 7);
    processes[1].unregister("2");
    for process in &processes {
        process.sees("1", Some(("a", 7))).await;
        process.sees("2", None).await;
        process.sees("3", Some(("c", 0))).await;
    }
    assert!(stranger.hub.others().is_empty());
    // An end in order is told.
    let [a, b, c] = processes;
    let listener = b.listen();
    must("the listener to be known", a.sees("b", Some(("b", 0)))).await;
    a.stop.cancel();
    must("the end", a.news).await.expect("no panic");
    for process in [&b, &c] {
        process.sees("1", None).await;
        eventually("the process to be forgotten", || !process.hub.knows(a.hub.own())).await;
    }
    assert_eq!(updates(&listener), (1, 1));
}

#[tokio::test]
async fn who_comes_late_learns_of_thousands() {
    const CLIENTS: i64 = 2000;
    let (url, group) = (broker(), unique_group());
    let early = [Process::start(&url, &group, "a"), Process::start(&url, &group, "b")];
    for n in 0..CLIENTS {
        early[0].register(&n.to_string(), n);
    }
    early[1].sees(&(CLIENTS - 1).to_string(), Some(("a", CLIENTS - 1))).await;
    let late = Process::start(&url, &group, "late");
    late.register("own", -1);
    for n in 0..CLIENTS {
        late.sees(&n.to_string(), Some(("a", n))).await;
    }
    for process in &early {
        process.sees("own", Some(("late", -1))).await;
    }
    // And from then on it hears what is new.
    early[0].update("5", 55);
    late.sees("5", Some(("a", 55))).await;
}

#[tokio::test]
async fn the_clients_of_who_dies_disappear_once() {
    let (url, group) = (broker(), unique_group());
    let link = FaultyLink::to_the_broker().await;
    let processes = [Process::start(&url, &group, "a"), Process::start(&url, &group, "b")];
    // Who comes later than they did is told to come.
    for process in &processes {
        must("it to be informed", process.hub.knows_others()).await;
    }
    let killed = Process::start(&link.through(&url), &group, "killed");
    let listener = processes[0].listen();
    killed.register("1", 1);
    killed.register("2", 2);
    for process in &processes {
        process.sees("1", Some(("killed", 1))).await;
        process.sees("2", Some(("killed", 2))).await;
    }
    assert_eq!(updates(&listener), (3, 0));
    killed.sees("a", Some(("a", 0))).await;
    link.refuse();
    for process in &processes {
        process.sees("1", None).await;
        process.sees("2", None).await;
    }
    assert_eq!(updates(&listener), (0, 2));
    // It lived after all: cut off it kept what it knew, and so do the others know of it again.
    killed.sees("a", Some(("a", 0))).await;
    killed.unregister("2");
    link.resume();
    for process in &processes {
        process.sees("1", Some(("killed", 1))).await;
        process.sees("2", None).await;
    }
    assert_eq!(updates(&listener), (1, 0));
}

#[tokio::test]
async fn what_changed_while_a_connection_was_lost_is_known_after_it() {
    let (url, group) = (broker(), unique_group());
    let link = FaultyLink::to_the_broker().await;
    let there = Process::start(&url, &group, "there");
    let cut = Process::start(&link.through(&url), &group, "cut");
    for round in 0..3_i64 {
        let (new, own) = (format!("there-{round}"), format!("cut-{round}"));
        there.register(&new, round);
        cut.register(&own, round);
        cut.sees(&new, Some(("there", round))).await;
        there.sees(&own, Some(("cut", round))).await;
        link.cut();
        there.update(&new, round + 10);
        cut.update(&own, round + 10);
        if round > 0 {
            there.unregister(&format!("there-{}", round - 1));
            cut.unregister(&format!("cut-{}", round - 1));
        }
        cut.sees(&new, Some(("there", round + 10))).await;
        there.sees(&own, Some(("cut", round + 10))).await;
        for gone in (0..round).flat_map(|before| [format!("there-{before}"), format!("cut-{before}")]) {
            cut.sees(&gone, None).await;
            there.sees(&gone, None).await;
        }
    }
}

#[tokio::test]
async fn who_comes_back_a_little_later_than_others_was_never_gone() {
    let (url, group) = (broker(), unique_group());
    let (link, slow, dead) =
        (FaultyLink::to_the_broker().await, FaultyLink::to_the_broker().await, FaultyLink::to_the_broker().await);
    let first = Process::start(&link.through(&url), &group, "first");
    must("the first to be informed", first.hub.knows_others()).await;
    let listener = first.listen();
    let returns = Process::start(&slow.through(&url), &group, "returns");
    let stays_away = Process::start(&dead.through(&url), &group, "stays-away");
    returns.register("1", 1);
    stays_away.register("2", 2);
    first.sees("1", Some(("returns", 1))).await;
    first.sees("2", Some(("stays-away", 2))).await;
    assert_eq!(updates(&listener), (3, 0));
    // All lose RabbitMQ, as when it is started anew, and one of them is back before the others.
    link.cut();
    slow.refuse();
    dead.refuse();
    eventually("the first to know that it is cut off", || !first.hub.is_informed()).await;
    must("the first to be informed again", first.hub.knows_others()).await;
    assert!(first.hub.knows(returns.hub.own()));
    returns.update("1", 7);
    slow.resume();
    first.sees("1", Some(("returns", 7))).await;
    first.sees("2", None).await;
    assert_eq!(updates(&listener), (0, 1), "who did not come back is gone, and nobody else");
    first.sees("1", Some(("returns", 7))).await;
}
