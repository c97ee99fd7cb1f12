//! Optic runs Discord gateway shards and hands their events to RabbitMQ, none lost.
//!
//! In the order of an event's way:
//!
//! - [`discord`]: the gateway's protocol, from the socket to the shard's driver; [`ledger`]: what is committed
//! - [`broker`], [`session_store`]: the seams between shards and whatever carries their events and keeps their sessions
//! - [`spectacles`] over [`amqp`], or [`stdio`]: what carries them
//! - [`singyeong`] over the same [`amqp`]: websocket clients on the same exchange, their values by [`encoding`]
//! - [`forwarding`]: events to those clients, or to another such server's, by rules
//! - [`amybot`] over the same [`amqp`]: services that run shards of their own, and their messages to each other
//! - [`service`]: every task, and who waits for it; [`config`], [`logging`] and [`http`] (health) go with it
//! - [`simulator`]: a Discord gateway for tests, demos and work offline
//!
//! The arrows of spec/README.md run downward only: `amqp`, `stdio` and `http` know the core, the core knows none of them.
#![deny(missing_docs)]

// The core: from Discord's socket to the seam.
pub mod broker;
pub mod discord;
pub mod ledger;
pub mod session_store;

// Many processes, and which shards each of them runs.
pub mod cluster;

// Values in every encoding, and websocket clients on the same exchange.
pub mod encoding;
pub mod forwarding;
pub mod singyeong;
pub mod websocket;

// Services with shards of their own, and messages between them.
pub mod amybot;

// What carries events and keeps sessions: RabbitMQ, or standard output.
pub mod amqp;
pub mod spectacles;
pub mod stdio;

// What can be seen of it.
pub mod seen;

// All of it at work, and what it takes.
pub mod config;
pub mod http;
pub mod logging;
pub mod service;

// Used by all.
pub mod clock;
pub mod passwords;
pub mod secret;
pub mod tls;

// A Discord of one's own.
pub mod simulator;

/// How Optic names itself to servers.
pub const USER_AGENT: &str =
    concat!("DiscordBot (https://crates.io/crates/optic-gateway, ", env!("CARGO_PKG_VERSION"), ")");
