//! The commands that clients sent, as they came in: for tests and measurements of what workers send.
//!
//! Sans-I/O: `now` is handed in.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::Value;

use super::session::ConnectionId;
use crate::discord::opcode::Opcode;

/// Commands that are remembered, the last ones: with 4,096 bytes each some 16 MiB.
const REMEMBERED: usize = 4_096;

/// A command (ops 3, 4, 8, 31 and 43) that was well-formed.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// When it came in.
    pub at: Instant,
    /// The connection that sent it.
    pub connection: ConnectionId,
    /// Its session's shard.
    pub shard: u32,
    /// What it is.
    pub op: Opcode,
    /// Its `d`.
    pub d: Value,
}

/// The last commands.
#[derive(Debug, Default)]
pub struct Commands(VecDeque<Received>);

impl Commands {
    /// Remembers one, in the place of the oldest where there are many.
    pub fn push(&mut self, received: Received) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(received);
    }

    /// Those that are remembered, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &Received> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut commands = Commands::default();
        for number in 0..REMEMBERED as u64 + 3 {
            let d = Value::from(number);
            commands.push(Received { at: Instant::now(), connection: 1, shard: 0, op: Opcode::PresenceUpdate, d });
        }
        let kept: Vec<u64> = commands.iter().filter_map(|command| command.d.as_u64()).collect();
        assert_eq!((kept.len(), kept[0], kept[REMEMBERED - 1]), (REMEMBERED, 3, REMEMBERED as u64 + 2));
    }
}
