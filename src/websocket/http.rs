//! What a connection begins with: HTTP, which becomes a websocket at an endpoint's path, or stays REST.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Who has not sent the head of a request by then is let go.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// No further request is taken on a connection so old; what is under way then has as long again.
const OLDEST: Duration = Duration::from_secs(60);

/// REST requests at a time; to more of them is said that it is too much.
const MOST_REQUESTS: usize = 256;

/// For heads: they are small. A handshake's buffer does not outlive it.
const BUFFER: usize = 16 << 10;

/// What answers requests that are no websocket's.
pub trait Rest: Send + Sync + 'static {
    /// Answers a request of this peer. How much of the body is read, and for how long, is its business.
    fn respond(self: Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> BoxFuture<'static, Answer>;
}

/// Answers that there is nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoRest;

impl Rest for NoRest {
    fn respond(self: Arc<Self>, _request: Request<Incoming>, _peer: IpAddr) -> BoxFuture<'static, Answer> {
        Box::pin(std::future::ready(not_found()))
    }
}

/// Serves clients by websocket, at a path of its own.
pub trait Endpoint: Send + Sync + 'static {
    /// Where; a slash may follow.
    fn path(&self) -> &'static str;

    /// Whether pages of web sites may connect: browsers let any page connect to wherever they reach, and say which by `Origin`.
    fn takes_pages(&self) -> bool {
        true
    }

    /// Whether one more is let in who says this in the query of its URL; what is answered when not.
    ///
    /// # Errors
    /// The answer in the websocket's place.
    fn admit(self: Arc<Self>, query: Option<&str>) -> Result<Welcome, Box<Answer>>;
}

/// What is done with a websocket once it is open, until its end or that of the server. Dropped, it was not opened.
pub type Welcome = Box<dyn FnOnce(Opened, CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// What there is for those who come.
pub struct Front {
    endpoints: Vec<Arc<dyn Endpoint>>,
    rest: Arc<dyn Rest>,
    /// Whether one more request is answered at a time.
    requests: Semaphore,
}

impl Front {
    /// Websockets for these, and an answer for all else. Who asks for `/` is sent to the first.
    pub fn new(endpoints: Vec<Arc<dyn Endpoint>>, rest: Arc<dyn Rest>) -> Self {
        Self { endpoints, rest, requests: Semaphore::new(MOST_REQUESTS) }
    }
}

/// A websocket at its beginning.
#[derive(Debug)]
pub struct Opened {
    /// The connection, behind the handshake.
    pub stream: TcpStream,
    /// Who is at the other end.
    pub peer: IpAddr,
    /// What came behind the handshake already.
    pub early: Bytes,
}

/// What is answered: the text is a whole already.
pub type Answer = Response<Full<Bytes>>;

/// Answers requests until the connection ends, or becomes a websocket. `None` when it has ended. The turn is over once a head was
/// read.
pub async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    front: Arc<Front>,
    turn: OwnedSemaphorePermit,
    stop: &CancellationToken,
) -> Option<(Welcome, Opened)> {
    let turn = Mutex::new(Some(turn));
    let upgrade: Arc<Mutex<Option<Welcome>>> = Arc::default();
    let service = {
        let upgrade = Arc::clone(&upgrade);
        service_fn(move |request| {
            drop(turn.lock().unwrap_or_else(PoisonError::into_inner).take());
            let (front, upgrade) = (Arc::clone(&front), Arc::clone(&upgrade));
            let answer: BoxFuture<'static, _> =
                Box::pin(async move { Ok::<_, Infallible>(respond(request, peer, &front, &upgrade).await) });
            answer
        })
    };
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut is_last = false;
    loop {
        // Dropped, the polling loses nothing: the connection has all that was read.
        tokio::select! {
            biased;
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => match ended {
                Ok(()) => break,
                Err(failure) => {
                    debug!(%failure, "a request was not to be read");
                    return None;
                }
            },
            () = stop.cancelled(), if !is_last => is_last = true,
            () = tokio::time::sleep(OLDEST) => {
                if is_last {
                    debug!("a request took too long");
                    return None;
                }
                is_last = true;
            }
        }
        Pin::new(&mut connection).graceful_shutdown();
    }
    let parts = connection.into_parts();
    let welcome = upgrade.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    Some((welcome, Opened { stream: parts.io.into_inner(), peer, early: parts.read_buf }))
}

