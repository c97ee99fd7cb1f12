//! `/api/singyeong/clients`: who of 신경's clients a target means, and why the others are not meant.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::{Body, Bytes};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::http::answer::{Answer, error, json};
use crate::http::lookout::{ClientsError, Lookout};
use crate::seen::clients::ClientsQuestion;

/// Bytes of a question.
pub(super) const MOST_BODY: usize = 64 << 10;

/// How long it may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// So many clients are told of, whatever is asked for.
pub(super) const MOST_CLIENTS: u32 = 1000;

/// So many questions are answered at a time: each is asked of all clients.
const MOST_AT_ONCE: usize = 4;

/// See the module.
pub struct Clients {
    lookout: Arc<dyn Lookout>,
    asking: Semaphore,
}

impl Clients {
    /// By way of this one.
    pub fn new(lookout: Arc<dyn Lookout>) -> Self {
        Self { lookout, asking: Semaphore::new(MOST_AT_ONCE) }
    }

    /// Answers a question.
    pub async fn answer<B>(&self, body: B) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let Ok(_asking) = self.asking.try_acquire() else {
            return error(StatusCode::SERVICE_UNAVAILABLE, "too many ask at once: come back later");
        };
        let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MOST_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(failure)) if failure.is::<LengthLimitError>() => {
                let text = format!("the question has more than {MOST_BODY} bytes");
                return error(StatusCode::PAYLOAD_TOO_LARGE, &text);
            }
            Ok(Err(_)) => return error(StatusCode::BAD_REQUEST, "the body cannot be read"),
            Err(_) => return error(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
        };
        let mut question: ClientsQuestion = match serde_json::from_slice(&body) {
            Ok(question) => question,
            Err(why) => {
                let text = format!("the question is no {{\"target\":…,\"limit\":200}}: {why}");
                return error(StatusCode::BAD_REQUEST, &text);
            }
        };
        if question.target.as_ref().is_some_and(has_rounded) {
            return error(StatusCode::BAD_REQUEST, "the target has a number beyond 64 bits, and it would be rounded");
        }
        question.limit = question.limit.min(MOST_CLIENTS);
        match self.lookout.clients(question).await {
            Ok(answer) => json(StatusCode::OK, &answer),
            Err(why @ ClientsError::Off) => error(StatusCode::NOT_FOUND, &why.to_string()),
            Err(why @ ClientsError::NoAnswer) => error(StatusCode::SERVICE_UNAVAILABLE, &why.to_string()),
        }
    }
}

/// Whether it has a whole number that is none any more: as it was read, all that is beyond 64 bits is about right at most.
fn has_rounded(value: &Value) -> bool {
    /// 2^63, from where on all are whole.
    const LARGE: f64 = 9_223_372_036_854_775_808.0;
    match value {
        Value::Number(number) => number.is_f64() && number.as_f64().is_some_and(|number| number.abs() >= LARGE),
        Value::Array(values) => values.iter().any(has_rounded),
        Value::Object(members) => members.values().any(has_rounded),
        _ => false,
    }
}
