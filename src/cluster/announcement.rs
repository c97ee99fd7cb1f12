//! What a process tells the others of its bot about itself.
//!
//! It goes to all at every change and every few seconds: small, whole in itself, and never needed for safety. What one
//! process may run is the broker's word alone; an announcement that is lost, late or wrong costs time, no event.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::discord::ids::ShardId;

use super::node::NodeId;
use super::ranges;

/// The longest announcement that is read, in bytes: every second of 65,536 shards.
pub const LONGEST: usize = 256 * 1024;

/// How a process comes by its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It runs the shards that it was set to run.
    Static,
    /// It takes its share of all.
    Leased,
}

/// What a process is and what it holds, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Who says it.
    pub node: NodeId,
    /// Its name, for people.
    pub name: String,
    /// How it comes by its shards.
    pub mode: Mode,
    /// How many shards it knows the bot to have.
    pub shard_count: u32,
    /// Which change of that count it follows.
    pub generation: u64,
    /// The shards whose leases it holds, or held until a moment ago and is asking for again.
    #[serde(serialize_with = "write_shards", deserialize_with = "read_shards")]
    pub owned: BTreeSet<ShardId>,
    /// It is about to end and takes no shard any more; with nothing owned it is its last word.
    #[serde(default)]
    pub leaving: bool,
    /// It knows nobody yet: all others answer at once.
    #[serde(default)]
    pub hello: bool,
    /// It still listens who is there and takes no shard now: what is handed over would have to wait.
    #[serde(default)]
    pub settling: bool,
    /// Counts its announcements: one that comes behind a later one is old.
    pub sequence: u64,
}

/// Why an announcement is not read.
#[derive(Debug, thiserror::Error)]
pub enum AnnouncementError {
    /// Another version of Optic said it.
    #[error(
        "a process announces itself in version {0}, this one reads version {version}; it is not counted",
        version = Announcement::VERSION
    )]
    OtherVersion(u64),
    /// Not what a process announces.
    #[error("an announcement cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Longer than [`LONGEST`].
    #[error("an announcement of {0} bytes is not read: {LONGEST} are the most")]
    TooLong(usize),
    /// It owns a shard that its own count does not have.
    #[error("{node} announces shard {shard} of {shard_count}")]
    NoSuchShard {
        /// Who says so.
        node: NodeId,
        /// The first shard that there is not.
        shard: ShardId,
        /// Its count.
        shard_count: u32,
    },
}

impl Announcement {
    /// The layout that this program writes; others are not read.
    pub const VERSION: u64 = 1;

    /// As it goes to the others.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Versioned<'a> {
            version: u64,
            #[serde(flatten)]
            announcement: &'a Announcement,
        }
        serde_json::to_vec(&Versioned { version: Self::VERSION, announcement: self })
            .expect("an announcement is numbers and strings")
    }

    /// Reads what a process announced. Fields that are not known are passed over.
    ///
    /// # Errors
    /// Says what cannot be read; such a process is not counted.
    pub fn from_json(text: &[u8]) -> Result<Self, AnnouncementError> {
        /// A later layout may have other fields: its number is read first.
        #[derive(Deserialize)]
        struct Layout {
            version: u64,
        }
        if text.len() > LONGEST {
            return Err(AnnouncementError::TooLong(text.len()));
        }
        let layout: Layout = serde_json::from_slice(text)?;
        if layout.version != Self::VERSION {
            return Err(AnnouncementError::OtherVersion(layout.version));
        }
        let said: Self = serde_json::from_slice(text)?;
        match said.owned.last() {
            Some(last) if last.get() >= said.shard_count => {
                Err(AnnouncementError::NoSuchShard { node: said.node, shard: *last, shard_count: said.shard_count })
            }
            _ => Ok(said),
        }
    }

    /// What a process says that only wants to know who is there: it has no count yet, and is not counted.
    pub fn newcomer(node: NodeId, name: String, mode: Mode) -> Self {
        Self {
            node,
            name,
            mode,
            shard_count: 0,
            generation: 0,
            owned: BTreeSet::new(),
            leaving: false,
            hello: true,
            settling: true,
            sequence: 0,
        }
    }

    /// Whether its process has not joined.
    pub fn is_newcomer(&self) -> bool {
        self.shard_count == 0
    }

    /// Whether it is the last word of its process.
    pub fn is_goodbye(&self) -> bool {
        self.leaving && self.owned.is_empty()
    }
}

fn write_shards<S: Serializer>(shards: &BTreeSet<ShardId>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&ranges::to_text(shards))
}

fn read_shards<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<ShardId>, D::Error> {
    let text = String::deserialize(from)?;
    ranges::from_text(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"version":1,"node":"web-1.0000002a","name":"web-1","mode":"leased","shard_count":64,"generation":2,"owned":"0-2,45","leaving":false,"hello":true,"settling":true,"sequence":7}"#;

    fn announcement() -> Announcement {
        Announcement {
            node: NodeId::of_run("web-1", 42),
            name: "web-1".to_owned(),
            mode: Mode::Leased,
            shard_count: 64,
            generation: 2,
            owned: [0, 1, 2, 45].into_iter().map(ShardId::new).collect(),
            leaving: false,
            hello: true,
            settling: true,
            sequence: 7,
        }
    }

    #[test]
    fn goes_out_as_these_bytes_and_comes_in_again() {
        let said = announcement();
        assert_eq!(String::from_utf8(said.to_json()).expect("UTF-8"), TEXT);
        assert_eq!(Announcement::from_json(TEXT.as_bytes()).expect("it reads"), said);
    }

    #[test]
    fn fields_that_are_not_known_are_passed_over_and_flags_may_be_missing() {
        let text = TEXT.replace(r#""leaving":false,"hello":true,"settling":true"#, r#""colour":{"of":["joy"]}"#);
        let said = Announcement::from_json(text.as_bytes()).expect("it reads");
        assert_eq!(said, Announcement { hello: false, settling: false, ..announcement() });
    }

    #[test]
    fn a_later_version_is_told_apart_from_garbage() {
        let read = |text: &str| Announcement::from_json(text.as_bytes());
        let error = read(r#"{"version":2,"whatever":1}"#).expect_err("another version");
        assert!(matches!(error, AnnouncementError::OtherVersion(2)), "{error}");
        for text in ["", "{}", "[]", "nonsense", &TEXT.replace("0-2", "2-0"), &TEXT.replace("web-1.0", "web 1")] {
            let error = read(text).expect_err("garbage");
            assert!(matches!(error, AnnouncementError::Malformed(_)), "{text}: {error}");
        }
        let error = read(&TEXT.replace("45", "64")).expect_err("no such shard");
        assert!(matches!(error, AnnouncementError::NoSuchShard { .. }), "{error}");
        let error = read(&" ".repeat(LONGEST + 1)).expect_err("too long");
        assert!(matches!(error, AnnouncementError::TooLong(_)), "{error}");
    }

    #[test]
    fn a_thousand_shards_fit_into_a_few_kilobytes() {
        let owned = (0..1000).step_by(2).map(ShardId::new).collect();
        let said = Announcement { shard_count: 1000, owned, ..announcement() };
        assert!(said.to_json().len() < 4096);
    }
}
