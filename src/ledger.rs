//! The ledger of a shard's session: which sequence number is committed.
//!
//! Committed is the highest `s` below which every wanted event is settled at the broker. It is derived when somebody asks,
//! from the one position that the broker tells; no confirm is looked at by itself. Knows no broker and no socket.
//! Spec: spec/discord.md, "Three sequence numbers".

use std::collections::VecDeque;

use crate::broker::Position;
use crate::discord::ids::Seq;

/// What one session received, handed over and has settled.
#[derive(Debug)]
pub struct Ledger {
    /// The last number that was received. Events up to it are in the broker's hands, or nobody wanted them.
    received: Seq,
    committed: Seq,
    /// Events at the broker, in the order of both position and number.
    outstanding: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    position: Position,
    /// Committed once the position is settled: the event's own number, or that of a later event that nobody wanted.
    seq: Seq,
}

impl Ledger {
    /// The ledger of a session that is taken up after `committed`: [`Seq::ZERO`] for a new one.
    pub fn new(committed: Seq) -> Self {
        Self { received: committed, committed, outstanding: VecDeque::new() }
    }

    /// Whether the event is yet to be handed over. After a resume within this process Discord replays from the stored
    /// number; what the broker already has in hand then need not be published twice.
    pub fn is_new(&self, seq: Seq) -> bool {
        seq > self.received
    }

    /// An event was handed to the broker. Positions only grow.
    pub fn published(&mut self, seq: Seq, position: Position, settled: Position) {
        self.settle(settled);
        self.received = self.received.max(seq);
        self.outstanding.push_back(Entry { position, seq });
    }

    /// An event came that nobody wants: it is committed together with what stands before it.
    pub fn skipped(&mut self, seq: Seq) {
        self.received = self.received.max(seq);
        match self.outstanding.back_mut() {
            Some(last) => last.seq = last.seq.max(seq),
            None => self.committed = self.committed.max(seq),
        }
    }

    /// The committed number, now that everything before `settled` is settled.
    pub fn committed(&mut self, settled: Position) -> Seq {
        self.settle(settled);
        self.committed
    }

    /// The last number that was received.
    pub fn received(&self) -> Seq {
        self.received
    }

    fn settle(&mut self, settled: Position) {
        while let Some(first) = self.outstanding.front()
            && first.position < settled
        {
            self.committed = self.committed.max(first.seq);
            self.outstanding.pop_front();
        }
        // A flood's worth of room is given back once it is over.
        if self.outstanding.is_empty() && self.outstanding.capacity() > 1024 {
            self.outstanding.shrink_to(64);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seq(n: u64) -> Seq {
        Seq::new(n)
    }

    fn at(n: u64) -> Position {
        Position::new(n)
    }

    #[test]
    fn committed_waits_for_the_oldest_outstanding_event() {
        let mut ledger = Ledger::new(Seq::ZERO);
        ledger.published(seq(1), at(10), at(0));
        ledger.published(seq(2), at(12), at(0));
        assert_eq!(ledger.committed(at(10)), seq(0));
        assert_eq!(ledger.committed(at(11)), seq(1));
        assert_eq!(ledger.committed(at(12)), seq(1));
        assert_eq!(ledger.committed(at(13)), seq(2));
    }

    #[test]
    fn an_unwanted_event_is_committed_with_those_before_it() {
        let mut ledger = Ledger::new(Seq::ZERO);
        ledger.skipped(seq(1));
        assert_eq!(ledger.committed(at(0)), seq(1));
        ledger.published(seq(2), at(0), at(0));
        ledger.skipped(seq(3));
        assert_eq!(ledger.committed(at(0)), seq(1));
        assert_eq!(ledger.committed(at(1)), seq(3));
    }

    #[test]
    fn a_replay_of_what_is_in_hand_is_not_new() {
        let mut ledger = Ledger::new(seq(4));
        ledger.published(seq(5), at(0), at(0));
        assert!(!ledger.is_new(seq(4)) && !ledger.is_new(seq(5)) && ledger.is_new(seq(6)));
    }

    proptest! {
        /// Whatever is wanted and in whatever steps the broker settles: no number is committed while an event up to it is not.
        #[test]
        fn committed_never_passes_a_hole(steps in prop::collection::vec((any::<bool>(), 1..4u64, 0..6u64), 1..200)) {
            let mut ledger = Ledger::new(Seq::ZERO);
            let (mut next_seq, mut next_position, mut settled) = (0, 0, 0);
            let mut wanted: Vec<(u64, u64)> = Vec::new();
            for (is_wanted, gap, confirms) in steps {
                next_seq += gap;
                if is_wanted {
                    // Other shards take positions too.
                    next_position += gap;
                    ledger.published(seq(next_seq), at(next_position), at(settled));
                    wanted.push((next_position, next_seq));
                    next_position += 1;
                } else {
                    ledger.skipped(seq(next_seq));
                }
                settled = (settled + confirms).min(next_position);
                let committed = ledger.committed(at(settled)).get();
                let hole = wanted.iter().find(|(position, _)| *position >= settled).map(|(_, seq)| *seq);
                match hole {
                    Some(hole) => prop_assert!(committed < hole),
                    None => prop_assert_eq!(committed, next_seq),
                }
                // Nor does it lag: all before the hole is committed.
                let before = wanted.iter().filter(|(position, _)| *position < settled).map(|(_, seq)| *seq).max();
                prop_assert!(committed >= before.unwrap_or(0));
            }
        }
    }
}
