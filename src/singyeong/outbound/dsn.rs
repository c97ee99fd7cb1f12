//! `SINGYEONG_DSN`: where another 신경 server is, and who we are there.
//!
//! Nothing here prints the password: not the DSN, and no error about it.

use std::fmt;

use url::Url;

use crate::encoding::Encoding;
use crate::secret::Secret;

/// Where a server listens, unless the DSN has a path of its own.
const PATH: &str = "/gateway/websocket";
/// Servers take ids of an application and a client together up to 216 characters; the rest is for the client's.
const LONGEST_APPLICATION: usize = 150;

/// Where a server is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    application: String,
    password: Option<Secret>,
    /// Without credentials and parameters, `ws` or `wss`.
    address: Url,
    encoding: Encoding,
}

/// What is wrong with a DSN. The password is in none of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DsnError {
    /// Neither of the two.
    #[error("it begins neither with singyeong:// nor with ssingyeong:// (with TLS)")]
    Scheme,
    /// Not a URL behind that.
    #[error("it is no address: {0}; write singyeong://application:password@host:port")]
    NotAUrl(url::ParseError),
    /// What stands before it would be taken for the host, and the rest of a password for a path, which is shown.
    #[error(
        "an @ stands behind the first /, ? or #: in application and password write / as %2f, ? as %3f, # as %23, \\ as %5c, \
         and an @ that is not the last before the host as %40"
    )]
    Unescaped,
    /// Who are we there?
    #[error("no application is named: write singyeong://application@host")]
    NoApplication,
    /// An application's name that no server takes.
    #[error("the application's name has {0} characters, at most {LONGEST_APPLICATION} are taken")]
    LongApplication(usize),
    /// A part that is percent-encoded and no text.
    #[error("the {0} is not UTF-8 when it is percent-decoded")]
    NotUtf8(&'static str),
    /// Not one of the three.
    #[error("encoding is {0:?}: write json, msgpack or etf")]
    Encoding(String),
    /// Any other parameter.
    #[error("{0:?} is no parameter: there is encoding=json, msgpack or etf")]
    Parameter(String),
    /// The parameter twice.
    #[error("encoding is given twice")]
    Twice,
    /// What is never sent.
    #[error("what stands behind # has no meaning: leave it out, or write # as %23 in a password")]
    Fragment,
}

impl Dsn {
    /// Reads `singyeong://application[:password]@host[:port][/path][?encoding=json|msgpack|etf]`, or `ssingyeong://` for TLS.
    ///
    /// # Errors
    /// What is wrong with it; without the password.
    pub fn parse(text: &str) -> Result<Self, DsnError> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(DsnError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "singyeong" => "ws",
            "ssingyeong" => "wss",
            _ => return Err(DsnError::Scheme),
        };
        // For a URL of this kind a \ is a /.
        let authority = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
        if rest[authority..].contains('@') {
            return Err(DsnError::Unescaped);
        }
        let mut url = Url::parse(&format!("{scheme}://{rest}")).map_err(DsnError::NotAUrl)?;
        if url.fragment().is_some() {
            return Err(DsnError::Fragment);
        }
        let application = decoded("application", url.username())?;
        let password = url.password().map(|text| decoded("password", text)).transpose()?;
        if application.is_empty() {
            return Err(DsnError::NoApplication);
        }
        if application.chars().count() > LONGEST_APPLICATION {
            return Err(DsnError::LongApplication(application.chars().count()));
        }
        let encoding = encoding(&url)?;
        // It has a host, so both are there.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        if url.path() == "/" {
            url.set_path(PATH);
        }
        url.set_query(Some(&format!("encoding={}", encoding.name())));
        let password = password.filter(|text| !text.is_empty()).map(Secret::new);
        Ok(Self { application, password, address: url, encoding })
    }

    /// The application that we are.
    pub fn application(&self) -> &str {
        &self.application
    }

    /// The server's password, if we were told one.
    pub const fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// Where the websocket is; without credentials.
    pub const fn address(&self) -> &Url {
        &self.address
    }

    /// What we speak.
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }
}

/// Without the password.
impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.address.scheme() == "wss" { "ssingyeong" } else { "singyeong" };
        let password = if self.password.is_some() { ":[secret]" } else { "" };
        let rest = &self.address[url::Position::BeforeHost..];
        write!(f, "{scheme}://{}{password}@{rest}", self.application)
    }
}

