//! RabbitMQ: names and topology, administration and consumers over lapin.
//!
//! lapin's types end here: what leaves this folder is our own.

pub mod admin;
pub mod error;
pub mod session_store;
pub mod tail;
pub mod topology;
