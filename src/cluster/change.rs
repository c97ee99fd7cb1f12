//! What tells the processes of a bot that its record was changed while they run: they look at it, and begin anew with what it
//! says. Lost, it costs seconds: it is said again, and announcements of a later generation say the same.

use serde::{Deserialize, Serialize};

/// The record is of this generation now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// That of the record.
    pub generation: u64,
}

#[derive(Serialize, Deserialize)]
struct Message {
    version: u64,
    record: u64,
}

impl Change {
    /// The layout that this program writes; others are not read.
    const VERSION: u64 = 1;

    /// As it goes to all.
    pub fn to_json(self) -> Vec<u8> {
        serde_json::to_vec(&Message { version: Self::VERSION, record: self.generation }).expect("two numbers are JSON")
    }

    /// Reads it; `None` for whatever else processes say.
    pub fn from_json(text: &[u8]) -> Option<Self> {
        match serde_json::from_slice(text) {
            Ok(Message { version: Self::VERSION, record }) => Some(Self { generation: record }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_was_written_and_nothing_else_is() {
        let change = Change { generation: 7 };
        assert_eq!(change.to_json(), br#"{"version":1,"record":7}"#);
        assert_eq!(Change::from_json(&change.to_json()), Some(change));
        for text in [r#"{"version":2,"record":7}"#, r#"{"version":1,"gone":"web-1.00000001"}"#, "[]", ""] {
            assert_eq!(Change::from_json(text.as_bytes()), None, "{text}");
        }
    }
}
