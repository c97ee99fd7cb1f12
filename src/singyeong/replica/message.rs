//! The messages: JSON, with a version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::cluster::node::NodeId;
use crate::singyeong::ids::ClientKey;

/// Read and written. A process that knows more may add fields; who changes what is there writes another version.
const VERSION: u32 = 1;

/// What a process says to all.
#[derive(Debug)]
pub(super) struct Message {
    /// Who says it.
    pub(super) node: NodeId,
    /// How many messages about its clients it has said, with this one if it is one.
    pub(super) number: u64,
    /// What.
    pub(super) says: Says,
}

/// What is said. [`Says::News`], [`Says::Snapshot`] and [`Says::Goodbye`] are about clients, and so counted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Says {
    /// What changed.
    News(News),
    /// A part of all clients, in some order. News may come between the parts.
    Snapshot {
        /// Whether it is the first part.
        begins: bool,
        /// Whether it is the last part.
        ends: bool,
        /// The clients' records.
        clients: Vec<Box<RawValue>>,
    },
    /// We hear others from now on: they may have said what we did not hear.
    Hello {
        /// Up to which number we have heard everything.
        heard: BTreeMap<NodeId, u64>,
    },
    /// We missed something and want a snapshot.
    Want {
        /// Of this process.
        of: NodeId,
        /// The highest number that we have heard of it.
        heard: u64,
    },
    /// We and our clients are gone.
    Goodbye {},
}

/// What changed. Nothing at all is said, too, from time to time: its number shows who missed something.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct News {
    /// The records of clients that are new or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) clients: Vec<Box<RawValue>>,
    /// Those that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) gone: Vec<Key>,
    /// Who sent a heartbeat, and when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) heartbeats: Vec<(Key, u64)>,
}

/// A client's application and id.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Key(Box<str>, Box<str>);

/// Why a message cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// Somebody else's.
    #[error("it is of version {0}")]
    Version(u32),
    /// Not what this version looks like.
    #[error("{0}")]
    Malformed(String),
}

#[derive(Serialize, Deserialize)]
struct Envelope<Says> {
    version: u32,
    node: NodeId,
    number: u64,
    says: Says,
}

/// What all versions have.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Message {
    pub(super) fn read(message: &[u8]) -> Result<Self, Unreadable> {
        match serde_json::from_slice::<Envelope<Says>>(message) {
            Ok(Envelope { version: VERSION, node, number, says }) => Ok(Self { node, number, says }),
            Ok(Envelope { version, .. }) => Err(Unreadable::Version(version)),
            Err(error) => Err(match serde_json::from_slice(message) {
                Ok(Version { version }) if version != VERSION => Unreadable::Version(version),
                _ => Unreadable::Malformed(error.to_string()),
            }),
        }
    }

    pub(super) fn write(self) -> Vec<u8> {
        let Self { node, number, says } = self;
        serde_json::to_vec(&Envelope { version: VERSION, node, number, says }).expect("all keys are texts")
    }
}

impl Says {
    /// Whether it is counted.
    pub(super) fn is_counted(&self) -> bool {
        match self {
            Self::News(_) | Self::Snapshot { .. } | Self::Goodbye {} => true,
            Self::Hello { .. } | Self::Want { .. } => false,
        }
    }
}

impl News {
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.gone.is_empty() && self.heartbeats.is_empty()
    }
}

impl Key {
    pub(super) fn of(key: &ClientKey) -> Self {
        Self(key.application.as_str().into(), key.client.as_str().into())
    }

    pub(super) fn read(&self) -> ClientKey {
        ClientKey::new(&self.0, &self.1)
    }

    /// About as many bytes as it takes.
    pub(super) fn size(&self) -> usize {
        self.0.len() + self.1.len() + 32
    }
}
