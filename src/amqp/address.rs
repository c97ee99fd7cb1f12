//! `AMQP_URL`: where RabbitMQ is, and who we are there (spec/amqp.md, "Address").
//!
//! Nothing here prints the password: not the address, and no error about it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use crate::secret::Secret;
use crate::tls::ClientCertificate;

/// How we prove who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMechanism {
    /// By user and password.
    Plain,
    /// By what the connection itself shows, which is our TLS certificate.
    External,
}

impl AuthMechanism {
    /// Its name in SASL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::External => "EXTERNAL",
        }
    }
}

/// What is wrong with the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a URL at all.
    #[error("not a URL: {0}")]
    NotAUrl(url::ParseError),
    /// Neither `amqp` nor `amqps`.
    #[error("the scheme is `{0}`, but must be `amqp` or `amqps`")]
    Scheme(String),
    /// Without a host.
    #[error("no host is named")]
    NoHost,
    /// A percent-encoded part that is not UTF-8.
    #[error("the {0} is not UTF-8")]
    NotUtf8(&'static str),
    /// More than one segment of path.
    #[error("the path names the virtual host, so a `/` in its name is written `%2f`")]
    PathTooDeep,
    /// The protocol allows 255 bytes.
    #[error("the virtual host's name is longer than 255 bytes")]
    VhostTooLong,
    /// A parameter that means nothing to us.
    #[error(
        "unknown parameter `{0}`; known are heartbeat, connection_timeout, auth_mechanism, cacertfile, certfile, keyfile"
    )]
    UnknownParameter(String),
    /// An `@` behind a `?`.
    #[error("there is an `@` behind the `?`: in user and password, write `?` as `%3f`")]
    UnescapedCredentials,
    /// A parameter given twice.
    #[error("parameter `{0}` is given twice")]
    RepeatedParameter(&'static str),
    /// A parameter's value.
    #[error("parameter `{name}` is `{value}`, but must be {must}")]
    BadParameter {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        must: &'static str,
    },
    /// A parameter that only TLS can use.
    #[error("parameter `{0}` needs `amqps`")]
    NeedsTls(&'static str),
    /// One of the two that belong together.
    #[error("`certfile` and `keyfile` belong together")]
    HalfACertificate,
}

/// Where RabbitMQ is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    tls: bool,
    host: Host<String>,
    port: u16,
    vhost: String,
    user: String,
    password: Secret,
    heartbeat: Option<u16>,
    connection_timeout: Duration,
    auth_mechanism: AuthMechanism,
    ca_file: Option<PathBuf>,
    client_certificate: Option<ClientCertificate>,
}

/// Long enough for a broker on another continent and a name server that is asked twice.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

