//! How much of what clients dispatch waits for RabbitMQ, which may be away for long.

use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes at most; one message alone is always taken.
const MOST: usize = 64 << 20;

/// The bytes that wait.
#[derive(Debug, Default)]
pub(super) struct Backlog(AtomicUsize);

/// A place for some of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    backlog: &'a Backlog,
    bytes: usize,
}

impl Backlog {
    /// A place for so many; none when there is no room.
    pub(super) fn place(&self, bytes: usize) -> Option<Place<'_>> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let place = Place { backlog: self, bytes };
        (before == 0 || before.saturating_add(bytes) <= MOST).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.backlog.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_one_alone_and_for_several_below_the_bound() {
        let backlog = Backlog::default();
        let large = backlog.place(MOST + 1).expect("it is alone");
        assert!(backlog.place(1).is_none());
        drop(large);
        let half = backlog.place(MOST / 2).expect("room");
        let _other_half = backlog.place(MOST / 2).expect("room");
        assert!(backlog.place(1).is_none(), "and what was refused takes none");
        drop(half);
        assert!(backlog.place(MOST / 2).is_some());
    }
}
