//! A session's packets as terms. They stand here without a version byte.

use super::{GuildSign, Ready};
use crate::discord::ids::SessionId;
use crate::encoding::terms::{self, Entries};

pub(super) fn hello(data: &[u8]) -> Result<u64, String> {
    let [interval] = fields(data, ["heartbeat_interval"])?;
    interval.and_then(terms::unsigned).ok_or_else(|| "heartbeat_interval is no whole number".to_owned())
}

pub(super) fn ready(data: &[u8]) -> Result<Ready, String> {
    let [session_id, url] = fields(data, ["session_id", "resume_gateway_url"])?;
    let session_id = session_id.and_then(terms::text).ok_or("session_id is no text")?;
    let url = match url.filter(|url| !terms::is_null(url)) {
        Some(url) => Some(terms::text(url).ok_or("resume_gateway_url is no text")?.into_owned()),
        None => None,
    };
    Ok(Ready { session_id: SessionId::new(&*session_id), resume_gateway_url: url })
}

pub(super) fn guilds(ready: &[u8]) -> Option<Vec<u64>> {
    let [guilds] = fields(ready, ["guilds"]).ok()?;
    let mut ids = Vec::new();
    for guild in terms::items(guilds?)? {
        ids.push(id(fields(guild, ["id"]).ok()?[0])?);
    }
    Some(ids)
}

pub(super) fn guild(data: &[u8]) -> Option<GuildSign> {
    let [of, unavailable] = fields(data, ["id", "unavailable"]).ok()?;
    Some(GuildSign { id: id(of)?, unavailable: unavailable.and_then(terms::boolean).unwrap_or(false) })
}

/// A number, or its digits.
fn id(term: Option<&[u8]>) -> Option<u64> {
    let term = term?;
    terms::unsigned(term).or_else(|| terms::text(term)?.parse().ok())
}

pub(super) fn invalid_session(data: &[u8]) -> Option<bool> {
    if data.is_empty() || terms::is_null(data) { Some(false) } else { terms::boolean(data) }
}

/// The values of these keys of a map; all else is passed over.
fn fields<'a, const N: usize>(map: &'a [u8], names: [&str; N]) -> Result<[Option<&'a [u8]>; N], String> {
    let mut values = [None; N];
    let mut entries = Entries::of(map).map_err(|error| error.to_string())?;
    while let Some((key, value)) = entries.next_entry().map_err(|error| error.to_string())? {
        if let Some(n) = names.iter().position(|name| name.as_bytes() == key) {
            values[n] = Some(value);
        }
    }
    Ok(values)
}
