//! How the allocator treats large blocks.

/// From this size on a block is mapped by itself and goes back to the system when it is freed: the publisher's segments and
/// the buffers of large packets.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: libc::c_int = 128 * 1024;

/// Has large blocks returned to the system for good.
///
/// glibc begins so, but raises its bound with the first large block that is freed; later ones then lie between what lives as
/// long as a shard, and the burst at the start stays with the process: 5 MiB of 26 with 65 shards.
pub fn return_what_is_large() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: mallopt takes two plain numbers and is called before any other thread is there. That it may refuse is
        // its only outcome, and costs nothing but memory.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM) };
    }
}
