//! Who runs which shard: what processes of one bot tell each other, what each then does, and the fence that keeps one that
//! lost its leases from publishing. Spec: spec/cluster.md.
//!
//! Knows no broker: leases, announcements and the record of the cluster are carried by [`crate::amqp`].
//!
//! - [`agreement`]: how many shards there are, before a process joins; [`change`] tells those that run of another count
//! - [`member`]: one process among the others, from hello to goodbye; [`announcement`] is what it says, [`plan`] who
//!   is to have what
//! - [`fence`]: what keeps a process without leases from publishing

pub mod agreement;
pub mod announcement;
pub mod change;
pub mod fence;
pub mod member;
pub mod node;
pub mod plan;
pub mod ranges;
