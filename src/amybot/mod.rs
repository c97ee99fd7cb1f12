//! amybot messages: services that find each other through Optic, and shards for those that run their own (spec/amybot.md).

pub mod answer;
pub mod internal;
pub mod message;
