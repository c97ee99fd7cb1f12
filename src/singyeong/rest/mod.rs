//! What is asked by HTTP, not by websocket: the version, who matches a query, and requests passed on to clients
//! (spec/singyeong.md, "REST").
//!
//! Knows no socket of those who ask: the server hands requests in. Who is not authorised is not read any further.

pub mod proxy;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tracing::debug;

pub use self::proxy::address::Allowed;
use self::proxy::address::Base;
use self::proxy::upstream::Upstream;
use self::proxy::{Missing, ProxyRequest};
use super::client::Client;
use super::exchange::Later;
use super::hub::Hub;
use super::limits::Limits;
use super::query::{InvalidQuery, Query};
use super::server::listing;
use crate::encoding::{Encoding, Value, json, write};
use crate::passwords::{Passwords, Verdict};
use crate::websocket::http::{Rest, not_found};

/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });

/// What answers.
#[derive(Debug)]
pub struct RestApi {
    hub: Arc<Hub>,
    passwords: Arc<Passwords>,
    upstream: Upstream,
    /// Bytes of a body.
    most_body: usize,
    most_depth: usize,
}

impl Rest for RestApi {
    fn respond(self: Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Later<Answer> {
        Box::pin(async move { self.answer(request, peer).await })
    }
}

/// What is answered: the text is a whole already.
type Answer = Response<Full<Bytes>>;

impl RestApi {
    /// Of these clients.
    pub fn new(hub: Arc<Hub>, passwords: Arc<Passwords>, limits: &Limits, allowed: Allowed) -> Self {
        let upstream = Upstream::new(allowed);
        Self { hub, passwords, upstream, most_body: limits.message, most_depth: limits.query_depth }
    }

    /// Answers a request of this address.
    pub async fn answer<B>(&self, request: Request<B>, peer: IpAddr) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        self.try_to(request, peer).await.unwrap_or_else(|refusal| refusal)
    }

