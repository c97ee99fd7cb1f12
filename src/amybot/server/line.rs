//! The seam between services' connections and what carries their messages to the coordinator: RabbitMQ.

use futures_util::future::BoxFuture;

use super::outbox::Outbox;
use crate::amybot::internal::{Client, Internal};

/// What carries messages. Connections share one.
pub trait Line: Send + Sync + 'static {
    /// Gives a connection the name by which the coordinator reaches it, and its messages the way to `outbox`. Waits until there
    /// is such a name.
    fn join(&self, connection: u64, outbox: Outbox) -> BoxFuture<'static, Client>;

    /// Tells the coordinator something of a connection. Done when it is safe, however long that takes; what comes after it
    /// is to be told after that.
    fn tell(&self, connection: u64, what: Internal) -> BoxFuture<'static, ()>;

    /// Done when the coordinator cannot reach this client any more, and knows that it is gone.
    fn lost(&self, client: &Client) -> BoxFuture<'static, ()>;

    /// Nothing is for this connection any more.
    fn part(&self, connection: u64);
}
