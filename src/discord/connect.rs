//! Opens connections to Discord: TCP, TLS where the address wants it, and the websocket handshake.
//!
//! What comes out is a byte stream and the bytes that came after the handshake. Knows nothing of packets and sessions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use url::Url;

use crate::tls::{self, TlsError};

/// How long TCP, TLS and the handshake may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest answer to a handshake that is read.
const MAX_RESPONSE_HEAD: usize = 16 << 10;

/// The most header lines that are read.
const MAX_HEADERS: usize = 64;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not one.
    #[error("{url:?} is not a usable address: {reason}")]
    BadUrl {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The host's name, TCP or TLS failed.
    #[error("cannot connect to {host}: {source}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the system or TLS said.
        #[source]
        source: io::Error,
    },
    /// The system's certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No connection within the time.
    #[error("no connection to {host} within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut {
        /// Host and port.
        host: String,
    },
    /// The server answered, but not with a websocket.
    #[error("{host} refused the websocket with HTTP status {status}")]
    Refused {
        /// Host and port.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server's answer is not that of a websocket server.
    #[error("{host} does not speak websocket: {reason}")]
    BadHandshake {
        /// Host and port.
        host: String,
        /// What was missing.
        reason: &'static str,
    },
}

/// A byte stream, with TLS or without.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS: a simulator or a proxy nearby.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A websocket that is open.
#[derive(Debug)]
pub struct Opened {
    /// The stream, past the handshake.
    pub stream: Stream,
    /// Bytes of the websocket that came together with the handshake's end.
    pub early: Vec<u8>,
}

/// Opens TCP, and TLS for `wss` and `https`.
///
/// # Errors
/// When the address is unusable or the host cannot be reached.
pub async fn dial(url: &Url, tls: &tls::Lazy) -> Result<Stream, ConnectError> {
    let host = host(url)?;
    within(&host, dial_untimed(url, &host, tls)).await
}

/// Opens a websocket.
///
/// # Errors
/// As [`dial`], and when the server does not accept the websocket.
pub async fn open(url: &Url, tls: &tls::Lazy) -> Result<Opened, ConnectError> {
    let host = host(url)?;
    let handshake = async {
        let mut stream = dial_untimed(url, &host, tls).await?;
        let early = upgrade(&mut stream, url, &host).await?;
        Ok(Opened { stream, early })
    };
    within(&host, handshake).await
}

async fn within<T>(host: &str, work: impl Future<Output = Result<T, ConnectError>>) -> Result<T, ConnectError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, work).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut { host: host.to_owned() }),
    }
}

async fn dial_untimed(url: &Url, host: &str, tls: &tls::Lazy) -> Result<Stream, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable { host: host.to_owned(), source };
    let tcp = TcpStream::connect(host).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    if !is_encrypted(url) {
        return Ok(Stream::Plain(tcp));
    }
    let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| ConnectError::BadUrl { url: url.to_string(), reason: "its host is no name for TLS" })?;
    let stream = TlsConnector::from(tls.config()?).connect(name, tcp).await.map_err(unreachable)?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Asks for the websocket and reads the answer (RFC 6455, 4.1).
async fn upgrade(stream: &mut Stream, url: &Url, host: &str) -> Result<Vec<u8>, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable { host: host.to_owned(), source };
    let bad = |reason| ConnectError::BadHandshake { host: host.to_owned(), reason };
    let key = generate_key();
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n",
        crate::USER_AGENT,
    );
    stream.write_all(request.as_bytes()).await.map_err(unreachable)?;
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if bytes.len() > MAX_RESPONSE_HEAD {
            return Err(bad("the answer's head is too long"));
        }
        if stream.read_buf(&mut bytes).await.map_err(unreachable)? == 0 {
            return Err(unreachable(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(&bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => continue,
            Err(_) => return Err(bad("the answer is not HTTP")),
        };
        let status = response.code.unwrap_or_default();
        if status != 101 {
            return Err(ConnectError::Refused { host: host.to_owned(), status });
        }
        let accept = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
        if accept.is_none_or(|header| header.value != derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(bad("Sec-WebSocket-Accept is missing or wrong"));
        }
        return Ok(bytes.split_off(length));
    }
}

fn is_encrypted(url: &Url) -> bool {
    matches!(url.scheme(), "wss" | "https")
}

/// Host and port, as TCP and the `Host` header take them.
fn host(url: &Url) -> Result<String, ConnectError> {
    let bad = |reason| ConnectError::BadUrl { url: url.to_string(), reason };
    let host = url.host_str().ok_or_else(|| bad("it has no host"))?;
    let port = match url.scheme() {
        "wss" | "https" => 443,
        "ws" | "http" => 80,
        _ => return Err(bad("its scheme is none of wss, ws, https, http")),
    };
    Ok(format!("{host}:{}", url.port().unwrap_or(port)))
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
