//! Which event comes when: event `i` of a session is a pure function of seed, shard, intents and `i`.
//!
//! So a replay buffer need not hold bytes: what is replayed is made again.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use super::config::Settings;
use super::payloads;
use super::template::{Seed, Template, guild_id, mix, write_members};
use crate::discord::events;
use crate::discord::ids::Shard;
use crate::discord::intents::Intents;

/// Members of a GUILD_MEMBERS_CHUNK, at most.
pub const CHUNK: u32 = 1_000;

/// Intents that bring what happens in direct messages.
const DIRECT: Intents = Intents::DIRECT_MESSAGES
    .union(Intents::DIRECT_MESSAGE_REACTIONS)
    .union(Intents::DIRECT_MESSAGE_TYPING)
    .union(Intents::DIRECT_MESSAGE_POLLS);

/// Every example, cut once: shared by all sessions.
#[derive(Debug)]
pub struct Catalogue {
    events: HashMap<&'static str, Vec<Arc<Variant>>>,
    settings: Settings,
    /// Members that fill a GUILD_CREATE up to the wanted size.
    filling: u32,
    /// Members that fill a large event.
    large: u32,
}

#[derive(Debug)]
struct Variant {
    name: &'static str,
    open: Template,
    blank: Option<Template>,
}

/// What one session gets: the events its intents and its shard let through.
#[derive(Clone, Debug)]
pub struct Plan {
    seed: u64,
    intents: Intents,
    shard: Shard,
    guilds: u64,
    /// Upper ends of each event's share of 0..=u32::MAX, with its variants.
    shares: Vec<(u32, Vec<Arc<Variant>>)>,
}

impl Catalogue {
    /// Cuts the examples.
    pub fn new(settings: &Settings) -> Self {
        let variant = |name: &'static str, packet: &&str| {
            let open = Template::new(name, packet, false);
            let is_message = matches!(name, "MESSAGE_CREATE" | "MESSAGE_UPDATE");
            let blank = (is_message && open.has_guild).then(|| Template::new(name, packet, true));
            Arc::new(Variant { name, open, blank })
        };
        let events: HashMap<_, Vec<_>> = payloads::ALL
            .iter()
            .map(|example| (example.name, example.packets.iter().map(|packet| variant(example.name, packet)).collect()))
            .collect();
        let mut member = Vec::new();
        write_members(&mut member, 0, 0..1).expect("a Vec takes everything");
        let members = |bytes: usize| (bytes / member.len()).min(1_000_000) as u32;
        let guild = events["GUILD_CREATE"][0].open.len;
        Self {
            filling: members(settings.guild_bytes.saturating_sub(guild)),
            large: members(settings.large_bytes),
            events,
            settings: settings.clone(),
        }
    }

    /// What a session of this shard with these intents gets.
    pub fn plan(&self, shard: Shard, intents: Intents) -> Plan {
        let guilds = self.guilds_of(shard);
        let allowed = |variant: &&Arc<Variant>| self.allows(variant, shard, intents, guilds);
        let kept: Vec<(f64, Vec<Arc<Variant>>)> = self
            .settings
            .mix
            .weights()
            .iter()
            .map(|(name, weight)| (*weight, self.events[name].iter().filter(allowed).cloned().collect::<Vec<_>>()))
            .filter(|(_, variants)| !variants.is_empty())
            .collect();
        let total: f64 = kept.iter().map(|(weight, _)| weight).sum();
        let mut sum = 0.0;
        let shares = kept
            .into_iter()
            .map(|(weight, variants)| {
                sum += weight;
                ((sum / total * f64::from(u32::MAX)) as u32, variants)
            })
            .collect();
        let seed = mix(self.settings.seed ^ mix(u64::from(shard.id().get())));
        Plan { seed, intents, shard, guilds, shares }
    }

    /// How many guilds this shard has.
    pub fn guilds_of(&self, shard: Shard) -> u64 {
        let (id, count) = (u64::from(shard.id().get()), u64::from(shard.count()));
        let first = first_guild(id, count);
        self.settings.guilds.saturating_sub(first).div_ceil(count)
    }

    /// Writes the GUILD_CREATE of the shard's `n`th guild.
    pub fn guild(&self, out: &mut Vec<u8>, plan: &Plan, n: u64) {
        let guild = plan.guild(n);
        let seed = Seed { guild, index: 0, random: mix(guild) };
        self.events["GUILD_CREATE"][0].open.render(out, seed, self.filling);
    }

    /// The name of event `index`.
    pub fn name(&self, plan: &Plan, index: u64) -> Option<&'static str> {
        if self.is_large(plan, index) {
            return Some(if (index / self.settings.large_every).is_multiple_of(2) {
                "GUILD_CREATE"
            } else {
                "GUILD_MEMBERS_CHUNK"
            });
        }
        plan.variant(index).map(|(variant, _)| variant.name)
    }

    /// Writes the `d` of event `index`.
    pub fn event(&self, out: &mut Vec<u8>, plan: &Plan, index: u64) {
        if self.is_large(plan, index) {
            let guild = plan.guild(index);
            if (index / self.settings.large_every).is_multiple_of(2) {
                let seed = Seed { guild, index: 0, random: mix(guild) };
                self.events["GUILD_CREATE"][0].open.render(out, seed, self.large);
            } else {
                members_chunk(out, guild, 0..self.large, 0, 1, None);
            }
        } else if let Some((variant, random)) = plan.variant(index) {
            plan.render(variant, out, index, random);
        }
    }

    /// Writes the `d` of an example, as event `index`; whether there is one.
    pub fn example(&self, out: &mut Vec<u8>, plan: &Plan, name: &str, index: u64) -> bool {
        let Some(variants) = self.events.get(name) else { return false };
        plan.render(&variants[0], out, index, mix(plan.seed ^ index));
        true
    }

    fn is_large(&self, plan: &Plan, index: u64) -> bool {
        let every = self.settings.large_every;
        every > 0 && index % every == every - 1 && plan.guilds > 0 && plan.intents.contains(Intents::GUILDS)
    }

    fn allows(&self, variant: &Variant, shard: Shard, intents: Intents, guilds: u64) -> bool {
        let Some(known) = events::find(variant.name) else { return false };
        let in_guild = variant.open.has_guild;
        let needed = if in_guild { known.intents.without(DIRECT) } else { known.intents.intersection(DIRECT) };
        let place = if in_guild { guilds > 0 } else { shard.id().get() == 0 };
        // An event that guilds alone bring, in a form without a guild's id, follows the guild's intents.
        let needed = if needed == Intents::NONE { known.intents } else { needed };
        place && (needed == Intents::NONE || intents.intersects(needed))
    }
}

