//! RabbitMQ: where it is, the connection that publishes events, and everything else over lapin.
//!
//! lapin's types end here: what leaves this folder is our own.

pub mod address;
pub mod admin;
pub mod bus;
pub mod consumer;
pub mod delivery;
pub mod depths;
pub mod error;
pub mod identify_gate;
pub mod leases;
pub mod leftover;
pub mod messenger;
pub mod publisher;
pub mod record;
pub mod replies;
pub mod seat;
pub mod session_store;
pub mod standing;
mod stored;
pub mod survey;
pub mod tail;
pub mod taker;
pub mod topology;
