//! In which form bodies are published: the encodings, and one more that workers of old read.

use std::fmt;

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

    /// Whether it is JSON, plainly.
    pub const fn is_json(self) -> bool {
        matches!(self, Self::Plain(Encoding::Json))
    }

    /// The dialect of this name, written exactly so.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }

    /// The dialect of a body that holds a map: as [`Encoding::of_body`] has it, and MessagePack that is a text, or bytes, holds
    /// JSON.
    pub fn of_body(content_type: Option<&str>, body: &[u8]) -> Self {
        match Encoding::of_body(content_type, body) {
            Encoding::Msgpack if matches!(body, [0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb, ..]) => Self::MsgpackText,
            encoding => Self::Plain(encoding),
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

/// As people call it.
impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(Encoding::Json) => "JSON",
            Self::Plain(Encoding::Etf) => "Erlang's term format",
            Self::Plain(Encoding::Msgpack) => "MessagePack",
            Self::MsgpackText => "JSON in a MessagePack text",
        })
    }
}
