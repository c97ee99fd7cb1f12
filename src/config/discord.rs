//! What has to do with Discord: token, events, intents, shards, presence, and where and how to connect.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::value::RawValue;
use url::Url;

use crate::discord::command::MAX_BYTES;
use crate::discord::compression::{Compression, Encoding};
use crate::discord::ids::{Shard, ShardId};
use crate::discord::session::{self, BadIdentify};
use crate::secret::Secret;

use super::amybot;
use super::intents::{self, EventFilter, IntentChoice};
use super::presence;
use super::report::Report;
use super::shards::{self, MOST_SHARDS, ShardPlan};
use super::singyeong;
use super::values::{number, word};
use super::variables::{Raw, UNREAD};

/// Everything that concerns Discord.
#[derive(Clone, Debug)]
pub struct Discord {
    /// The bot's token, without `Bot` before it.
    pub token: Secret,
    /// Which events are published.
    pub events: EventFilter,
    /// What to identify with, and why.
    pub intents: IntentChoice,
    /// Which shards run here.
    pub shards: ShardPlan,
    /// The presence to identify with, as it was given.
    pub presence: Option<Box<RawValue>>,
    /// From how many members on a guild comes without its offline members.
    pub large_threshold: Option<u8>,
    /// Where Discord's API is.
    pub api: Api,
    /// How Discord is to write packets: JSON or ETF.
    pub encoding: Encoding,
    /// How Discord is to compress.
    pub compression: Compression,
}

impl Discord {
    /// What a shard's session is to identify with.
    pub fn session(&self, shard: Shard) -> session::Settings {
        session::Settings {
            shard,
            token: self.token.clone(),
            intents: self.intents.intents(),
            large_threshold: self.large_threshold.map(u16::from),
            presence: self.presence.clone(),
            api_version: self.api.version,
            encoding: self.encoding,
            compression: self.compression,
        }
    }

    /// Reports what would make every identify too long.
    fn check_length(&self, raw: &Raw, report: &mut Report) {
        let longest = Shard::new(ShardId::new(MOST_SHARDS - 1), MOST_SHARDS).expect("the last of them");
        let Err(why) = self.session(longest).check() else { return };
        let problem = match why {
            BadIdentify::TooLong { bytes } => {
                format!("the identify would have {bytes} bytes, and Discord takes at most {MAX_BYTES}")
            }
            BadIdentify::Presence(why) => format!("it cannot be written in the encoding of the connection: {why}"),
        };
        match &raw.discord_presence {
            Some(text) if self.presence.is_some() => report.wrong("DISCORD_PRESENCE", text, problem, "make it shorter"),
            _ => report.wrong_secret("DISCORD_TOKEN", problem, COPY),
        }
    }
}

/// Where Discord's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// The API's version, for REST and for the gateway.
    pub version: u8,
    /// Whether by TLS.
    pub protocol: Protocol,
    /// The host, with a port where one was given.
    pub host: String,
}

impl Api {
    /// The address that every REST path follows, such as `https://discord.com/api/v10`.
    pub fn base_url(&self) -> String {
        format!("{}://{}/api/v{}", self.protocol, self.host, self.version)
    }
}

/// With TLS or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// With TLS.
    Https,
    /// Without: for a simulator or a proxy nearby.
    Http,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Https => "https",
            Self::Http => "http",
        })
    }
}

const COPY: &str = "copy the token anew from Discord's developer portal, page \"Bot\"";
const DISCORD_HOST: &str = "discord.com";

/// `forwarded`: events that have to come beside those that are published.
pub(super) fn parse(raw: &Raw, forwarded: &BTreeSet<&str>, report: &mut Report) -> Discord {
    let api = api(raw, report);
    let token = token(raw, api.host == DISCORD_HOST, report);
    let (events, intents) = intents::parse(raw, forwarded, report);
    let encodings = [("json", Encoding::Json), ("etf", Encoding::Etf)];
    let encoding = raw.discord_encoding.as_deref().and_then(|text| word("DISCORD_ENCODING", text, &encodings, report));
    let compressions = [
        ("zlib-stream", Compression::ZlibStream),
        ("zstd-stream", Compression::ZstdStream),
        ("none", Compression::None),
    ];
    let compression =
        raw.discord_compression.as_deref().and_then(|text| word("DISCORD_COMPRESSION", text, &compressions, report));
    let discord = Discord {
        token,
        events,
        intents,
        shards: shards::parse(raw, report),
        presence: raw.discord_presence.as_deref().and_then(|text| presence::parse(text, report)),
        large_threshold: raw
            .discord_large_threshold
            .as_deref()
            .and_then(|text| number("DISCORD_LARGE_THRESHOLD", text, 50..=250, report)),
        api,
        encoding: encoding.unwrap_or(Encoding::Json),
        // zlib: zstd takes a fifth less work in a flood, and up to 400 KiB more memory a shard.
        compression: compression.unwrap_or(Compression::ZlibStream),
    };
    discord.check_length(raw, report);
    discord
}

