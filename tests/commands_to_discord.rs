//! spec/amqp.md, "Commands", end to end: the real program between a real RabbitMQ and the simulator, stopped and killed while
//! commands are under way.

mod common;

use std::collections::BTreeSet;
use std::ops::Range;

use common::{Bed, Consumer, OpticProcess, Worker, broker};
use optic::simulator::Settings;
use serde_json::{Value, json};

/// Fewer than Discord takes of one connection in a minute: no test waits for that.
const COMMANDS: usize = 100;

/// A shard, a worker that asks for members, and who gets the chunks.
struct Commanding {
    bed: Bed,
    consumer: Consumer,
    worker: Worker,
    guild: String,
}

impl Commanding {
    /// Optic runs.
    async fn start() -> (Self, OpticProcess) {
        let url = broker();
        let bed = Bed::new(&url, Settings { guilds: 1, ..Bed::settings() })
            .with("DISCORD_EVENTS", "GUILD_CREATE,GUILD_MEMBERS_CHUNK")
            .with("DISCORD_INTENTS", "GUILDS");
        let events = ["GUILD_CREATE", "GUILD_MEMBERS_CHUNK"];
        let consumer = Consumer::start_in_one_queue(&url, &bed.group, &events).await;
        let optic = bed.optic();
        let guild = consumer.wait_for(1).await.remove(0);
        let guild: Value = serde_json::from_slice(&guild.body).expect("JSON");
        let guild = guild["id"].as_str().expect("an id").to_owned();
        let worker = Worker::connect(&url, &bed.group).await;
        (Self { bed, consumer, worker, guild }, optic)
    }

    /// Sends commands by guild, numbered.
    async fn send(&self, numbers: Range<usize>) {
        for number in numbers {
            let d = json!({"guild_id": self.guild, "query": "m", "limit": 1, "nonce": number.to_string()});
            let send = json!({"guild_id": self.guild, "packet": {"op": 8, "d": d}});
            self.worker.publish("SEND", &send.to_string()).await;
        }
    }

    /// Waits until so many commands were answered by Discord; all that were, in order.
    async fn answered(&self, least: usize) -> Vec<usize> {
        let read = |received: &Vec<common::Received>| -> Vec<usize> {
            let chunks = received.iter().filter(|message| message.routing_key == "GUILD_MEMBERS_CHUNK");
            let nonce = |body: &[u8]| serde_json::from_slice::<Value>(body).expect("JSON")["nonce"].clone();
            chunks.map(|chunk| nonce(&chunk.body).as_str().expect("ours").parse().expect("a number")).collect()
        };
        let enough =
            |received: &Vec<common::Received>| read(received).into_iter().collect::<BTreeSet<_>>().len() >= least;
        read(&self.consumer.wait_until(&format!("{least} answers"), enough).await)
    }

    async fn end(self, mut optic: OpticProcess) {
        optic.terminate().await;
        assert_eq!(optic.wait().await.code(), Some(0), "{}", optic.stderr().join("\n"));
        let stats = self.bed.gateway.stats();
        assert!(stats.mistakes.is_empty(), "{:?}", stats.mistakes);
        for key in ["0", "SEND", "REJECTED"] {
            assert_eq!(self.worker.take(key).await, None, "{key}");
        }
    }
}

#[tokio::test]
async fn a_restart_loses_and_doubles_no_command() {
    let (commanding, mut optic) = Commanding::start().await;
    commanding.send(0..30).await;
    // It stops in the midst of them.
    tokio::join!(optic.terminate(), commanding.send(30..COMMANDS));
    assert_eq!(optic.wait().await.code(), Some(0));
    let optic = commanding.bed.optic();
    assert_eq!(commanding.answered(COMMANDS).await, (0..COMMANDS).collect::<Vec<_>>());
    commanding.end(optic).await;
}

#[tokio::test]
async fn a_crash_loses_no_command() {
    let (commanding, mut optic) = Commanding::start().await;
    commanding.send(0..30).await;
    tokio::join!(optic.kill(), commanding.send(30..COMMANDS));
    let optic = commanding.bed.optic();
    let answered = commanding.answered(COMMANDS).await;
    assert_eq!(answered.iter().copied().collect::<BTreeSet<_>>(), (0..COMMANDS).collect());
    commanding.end(optic).await;
}
