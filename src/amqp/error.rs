//! What can go wrong with RabbitMQ where it is not publishing events: lapin's errors, classified once.
//!
//! No text here holds an address: it may carry a password.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

/// Why something asked of RabbitMQ was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be used.
    #[error("the RabbitMQ address cannot be used: {0}")]
    Address(String),
    /// A name is longer than AMQP's 255 bytes.
    #[error(
        "the name \"{0}\" is longer than the 255 bytes that AMQP allows: choose a shorter group, subgroup or prefix"
    )]
    NameTooLong(String),
    /// No connection, or it was lost meanwhile: whether it was done is unknown.
    #[error("RabbitMQ is unreachable: {0}")]
    Unreachable(String),
    /// Connected, but a memory or disk alarm keeps RabbitMQ from taking messages.
    #[error("RabbitMQ is blocked by a memory or disk alarm and takes no messages")]
    Blocked,
    /// User or password are wrong, or the virtual host is missing or closed to the user.
    #[error("RabbitMQ refused the login ({0}): check user, password and virtual host of the address")]
    LoginRefused(String),
    /// The user may not do this (403).
    #[error("RabbitMQ refused to {action}: {reason}")]
    Forbidden {
        /// What was asked.
        action: String,
        /// RabbitMQ's words.
        reason: String,
    },
    /// It exists with other properties (406).
    #[error("RabbitMQ could not {action}, for it exists with other properties: {reason}")]
    Conflict {
        /// What was asked.
        action: String,
        /// RabbitMQ's words: they name the property and both values.
        reason: String,
    },
    /// It does not exist (404).
    #[error("RabbitMQ could not {action}: {reason}")]
    NotFound {
        /// What was asked.
        action: String,
        /// RabbitMQ's words.
        reason: String,
    },
    /// Another connection holds it exclusively (405).
    #[error("RabbitMQ could not {action}, for another connection holds it: {reason}")]
    Locked {
        /// What was asked.
        action: String,
        /// RabbitMQ's words.
        reason: String,
    },
    /// A message was refused (nack) or came back because its queue is gone.
    #[error("RabbitMQ did not {action}: {reason}")]
    NotStored {
        /// What was asked.
        action: String,
        /// Why.
        reason: String,
    },
    /// RabbitMQ or lapin broke the protocol.
    #[error("RabbitMQ could not {action}: {reason}")]
    Protocol {
        /// What was asked.
        action: String,
        /// The words of whoever noticed.
        reason: String,
    },
}

impl AdminError {
    /// Whether the same may succeed later with nobody changing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Blocked | Self::NotStored { .. } | Self::Locked { .. } => true,
            Self::Address(_)
            | Self::NameTooLong(_)
            | Self::LoginRefused(_)
            | Self::Forbidden { .. }
            | Self::Conflict { .. }
            | Self::NotFound { .. }
            | Self::Protocol { .. } => false,
        }
    }

    /// Whether it says that there is no such thing, and not that it is out of reach for now.
    pub fn is_absent(&self) -> bool {
        // The same code says that a durable queue's node is down, or its process failed; it and its messages are there.
        const OUT_OF_REACH: [&str; 4] = ["down or inaccessible", "is stopped", "has crashed", "crashed and failed"];
        matches!(self, Self::NotFound { reason, .. } if !OUT_OF_REACH.iter().any(|words| reason.contains(words)))
    }

    /// Whether it says that a consumer of another connection excludes ours, and not that we may not have one.
    pub(super) fn is_held_by_another(&self) -> bool {
        match self {
            // The same code says that a right is missing; the words differ.
            Self::Forbidden { reason, .. } => reason.contains("in exclusive use"),
            Self::Locked { .. } => true,
            _ => false,
        }
    }

    /// What a failed connect means.
    pub(super) fn of_connect(error: &lapin::Error) -> Self {
        match refusal(error) {
            Some((Refusal::Forbidden | Refusal::NotAllowed, reason)) => Self::LoginRefused(reason),
            Some((_, reason)) => Self::Unreachable(reason),
            // An auth failure without RabbitMQ's notice of it shows as a closed socket; the rest of the kinds are I/O.
            None => Self::Unreachable(error.to_string()),
        }
    }

    /// What a failed operation means; `action` completes "RabbitMQ could not …".
    pub(super) fn of(action: &str, error: &lapin::Error) -> Self {
        let action = action.to_owned();
        match refusal(error) {
            Some((Refusal::Forbidden | Refusal::NotAllowed, reason)) => Self::Forbidden { action, reason },
            Some((Refusal::NotFound, reason)) => Self::NotFound { action, reason },
            Some((Refusal::Conflict, reason)) => Self::Conflict { action, reason },
            Some((Refusal::Locked, reason)) => Self::Locked { action, reason },
            Some((Refusal::Shutdown, reason)) => Self::Unreachable(reason),
            Some((Refusal::Other, reason)) => Self::Protocol { action, reason },
            None => match error.kind() {
                ErrorKind::IOError(_)
                | ErrorKind::RuntimeShutdownError(_)
                | ErrorKind::MissingHeartbeatError
                | ErrorKind::InvalidConnectionState(_)
                | ErrorKind::InvalidChannelState(..)
                | ErrorKind::InvalidChannel(_) => Self::Unreachable(error.to_string()),
                _ => Self::Protocol { action, reason: error.to_string() },
            },
        }
    }
}

enum Refusal {
    Forbidden,
    NotAllowed,
    NotFound,
    Conflict,
    Locked,
    /// An operator closed the connection, or the node is going down.
    Shutdown,
    Other,
}

/// RabbitMQ's own refusal in an error, with its words.
fn refusal(error: &lapin::Error) -> Option<(Refusal, String)> {
    let ErrorKind::ProtocolError(refused) = error.kind() else { return None };
    let refusal = match refused.kind() {
        AMQPErrorKind::Soft(soft) => match soft {
            AMQPSoftError::ACCESSREFUSED => Refusal::Forbidden,
            AMQPSoftError::NOTFOUND => Refusal::NotFound,
            AMQPSoftError::PRECONDITIONFAILED => Refusal::Conflict,
            AMQPSoftError::RESOURCELOCKED => Refusal::Locked,
            _ => Refusal::Other,
        },
        AMQPErrorKind::Hard(hard) => match hard {
            AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH => Refusal::NotAllowed,
            AMQPHardError::CONNECTIONFORCED | AMQPHardError::INTERNALERROR | AMQPHardError::RESOURCEERROR => {
                Refusal::Shutdown
            }
            _ => Refusal::Other,
        },
    };
    Some((refusal, refused.get_message().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_out_of_reach_is_not_held_to_be_gone() {
        let of = |reason: &str| AdminError::NotFound { action: "look".to_owned(), reason: reason.to_owned() };
        assert!(of("NOT_FOUND - no queue 'a' in vhost '/'").is_absent());
        for reason in [
            "NOT_FOUND - home node 'rabbit@b' of durable queue 'a' in vhost '/' is down or inaccessible",
            "NOT_FOUND - queue 'a' in vhost '/' process is stopped by supervisor",
            "NOT_FOUND - queue 'a' in vhost '/' has crashed and failed to restart",
        ] {
            assert!(!of(reason).is_absent(), "{reason}");
        }
        assert!(!AdminError::Blocked.is_absent());
    }
}
