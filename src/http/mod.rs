//! The small HTTP server that orchestrators ask whether the service lives and is ready, and its owners for more.
//!
//! ```text
//! server ── site        connections, and what is at which path
//!            ├─ health  asks a [`Health`]
//!            └─ admin   who knows the token asks a [`Services`]
//! ```
//!
//! Knows nothing of the service's inside.

mod admin;
mod answer;
mod health;
mod lookout;
pub mod metrics;
pub mod page;
mod server;
mod site;

pub use admin::{Admin, Services};
pub use health::{Health, ShardHealth, Snapshot};
pub use lookout::{ClientsError, Lookout};
pub use server::{BindError, Server};
pub use site::Site;
