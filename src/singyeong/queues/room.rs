//! How many messages are kept here that no client has.

use std::collections::HashMap;

use super::Source;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// So many messages of one queue.
    pub of_one: usize,
    /// So many messages.
    pub messages: usize,
    /// So many bytes of messages; the last may be larger than what was left.
    pub bytes: usize,
}

/// What there is, and whether there is room for more.
#[derive(Debug)]
pub struct Room {
    most: Most,
    of_one: HashMap<Source, usize>,
    messages: usize,
    bytes: usize,
}

impl Room {
    /// With nothing in it.
    pub fn new(most: Most) -> Self {
        Self { most, of_one: HashMap::new(), messages: 0, bytes: 0 }
    }

    /// Whether there is room for one more of this queue.
    pub fn has_for(&self, source: &Source) -> bool {
        self.of_one.get(source).copied().unwrap_or(0) < self.most.of_one && self.has_for_any()
    }

    /// Puts one in, also where there is no room; whether there is room for messages of other queues is as before.
    #[must_use]
    pub fn enter(&mut self, source: &Source, bytes: usize) -> bool {
        let before = self.has_for_any();
        *self.of_one.entry(source.clone()).or_default() += 1;
        self.messages += 1;
        self.bytes += bytes;
        self.has_for_any() == before
    }

    /// The same for one that leaves.
    #[must_use]
    pub fn leave(&mut self, source: &Source, bytes: usize) -> bool {
        let before = self.has_for_any();
        let of_one = self.of_one.get_mut(source).expect("what leaves has entered");
        *of_one -= 1;
        if *of_one == 0 {
            self.of_one.remove(source);
        }
        self.messages -= 1;
        self.bytes -= bytes;
        self.has_for_any() == before
    }

    fn has_for_any(&self) -> bool {
        self.messages < self.most.messages && self.bytes < self.most.bytes
    }
}
