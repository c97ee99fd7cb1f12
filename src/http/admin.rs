//! The admin interface: who may read sees amybot's services, and who knows `HTTP_TOKEN` has them stop or start anew
//! (spec/amybot.md, "Admin interface").

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::{Method, Request, StatusCode};
use tokio::sync::Semaphore;
use tracing::info;

use super::answer::{Answer, allowing, error, json};
use super::readers::Readers;
use crate::amybot::bridge::AskError;
use crate::amybot::internal::{Internal, InternalAnswer, Order};
use crate::amybot::message::ServiceName;

/// Where the services are.
const SERVICES: &str = "/api/amybot/services";

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
    readers: Arc<Readers>,
    services: Arc<dyn Services>,
    asking: Semaphore,
}

/// What is asked for.
enum Asked {
    List,
    Order(Order, ServiceName),
}

impl Admin {
    /// For these.
    pub fn new(readers: Arc<Readers>, services: Arc<dyn Services>) -> Self {
        Self { readers, services, asking: Semaphore::new(MOST_AT_ONCE) }
    }

    /// Answers a request of this address.
    pub async fn respond<B>(&self, request: Request<B>, peer: IpAddr) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let answered = async {
            // What there is, is no secret; whether somebody may have it done is asked before anything is read.
            if matches!(*request.method(), Method::GET | Method::HEAD) {
                self.readers.may_read(&request, peer).await?;
            } else {
                self.readers.may_act(&request, peer).await?;
            }
            let asked = route(request.method(), request.uri().path())?;
            passed_over(request.into_body()).await?;
            Ok(self.carry_out(asked, peer).await)
        };
        answered.await.unwrap_or_else(|refusal: Box<Answer>| *refusal)
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
