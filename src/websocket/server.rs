//! Listening, and who comes in.
//!
//! ```text
//! Listener::run
//! └─ connection × n     http, until it is a websocket: then what its endpoint makes of it
//! ```
//!
//! Each connection is one task of the listener, which waits for all of them. One that panics is told in the log, and the others go
//! on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::doors::{Doors, Visitor};
use super::http::{self, Front};

/// A connection whose turn to be read has not come by then is closed.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// Ten thousand clients may come back at the same moment.
const BACKLOG: u32 = 4096;

/// The pause after a failed accept: what makes it fail, such as too many open files, goes on for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why nobody can listen where a variable says.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else is there.
    #[error("{variable}={address}: another program has this port; set another one")]
    Taken {
        /// Which variable.
        variable: &'static str,
        /// Where.
        address: SocketAddr,
    },
    /// The address is not this machine's, the port is a privileged one, or the like.
    #[error("{variable}={address}: cannot listen there: {source}; set another one")]
    Refused {
        /// Which variable.
        variable: &'static str,
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

/// Listens already, and serves once it is run.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens where this variable says. Port 0 takes any that is free.
    ///
    /// # Errors
    /// The address is taken, or cannot be listened on.
    pub fn bind(variable: &'static str, address: SocketAddr) -> Result<Self, BindError> {
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken { variable, address },
            _ => BindError::Refused { variable, address, source },
        };
        let listener = listen(address).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; then no new ones are let in, and those who are connected are told goodbye.
    pub async fn run(self, front: Front, stop: CancellationToken) {
        let front = Arc::new(front);
        let doors = Doors::new();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => told(ended),
                // Dropped, it has accepted nothing yet.
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let Some(visitor) = doors.arrive(peer.ip()) else {
                            debug!(%peer, "too many connections of this address");
                            continue;
                        };
                        connections.spawn(serve(stream, peer, Arc::clone(&front), visitor, stop.clone()));
                    }
                    Err(failure) => {
                        warn!(%failure, "cannot accept a client");
                        tokio::select! {
                            () = stop.cancelled() => break,
                            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                        }
                    }
                }
            }
        }
        drop(self.listener);
        while let Some(ended) = connections.join_next().await {
            told(ended);
        }
    }
}

fn told(ended: Result<(), tokio::task::JoinError>) {
    if let Err(failure) = ended {
        error!(%failure, "a client's connection failed");
    }
}

/// As [`TcpListener::bind`], with room for more that wait.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    // A restart finds connections of the run before it that are not quite gone.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// In boxes of their own: while a connection is a websocket, nothing of its beginning is kept.
fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    front: Arc<Front>,
    visitor: Visitor,
    stop: CancellationToken,
) -> impl Future<Output = ()> {
    let opening = Box::pin(open(stream, peer, front, visitor, stop));
    async move {
        let websocket = opening.await;
        if let Some(websocket) = websocket {
            websocket.await;
        }
    }
}

/// What becomes of a connection: a websocket, or nothing more.
async fn open(
    stream: TcpStream,
    peer: SocketAddr,
    front: Arc<Front>,
    visitor: Visitor,
    stop: CancellationToken,
) -> Option<BoxFuture<'static, ()>> {
    if let Err(failure) = stream.set_nodelay(true) {
        debug!(%failure, "a client went at once");
        return None;
    }
    let turn = tokio::select! {
        () = stop.cancelled() => return None,
        turn = tokio::time::timeout(TURN_TIMEOUT, visitor.turn()) => turn,
    };
    let Ok(turn) = turn else {
        debug!(%peer, "too many connections of this address wait");
        return None;
    };
    let (welcome, opened) = http::serve(stream, peer.ip(), front, turn, &stop).await?;
    Some(welcome(opened, stop))
}
