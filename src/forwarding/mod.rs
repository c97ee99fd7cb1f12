//! Forwarding: Discord's events to clients of 신경, by rules (spec/forwarding.md).
//!
//! ```text
//! rules ── template      what is forwarded, and to whom: compiled once
//! ```

pub mod rules;
mod template;

pub use self::rules::{Kind, Rules, RulesError};