impl Plan {
    /// The number of the shard's `n`th guild, going round.
    pub fn guild(&self, n: u64) -> u64 {
        let count = u64::from(self.shard.count());
        first_guild(u64::from(self.shard.id().get()), count) + n % self.guilds.max(1) * count
    }

    /// The session's intents.
    pub fn intents(&self) -> Intents {
        self.intents
    }

    /// How many guilds the shard has.
    pub fn guilds(&self) -> u64 {
        self.guilds
    }

    /// Whether the guild with this number is the shard's.
    pub fn has_guild(&self, number: u64) -> bool {
        (0..self.guilds).any(|n| self.guild(n) == number)
    }

    fn variant(&self, index: u64) -> Option<(&Arc<Variant>, u64)> {
        let random = mix(self.seed ^ mix(index));
        let place = (random >> 32) as u32;
        let at = self.shares.partition_point(|(end, _)| *end < place).min(self.shares.len().checked_sub(1)?);
        let variants = &self.shares[at].1;
        let random = mix(random);
        // The usual form comes more often than its variants.
        let which = if random & 3 == 0 { (random >> 2) as usize % variants.len() } else { 0 };
        Some((&variants[which], random))
    }

    fn render(&self, variant: &Variant, out: &mut Vec<u8>, index: u64, random: u64) {
        let template = match &variant.blank {
            Some(blank) if !self.intents.contains(Intents::MESSAGE_CONTENT) => blank,
            _ => &variant.open,
        };
        let guild = if template.has_guild { self.guild(random >> 8) } else { 0 };
        template.render(out, Seed { guild, index, random }, 0);
    }
}

