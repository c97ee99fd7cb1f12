//! The admin interface: who knows `HTTP_TOKEN` sees amybot's services and has them stop or start anew (spec/amybot.md, "Admin
//! interface").
//!
//! The token comes in the header `Authorization` and nowhere else: no page of another site can have a browser send it. Wrong ones
//! are answered late, and few at a time wait, so that they keep nobody from asking for health.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};
use tokio::sync::Semaphore;
use tracing::info;

use super::answer::{Answer, allowing, error, json};
use crate::amybot::bridge::AskError;
use crate::amybot::internal::{Internal, InternalAnswer, Order};
use crate::amybot::message::ServiceName;
use crate::passwords::{Passwords, Verdict};
use crate::secret::Secret;

/// Where the services are.
const SERVICES: &str = "/api/amybot/services";

/// So many wrong tokens wait for their answer; the rest is refused at once.
const MOST_WAITING: usize = 8;

/// So many questions are answered at a time.
const MOST_AT_ONCE: usize = 8;

/// Nothing is asked in a body; as much of one is passed over.
const MOST_BODY: usize = 16 << 10;

/// How long that may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Whoever can ask the coordinator of amybot's services.
pub trait Services: Send + Sync + 'static {
    /// Asks it.
    fn ask(&self, what: Internal) -> BoxFuture<'static, Result<InternalAnswer, AskError>>;
}

/// See the module.
pub struct Admin {
    /// `None`: nobody is let in.
    passwords: Option<Passwords>,
    services: Arc<dyn Services>,
    waiting: Semaphore,
    asking: Semaphore,
}

/// What is asked for.
enum Asked {
    List,
    Order(Order, ServiceName),
}

impl Admin {
    /// For those who know this token.
    pub fn new(token: Option<Secret>, services: Arc<dyn Services>) -> Self {
        Self {
            passwords: token.map(|token| Passwords::new(Some(token))),
            services,
            waiting: Semaphore::new(MOST_WAITING),
            asking: Semaphore::new(MOST_AT_ONCE),
        }
    }

    /// Answers a request of this address.
    pub async fn respond<B>(&self, request: Request<B>, peer: IpAddr) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let answered = async {
            self.authorised(request.headers(), peer).await?;
            let asked = route(request.method(), request.uri().path())?;
            passed_over(request.into_body()).await?;
            Ok(self.carry_out(asked, peer).await)
        };
        answered.await.unwrap_or_else(|refusal: Box<Answer>| *refusal)
    }

    /// Whoever may not, waits for the answer: tokens are not to be tried out quickly.
    async fn authorised(&self, headers: &HeaderMap, peer: IpAddr) -> Result<(), Box<Answer>> {
        let Some(passwords) = &self.passwords else {
            return Err(error(StatusCode::FORBIDDEN, "there is no admin interface: HTTP_TOKEN is not set").into());
        };
        let too_many = || error(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens: come back later").into();
        match passwords.check(bearer(headers), peer, Instant::now()) {
            Verdict::Right => return Ok(()),
            Verdict::TooMany => return Err(too_many()),
            Verdict::Wrong(Duration::ZERO) => {}
            Verdict::Wrong(wait) => {
                let _waiting = self.waiting.try_acquire().map_err(|_| too_many())?;
                tokio::time::sleep(wait).await;
            }
        }
        let text = "the header \"Authorization: Bearer <HTTP_TOKEN>\" is missing, or the token is wrong";
        let mut refusal = error(StatusCode::UNAUTHORIZED, text);
        refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(refusal.into())
    }

    async fn carry_out(&self, asked: Asked, peer: IpAddr) -> Answer {
        let Ok(_asking) = self.asking.try_acquire() else {
            return error(StatusCode::SERVICE_UNAVAILABLE, &AskError::TooMany.to_string());
        };
        match asked {
            Asked::List => match self.services.ask(Internal::List).await {
                Ok(InternalAnswer::Services(services)) => json(StatusCode::OK, &services),
                other => failed(other),
            },
            Asked::Order(order, name) => match self.services.ask(Internal::Order(order, name.clone())).await {
                Ok(InternalAnswer::Told { instances: 0 }) => {
                    error(StatusCode::NOT_FOUND, &format!("there is no service {:?}", name.as_str()))
                }
                Ok(InternalAnswer::Told { instances }) => {
                    info!(service = %name, ?order, instances, %peer, "services were told by the admin interface");
                    json(StatusCode::OK, &serde_json::json!({ "service": name, "instances": instances }))
                }
                other => failed(other),
            },
        }
    }
}

/// What the scheme `Bearer` carries.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn route(method: &Method, path: &str) -> Result<Asked, Box<Answer>> {
    let not_allowed = |methods| {
        let refusal = error(StatusCode::METHOD_NOT_ALLOWED, &format!("only {methods}"));
        Err(allowing(refusal, methods).into())
    };
    let not_found = || error(StatusCode::NOT_FOUND, &format!("not found: there is {SERVICES}")).into();
    let bare = path.strip_suffix('/').unwrap_or(path);
    if bare == SERVICES {
        return if matches!(*method, Method::GET | Method::HEAD) { Ok(Asked::List) } else { not_allowed("GET, HEAD") };
    }
    let rest = bare.strip_prefix(SERVICES).and_then(|rest| rest.strip_prefix('/')).ok_or_else(not_found)?;
    let (name, order) = rest.split_once('/').ok_or_else(not_found)?;
    let order = match order {
        "shutdown" => Order::Shutdown,
        "reboot" => Order::Reboot,
        _ => return Err(not_found()),
    };
    if *method != Method::POST {
        return not_allowed("POST");
    }
    let name = decoded(name).ok_or_else(|| error(StatusCode::BAD_REQUEST, "the name is not percent-encoded UTF-8"))?;
    let name = ServiceName::new(&name).map_err(|invalid| error(StatusCode::BAD_REQUEST, &invalid.to_string()))?;
    Ok(Asked::Order(order, name))
}

/// A part of a path as text.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

async fn passed_over<B>(body: B) -> Result<(), Box<Answer>>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let (status, text) = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MOST_BODY).collect()).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(failure)) if failure.is::<LengthLimitError>() => {
            (StatusCode::PAYLOAD_TOO_LARGE, "no body is asked for, least of all so large a one")
        }
        Ok(Err(_)) => (StatusCode::BAD_REQUEST, "the body cannot be read"),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    };
    Err(error(status, text).into())
}

fn failed(asked: Result<InternalAnswer, AskError>) -> Answer {
    let failure = match asked {
        Ok(InternalAnswer::Failed { error: text }) => return error(StatusCode::BAD_GATEWAY, &text),
        Ok(_) => AskError::Unreadable("it answers something else".to_owned()),
        Err(failure) => failure,
    };
    let status = match failure {
        AskError::Off => StatusCode::NOT_FOUND,
        AskError::TooMany | AskError::NoBroker(_) => StatusCode::SERVICE_UNAVAILABLE,
        AskError::NoCoordinator => StatusCode::GATEWAY_TIMEOUT,
        AskError::Unreadable(_) => StatusCode::BAD_GATEWAY,
    };
    error(status, &failure.to_string())
}

#[cfg(test)]
mod tests;
