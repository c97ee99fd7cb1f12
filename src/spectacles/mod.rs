//! The Spectacles layout on RabbitMQ: Discord's events out under their names, workers' commands in. Knows AMQP and the core.
//!
//! ```text
//! G:SEND ─► reroute ─► G:<n> ─► sends ─► the shard's driver
//!             └──► post: set aside ◄──┘└─► answers
//! ```

pub mod answers;
pub mod demand;
mod dialect;
pub mod events;
mod forward_id;
pub mod leftovers;
pub mod post;
pub mod reroute;
pub mod route;
pub mod sends;
pub mod tally;
