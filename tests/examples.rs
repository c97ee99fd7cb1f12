//! examples/: each worker beside the real program, a real RabbitMQ and the simulated Discord. A stub takes what they answer by REST.
//!
//! `OPTIC_TEST_PYTHON` names an interpreter that has aio-pika, `OPTIC_TEST_NODE` a folder whose `node_modules` has amqplib and
//! Spectacles' client.

mod common;

use std::path::Path;
use std::process::Stdio;

use common::{Bed, Gateway, OpticProcess, PrivateBroker, RestStub, Worker, broker, eventually, must};
use lapin::BasicProperties;
use optic::simulator::Settings;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

const EVENT: &str = "INTERACTION_CREATE";
/// What every example has set.
const PREFETCH: u32 = 20;

const ALL: [Example; 4] = [Example::Python, Example::NodeAmqplib, Example::NodeSpectacles, Example::RustLapin];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Example {
    Python,
    NodeAmqplib,
    NodeSpectacles,
    RustLapin,
}

impl Example {
    fn file(self) -> &'static str {
        match self {
            Self::Python => "examples/python/worker.py",
            Self::NodeAmqplib => "examples/node-amqplib/worker.js",
            Self::NodeSpectacles => "examples/node-spectacles/worker.js",
            Self::RustLapin => "examples/rust-lapin/worker.rs",
        }
    }

    fn command(self) -> Command {
        let root = env!("CARGO_MANIFEST_DIR");
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} must be set: scripts/setup"));
        match self {
            Self::Python => {
                let mut python = Command::new(variable("OPTIC_TEST_PYTHON"));
                python.arg(format!("{root}/{}", self.file()));
                python
            }
            Self::NodeAmqplib | Self::NodeSpectacles => {
                let mut node = Command::new("node");
                node.arg(format!("{root}/{}", self.file()));
                node.env("NODE_PATH", format!("{}/node_modules", variable("OPTIC_TEST_NODE")));
                node
            }
            Self::RustLapin => {
                let tests = std::env::current_exe().expect("this program has a path");
                let target = tests.parent().and_then(|deps| deps.parent()).expect("target/debug/deps");
                let built = target.join("examples/worker");
                let changed = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
                let current = changed(&built) >= changed(&Path::new(root).join(self.file()));
                // `cargo test --test examples` builds none.
                assert!(current, "{} is not built: cargo build --example worker", self.file());
                Command::new(built)
            }
        }
    }
}

/// An example at work: Optic with one shard of one guild, and what Discord would get.
struct Work {
    example: Example,
    bed: Bed,
    optic: OpticProcess,
    stub: RestStub,
    /// Looks into the queues, and publishes by hand.
    by_hand: Worker,
    guild: String,
    url: String,
    output: tempfile::NamedTempFile,
    child: Child,
}

impl Work {
    async fn start(example: Example, url: &str) -> Self {
        let settings = Settings { guilds: 1, ..Bed::settings() };
        let bed = Bed::new(url, settings).with("DISCORD_EVENTS", EVENT).with("DISCORD_INTENTS", "GUILDS");
        let optic = bed.optic();
        bed.gateway.connected(1).await;
        let guild = guild(&bed.gateway);
        // As another worker declares it: an example that gave arguments would be refused.
        let by_hand = Worker::connect(url, &bed.group).await;
        by_hand.declare(EVENT).await;
        let (stub, output) = (RestStub::start().await, tempfile::NamedTempFile::new().expect("a file"));
        let child = run(example, &bed, url, &stub, &output).await;
        by_hand.sees(EVENT, (0, 1)).await;
        Self { example, bed, optic, stub, by_hand, guild, url: url.to_owned(), output, child }
    }

    /// Discord sends a slash command, named by its token.
    fn send(&self, token: &str) {
        let id = fastrand::u64(1 << 60..1 << 61).to_string();
        let interaction = json!({
            "id": id, "token": token, "type": 2, "version": 1, "application_id": "1", "channel_id": "3",
            "data": {"id": "2", "name": "ping", "type": 1}, "guild_id": self.guild,
            "member": {"user": {"id": "1499379080468516867", "username": "alma"}},
        });
        self.bed.gateway.event(EVENT, interaction.to_string().as_bytes());
    }

