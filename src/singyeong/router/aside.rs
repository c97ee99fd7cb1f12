//! What nobody can do anything with is set aside, and who asked is answered: as with commands (spec/amqp.md).

use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::Shared;
use super::arrivals::Verdict;
use super::mail::{self, Letter, Undone};
use crate::amqp::delivery::{Delivery, From, Properties};
use crate::amqp::messenger::brief;
use crate::amqp::topology::{Queue, is_ours};
use crate::encoding::convert::{Taking, convert};
use crate::encoding::{Dialect, Encoding};

/// The key under which it is set aside.
const REJECTED: &str = "REJECTED";
/// As much of a body is kept: enough for whoever looks for the mistake.
const KEPT: usize = 64 << 10;
/// How long an answer is tried: its asker waits some seconds.
const PATIENCE: Duration = Duration::from_secs(10);

impl Shared {
    /// Publishes a delivery to where those are that cannot be delivered.
    pub(super) async fn set_aside(&self, kind: &str, reason: &str, delivery: &Delivery) -> Result<Verdict, Undone> {
        let (Delivery { from, body, properties, .. }, reason) = (delivery, brief(reason));
        let source = match from {
            From::Queue(queue) => queue.to_string(),
            From::Shard(shard) => shard.to_string(),
        };
        let plain = Properties {
            content_type: properties.content_type.clone(),
            correlation_id: properties.correlation_id.clone(),
            message_id: properties.message_id.clone(),
            ..Properties::default()
        };
        let headers = [
            ("x-optic-reason", reason.to_owned()),
            ("x-optic-kind", kind.to_owned()),
            ("x-optic-source", source.clone()),
        ];
        let mut aside = mail::with_headers(plain, headers);
        if body.len() > KEPT {
            aside.headers.insert("x-optic-bytes".to_owned(), body.len().to_string());
        }
        let letter = Letter { properties: &aside, body: &body[..body.len().min(KEPT)] };
        let (lane, queue) = (mail::lane_of(REJECTED), Queue::rejected(&self.group));
        self.mail.to_queue(lane, REJECTED, &queue, letter, || delivery.is_held()).await?;
        if let Some(more) = self.count_aside() {
            warn!(queue = %source, %kind, %reason, more, "a message between clients is set aside in {}", queue.name());
        }
        Ok(Verdict::Failed(reason.to_owned()))
    }

    /// Answers whoever sent a message with these properties in this dialect, if an answer was asked for.
    pub(super) async fn answer(&self, asked: &Properties, dialect: Dialect, verdict: &Verdict) {
        let Some(to) = asked.reply_to.as_deref() else { return };
        let body = match verdict {
            Verdict::Elsewhere => return,
            Verdict::Done => serde_json::json!({"ok": true}),
            Verdict::Failed(error) => serde_json::json!({"ok": false, "error": error}),
        };
        // The default exchange would take it into any queue: a stored session, say, would be an answer then.
        if is_ours(&self.group, to) {
            return debug!(reply_to = %to, "an answer is not given: its \"reply_to\" is a queue of Optic's own");
        }
        let properties =
            Properties { correlation_id: asked.correlation_id.clone(), ..mail::of_type(dialect.content_type()) };
        let (since, json) = (Instant::now(), body.to_string());
        let mut body = Vec::new();
        convert(Encoding::Json, json.as_bytes(), dialect, Taking::EXACT, &mut body).expect("it is JSON");
        let letter = Letter { properties: &properties, body: &body };
        let answered = self.mail.to_asker(to, letter, || since.elapsed() < PATIENCE).await;
        if let Err(undone) = answered {
            debug!(reply_to = %to, ?undone, "an answer is dropped");
        }
    }
}
