//! A Discord gateway on one's own machine: for tests, demos, benchmarks, and for bots that are made offline.
//!
//! Strict where Discord is strict, and made to misbehave by its control interface. docs/simulator.md is its page.
//!
//! ```text
//! server        HTTP and upgrades ── connection × n   drivers: sockets and timers
//! ├─ control    misbehave, start, stop, show
//! └─ pacer      events at a rate
//! world         sessions, limits, counts (one lock)
//! ├─ protocol   what a packet deserves     ├─ session   what a resume gets
//! ├─ traffic    which event comes when     ├─ template  an event's bytes
//! ├─ shards     who is connected, and dark ├─ received  what clients sent
//! └─ terms      packets in ETF
//! ```
//!
//! Knows nothing of Optic's own client, broker or configuration.

mod compress;
mod config;
mod connection;
mod control;
mod limits;
mod payloads;
mod protocol;
mod received;
mod server;
mod session;
mod shards;
mod stats;
mod template;
mod terms;
mod traffic;
mod websocket;
mod world;

pub use config::{Mix, MixError, Settings, Start};
pub use control::ControlError;
pub use server::{CommandView, Handle, Simulator};
pub use session::SessionView;
pub use shards::ShardView;
pub use stats::Stats;
