//! The one REST call that Optic makes: `GET /gateway/bot`, which tells the gateway's address, the advised number of shards and
//! how many sessions may be started.
//!
//! Discord's documentation: "Gateway", "Get Gateway Bot".

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST, RETRY_AFTER, USER_AGENT};
use hyper_util::rt::TokioIo;
use url::Url;

use super::connect::{ConnectError, dial};
use super::rest_types::GatewayBot;
use crate::secret::Secret;
use crate::tls;

/// How long the answer may take once the connection is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The answer has some 150 bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Why Discord did not tell.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The token is wrong: asking again is of no use, and 10,000 such answers get the address banned.
    #[error("Discord refused the token (HTTP {status}): check DISCORD_TOKEN, or reset it in the developer portal")]
    Unauthorized {
        /// 401 or 403.
        status: u16,
    },
    /// Asked too often.
    #[error("Discord's rate limit: to be asked again in {} s", .retry_after.as_secs())]
    RateLimited {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Another status than 200.
    #[error("GET {url} was answered with HTTP {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
    },
    /// The connection broke, or what came was no answer.
    #[error("GET {url} failed: {reason}")]
    Failed {
        /// What was asked.
        url: String,
        /// What went wrong.
        reason: String,
    },
}

impl RestError {
    /// Whether asking again may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unauthorized { .. } | Self::Connect(ConnectError::BadUrl { .. } | ConnectError::Tls(_)) => false,
            Self::Connect(_) | Self::RateLimited { .. } | Self::Failed { .. } => true,
            // 4xx other than 429 are our mistake, such as a wrong API version.
            Self::Status { status, .. } => !(400..500).contains(status),
        }
    }

    /// How long to wait before asking again, where the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

/// Asks `GET {base_url}/gateway/bot`; `base_url` is such as `https://discord.com/api/v10`.
///
/// # Errors
/// See [`RestError`].
pub async fn gateway_bot(base_url: &str, token: &Secret, tls: &tls::Lazy) -> Result<GatewayBot, RestError> {
    let url = format!("{base_url}/gateway/bot");
    let bad_url = |reason| ConnectError::BadUrl { url: url.clone(), reason };
    let parsed = Url::parse(&url).map_err(|_| bad_url("it is no URL"))?;
    let failed = |reason: String| RestError::Failed { url: url.clone(), reason };
    let stream = dial(&parsed, tls).await?;
    let ask = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let request = hyper::Request::get(parsed.path())
            .header(HOST, &parsed[url::Position::BeforeHost..url::Position::AfterPort])
            .header(USER_AGENT, crate::USER_AGENT)
            .header(AUTHORIZATION, format!("Bot {}", token.expose()))
            .body(Empty::<Bytes>::new())
            // The text of this error names the header and not its value.
            .map_err(|_| failed("the token holds characters that no HTTP header can carry".to_owned()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| failed(error.to_string()))?;
            Ok::<_, RestError>((head, body.to_bytes()))
        };
        tokio::pin!(answer, connection);
        // The connection is driven here, and dropped with the answer: one request, no task.
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(failed(error.to_string())),
            },
        }
    };
    let (head, body) =
        tokio::time::timeout(ANSWER_TIMEOUT, ask).await.map_err(|_| failed("no answer in time".to_owned()))??;
    match head.status.as_u16() {
        200 => serde_json::from_slice(&body).map_err(|error| failed(format!("the answer is not as expected: {error}"))),
        status @ (401 | 403) => Err(RestError::Unauthorized { status }),
        429 => {
            let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Err(RestError::RateLimited { retry_after: Duration::from_secs(seconds.unwrap_or(5).clamp(1, 3600)) })
        }
        status => Err(RestError::Status { url: url.clone(), status }),
    }
}
