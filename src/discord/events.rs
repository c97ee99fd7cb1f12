//! The dispatch events that Discord documents, with the intents that bring them.
//!
//! Discord's documentation: "Gateway Events". Discord adds events: a name that is not here is still an event.

use super::intents::Intents;

/// A documented event.
#[derive(Debug)]
pub struct Known {
    /// Its `t`.
    pub name: &'static str,
    /// Any one of these brings it; none: it is always sent, or sent as an answer.
    pub intents: Intents,
    /// Where its guild's id is found, and so which shard gets it.
    pub guild: GuildKey,
}

/// Where an event says which guild it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuildKey {
    /// Nowhere: it goes to shard 0, or belongs to the session.
    None,
    /// `d.id`
    Id,
    /// `d.guild_id`
    GuildId,
    /// `d.meta.guild_id`
    MetaGuildId,
}

/// The event of this name, if it is documented.
pub fn find(name: &str) -> Option<&'static Known> {
    ALL.iter().find(|event| event.name == name)
}

const fn event(name: &'static str, intents: Intents, guild: GuildKey) -> Known {
    Known { name, intents, guild }
}

/// Every documented event, in the documentation's order.
#[rustfmt::skip]
pub const ALL: &[Known] = &[
    event("READY", Intents::NONE, GuildKey::None),
    event("RESUMED", Intents::NONE, GuildKey::None),
    event("RATE_LIMITED", Intents::NONE, GuildKey::MetaGuildId),
    event("APPLICATION_COMMAND_PERMISSIONS_UPDATE", Intents::NONE, GuildKey::GuildId),
    event("AUTO_MODERATION_RULE_CREATE", Intents::AUTO_MODERATION_CONFIGURATION, GuildKey::GuildId),
    event("AUTO_MODERATION_RULE_UPDATE", Intents::AUTO_MODERATION_CONFIGURATION, GuildKey::GuildId),
    event("AUTO_MODERATION_RULE_DELETE", Intents::AUTO_MODERATION_CONFIGURATION, GuildKey::GuildId),
    event("AUTO_MODERATION_ACTION_EXECUTION", Intents::AUTO_MODERATION_EXECUTION, GuildKey::GuildId),
    event("CHANNEL_CREATE", Intents::GUILDS, GuildKey::GuildId),
    event("CHANNEL_UPDATE", Intents::GUILDS, GuildKey::GuildId),
    event("CHANNEL_DELETE", Intents::GUILDS, GuildKey::GuildId),
    event("CHANNEL_INFO", Intents::NONE, GuildKey::GuildId),
    event("CHANNEL_PINS_UPDATE", Intents::GUILDS.union(Intents::DIRECT_MESSAGES), GuildKey::GuildId),
    event("THREAD_CREATE", Intents::GUILDS, GuildKey::GuildId),
    event("THREAD_UPDATE", Intents::GUILDS, GuildKey::GuildId),
    event("THREAD_DELETE", Intents::GUILDS, GuildKey::GuildId),
    event("THREAD_LIST_SYNC", Intents::GUILDS, GuildKey::GuildId),
    event("THREAD_MEMBER_UPDATE", Intents::GUILDS, GuildKey::GuildId),
    event("THREAD_MEMBERS_UPDATE", Intents::GUILDS.union(Intents::GUILD_MEMBERS), GuildKey::GuildId),
    event("ENTITLEMENT_CREATE", Intents::NONE, GuildKey::GuildId),
    event("ENTITLEMENT_UPDATE", Intents::NONE, GuildKey::GuildId),
    event("ENTITLEMENT_DELETE", Intents::NONE, GuildKey::GuildId),
    event("GUILD_CREATE", Intents::GUILDS, GuildKey::Id),
    event("GUILD_UPDATE", Intents::GUILDS, GuildKey::Id),
    event("GUILD_DELETE", Intents::GUILDS, GuildKey::Id),
    event("GUILD_AUDIT_LOG_ENTRY_CREATE", Intents::GUILD_MODERATION, GuildKey::GuildId),
    event("GUILD_BAN_ADD", Intents::GUILD_MODERATION, GuildKey::GuildId),
    event("GUILD_BAN_REMOVE", Intents::GUILD_MODERATION, GuildKey::GuildId),
    event("GUILD_EMOJIS_UPDATE", Intents::GUILD_EXPRESSIONS, GuildKey::GuildId),
    event("GUILD_STICKERS_UPDATE", Intents::GUILD_EXPRESSIONS, GuildKey::GuildId),
    event("GUILD_INTEGRATIONS_UPDATE", Intents::GUILD_INTEGRATIONS, GuildKey::GuildId),
    event("GUILD_MEMBER_ADD", Intents::GUILD_MEMBERS, GuildKey::GuildId),
    event("GUILD_MEMBER_REMOVE", Intents::GUILD_MEMBERS, GuildKey::GuildId),
    event("GUILD_MEMBER_UPDATE", Intents::GUILD_MEMBERS, GuildKey::GuildId),
    event("GUILD_MEMBERS_CHUNK", Intents::NONE, GuildKey::GuildId),
    event("GUILD_ROLE_CREATE", Intents::GUILDS, GuildKey::GuildId),
    event("GUILD_ROLE_UPDATE", Intents::GUILDS, GuildKey::GuildId),
    event("GUILD_ROLE_DELETE", Intents::GUILDS, GuildKey::GuildId),
    event("GUILD_SCHEDULED_EVENT_CREATE", Intents::GUILD_SCHEDULED_EVENTS, GuildKey::GuildId),
    event("GUILD_SCHEDULED_EVENT_UPDATE", Intents::GUILD_SCHEDULED_EVENTS, GuildKey::GuildId),
    event("GUILD_SCHEDULED_EVENT_DELETE", Intents::GUILD_SCHEDULED_EVENTS, GuildKey::GuildId),
    event("GUILD_SCHEDULED_EVENT_USER_ADD", Intents::GUILD_SCHEDULED_EVENTS, GuildKey::GuildId),
    event("GUILD_SCHEDULED_EVENT_USER_REMOVE", Intents::GUILD_SCHEDULED_EVENTS, GuildKey::GuildId),
    event("GUILD_SOUNDBOARD_SOUND_CREATE", Intents::GUILD_EXPRESSIONS, GuildKey::GuildId),
    event("GUILD_SOUNDBOARD_SOUND_UPDATE", Intents::GUILD_EXPRESSIONS, GuildKey::GuildId),
    event("GUILD_SOUNDBOARD_SOUND_DELETE", Intents::GUILD_EXPRESSIONS, GuildKey::GuildId),
    event("GUILD_SOUNDBOARD_SOUNDS_UPDATE", Intents::GUILD_EXPRESSIONS, GuildKey::GuildId),
    event("SOUNDBOARD_SOUNDS", Intents::NONE, GuildKey::GuildId),
    event("INTEGRATION_CREATE", Intents::GUILD_INTEGRATIONS, GuildKey::GuildId),
    event("INTEGRATION_UPDATE", Intents::GUILD_INTEGRATIONS, GuildKey::GuildId),
    event("INTEGRATION_DELETE", Intents::GUILD_INTEGRATIONS, GuildKey::GuildId),
    event("INTERACTION_CREATE", Intents::NONE, GuildKey::GuildId),
    event("INVITE_CREATE", Intents::GUILD_INVITES, GuildKey::GuildId),
    event("INVITE_DELETE", Intents::GUILD_INVITES, GuildKey::GuildId),
    event("MESSAGE_CREATE", Intents::GUILD_MESSAGES.union(Intents::DIRECT_MESSAGES), GuildKey::GuildId),
    event("MESSAGE_UPDATE", Intents::GUILD_MESSAGES.union(Intents::DIRECT_MESSAGES), GuildKey::GuildId),
    event("MESSAGE_DELETE", Intents::GUILD_MESSAGES.union(Intents::DIRECT_MESSAGES), GuildKey::GuildId),
    event("MESSAGE_DELETE_BULK", Intents::GUILD_MESSAGES, GuildKey::GuildId),
    event("MESSAGE_REACTION_ADD", Intents::GUILD_MESSAGE_REACTIONS.union(Intents::DIRECT_MESSAGE_REACTIONS), GuildKey::GuildId),
    event("MESSAGE_REACTION_REMOVE", Intents::GUILD_MESSAGE_REACTIONS.union(Intents::DIRECT_MESSAGE_REACTIONS), GuildKey::GuildId),
    event("MESSAGE_REACTION_REMOVE_ALL", Intents::GUILD_MESSAGE_REACTIONS.union(Intents::DIRECT_MESSAGE_REACTIONS), GuildKey::GuildId),
    event("MESSAGE_REACTION_REMOVE_EMOJI", Intents::GUILD_MESSAGE_REACTIONS.union(Intents::DIRECT_MESSAGE_REACTIONS), GuildKey::GuildId),
    event("PRESENCE_UPDATE", Intents::GUILD_PRESENCES, GuildKey::GuildId),
    event("STAGE_INSTANCE_CREATE", Intents::GUILDS, GuildKey::GuildId),
    event("STAGE_INSTANCE_UPDATE", Intents::GUILDS, GuildKey::GuildId),
    event("STAGE_INSTANCE_DELETE", Intents::GUILDS, GuildKey::GuildId),
    event("SUBSCRIPTION_CREATE", Intents::NONE, GuildKey::None),
    event("SUBSCRIPTION_UPDATE", Intents::NONE, GuildKey::None),
    event("SUBSCRIPTION_DELETE", Intents::NONE, GuildKey::None),
    event("TYPING_START", Intents::GUILD_MESSAGE_TYPING.union(Intents::DIRECT_MESSAGE_TYPING), GuildKey::GuildId),
    event("USER_UPDATE", Intents::NONE, GuildKey::None),
    event("VOICE_CHANNEL_EFFECT_SEND", Intents::GUILD_VOICE_STATES, GuildKey::GuildId),
    event("VOICE_CHANNEL_START_TIME_UPDATE", Intents::GUILDS, GuildKey::GuildId),
    event("VOICE_CHANNEL_STATUS_UPDATE", Intents::GUILDS, GuildKey::GuildId),
    event("VOICE_STATE_UPDATE", Intents::GUILD_VOICE_STATES, GuildKey::GuildId),
    event("VOICE_SERVER_UPDATE", Intents::NONE, GuildKey::GuildId),
    event("WEBHOOKS_UPDATE", Intents::GUILD_WEBHOOKS, GuildKey::GuildId),
    event("MESSAGE_POLL_VOTE_ADD", Intents::GUILD_MESSAGE_POLLS.union(Intents::DIRECT_MESSAGE_POLLS), GuildKey::GuildId),
    event("MESSAGE_POLL_VOTE_REMOVE", Intents::GUILD_MESSAGE_POLLS.union(Intents::DIRECT_MESSAGE_POLLS), GuildKey::GuildId),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_intents_and_guild_keys_are_those_of_the_reference() {
        let tables = crate::discord::reference();
        let listed = tables["events"].as_array().expect("events");
        assert_eq!(listed.len(), ALL.len());
        for row in listed {
            let event = find(row["name"].as_str().expect("name")).expect("a known event");
            let mut intents: Vec<&str> = event.intents.names().collect();
            let mut expected: Vec<&str> =
                row["intents"].as_array().expect("intents").iter().filter_map(|name| name.as_str()).collect();
            intents.sort_unstable();
            expected.sort_unstable();
            assert_eq!(intents, expected, "{}", event.name);
            let key = match event.guild {
                GuildKey::None => None,
                GuildKey::Id => Some("id"),
                GuildKey::GuildId => Some("guild_id"),
                GuildKey::MetaGuildId => Some("meta.guild_id"),
            };
            assert_eq!(key, row["guild_key"].as_str(), "{}", event.name);
        }
    }
}
