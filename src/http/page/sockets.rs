//! Viewers over real sockets: those who leave, read slowly or are too many, and the end of the server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::live::MOST_VIEWERS;
use super::tests::{Said, page};
use crate::broker::BrokerState;
use crate::http::lookout::ClientsError;
use crate::http::{Health, Server, Site, Snapshot};
use crate::seen::simulated;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Well;

impl Health for Well {
    fn snapshot(&self) -> Snapshot {
        Snapshot { shards: Vec::new(), broker: BrokerState::Connected, also_missing: Vec::new() }
    }
}

struct Running {
    address: SocketAddr,
    said: Arc<Said>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let said = Said::new(Err(ClientsError::Off));
        let server = Server::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
        let (address, stop) = (server.address(), CancellationToken::new());
        let site = Site::new(Arc::new(Well)).with_page(page(&said));
        let task = tokio::spawn(server.run(site, stop.clone()));
        Self { address, said, stop, task }
    }

    async fn get(&self, path: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.expect("is sent");
        BufReader::new(stream)
    }

    /// A viewer that was told its first state.
    async fn viewer(&self) -> BufReader<TcpStream> {
        let mut stream = self.get("/api/live").await;
        assert_eq!(line(&mut stream, |_| true).await.expect("an answer"), "HTTP/1.1 200 OK");
        line(&mut stream, |line| line.starts_with("data: ")).await.expect("a state");
        stream
    }

    /// Not for ever: the end of a test that hangs says nothing.
    async fn nobody_looks(&self) {
        tokio::time::timeout(PATIENCE, self.said.whole.closed()).await.expect("whoever has left is seen to have");
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("ends in order");
    }
}

/// The next line that is wanted.
async fn line(stream: &mut BufReader<TcpStream>, wanted: impl Fn(&str) -> bool) -> io::Result<String> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if wanted(line.trim_end()) {
            return Ok(line.trim_end().to_owned());
        }
    }
}

#[tokio::test]
async fn more_viewers_than_there_are_places_are_told_so_and_health_is_answered_all_the_same() {
    let server = Running::start().await;
    let mut viewers = Vec::new();
    for _ in 0..MOST_VIEWERS {
        viewers.push(server.viewer().await);
    }
    for (path, status) in [("/api/live", "503 Service Unavailable"), ("/health/ready", "200 OK"), ("/", "200 OK")] {
        let mut answer = String::new();
        server.get(path).await.read_to_string(&mut answer).await.expect("it ends");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{answer}");
        assert!(answer.contains("x-content-type-options: nosniff") && answer.contains("no-referrer"), "{answer}");
    }
    drop(viewers);
    // Everybody has left, and is seen to have.
    server.nobody_looks().await;
    server.viewer().await;
    server.stop().await;
}

#[tokio::test]
async fn who_reads_nothing_is_let_go() {
    let server = Running::start().await;
    let viewer = server.viewer().await;
    // More than systems keep for one who does not read.
    server.said.says(|whole| *whole = simulated::whole(16, 1024));
    let mut moment = 0;
    let lively = async {
        loop {
            moment += 1;
            server.said.says(|whole| *whole = simulated::whole_at(16, 1024, moment * 3));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = server.nobody_looks() => {}
        () = lively => {}
    }
    drop(viewer);
    server.stop().await;
}

/// Time flies where nothing is to be done: the server's patience with other answers is over many times.
#[tokio::test(start_paused = true)]
async fn a_viewer_may_look_for_long_and_hears_that_it_is_still_connected() {
    let server = Running::start().await;
    let mut viewer = server.viewer().await;
    for _ in 0..20 {
        line(&mut viewer, |line| line == ":").await.expect("it goes on");
    }
    server.said.says(|_| {});
    line(&mut viewer, |line| line.starts_with("data: ")).await.expect("it goes on");
    server.stop().await;
}

#[tokio::test]
async fn the_end_of_the_server_ends_what_is_looked_at() {
    let server = Running::start().await;
    let mut viewer = server.viewer().await;
    server.stop().await;
    line(&mut viewer, |line| line.starts_with("data: ")).await.expect_err("it is over");
}
