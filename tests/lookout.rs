//! spec/cluster.md, "Looking at all processes", against a real RabbitMQ: processes that see each other without running a shard.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Bed, OpticProcess, PrivateBroker, broker, eventually, must, unique_group};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use optic::amqp::admin::Admin;
use optic::amqp::survey::Survey;
use optic::cluster::node::NodeId;
use optic::http::{ClientsError, Lookout};
use optic::secret::Secret;
use optic::seen::clients::{ClientsAnswer, ClientsQuestion, Nerve};
use optic::seen::question::{Ask, Message, Question, Since, Told, VERSION};
use optic::seen::report::{EventReport, Fate, QueueReport, Report, ShardReport, ShardState};
use optic::seen::sample::{SECONDS, Sample};
use optic::seen::simulated::idle as report;
use optic::seen::whole::{Process as Seen, Whole};
use optic::seen::{Reporter, ShardPackets};
use optic::service::lookout::Watch;
use optic::service::queues::{Named, QueueBook, QueueWatch};
use optic::simulator::Settings;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Rounds are shorter than a service's, so that a minute of them passes sooner.
const ROUND: Duration = Duration::from_millis(100);

/// A process without anything but its report.
struct Process {
    watch: Watch,
    reporter: Arc<Fake>,
    links: CancellationToken,
    _tasks: JoinSet<()>,
}

struct Fake(Mutex<(Report, Vec<Sample>)>);

impl Reporter for Fake {
    fn report(&self) -> Report {
        self.0.lock().expect("not poisoned").0.clone()
    }

    fn samples(&self, after: u64) -> Vec<Sample> {
        let samples = &self.0.lock().expect("not poisoned").1;
        samples.iter().filter(|sample| sample.at > after).cloned().collect()
    }

    fn packets(&self) -> Vec<ShardPackets> {
        Vec::new()
    }
}

impl Process {
    async fn start(url: &str, group: &str, name: &str) -> Self {
        Self::start_with(url, group, report(name)).await
    }

    async fn start_with(url: &str, group: &str, report: Report) -> Self {
        let (links, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let mut connect = || {
            let (admin, driver) = Admin::new(&Secret::new(url), "optic test").expect("a URL");
            tasks.spawn(driver.run(links.clone()));
            admin
        };
        let (consumption, administration) = (connect(), connect());
        let node = report.node.clone();
        let reporter = Arc::new(Fake(Mutex::new((report, Vec::new()))));
        let watch = Watch::in_rounds_of(ROUND, node.clone(), reporter.clone(), QueueBook::default());
        let (survey, driver, heard) = Survey::new(consumption, administration, group, node);
        watch.connect(survey);
        tasks.spawn(driver.run(links.clone()));
        tasks.spawn(watch.clone().hear(heard, links.clone()));
        tasks.spawn(watch.clone().run(links.clone()));
        Self { watch, reporter, links, _tasks: tasks }
    }

    /// Its connections are closed, and nothing of it goes on.
    fn die(&self) {
        self.links.cancel();
    }
}

/// Who is there, and whether it answers.
fn shown(whole: &Whole) -> BTreeMap<String, bool> {
    whole.processes.iter().map(|process| (process.report.name.clone(), process.answers)).collect()
}

fn names(expected: &[(&str, bool)]) -> BTreeMap<String, bool> {
    expected.iter().map(|(name, answers)| ((*name).to_owned(), *answers)).collect()
}

async fn sees(look: &mut watch::Receiver<Arc<Whole>>, expected: &[(&str, bool)]) -> Arc<Whole> {
    let expected = names(expected);
    let seen = look.wait_for(|whole| shown(whole) == expected);
    must(&format!("{expected:?} are seen"), seen).await.expect("it goes on").clone()
}

async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("reachable");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// Hears what is asked in a group, as one of its processes.
async fn overhear(channel: &Channel, group: &str) -> Consumer {
    let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), own, FieldTable::default()).await.expect("declared").name().clone();
    let exchange = format!("{group}:optic:looks");
    let bound = channel.queue_bind(
        queue.clone(),
        exchange.into(),
        "".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.expect("there is the exchange");
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    channel.basic_consume(queue, "".into(), options, FieldTable::default()).await.expect("consumed")
}

