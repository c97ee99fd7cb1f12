//! The page, and what it is made of.
//!
//! ```text
//! chart    the last half hour as pictures
//! ```

pub mod chart;
