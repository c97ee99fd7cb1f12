//! How many shards the bot has: one number for all its processes, whatever each of them is set to.
//!
//! The first process fixes it and stores it in the cluster's record; who comes later uses it, or waits and says why. The
//! record is read and written under the cluster's lock. Pure: who asks hands in all that is known.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::announcement::{Announcement, Mode};

/// What the cluster keeps: its shard count, and how often that changed. Fields that are not known are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The layout of this record: [`Record::VERSION`].
    pub version: u32,
    /// Grows with every change of the count.
    pub generation: u64,
    /// How many shards the bot has.
    pub shard_count: u32,
    /// The process, or the command, that set it; for people.
    pub set_by: String,
    /// When that was, in Unix milliseconds.
    pub set_at: u64,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Another version of Optic wrote it.
    #[error(
        "the cluster's record is of layout {0}, this process reads {version}: run the same version of Optic everywhere",
        version = Record::VERSION
    )]
    OtherVersion(u32),
    /// Not a record.
    #[error("the cluster's record cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// No bot has no shard.
    #[error("the cluster's record says that the bot has no shard")]
    NoShards,
}

impl Record {
    /// The layout that this program writes; another is not read.
    pub const VERSION: u32 = 1;

    /// The record as it is stored.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record is numbers and strings")
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// Another layout, or no record.
    pub fn from_json(text: &[u8]) -> Result<Self, RecordError> {
        /// A later layout may have other fields: its number is read first.
        #[derive(Deserialize)]
        struct Layout {
            version: u32,
        }
        let layout: Layout = serde_json::from_slice(text)?;
        if layout.version != Self::VERSION {
            return Err(RecordError::OtherVersion(layout.version));
        }
        let record: Self = serde_json::from_slice(text)?;
        if record.shard_count == 0 { Err(RecordError::NoShards) } else { Ok(record) }
    }

    fn agreed(&self) -> Agreed {
        Agreed { shard_count: self.shard_count, generation: self.generation }
    }
}

/// What all processes of a cluster have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agreed {
    /// How many shards the bot has.
    pub shard_count: u32,
    /// Which change of that number it is.
    pub generation: u64,
}

/// Another process that lives, as it announced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Its name, for people.
    pub name: String,
    /// What it goes by.
    pub agreed: Agreed,
}

impl From<&Announcement> for Alive {
    fn from(said: &Announcement) -> Self {
        let agreed = Agreed { shard_count: said.shard_count, generation: said.generation };
        Self { name: said.name.clone(), agreed }
    }
}

/// All that the answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The cluster's record, if there is one.
    pub stored: Option<&'a Record>,
    /// The other processes that live and have joined.
    pub alive: &'a [Alive],
    /// The count that this process was set to, if any.
    pub configured: Option<u32>,
    /// How this process comes by its shards.
    pub mode: Mode,
    /// What Discord advises.
    pub advised: u32,
    /// This process's name.
    pub name: &'a str,
    /// Now, in Unix milliseconds.
    pub now: u64,
}

/// What to do, and what to tell beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What to do.
    pub decision: Decision,
    /// The count is less than Discord advises.
    pub warning: Option<TooFewShards>,
}

/// What a process that wants to join does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Join with it.
    Use(Agreed),
    /// Store the record, then join with what it says.
    Store(Record),
    /// Do not join while they live; ask again when one of them is gone.
    Wait(Differs),
}

/// Somebody lives who goes by another count. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs {
    /// What this process would use.
    pub ours: u32,
    /// What the others use.
    pub theirs: u32,
    /// Their names.
    pub whose: Vec<String>,
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, theirs, whose } = self;
        let named: Vec<&str> = whose.iter().take(5).map(String::as_str).collect();
        let names = named.join(", ");
        let more = match whose.len().saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        if ours == theirs {
            return write!(
                f,
                "{names}{more} still run {theirs} shards of before the last change; waiting for their end"
            );
        }
        write!(
            f,
            "this process is to run {ours} shards, but {names}{more} run {theirs}, and processes of one bot never run \
             different counts: set DISCORD_SHARD_COUNT={theirs}, or change it for all with `optic reshard {ours}`; \
             waiting until they are gone"
        )
    }
}

/// Discord advises more shards than there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFewShards {
    /// How many there are.
    pub shard_count: u32,
    /// What Discord advises.
    pub advised: u32,
}

impl fmt::Display for TooFewShards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard_count, advised } = self;
        write!(f, "Discord advises {advised} shards, the bot has {shard_count}: `optic reshard {advised}` changes it")
    }
}

/// Which count a process joins with, if it may join now.
///
/// A count that was set goes before what is stored, and what is stored before Discord's advice; only who runs shards by
/// itself, with nobody else there, follows the advice as it changes. While anybody lives, nothing is changed.
pub fn agree(question: &Question<'_>) -> Answer {
    let decision = decide(question);
    let count = match &decision {
        Decision::Use(agreed) => Some(agreed.shard_count),
        Decision::Store(record) => Some(record.shard_count),
        Decision::Wait(_) => None,
    };
    let too_few = |shard_count| TooFewShards { shard_count, advised: question.advised };
    Answer { decision, warning: count.filter(|count| *count < question.advised).map(too_few) }
}

fn decide(question: &Question<'_>) -> Decision {
    let Question { stored, alive, configured, mode, advised, name, now } = *question;
    let store = |shard_count, generation| {
        let record = Record { version: Record::VERSION, generation, shard_count, set_by: name.to_owned(), set_at: now };
        Decision::Store(record)
    };
    // A record can be lost, with its queue: then it stands in the announcements.
    let newest = alive.iter().map(|other| other.agreed).max_by_key(|agreed| agreed.generation);
    let Some(known) = stored.map(Record::agreed).or(newest) else {
        return store(configured.unwrap_or(advised).max(1), 1);
    };
    let kept = match mode {
        Mode::Static if alive.is_empty() => advised.max(1),
        Mode::Static | Mode::Leased => known.shard_count,
    };
    let ours = configured.unwrap_or(kept);
    let differing = |other: &&Alive| other.agreed.shard_count != ours || other.agreed.generation != known.generation;
    if let Some(first) = alive.iter().find(differing) {
        let theirs = first.agreed.shard_count;
        let same = alive.iter().filter(differing).filter(|other| other.agreed.shard_count == theirs);
        return Decision::Wait(Differs { ours, theirs, whose: same.map(|other| other.name.clone()).collect() });
    }
    match (ours == known.shard_count, stored) {
        (true, Some(_)) => Decision::Use(known),
        (true, None) => store(ours, known.generation),
        (false, _) => store(ours, known.generation + 1),
    }
}
