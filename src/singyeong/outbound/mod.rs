//! Optic as a client of another 신경 server (spec/forwarding.md, "To another server"): what is in `G:optic:forward` goes there,
//! and messages to us are commands.
//!
//! ```text
//! driver              connects, and again when the connection is lost
//! ├─ link             one connection: frames, and what waits for its acknowledgement
//! │  ├─ session       what is said and when; packet: how
//! │  ├─ window        what was sent and is not known to be taken
//! │  ├─ suspicion     which message the server does not take
//! │  ├─ body          what a message says
//! │  └─ aside         what can never be sent
//! └─ commands         what others ask of us, and its outcome
//! dsn                 where the server is, and who we are there
//! ```

mod aside;
mod body;
mod commands;
mod driver;
pub mod dsn;
mod link;
pub mod packet;
pub mod session;
mod suspicion;
mod window;

pub use self::driver::{Counters, Outbound, Settings, Watched};
pub use self::dsn::{Dsn, DsnError};
