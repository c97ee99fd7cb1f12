//! The seam between clients' connections and what carries their dispatches: RabbitMQ.

use std::future::Future;
use std::pin::Pin;

use super::ids::{ClientKey, ConnectionId};
use super::packet::dispatch::Dispatch;
use super::packet::outgoing::Outgoing;
use crate::cluster::node::NodeId;
use crate::encoding::Value;

/// A future behind a trait object.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Who dispatches, and with what.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Which client; never a restricted one.
    pub key: ClientKey,
    /// Its connection.
    pub connection: ConnectionId,
    /// The packet's `ts`, which is told back.
    pub ts: Value,
}

/// What carries dispatches. Connections share one.
pub trait Exchange: Send + Sync + 'static {
    /// Takes a dispatch; done when it is safe, or will never be. Gives what the sender is told at once: a confirm, a refusal,
    /// mostly nothing. Dispatches of one connection that are under way at the same time keep their order.
    ///
    /// Never asked for `UPDATE_METADATA` and `QUERY_NODES`, which need no exchange.
    fn dispatch(&self, sender: Sender, dispatch: Dispatch) -> Later<Option<Outgoing>>;

    /// A client's connection is gone, and its registration with it. Told again once its dispatches are done.
    fn gone(&self, key: &ClientKey, connection: ConnectionId);

    /// Asks another process whether this client of its own is healthy. False: it is not registered there any more.
    fn probe(&self, node: &NodeId, key: &ClientKey) -> Later<bool>;
}
