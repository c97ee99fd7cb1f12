//! Shards, sessions and sequence numbers as types, so that they are not mixed up.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// A shard's number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(u32);

impl ShardId {
    /// Shard number `id`.
    pub const fn new(id: u32) -> Self {
        Self(id)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The shard that a guild belongs to, of `count` in all. Discord's documentation: "Gateway", "Sharding Formula".
    pub fn of_guild(guild_id: u64, count: u32) -> Self {
        let shard = (guild_id >> 22) % u64::from(count.max(1));
        Self(u32::try_from(shard).expect("less than the count, which is a u32"))
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A bot's user id, as its token tells it. Public, unlike the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BotId(String);

impl BotId {
    /// The id in a token's first part, which is its digits in base64; `None` for what is no such token.
    pub fn of_token(token: &Secret) -> Option<Self> {
        let first = token.expose().split('.').next()?;
        let mut digits = String::new();
        let (mut bits, mut held) = (0u32, 0);
        for c in first.trim_end_matches('=').bytes() {
            let value = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 & 0xffff | u32::from(value);
            held += 6;
            if held >= 8 {
                held -= 8;
                let digit = char::from((bits >> held & 0xff) as u8);
                digits.push(Some(digit).filter(char::is_ascii_digit)?);
            }
        }
        // A snowflake has at most twenty.
        (1..=20).contains(&digits.len()).then_some(Self(digits))
    }
}

impl fmt::Display for BotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A shard with the count it belongs to: `[id, count]` of an identify. Always `id < count`.
///
/// A session belongs to the pair: with another count it cannot be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "(u32, u32)")]
pub struct Shard {
    id: ShardId,
    count: u32,
}

impl Shard {
    /// The pair, or `None` unless `id < count`.
    pub const fn new(id: ShardId, count: u32) -> Option<Self> {
        if id.0 < count { Some(Self { id, count }) } else { None }
    }

    /// The shard's number.
    pub const fn id(self) -> ShardId {
        self.id
    }

    /// How many shards the bot has in all.
    pub const fn count(self) -> u32 {
        self.count
    }
}

impl From<Shard> for (u32, u32) {
    fn from(shard: Shard) -> Self {
        (shard.id.0, shard.count)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, self.count)
    }
}

/// The sequence number `s` of a dispatch. 0 is before the first.
///
/// One number, three roles (spec/discord.md, "Three sequence numbers"): what was *received*, what is *committed*
/// (confirmed without a hole) and what is *stored*; fields and methods say which they mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// Before the first dispatch of a session.
    pub const ZERO: Self = Self(0);

    /// Sequence number `s`.
    pub const fn new(s: u64) -> Self {
        Self(s)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Discord's id of a session. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// Takes the id from READY or a store.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id as Discord gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_whose_it_is_and_nothing_else_does() {
        let id = |token: &str| BotId::of_token(&Secret::new(token)).map(|id| id.to_string());
        assert_eq!(id("MTE4MDAwMDAwMDAwMDAwMDAwMQ.GabcDE.secret").as_deref(), Some("1180000000000000001"));
        assert_eq!(id("MTIz.x.y").as_deref(), Some("123"));
        for none in ["", "hunter2.test.token", "any", "....", "MTIz!.x", &"MTIz".repeat(30)] {
            assert_eq!(id(none), None, "{none:?}");
        }
    }
}
