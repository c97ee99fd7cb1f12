//! The gateway's address, and what its query says about the connection.
//!
//! Real addresses often lack the path (`wss://host`), and `wss://host?v=10` is refused by Discord's edge: the path is
//! always `/`. Rules: spec/discord.md, "Connecting".

use std::fmt;

use url::Url;

/// How packets are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON text.
    #[default]
    Json,
}

impl Encoding {
    /// Discord's name, as in the query.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
        }
    }
}

/// How Discord compresses what it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One zlib stream a connection.
    ZlibStream,
    /// One zstd stream a connection.
    ZstdStream,
}

impl Compression {
    /// Discord's name, as in the query; none has none.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::ZlibStream => Some("zlib-stream"),
            Self::ZstdStream => Some("zstd-stream"),
        }
    }
}

/// A gateway's address: `ws` or `wss`, host and port. What path and query it came with is left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatewayUrl(Url);

/// Why a text is no gateway address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGatewayUrl {
    /// Not a URL.
    #[error("gateway address {text:?} is not a URL: {cause}")]
    NotAUrl {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        cause: url::ParseError,
    },
    /// Not a websocket's.
    #[error("gateway address {text:?} must begin with wss:// or ws://")]
    Scheme {
        /// What was given.
        text: String,
    },
    /// User and password have no business there; the address is not repeated, for it holds a password.
    #[error("a gateway address holds a user or a password; Discord takes neither")]
    Credentials,
}

impl GatewayUrl {
    /// Reads an address as `GET /gateway/bot` or READY give it.
    ///
    /// # Errors
    /// When it is no URL, no websocket's, or holds a password.
    pub fn parse(text: &str) -> Result<Self, InvalidGatewayUrl> {
        let mut url = Url::parse(text).map_err(|cause| InvalidGatewayUrl::NotAUrl { text: text.to_owned(), cause })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidGatewayUrl::Credentials);
        }
        if !matches!(url.scheme(), "ws" | "wss") {
            return Err(InvalidGatewayUrl::Scheme { text: text.to_owned() });
        }
        url.set_path("/");
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// Whether the connection is by TLS.
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "wss"
    }

    /// The whole URL to connect to.
    pub fn with_query(&self, version: u8, encoding: Encoding, compression: Compression) -> String {
        let mut url = self.0.clone();
        let mut query = url.query_pairs_mut();
        query.append_pair("v", &version.to_string()).append_pair("encoding", encoding.name());
        if let Some(name) = compression.name() {
            query.append_pair("compress", name);
        }
        drop(query);
        url.into()
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect_to(text: &str, compression: Compression) -> String {
        GatewayUrl::parse(text).expect("an address").with_query(10, Encoding::Json, compression)
    }

    #[test]
    fn the_path_is_a_slash_whatever_was_given() {
        let whole = "wss://gateway.discord.gg/?v=10&encoding=json";
        for text in ["wss://gateway.discord.gg", "wss://gateway.discord.gg/", "wss://gateway.discord.gg/a?v=9#b"] {
            assert_eq!(connect_to(text, Compression::None), whole, "{text}");
        }
    }

    #[test]
    fn the_query_names_version_encoding_and_compression() {
        assert_eq!(
            connect_to("ws://[::1]:81", Compression::ZlibStream),
            "ws://[::1]:81/?v=10&encoding=json&compress=zlib-stream"
        );
        assert_eq!(
            connect_to("ws://[::1]:81", Compression::ZstdStream),
            "ws://[::1]:81/?v=10&encoding=json&compress=zstd-stream"
        );
    }

    #[test]
    fn what_is_no_websocket_address_is_refused_by_name() {
        let refusal = |text| GatewayUrl::parse(text).expect_err("no address").to_string();
        assert_eq!(
            refusal("https://discord.com"),
            "gateway address \"https://discord.com\" must begin with wss:// or ws://"
        );
        assert!(refusal("gateway.discord.gg").starts_with("gateway address \"gateway.discord.gg\" is not a URL"));
        assert!(!refusal("wss://user:hunter2@gateway.discord.gg").contains("hunter2"));
        assert!(GatewayUrl::parse("wss://").is_err());
    }
}
