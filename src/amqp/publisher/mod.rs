//! The publishing connection: a lean AMQP 0-9-1 client that can do one thing, publish with confirms, and does it cheaply.
//!
//! ```text
//! Publisher (handle) --push--> Outbox <--writable, confirm-- Link <-- Driver (connects, begins again)
//!                              codec      incoming, transport         handshake
//! ```
//!
//! [`outbox`], [`codec`], [`handshake`] and [`incoming`] are sans-I/O. One task, the [`Driver`]'s, owns the socket; shards
//! append to the outbox and wake it. spec/amqp.md, "Publishing", has the rules.
//!
//! # Wake-ups
//!
//! At the load bots really have, events come singly, and what costs is not framing but waking up and system calls. A broker
//! confirms each single event a moment later; a task woken for that would double the cost of the event. So confirms wake
//! nobody:
//!
//! - The socket is registered with the runtime for *writing* only. That is edge-triggered: bytes that arrive do not wake us.
//! - Confirms are read without being told of: after a write, when the last read is 20 ms ago or 64 were written since; and
//!   30 ms after the last read while any are outstanding, for when no further write comes. 1,000 events a second are
//!   1,000 writes and 50 reads.
//! - The socket is registered for reading, by a second descriptor, only while that is worth it: the window is half full,
//!   somebody waits for room or a flush, the broker is blocked or the socket full, or nothing was outstanding for a second.
//!   The last is how a close, a block or a heartbeat is noticed by an idle connection.
//!
//! In a flood it is the same the other way round: all that shards appended in a turn goes out in few large writes, and
//! confirms come many together.

pub mod codec;
mod connection;
pub mod error;
mod handle;
pub mod handshake;
pub mod incoming;
mod link;
pub mod outbox;
pub mod transport;

use crate::broker::Position;

pub use self::codec::publish::{Field, Message, Properties, Unpublishable};
pub use self::connection::{Driver, PublisherSettings};
pub use self::handle::{Counters, Publisher};
pub use self::outbox::{AbandonReason, Abandoned, Window};

/// What becomes of a message that no queue took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// It is settled: whoever wanted it would have a queue.
    Settled,
    /// It is written again, as one that was refused. Only for a message that is known by its message id.
    Again,
    /// It is given up. For such a message, too.
    GivenUp,
}

/// Who wants to know what became of single messages. Called by the driver, outside its lock; must not wait.
pub trait Observer: Send + Sync + 'static {
    /// No queue took a mandatory message with this routing key and this message id. It is confirmed all the same; this says what
    /// becomes of it then.
    fn returned(&self, routing_key: &str, message_id: Option<&str>) -> Returned;

    /// A message was given up for good. Where a notice of it was published: the message counts as settled with that, so that
    /// nobody passes a loss whose notice may still be lost, too. Without a notice it does so now.
    fn abandoned(&self, message: &Abandoned) -> Option<Position>;
}
