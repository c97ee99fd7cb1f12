//! Discord's gateway as a client: tables, the session's state machine, and the driver that owns the socket.
//!
//! Everything but [`shard`](self) drivers is sans-I/O. Nothing here knows RabbitMQ.

pub mod backoff;
pub mod close_code;
pub mod command;
pub mod events;
pub mod gateway_url;
pub mod identify_queue;
pub mod ids;
pub mod intents;
pub mod opcode;
pub mod payload;
pub mod rest_types;
pub mod send_limit;
pub mod session;

/// The reference tables that ours are held against.
#[cfg(test)]
pub(crate) fn reference() -> serde_json::Value {
    serde_json::from_str(include_str!("../../tests/data/discord-gateway.json")).expect("the tables are JSON")
}
