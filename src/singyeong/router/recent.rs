//! Messages that were handed over here lately, so that one that comes twice does so nowhere: what was published without a
//! confirm is published again, and what was not acknowledged on a lost connection is delivered again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// So many are remembered: what comes twice does so soon.
const MOST: usize = 16_384;

/// A message's turn: who has it delivers it, unless it says that this was done.
pub(super) type Turn = Arc<tokio::sync::Mutex<bool>>;

/// By the number that a message got once.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    turns: HashMap<u64, Turn>,
    /// In the order in which they came.
    order: VecDeque<u64>,
}

impl Recent {
    /// The turn of this message; whoever has it while the same comes again lets that wait.
    pub(super) fn turn(&self, message: u64) -> Turn {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = known.turns.get(&message) {
            return turn.clone();
        }
        if known.order.len() >= MOST
            && let Some(oldest) = known.order.pop_front()
        {
            known.turns.remove(&oldest);
        }
        known.order.push_back(message);
        known.turns.entry(message).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_has_one_turn_until_many_others_came() {
        let recent = Recent::default();
        *recent.turn(1).lock().await = true;
        assert!(*recent.turn(1).lock().await);
        assert!(!*recent.turn(2).lock().await);
        for message in 3..=MOST as u64 + 1 {
            recent.turn(message);
        }
        assert!(!*recent.turn(1).lock().await, "it is forgotten");
        assert_eq!(recent.0.lock().expect("not poisoned").turns.len(), MOST);
    }
}