impl Address {
    /// Reads `amqp[s]://[user[:password]@]host[:port][/vhost][?parameters]`.
    ///
    /// # Errors
    /// With what is wrong; user and password are not in it.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text.trim()).map_err(AddressError::NotAUrl)?;
        let tls = match url.scheme() {
            "amqp" => false,
            "amqps" => true,
            other => return Err(AddressError::Scheme(other.to_owned())),
        };
        let host = match url.host() {
            None | Some(Host::Domain("")) => return Err(AddressError::NoHost),
            Some(Host::Domain(name)) => Host::Domain(decode("host", name)?),
            Some(Host::Ipv4(ip)) => Host::Ipv4(ip),
            Some(Host::Ipv6(ip)) => Host::Ipv6(ip),
        };
        let mut address = Self {
            tls,
            host,
            port: url.port().unwrap_or(if tls { 5671 } else { 5672 }),
            vhost: vhost(url.path())?,
            user: if url.username().is_empty() { "guest".to_owned() } else { decode("user", url.username())? },
            password: Secret::new(url.password().map_or(Ok("guest".to_owned()), |text| decode("password", text))?),
            heartbeat: None,
            connection_timeout: CONNECTION_TIMEOUT,
            auth_mechanism: AuthMechanism::Plain,
            ca_file: None,
            client_certificate: None,
        };
        address.read_parameters(&url)?;
        Ok(address)
    }

    fn read_parameters(&mut self, url: &Url) -> Result<(), AddressError> {
        const KNOWN: [&str; 6] =
            ["heartbeat", "connection_timeout", "auth_mechanism", "cacertfile", "certfile", "keyfile"];
        let mut seen = Vec::new();
        let (mut certificate, mut key) = (None, None);
        for (name, value) in url.query_pairs() {
            let Some(name) = KNOWN.into_iter().find(|known| *known == name) else {
                // Behind an unescaped `?` in a password, the "name" is the rest of the password and the host.
                if url.query().is_some_and(|query| query.contains('@')) {
                    return Err(AddressError::UnescapedCredentials);
                }
                return Err(AddressError::UnknownParameter(name.into_owned()));
            };
            if seen.contains(&name) {
                return Err(AddressError::RepeatedParameter(name));
            }
            seen.push(name);
            let bad = |must| AddressError::BadParameter { name, value: value.to_string(), must };
            match name {
                "heartbeat" => {
                    let seconds = value.parse().map_err(|_| bad("seconds from 0 (none) to 65535"))?;
                    self.heartbeat = Some(seconds);
                }
                "connection_timeout" => match value.parse() {
                    Ok(milliseconds @ 1..=u64::MAX) => self.connection_timeout = Duration::from_millis(milliseconds),
                    _ => return Err(bad("milliseconds, at least 1")),
                },
                "auth_mechanism" => match value.to_ascii_lowercase().as_str() {
                    "plain" => self.auth_mechanism = AuthMechanism::Plain,
                    "external" => self.auth_mechanism = AuthMechanism::External,
                    _ => return Err(bad("plain or external")),
                },
                _ if !self.tls => return Err(AddressError::NeedsTls(name)),
                "cacertfile" => self.ca_file = Some(PathBuf::from(value.as_ref())),
                "certfile" => certificate = Some(PathBuf::from(value.as_ref())),
                _ => key = Some(PathBuf::from(value.as_ref())),
            }
        }
        self.client_certificate = match (certificate, key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            _ => return Err(AddressError::HalfACertificate),
        };
        Ok(())
    }

    /// Whether the connection is encrypted.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host's name or address; an IPv6 address without brackets.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        }
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The virtual host.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// The user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password.
    pub const fn password(&self) -> &Secret {
        &self.password
    }

    /// The heartbeat asked for, in seconds, 0 for none; `None` when the URL does not say.
    pub const fn heartbeat(&self) -> Option<u16> {
        self.heartbeat
    }

    /// How long a try to connect may take.
    pub const fn connection_timeout(&self) -> Duration {
        self.connection_timeout
    }

    /// How we prove who we are.
    pub const fn auth_mechanism(&self) -> AuthMechanism {
        self.auth_mechanism
    }

    /// The authorities to trust, where they are not the system's.
    pub fn ca_file(&self) -> Option<&std::path::Path> {
        self.ca_file.as_deref()
    }

    /// Our own certificate.
    pub const fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.client_certificate.as_ref()
    }

    /// The URL in the parts that lapin reads, credentials in clear. Files for TLS are not among them:
    /// see [`ca_file`](Self::ca_file) and [`client_certificate`](Self::client_certificate).
    pub fn uri_for_lapin(&self) -> Secret {
        use std::fmt::Write as _;

        let encode =
            |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
        let mut uri = format!(
            "{}://{}:{}@{}:{}/{}?connection_timeout={}&auth_mechanism={}",
            self.scheme(),
            encode(&self.user),
            encode(self.password.expose()),
            self.host,
            self.port,
            encode(&self.vhost),
            self.connection_timeout.as_millis(),
            self.auth_mechanism.name().to_ascii_lowercase(),
        );
        if let Some(seconds) = self.heartbeat {
            write!(uri, "&heartbeat={seconds}").expect("writing to a string");
        }
        Secret::new(uri)
    }

    const fn scheme(&self) -> &'static str {
        if self.tls { "amqps" } else { "amqp" }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://***@{}:{}", self.scheme(), self.host, self.port)?;
        if self.vhost != "/" { write!(f, "/{}", self.vhost) } else { Ok(()) }
    }
}

/// The default one is called `/`; so is what a bare slash at the end means, whatever the letter of the URI's specification.
fn vhost(path: &str) -> Result<String, AddressError> {
    let name = path.strip_prefix('/').unwrap_or(path);
    if name.contains('/') {
        return Err(AddressError::PathTooDeep);
    }
    let name = if name.is_empty() { "/".to_owned() } else { decode("virtual host", name)? };
    if name.len() > 255 { Err(AddressError::VhostTooLong) } else { Ok(name) }
}