/// Who asks next.
async fn asker(heard: &mut Consumer) -> NodeId {
    let question = must("a question", heard.next()).await.expect("the consumer goes on").expect("no error");
    let properties = &question.properties;
    assert_eq!(properties.delivery_mode(), &Some(1));
    assert!(properties.expiration().is_some(), "{properties:?}");
    Question::read(&question.data).expect("a question").node
}

#[tokio::test]
async fn processes_see_each_other_and_miss_who_dies() {
    let (url, group) = (broker(), unique_group());
    let a = Process::start(&url, &group, "a").await;
    let mut look = a.watch.look();
    assert_eq!(shown(&look.borrow_and_update()), names(&[("a", true)]), "itself at once");
    let b = Process::start(&url, &group, "b").await;
    let _c = Process::start(&url, &group, "c").await;
    let _other = Process::start(&url, &unique_group(), "of-another-group").await;
    let whole = sees(&mut look, &[("a", true), ("b", true), ("c", true)]).await;
    assert_eq!(whole.here, NodeId::of_run("a", 1));
    assert_eq!(*whole.processes[1].report, report("b"));
    // One page for all, whoever serves it.
    sees(&mut b.watch.look(), &[("a", true), ("b", true), ("c", true)]).await;
    b.reporter.0.lock().expect("not poisoned").0.shard_count = 7;
    must("news", look.wait_for(|whole| whole.processes[1].report.shard_count == 7)).await.expect("it goes on");
    b.die();
    sees(&mut look, &[("a", true), ("b", false), ("c", true)]).await;
    sees(&mut look, &[("a", true), ("c", true)]).await;
}

#[tokio::test]
async fn samples_of_all_are_summed_over_time_and_over_pauses() {
    let (url, group) = (broker(), unique_group());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let last = now - now % SECONDS - 3 * SECONDS;
    let sample = |at, count| Sample { at, events: [("READY".into(), count)].into(), ..Sample::default() };
    let processes = [
        Process::start(&url, &group, "a").await,
        Process::start(&url, &group, "b").await,
        Process::start(&url, &group, "c").await,
    ];
    for (process, count) in processes.iter().zip([1, 10, 100]) {
        process.reporter.0.lock().expect("not poisoned").1 = vec![sample(last - SECONDS, count), sample(last, count)];
    }
    let counts = |whole: &Whole| -> BTreeMap<u64, u32> {
        whole.history.iter().filter_map(|sample| Some((sample.at, *sample.events.get("READY")?))).collect()
    };
    for _ in 0..2 {
        let mut look = processes[0].watch.look();
        let all = BTreeMap::from([(last - SECONDS, 111), (last, 111)]);
        must("the sum", look.wait_for(|whole| counts(whole) == all)).await.expect("it goes on");
        assert_eq!(look.borrow().history[0].at, last - SECONDS);
        // A few rounds later nothing counts twice.
        for _ in 0..5 {
            must("a round", look.changed()).await.expect("it goes on");
        }
        assert_eq!(counts(&look.borrow()), all);
        drop(look);
    }
    // One that comes late still counts.
    let mut look = processes[0].watch.look();
    processes[2].reporter.0.lock().expect("not poisoned").1.push(sample(last + SECONDS, 100));
    let all = BTreeMap::from([(last - SECONDS, 111), (last, 111), (last + SECONDS, 100)]);
    must("the late one", look.wait_for(|whole| counts(whole) == all)).await.expect("it goes on");
}

#[tokio::test]
async fn nobody_is_asked_once_nobody_looks() {
    let (url, group) = (broker(), unique_group());
    let a = Process::start(&url, &group, "a").await;
    let b = Process::start(&url, &group, "b").await;
    let both = [("a", true), ("b", true)];
    let mut look = a.watch.look();
    sees(&mut look, &both).await;
    let (_connection, channel) = channel(&url).await;
    let mut heard = overhear(&channel, &group).await;
    assert_eq!(asker(&mut heard).await, NodeId::of_run("a", 1));
    // As long as one looks of two.
    drop(a.watch.look());
    must("a round", look.changed()).await.expect("it goes on");
    drop(look);
    // The rounds of b are the clock: of a there is one at most that was on its way.
    let mut other = b.watch.look();
    sees(&mut other, &both).await;
    let mut by_b = 0;
    let mut by_a = 0;
    while by_b < 20 {
        match asker(&mut heard).await {
            node if node == NodeId::of_run("b", 1) => by_b += 1,
            _ if by_b > 5 => by_a += 1,
            _ => {}
        }
    }
    assert_eq!(by_a, 0, "a asks on, with nobody who looks");
    // And again when somebody does.
    sees(&mut a.watch.look(), &both).await;
}

