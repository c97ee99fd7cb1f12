//! What a shard received and sent, counted: a table of numbers, without a name, a lock or an allocation.
//!
//! One writer a shard, its driver; whoever reads may read while it writes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::names::{self, NameId};
use crate::discord::opcode::Opcode;

const OPCODES: usize = Opcode::ALL.len();

/// A count with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one. Not an atomic addition: nobody else writes, and this is on the way of every event.
    pub(super) fn add(&self) {
        self.0.store(self.get() + 1, Ordering::Relaxed);
    }

    /// So many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The table: some 1,300 bytes.
#[derive(Debug)]
pub struct Packets {
    /// Dispatches, by name.
    dispatches: [Count; names::COUNT],
    /// What else was received, by opcode; opcodes that Discord does not have for bots are not counted.
    received: [Count; OPCODES],
    sent: [Count; OPCODES],
}

impl Default for Packets {
    fn default() -> Self {
        let counts = || std::array::from_fn(|_| Count::default());
        Self { dispatches: std::array::from_fn(|_| Count::default()), received: counts(), sent: counts() }
    }
}

impl Packets {
    /// A dispatch came.
    pub(super) fn dispatch(&self, name: &str) {
        self.dispatches[NameId::of(name).index()].add();
    }

    /// A packet came that is no dispatch.
    pub(super) fn received(&self, op: u64) {
        count(&self.received, op);
    }

    /// A packet is on its way to Discord.
    pub(super) fn sent(&self, op: u64) {
        count(&self.sent, op);
    }

    /// How many dispatches came, over all names.
    pub fn total(&self) -> u64 {
        self.dispatches.iter().map(Count::get).sum()
    }

    /// How many dispatches came by this name.
    pub fn dispatches(&self, name: NameId) -> u64 {
        self.dispatches[name.index()].get()
    }

    /// How many packets of this opcode were sent.
    pub fn sent_of(&self, op: Opcode) -> u64 {
        Opcode::ALL.iter().zip(&self.sent).find(|(other, _)| **other == op).map_or(0, |(_, count)| count.get())
    }

    /// All that came: opcode, name, how many. What did not come is left out.
    pub fn all_received(&self) -> impl Iterator<Item = (u8, Option<NameId>, u64)> {
        let dispatches = NameId::all().map(|name| (Opcode::Dispatch.code(), Some(name), self.dispatches(name)));
        let others = each(&self.received).map(|(op, count)| (op, None, count));
        dispatches.chain(others).filter(|(.., count)| *count > 0)
    }

    /// All that was sent: opcode, how many.
    pub fn all_sent(&self) -> impl Iterator<Item = (u8, u64)> {
        each(&self.sent).filter(|(_, count)| *count > 0)
    }
}

fn count(counts: &[Count; OPCODES], op: u64) {
    if let Some(at) = Opcode::ALL.iter().position(|known| u64::from(known.code()) == op) {
        counts[at].add();
    }
}

fn each(counts: &[Count; OPCODES]) -> impl Iterator<Item = (u8, u64)> {
    Opcode::ALL.iter().map(|op| op.code()).zip(counts.iter().map(Count::get))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_counted_by_opcode_and_name() {
        let packets = Packets::default();
        for name in ["READY", "GUILD_CREATE", "GUILD_CREATE"] {
            packets.dispatch(name);
        }
        for op in [10, 11, 11, 99] {
            packets.received(op);
        }
        for op in [2, 43] {
            packets.sent(op);
        }
        let received: Vec<_> = packets
            .all_received()
            .map(|(op, name, count)| (op, name.map(|name| name.name().to_string()), count))
            .collect();
        let named = |name: &str, count| (0, Some(name.to_owned()), count);
        assert_eq!(received, [named("READY", 1), named("GUILD_CREATE", 2), (10, None, 1), (11, None, 2)]);
        assert_eq!(packets.all_sent().collect::<Vec<_>>(), [(2, 1), (43, 1)]);
        assert_eq!((packets.total(), packets.sent_of(Opcode::Identify)), (3, 1));
    }

    #[test]
    fn a_table_is_small() {
        assert!(size_of::<Packets>() <= 1500, "{}", size_of::<Packets>());
    }
}