fn encoding(url: &Url) -> Result<Encoding, DsnError> {
    let mut found = None;
    for (name, value) in url.query_pairs() {
        if name != "encoding" {
            return Err(DsnError::Parameter(name.into_owned()));
        }
        let encoding = Encoding::of_name(&value).ok_or_else(|| DsnError::Encoding(value.into_owned()))?;
        if found.replace(encoding).is_some() {
            return Err(DsnError::Twice);
        }
    }
    Ok(found.unwrap_or(Encoding::Json))
}

fn decoded(what: &'static str, text: &str) -> Result<String, DsnError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let encoded = hexadecimal(after).filter(|_| *first == b'%');
        bytes.push(encoded.unwrap_or(*first));
        rest = if encoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).map_err(|_| DsnError::NotUtf8(what))
}

/// The byte that the first two digits say.
fn hexadecimal(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_says_where_who_and_how() {
        let dsn = Dsn::parse("singyeong://bot@localhost").expect("a DSN");
        assert_eq!(dsn.address().as_str(), "ws://localhost/gateway/websocket?encoding=json");
        assert_eq!((dsn.application(), dsn.password(), dsn.encoding()), ("bot", None, Encoding::Json));

        let dsn =
            Dsn::parse(" ssingyeong://my%20bot:p%40ss%2fw%3f%25@[::1]:4567/nerve/?encoding=etf\n").expect("a DSN");
        assert_eq!(dsn.address().as_str(), "wss://[::1]:4567/nerve/?encoding=etf");
        assert_eq!((dsn.application(), dsn.encoding()), ("my bot", Encoding::Etf));
        assert_eq!(dsn.password().map(Secret::expose), Some("p@ss/w?%"));

        let dsn = Dsn::parse("singyeong://bot:@host/?encoding=msgpack").expect("a DSN");
        assert_eq!(dsn.address().as_str(), "ws://host/gateway/websocket?encoding=msgpack");
        assert_eq!(dsn.password(), None, "an empty one is none");
    }

    #[test]
    fn no_password_is_shown() {
        let dsn = Dsn::parse("singyeong://bot:hunter2@host:1/?encoding=json").expect("a DSN");
        assert_eq!(dsn.to_string(), "singyeong://bot:[secret]@host:1/gateway/websocket?encoding=json");
        assert!(!format!("{dsn:?}").contains("hunter2"), "{dsn:?}");
    }

    #[test]
    fn mistakes_are_told_without_the_password() {
        for (text, told) in [
            ("ws://bot:hunter2@host", "it begins neither with"),
            ("singyeong:bot:hunter2@host", "it begins neither with"),
            ("singyeong://bot:hunter2@", "it is no address: empty host"),
            ("singyeong://bot:hunter2@host:99999", "it is no address: invalid port number"),
            ("singyeong://bot:hunter2@ho st", "it is no address: invalid"),
            ("singyeong://bot:hunter2/x@host", "an @ stands behind the first /"),
            ("singyeong://bot:hunter2?x@host", "an @ stands behind the first /"),
            ("singyeong://bot:hunter2#x@host", "an @ stands behind the first /"),
            ("singyeong://bot:p@ss/hunter2@host", "an @ stands behind the first /"),
            ("singyeong://bot:p@ss?hunter2@host", "an @ stands behind the first /"),
            ("singyeong://bot:p@ss\\hunter2@host", "\\ as %5c"),
            ("singyeong://:hunter2@host", "no application is named"),
            ("singyeong://host:80", "no application is named"),
            ("singyeong://bot:hunter2%ff@host", "the password is not UTF-8"),
            ("singyeong://bot:hunter2@host/?encoding=JSON", "encoding is \"JSON\": write json"),
            ("singyeong://bot:hunter2@host/?encoding=", "encoding is \"\": write json"),
            ("singyeong://bot:hunter2@host/?encode=json", "\"encode\" is no parameter"),
            ("singyeong://bot@host/?hunter2@b=1", "an @ stands behind the first /"),
            ("singyeong://bot:hunter2@host/?encoding=json&encoding=etf", "encoding is given twice"),
            ("singyeong://bot:hunter2@host/#x", "what stands behind #"),
            (&format!("singyeong://{}:hunter2@host", "x".repeat(151)), "has 151 characters"),
        ] {
            let error = Dsn::parse(text).expect_err(text).to_string();
            assert!(error.contains(told), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
