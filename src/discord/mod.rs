//! Discord's gateway as a client: tables, the session's state machine, and the driver that owns the socket.
//!
//! [`connect`], [`rest`], [`gateway`], [`identify_gate`] and [`shard`] do I/O and wait; all else is sans-I/O. Nothing here knows RabbitMQ.

pub mod backoff;
pub mod close_code;
pub mod command;
pub mod commands;
pub mod compression;
pub mod connect;
pub mod envelope;
pub mod events;
pub mod gateway;
pub mod gateway_url;
pub mod identify_gate;
pub mod identify_queue;
pub mod ids;
pub mod inflate;
pub mod intents;
pub mod lately;
pub mod opcode;
pub mod payload;
pub mod rest;
pub mod rest_types;
pub mod send_limit;
pub mod session;
pub mod shard;
pub mod turnstile;
pub mod websocket;
pub mod wire;

/// The reference tables that ours are held against.
#[cfg(test)]
pub(crate) fn reference() -> serde_json::Value {
    serde_json::from_str(include_str!("../../tests/data/discord-gateway.json")).expect("the tables are JSON")
}
