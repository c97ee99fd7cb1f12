//! What Discord tells of its gateway, kept fresh: the ordinary address, and how many sessions may be started.
//!
//! Discord's documentation: "Gateway", "Connecting to the Gateway": the address may be cached until it fails.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::gateway_url::GatewayUrl;
use super::identify_gate::IdentifyGate;
use super::rest::RestError;
use super::rest_types::GatewayBot;

/// How often Discord is asked without a reason: other processes of the bot start sessions, too.
const REFRESH: Duration = Duration::from_secs(60 * 60);

/// How often Discord is asked at most, whatever fails.
const PAUSE: Duration = Duration::from_secs(60);

/// The gateway's ordinary address, shared by all shards.
#[derive(Debug)]
pub struct Gateway {
    url: Mutex<GatewayUrl>,
    doubted: Notify,
}

impl Gateway {
    /// The address as Discord told it first.
    pub fn new(url: GatewayUrl) -> Self {
        Self { url: Mutex::new(url), doubted: Notify::new() }
    }

    /// The address.
    pub fn url(&self) -> GatewayUrl {
        self.url.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An attempt to connect failed: perhaps the address is another now.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Asks again when there is a reason to, and tells the gate how many sessions may be started, until `stop`.
    pub async fn keep_fresh<F>(&self, ask: impl Fn() -> F, gate: &IdentifyGate, stop: CancellationToken)
    where
        F: Future<Output = Result<GatewayBot, RestError>>,
    {
        // Who doubts says so once, and shards may wait for the answer: a question that failed stays asked.
        let (mut pause, mut unanswered) = (PAUSE, false);
        loop {
            let reason = async {
                tokio::time::sleep(pause).await;
                if !unanswered {
                    self.in_doubt(gate).await;
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = reason => {}
                () = tokio::time::sleep(REFRESH.max(pause)) => {}
            }
            let asked = Instant::now();
            let answer = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                answer = ask() => answer,
            };
            unanswered = answer.is_err();
            pause = PAUSE;
            match answer {
                Ok(answer) => self.told(&answer, asked, gate),
                // The shards go on with what they have.
                Err(error) => {
                    pause = pause.max(error.retry_after().unwrap_or_default());
                    warn!(
                        %error,
                        again_in_s = pause.as_secs(),
                        "Discord does not tell where its gateway is; what it told before is kept"
                    );
                }
            }
        }
    }

    /// Waits until there is a reason to ask.
    async fn in_doubt(&self, gate: &IdentifyGate) {
        tokio::select! {
            () = self.doubted.notified() => {}
            () = gate.limit_doubted() => {}
        }
    }

    fn told(&self, answer: &GatewayBot, asked: Instant, gate: &IdentifyGate) {
        gate.refresh(answer.session_start_limit, asked);
        match GatewayUrl::parse(&answer.url) {
            Ok(url) => {
                let mut known = self.url.lock().unwrap_or_else(PoisonError::into_inner);
                if *known != url {
                    info!(%url, "the gateway has another address");
                    *known = url;
                }
            }
            Err(error) => warn!(%error, "Discord's answer names no usable address; the one told before is kept"),
        }
        debug!(starts_left = gate.remaining(), "asked Discord for its gateway");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::identify_queue::{IdentifyQueue, PACE};
    use super::super::rest_types::SessionStartLimit;
    use super::*;

    fn answer(url: &str, remaining: u32) -> GatewayBot {
        let session_start_limit = SessionStartLimit { total: 1000, remaining, reset_after: 1000, max_concurrency: 1 };
        GatewayBot { url: url.to_owned(), shards: 1, session_start_limit }
    }

    fn url(text: &str) -> GatewayUrl {
        GatewayUrl::parse(text).expect("an address")
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubted_address_is_asked_for_again_and_not_more_often_than_once_a_minute() {
        let first = answer("wss://a.example", 10);
        let gate = IdentifyGate::new(IdentifyQueue::new(first.session_start_limit, PACE, Instant::now()));
        let gateway = Gateway::new(url(&first.url));
        let asked = Cell::new(0);
        let ask = || {
            asked.set(asked.get() + 1);
            let n = asked.get();
            async move { Ok(answer(&format!("wss://b{n}.example"), 7)) }
        };
        let stop = CancellationToken::new();
        let watching = gateway.keep_fresh(ask, &gate, stop.clone());
        let story = async {
            gateway.doubt();
            gateway.doubt();
            tokio::time::sleep(PAUSE + Duration::from_secs(1)).await;
            assert_eq!((gateway.url(), gate.remaining()), (url("wss://b1.example"), 7));
            gateway.doubt();
            tokio::time::sleep(PAUSE / 2).await;
            assert_eq!(gateway.url(), url("wss://b1.example"));
            tokio::time::sleep(PAUSE / 2).await;
            assert_eq!(gateway.url(), url("wss://b2.example"));
            stop.cancel();
        };
        tokio::join!(watching, story);
        assert_eq!(asked.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_failed_is_asked_again_until_it_is_answered() {
        let first = answer("wss://a.example", 10);
        let gate = IdentifyGate::new(IdentifyQueue::new(first.session_start_limit, PACE, Instant::now()));
        let gateway = Gateway::new(url(&first.url));
        let start = tokio::time::Instant::now();
        let asked = std::cell::RefCell::new(Vec::new());
        let limited = 3 * PAUSE;
        let ask = || {
            asked.borrow_mut().push(start.elapsed().as_secs());
            let n = asked.borrow().len();
            async move {
                match n {
                    1 => Err(RestError::Failed { url: String::new(), reason: "a test".to_owned() }),
                    2 => Err(RestError::RateLimited { retry_after: limited }),
                    _ => Ok(answer("wss://b.example", 7)),
                }
            }
        };
        let stop = CancellationToken::new();
        let watching = gateway.keep_fresh(ask, &gate, stop.clone());
        let story = async {
            // Once, as the gate does it before it waits for the reset.
            gateway.doubt();
            tokio::time::sleep(PAUSE * 20).await;
            stop.cancel();
        };
        tokio::join!(watching, story);
        assert_eq!(gate.remaining(), 7);
        let minute = PAUSE.as_secs();
        assert_eq!(*asked.borrow(), [minute, 2 * minute, 5 * minute], "and answered, not again without a reason");
    }
}
