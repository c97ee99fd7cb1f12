//! Optic runs Discord gateway shards and hands their events to RabbitMQ, none lost.
//!
//! The arrows of spec/README.md run downward only: `amqp`, `stdio` and `http` know the core, the core knows none of them.
#![deny(missing_docs)]

pub mod amqp;
pub mod broker;
pub mod clock;
pub mod config;
pub mod discord;
pub mod http;
pub mod ledger;
pub mod logging;
pub mod secret;
pub mod service;
pub mod session_store;
pub mod simulator;
pub mod spectacles;
pub mod stdio;
pub mod tls;

/// How Optic names itself to servers.
pub const USER_AGENT: &str =
    concat!("DiscordBot (https://crates.io/crates/optic-gateway, ", env!("CARGO_PKG_VERSION"), ")");
