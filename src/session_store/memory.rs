//! Sessions that end with the process: a reconnect resumes, a restart identifies.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{SessionStore, StoreFuture, StoredSession};
use crate::discord::ids::ShardId;

/// The session store in memory.
#[derive(Debug, Default)]
pub struct MemorySessionStore {
    records: Mutex<HashMap<ShardId, StoredSession>>,
}

impl MemorySessionStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }
}

impl SessionStore for MemorySessionStore {
    fn load(&self, shard: ShardId) -> StoreFuture<'_, Option<StoredSession>> {
        let record = self.records.lock().unwrap_or_else(PoisonError::into_inner).get(&shard).cloned();
        Box::pin(std::future::ready(Ok(record)))
    }

    fn save(&self, record: StoredSession) -> StoreFuture<'_, ()> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).insert(record.shard_id, record);
        Box::pin(std::future::ready(Ok(())))
    }

    fn remove(&self, shard: ShardId) -> StoreFuture<'_, ()> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).remove(&shard);
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[tokio::test]
    async fn it_keeps_the_newest_record_of_each_shard() {
        let store = MemorySessionStore::new();
        assert_eq!(store.load(ShardId::new(0)).await.expect("never fails"), None);
        for saved in [record(0, 1), record(1, 9), record(0, 2)] {
            store.save(saved).await.expect("never fails");
        }
        assert_eq!(store.load(ShardId::new(0)).await.expect("never fails"), Some(record(0, 2)));
        assert_eq!(store.load(ShardId::new(1)).await.expect("never fails"), Some(record(1, 9)));
        store.remove(ShardId::new(1)).await.expect("never fails");
        assert_eq!(store.load(ShardId::new(1)).await.expect("never fails"), None);
    }
}
