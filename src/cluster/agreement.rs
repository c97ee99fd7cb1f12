//! How many shards the bot has: one number for all its processes, whatever each of them is set to.
//!
//! The first process fixes it and stores it in the cluster's record; who comes later uses it, or waits and says why. The
//! record is read and written under the cluster's lock. Pure: who asks hands in all that is known.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::announcement::{Announcement, Mode};
use crate::discord::ids::BotId;

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
    /// Whose cluster it is, as far as the token of the process that set it told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot: Option<BotId>,
    /// The most shards that the bot ever had, if it has fewer now: what those above the count left behind is cleared away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u32>,
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

    /// What processes go by that use it.
    pub fn agreed(&self) -> Agreed {
        Agreed { shard_count: self.shard_count, generation: self.generation }
    }

    /// Shards that the bot had once and has no more.
    pub fn former_shards(&self) -> Range<u32> {
        self.shard_count..self.most.unwrap_or_default().max(self.shard_count)
    }

    /// The shards of before, as far as they are no more with so many.
    fn most_before(&self, shard_count: u32) -> Option<u32> {
        Some(self.most.unwrap_or_default().max(self.shard_count)).filter(|most| *most > shard_count)
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
    /// Whose token this process has, as far as it tells.
    pub bot: Option<&'a BotId>,
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
    /// The same, for they are another bot's.
    OtherBot(OtherBot),
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

/// Somebody lives who is another bot's. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherBot {
    /// Whose token this process has.
    pub ours: BotId,
    /// Whose cluster it is.
    pub theirs: BotId,
    /// The names of its processes.
    pub whose: Vec<String>,
}

impl fmt::Display for OtherBot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, theirs, whose } = self;
        let names: Vec<&str> = whose.iter().take(5).map(String::as_str).collect();
        write!(
            f,
            "this process has the token of bot {ours}, but this group is that of bot {theirs} ({}): set another \
             BROKER_GROUP for each bot, or another virtual host in AMQP_URL; waiting until they are gone",
            names.join(", ")
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
        Decision::Wait(_) | Decision::OtherBot(_) => None,
    };
    let too_few = |shard_count| TooFewShards { shard_count, advised: question.advised };
    Answer { decision, warning: count.filter(|count| *count < question.advised).map(too_few) }
}

fn decide(question: &Question<'_>) -> Decision {
    let Question { stored, alive, configured, mode, advised, bot, name, now } = *question;
    let store = |shard_count, generation| {
        let most = stored.and_then(|stored| stored.most_before(shard_count));
        let (version, set_by) = (Record::VERSION, name.to_owned());
        // Who cannot tell leaves what is known.
        let bot = bot.or(stored.and_then(|stored| stored.bot.as_ref())).cloned();
        Decision::Store(Record { version, generation, shard_count, set_by, set_at: now, bot, most })
    };
    // A record can be lost, with its queue: then it stands in the announcements.
    let newest = alive.iter().map(|other| other.agreed).max_by_key(|agreed| agreed.generation);
    let Some(known) = stored.map(Record::agreed).or(newest) else {
        return store(configured.unwrap_or(advised).max(1), 1);
    };
    if let Some(theirs) = stored.and_then(|stored| stored.bot.clone())
        && let Some(ours) = bot.filter(|ours| **ours != theirs)
    {
        // With nobody there the group is another bot's from now on.
        return match alive {
            [] => store(configured.unwrap_or(advised).max(1), known.generation + 1),
            alive => {
                let whose = alive.iter().map(|other| other.name.clone()).collect();
                Decision::OtherBot(OtherBot { ours: ours.clone(), theirs, whose })
            }
        };
    }
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

/// Why the shard count of a running bot is not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotReshard {
    /// No process has ever stored how many shards there are.
    #[error(
        "no process of this group has ever run with this RabbitMQ: is BROKER_GROUP right, and AMQP_URL's virtual host?"
    )]
    NoRecord,
    /// It has as many.
    #[error("the bot has {0} shards already")]
    SameCount(u32),
    /// No bot has none.
    #[error("a bot has one shard at least")]
    NoShards,
}

