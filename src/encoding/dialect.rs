//! In which form bodies are published: the encodings, and one more that workers of old read.

use super::Encoding;

/// The form of a published body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// As the encoding has it.
    Plain(Encoding),
    /// JSON text in a MessagePack string: what Spectacles' Go clients send and read.
    MsgpackText,
}

impl Dialect {
    /// Every one.
    pub const ALL: [Self; 4] =
        [Self::Plain(Encoding::Json), Self::Plain(Encoding::Etf), Self::Plain(Encoding::Msgpack), Self::MsgpackText];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain(encoding) => encoding.name(),
            Self::MsgpackText => "msgpack-text",
        }
    }

    /// What bodies in it are declared as.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Plain(encoding) => encoding.content_type(),
            Self::MsgpackText => Encoding::Msgpack.content_type(),
        }
    }
}
