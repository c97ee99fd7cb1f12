//! Asks a client over HTTP: one connection a request, to an address that may be asked, and no longer nor larger than bounded.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use url::Host;

use super::address::{Allowed, Base};
use crate::discord::connect::Stream;
use crate::tls;

/// How long the name, TCP and TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// How long everything may take.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 60 });

/// The largest body that is taken of an answer.
const MOST_BODY: usize = 8 << 20;

/// The largest head of an answer.
const MOST_HEAD: usize = 64 << 10;

/// Requests under way at a time: each may hold an answer.
const MOST_UNDER_WAY: usize = 32;

/// Of a name's addresses so many are tried.
const MOST_ADDRESSES: usize = 4;

/// Why there is no answer, in words for who asked.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Not to this address.
    #[error("{0} is not to be asked: SINGYEONG_PROXY_ALLOW says which addresses of that kind are")]
    Refused(IpAddr),
    /// The name is unknown, or nobody listens.
    #[error("cannot connect to {authority}: {source}")]
    Unreachable {
        /// Host and port.
        authority: String,
        /// What the system or TLS said.
        source: io::Error,
    },
    /// TLS cannot be spoken at all.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// It took too long.
    #[error("{0} did not answer in time")]
    TimedOut(String),
    /// The body is too large.
    #[error("the answer is larger than {} MiB", MOST_BODY >> 20)]
    TooLarge,
    /// It does not speak HTTP, or went away.
    #[error("{authority} did not answer: {source}")]
    Failed {
        /// Host and port.
        authority: String,
        /// What is wrong.
        source: hyper::Error,
    },
    /// 101, which nobody asked for.
    #[error("{0} wants to speak something else than HTTP")]
    Upgraded(String),
}

/// What is asked.
#[derive(Debug)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: hyper::Uri,
    /// The headers; without those of the connection.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What asks.
#[derive(Debug)]
pub struct Upstream {
    allowed: Allowed,
    tls: tls::Lazy,
    room: Semaphore,
}

impl Upstream {
    /// Which may go there.
    pub fn new(allowed: Allowed) -> Self {
        Self { allowed, tls: tls::Lazy::default(), room: Semaphore::new(MOST_UNDER_WAY) }
    }

    /// Asks. Redirects are answers as any other: where they lead nobody has looked at.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub async fn ask(&self, base: &Base, question: Question) -> Result<Response<Bytes>, UpstreamError> {
        let ask = async {
            let _place = self.room.acquire().await.expect("the semaphore is never closed");
            let stream = within(CONNECT_TIMEOUT, base, self.connect(base)).await?;
            exchange(base, stream, question).await
        };
        within(WHOLE_TIMEOUT, base, ask).await
    }

    /// Connects to an address that was looked at, not to a name that may mean another one by then.
    async fn connect(&self, base: &Base) -> Result<Stream, UpstreamError> {
        let unreachable = |source| UpstreamError::Unreachable { authority: base.authority(), source };
        let addresses = match &base.host {
            Host::Ipv4(address) => vec![IpAddr::V4(*address)],
            Host::Ipv6(address) => vec![IpAddr::V6(*address)],
            Host::Domain(name) => {
                let found = tokio::net::lookup_host((name.as_str(), base.port)).await.map_err(unreachable)?;
                found.map(|address| address.ip()).collect()
            }
        };
        let mut failure = unreachable(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        for address in addresses.into_iter().take(MOST_ADDRESSES) {
            if !self.allowed.permits(address) {
                failure = UpstreamError::Refused(address.to_canonical());
                continue;
            }
            match TcpStream::connect(SocketAddr::new(address, base.port)).await {
                Ok(tcp) => {
                    tcp.set_nodelay(true).map_err(unreachable)?;
                    return self.encrypt(base, tcp).await;
                }
                Err(source) => failure = unreachable(source),
            }
        }
        Err(failure)
    }

    async fn encrypt(&self, base: &Base, tcp: TcpStream) -> Result<Stream, UpstreamError> {
        if !base.encrypted {
            return Ok(Stream::Plain(tcp));
        }
        let unreachable = |source| UpstreamError::Unreachable { authority: base.authority(), source };
        let name = match &base.host {
            Host::Domain(name) => ServerName::try_from(name.clone())
                .map_err(|error| unreachable(io::Error::new(io::ErrorKind::InvalidInput, error)))?,
            Host::Ipv4(address) => ServerName::from(IpAddr::V4(*address)),
            Host::Ipv6(address) => ServerName::from(IpAddr::V6(*address)),
        };
        let stream = TlsConnector::from(self.tls.config()?).connect(name, tcp).await.map_err(unreachable)?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

async fn within<T>(
    time: Duration,
    base: &Base,
    work: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    tokio::time::timeout(time, work).await.unwrap_or_else(|_| Err(UpstreamError::TimedOut(base.authority())))
}

async fn exchange(base: &Base, stream: Stream, question: Question) -> Result<Response<Bytes>, UpstreamError> {
    let failed = |source| UpstreamError::Failed { authority: base.authority(), source };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MOST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let mut request = Request::new(Full::new(question.body));
    *request.method_mut() = question.method;
    *request.uri_mut() = question.target;
    *request.headers_mut() = question.headers;
    let host = base.authority().parse().expect("an address has nothing that a header cannot carry");
    request.headers_mut().entry(HOST).or_insert(host);
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        if response.status().is_informational() {
            return Err(UpstreamError::Upgraded(base.authority()));
        }
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MOST_BODY).collect().await.map_err(|error| {
            match error.downcast::<LengthLimitError>() {
                Ok(_) => UpstreamError::TooLarge,
                Err(error) => failed(*error.downcast::<hyper::Error>().expect("the limit is the only other one")),
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    tokio::pin!(answer, connection);
    // The connection is driven here, and dropped with the answer: one request, no task.
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(source) => Err(failed(source)),
        },
    }
}