/// Writes the `d` of a GUILD_MEMBERS_CHUNK.
pub fn members_chunk(
    out: &mut Vec<u8>,
    guild: u64,
    members: std::ops::Range<u32>,
    index: u32,
    count: u32,
    nonce: Option<&str>,
) {
    write!(out, r#"{{"guild_id":"{}","members":["#, guild_id(guild)).expect("a Vec takes everything");
    write_members(out, guild, members).expect("a Vec takes everything");
    write!(out, r#"],"chunk_index":{index},"chunk_count":{count}"#).expect("a Vec takes everything");
    if let Some(nonce) = nonce {
        write!(out, r#","nonce":{}"#, serde_json::Value::from(nonce)).expect("a Vec takes everything");
    }
    out.push(b'}');
}

/// The lowest number of a guild that falls to this shard.
fn first_guild(shard: u64, count: u64) -> u64 {
    (shard + count - (guild_id(0) >> 22) % count) % count
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::discord::ids::ShardId;

    fn shard(id: u32, count: u32) -> Shard {
        Shard::new(ShardId::new(id), count).expect("id < count")
    }

    #[test]
    fn an_event_is_a_pure_function_of_seed_shard_and_index() {
        let settings = Settings::default();
        let (a, b) = (Catalogue::new(&settings), Catalogue::new(&settings));
        let plans = (a.plan(shard(1, 4), Intents::ALL), b.plan(shard(1, 4), Intents::ALL));
        let other = a.plan(shard(2, 4), Intents::ALL);
        let mut same = 0;
        for index in 0..500 {
            let (mut x, mut y, mut z) = (Vec::new(), Vec::new(), Vec::new());
            a.event(&mut x, &plans.0, index);
            b.event(&mut y, &plans.1, index);
            a.event(&mut z, &other, index);
            assert_eq!(x, y);
            same += usize::from(x == z);
        }
        assert!(same < 10, "shards get different events");
    }

    #[test]
    fn every_guild_falls_to_one_shard_by_its_id() {
        let catalogue = Catalogue::new(&Settings { guilds: 50, ..Settings::default() });
        let mut seen = HashSet::new();
        for id in 0..7 {
            let plan = catalogue.plan(shard(id, 7), Intents::ALL);
            for n in 0..plan.guilds() {
                let guild = plan.guild(n);
                assert_eq!((guild_id(guild) >> 22) % 7, u64::from(id));
                assert!(seen.insert(guild) && guild < 50);
            }
        }
        assert_eq!(seen.len(), 50);
    }

    #[test]
    fn intents_decide_what_comes_and_direct_messages_come_on_shard_0_only() {
        let catalogue =
            Catalogue::new(&Settings { mix: "MESSAGE_CREATE".parse().expect("mix"), ..Settings::default() });
        let has_guild = |plan: &Plan| {
            (0..200).map(|index| plan.variant(index).expect("an event").0.open.has_guild).collect::<HashSet<_>>()
        };
        let both = Intents::GUILD_MESSAGES.union(Intents::DIRECT_MESSAGES);
        assert_eq!(has_guild(&catalogue.plan(shard(0, 2), both)), HashSet::from([true, false]));
        assert_eq!(has_guild(&catalogue.plan(shard(1, 2), both)), HashSet::from([true]));
        assert_eq!(has_guild(&catalogue.plan(shard(0, 2), Intents::DIRECT_MESSAGES)), HashSet::from([false]));
        assert!(catalogue.plan(shard(1, 2), Intents::DIRECT_MESSAGES).variant(0).is_none());
        assert!(catalogue.plan(shard(0, 2), Intents::GUILDS).variant(0).is_none());
    }

    #[test]
    fn large_events_are_as_large_as_asked() {
        let settings = Settings { large_every: 2, large_bytes: 300_000, ..Settings::default() };
        let catalogue = Catalogue::new(&settings);
        let plan = catalogue.plan(shard(0, 1), Intents::ALL);
        for index in [1, 3] {
            let mut out = Vec::new();
            catalogue.event(&mut out, &plan, index);
            assert!((280_000..350_000).contains(&out.len()), "{}", out.len());
            serde_json::from_slice::<serde_json::Value>(&out).expect("JSON");
        }
        assert_eq!(catalogue.name(&plan, 1), Some("GUILD_CREATE"));
        assert_eq!(catalogue.name(&plan, 3), Some("GUILD_MEMBERS_CHUNK"));
    }
}
