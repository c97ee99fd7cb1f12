//! What the simulator is like: one struct with defaults as Discord is, so far as that is known.

use std::net::SocketAddr;
use std::time::Duration;

use super::payloads;
use crate::discord::intents::Intents;
use crate::secret::Secret;

/// How the simulated Discord behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// What clients must call it (`ws://host:port`); unset: as they called it, by their `Host` header.
    pub public_url: Option<String>,
    /// The only token that is right; unset: any.
    pub token: Option<Secret>,
    /// Guilds of the bot, over all shards.
    pub guilds: u64,
    /// Members that an answer to "all members" has.
    pub members: u32,
    /// The size that every GUILD_CREATE is filled up to with members, in bytes.
    pub guild_bytes: usize,
    /// `shards` of `/gateway/bot`.
    pub recommended_shards: u32,
    /// Shard counts must be a multiple of this (large bot sharding), else 4010.
    pub shard_multiple: u32,
    /// Guilds that a shard may have, else 4011.
    pub guilds_per_shard: u64,
    /// Privileged intents that the bot was granted; others bring 4014.
    pub granted: Intents,
    /// Identifies allowed at once.
    pub max_concurrency: u32,
    /// How long an identify blocks its key.
    pub identify_window: Duration,
    /// Session starts a day.
    pub session_starts: u32,
    /// Packets that a connection may send in [`Self::send_window`].
    pub send_limit: usize,
    /// See [`Self::send_limit`].
    pub send_window: Duration,
    /// How long a guild's members cannot be asked for again.
    pub members_window: Duration,
    /// `heartbeat_interval` of Hello. After one and a half without a heartbeat the connection is closed.
    pub heartbeat_interval: Duration,
    /// How long a session outlives its connection.
    pub session_lifetime: Duration,
    /// Events that a session holds for a resume.
    pub replay_events: usize,
    /// Whether events go on while a session has no connection.
    pub produce_while_away: bool,
    /// The traffic's seed.
    pub seed: u64,
    /// Which events come how often.
    pub mix: Mix,
    /// Events a second over all shards; 0: as fast as TCP takes them.
    pub rate: f64,
    /// Events a session gets in all after its guilds; unset: no end.
    pub events: Option<u64>,
    /// When traffic begins.
    pub start: Start,
    /// A flood is compressed when the session is ready, and only written once it begins.
    pub prebuilt: bool,
    /// Every so many events one is of [`Self::large_bytes`]; 0: never.
    pub large_every: u64,
    /// See [`Self::large_every`].
    pub large_bytes: usize,
    /// Whether events carry `d._sim_ts`: the time they were written at, in microseconds since 1970.
    pub stamp: bool,
    /// Websocket messages that a zlib-stream packet is cut into, at most.
    pub split_messages: usize,
    /// Frames that a websocket message is cut into, at most.
    pub split_frames: usize,
}

/// When traffic begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With each session, after its guilds.
    AtOnce,
    /// With `POST /control/start`.
    OnControl,
}

impl Default for Settings {
    /// A quiet Discord: four guilds, documented limits, no traffic until it is started.
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            public_url: None,
            token: None,
            guilds: 4,
            members: 2_500,
            guild_bytes: 0,
            recommended_shards: 1,
            shard_multiple: 1,
            guilds_per_shard: 2_500,
            granted: Intents::PRIVILEGED,
            max_concurrency: 1,
            identify_window: Duration::from_secs(5),
            session_starts: 1_000,
            send_limit: 120,
            send_window: Duration::from_secs(60),
            members_window: Duration::from_secs(30),
            heartbeat_interval: Duration::from_millis(41_250),
            session_lifetime: Duration::from_secs(90),
            replay_events: 100_000,
            produce_while_away: true,
            seed: 1,
            mix: Mix::without_presences(),
            rate: 0.0,
            events: None,
            start: Start::OnControl,
            prebuilt: false,
            large_every: 0,
            large_bytes: 1 << 20,
            stamp: false,
            split_messages: 1,
            split_frames: 1,
        }
    }
}

/// How often each event comes: names with weights above 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix(Vec<(&'static str, f64)>);

/// A mix that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MixError {
    /// No such event.
    #[error("the simulator has no event {0:?}; a mix is `presences`, `no-presences` or EVENT=WEIGHT,EVENT=WEIGHT")]
    UnknownEvent(String),
    /// Not a weight.
    #[error("{0:?} in a mix: a weight is a number above 0")]
    Weight(String),
}

impl Mix {
    /// A bot with every privileged intent: nearly all of it presences.
    pub fn with_presences() -> Self {
        Self::stored("large_bot_all_privileged_intents")
    }

    /// A bot without presences: messages, typing, voice.
    pub fn without_presences() -> Self {
        Self::stored("bot_without_presence_intent")
    }

    /// The names with their weights.
    pub fn weights(&self) -> &[(&'static str, f64)] {
        &self.0
    }

    fn stored(name: &str) -> Self {
        let tables: serde_json::Value = serde_json::from_str(payloads::MIXES).expect("the mixes are JSON");
        let weights = tables["mixes"][name]["weights"].as_object().expect("a mix of that name");
        let known = |(name, weight): (&String, &serde_json::Value)| {
            Some((payloads::find(name)?.name, weight.as_f64().expect("weights are numbers")))
        };
        Self(weights.iter().filter_map(known).collect())
    }
}

impl std::str::FromStr for Mix {
    type Err = MixError;

    /// `presences`, `no-presences`, or `EVENT=WEIGHT,...`; a weight left out is 1.
    fn from_str(text: &str) -> Result<Self, MixError> {
        match text {
            "presences" => return Ok(Self::with_presences()),
            "no-presences" => return Ok(Self::without_presences()),
            _ => {}
        }
        let mut weights = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let example = payloads::find(name).ok_or_else(|| MixError::UnknownEvent(name.to_owned()))?;
            let weight = weight.parse().ok().filter(|weight: &f64| weight.is_finite() && *weight > 0.0);
            weights.push((example.name, weight.ok_or_else(|| MixError::Weight(part.to_owned()))?));
        }
        if weights.is_empty() {
            return Err(MixError::UnknownEvent(text.to_owned()));
        }
        Ok(Self(weights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_named_or_listed() {
        assert_eq!("presences".parse(), Ok(Mix::with_presences()));
        assert_eq!(
            "TYPING_START=2, MESSAGE_CREATE".parse(),
            Ok(Mix(vec![("TYPING_START", 2.0), ("MESSAGE_CREATE", 1.0)]))
        );
    }

    #[test]
    fn a_wrong_mix_names_what_is_wrong() {
        assert_eq!("MESAGE=1".parse::<Mix>(), Err(MixError::UnknownEvent("MESAGE".into())));
        assert_eq!("TYPING_START=-1".parse::<Mix>(), Err(MixError::Weight("TYPING_START=-1".into())));
        assert!("".parse::<Mix>().is_err());
    }
}
