//! The ids of messages that forward events: `forward:<rule>:<event>:<session>:<seq>`.
//!
//! Should RabbitMQ refuse such a message, its id says what was lost; its key only says where it was to go.

use crate::discord::ids::Seq;

/// What an id says beside the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ForwardId<'a> {
    /// The number of the rule.
    pub(super) rule: u32,
    /// The event's name.
    pub(super) event: &'a str,
    /// Its session, if there is one.
    pub(super) session: Option<&'a str>,
}

impl<'a> ForwardId<'a> {
    /// The id of the event of this number.
    pub(super) fn with(self, seq: Seq) -> String {
        format!("forward:{}:{}:{}:{seq}", self.rule, self.event, self.session.unwrap_or_default())
    }

    /// What an id says, if it is one.
    pub(super) fn of(id: &'a str) -> Option<Self> {
        let (rule, rest) = id.strip_prefix("forward:")?.split_once(':')?;
        let (event, rest) = rest.split_once(':')?;
        let (session, _) = rest.rsplit_once(':')?;
        Some(Self { rule: rule.parse().ok()?, event, session: (!session.is_empty()).then_some(session) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written() {
        for session in [None, Some("2a41"), Some("a:b")] {
            let id = ForwardId { rule: 3, event: "MESSAGE_CREATE", session };
            assert_eq!(ForwardId::of(&id.with(Seq::new(7))), Some(id));
        }
        let id = ForwardId { rule: 3, event: "READY", session: Some("2a41") }.with(Seq::new(7));
        assert_eq!(id, "forward:3:READY:2a41:7");
    }

    #[test]
    fn other_ids_are_none() {
        for id in ["2a41:7", "gap:0:7:1", "forward:x:READY:s:1", "forward:1:READY", "forward:1:READY:s"] {
            assert_eq!(ForwardId::of(id), None, "{id}");
        }
    }
}