    /// How many of its commands have reached Discord.
    fn commands(&self) -> usize {
        let of_ours = |d: &Value| d["guild_id"] == self.guild && d["user_ids"] == json!(["1499379080468516867"]);
        self.bed.gateway.commands().iter().filter(|command| command.op == 8 && of_ours(&command.d)).count()
    }

    async fn answered(&self, token: &str) {
        let what = format!("{:?} answers {token}", self.example);
        eventually(&what, || self.stub.calls().contains_key(token)).await;
    }

    /// Waits until it was told that so many commands were written to Discord.
    async fn told_of(&self, commands: usize) {
        let what = format!("{:?} is told of {commands} commands", self.example);
        eventually(&what, || self.said().matches(r#"gateway {"ok":true,"shard":0}"#).count() >= commands).await;
    }

    async fn kill(&mut self) {
        self.child.kill().await.expect("it ran");
    }

    async fn start_again(&mut self) {
        self.child = run(self.example, &self.bed, &self.url, &self.stub, &self.output).await;
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.output.path()).expect("readable")
    }

    async fn terminate(&self) {
        let id = self.child.id().expect("it runs");
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status().await;
        assert!(sent.expect("there is a shell").success());
    }

    /// SIGTERM ends it in order, with nothing left to do.
    async fn end(mut self) {
        self.terminate().await;
        let status = must("the example's end", self.child.wait()).await.expect("it is our child");
        assert_eq!(status.code(), Some(0), "{:?}: {}", self.example, self.said());
        self.by_hand.sees(EVENT, (0, 0)).await;
        self.optic.terminate().await;
        assert_eq!(self.optic.wait().await.code(), Some(0));
        let mistakes = self.bed.gateway.stats().mistakes;
        assert!(mistakes.is_empty(), "{mistakes:?}");
    }
}

async fn run(example: Example, bed: &Bed, url: &str, stub: &RestStub, said: &tempfile::NamedTempFile) -> Child {
    let log = || Stdio::from(said.as_file().try_clone().expect("the file is open"));
    let mut command = example.command();
    command.env("AMQP_URL", url).env("BROKER_GROUP", &bed.group).env("DISCORD_API", stub.url());
    command.stdin(Stdio::null()).stdout(log()).stderr(log()).kill_on_drop(true).spawn().expect("the example starts")
}

fn guild(gateway: &Gateway) -> String {
    let sent = gateway.sent();
    let created = sent.iter().find(|sent| sent.name == "GUILD_CREATE").expect("one guild");
    let guild: Value = serde_json::from_slice(&created.data).expect("JSON");
    guild["id"].as_str().expect("an id").to_owned()
}

async fn answers_once_commands_and_loses_nothing(example: Example) {
    let mut work = Work::start(example, &broker()).await;

    // It answers, and what it sends reaches Discord.
    work.send("first");
    work.answered("first").await;
    eventually("the command at Discord", || work.commands() == 1).await;
    work.told_of(1).await;

    // The same message once more, what is no interaction, and what fails: none is in the way of the next.
    let sent = work.bed.gateway.sent();
    let first = sent.iter().find(|sent| sent.name == EVENT).expect("it was sent");
    let again = BasicProperties::default().with_message_id(first.message_id().into());
    work.by_hand.publish_with(EVENT, &first.data, again).await;
    work.by_hand.publish(EVENT, "no JSON").await;
    work.by_hand.publish(EVENT, "null").await;
    work.send("fail");
    work.answered("fail").await;
    work.send("second");
    work.answered("second").await;
    work.by_hand.sees(EVENT, (0, 1)).await;

    // It takes so many, acknowledges none before its work is done, and killed loses none.
    let held: Vec<String> = (0..2 * PREFETCH).map(|n| format!("hold-{n}")).collect();
    held.iter().for_each(|token| work.send(token));
    work.by_hand.sees(EVENT, (PREFETCH, 1)).await;
    eventually("work under way", || work.stub.calls().contains_key("hold-0")).await;
    work.kill().await;
    work.by_hand.sees(EVENT, (2 * PREFETCH, 0)).await;
    work.stub.release();
    work.start_again().await;
    for token in &held {
        work.answered(token).await;
    }

    let calls = work.stub.calls();
    for token in ["first", "second", "fail"] {
        assert_eq!(calls[token], 1, "{token}: {}", work.said());
    }
    work.end().await;
}

#[tokio::test]
async fn the_example_in_python_answers_once_commands_and_loses_nothing() {
    answers_once_commands_and_loses_nothing(Example::Python).await;
}

#[tokio::test]
async fn the_example_with_amqplib_answers_once_commands_and_loses_nothing() {
    answers_once_commands_and_loses_nothing(Example::NodeAmqplib).await;
}

#[tokio::test]
async fn the_example_with_spectacles_answers_once_commands_and_loses_nothing() {
    answers_once_commands_and_loses_nothing(Example::NodeSpectacles).await;
}

#[tokio::test]
async fn the_example_in_rust_answers_once_commands_and_loses_nothing() {
    answers_once_commands_and_loses_nothing(Example::RustLapin).await;
}

#[tokio::test]
async fn every_example_goes_on_when_rabbitmq_is_back() {
    let broker = PrivateBroker::start().await;
    let mut works = Vec::new();
    for example in ALL {
        works.push(Work::start(example, broker.url()).await);
    }
    for work in &works {
        work.send("before");
        work.answered("before").await;
        work.told_of(1).await;
    }
    // In order, and without a word.
    broker.restart().await;
    go_on(&mut works, 2).await;
    broker.kill().await;
    broker.start_again().await;
    go_on(&mut works, 3).await;
    for work in works {
        work.end().await;
    }
}

#[tokio::test]
async fn an_example_whose_queue_was_deleted_takes_it_up_again_or_ends_to_start_anew() {
    for example in ALL {
        let mut work = Work::start(example, &broker()).await;
        work.by_hand.delete(EVENT).await;
        // aio-pika declares it again and goes on.
        if example != Example::Python {
            let status = must("the example's end", work.child.wait()).await.expect("it is our child");
            assert_eq!(status.code(), Some(1), "{example:?}: {}", work.said());
            assert!(work.said().contains("the queue was deleted"), "{}", work.said());
            work.start_again().await;
        }
        // What is sent before the queue is there again goes nowhere.
        must(&format!("{example:?} answers again"), async {
            while !work.stub.calls().contains_key("after") {
                work.send("after");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
        work.by_hand.sees(EVENT, (0, 1)).await;
        work.end().await;
    }
}

#[tokio::test]
async fn every_example_ends_while_rabbitmq_is_away() {
    let broker = PrivateBroker::start().await;
    let mut works = Vec::new();
    for example in ALL {
        works.push(Work::start(example, broker.url()).await);
    }
    broker.kill().await;
    for mut work in works {
        work.terminate().await;
        let status = must("the example's end", work.child.wait()).await.expect("it is our child");
        assert_eq!(status.code(), Some(0), "{:?}: {}", work.example, work.said());
        work.optic.kill().await;
    }
}

/// All of them have lost RabbitMQ, which is there again: they answer, and are told of so many commands.
async fn go_on(works: &mut [Work], commands: usize) {
    for work in works {
        work.by_hand = Worker::connect(&work.url, &work.bed.group).await;
        work.by_hand.sees(EVENT, (0, 1)).await;
        let token = format!("after-{commands}");
        work.send(&token);
        work.answered(&token).await;
        work.told_of(commands).await;
    }
}

#[test]
fn every_example_is_read_in_a_minute() {
    for example in ALL {
        let text = std::fs::read_to_string(format!("{}/{}", env!("CARGO_MANIFEST_DIR"), example.file()));
        let text = text.expect("it is there");
        assert!(text.lines().count() < 60, "{} has {} lines", example.file(), text.lines().count());
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(120), "{} has a line of {widest:?}", example.file());
    }
}

#[test]
fn what_the_examples_install_is_what_the_tests_run() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path);
    let tested = read("tests/python/requirements.txt");
    for line in read("examples/python/requirements.txt").lines() {
        assert!(tested.lines().any(|tested| tested == line), "tests/python/requirements.txt has no {line}");
    }
    let dependencies = |path: &str| serde_json::from_str::<Value>(&read(path)).expect("JSON")["dependencies"].clone();
    let tested = dependencies("tests/node/package.json");
    for folder in ["node-amqplib", "node-spectacles"] {
        for (name, version) in dependencies(&format!("examples/{folder}/package.json")).as_object().expect("a map") {
            assert_eq!(&tested[name], version, "tests/node/package.json, {name}");
        }
    }
}