#[tokio::test]
async fn a_broker_that_is_blocked_or_restarts_takes_nobody_out_of_sight() {
    let broker = PrivateBroker::start().await;
    let group = unique_group();
    let a = Process::start(broker.url(), &group, "a").await;
    let _b = Process::start(broker.url(), &group, "b").await;
    let mut look = a.watch.look();
    sees(&mut look, &[("a", true), ("b", true)]).await;

    broker.block().await;
    sees(&mut look, &[("a", true), ("b", false)]).await;
    // More rounds than one that cannot be asked would be kept for.
    for _ in 0..40 {
        must("a round", look.changed()).await.expect("it goes on");
        assert_eq!(shown(&look.borrow_and_update()), names(&[("a", true), ("b", false)]));
    }
    broker.unblock().await;
    sees(&mut look, &[("a", true), ("b", true)]).await;

    broker.restart().await;
    sees(&mut look, &[("a", true), ("b", true)]).await;
    let c = Process::start(broker.url(), &group, "c").await;
    sees(&mut c.watch.look(), &[("a", true), ("b", true), ("c", true)]).await;
}

/// Knows of so many clients; hangs, if it knows none.
struct Knows(u64);

impl Nerve for Knows {
    fn answer(&self, question: ClientsQuestion) -> BoxFuture<'static, Option<ClientsAnswer>> {
        let total = self.0;
        Box::pin(async move {
            if total == 0 {
                std::future::pending().await
            }
            assert_eq!(question, ask());
            Some(ClientsAnswer { total, ..ClientsAnswer::default() })
        })
    }
}

fn ask() -> ClientsQuestion {
    ClientsQuestion { target: Some(json!({ "application": "music" })), limit: 200 }
}

#[tokio::test]
async fn clients_are_told_of_by_whoever_serves_them() {
    let (url, group) = (broker(), unique_group());
    let a = Process::start(&url, &group, "a").await;
    assert_eq!(a.watch.clients(ask()).await, Err(ClientsError::Off), "there is nobody else");
    let hanging = Report { singyeong: Some(Default::default()), ..report("hanging") };
    let hanging = Process::start_with(&url, &group, hanging).await;
    hanging.watch.serve_clients(Arc::new(Knows(0)));
    let mut look = a.watch.look();
    sees(&mut look, &[("a", true), ("hanging", true)]).await;
    assert_eq!(a.watch.clients(ask()).await, Err(ClientsError::NoAnswer));
    let b = Process::start(&url, &group, "b").await;
    b.watch.serve_clients(Arc::new(Knows(7)));
    sees(&mut look, &[("a", true), ("b", true), ("hanging", true)]).await;
    assert_eq!(a.watch.clients(ask()).await.expect("an answer").total, 7);
    drop(look);
    assert_eq!(a.watch.clients(ask()).await.expect("also with nobody who looks").total, 7);
    // Its own answer comes first.
    a.watch.serve_clients(Arc::new(Knows(3)));
    assert_eq!(a.watch.clients(ask()).await.expect("its own").total, 3);
}