    async fn try_to<B>(&self, request: Request<B>, peer: IpAddr) -> Result<Answer, Answer>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let path = request.uri().path();
        let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
        let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
        match path {
            "/api/version" if is_get => {
                accepts_json(request.headers())?;
                Ok(ok(&Value::map([("api", Value::string("v1")), ("singyeong", Value::string("0.0.1"))])))
            }
            "/api/v1/query" if *request.method() == Method::POST => {
                let body = self.authorised_body(request, peer).await?;
                self.query(&body).await
            }
            "/api/v1/proxy" if *request.method() == Method::POST => {
                let body = self.authorised_body(request, peer).await?;
                self.proxy(&body, peer).await
            }
            // As the original without plugins.
            _ if path.starts_with("/api/v1/plugin/") => {
                self.authorised(request.headers(), peer).await?;
                let mut answer = Response::new(Full::default());
                *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                Err(answer)
            }
            _ => Err(not_found()),
        }
    }

    /// Whoever may not, waits for the answer: words are not to be tried out quickly.
    async fn authorised(&self, headers: &HeaderMap, peer: IpAddr) -> Result<(), Answer> {
        accepts_json(headers)?;
        let given = headers.get(AUTHORIZATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        match self.passwords.check(given, peer, Instant::now()) {
            Verdict::Right => return Ok(()),
            Verdict::Wrong(wait) => tokio::time::sleep(wait).await,
            Verdict::TooMany => return Err(failed(StatusCode::TOO_MANY_REQUESTS)),
        }
        let refusal = [("status", Value::string("error")), ("error", Value::string("not authorized"))];
        Err(answer(StatusCode::UNAUTHORIZED, &Value::map(refusal)))
    }

    /// The body as a value, of who may ask. None is an empty map; whatever its type is said to be, it is read as JSON.
    async fn authorised_body<B>(&self, request: Request<B>, peer: IpAddr) -> Result<Value, Answer>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        self.authorised(request.headers(), peer).await?;
        let collect = Limited::new(request.into_body(), self.most_body).collect();
        let body = match tokio::time::timeout(BODY_TIMEOUT, collect).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(failed(StatusCode::PAYLOAD_TOO_LARGE)),
            Ok(Err(_)) => return Err(failed(StatusCode::BAD_REQUEST)),
            Err(_) => return Err(failed(StatusCode::REQUEST_TIMEOUT)),
        };
        if body.is_empty() {
            return Ok(Value::map([]));
        }
        json::read(&body).map_err(|_| failed(StatusCode::BAD_REQUEST))
    }

    async fn query(&self, body: &Value) -> Result<Answer, Answer> {
        let query = self.compile(body)?;
        let clients = self.hub.all(&query);
        let mut text = vec![b'['];
        listing::each(&clients, |client| {
            if text.len() > 1 {
                text.push(b',');
            }
            write(Encoding::Json, &client.to_value(), &mut text);
        })
        .await;
        text.push(b']');
        Ok(in_json(StatusCode::OK, text))
    }

    async fn proxy(&self, body: &Value, peer: IpAddr) -> Result<Answer, Answer> {
        let request = ProxyRequest::read(body).map_err(|Missing(key)| {
            let text = Value::string(&format!("no {key} provided"));
            answer(StatusCode::BAD_REQUEST, &Value::map([(key, Value::List([text].into()))]))
        })?;
        let query = self.compile(request.query)?;
        let prepared = request.prepare(peer).map_err(|text| errors(&text))?;
        let client = self.with_address(&query).ok_or_else(|| errors("no matches"))?;
        let ip = client.ip.as_deref().expect("it was chosen for that");
        let base = Base::read(ip).map_err(|error| errors(&error.to_string()))?;
        let question = prepared.to(&base).map_err(|text| errors(&text))?;
        match self.upstream.ask(&base, question).await {
            Ok(response) => Ok(proxy::pass_back(response).map(Full::new)),
            Err(error) => {
                debug!(client = %client.key, %error, "a request was not passed on");
                Err(errors(&error.to_string()))
            }
        }
    }

    /// A client that matches and can be asked: restricted ones cannot, nor can the gateway.
    fn with_address(&self, query: &Query) -> Option<Arc<Client>> {
        let chosen = self.hub.choose(query)?;
        if chosen.ip.is_some() {
            return Some(chosen);
        }
        let mut all = self.hub.all(query);
        all.retain(|client| client.ip.is_some());
        fastrand::choice(all)
    }

    #[expect(clippy::result_large_err, reason = "an answer is what it comes to, either way")]
    fn compile(&self, query: &Value) -> Result<Query, Answer> {
        Query::compile(query, self.most_depth).map_err(|error| match error {
            InvalidQuery::TooDeep(_)
            | InvalidQuery::TooMany(_)
            | InvalidQuery::TooManySearches(_)
            | InvalidQuery::TooLarge(_) => errors(&error.to_string()),
            // As the original has it.
            InvalidQuery::Malformed(_) => failed(StatusCode::INTERNAL_SERVER_ERROR),
        })
    }
}

#[expect(clippy::result_large_err, reason = "an answer is what it comes to, either way")]
fn accepts_json(headers: &HeaderMap) -> Result<(), Answer> {
    let mut given = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if given.peek().is_none() {
        return Ok(());
    }
    let is_json = |range: &str| {
        let kind = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        matches!(kind.as_str(), "*/*" | "application/*" | "application/json") || kind.ends_with("+json")
    };
    if given.flat_map(|value| value.split(',')).any(is_json) { Ok(()) } else { Err(failed(StatusCode::NOT_ACCEPTABLE)) }
}

fn in_json(status: StatusCode, text: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    answer
}

fn answer(status: StatusCode, value: &Value) -> Answer {
    let mut text = Vec::new();
    write(Encoding::Json, value, &mut text);
    in_json(status, text)
}

fn ok(value: &Value) -> Answer {
    answer(StatusCode::OK, value)
}

/// With nothing to say but the status.
fn failed(status: StatusCode) -> Answer {
    let detail = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        other => other.canonical_reason().unwrap_or_default(),
    };
    answer(status, &Value::map([("errors", Value::map([("detail", Value::string(detail))]))]))
}

/// What is wrong with a request to a client.
fn errors(text: &str) -> Answer {
    answer(StatusCode::BAD_REQUEST, &Value::map([("errors", Value::List([Value::string(text)].into()))]))
}

#[cfg(test)]
mod tests;
