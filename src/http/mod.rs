//! The small HTTP server that orchestrators ask whether the service lives and is ready, and its owners for more.
//!
//! ```text
//! server ── site         connections, and what is at which path
//!  patient   ├─ health   asks a [`Health`]
//!            ├─ metrics  ask a [`Reporter`](crate::seen::Reporter)
//!            ├─ admin    asks a [`Services`]
//!            └─ page     asks a [`Lookout`]
//!               readers  who may
//! ```
//!
//! Knows nothing of the service's inside.

mod admin;
mod answer;
mod health;
mod lookout;
pub mod metrics;
pub mod page;
mod patient;
mod readers;
mod server;
mod site;

pub use admin::{Admin, Services};
pub use health::{Health, ShardHealth, Snapshot};
pub use lookout::{ClientsError, Lookout};
pub use page::Page;
pub use readers::Readers;
pub use server::{BindError, Server};
pub use site::{METRICS_PATH, Site};
