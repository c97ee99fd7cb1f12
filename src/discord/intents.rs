//! Intents: which events Discord sends, by bit.
//!
//! Discord's documentation: "Gateway", section "Gateway Intents".

use std::fmt;

use serde::{Deserialize, Serialize};

use super::events::{self, Known};

/// A set of intents, as in an identify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Intents(u64);

/// One intent.
struct Intent {
    name: &'static str,
    intents: Intents,
}

macro_rules! intents {
    ($($name:ident = $bit:literal),+ $(,)?) => {
        impl Intents {
            $(
                #[doc = concat!("Bit ", stringify!($bit), ".")]
                pub const $name: Self = Self(1 << $bit);
            )+

            /// Every intent there is.
            pub const ALL: Self = Self($(1 << $bit)|+);
        }

        /// Every intent with its name, by bit.
        const TABLE: &[Intent] = &[$(Intent { name: stringify!($name), intents: Intents::$name }),+];
    };
}

intents! {
    GUILDS = 0,
    GUILD_MEMBERS = 1,
    GUILD_MODERATION = 2,
    GUILD_EXPRESSIONS = 3,
    GUILD_INTEGRATIONS = 4,
    GUILD_WEBHOOKS = 5,
    GUILD_INVITES = 6,
    GUILD_VOICE_STATES = 7,
    GUILD_PRESENCES = 8,
    GUILD_MESSAGES = 9,
    GUILD_MESSAGE_REACTIONS = 10,
    GUILD_MESSAGE_TYPING = 11,
    DIRECT_MESSAGES = 12,
    DIRECT_MESSAGE_REACTIONS = 13,
    DIRECT_MESSAGE_TYPING = 14,
    MESSAGE_CONTENT = 15,
    GUILD_SCHEDULED_EVENTS = 16,
    AUTO_MODERATION_CONFIGURATION = 20,
    AUTO_MODERATION_EXECUTION = 21,
    GUILD_MESSAGE_POLLS = 24,
    DIRECT_MESSAGE_POLLS = 25,
}

impl Intents {
    /// No intent: only the events that are always sent.
    pub const NONE: Self = Self(0);

    /// Those that must be switched on in the developer portal.
    pub const PRIVILEGED: Self = Self(Self::GUILD_MEMBERS.0 | Self::GUILD_PRESENCES.0 | Self::MESSAGE_CONTENT.0);

    /// The set with these bits, known or not.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The number on the wire.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The intent of this name, or of one of its two former names.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = match name {
            "GUILD_BANS" => "GUILD_MODERATION",
            "GUILD_EMOJIS_AND_STICKERS" => "GUILD_EXPRESSIONS",
            name => name,
        };
        TABLE.iter().find(|intent| intent.name == name).map(|intent| intent.intents)
    }

    /// Every intent's name, by bit.
    pub fn all_names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|intent| intent.name)
    }

    /// The names in this set; unknown bits have none.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        TABLE.iter().filter(move |intent| self.contains(intent.intents)).map(|intent| intent.name)
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in this set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both sets have.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// This set less the other.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The smallest set that brings these events, privileged intents included where an event has no other.
    ///
    /// An event that several intents bring gets those that bring it by their nature: `MESSAGE_CREATE` both
    /// `GUILD_MESSAGES` and `DIRECT_MESSAGES`; `THREAD_MEMBERS_UPDATE` `GUILDS` alone, for `GUILD_MEMBERS` only
    /// widens it. Unknown names add nothing. `MESSAGE_CONTENT` is never implied.
    pub fn covering<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names.into_iter().filter_map(events::find).fold(Self::NONE, |set, event: &Known| {
            let open = event.intents.without(Self::PRIVILEGED);
            set.union(if open == Self::NONE { event.intents } else { open })
        })
    }
}

impl fmt::Display for Intents {
    /// Names joined by ` | `, then unknown bits as a number; `none` for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        let mut first = true;
        for name in self.names() {
            if !first {
                f.write_str(" | ")?;
            }
            f.write_str(name)?;
            first = false;
        }
        let unknown = self.without(Self::ALL);
        if unknown != Self::NONE {
            write!(f, "{}{:#x}", if first { "" } else { " | " }, unknown.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_names_and_privileges_are_those_of_the_reference() {
        let tables = crate::discord::reference();
        let listed = tables["intents"].as_array().expect("intents");
        assert_eq!(listed.len(), TABLE.len());
        for row in listed {
            let intent = Intents::from_name(row["name"].as_str().expect("name")).expect("a known intent");
            assert_eq!(intent.bits(), row["value"], "{row}");
            assert_eq!(Intents::PRIVILEGED.contains(intent), row["privileged"], "{row}");
        }
        assert_eq!(Intents::ALL.bits(), tables["all_intents_value"]);
        assert_eq!(Intents::PRIVILEGED.bits(), tables["privileged_intents_value"]);
    }

    #[test]
    fn messages_come_from_guilds_and_direct_channels_and_never_imply_their_content() {
        let set = Intents::covering(["MESSAGE_CREATE"]);
        assert_eq!(set, Intents::GUILD_MESSAGES.union(Intents::DIRECT_MESSAGES));
    }

    #[test]
    fn a_privileged_intent_is_implied_only_where_nothing_else_brings_the_event() {
        assert_eq!(Intents::covering(["GUILD_MEMBER_ADD"]), Intents::GUILD_MEMBERS);
        assert_eq!(Intents::covering(["THREAD_MEMBERS_UPDATE"]), Intents::GUILDS);
        assert_eq!(Intents::covering(["INTERACTION_CREATE", "NO_SUCH_EVENT"]), Intents::NONE);
    }

    #[test]
    fn a_set_prints_its_names_and_what_it_does_not_know() {
        assert_eq!(Intents::from_bits(513).to_string(), "GUILDS | GUILD_MESSAGES");
        assert_eq!(Intents::from_bits(1 << 40).to_string(), "0x10000000000");
        assert_eq!(Intents::NONE.to_string(), "none");
    }
}