/// Whether there is to be a bot at all. Without a token there is none, where something else is to run.
pub(super) fn is_wanted(raw: &Raw, report: &mut Report) -> bool {
    if raw.discord_token.is_some() || !runs_without(raw) {
        return true;
    }
    for (name, set) in [
        ("DISCORD_SHARD_COUNT", &raw.discord_shard_count),
        ("DISCORD_SHARD_IDS", &raw.discord_shard_ids),
        ("DISCORD_EVENTS", &raw.discord_events),
        ("DISCORD_INTENTS", &raw.discord_intents),
        ("CLUSTER_MODE", &raw.cluster_mode),
        ("CLUSTER_ID", &raw.cluster_id),
        ("FORWARDING", &raw.forwarding),
        ("SINGYEONG_DSN", &raw.singyeong_dsn),
    ] {
        if set.is_some() {
            report.warn(name, "has no effect: without DISCORD_TOKEN no shard runs");
        }
    }
    false
}

/// Whether there is something that serves others without a bot.
fn runs_without(raw: &Raw) -> bool {
    singyeong::is_on(raw) || amybot::is_on(raw)
}

fn token(raw: &Raw, real_discord: bool, report: &mut Report) -> Secret {
    const NAME: &str = "DISCORD_TOKEN";
    let Some(given) = raw.discord_token.as_deref() else {
        if runs_without(raw) {
            return Secret::new("");
        }
        let remedy =
            "set it, or DISCORD_TOKEN_FILE to a file with it; it is in Discord's developer portal, page \"Bot\"";
        report.missing(NAME, "no shard can run without the bot's token", remedy);
        return Secret::new("");
    };
    if given == UNREAD {
        return Secret::new("");
    }
    let text = given.strip_prefix("Bot ").unwrap_or(given);
    if text.len() < given.len() {
        report.warn(NAME, "begins with \"Bot \", which belongs to REST and not to the gateway; it is left out");
    }
    if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
        report.wrong_secret(NAME, "it has a quote at one end, and that counts as part of it", "write it without");
    } else if text.trim() != text && !text.trim().contains(char::is_whitespace) {
        report.wrong_secret(NAME, "it has white space around it, and that counts as part of it", "write it without");
    } else if text.starts_with("Bearer ") {
        report.wrong_secret(NAME, "a Bearer token is a user's, and the gateway is for bots", COPY);
    } else if text.contains(char::is_whitespace) {
        report.wrong_secret(NAME, "it has a space, tab or line break in it", COPY);
    } else if !text.bytes().all(|b| b.is_ascii_graphic()) {
        report.wrong_secret(NAME, "it has a character that no token has", COPY);
    } else if let Some(other) = something_else_of_the_portal(text).filter(|_| real_discord) {
        report.wrong_secret(NAME, format!("it looks like {other}, and not like the bot's token"), COPY);
    } else if real_discord && text.split('.').count() != 3 {
        let text = "does not look like a bot's token, which has three parts with dots between; a client secret or a \
                    public key is another thing";
        report.warn(NAME, text);
    }
    Secret::new(text)
}

/// What else the portal shows that is copied in the token's place, told apart by its form.
fn something_else_of_the_portal(text: &str) -> Option<&'static str> {
    let all = |is: fn(&u8) -> bool| text.bytes().all(|byte| is(&byte));
    match text.len() {
        17..=20 if all(u8::is_ascii_digit) => Some("the application's id"),
        64 if all(u8::is_ascii_hexdigit) => Some("the application's public key"),
        32 if all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)) => {
            Some("the application's client secret")
        }
        _ => None,
    }
}

fn api(raw: &Raw, report: &mut Report) -> Api {
    let protocols = [("https", Protocol::Https), ("http", Protocol::Http)];
    let protocol =
        raw.discord_api_protocol.as_deref().and_then(|text| word("DISCORD_API_PROTOCOL", text, &protocols, report));
    let version = raw.discord_api_version.as_deref().map(|text| text.trim().trim_start_matches(['v', 'V']));
    let version = version.and_then(|text| number("DISCORD_API_VERSION", text, 9..=10, report));
    let host = raw.discord_api_host.as_deref().and_then(|text| host(text, report));
    let (protocol, host) = (protocol.unwrap_or(Protocol::Https), host.unwrap_or_else(|| DISCORD_HOST.to_owned()));
    if protocol == Protocol::Http && host == DISCORD_HOST {
        report.warn("DISCORD_API_PROTOCOL", "http sends the token to discord.com for everyone on the way to read");
    }
    Api { version: version.unwrap_or(10), protocol, host }
}

/// `host` or `host:port`, and nothing else that a URL could have.
fn host(text: &str, report: &mut Report) -> Option<String> {
    const NAME: &str = "DISCORD_API_HOST";
    let text = text.trim();
    let url = Url::parse(&format!("http://{text}")).ok();
    // What is only a host leaves nothing but itself between the scheme and the path.
    let host = url.as_ref().and_then(Url::host_str);
    let bare = url.as_ref().is_some_and(|url| {
        url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty()
    });
    match host {
        Some(host) if bare && !text.contains(['/', '@', '?', '#']) && !host.is_empty() => Some(text.to_owned()),
        _ => {
            let inner = Url::parse(text).ok().and_then(|url| {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                url.host_str().map(|host| format!("{host}{port}"))
            });
            let example = inner.unwrap_or_else(|| "discord.com or localhost:8081".to_owned());
            report.wrong(NAME, text, "not a host, or a host and a port, alone", format!("write such as {example}"));
            None
        }
    }
}
