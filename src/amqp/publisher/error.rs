//! Why there is no connection: [`ConnectError`] before it is ready to publish, [`ConnectionError`] after.

use std::io;
use std::time::Duration;

use super::codec::ProtocolError;
use crate::tls::TlsError;

/// Why a try to connect came to nothing. All are tried again; [`needs_a_person`](Self::needs_a_person) says whether that
/// alone will help.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host's name has no address, or nobody listens there.
    #[error("cannot be reached: {0}")]
    Unreachable(io::Error),
    /// It took too long.
    #[error("no connection within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The files for TLS.
    #[error("TLS cannot be set up: {0}")]
    TlsSetup(#[from] TlsError),
    /// TLS came to nothing: a certificate that is not trusted, or no TLS there at all.
    #[error("TLS failed: {0}; is the port right, and `cacertfile` if the authority is your own?")]
    Tls(io::Error),
    /// Something else than AMQP 0-9-1 answered.
    #[error("what answers there is not an AMQP 0-9-1 server ({0}); is the port right, and is it `amqps`?")]
    NotAmqp(String),
    /// User or password, or the certificate.
    #[error("RabbitMQ refuses the user or password: {0}")]
    AccessRefused(String),
    /// The broker does not offer our way to log in.
    #[error("RabbitMQ does not offer {wanted}, only {offered}")]
    NoMechanism {
        /// What we wanted.
        wanted: &'static str,
        /// What there is.
        offered: String,
    },
    /// The virtual host is not there, or not for this user.
    #[error(
        "RabbitMQ refuses the virtual host `{vhost}`: {text}; create it, give the user permissions there, or correct AMQP_URL"
    )]
    VhostRefused {
        /// Its name.
        vhost: String,
        /// What RabbitMQ says.
        text: String,
    },
    /// The exchange is there, and of another kind.
    #[error(
        "the exchange `{exchange}` exists with other properties: RabbitMQ says {text}; delete that exchange, or set another BROKER_GROUP"
    )]
    ExchangeMismatch {
        /// Its name.
        exchange: String,
        /// What RabbitMQ says.
        text: String,
    },
    /// The user may not declare the exchange, or some such.
    #[error("RabbitMQ refuses to declare the exchange `{exchange}`: {text}")]
    ExchangeRefused {
        /// Its name.
        exchange: String,
        /// What RabbitMQ says.
        text: String,
    },
    /// The broker closed the connection for another reason.
    #[error("RabbitMQ closed the connection while {during}: {code} {text}")]
    Closed {
        /// What we were about.
        during: &'static str,
        /// The reply code.
        code: u16,
        /// What RabbitMQ says.
        text: String,
    },
    /// The connection ended without a word.
    #[error("the connection was dropped while {during}: {source}")]
    Dropped {
        /// What we were about.
        during: &'static str,
        /// How.
        source: io::Error,
    },
    /// It spoke AMQP, but not well.
    #[error("RabbitMQ broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
}

impl ConnectError {
    /// What it means that the socket failed.
    pub(super) fn dropped(during: &'static str, source: io::Error) -> Self {
        match source.kind() {
            // The transport's word for it.
            io::ErrorKind::InvalidData => Self::Tls(source),
            _ => Self::Dropped { during, source },
        }
    }

    /// Whether nothing will change before a person changes something.
    pub const fn needs_a_person(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Closed { .. } | Self::Dropped { .. } => false,
            Self::TlsSetup(_)
            | Self::Tls(_)
            | Self::NotAmqp(_)
            | Self::AccessRefused(_)
            | Self::NoMechanism { .. }
            | Self::VhostRefused { .. }
            | Self::ExchangeMismatch { .. }
            | Self::ExchangeRefused { .. }
            | Self::Protocol(_) => true,
        }
    }
}

/// Why a connection that was ready ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The broker closed it.
    #[error("RabbitMQ closed the connection: {code} {text}")]
    Closed {
        /// The reply code.
        code: u16,
        /// What RabbitMQ says.
        text: String,
    },
    /// The broker closed the channel.
    #[error("RabbitMQ closed the channel: {code} {text}")]
    ChannelClosed {
        /// The reply code.
        code: u16,
        /// What RabbitMQ says.
        text: String,
    },
    /// The socket.
    #[error("the connection was lost: {0}")]
    Io(#[from] io::Error),
    /// Nothing came, not even heartbeats.
    #[error("nothing came from RabbitMQ for {} s, not even a heartbeat", .0.as_secs())]
    Silent(Duration),
    /// It spoke AMQP, but not well.
    #[error("RabbitMQ broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
}

impl ConnectionError {
    /// The size above which the broker takes no message, where it closed the channel for that. RabbitMQ says it in words
    /// only: "message size 20 is larger than configured max size 10", or "... than max size 10".
    pub fn message_size_limit(&self) -> Option<u64> {
        let Self::ChannelClosed { code: 406, text } = self else { return None };
        let (_, rest) = text.split_once("message size ")?;
        let (_, limit) = rest.split_once("max size ")?;
        let digits = limit.find(|c: char| !c.is_ascii_digit()).unwrap_or(limit.len());
        limit[..digits].parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_limit_is_read_from_the_reply() {
        let closed = |text: &str| ConnectionError::ChannelClosed { code: 406, text: text.to_owned() };
        let text = "PRECONDITION_FAILED - message size 17000000 is larger than configured max size 16777216";
        assert_eq!(closed(text).message_size_limit(), Some(16_777_216));
        let text = "PRECONDITION_FAILED - message size 600 larger than max size 512";
        assert_eq!(closed(text).message_size_limit(), Some(512));
        assert_eq!(closed("PRECONDITION_FAILED - unknown delivery tag 3").message_size_limit(), None);
    }
}