#[tokio::test]
async fn an_answer_goes_to_a_queue_for_answers_alone_and_what_is_not_understood_is_passed_over() {
    let (url, group) = (broker(), unique_group());
    let process = Process::start(&url, &group, "a").await;
    sees(&mut process.watch.look(), &[("a", true)]).await;
    let (_connection, channel) = channel(&url).await;
    let mut heard = overhear(&channel, &group).await;
    // Its queue is bound by the time at which its question is heard.
    let _look = process.watch.look();
    asker(&mut heard).await;
    let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let (commands, answers) = (format!("{group}:0"), format!("{group}:optic:told.test"));
    for queue in [&commands, &answers] {
        channel.queue_declare(queue.as_str().into(), own, FieldTable::default()).await.expect("declared");
    }
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut told = channel
        .basic_consume(answers.as_str().into(), "".into(), options, FieldTable::default())
        .await
        .expect("consumed");
    let publish = async |body: &[u8], reply_to: &str| {
        let properties = BasicProperties::default().with_reply_to(reply_to.into()).with_correlation_id("7".into());
        let (exchange, options) = (format!("{group}:optic:looks"), BasicPublishOptions::default());
        channel.basic_publish(exchange.into(), "".into(), options, body, properties).await.expect("published");
    };
    let question = Question { version: VERSION, node: NodeId::of_run("test", 1), ask: Ask::Report(Since::default()) };
    for body in ["", "{}", r#"{"version":2}"#, r#"{"version":1,"node":"b.1","ask":{"kind":"weather"}}"#] {
        publish(body.as_bytes(), &answers).await;
    }
    publish(&question.to_json(), &commands).await;
    publish(&question.to_json(), &answers).await;
    let answer = must("an answer", told.next()).await.expect("the consumer goes on").expect("no error");
    assert_eq!(answer.properties.correlation_id().as_ref().map(ToString::to_string).as_deref(), Some("7"));
    assert_eq!((answer.properties.delivery_mode(), answer.properties.expiration().is_some()), (&Some(1), true));
    assert_eq!(Told::read(&answer.data).expect("a report").report, report("a"));
    let got =
        channel.basic_get(commands.as_str().into(), BasicGetOptions::default()).await.expect("there is the queue");
    assert!(got.is_none(), "an answer is where commands are read");
    assert_eq!(process.watch.unreadable(), 3);
}

fn shard(id: u32) -> ShardReport {
    ShardReport {
        id,
        state: ShardState::Connected,
        since: 1_763_700_000_000,
        latency_ms: Some(41.5),
        guilds: Some(1200),
        events: 123_456_789,
        rate: 43.2,
        resumes: 3,
        last_resume: Some(1_763_700_000_000),
        identifies: 1,
        disconnects: 3,
        last_disconnect: Some("Discord asked to reconnect (op 7)".to_owned()),
        gaps: 0,
        last_gap: None,
        malformed: 0,
    }
}

#[tokio::test]
async fn sixteen_processes_of_64_shards_are_seen_as_one() {
    let (url, group) = (broker(), unique_group());
    let mut processes = Vec::new();
    for n in 0..16 {
        let shards = (n * 64..(n + 1) * 64).map(shard).collect();
        let report = Report { shards, shard_count: 1024, ..report(&format!("web-{n:02}")) };
        processes.push(Process::start_with(&url, &group, report).await);
    }
    let all = |whole: &Arc<Whole>| whole.processes.len() == 16 && whole.processes.iter().all(|process| process.answers);
    for process in &processes[..2] {
        let mut look = process.watch.look();
        let whole = must("all of them", look.wait_for(all)).await.expect("it goes on").clone();
        let shards = whole.processes.iter().flat_map(|process| &process.report.shards).map(|shard| shard.id);
        assert!(shards.eq(0..1024), "in the order of the processes' names");
    }
}

/// Reads what the page of a process is told until it is as wanted.
async fn told_until(optic: &OpticProcess, what: &str, wanted: impl Fn(&Value) -> bool) {
    let line = optic.wait_for_line("health is served").await;
    let address =
        line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("the line has it");
    let mut stream = BufReader::new(TcpStream::connect(address).await.expect("it listens"));
    let request = "GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut line = String::new();
    must(what, async {
        loop {
            line.clear();
            assert!(stream.read_line(&mut line).await.expect("text") > 0, "the page's stream has ended");
            let Some(told) = line.strip_prefix("data: ") else { continue };
            if wanted(&serde_json::from_str(told).expect("JSON")) {
                return;
            }
        }
    })
    .await;
}

/// The processes that answer, and how many shards are connected there.
fn answering(told: &Value) -> BTreeMap<&str, u64> {
    let processes = told["processes"].as_array().expect("a list");
    let answering = processes.iter().filter(|process| process["answers"] == true);
    answering
        .map(|process| (process["name"].as_str().expect("a text"), process["connected"].as_u64().expect("a number")))
        .collect()
}

