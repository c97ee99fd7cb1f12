//! A session's packets in JSON.

use serde::Deserialize;

use super::Ready;

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

pub(super) fn invalid_session(data: &[u8]) -> Option<bool> {
    match data.trim_ascii() {
        b"true" => Some(true),
        b"false" | b"null" | b"" => Some(false),
        _ => None,
    }
}
