//! AMQP 0-9-1 on the wire, as much of it as publishing needs.
//!
//! Sans-I/O: bytes in, borrowed frames and methods out; messages in, bytes appended. What a peer sends may be anything:
//! every length is checked, and nothing here panics on it. The rules are the AMQP 0-9-1 specification's and RabbitMQ's
//! extensions to it (confirms, `basic.nack`, `connection.blocked`).

pub mod frame;
pub mod method;
pub mod publish;
mod reader;

#[cfg(test)]
mod tests;

/// The bytes of a frame that are not its payload: type, channel and length before, the end mark behind.
pub const FRAME_OVERHEAD: usize = 8;

/// The smallest `frame_max` that a peer may ask for.
pub const FRAME_MIN_SIZE: usize = 4096;

/// The `frame_max` that we offer; RabbitMQ's own default.
pub const FRAME_MAX_SIZE: usize = 131_072;

/// The channel that everything but the connection's own talk happens on.
pub const CHANNEL: u16 = 1;

/// What the peer sent is not AMQP 0-9-1, or nothing that we ever asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame longer than was agreed.
    #[error("a frame of {size} bytes where at most {max} were agreed")]
    FrameTooLarge {
        /// The frame's size, overhead included.
        size: u64,
        /// What was agreed.
        max: usize,
    },
    /// The byte behind a frame's payload is not the end mark.
    #[error("a frame that does not end with its end mark but with {0:#04x}")]
    BadFrameEnd(u8),
    /// A frame of a type that the protocol does not have.
    #[error("a frame of the unknown type {0}")]
    UnknownFrameType(u8),
    /// A method, header or field ended before it should.
    #[error("{0} is cut short")]
    Truncated(&'static str),
    /// A name that is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A method that we know nothing of.
    #[error("the unknown method {class}.{method}")]
    UnknownMethod {
        /// Its class.
        class: u16,
        /// Its number.
        method: u16,
    },
    /// Known, but it has no business here and now.
    #[error("{what} while {during}")]
    Unexpected {
        /// What came.
        what: String,
        /// What we were about.
        during: &'static str,
    },
    /// A confirm of a message that was not written on this connection.
    #[error("a confirm of delivery tag {tag}, but the last one written is {last}")]
    UnknownTag {
        /// The tag that came.
        tag: u64,
        /// The last one that can be confirmed.
        last: u64,
    },
}
