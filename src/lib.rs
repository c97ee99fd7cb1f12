//! Optic runs Discord gateway shards and hands their events to RabbitMQ, none lost.
//!
//! The arrows of spec/README.md run downward only: `amqp`, `stdio` and `http` know the core, the core knows none of them.
#![deny(missing_docs)]

pub mod broker;
pub mod discord;
pub mod secret;
pub mod session_store;
pub mod simulator;
