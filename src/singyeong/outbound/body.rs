//! What a dispatch of ours says, from its bytes. Read only when it is asked for: that is seldom.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::encoding::{self, Encoding, Value};

#[derive(Deserialize)]
struct Dispatch<'a> {
    #[serde(borrow)]
    d: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    target: &'a RawValue,
    #[serde(borrow)]
    nonce: &'a RawValue,
}

fn message(body: &[u8]) -> Option<Message<'_>> {
    serde_json::from_slice::<Dispatch<'_>>(body).ok().map(|dispatch| dispatch.d)
}

/// Its nonce.
pub(super) fn nonce(body: &[u8]) -> Option<Value> {
    encoding::read(Encoding::Json, message(body)?.nonce.get().as_bytes()).ok()
}

/// Its target.
pub(super) fn target(body: &[u8]) -> Option<Value> {
    encoding::read(Encoding::Json, target_text(body)?.as_bytes()).ok()
}

/// Its target as it is written.
pub(super) fn target_text(body: &[u8]) -> Option<&str> {
    Some(message(body)?.target.get())
}
