//! 신경: a websocket server whose clients join the exchange that AMQP workers use (spec/singyeong.md).
//!
//! ```text
//! server ── session ── packet          a client's connection, its protocol, its packets
//!    │
//!    ├─ hub ── registry ── query       who is connected, here and to other processes; who is meant
//!    │   ├─ replica                    what processes tell each other of their clients
//!    │   └─ lookup                     who there is, for people who look
//!    └─ exchange                       what leaves for RabbitMQ:
//!        ├─ router                     SEND, BROADCAST and other dispatches, to the clients they are for
//!        └─ queues                     QUEUE, and who receives what is in queues
//!
//! outbound                              ourselves as a client, of another such server
//! ```

pub mod client;
pub mod close_code;
mod command;
pub mod exchange;
pub mod hub;
pub mod ids;
pub mod limits;
pub mod lookup;
pub mod metadata;
pub mod news;
pub mod outbound;
pub mod outbox;
pub mod packet;
pub mod query;
pub mod queues;
pub mod registry;
pub mod replica;
pub mod rest;
pub mod router;
pub mod server;
pub mod session;
mod waiting;
