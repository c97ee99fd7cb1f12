//! Optic as a client of another 신경 server (spec/forwarding.md, "To another server").
//!
//! ```text
//! dsn      where that server is, and who we are there
//! ```

pub mod dsn;

pub use self::dsn::{Dsn, DsnError};
