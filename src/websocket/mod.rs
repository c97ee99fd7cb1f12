//! What is served by websocket, whoever it is for: one or more endpoints on one address.
//!
//! ```text
//! server ── doors      connections, and who waits to say what it wants
//!    └─ http           the handshake, and the way to the endpoint of a path
//! frames, socket       what an endpoint reads and writes then
//! ```
//!
//! Knows neither packets nor messages: what they mean is an endpoint's business.

mod doors;
pub mod frames;
pub mod http;
mod server;
pub mod socket;

pub use server::{BindError, Listener};
