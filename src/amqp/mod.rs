//! RabbitMQ: where it is, and the connection that publishes events.

pub mod address;
pub mod publisher;