#[tokio::test]
async fn one_page_shows_all_whichever_process_serves_it() {
    let bed = Bed::new(&broker(), Settings { recommended_shards: 2, max_concurrency: 2, ..Bed::settings() });
    let bot = bed.optic_with(&[("CLUSTER_NODE", "bot")]);
    let web = [("CLUSTER_NODE", "web"), ("DISCORD_TOKEN", ""), ("SINGYEONG_ADDRESS", "127.0.0.1:0")];
    let web = bed.optic_with(&web);
    let both = BTreeMap::from([("bot", 2), ("web", 0)]);
    let commands = format!("{}:SEND", bed.group);
    let consumer = |told: &Value| {
        let queues = told["queues"].as_array().expect("a list");
        queues.iter().any(|queue| queue["name"] == commands.as_str() && queue["consumers"] == 1)
    };
    told_until(&bot, "both, at the bot", |told| answering(told) == both && consumer(told)).await;
    told_until(&web, "both, where there is no bot", |told| answering(told) == both).await;
}

#[tokio::test]
async fn without_rabbitmq_the_page_shows_the_process_alone() {
    let bed = Bed::new("", Settings { recommended_shards: 1, ..Bed::settings() });
    let optic = bed.optic_with(&[("CLUSTER_NODE", "alone")]);
    told_until(&optic, "itself", |told| answering(told) == BTreeMap::from([("alone", 1)])).await;
}

#[tokio::test]
async fn queues_are_looked_at_while_somebody_wants_to_know() {
    let (url, group) = (broker(), unique_group());
    let (_connection, channel) = channel(&url).await;
    for name in ["MESSAGE_CREATE", "logs:READY", "READY", "3"] {
        let queue = format!("{group}:{name}");
        let (durable, name) = (QueueDeclareOptions { durable: true, ..Default::default() }, queue.as_str());
        channel.queue_declare(name.into(), durable, FieldTable::default()).await.expect("declared");
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish("".into(), name.into(), options, b"{}", properties).await.expect("published");
    }
    let commands = format!("{group}:3");
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let _consumer = channel
        .basic_consume(commands.as_str().into(), "".into(), no_ack, FieldTable::default())
        .await
        .expect("consumed");

    let event = |name: &str| EventReport { name: name.to_owned(), received: 1, rate: 0.0, fate: Fate::Published };
    // Of those that are not there each closes a channel, and the others are found all the same.
    let other = Report { events: vec![event("MESSAGE_CREATE"), event("TYPING_START")], ..report("b") };
    let events = vec![event("CHANNEL_CREATE"), EventReport { fate: Fate::NoQueue, ..event("READY") }];
    let report = Report { events, shards: vec![shard(2), shard(3)], ..report("a") };
    let reporter = Arc::new(Fake(Mutex::new((report, Vec::new()))));
    let (admin, driver) = Admin::new(&Secret::new(url.as_str()), "optic test").expect("a URL");
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver.run(stop.clone()));
    let book = QueueBook::default();
    let configured = vec![Named { name: format!("{group}:logs:READY"), event: None }];
    tasks.spawn(QueueWatch::new(book.clone(), admin, &group, configured, reporter).run(stop.clone()));
    assert_eq!(book.latest(), []);
    let other = Seen { report: Arc::new(other), heard_at: 0, answers: true };
    let here = NodeId::of_run("a", 1);
    book.note_looked(&Whole { processes: vec![other], ..Whole::nobody(here) });
    eventually("queues are known", || !book.latest().is_empty()).await;
    let queue = |name: String, event: Option<&str>, messages, consumers| QueueReport {
        name,
        event: event.map(str::to_owned),
        messages,
        consumers,
    };
    let expected = [
        queue(format!("{group}:logs:READY"), None, 1, 0),
        queue(format!("{group}:MESSAGE_CREATE"), Some("MESSAGE_CREATE"), 1, 0),
        queue(commands, None, 0, 1),
    ];
    assert_eq!(book.latest(), expected);
    stop.cancel();
    while must("the end", tasks.join_next()).await.is_some_and(|ended| ended.is_ok()) {}
}
