//! A TCP link between two parties that fails as real ones do: cut, refusing, or silent with both ends still open.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards what comes to [`address`](Self::address) until told otherwise.
#[derive(Debug)]
pub struct FaultyLink {
    address: SocketAddr,
    state: watch::Sender<State>,
    connections: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    mode: Mode,
    /// Counts the cuts: a connection lives as long as the count it began with.
    cuts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Forwarding,
    Frozen,
    Refusing,
}

impl FaultyLink {
    /// A link to the broker that all tests share.
    pub async fn to_the_broker() -> Self {
        let url = super::broker();
        let (_, rest) = url.split_once('@').expect("user and password");
        Self::to(rest.split('/').next().expect("host and port")).await
    }

    /// A link to `target` (`host:port`).
    pub async fn to(target: &str) -> Self {
        let target = target.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, watched) = watch::channel(State { mode: Mode::Forwarding, cuts: 0 });
        let (count, connections) = watch::channel(0);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if watched.borrow().mode == Mode::Refusing {
                    reset(&client);
                    continue;
                }
                count.send_modify(|count| *count += 1);
                tokio::spawn(carry(client, target.clone(), watched.clone()));
            }
        });
        Self { address, state, connections, task }
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An AMQP URL with the link in the place of its host and port.
    pub fn through(&self, url: &str) -> String {
        let (login, rest) = url.split_once('@').expect("a URL with user and password");
        let (_, path) = rest.split_once('/').expect("a URL with a virtual host");
        format!("{login}@{}/{path}", self.address)
    }

    /// Resets all connections; new ones are forwarded.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Silence with both ends open: what is sent stays unheard, also on new connections.
    pub fn freeze(&self) {
        self.state.send_modify(|state| state.mode = Mode::Frozen);
    }

    /// Resets all connections, and each new one at once.
    pub fn refuse(&self) {
        self.state.send_modify(|state| *state = State { mode: Mode::Refusing, cuts: state.cuts + 1 });
    }

    /// Forwards again, what was held back first.
    pub fn resume(&self) {
        self.state.send_modify(|state| state.mode = Mode::Forwarding);
    }

    /// Waits until this many connections have come in all.
    pub async fn connections(&self, count: usize) {
        let mut connections = self.connections.clone();
        super::must("connections over the link", connections.wait_for(|so_far| *so_far >= count))
            .await
            .expect("the listener lives");
    }
}

impl Drop for FaultyLink {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn carry(client: TcpStream, target: String, mut state: watch::Receiver<State>) {
    let began_with = state.borrow().cuts;
    let Ok(server) = TcpStream::connect(&target).await else { return reset(&client) };
    for side in [&client, &server] {
        side.set_nodelay(true).expect("a TCP socket");
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let cut = {
        let (up, down) = (state.clone(), state.clone());
        tokio::select! {
            _ = state.wait_for(|state| state.cuts != began_with) => true,
            _ = async { tokio::join!(one_way(&from_client, &to_server, up), one_way(&from_server, &to_client, down)) } => false,
        }
    };
    if cut {
        reset(from_client.as_ref());
        reset(from_server.as_ref());
    }
}

async fn one_way(from: &OwnedReadHalf, to: &OwnedWriteHalf, mut state: watch::Receiver<State>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        from.readable().await?;
        if state.wait_for(|state| state.mode != Mode::Frozen).await.is_err() {
            return Ok(());
        }
        let count = match from.try_read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if count == 0 {
            return SockRef::from(to.as_ref()).shutdown(std::net::Shutdown::Write);
        }
        let mut left = &buffer[..count];
        while !left.is_empty() {
            to.writable().await?;
            match to.try_write(left) {
                Ok(count) => left = &left[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Its close then sends RST and no FIN.
fn reset(stream: &TcpStream) {
    // Where the peer was faster there is nothing left to reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
