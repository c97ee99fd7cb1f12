//! What an end-to-end test lies in: a simulated Discord, a group of its own at RabbitMQ, and Optic between them.

use optic::simulator::{Mix, Settings};

use super::{Consumer, Gateway, OpticProcess, Received, unique_group};

/// The events that [`Bed::settings`] sends, with those of every session.
const EVENTS: [&str; 7] =
    ["READY", "RESUMED", "GUILD_CREATE", "MESSAGE_CREATE", "TYPING_START", "MESSAGE_REACTION_ADD", "OPTIC_GAP"];

/// A simulated Discord, and how Optic is started for it.
pub struct Bed {
    pub gateway: Gateway,
    pub group: String,
    pub environment: Vec<(String, String)>,
}

impl Bed {
    /// A quiet Discord, one shard of two guilds, and events that tests can tell apart.
    pub fn settings() -> Settings {
        Settings {
            guilds: 2,
            mix: "MESSAGE_CREATE=3,TYPING_START=2,MESSAGE_REACTION_ADD=1".parse::<Mix>().expect("a mix"),
            replay_events: 1_000_000,
            ..Settings::default()
        }
    }

    /// Starts the simulator; Optic is to publish to this RabbitMQ.
    pub fn new(amqp_url: &str, settings: Settings) -> Self {
        let gateway = Gateway::start(settings);
        let group = unique_group();
        let host = gateway.address().to_string();
        let bed = Self { gateway, group: group.clone(), environment: Vec::new() };
        bed.with("DISCORD_TOKEN", "hunter2.test.token")
            .with("DISCORD_API_PROTOCOL", "http")
            .with("DISCORD_API_HOST", &host)
            .with("AMQP_URL", amqp_url)
            .with("BROKER_GROUP", &group)
            .with("DISCORD_EVENTS", &EVENTS.join(","))
            // What the log warns of would only be about what is listed for the consumer's sake.
            .with(
                "DISCORD_INTENTS",
                "GUILDS,GUILD_MESSAGES,GUILD_MESSAGE_REACTIONS,GUILD_MESSAGE_TYPING,DIRECT_MESSAGES",
            )
            .with("HTTP_ADDRESS", "127.0.0.1:0")
    }

    /// With this variable; an empty value counts as not set.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts Optic.
    pub fn optic(&self) -> OpticProcess {
        self.optic_with(&[])
    }

    /// Starts Optic with these variables besides; they go before the bed's.
    pub fn optic_with(&self, variables: &[(&str, &str)]) -> OpticProcess {
        let own = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let environment: Vec<_> = own.chain(variables.iter().copied()).collect();
        OpticProcess::spawn(&["run"], &environment)
    }

    /// A worker that has all events of the mix in one queue.
    pub async fn consumer(&self, amqp_url: &str) -> Consumer {
        Consumer::start_in_one_queue(amqp_url, &self.group, &EVENTS).await
    }

    /// `GET path` of Optic's health: the status and the body.
    pub async fn health(optic: &OpticProcess, path: &str) -> (u16, String) {
        let line = optic.wait_for_line("health is served").await;
        let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        Self::get(address.expect("the line has it"), path).await
    }

    /// `GET path` of whoever is there: the status and the body.
    pub async fn get(address: &str, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: optic\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        super::must("an answer", stream.read_to_string(&mut answer)).await.expect("text");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
    }

    /// Waits until readiness is as wanted, and gives the body.
    pub async fn health_until(optic: &OpticProcess, what: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
        super::must(what, async {
            loop {
                let (status, body) = Self::health(optic, "/health/ready").await;
                if wanted(status, &body) {
                    return body;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await
    }
}

impl Received {
    /// Whether it is the notice of a gap.
    pub fn is_gap(&self) -> bool {
        self.routing_key == "OPTIC_GAP"
    }
}
