//! Values as JSON, MessagePack and Erlang's external term format write them, and from one form into another.
//!
//! Knows no protocol: what a value means is its reader's business.

mod serde;
pub mod value;

pub use self::value::{BigInteger, Map, Value};

/// A form in which values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Text.
    Json,
    /// MessagePack.
    Msgpack,
    /// Erlang's external term format.
    Etf,
}

impl Encoding {
    /// Its name in a query parameter, and in a client's metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Msgpack => "msgpack",
            Self::Etf => "etf",
        }
    }

    /// The encoding of this name, written exactly so.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Json, Self::Msgpack, Self::Etf].into_iter().find(|encoding| encoding.name() == name)
    }
}
