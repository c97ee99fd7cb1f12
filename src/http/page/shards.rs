//! A row a shard: how it is, and where it runs.
//!
//! A row is a list in JSON, `[id, state, process, guilds, latency, rate, since, last resume, resumes, last disconnect, gaps]`: a
//! thousand objects would be mostly their keys.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::seen::Whole;
use crate::seen::report::{Mode, ShardReport, ShardState};
use crate::seen::whole::{Process, Reach};

/// More than any bot has: what another process tells is not let make more of them.
const MOST_SHARDS: u32 = 65_536;

/// All rows, in the order of the shards.
pub struct Rows {
    /// One behind the other, with a comma behind each.
    text: Vec<u8>,
    rows: Vec<Row>,
    /// The state in which these shards were all told for the first time, or one was gone: changes cannot tell that.
    begun: u64,
}

struct Row {
    id: u32,
    /// Where it ends in the text.
    end: usize,
    /// The state in which it was last another.
    changed: u64,
}

/// A shard as the page shows it.
#[derive(Clone, Copy)]
pub struct Shard<'a> {
    /// Its number.
    pub id: u32,
    /// Where it runs.
    pub run: Run<'a>,
}

/// Where a shard runs: a process by its place among the processes, and what that says of it.
#[derive(Clone, Copy)]
pub enum Run<'a> {
    /// There.
    At(usize, &'a ShardReport),
    /// It ran there when that process answered last, at this time.
    Silent(usize, &'a ShardReport, u64),
    /// Where nobody can be asked, or had the time to answer.
    Unknown,
    /// Nowhere.
    Nowhere,
}

impl<'a> Shard<'a> {
    /// What the process says that runs it.
    pub fn report(&self) -> Option<&'a ShardReport> {
        if let Run::At(_, report) = self.run { Some(report) } else { None }
    }

    /// The same, or what the process said that ran it last.
    pub fn last_report(&self) -> Option<&'a ShardReport> {
        match self.run {
            Run::At(_, report) | Run::Silent(_, report, _) => Some(report),
            Run::Unknown | Run::Nowhere => None,
        }
    }
}

/// How many shards the bot has: what those say that answer, or else anybody, or said the last that had one. Who is alone runs
/// those that it was told to, and there may be others like it: it has as many as run.
pub fn shard_count(whole: &Whole) -> u32 {
    if is_alone(whole) {
        return u32::try_from(of(whole).len()).unwrap_or(u32::MAX);
    }
    shard_count_told(whole)
}

fn is_alone(whole: &Whole) -> bool {
    !whole.processes.is_empty() && whole.processes.iter().all(|process| process.report.mode == Mode::Alone)
}

fn shard_count_told(whole: &Whole) -> u32 {
    let most = |is_asked: fn(&&Process) -> bool| {
        whole.processes.iter().filter(is_asked).map(|process| process.report.shard_count).max().unwrap_or(0)
    };
    let count = most(|process| process.answers);
    let count = if count == 0 { most(|_| true) } else { count };
    let gone = whole.gone.as_ref().map_or(0, |gone| gone.shard_count);
    if count == 0 { gone } else { count }.min(MOST_SHARDS)
}

/// All shards: those that run, and those that nobody runs. How those of a process are that does not answer is not known.
pub fn of(whole: &Whole) -> Vec<Shard<'_>> {
    let mut running: BTreeMap<u32, (usize, &ShardReport)> = BTreeMap::new();
    for (at, process) in whole.processes.iter().enumerate().filter(|(_, process)| process.answers) {
        for shard in process.report.shards.iter().filter(|shard| shard.id < MOST_SHARDS) {
            // While it goes from one process to another both may have it: the one that is further shows.
            let is_better = running.get(&shard.id).is_none_or(|(_, other)| rank(shard) < rank(other));
            if is_better {
                running.insert(shard.id, (at, shard));
            }
        }
    }
    let mut silent: BTreeMap<u32, (usize, &ShardReport, u64)> = BTreeMap::new();
    for (at, process) in whole.processes.iter().enumerate().filter(|(_, process)| !process.answers) {
        for shard in process.report.shards.iter().filter(|shard| !running.contains_key(&shard.id)) {
            if silent.get(&shard.id).is_none_or(|(.., heard_at)| *heard_at < process.heard_at) {
                silent.insert(shard.id, (at, shard, process.heard_at));
            }
        }
    }
    let unheard = if whole.sight() == Reach::All { Run::Nowhere } else { Run::Unknown };
    let run = |id: &u32| {
        let at = running.get(id).map(|(at, shard)| Run::At(*at, shard));
        at.or_else(|| silent.get(id).map(|(at, shard, heard_at)| Run::Silent(*at, shard, *heard_at))).unwrap_or(unheard)
    };
    let count = if is_alone(whole) { 0 } else { shard_count_told(whole) };
    let beyond: Vec<u32> = running.range(count..).map(|(id, _)| *id).collect();
    (0..count).chain(beyond).map(|id| Shard { id, run: run(&id) }).collect()
}

