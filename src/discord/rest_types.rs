//! What Discord's REST interface answers, as far as shards need it.

use std::time::Duration;

use serde::Deserialize;

/// The answer to `GET /gateway/bot`. Fields that are not here are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GatewayBot {
    /// Where to connect; [`GatewayUrl::parse`](super::gateway_url::GatewayUrl::parse) reads it.
    pub url: String,
    /// How many shards Discord recommends.
    pub shards: u32,
    /// How many sessions may be started.
    pub session_start_limit: SessionStartLimit,
}

/// How many sessions may be started, at the time of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct SessionStartLimit {
    /// In 24 hours.
    pub total: u32,
    /// Of these, how many are left.
    pub remaining: u32,
    /// In how many milliseconds `remaining` is `total` again.
    pub reset_after: u64,
    /// How many identifies may go at once.
    pub max_concurrency: u32,
}

impl SessionStartLimit {
    /// In how long `remaining` is `total` again; never more than the 24 hours that Discord counts.
    pub fn reset_after(&self) -> Duration {
        Duration::from_millis(self.reset_after).min(Self::PERIOD)
    }

    /// The time in which `total` sessions may be started.
    pub const PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discords_answer_is_read() {
        let answer: GatewayBot = serde_json::from_str(
            r#"{"url":"wss://gateway.discord.gg","shards":9,"new":1,"session_start_limit":
               {"total":1000,"remaining":999,"reset_after":14400000,"max_concurrency":1}}"#,
        )
        .expect("an answer");
        assert_eq!((answer.url.as_str(), answer.shards), ("wss://gateway.discord.gg", 9));
        let limit = answer.session_start_limit;
        assert_eq!((limit.total, limit.remaining, limit.max_concurrency), (1000, 999, 1));
        assert_eq!(limit.reset_after(), Duration::from_secs(4 * 60 * 60));
    }

    #[test]
    fn a_reset_is_never_further_away_than_a_day() {
        let limit = SessionStartLimit { total: 1, remaining: 0, reset_after: u64::MAX, max_concurrency: 1 };
        assert_eq!(limit.reset_after(), SessionStartLimit::PERIOD);
    }
}
