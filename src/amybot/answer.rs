//! What the gateway says to services: `s` is `gateway`, `t` is `gateway:opcode`.

use serde::Serialize;
use serde_json::value::to_raw_value;

use super::message::{GATEWAY, Message, OPCODE, Opcode};
use crate::discord::ids::Shard;

/// Something that the gateway says to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its IDENTIFY was accepted.
    Identified,
    /// A shard is its own.
    ShardAccept(Shard),
    /// What it asked by this opcode, as far as it had one, is not done.
    Refused {
        /// The opcode that it sent.
        opcode: Option<u64>,
        /// Why.
        reason: String,
    },
    /// It is to stop.
    Shutdown,
    /// It is to start anew.
    Reboot,
}

/// All that a `d` of ours may have.
#[derive(Default, Serialize)]
struct Data<'a> {
    opcode: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard_count: Option<u32>,
}

impl Answer {
    /// As a message.
    pub fn message(&self) -> Message {
        let of = |opcode: Opcode| Some(u64::from(opcode.number()));
        let data = match self {
            Self::Identified => Data { opcode: of(Opcode::Identify), accepted: Some(true), ..Data::default() },
            Self::ShardAccept(shard) => Data {
                opcode: of(Opcode::ShardAccept),
                shard_id: Some(shard.id().get()),
                shard_count: Some(shard.count()),
                ..Data::default()
            },
            Self::Refused { opcode, reason } => {
                Data { opcode: *opcode, accepted: Some(false), reason: Some(reason), ..Data::default() }
            }
            Self::Shutdown => Data { opcode: of(Opcode::Shutdown), ..Data::default() },
            Self::Reboot => Data { opcode: of(Opcode::Reboot), ..Data::default() },
        };
        Message { s: GATEWAY.into(), t: OPCODE.into(), d: to_raw_value(&data).expect("all keys are texts") }
    }
}
