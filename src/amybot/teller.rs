//! Tells the coordinator of amybot's services, in whatever process it is, what this process runs itself.
//!
//! Told again and again: a coordinator that nobody has told of a process for long takes it for gone.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::internal::{Internal, KEY};
use super::optics::Runs;
use crate::amqp::admin::Admin;
use crate::amqp::delivery::Properties;
use crate::amqp::messenger::{Message, Messenger, PublishError};
use crate::cluster::node::NodeId;
use crate::discord::identify_gate::IdentifyGate;

/// How often it is told.
const AGAIN: Duration = Duration::from_secs(30);
/// After a failure.
const RETRY: Duration = Duration::from_secs(2);
/// Where nobody coordinates, it is told anew before this one would be read; in milliseconds.
const EXPIRES: &str = "60000";

/// See the module.
#[derive(Debug)]
pub struct Teller {
    node: NodeId,
    group: String,
    messenger: Messenger,
    runs: watch::Receiver<Runs>,
    gate: Option<IdentifyGate>,
}

impl Teller {
    /// Tells of this process, what is in there. How many may identify at a time is asked the gate, if there is one.
    pub fn new(
        node: NodeId,
        group: &str,
        administration: Admin,
        runs: watch::Receiver<Runs>,
        gate: Option<IdentifyGate>,
    ) -> Self {
        Self { node, group: group.to_owned(), messenger: Messenger::with_lanes(administration, 1), runs, gate }
    }

    /// Tells until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let telling = async {
            loop {
                let pause = match self.tell().await {
                    // Nobody ever coordinated here, and nobody has to know.
                    Ok(()) | Err(PublishError::Unroutable { .. }) => AGAIN,
                    Err(error) => {
                        debug!(%error, "what runs here is not told yet");
                        RETRY
                    }
                };
                if let Ok(Err(_)) = timeout(pause, self.runs.changed()).await {
                    // Who told has gone; what it told stays.
                    sleep(pause).await;
                }
            }
        };
        stop.run_until_cancelled(telling).await;
    }

    async fn tell(&mut self) -> Result<(), PublishError> {
        let mut runs = self.runs.borrow_and_update().clone();
        if let Some(gate) = &self.gate {
            runs.max_concurrency = Some(gate.max_concurrency());
        }
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            expiration: Some(EXPIRES.to_owned()),
            ..Properties::default()
        };
        let body = Internal::Runs(self.node.clone(), runs).to_json();
        let (exchange, properties) = (self.group.as_str(), &properties);
        let message = Message { exchange, key: KEY, mandatory: true, persistent: false, properties, body: &body };
        self.messenger.publish(0, &message).await
    }
}
