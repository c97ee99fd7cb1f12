//! What a worker meets where Discord's REST is: takes answers to interactions, and counts them by the interaction's token.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Stopped when dropped.
pub struct RestStub {
    address: SocketAddr,
    calls: Arc<Mutex<BTreeMap<String, u32>>>,
    released: watch::Sender<bool>,
    task: AbortHandle,
}

impl RestStub {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let calls = Arc::<Mutex<BTreeMap<String, u32>>>::default();
        let (released, is_released) = watch::channel(false);
        let into = calls.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("it listens");
                let (into, is_released) = (into.clone(), is_released.clone());
                let answer = service_fn(move |request| answer(request, into.clone(), is_released.clone()));
                // A worker that was killed is gone in the midst of it.
                connections.spawn(async move {
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self { address, calls, released, task: task.abort_handle() }
    }

    /// In the place of `https://discord.com/api/v10`.
    pub fn url(&self) -> String {
        format!("http://{}/api/v10", self.address)
    }

    /// How often each interaction was answered.
    pub fn calls(&self) -> BTreeMap<String, u32> {
        self.calls.lock().expect("nobody panicked").clone()
    }

    /// Lets those through whose token begins with `hold`; until then they wait.
    pub fn release(&self) {
        self.released.send_replace(true);
    }
}

impl Drop for RestStub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// 204 to an answer; 500 where the token begins with `fail`, 400 to anything else.
async fn answer(
    request: Request<Incoming>,
    calls: Arc<Mutex<BTreeMap<String, u32>>>,
    mut is_released: watch::Receiver<bool>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let with = |status: u16| Ok(Response::builder().status(status).body(Empty::new()).expect("a status"));
    let path = request.uri().path().to_owned();
    let token = path.strip_prefix("/api/v10/interactions/").and_then(|rest| rest.strip_suffix("/callback"));
    let Some((_, token)) = token.and_then(|ids| ids.split_once('/')) else {
        return with(400);
    };
    let Ok(body) = request.into_body().collect().await else {
        return with(400);
    };
    let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    if body["type"] != 4 || body["data"]["content"] != "pong" {
        return with(400);
    }
    *calls.lock().expect("nobody panicked").entry(token.to_owned()).or_default() += 1;
    if token.starts_with("hold") {
        is_released.wait_for(|released| *released).await.expect("the stub is there");
    }
    with(if token.starts_with("fail") { 500 } else { 204 })
}
