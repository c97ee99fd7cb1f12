//! Values as JSON, MessagePack and Erlang's external term format write them, and from one form into another.
//!
//! Knows no protocol: what a value means is its reader's business.

pub mod convert;
mod cursor;
mod dialect;
pub mod etf;
mod inspect;
mod integer;
pub mod json;
pub mod msgpack;
mod serde;
pub mod terms;
pub mod value;
mod write;

#[cfg(test)]
mod tests;

pub use self::dialect::Dialect;
pub use self::integer::MOST_DIGITS;
pub use self::value::{BigInteger, Map, Value};
pub use self::write::Term;

/// So many values one message may hold, keys of maps included, in any encoding: the smallest take a byte each there, and
/// thirty times that and more in memory.
pub const MOST_VALUES: usize = 200_000;

/// Lists and maps deeper in each other than this are not read, in no encoding.
pub const MOST_DEPTH: usize = 128;

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

    /// What bodies in it are declared as.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Msgpack => "application/msgpack",
            Self::Etf => "application/vnd.erlang.etf",
        }
    }

    /// The encoding of a body declared so; parameters (`; charset=utf-8`) do not count.
    pub fn of_content_type(declared: &str) -> Option<Self> {
        let name = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "application/json" => Some(Self::Json),
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Some(Self::Msgpack),
            "application/vnd.erlang.etf" | "application/x-erlang-binary" | "application/etf" => Some(Self::Etf),
            _ => None,
        }
    }

    /// The encoding of a body that holds a map: as it is declared, else by its first byte.
    ///
    /// Many clients do not say what they send, and some say the wrong thing: what looks like an object in JSON is one, and
    /// what cannot begin one is none.
    pub fn of_body(content_type: Option<&str>, body: &[u8]) -> Self {
        if body.trim_ascii_start().starts_with(b"{") {
            return Self::Json;
        }
        match content_type.and_then(Self::of_content_type) {
            Some(declared @ (Self::Msgpack | Self::Etf)) => declared,
            Some(Self::Json) | None => Self::of_first_bytes(body),
        }
    }

    fn of_first_bytes(body: &[u8]) -> Self {
        match *body {
            // A term's version is also a MessagePack map of three: there the first key follows, a text.
            [etf::VERSION, kind, ..] if kind.is_ascii() => Self::Etf,
            // Maps, lists, texts and bytes; no text in UTF-8 begins so.
            [0x80..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdf, ..] => Self::Msgpack,
            _ => Self::Json,
        }
    }
}

/// Why bytes are no value in the encoding that they are said to be in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No JSON.
    #[error(transparent)]
    Json(#[from] json::JsonError),
    /// No MessagePack.
    #[error(transparent)]
    Msgpack(#[from] msgpack::MsgpackError),
    /// No term.
    #[error(transparent)]
    Etf(#[from] etf::EtfError),
}

/// Reads a value that takes all of these bytes.
///
/// # Errors
/// They are not one.
pub fn read(encoding: Encoding, bytes: &[u8]) -> Result<Value, ReadError> {
    match encoding {
        Encoding::Json => Ok(json::read(bytes)?),
        Encoding::Msgpack => Ok(msgpack::read(bytes)?),
        Encoding::Etf => Ok(etf::read(bytes)?),
    }
}

/// Appends a value.
pub fn write(encoding: Encoding, value: &Value, out: &mut Vec<u8>) {
    write_term(encoding, &Term::Value(value), out);
}

/// Appends what a term says.
pub fn write_term(encoding: Encoding, term: &Term<'_>, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Json => write::term::<json::Json>(out, term),
        Encoding::Msgpack => write::term::<msgpack::Msgpack>(out, term),
        Encoding::Etf => {
            etf::begin(out);
            write::term::<etf::Etf>(out, term);
        }
    }
}
