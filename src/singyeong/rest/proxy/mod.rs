//! `POST /api/v1/proxy`: a request to one client that matches a query, over HTTP (spec/singyeong.md, "Proxy").

pub mod address;
pub mod upstream;

use std::net::IpAddr;

use hyper::body::Bytes;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use hyper::{HeaderMap, Method, Response};

use self::address::Base;
use self::upstream::Question;
use crate::encoding::{Encoding, Value, write};

/// What the original calls a method.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// And does not send.
const UNSUPPORTED: [&str; 3] = ["CONNECT", "OPTIONS", "TRACE"];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is to be asked of a client, as a REST body says it.
#[derive(Debug)]
pub struct ProxyRequest<'a> {
    /// Which client.
    pub query: &'a Value,
    method: &'a str,
    route: &'a str,
    body: &'a Value,
    headers: &'a Value,
}

/// What a REST body lacks: the key that an error has, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing(pub &'static str);

impl<'a> ProxyRequest<'a> {
    /// Reads a REST body.
    ///
    /// # Errors
    /// The first of `method`, `route` and `query` that is missing, or no text where one is wanted.
    pub fn read(body: &'a Value) -> Result<Self, Missing> {
        let text = |key| body.get(key).and_then(Value::as_str).ok_or(Missing(key));
        let (method, route) = (text("method")?, text("route")?);
        let query = body.get("query").filter(|query| !query.is_null()).ok_or(Missing("query"))?;
        let optional = |key| body.get(key).unwrap_or(&Value::Null);
        Ok(Self { query, method, route, body: optional("body"), headers: optional("headers") })
    }

    /// What is said of the request whoever it goes to; `forwarded_for` asked for it.
    ///
    /// # Errors
    /// What is wrong with it, in the original's words where it has some.
    pub fn prepare(&self, forwarded_for: IpAddr) -> Result<Prepared<'a>, String> {
        let method = self.method;
        if !METHODS.contains(&method) {
            return Err(format!("{method} is not a valid method! (valid methods: {METHODS:?})"));
        }
        if UNSUPPORTED.contains(&method) {
            return Err(format!("{method} is not a supported method! (not supported: {UNSUPPORTED:?})"));
        }
        let (body, is_json) = match self.body {
            Value::Null | Value::Bool(false) => (Bytes::new(), false),
            Value::String(text) => (Bytes::copy_from_slice(text.as_bytes()), false),
            other => {
                let mut text = Vec::new();
                write(Encoding::Json, other, &mut text);
                (text.into(), true)
            }
        };
        if matches!(method, "GET" | "HEAD") && !body.is_empty() {
            return Err("no body required but one given (you probably wanted to send nil)".to_owned());
        }
        let mut headers = headers(self.headers)?;
        if is_json {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(crate::USER_AGENT));
        forward(&mut headers, forwarded_for);
        let method = Method::from_bytes(method.as_bytes()).expect("it is one of the list");
        Ok(Prepared { method, route: self.route, headers, body })
    }
}

/// A request without its address.
#[derive(Debug)]
pub struct Prepared<'a> {
    method: Method,
    route: &'a str,
    headers: HeaderMap,
    body: Bytes,
}

impl Prepared<'_> {
    /// The request as it goes to a client with this base.
    ///
    /// # Errors
    /// The route is none.
    pub fn to(self, base: &Base) -> Result<Question, String> {
        let target = base.target(self.route).parse().map_err(|_| format!("{:?} is no route", self.route))?;
        Ok(Question { method: self.method, target, headers: self.headers, body: self.body })
    }
}

/// An answer as it goes back.
pub fn pass_back(mut answer: Response<Bytes>) -> Response<Bytes> {
    strip(answer.headers_mut());
    answer.extensions_mut().clear();
    *answer.version_mut() = hyper::Version::HTTP_11;
    answer
}

/// Reads headers out of a map of texts.
fn headers(given: &Value) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let given = match given {
        Value::Null => return Ok(headers),
        Value::Map(map) => map,
        _ => return Err("the headers are no map".to_owned()),
    };
    for (name, value) in given.iter() {
        let text = match value {
            Value::String(text) => text.to_string(),
            Value::Integer(number) => number.to_string(),
            _ => return Err(format!("the header {name:?} is no text")),
        };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header's name"))?;
        // Its value is not told: it may be a password.
        let value = HeaderValue::from_str(&text).map_err(|_| format!("no header can carry what {name} shall say"))?;
        headers.append(name, value);
    }
    strip(&mut headers);
    Ok(headers)
}

/// Who asked is told behind those who asked it.
fn forward(headers: &mut HeaderMap, asked: IpAddr) {
    let asked = asked.to_canonical().to_string();
    let before = headers.get(&FORWARDED_FOR).and_then(|value| value.to_str().ok());
    let all = before.map_or_else(|| asked.clone(), |before| format!("{before}, {asked}"));
    headers.insert(FORWARDED_FOR, all.parse().expect("addresses and what was a header are one"));
}

/// Takes out what is said of one connection and not of the message (RFC 9110, 7.6.1), and the length, which the message's
/// writer knows best.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let always = [
        CONNECTION,
        CONTENT_LENGTH,
        EXPECT,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    for name in always.into_iter().chain(named) {
        headers.remove(&name);
    }
}
