//! The Spectacles layout on RabbitMQ: Discord's events out under their names. Knows AMQP and the core, no shard.

pub mod demand;
pub mod events;
