//! Sessions in a folder, one JSON file a shard: for a machine without RabbitMQ.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{SessionStore, StoreError, StoreFuture, StoredSession};
use crate::discord::ids::ShardId;

/// The session store in a folder. Files are written beside their place and moved there: a crash leaves the former one.
#[derive(Clone, Debug)]
pub struct FileSessionStore {
    folder: PathBuf,
}

impl FileSessionStore {
    /// The sessions in this folder; it is made when something is saved.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path(&self, shard: ShardId) -> PathBuf {
        self.folder.join(format!("session-{shard}.json"))
    }
}

impl SessionStore for FileSessionStore {
    fn load(&self, shard: ShardId) -> StoreFuture<'_, Option<StoredSession>> {
        let path = self.path(shard);
        Box::pin(async move {
            match off_thread(&path, |path| fs::read(path)).await {
                Ok(text) => StoredSession::from_json(shard, &text).map(Some),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(unreachable(&path, &error)),
            }
        })
    }

    fn save(&self, record: StoredSession) -> StoreFuture<'_, ()> {
        let path = self.path(record.shard_id);
        Box::pin(async move {
            let text = record.to_json();
            off_thread(&path, move |path| replace(path, &text)).await.map_err(|error| unreachable(&path, &error))
        })
    }

    fn remove(&self, shard: ShardId) -> StoreFuture<'_, ()> {
        let path = self.path(shard);
        Box::pin(async move {
            match off_thread(&path, |path| fs::remove_file(path)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unreachable(&path, &error)),
                _ => Ok(()),
            }
        })
    }
}

/// Writes a file as a whole or not at all, and waits until the disk has it.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("json.new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name too is on the disk only when the folder is.
    File::open(folder)?.sync_all()
}

/// Disks make the thread wait that runs all shards: so it is another's work.
async fn off_thread<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || work(&path)).await.unwrap_or_else(|died| Err(io::Error::other(died)))
}

fn unreachable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unreachable(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[tokio::test]
    async fn a_record_is_read_as_it_was_saved_and_the_newest_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = FileSessionStore::new(folder.path().join("not/yet/there"));
        assert_eq!(store.load(ShardId::new(3)).await.expect("no file is no error"), None);
        store.save(record(3, 10)).await.expect("saved");
        store.save(record(3, 11)).await.expect("saved");
        store.save(record(4, 5)).await.expect("saved");
        assert_eq!(store.load(ShardId::new(3)).await.expect("read"), Some(record(3, 11)));
        let again = FileSessionStore::new(folder.path().join("not/yet/there"));
        assert_eq!(again.load(ShardId::new(4)).await.expect("read"), Some(record(4, 5)));
        for _ in 0..2 {
            again.remove(ShardId::new(4)).await.expect("removed");
            assert_eq!(again.load(ShardId::new(4)).await.expect("no file is no error"), None);
        }
    }

    #[tokio::test]
    async fn a_write_that_was_cut_short_leaves_the_former_record() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = FileSessionStore::new(folder.path());
        store.save(record(0, 10)).await.expect("saved");
        fs::write(folder.path().join("session-0.json.new"), b"{\"version\":").expect("written");
        assert_eq!(store.load(ShardId::new(0)).await.expect("read"), Some(record(0, 10)));
        store.save(record(0, 12)).await.expect("saved");
        assert_eq!(store.load(ShardId::new(0)).await.expect("read"), Some(record(0, 12)));
    }

    #[tokio::test]
    async fn what_cannot_be_read_or_written_names_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = FileSessionStore::new(folder.path());
        fs::write(folder.path().join("session-1.json"), b"not JSON").expect("written");
        let error = store.load(ShardId::new(1)).await.expect_err("not JSON");
        assert!(matches!(error, StoreError::Unreadable { shard, .. } if shard == ShardId::new(1)), "{error}");

        let under_a_file = FileSessionStore::new(folder.path().join("session-1.json"));
        let error = under_a_file.save(record(1, 1)).await.expect_err("a file is no folder");
        assert!(error.to_string().contains("session-1.json"), "{error}");
    }
}
