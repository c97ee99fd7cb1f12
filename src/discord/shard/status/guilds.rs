//! How many guilds a shard has, by READY, GUILD_CREATE and GUILD_DELETE. Knows no payload: ids and numbers go in.
//!
//! READY lists the guilds, all of them *away*; each comes by a GUILD_CREATE. One with an outage goes away and comes back; one
//! that the bot left is gone. What is stored is the number of those that are here: whoever takes the session up again gets a
//! GUILD_CREATE for each that was away, be it of an outage or of a start that was cut off.
//!
//! Which guilds were away is not stored. So one that was away when another process took the session up, and that the bot then
//! left, is taken off a count that it was not in, and the count is one too low until the next READY. That is seldom, and only a
//! number to look at depends on it.

use std::collections::{BTreeSet, VecDeque};

use crate::discord::ids::Seq;
use crate::discord::payload::GuildSign;

/// Changes not committed yet that are told apart. More are taken together: a crash just then makes the stored number a little
/// older than it need be.
const MOST_CHANGES: usize = 1024;

/// The guilds of one session.
#[derive(Debug, Default)]
pub struct Guilds {
    /// How many are here; none while no READY and no stored number was seen.
    here: Option<u32>,
    away: BTreeSet<u64>,
    /// By how much `here` grew with each event that may come again after a restart.
    changes: VecDeque<(Seq, i32)>,
}

impl Guilds {
    /// The guilds of a session that is taken up again.
    pub fn stored(here: Option<u32>) -> Self {
        Self { here, ..Self::default() }
    }

    /// READY: these are all. They come one by one, unless the shard is not told of guilds: then they count as here. `None`: they
    /// could not be read, and how many there are is not known in this session.
    pub fn ready(&mut self, ids: Option<&[u64]>, come: bool) {
        let Some(ids) = ids else { return *self = Self::default() };
        let here = if come { 0 } else { u32::try_from(ids.len()).unwrap_or(u32::MAX) };
        let away = ids.iter().copied().filter(|_| come).collect();
        *self = Self { here: Some(here), away, changes: VecDeque::new() };
    }

    /// GUILD_CREATE.
    pub fn created(&mut self, seq: Seq, guild: GuildSign) {
        match guild.unavailable {
            true => _ = self.away.insert(guild.id),
            false => {
                self.away.remove(&guild.id);
                self.change(seq, 1);
            }
        }
    }

    /// GUILD_DELETE.
    pub fn deleted(&mut self, seq: Seq, guild: GuildSign) {
        let was_away = match guild.unavailable {
            true => !self.away.insert(guild.id),
            false => self.away.remove(&guild.id),
        };
        if !was_away {
            self.change(seq, -1);
        }
    }

    /// How many there are, as far as is known.
    pub fn count(&self) -> Option<u32> {
        let away = u32::try_from(self.away.len()).unwrap_or(u32::MAX);
        Some(self.here?.saturating_add(away))
    }

    /// How many were here at this committed number: what comes after it comes again after a restart.
    pub fn at(&mut self, committed: Seq) -> Option<u32> {
        while self.changes.front().is_some_and(|(seq, _)| *seq <= committed) {
            self.changes.pop_front();
        }
        let since: i32 = self.changes.iter().map(|(_, by)| by).sum();
        Some(self.here?.saturating_add_signed(-since))
    }

    fn change(&mut self, seq: Seq, by: i32) {
        let Some(here) = &mut self.here else { return };
        *here = here.saturating_add_signed(by);
        let is_full = self.changes.len() >= MOST_CHANGES;
        match self.changes.back_mut() {
            Some(last) if is_full => *last = (seq, last.1 + by),
            _ => self.changes.push_back((seq, by)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(n: u64) -> Seq {
        Seq::new(n)
    }

    const fn here(id: u64) -> GuildSign {
        GuildSign { id, unavailable: false }
    }

    const fn out(id: u64) -> GuildSign {
        GuildSign { id, unavailable: true }
    }

    #[test]
    fn ready_tells_how_many_and_creates_after_it_are_those() {
        let mut guilds = Guilds::default();
        guilds.created(seq(1), here(9));
        assert_eq!(guilds.count(), None, "nobody knows of the others");
        guilds.ready(Some(&[1, 2, 3]), true);
        guilds.created(seq(2), here(1));
        guilds.created(seq(3), out(2));
        assert_eq!(guilds.count(), Some(3));
        guilds.created(seq(4), here(4));
        assert_eq!(guilds.count(), Some(4), "the bot joined one");
        guilds.deleted(seq(5), here(4));
        guilds.deleted(seq(6), here(3));
        assert_eq!(guilds.count(), Some(2), "it left that and one that was away");
    }

    #[test]
    fn a_ready_that_cannot_be_read_tells_of_no_number() {
        let mut guilds = Guilds::stored(Some(3));
        guilds.ready(None, true);
        guilds.created(seq(2), here(1));
        assert_eq!((guilds.count(), guilds.at(seq(2))), (None, None));
    }

    #[test]
    fn an_outage_changes_no_count() {
        let mut guilds = Guilds::default();
        guilds.ready(Some(&[1]), true);
        guilds.created(seq(2), here(1));
        for n in 0..3 {
            guilds.deleted(seq(3 + 2 * n), out(1));
            guilds.deleted(seq(3 + 2 * n), out(1));
            assert_eq!(guilds.count(), Some(1));
            guilds.created(seq(4 + 2 * n), here(1));
            assert_eq!(guilds.count(), Some(1));
        }
    }

    #[test]
    fn whoever_goes_on_from_a_committed_number_comes_to_the_same_count() {
        let mut guilds = Guilds::default();
        guilds.ready(Some(&(1..=10).collect::<Vec<_>>()), true);
        for id in 1..=8 {
            guilds.created(seq(1 + id), here(id));
        }
        // 9 and 10 are away. Up to 5, four guilds had come.
        assert_eq!((guilds.count(), guilds.at(seq(5))), (Some(10), Some(4)));
        let mut next = Guilds::stored(guilds.at(seq(5)));
        for id in 5..=10 {
            next.created(seq(1 + id), here(id));
        }
        assert_eq!(next.count(), Some(10));
        assert_eq!(guilds.at(seq(9)), Some(8));
    }

    #[test]
    fn without_the_intent_ready_is_all_that_is_known() {
        let mut guilds = Guilds::default();
        guilds.ready(Some(&[1, 2]), false);
        assert_eq!((guilds.count(), guilds.at(seq(1))), (Some(2), Some(2)));
    }

    #[test]
    fn what_waits_for_its_commit_is_bounded() {
        let mut guilds = Guilds::default();
        guilds.ready(Some(&[]), true);
        for id in 0..3 * MOST_CHANGES as u64 {
            guilds.created(seq(id), here(id));
        }
        assert_eq!(guilds.changes.len(), MOST_CHANGES);
        assert_eq!(guilds.at(seq(MOST_CHANGES as u64 - 2)), Some(MOST_CHANGES as u32 - 1));
        assert_eq!(guilds.at(seq(3 * MOST_CHANGES as u64)), guilds.count());
    }
}