fn rank(shard: &ShardReport) -> (ShardState, u64) {
    (shard.state, u64::MAX - shard.since)
}

impl Rows {
    /// The rows of this, in the state of this number; those before, if there were any.
    pub fn of(whole: &Whole, number: u64, before: Option<&Self>) -> Self {
        let shards = of(whole);
        let mut text = Vec::with_capacity(before.map_or(shards.len() * 72, |before| before.text.len() + 256));
        let mut rows = Vec::with_capacity(shards.len());
        let mut known = before.map(Self::iter).into_iter().flatten().peekable();
        let mut kept = 0;
        for shard in shards {
            let start = text.len();
            serde_json::to_writer(&mut text, &shard).expect("a row is JSON");
            text.push(b',');
            while known.next_if(|(row, _)| row.id < shard.id).is_some() {}
            let same = known.next_if(|(row, _)| row.id == shard.id);
            kept += usize::from(same.is_some());
            let same = same.filter(|(_, known)| *known == &text[start..]);
            let changed = same.map_or(number, |(row, _)| row.changed);
            rows.push(Row { id: shard.id, end: text.len(), changed });
        }
        let begun = before.filter(|before| before.rows.len() == kept).map_or(number, |before| before.begun);
        Self { text, rows, begun }
    }

    /// Whether somebody who was told this state last is to be told all.
    pub fn begin_after(&self, last: Option<u64>) -> bool {
        last.is_none_or(|last| last < self.begun)
    }

    fn iter(&self) -> impl Iterator<Item = (&Row, &[u8])> {
        let starts = std::iter::once(0).chain(self.rows.iter().map(|row| row.end));
        self.rows.iter().zip(starts).map(|(row, start)| (row, &self.text[start..row.end]))
    }

    /// Writes those that are others since this state, or all; with commas between them.
    pub fn write_since(&self, last: Option<u64>, into: &mut Vec<u8>) {
        let start = into.len();
        match last {
            _ if self.begin_after(last) => into.extend_from_slice(&self.text),
            None => {}
            Some(last) => {
                for (_, text) in self.iter().filter(|(row, _)| row.changed > last) {
                    into.extend_from_slice(text);
                }
            }
        }
        if into.len() > start {
            into.pop();
        }
    }
}

impl Serialize for Shard<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.run {
            Run::Nowhere => (self.id, "nobody", (), (), (), 0, (), (), 0, (), 0).serialize(to),
            Run::Unknown => (self.id, "unknown", (), (), (), 0, (), (), 0, (), 0).serialize(to),
            Run::Silent(process, shard, heard_at) => (
                self.id,
                "unknown",
                process,
                shard.guilds,
                (),
                0,
                heard_at,
                shard.last_resume,
                shard.resumes,
                &shard.last_disconnect,
                shard.gaps,
            )
                .serialize(to),
            Run::At(process, shard) => (
                self.id,
                shard.state,
                process,
                shard.guilds,
                shard.latency_ms.map(tenths),
                tenths(shard.rate.into()),
                shard.since,
                shard.last_resume,
                shard.resumes,
                &shard.last_disconnect,
                shard.gaps,
            )
                .serialize(to),
        }
    }
}

/// To a tenth, as exactly as anybody looks: what changes less is not told anew.
pub fn tenths(number: f64) -> Number {
    Number(number)
}

/// See [`tenths`]. Whole ones without a point.
#[derive(Clone, Copy)]
pub struct Number(f64);

impl Serialize for Number {
    #[expect(clippy::cast_possible_truncation, reason = "it is looked whether it fits")]
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let rounded = (self.0 * 10.0).round() / 10.0;
        // What is no number in JSON is none here.
        let rounded = if rounded.is_finite() { rounded } else { 0.0 };
        if rounded.fract() == 0.0 && rounded.abs() < 1e15 {
            to.serialize_i64(rounded as i64)
        } else {
            to.serialize_f64(rounded)
        }
    }
}
