//! A session's packets in JSON.

use serde::Deserialize;

use super::{GuildSign, Ready};
use crate::discord::envelope::Members;

pub(super) fn hello(data: &[u8]) -> Result<u64, String> {
    #[derive(Deserialize)]
    struct Hello {
        heartbeat_interval: u64,
    }
    let hello: Hello = serde_json::from_slice(data).map_err(|error| error.to_string())?;
    Ok(hello.heartbeat_interval)
}

pub(super) fn ready(data: &[u8]) -> Result<Ready, String> {
    serde_json::from_slice(data).map_err(|error| error.to_string())
}

pub(super) fn guilds(ready: &[u8]) -> Option<Vec<u64>> {
    #[derive(Deserialize)]
    struct Ready<'a> {
        #[serde(borrow)]
        guilds: Vec<Guild<'a>>,
    }
    #[derive(Deserialize)]
    struct Guild<'a> {
        id: &'a str,
    }
    let ready: Ready<'_> = serde_json::from_slice(ready).ok()?;
    ready.guilds.iter().map(|guild| guild.id.parse().ok()).collect()
}

pub(super) fn guild(data: &[u8]) -> Option<GuildSign> {
    // Seldom there, and found in a fraction of the time that looking through all members takes.
    let outage = memchr::memmem::find(data, b"\"unavailable\":true").is_some();
    let (mut id, mut unavailable) = (None, false);
    for (key, value) in Members::of(data) {
        match key {
            b"\"id\"" => id = std::str::from_utf8(value).ok()?.trim_matches('"').parse().ok(),
            b"\"unavailable\"" => unavailable = value == b"true",
            _ => {}
        }
        if id.is_some() && !outage {
            break;
        }
    }
    Some(GuildSign { id: id?, unavailable })
}

pub(super) fn invalid_session(data: &[u8]) -> Option<bool> {
    match data.trim_ascii() {
        b"true" => Some(true),
        b"false" | b"null" | b"" => Some(false),
        _ => None,
    }
}
