//! The publishing connection.

pub mod codec;
pub mod outbox;