/// Percent-decoding, in which a `+` is a plus.
fn decode(part: &'static str, text: &str) -> Result<String, AddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| AddressError::NotUtf8(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        Address::parse(text).expect(text)
    }

    #[test]
    fn what_is_not_said_is_rabbitmqs_default() {
        let address = parse("amqp://rabbit");
        assert_eq!((address.host().as_str(), address.port(), address.vhost()), ("rabbit", 5672, "/"));
        assert_eq!((address.user(), address.password().expose()), ("guest", "guest"));
        assert_eq!(address.auth_mechanism(), AuthMechanism::Plain);
        assert_eq!(address.heartbeat(), None);
        assert_eq!(parse("amqps://rabbit").port(), 5671);
        assert_eq!(parse("amqp://rabbit/").vhost(), "/");
    }

    #[test]
    fn every_part_is_read_and_decoded() {
        let address = parse(
            "amqps://us%40er:p%2Fa+ss@[::1]:99/my%2fhost?heartbeat=7&connection_timeout=1500&auth_mechanism=EXTERNAL&cacertfile=/ca.pem&certfile=/c.pem&keyfile=/k.pem",
        );
        assert!(address.is_tls());
        assert_eq!((address.host().as_str(), address.port()), ("::1", 99));
        assert_eq!((address.user(), address.password().expose()), ("us@er", "p/a+ss"));
        assert_eq!(address.vhost(), "my/host");
        assert_eq!(address.heartbeat(), Some(7));
        assert_eq!(address.connection_timeout(), Duration::from_millis(1500));
        assert_eq!(address.auth_mechanism(), AuthMechanism::External);
        assert_eq!(address.ca_file(), Some(std::path::Path::new("/ca.pem")));
        assert_eq!(address.client_certificate().expect("given").key, PathBuf::from("/k.pem"));
    }

    #[test]
    fn mistakes_are_named_and_credentials_are_not() {
        let cases = [
            ("http://me:hunter2@host", "the scheme is `http`, but must be `amqp` or `amqps`"),
            ("amqp://me:hunter2@host:port", "not a URL: invalid port number"),
            ("amqp://", "no host is named"),
            ("amqp://me:hunter2@host/a/b", "the path names the virtual host, so a `/` in its name is written `%2f`"),
            ("amqp://me:%ffhunter2@host", "the password is not UTF-8"),
            (
                "amqp://me:hunter2@host?heartbeat=x",
                "parameter `heartbeat` is `x`, but must be seconds from 0 (none) to 65535",
            ),
            (
                "amqp://me:hunter2@host?connection_timeout=0",
                "parameter `connection_timeout` is `0`, but must be milliseconds, at least 1",
            ),
            ("amqp://me:hunter2@host?heartbeat=1&heartbeat=2", "parameter `heartbeat` is given twice"),
            ("amqp://me:hunter2@host?cacertfile=a", "parameter `cacertfile` needs `amqps`"),
            ("amqps://me:hunter2@host?certfile=a", "`certfile` and `keyfile` belong together"),
        ];
        for (url, expected) in cases {
            let error = Address::parse(url).expect_err(url).to_string();
            assert_eq!(error, expected);
        }
        let unknown = Address::parse("amqp://me:hunter2@host?hartbeat=1").expect_err("unknown").to_string();
        assert!(unknown.starts_with("unknown parameter `hartbeat`"), "{unknown}");
    }

    #[test]
    fn a_password_cut_by_a_question_mark_is_not_shown() {
        let error = Address::parse("amqp://me:12?hunter2@host").expect_err("no such parameter");
        assert_eq!(error, AddressError::UnescapedCredentials);
    }

    #[test]
    fn an_address_prints_without_credentials() {
        let address = parse("amqp://me:hunter2@host:1/v");
        assert_eq!(address.to_string(), "amqp://***@host:1/v");
        assert!(!format!("{address:?}").contains("hunter2"));
        assert_eq!(parse("amqps://[::1]").to_string(), "amqps://***@[::1]:5671");
    }

    #[test]
    fn lapin_reads_the_same() {
        let address = parse("amqp://us%40er:p%2Fa+s%20s@host:99/my%2fhost?heartbeat=7&auth_mechanism=external");
        let uri: lapin::uri::AMQPUri = address.uri_for_lapin().expose().parse().expect("lapin reads it");
        assert_eq!(uri.authority.userinfo.username, "us@er");
        assert_eq!(uri.authority.userinfo.password, "p/a+s s");
        assert_eq!((uri.authority.host.as_str(), uri.authority.port), ("host", 99));
        assert_eq!(uri.vhost, "my/host");
        assert_eq!(uri.query.heartbeat, Some(7));
        assert_eq!(uri.query.auth_mechanism, Some("external".parse().expect("known")));
    }
}
