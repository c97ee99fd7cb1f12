//! The names of 신경 in RabbitMQ (spec/singyeong.md, "In RabbitMQ"): applications are subgroups, their queues are events.

use std::borrow::Cow;

use lapin::types::{AMQPValue, FieldTable};

use super::{Binding, Queue, classic, is_shard, queue_name, short};
use crate::amqp::error::AdminError;
use crate::broker::GAP_EVENT;
use crate::cluster::node::NodeId;

/// The key, and behind the group the queue, of messages to one client.
pub const SEND: &str = "SINGYEONG_SEND";
/// The same of messages to all clients that match.
pub const BROADCAST: &str = "SINGYEONG_BROADCAST";

/// After so many milliseconds a process that takes nothing out of its own queue loses what is in it to the others.
const UNTAKEN: i32 = 5_000;
/// After so many milliseconds without a consumer the queue of a process is deleted.
const ABANDONED: i32 = 60_000;

/// Whether this key of the group's exchange is no event: what clients name so means something else there.
pub fn is_no_event(key: &str) -> bool {
    matches!(key, "SEND" | "REJECTED" | "gateway" | "gateway-proxy")
        || key.starts_with("SINGYEONG_")
        || key.starts_with("optic:")
        || is_shard(key)
}

/// Whether no client may publish under this key.
pub fn is_reserved(key: &str) -> bool {
    // Who receives gaps trusts that they are Optic's.
    is_no_event(key) || key == GAP_EVENT
}

/// An application as a subgroup: without colons, so that no two applications and queues share a name, and never `optic`, which
/// is ours.
pub fn subgroup(application: &str) -> Cow<'_, str> {
    if application == "optic" {
        return "%6Fptic".into();
    }
    if !application.contains(['%', ':']) {
        return application.into();
    }
    application.replace('%', "%25").replace(':', "%3A").into()
}

/// The key under which a message reaches the queue `queue` of an application alone: `A:q`.
pub fn queue_key(application: &str, queue: &str) -> String {
    format!("{}:{queue}", subgroup(application))
}

impl Queue {
    /// The queue `queue` of an application, `G:A:q`: bound to `A:q`, and to `q` where that is an event. Without arguments,
    /// for workers declare it too.
    ///
    /// # Errors
    /// [`AdminError::NameTooLong`].
    pub fn of_application(group: &str, application: &str, queue: &str) -> Result<Self, AdminError> {
        let name = queue_name(group, Some(&subgroup(application)), queue);
        short(&name)?;
        let mut keys = vec![queue_key(application, queue)];
        // With a colon it would be the key of another application's queue.
        if !is_no_event(queue) && !queue.contains(':') {
            keys.push(queue.to_owned());
        }
        let binding = Some(Binding { exchange: group.to_owned(), keys });
        Ok(Self { name, binding, arguments: FieldTable::default() })
    }

    /// The queue `queue` of no application, `G:optic:queue.<q>`: bound to nothing.
    ///
    /// # Errors
    /// [`AdminError::NameTooLong`].
    pub fn of_no_application(group: &str, queue: &str) -> Result<Self, AdminError> {
        let name = format!("{group}:optic:queue.{queue}");
        short(&name)?;
        Ok(Self { name, binding: None, arguments: FieldTable::default() })
    }

    /// Messages to one client, `G:SINGYEONG_SEND`. Without arguments, for workers may declare it too.
    pub fn singyeong_send(group: &str) -> Self {
        Self::shared(group, SEND)
    }

    /// Messages to all clients that match, `G:SINGYEONG_BROADCAST`. Without arguments, for workers may declare it too.
    pub fn singyeong_broadcast(group: &str) -> Self {
        Self::shared(group, BROADCAST)
    }

    /// What other processes have for clients of this one, `G:optic:singyeong.<node>`. What it does not take in time goes back to
    /// [`SEND`], for whoever is there.
    pub fn singyeong(group: &str, node: &NodeId) -> Self {
        let mut arguments = FieldTable::default();
        arguments.insert("x-expires".into(), AMQPValue::LongInt(ABANDONED));
        arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(UNTAKEN));
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(group.into()));
        arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(SEND.into()));
        Self { name: format!("{group}:optic:singyeong.{node}"), binding: None, arguments: classic(arguments) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::amqp::topology::is_ours;

    fn keys(queue: &Queue) -> &[String] {
        queue.binding.as_ref().map_or(&[], |binding| &binding.keys)
    }

    #[test]
    fn a_queue_of_an_application_takes_the_event_and_what_is_for_it_alone() {
        let queue = Queue::of_application("g", "logs", "MESSAGE_CREATE").expect("short");
        assert_eq!(queue.name(), "g:logs:MESSAGE_CREATE");
        assert_eq!(keys(&queue), ["logs:MESSAGE_CREATE", "MESSAGE_CREATE"]);
    }

    #[test]
    fn what_is_no_event_comes_only_from_clients() {
        for name in ["7", "SEND", "REJECTED", "SINGYEONG_SEND", "gateway", "gateway-proxy", "optic:lock", "other:jobs"]
        {
            let queue = Queue::of_application("g", "logs", name).expect("short");
            assert_eq!(keys(&queue), [format!("logs:{name}")], "{name}");
        }
        let gaps = Queue::of_application("g", "logs", GAP_EVENT).expect("short");
        assert_eq!(keys(&gaps).len(), 2, "gaps are told to who wants them");
        assert!(is_reserved(GAP_EVENT) && is_reserved("7") && !is_reserved("jobs") && !is_reserved("logs:jobs"));
    }

    #[test]
    fn queues_of_no_application_are_out_of_workers_reach() {
        let queue = Queue::of_no_application("g", "jobs").expect("short");
        assert_eq!((queue.name(), keys(&queue)), ("g:optic:queue.jobs", &[][..]));
        assert!(is_ours("g", queue.name()));
    }

    #[test]
    fn what_a_process_does_not_take_goes_back() {
        let queue = Queue::singyeong("g", &NodeId::of_run("web-1", 1));
        assert_eq!(queue.name(), "g:optic:singyeong.web-1.00000001");
        let dead = queue.arguments.inner().get("x-dead-letter-routing-key");
        assert_eq!(dead, Some(&AMQPValue::LongString("SINGYEONG_SEND".into())));
        for ours in [queue, Queue::singyeong_send("g"), Queue::singyeong_broadcast("g")] {
            assert!(is_ours("g", ours.name()), "{}", ours.name());
        }
    }

    #[test]
    fn a_name_too_long_is_refused() {
        let fits = "x".repeat(255 - "g:a:".len());
        assert!(Queue::of_application("g", "a", &fits).is_ok());
        assert!(matches!(Queue::of_application("g", ":", &fits), Err(AdminError::NameTooLong(_))));
        assert!(matches!(Queue::of_no_application("g", &fits), Err(AdminError::NameTooLong(_))));
    }

    proptest! {
        #[test]
        fn no_two_queues_share_a_name(a in ("[ab:%o3A52]{0,4}|optic", "[ab:%o3A52]{0,4}|optic"),
                                      b in ("[ab:%o3A52]{0,4}|optic|%6Fptic", "[ab:%o3A52]{0,4}|optic")) {
            let name = |(application, queue): &(String, String)| {
                Queue::of_application("g", application, queue).expect("short").name().to_owned()
            };
            prop_assert_eq!(name(&a) == name(&b), a == b);
            prop_assert!(!name(&a).starts_with("g:optic:"));
        }
    }
}