/// The record by which a running bot gets another shard count.
///
/// # Errors
/// There is nothing to change, or nothing is known of the bot.
pub fn reshard(stored: Option<&Record>, shard_count: u32, name: &str, now: u64) -> Result<Record, CannotReshard> {
    let stored = stored.ok_or(CannotReshard::NoRecord)?;
    match shard_count {
        0 => Err(CannotReshard::NoShards),
        same if same == stored.shard_count => Err(CannotReshard::SameCount(same)),
        _ => Ok(Record {
            version: Record::VERSION,
            generation: stored.generation + 1,
            shard_count,
            set_by: name.to_owned(),
            set_at: now,
            bot: stored.bot.clone(),
            most: stored.most_before(shard_count),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const NOW: u64 = 1_700_000_000_000;

    fn record(shard_count: u32, generation: u64) -> Record {
        Record { version: 1, generation, shard_count, set_by: "first".to_owned(), set_at: 5, bot: None, most: None }
    }

    fn alive(name: &str, shard_count: u32, generation: u64) -> Alive {
        Alive { name: name.to_owned(), agreed: Agreed { shard_count, generation } }
    }

    fn ask(stored: Option<&Record>, alive: &[Alive], configured: Option<u32>, mode: Mode) -> Decision {
        agree(&Question { stored, alive, configured, mode, advised: 4, bot: None, name: "ours", now: NOW }).decision
    }

    fn uses(shard_count: u32, generation: u64) -> Decision {
        Decision::Use(Agreed { shard_count, generation })
    }

    fn stores(shard_count: u32, generation: u64) -> Decision {
        Decision::Store(Record { set_by: "ours".to_owned(), set_at: NOW, ..record(shard_count, generation) })
    }

    #[test]
    fn the_first_process_fixes_the_count() {
        for mode in [Mode::Static, Mode::Leased] {
            assert_eq!(ask(None, &[], None, mode), stores(4, 1), "Discord's advice");
            assert_eq!(ask(None, &[], Some(9), mode), stores(9, 1));
        }
    }

    #[test]
    fn who_comes_later_uses_it() {
        let (stored, others) = (record(8, 3), [alive("a", 8, 3)]);
        for mode in [Mode::Static, Mode::Leased] {
            for configured in [None, Some(8)] {
                assert_eq!(ask(Some(&stored), &others, configured, mode), uses(8, 3));
            }
        }
    }

    #[test]
    fn two_bots_do_not_share_a_group_and_one_may_follow_another() {
        let bot = |token: &str| BotId::of_token(&Secret::new(token)).expect("a token's first part");
        let (ours, theirs) = (bot("MTIz.x.y"), bot("NDU2.x.y"));
        let stored = Record { bot: Some(theirs.clone()), ..record(8, 3) };
        let question = |alive| Question {
            stored: Some(&stored),
            alive,
            configured: None,
            mode: Mode::Leased,
            advised: 4,
            bot: Some(&ours),
            name: "ours",
            now: NOW,
        };
        let others = [alive("a", 8, 3)];
        let Decision::OtherBot(why) = agree(&question(&others)).decision else { panic!("it joins") };
        let text = why.to_string();
        assert!(text.contains("bot 123") && text.contains("bot 456 (a)") && text.contains("BROKER_GROUP"), "{text}");
        let Decision::Store(new) = agree(&question(&[])).decision else { panic!("it does not begin") };
        assert_eq!((new.bot, new.shard_count, new.generation), (Some(ours.clone()), 4, 4));
        let unknown = Question { bot: None, ..question(&[]) };
        assert_eq!(agree(&unknown).decision, uses(8, 3), "a token that tells nothing is let in");
    }

    #[test]
    fn with_nobody_there_a_set_count_replaces_the_stored_one() {
        let stored = record(8, 3);
        for mode in [Mode::Static, Mode::Leased] {
            assert_eq!(ask(Some(&stored), &[], Some(16), mode), stores(16, 4));
            let Decision::Store(fewer) = ask(Some(&stored), &[], Some(6), mode) else { panic!("it is not stored") };
            assert_eq!((fewer.shard_count, fewer.former_shards()), (6, 6..8));
            assert_eq!(ask(Some(&stored), &[], Some(8), mode), uses(8, 3));
        }
        assert_eq!(ask(Some(&stored), &[], None, Mode::Leased), uses(8, 3), "a restart changes nothing");
        assert_eq!(
            ask(Some(&stored), &[], None, Mode::Static),
            ask(Some(&stored), &[], Some(4), Mode::Static),
            "one alone follows Discord's advice"
        );
        assert_eq!(ask(Some(&record(4, 3)), &[], None, Mode::Static), uses(4, 3));
    }

    #[test]
    fn while_others_live_another_count_waits_and_says_what_to_do() {
        let (stored, others) = (record(8, 3), [alive("a", 8, 3), alive("b", 8, 3)]);
        let Decision::Wait(differs) = ask(Some(&stored), &others, Some(16), Mode::Leased) else {
            panic!("it joins");
        };
        assert_eq!((differs.ours, differs.theirs, differs.whose.len()), (16, 8, 2));
        assert_eq!(
            differs.to_string(),
            "this process is to run 16 shards, but a, b run 8, and processes of one bot never run different counts: set \
             DISCORD_SHARD_COUNT=8, or change it for all with `optic reshard 16`; waiting until they are gone"
        );
    }

    #[test]
    fn the_setting_can_be_changed_by_restarting_one_after_the_other() {
        let stored = record(8, 3);
        let waits = |others: &[Alive]| matches!(ask(Some(&stored), others, Some(16), Mode::Leased), Decision::Wait(_));
        assert!(waits(&[alive("b", 8, 3), alive("c", 8, 3)]) && waits(&[alive("c", 8, 3)]));
        let Decision::Store(changed) = ask(Some(&stored), &[], Some(16), Mode::Leased) else {
            panic!("it does not begin");
        };
        assert_eq!(ask(Some(&changed), &[], Some(16), Mode::Leased), uses(16, 4), "the second one waited, too");
        assert_eq!(ask(Some(&changed), &[alive("a", 16, 4)], Some(16), Mode::Leased), uses(16, 4));
    }

    #[test]
    fn a_lost_record_is_read_off_those_that_live() {
        let others = [alive("a", 8, 3)];
        assert_eq!(ask(None, &others, None, Mode::Leased), stores(8, 3));
        assert!(matches!(ask(None, &others, Some(16), Mode::Leased), Decision::Wait(_)));
    }

    #[test]
    fn those_of_before_a_change_are_waited_for() {
        let Decision::Wait(differs) = ask(Some(&record(8, 4)), &[alive("a", 8, 3)], None, Mode::Leased) else {
            panic!("it joins");
        };
        assert_eq!(differs.to_string(), "a still run 8 shards of before the last change; waiting for their end");
    }

    #[test]
    fn too_few_shards_are_warned_about() {
        let answer = |configured, advised| {
            let stored = record(8, 3);
            let (stored, mode) = (Some(&stored), Mode::Leased);
            agree(&Question { stored, alive: &[], configured, mode, advised, bot: None, name: "ours", now: NOW })
                .warning
        };
        assert_eq!(answer(None, 8), None);
        assert_eq!(answer(Some(16), 16), None);
        let warning = answer(None, 9).expect("a warning").to_string();
        assert_eq!(warning, "Discord advises 9 shards, the bot has 8: `optic reshard 9` changes it");
    }

    #[test]
    fn a_command_changes_the_count_of_a_bot_that_is_known() {
        let stored = record(8, 3);
        let change = |stored, count| reshard(stored, count, "optic reshard", NOW);
        let more = change(Some(&stored), 16).expect("more");
        assert_eq!((more.agreed(), more.former_shards()), (Agreed { shard_count: 16, generation: 4 }, 16..16));
        let fewer = change(Some(&stored), 6).expect("fewer");
        assert_eq!(fewer.former_shards(), 6..8);
        let more = change(Some(&fewer), 7).expect("more");
        assert_eq!((more.generation, more.former_shards()), (5, 7..8), "what was left behind is not forgotten");
        assert_eq!(Record::from_json(&more.to_json()).expect("it reads"), more);
        assert_eq!(change(None, 6), Err(CannotReshard::NoRecord));
        assert_eq!(change(Some(&stored), 8), Err(CannotReshard::SameCount(8)));
        assert_eq!(change(Some(&stored), 0), Err(CannotReshard::NoShards));
    }

    #[test]
    fn the_record_reads_back_and_later_fields_are_passed_over() {
        let text = br#"{"version":1,"generation":3,"shard_count":8,"set_by":"first","set_at":5}"#;
        assert_eq!(record(8, 3).to_json(), text);
        let text =
            br#"{"version":1,"next":{"shard_count":16},"generation":3,"shard_count":8,"set_by":"first","set_at":5}"#;
        assert_eq!(Record::from_json(text).expect("it reads"), record(8, 3));
        let refused = |text: &str| Record::from_json(text.as_bytes()).expect_err("no record");
        assert!(matches!(refused(r#"{"version":2}"#), RecordError::OtherVersion(2)));
        assert!(matches!(refused("{"), RecordError::Malformed(_)));
        let none = r#"{"version":1,"generation":3,"shard_count":0,"set_by":"first","set_at":5}"#;
        assert!(matches!(refused(none), RecordError::NoShards));
    }
}
