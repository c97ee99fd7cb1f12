//! What a broker says on a connection that is ready: frames in, news out.
//!
//! Sans-I/O. Returned messages come with their content, which is stepped over and checked to be whole.

use super::codec::frame::{Frame, FrameKind};
use super::codec::method::{self, CloseReason, Method};
use super::codec::publish;
use super::codec::{CHANNEL, ProtocolError};
use super::outbox::{Confirm, Verb};

/// What a frame meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// Nothing to act on: a sign of life, or a piece of a returned message.
    Nothing,
    /// A confirm.
    Confirm(Confirm),
    /// No queue took a mandatory message. Its confirm follows.
    Returned {
        /// Its routing key.
        routing_key: &'a str,
        /// Its message id, if it has one.
        message_id: Option<&'a str>,
    },
    /// The broker takes nothing for now, and why.
    Blocked(&'a str),
    /// It takes messages again.
    Unblocked,
    /// It asks for quiet on the channel, or for the end of it; to be answered.
    Flow(bool),
    /// It closes the channel; to be answered.
    ChannelClose(CloseReason<'a>),
    /// It closes the connection; to be answered.
    ConnectionClose(CloseReason<'a>),
    /// It closed the connection as we asked.
    CloseOk,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Content {
    #[default]
    None,
    Header,
    Body(u64),
}

/// Where in a returned message the stream is.
#[derive(Debug, Default)]
pub struct Incoming {
    content: Content,
    /// The routing key of the message that is being returned.
    returned: String,
}

impl Incoming {
    /// Takes the next frame.
    ///
    /// # Errors
    /// When it has no business here.
    pub fn handle<'a>(&'a mut self, frame: Frame<'a>) -> Result<News<'a>, ProtocolError> {
        let unexpected = |what: &dyn std::fmt::Debug| {
            Err(ProtocolError::Unexpected {
                what: format!("{what:?} on channel {}", frame.channel),
                during: "publishing",
            })
        };
        match (frame.kind, frame.channel, self.content) {
            (FrameKind::Heartbeat, 0, _) => Ok(News::Nothing),
            (FrameKind::Header, CHANNEL, Content::Header) => {
                let size = method::content_body_size(frame.payload)?;
                self.content = if size == 0 { Content::None } else { Content::Body(size) };
                let message_id = publish::message_id_in(frame.payload);
                Ok(News::Returned { routing_key: &self.returned, message_id })
            }
            (FrameKind::Body, CHANNEL, Content::Body(missing)) => {
                self.content = match missing.checked_sub(frame.payload.len() as u64) {
                    None => return unexpected(&"a body longer than its header said"),
                    Some(0) => Content::None,
                    Some(missing) => Content::Body(missing),
                };
                Ok(News::Nothing)
            }
            (FrameKind::Method, 0, _) => match Method::parse(frame.payload)? {
                Method::Blocked(reason) => Ok(News::Blocked(reason)),
                Method::Unblocked => Ok(News::Unblocked),
                Method::ConnectionClose(reason) => Ok(News::ConnectionClose(reason)),
                Method::ConnectionCloseOk => Ok(News::CloseOk),
                Method::UpdateSecretOk => Ok(News::Nothing),
                other => unexpected(&other),
            },
            (FrameKind::Method, CHANNEL, Content::None) => match Method::parse(frame.payload)? {
                Method::Ack { tag, multiple } => Ok(News::Confirm(Confirm { verb: Verb::Ack, tag, multiple })),
                Method::Nack { tag, multiple } => Ok(News::Confirm(Confirm { verb: Verb::Nack, tag, multiple })),
                Method::Return { routing_key, .. } => {
                    self.content = Content::Header;
                    self.returned.clear();
                    self.returned.push_str(routing_key);
                    Ok(News::Nothing)
                }
                Method::ChannelFlow(active) => Ok(News::Flow(active)),
                Method::ChannelClose(reason) => Ok(News::ChannelClose(reason)),
                other => unexpected(&other),
            },
            _ => unexpected(&frame.kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETURN: &[u8] = b"\0\x3c\0\x32\x01\x38\x08NO_ROUTE\x01g\x05READY";

    fn frame(kind: FrameKind, payload: &[u8]) -> Frame<'_> {
        Frame { kind, channel: 1, payload }
    }

    fn header(size: u64) -> Vec<u8> {
        [b"\0\x3c\0\0".as_slice(), &size.to_be_bytes(), b"\0\0"].concat()
    }

    #[test]
    fn a_returned_message_is_stepped_over() {
        let mut incoming = Incoming::default();
        let returned = |message_id| Ok(News::Returned { routing_key: "READY", message_id });
        assert_eq!(incoming.handle(frame(FrameKind::Method, RETURN)), Ok(News::Nothing));
        let mut with_id = header(0);
        with_id.truncate(12);
        with_id.extend_from_slice(b"\x80\x80\x04text\x032:7");
        assert_eq!(incoming.handle(frame(FrameKind::Header, &with_id)), returned(Some("2:7")));
        assert_eq!(incoming.handle(frame(FrameKind::Method, RETURN)), Ok(News::Nothing));
        assert_eq!(incoming.handle(frame(FrameKind::Header, &header(5))), returned(None));
        let heartbeat = Frame { kind: FrameKind::Heartbeat, channel: 0, payload: b"" };
        assert_eq!(incoming.handle(heartbeat), Ok(News::Nothing), "between any two frames");
        assert_eq!(incoming.handle(frame(FrameKind::Body, b"abc")), Ok(News::Nothing));
        assert_eq!(incoming.handle(frame(FrameKind::Body, b"de")), Ok(News::Nothing));
        let ack = Confirm { verb: Verb::Ack, tag: 7, multiple: true };
        let payload = b"\0\x3c\0\x50\0\0\0\0\0\0\0\x07\x01";
        assert_eq!(incoming.handle(frame(FrameKind::Method, payload)), Ok(News::Confirm(ack)));
    }

    #[test]
    fn content_that_nobody_announced_or_that_does_not_end_is_an_error() {
        let mut incoming = Incoming::default();
        assert!(incoming.handle(frame(FrameKind::Body, b"abc")).is_err());
        incoming.handle(frame(FrameKind::Method, RETURN)).expect("a return");
        incoming.handle(frame(FrameKind::Header, &header(2))).expect("its header");
        assert!(incoming.handle(frame(FrameKind::Body, b"abc")).is_err());
    }
}
