//! Messages to the gateway: Optic as an application, which takes commands for Discord.
//!
//! A command goes where those of AMQP workers go, and is checked, limited and set aside there. Knows no broker.

use crate::encoding::{self, Encoding, Term, Value};

/// A command, and the key it is published under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::singyeong) struct Command {
    pub(in crate::singyeong) key: String,
    /// JSON.
    pub(in crate::singyeong) body: Vec<u8>,
}

/// Why a payload is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::singyeong) enum NoCommand {
    /// Not one of the two shapes.
    #[error("the payload is neither {{\"guild_id\", \"packet\"}} nor {{\"shard_id\", \"packet\"}}")]
    Shape,
    /// It could go to two shards.
    #[error("the payload has both a \"guild_id\" and a \"shard_id\"")]
    Both,
    /// There can be no such shard.
    #[error("\"shard_id\" is no shard's number")]
    Shard,
}

impl Command {
    pub(in crate::singyeong) fn of(payload: &Value) -> Result<Self, NoCommand> {
        let field = |name: &str| payload.get(name).filter(|value| !value.is_null());
        let packet = field("packet").ok_or(NoCommand::Shape)?;
        match (field("guild_id"), field("shard_id")) {
            (Some(guild_id), None) => {
                let body = Term::Map(&[("guild_id", Term::Value(guild_id)), ("packet", Term::Value(packet))]);
                Ok(Self { key: "SEND".to_owned(), body: json(&body) })
            }
            (None, Some(shard_id)) => {
                let shard = match shard_id {
                    Value::Integer(shard) => u32::try_from(*shard).ok(),
                    Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
                    _ => None,
                };
                let key = shard.ok_or(NoCommand::Shard)?.to_string();
                Ok(Self { key, body: json(&Term::Value(packet)) })
            }
            (Some(_), Some(_)) => Err(NoCommand::Both),
            (None, None) => Err(NoCommand::Shape),
        }
    }
}

fn json(term: &Term<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    encoding::write_term(Encoding::Json, term, &mut body);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(payload: &str) -> Result<(String, String), NoCommand> {
        let payload = encoding::read(Encoding::Json, payload.as_bytes()).expect("JSON");
        let Command { key, body } = Command::of(&payload)?;
        Ok((key, String::from_utf8(body).expect("text")))
    }

    #[test]
    fn a_command_goes_to_a_guild_or_to_a_shard() {
        let ok = |key: &str, body: &str| Ok((key.to_owned(), body.to_owned()));
        let packet = r#"{"d":{},"op":3}"#;
        assert_eq!(
            of(r#"{"guild_id":"41771983423143937","packet":{"op":3,"d":{}},"x":1}"#),
            ok("SEND", &format!(r#"{{"guild_id":"41771983423143937","packet":{packet}}}"#))
        );
        assert_eq!(of(r#"{"shard_id":3,"packet":{"op":3,"d":{}}}"#), ok("3", packet));
        assert_eq!(of(r#"{"shard_id":"03","guild_id":null,"packet":{"op":3,"d":{}}}"#), ok("3", packet));
    }

    #[test]
    fn anything_else_is_none() {
        for payload in ["null", "[]", "{}", r#"{"guild_id":1}"#, r#"{"packet":{}}"#, r#"{"guild_id":1,"packet":null}"#]
        {
            assert_eq!(of(payload), Err(NoCommand::Shape), "{payload}");
        }
        assert_eq!(of(r#"{"guild_id":1,"shard_id":1,"packet":{}}"#), Err(NoCommand::Both));
        for shard in ["-1", "1.0", "4294967296", r#""x""#, r#""""#, "[1]", "true"] {
            assert_eq!(of(&format!(r#"{{"shard_id":{shard},"packet":{{}}}}"#)), Err(NoCommand::Shard), "{shard}");
        }
    }
}
