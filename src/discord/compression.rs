//! How packets travel: their encoding and their transport compression, as the gateway's URL names them.

use std::fmt;

/// The format of packets. Discord has two; [`encoding`](crate::encoding) knows more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON text.
    #[default]
    Json,
    /// Terms of Erlang's external format, in binary messages.
    Etf,
}

/// The transport compression of what Discord sends. What we send is never compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// None: five to ten times the traffic.
    None,
    /// One zlib stream a connection, of some 43 KiB of memory.
    #[default]
    ZlibStream,
    /// One zstd frame a connection: a fifth less CPU than zlib in a flood, and up to 400 KiB of memory.
    ZstdStream,
}

impl Encoding {
    /// The value of the query parameter `encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Etf => "etf",
        }
    }

    /// The encoding of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Json, Self::Etf].into_iter().find(|encoding| encoding.as_str() == name)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Encoding> for crate::encoding::Encoding {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Json => Self::Json,
            Encoding::Etf => Self::Etf,
        }
    }
}

impl Compression {
    /// The value of the query parameter `compress`; `none` is expressed by leaving it out.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ZlibStream => "zlib-stream",
            Self::ZstdStream => "zstd-stream",
        }
    }

    /// The compression of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::ZlibStream, Self::ZstdStream].into_iter().find(|compression| compression.as_str() == name)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
