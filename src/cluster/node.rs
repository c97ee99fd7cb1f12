//! A process among the processes of one bot.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One run of one process: no two have the same, and a restarted process has another.
///
/// Cheap to clone. It is part of a queue's name: letters, digits, `.`, `_` and `-`, at most [`NodeId::MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(Arc<str>);

/// What is no [`NodeId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no node's id: letters, digits, '.', '_' and '-', 1 to {max} bytes", max = NodeId::MAX)]
pub struct InvalidNodeId(String);

impl NodeId {
    /// The longest, in bytes.
    pub const MAX: usize = 100;

    /// The id of a run: the process's name as far as an id can hold it, and a number by chance.
    pub fn of_run(name: &str, number: u32) -> Self {
        let plain = |c: char| if is_plain(c) { c } else { '-' };
        let name: String = name.chars().map(plain).take(Self::MAX - 9).collect();
        Self(if name.is_empty() { format!("optic.{number:08x}") } else { format!("{name}.{number:08x}") }.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl TryFrom<String> for NodeId {
    type Error = InvalidNodeId;

    fn try_from(text: String) -> Result<Self, InvalidNodeId> {
        let fits = !text.is_empty() && text.len() <= Self::MAX && text.chars().all(is_plain);
        if fits { Ok(Self(text.into())) } else { Err(InvalidNodeId(text)) }
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_has_an_id_that_reads_back() {
        for (name, id) in
            [("web-1.example", "web-1.example.0000002a"), ("", "optic.0000002a"), ("a host:7/ü", "a-host-7--.0000002a")]
        {
            let made = NodeId::of_run(name, 42);
            assert_eq!(made.as_str(), id);
            assert_eq!(NodeId::try_from(made.to_string()), Ok(made));
        }
        let long = NodeId::of_run(&"ü".repeat(300), u32::MAX);
        assert_eq!(NodeId::try_from(long.to_string()), Ok(long));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "a b", "a:b", "gr\u{fc}n", &"x".repeat(101)] {
            assert!(NodeId::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