async fn respond(request: Request<Incoming>, peer: IpAddr, front: &Front, upgrade: &Mutex<Option<Welcome>>) -> Answer {
    let path = request.uri().path();
    let bare = path.strip_suffix('/').unwrap_or(path);
    if let Some(endpoint) = front.endpoints.iter().find(|endpoint| endpoint.path() == bare) {
        return match open(&request, endpoint) {
            Ok((response, welcome)) => {
                *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(welcome);
                response
            }
            Err(refusal) => *refusal,
        };
    }
    if path == "/"
        && matches!(*request.method(), Method::GET | Method::HEAD)
        && let Some(first) = front.endpoints.first()
    {
        let mut response = empty(StatusCode::FOUND);
        response.headers_mut().insert(LOCATION, HeaderValue::from_static(first.path()));
        return response;
    }
    let Ok(_request) = front.requests.try_acquire() else {
        return json(StatusCode::SERVICE_UNAVAILABLE, r#"{"errors":{"detail":"Too many requests"}}"#);
    };
    Arc::clone(&front.rest).respond(request, peer).await
}

/// The handshake of RFC 6455, 4.2. Extensions and subprotocols are passed over, and Origin where pages may connect.
fn open<B>(request: &Request<B>, endpoint: &Arc<dyn Endpoint>) -> Result<(Answer, Welcome), Box<Answer>> {
    let headers = request.headers();
    let wants_websocket = *request.method() == Method::GET
        && names(headers, &CONNECTION, "upgrade")
        && names(headers, &UPGRADE, "websocket");
    if !wants_websocket {
        let mut refusal = empty(StatusCode::UPGRADE_REQUIRED);
        refusal.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return Err(refusal.into());
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut refusal = empty(StatusCode::UPGRADE_REQUIRED);
        refusal.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(refusal.into());
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| Box::new(empty(StatusCode::BAD_REQUEST)))?;
    let accept = derive_accept_key(key.as_bytes());
    let accept = HeaderValue::try_from(accept).expect("base64 may be in a header");
    if headers.contains_key(ORIGIN) && !endpoint.takes_pages() {
        const TEXT: &str =
            r#"{"errors":{"detail":"No page of a web site may connect here: connect without the header Origin"}}"#;
        return Err(json(StatusCode::FORBIDDEN, TEXT).into());
    }
    let welcome = Arc::clone(endpoint).admit(request.uri().query())?;
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok((response, welcome))
}

/// What is answered where all places are taken.
pub fn no_place() -> Answer {
    json(StatusCode::SERVICE_UNAVAILABLE, r#"{"errors":{"detail":"Too many connections"}}"#)
}

/// Whether a header's list has this word.
fn names(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(word))
}

/// What there is at paths that mean nothing.
pub fn not_found() -> Answer {
    json(StatusCode::NOT_FOUND, r#"{"code":404,"error":"not found"}"#)
}

fn json(status: StatusCode, body: &'static str) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

/// With nothing to say but the status.
pub fn empty(status: StatusCode) -> Answer {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets everybody in, or no pages.
    struct Open {
        pages: bool,
    }

    impl Endpoint for Open {
        fn path(&self) -> &'static str {
            "/"
        }

        fn takes_pages(&self) -> bool {
            self.pages
        }

        fn admit(self: Arc<Self>, _query: Option<&str>) -> Result<Welcome, Box<Answer>> {
            Ok(Box::new(|_, _| Box::pin(std::future::ready(()))))
        }
    }

    #[test]
    fn pages_of_web_sites_are_let_in_only_where_they_may() {
        let status = |pages: bool, origin: Option<&str>| {
            let mut request = Request::get("/")
                .header(CONNECTION, "keep-alive, Upgrade")
                .header(UPGRADE, "websocket")
                .header(SEC_WEBSOCKET_VERSION, "13")
                .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
            if let Some(origin) = origin {
                request = request.header(ORIGIN, origin);
            }
            let endpoint: Arc<dyn Endpoint> = Arc::new(Open { pages });
            match open(&request.body(()).expect("a request"), &endpoint) {
                Ok((answer, _)) => answer.status(),
                Err(refusal) => refusal.status(),
            }
        };
        for origin in ["https://example.com", "null", ""] {
            assert_eq!(status(false, Some(origin)), StatusCode::FORBIDDEN, "{origin:?}");
            assert_eq!(status(true, Some(origin)), StatusCode::SWITCHING_PROTOCOLS);
        }
        assert_eq!(status(false, None), StatusCode::SWITCHING_PROTOCOLS);
    }
}
