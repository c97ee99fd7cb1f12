//! amybot messages: services that find each other through Optic, and shards for those that run their own (spec/amybot.md).

pub mod answer;
pub mod bridge;
pub mod coordinator;
pub mod internal;
pub mod member;
pub mod message;
pub mod office;
pub mod optics;
pub mod pool;
mod post;
pub mod proxy;
pub mod server;
pub mod teller;
