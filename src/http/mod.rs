//! The small HTTP server that orchestrators ask whether the service lives and is ready.
//!
//! Knows nothing of the service: it asks a [`Health`].

mod health;
mod server;

pub use health::{Health, ShardHealth, Snapshot};
pub use server::{BindError, Server};
