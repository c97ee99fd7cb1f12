//! Who runs which shard: what processes of one bot tell each other, what each then does, and the fence that keeps one that
//! lost its leases from publishing. Spec: spec/cluster.md.
//!
//! Knows no broker: leases, announcements and the record of the cluster are carried by [`crate::amqp`].

pub mod fence;
pub mod node;
