//! Forwarding: Discord's events to clients of 신경, by rules (spec/forwarding.md).
//!
//! ```text
//! forwarder             the shards' broker, that publishes for rules what it publishes for workers
//!    └─ rules ── template    what is forwarded, and to whom: compiled once
//! ```

pub mod forwarder;
mod json;
pub mod rules;
mod template;

pub use self::forwarder::{Destination, Forwarder};
pub use self::rules::{Kind, Rules, RulesError};
