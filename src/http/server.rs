//! The server: one request a connection, few connections, none for long but those that an answer without an end is read by.
//!
//! Such an answer gives its connection's place to the next: it is the page's to say how many of them there are, and orchestrators
//! that ask for health never wait for them. Nothing is kept for who does not read: an answer's next part is made when there is room
//! for it, and who takes nothing for a while is let go.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::patient::Patient;
use super::site::Site;

/// Probes are few; more than these wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 64;

/// Who has not sent the head of a request by then is let go.
const HEADER_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 5 });

/// Who has not read the answer by then, too, if it has an end. A wrong token's answer alone may take twenty seconds.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(40);

/// Who has taken nothing for so long is gone, or looks elsewhere.
const READ_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });

/// Bytes that the system keeps for one who does not read: more would only be old news, and later told from a reader.
const SEND_BUFFER: usize = 64 << 10;

/// The pause after a failed accept: what makes it fail, such as too many open files, goes on for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why a server cannot be where its variable says.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else is there.
    #[error("{variable}={address}: another program has this port; set another one, or {variable}=off")]
    Taken {
        /// The variable that has the address.
        variable: &'static str,
        /// Where.
        address: SocketAddr,
    },
    /// The address is not this machine's, the port is a privileged one, or the like.
    #[error("{variable}={address}: cannot listen there: {source}; set another one, or {variable}=off")]
    Refused {
        /// The variable that has the address.
        variable: &'static str,
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

/// A server that listens already and answers once it is run.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens where `HTTP_ADDRESS` says. Port 0 takes any that is free.
    ///
    /// # Errors
    ///
    /// The address is taken, or cannot be listened on.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        Self::bind_for("HTTP_ADDRESS", address).await
    }

    /// Listens where this variable says.
    ///
    /// # Errors
    ///
    /// The address is taken, or cannot be listened on.
    pub async fn bind_for(variable: &'static str, address: SocketAddr) -> Result<Self, BindError> {
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken { variable, address },
            _ => BindError::Refused { variable, address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`. Requests under way then are dropped: whoever asks a probe asks again.
    pub async fn run(self, site: Site, stop: CancellationToken) {
        let site = Arc::new(site);
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = async {
                let place = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
                (place, self.listener.accept().await)
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => {
                    if let Err(failure) = ended {
                        error!(%failure, "answering a request failed");
                    }
                }
                // Dropped, it has accepted nothing yet.
                (place, stream) = accepted => match stream {
                    Ok((stream, peer)) => {
                        let site = Arc::clone(&site);
                        connections.spawn(async move {
                            answer_one(stream, peer.ip(), site, place).await;
                        });
                    }
                    Err(failure) => {
                        warn!(%failure, "cannot accept a request");
                        tokio::select! {
                            () = stop.cancelled() => break,
                            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                        }
                    }
                }
            }
        }
        connections.shutdown().await;
    }
}

async fn answer_one(stream: TcpStream, peer: IpAddr, site: Arc<Site>, place: OwnedSemaphorePermit) {
    // As large as it is without.
    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
    // None from then on when the answer has no end.
    let place = Arc::new(Mutex::new(Some(place)));
    let held = || place.lock().unwrap_or_else(PoisonError::into_inner);
    let service = {
        let place = Arc::clone(&place);
        service_fn(move |request| {
            let (site, place) = (Arc::clone(&site), Arc::clone(&place));
            async move {
                let answer = site.respond(request, peer).await;
                if answer.body().is_stream() {
                    drop(place.lock().unwrap_or_else(PoisonError::into_inner).take());
                }
                Ok::<_, Infallible>(answer)
            }
        })
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(Patient::new(stream, READ_TIMEOUT)), service);
    tokio::pin!(connection);
    let ended = match tokio::time::timeout(CONNECTION_TIMEOUT, &mut connection).await {
        Err(_) if held().is_none() => connection.await,
        Err(_) => return debug!("an answer was not read in time"),
        Ok(ended) => ended,
    };
    if let Err(failure) = ended {
        debug!(%failure, "a request was not to be read, or its answer was not");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::broker::BrokerState;
    use crate::discord::ids::ShardId;
    use crate::http::{Health, ShardHealth, Snapshot};

    struct Told(Mutex<BrokerState>);

    impl Health for Told {
        fn snapshot(&self) -> Snapshot {
            let shard = ShardHealth { id: ShardId::new(0), state: "connected", connected: true };
            Snapshot { shards: vec![shard], broker: *self.0.lock().expect("not poisoned"), also_missing: Vec::new() }
        }
    }

    struct Running {
        address: SocketAddr,
        told: Arc<Told>,
        stop: CancellationToken,
        task: JoinHandle<()>,
    }

    impl Running {
        async fn start() -> Self {
            let server = Server::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
            let (address, stop) = (server.address(), CancellationToken::new());
            let told = Arc::new(Told(Mutex::new(BrokerState::Connected)));
            let task = tokio::spawn(server.run(Site::new(told.clone()), stop.clone()));
            Self { address, told, stop, task }
        }

        /// Status line and body of the answer to a raw request.
        async fn ask(&self, request: &str) -> (String, String) {
            let mut stream = TcpStream::connect(self.address).await.expect("connects");
            stream.write_all(request.as_bytes()).await.expect("is sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("is answered");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
        }

        async fn get(&self, path: &str) -> (String, String) {
            self.ask(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
        }

        async fn stop(self) {
            self.stop.cancel();
            self.task.await.expect("ends in order");
        }
    }

    #[tokio::test]
    async fn it_is_alive_while_it_runs_and_ready_while_nothing_is_missing() {
        let server = Running::start().await;
        assert_eq!(server.get("/health/live").await, ("HTTP/1.1 200 OK".to_owned(), "alive\n".to_owned()));
        assert_eq!(server.get("/health/ready?verbose=1").await.0, "HTTP/1.1 200 OK");
        *server.told.0.lock().expect("not poisoned") = BrokerState::Disconnected;
        let (status, body) = server.get("/health/ready").await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["missing"], serde_json::json!(["the broker is not connected"]));
        assert_eq!(server.get("/health/live").await.0, "HTTP/1.1 200 OK");
        server.stop().await;
    }

    #[tokio::test]
    async fn other_paths_methods_and_garbage_are_refused() {
        let server = Running::start().await;
        assert_eq!(server.get("/").await.0, "HTTP/1.1 404 Not Found");
        let post = "POST /health/live HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(server.ask(post).await.0, "HTTP/1.1 405 Method Not Allowed");
        let head = "HEAD /health/ready HTTP/1.1\r\nhost: x\r\n\r\n";
        assert_eq!(server.ask(head).await, ("HTTP/1.1 200 OK".to_owned(), String::new()));
        assert_eq!(server.ask("nonsense\r\n\r\n").await.0, "HTTP/1.1 400 Bad Request");
        server.stop().await;
    }

    #[tokio::test]
    async fn a_taken_port_is_told_by_its_variable() {
        let server = Running::start().await;
        let error = Server::bind(server.address).await.expect_err("the port is taken");
        let expected = format!(
            "HTTP_ADDRESS={}: another program has this port; set another one, or HTTP_ADDRESS=off",
            server.address
        );
        assert_eq!(error.to_string(), expected);
        let error = Server::bind_for("PROMETHEUS_ADDRESS", server.address).await.expect_err("the port is taken");
        assert!(
            error.to_string().starts_with("PROMETHEUS_ADDRESS=")
                && error.to_string().ends_with("PROMETHEUS_ADDRESS=off")
        );
        server.stop().await;
    }

    #[tokio::test]
    async fn those_who_say_nothing_keep_others_out_only_for_a_while() {
        let server = Running::start().await;
        let mut silent = Vec::new();
        for _ in 0..MOST_CONNECTIONS {
            silent.push(TcpStream::connect(server.address).await.expect("connects"));
        }
        // Answered once the silent ones are let go.
        assert_eq!(server.get("/health/live").await.0, "HTTP/1.1 200 OK");
        let mut rest = Vec::new();
        silent[0].read_to_end(&mut rest).await.expect("is closed");
        server.stop().await;
    }
}
