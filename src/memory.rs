//! How the allocator keeps memory.

use std::future::pending;
use std::time::Duration;

/// From this size on a block is mapped by itself and goes back to the system when it is freed: the publisher's segments and
/// the buffers of large packets.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: libc::c_int = 128 * 1024;

/// How often what is free between blocks in use goes back to the system.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// Has large blocks returned to the system for good, and all threads allocate from one heap.
///
/// glibc begins so with large blocks, but raises its bound with the first that is freed; later ones then lie between what
/// lives as long as a shard, and the burst at the start stays with the process: 5 MiB of 26 with 65 shards. A heap for each
/// thread would do for threads that allocate much; there is one.
pub fn return_what_is_large() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: mallopt takes two plain numbers and is called before any other thread is there. That it may refuse is
        // its only outcome, and costs nothing but memory.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Returns from time to time what lies free between blocks in use: a shard's start needs twice what it keeps. Never ends.
pub async fn keep_tidy() {
    if cfg!(not(all(target_os = "linux", target_env = "gnu"))) {
        return pending().await;
    }
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: malloc_trim takes a number, may be called at any time by any thread, and touches no block in use.
        unsafe {
            libc::malloc_trim(0)
        };
    }
}
