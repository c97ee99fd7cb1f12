//! 신경's front: who connects to `SINGYEONG_ADDRESS`, by websocket or for REST.
//!
//! ```text
//! SingyeongServer::run
//! └─ connection × n     http, until it is a websocket: then connection, with its session, wire and registration
//! ```
//!
//! Each connection is one task of the server, which waits for all of them. One that panics is told in the log, its client is gone
//! from the hub, and the others go on.

mod answers;
mod connection;
mod doors;
pub mod frames;
pub mod http;
pub mod listing;
mod registration;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use self::connection::Connection;
use self::doors::{Doors, Visitor};
use self::http::Front;
pub use self::http::{NoRest, Rest};
use super::exchange::Exchange;
use super::hub::Hub;
use super::ids::ConnectionId;
use super::session::Rules;

/// REST requests at a time; to more of them is said that it is too much.
const MOST_REQUESTS: usize = 256;

/// A connection whose turn to be read has not come by then is closed.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// Ten thousand clients may come back at the same moment.
const BACKLOG: u32 = 4096;

/// The pause after a failed accept: what makes it fail, such as too many open files, goes on for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What connections share.
pub struct Services {
    /// Who is connected.
    pub hub: Arc<Hub>,
    /// What carries dispatches.
    pub exchange: Arc<dyn Exchange>,
    /// What answers REST requests.
    pub rest: Arc<dyn Rest>,
    /// What clients may do.
    pub rules: Arc<Rules>,
}

/// Why the server cannot be where `SINGYEONG_ADDRESS` says.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else is there.
    #[error("SINGYEONG_ADDRESS={0}: another program has this port; set another one")]
    Taken(SocketAddr),
    /// The address is not this machine's, the port is a privileged one, or the like.
    #[error("SINGYEONG_ADDRESS={address}: cannot listen there: {source}; set another one")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

/// A server that listens already and serves once it is run.
#[derive(Debug)]
pub struct SingyeongServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl SingyeongServer {
    /// Listens. Port 0 takes any that is free.
    ///
    /// # Errors
    /// The address is taken, or cannot be listened on.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken(address),
            _ => BindError::Refused { address, source },
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
    pub async fn run(self, services: Services, stop: CancellationToken) {
        let services = Arc::new(services);
        let requests = Arc::new(Semaphore::new(MOST_REQUESTS));
        let places = Arc::new(Semaphore::new(services.rules.limits.connections));
        let doors = Doors::new();
        let mut connections = JoinSet::new();
        let mut count = 0;
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
                        count += 1;
                        let (id, services) = (ConnectionId::new(count), Arc::clone(&services));
                        let (rest, requests) = (Arc::clone(&services.rest), Arc::clone(&requests));
                        let front = Front { rest, requests, places: Arc::clone(&places) };
                        connections.spawn(serve(stream, peer, id, services, front, visitor, stop.clone()));
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

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    id: ConnectionId,
    services: Arc<Services>,
    front: Front,
    visitor: Visitor,
    stop: CancellationToken,
) {
    if let Err(failure) = stream.set_nodelay(true) {
        debug!(%failure, "a client went at once");
        return;
    }
    let turn = tokio::select! {
        () = stop.cancelled() => return,
        turn = tokio::time::timeout(TURN_TIMEOUT, visitor.turn()) => turn,
    };
    let Ok(turn) = turn else {
        debug!(%peer, "too many connections of this address wait");
        return;
    };
    // In a box of its own, which is gone once this is a websocket: that is to be small.
    let opened = Box::pin(http::serve(stream, peer.ip(), front, turn, &stop)).await;
    drop(visitor);
    if let Some(opened) = opened {
        Connection::new(services, id, peer.ip(), opened).run(stop).await;
    }
}
