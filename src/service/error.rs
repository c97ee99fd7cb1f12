//! Why the service ended.

use std::io;

use tokio::task::JoinError;

use crate::amqp::error::AdminError;
use crate::config::NoSuchShard;
use crate::discord::gateway_url::InvalidGatewayUrl;
use crate::discord::rest::RestError;
use crate::discord::session::End;
use crate::http::BindError;
use crate::websocket;

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The address for health, or that for metrics, cannot be listened on.
    #[error(transparent)]
    Http(#[from] BindError),
    /// An address for websockets cannot be listened on.
    #[error(transparent)]
    Websocket(#[from] websocket::BindError),
    /// What is forwarded would have nowhere to go.
    #[error("the queue of forwarded events cannot be declared: {0}")]
    Forwarding(AdminError),
    /// Something about RabbitMQ's address is wrong.
    #[error("AMQP_URL: {0}")]
    Address(String),
    /// Discord does not tell where its gateway is.
    #[error(transparent)]
    Discord(#[from] RestError),
    /// What Discord told is no address.
    #[error("Discord's answer: {0}")]
    GatewayUrl(#[from] InvalidGatewayUrl),
    /// The shards asked for are not there.
    #[error(transparent)]
    Shards(#[from] NoSuchShard),
    /// No shard is left. Each one's end was told.
    #[error("no shard can run: {0}")]
    NoShardLeft(End),
    /// Nobody reads the events any more.
    #[error("standard output cannot be written to: {0}")]
    Output(io::Error),
    /// A task panicked: a bug.
    #[error("a part of Optic failed: {0}")]
    Failed(JoinError),
}
