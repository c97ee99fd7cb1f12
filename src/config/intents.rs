//! The events to publish, and the intents that bring them: given, or derived from the events.

use std::collections::BTreeSet;

use crate::discord::events;
use crate::discord::intents::Intents;

use super::nearest::{did_you_mean, nearest};
use super::report::Report;
use super::values::list;
use super::variables::Raw;

/// The notice of a gap: always published, and no event of Discord's.
const GAP_EVENT: &str = "OPTIC_GAP";

/// As long as a routing key can be.
const LONGEST_NAME: usize = 255;

/// Which events are published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EventFilter {
    /// Those that have a queue.
    #[default]
    Auto,
    /// These, known to us or not.
    Listed(BTreeSet<String>),
}

/// The intents to identify with, and where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentChoice {
    intents: Intents,
    origin: IntentOrigin,
    /// Events that are forwarded had a part in it.
    forwarding: bool,
}

/// Where the intents come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentOrigin {
    /// `DISCORD_INTENTS` or `DISCORD_RAW_INTENTS`.
    Given,
    /// The smallest set that brings the listed events.
    Events,
    /// No events are listed: every intent that is not privileged.
    Unprivileged,
}

impl IntentChoice {
    /// The intents.
    pub fn intents(&self) -> Intents {
        self.intents
    }

    /// Where they come from.
    pub fn origin(&self) -> IntentOrigin {
        self.origin
    }

    /// What a person should know of the choice, a line each, for the log at the start.
    pub fn notes(&self) -> Vec<String> {
        let from = match self.origin {
            IntentOrigin::Given => "as set",
            IntentOrigin::Events => "derived from DISCORD_EVENTS",
            IntentOrigin::Unprivileged => "all that are not privileged, since DISCORD_EVENTS lists none",
        };
        let forwarding = if self.forwarding { ", and what FORWARDING needs" } else { "" };
        let mut notes = vec![format!("intents, {from}{forwarding}: {}", self.intents)];
        let privileged = self.intents.intersection(Intents::PRIVILEGED);
        if privileged != Intents::NONE {
            notes.push(format!("privileged, to be switched on in Discord's developer portal: {privileged}"));
        }
        let messages = Intents::GUILD_MESSAGES.union(Intents::DIRECT_MESSAGES);
        if self.origin != IntentOrigin::Given && self.intents.intersects(messages) {
            notes.push(
                "messages come without their content, but for direct messages and mentions: for all of it name every \
                 intent in DISCORD_INTENTS, with MESSAGE_CONTENT, which is privileged"
                    .to_owned(),
            );
        }
        notes
    }
}

/// Reads both together: what is listed, and what is forwarded beside, decides what is derived.
pub(super) fn parse(raw: &Raw, forwarded: &BTreeSet<&str>, report: &mut Report) -> (EventFilter, IntentChoice) {
    let events = raw.discord_events.as_deref().map(|text| event_filter(text, report)).unwrap_or_default();
    let choice = match given(raw, report) {
        Some(intents) => {
            if let EventFilter::Listed(names) = &events {
                warn_about_what_never_comes("DISCORD_EVENTS", names.iter().map(String::as_str), intents, report);
            }
            warn_about_what_never_comes("FORWARDING", forwarded.iter().copied(), intents, report);
            IntentChoice { intents, origin: IntentOrigin::Given, forwarding: false }
        }
        None => {
            let (intents, origin) = match &events {
                EventFilter::Auto => (Intents::ALL.without(Intents::PRIVILEGED), IntentOrigin::Unprivileged),
                EventFilter::Listed(names) => {
                    (Intents::covering(names.iter().map(String::as_str)), IntentOrigin::Events)
                }
            };
            let all = intents.union(Intents::covering(forwarded.iter().copied()));
            IntentChoice { intents: all, origin, forwarding: all != intents }
        }
    };
    (events, choice)
}

fn event_filter(text: &str, report: &mut Report) -> EventFilter {
    const NAME: &str = "DISCORD_EVENTS";
    let parts: Vec<&str> = list(text).collect();
    let autos = parts.iter().filter(|part| part.eq_ignore_ascii_case("auto")).count();
    match autos {
        0 if parts.is_empty() => {
            report.wrong(NAME, text, "no event is named", "write names such as MESSAGE_CREATE,GUILD_CREATE, or auto");
            EventFilter::Auto
        }
        0 => EventFilter::Listed(parts.into_iter().filter_map(|part| event_name(NAME, text, part, report)).collect()),
        n if n == parts.len() => EventFilter::Auto,
        _ => {
            report.wrong(NAME, text, "auto stands beside names", "write auto alone, or only names");
            EventFilter::Auto
        }
    }
}

