//! The Spectacles layout on RabbitMQ: Discord's events out under their names, workers' commands in. Knows AMQP and the core,
//! no shard's driver.

pub mod demand;
pub mod events;
pub mod route;
