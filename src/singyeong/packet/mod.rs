//! Packets: what a client may say, and what the server says (spec/singyeong.md, "Packets").
//!
//! ```text
//! incoming ── identify      a frame, read: its op, and what is in it
//!         └── dispatch
//! outgoing ── refusal       what is said, in any encoding, and the errors that clients match on
//! ```

pub mod dispatch;
pub mod identify;
pub mod incoming;
pub mod outgoing;
pub mod refusal;

#[cfg(test)]
mod tests;