/// An event's name as Discord writes it. Unknown ones are kept, since Discord adds events, and warned about.
pub(super) fn event_name(variable: &str, text: &str, part: &str, report: &mut Report) -> Option<String> {
    let name = part.to_ascii_uppercase();
    let meant = nearest(&name, events::ALL.iter().map(|event| event.name));
    if name.len() > LONGEST_NAME || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        let problem = format!("{part:?} cannot be an event's name{}", did_you_mean(meant));
        report.wrong(variable, text, problem, "write names such as MESSAGE_CREATE, separated by commas");
        return None;
    }
    if let Some(doubt) = doubt_about_event(&name) {
        report.warn(variable, format!("{doubt}; it is kept as it is"));
    }
    Some(name)
}

/// What is doubtful about an event's name: that Discord does not document it, and which it does.
pub fn doubt_about_event(name: &str) -> Option<String> {
    if name == GAP_EVENT || events::find(name).is_some() {
        return None;
    }
    let hint = did_you_mean(nearest(name, events::ALL.iter().map(|event| event.name)));
    Some(format!("{name} is no event that Discord documents{hint}"))
}

/// The intents that were set, if any. The number goes before the names, as in spec-tacles/gateway.
fn given(raw: &Raw, report: &mut Report) -> Option<Intents> {
    let named = raw.discord_intents.as_deref().map(|text| named_intents(text, report));
    let number = raw.discord_raw_intents.as_deref().and_then(|text| match bits(text) {
        Some(bits) => Some(numbered("DISCORD_RAW_INTENTS", bits, report)),
        None => {
            report.wrong(
                "DISCORD_RAW_INTENTS",
                text,
                "not a number of intents",
                "write the sum of the bits, such as 513",
            );
            None
        }
    });
    match (named, number) {
        (Some(named), Some(Intents::NONE)) => Some(named),
        (Some(named), Some(number)) => {
            if named != number {
                report
                    .warn("DISCORD_RAW_INTENTS", format!("goes before DISCORD_INTENTS, which has no effect: {number}"));
            }
            Some(number)
        }
        (named, number) => number.or(named),
    }
}

fn named_intents(text: &str, report: &mut Report) -> Intents {
    const NAME: &str = "DISCORD_INTENTS";
    if let Some(bits) = bits(text) {
        return numbered(NAME, bits, report);
    }
    let mut set = Intents::NONE;
    let mut unknown = Vec::new();
    for part in list(text).flat_map(|part| part.split('|')).filter(|part| !part.is_empty()) {
        let name = part.to_ascii_uppercase();
        match name.as_str() {
            // The first name of what came to hold stickers and sounds too.
            "GUILD_EMOJIS" => set = set.union(Intents::GUILD_EXPRESSIONS),
            "ALL" | "DEFAULT" => {
                unknown.push(format!("{name} (unset DISCORD_INTENTS for all that are not privileged)"));
            }
            _ => match Intents::from_name(&name) {
                Some(intent) => set = set.union(intent),
                None => unknown.push(format!("{name}{}", did_you_mean(nearest(&name, Intents::all_names())))),
            },
        }
    }
    if !unknown.is_empty() {
        let problem = format!("no such intent: {}", unknown.join(", "));
        report.wrong(NAME, text, problem, "write Discord's names, such as GUILDS,GUILD_MESSAGES, or a number");
    } else if set == Intents::NONE {
        report.wrong(NAME, text, "no intent is named", "write names such as GUILDS,GUILD_MESSAGES; 0 is for none");
    }
    set
}

/// A number, decimal or `0x…`.
fn bits(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn numbered(variable: &str, bits: u64, report: &mut Report) -> Intents {
    let intents = Intents::from_bits(bits);
    let unknown = intents.without(Intents::ALL);
    if unknown != Intents::NONE {
        let text = format!("has bits that no documented intent has, {unknown}; Discord may refuse them (4013)");
        report.warn(variable, text);
    }
    intents
}

fn warn_about_what_never_comes<'a>(
    variable: &str,
    names: impl Iterator<Item = &'a str>,
    intents: Intents,
    report: &mut Report,
) {
    for event in names.filter_map(events::find) {
        if event.intents != Intents::NONE && !event.intents.intersects(intents) {
            let text =
                format!("{} never comes: none of the intents brings it, which {} does", event.name, event.intents);
            report.warn(variable, text);
        }
    }
}
