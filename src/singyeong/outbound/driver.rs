//! The driver: connects to the other server, and again when the connection is lost, for as long as it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::aside::{Aside, Told};
use super::commands::{Answer, Commands};
use super::dsn::Dsn;
use super::link;
use super::packet::{Identity, Message};
use super::session::{End, Session};
use super::suspicion::Suspicion;
use crate::amqp::admin::Admin;
use crate::amqp::messenger::Messenger;
use crate::amqp::replies::{Replies, RepliesDriver, ReplyEvent};
use crate::amqp::topology::{self, Queue};
use crate::discord::backoff::Backoff;
use crate::discord::connect::{self, ConnectError, Stream};
use crate::encoding::{Encoding, Value};
use crate::singyeong::hub::Gateway;
use crate::tls;

/// Waits between tries to connect.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A connection that lasted this long makes the next wait a first one again.
const LASTING: Duration = Duration::from_secs(10);
/// How long the websocket's handshake may take, once there is a connection.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// The same failure is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// How long RabbitMQ has to say how many events wait, for the log.
const ASKED: Duration = Duration::from_secs(2);
/// The largest message that is read. Commands to us are small; but a larger one, which any client there may send, ends the
/// connection.
const LARGEST: usize = 64 << 20;
/// So many commands wait for RabbitMQ, and so many outcomes for the connection.
const WAITING: usize = 256;
/// Messages are published by one lane each: what is set aside, and commands.
const LANES: usize = 3;

/// What is known when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the server is, and who we are there.
    pub dsn: Dsn,
    /// The client's id there: this process's.
    pub client: String,
    /// `BROKER_GROUP`.
    pub group: String,
}

/// What we say of ourselves, as it changes; none until that is known.
pub type Watched = watch::Receiver<Option<Gateway>>;

/// Optic as a client: to be run by whoever owns the task.
pub struct Outbound {
    driver: Driver,
    commands: Commands,
    replies: RepliesDriver,
    inbox: mpsc::Receiver<Message>,
    outcomes: mpsc::Receiver<ReplyEvent>,
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Counters {
    sent: AtomicU64,
    sent_again: AtomicU64,
    covered: AtomicU64,
    set_aside: AtomicU64,
    no_route: AtomicU64,
    unreadable: AtomicU64,
    connections: AtomicU64,
}

pub(super) struct Driver {
    dsn: Dsn,
    client: String,
    /// How often the server said that our id is taken: then another is tried.
    taken: u32,
    pub(super) group: String,
    pub(super) consumption: Admin,
    pub(super) aside: Arc<Aside>,
    pub(super) metadata: Watched,
    /// Whether it may still change.
    pub(super) is_watching: bool,
    pub(super) answers: mpsc::Receiver<Answer>,
    commands: mpsc::Sender<Message>,
    pub(super) suspicion: Suspicion,
    pub(super) counters: Arc<Counters>,
    told: Told,
    /// The last connection ended because of a message: the server was there all the time.
    pub(super) is_settled: bool,
    /// What the last connection ended of.
    last_end: String,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// We were told to stop.
    Stopped,
    /// By its protocol.
    Session(End),
    /// The server closed the websocket: its code and its reason, if it gave any.
    Closed(Option<(u16, String)>),
    /// By us: the server could not keep a message.
    NotKept,
    /// Without a word.
    Lost(String),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum NotOpened {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the server refused the websocket with HTTP status {0}")]
    Http(u16),
    #[error("the server does not speak websocket: {0}")]
    Handshake(tungstenite::Error),
    #[error("no websocket within {} s", HANDSHAKE.as_secs())]
    TimedOut,
}

impl Outbound {
    /// A client for events out of the group's queue. It consumes by one connection to RabbitMQ, and publishes what is small by
    /// the other.
    pub fn new(settings: Settings, consumption: &Admin, administration: &Admin, metadata: Watched) -> Self {
        let Settings { dsn, client, group } = settings;
        let messenger = Messenger::with_lanes(administration.clone(), LANES);
        let (replies, replies_driver, outcomes) = Replies::new(consumption.clone());
        let (answers_in, answers) = mpsc::channel(WAITING);
        let (commands_in, inbox) = mpsc::channel(WAITING);
        let commands = Commands::new(&group, messenger.clone(), replies, answers_in);
        let aside = Arc::new(Aside::new(messenger, &group));
        let driver = Driver {
            dsn,
            client,
            taken: 0,
            group,
            consumption: consumption.clone(),
            aside,
            metadata,
            is_watching: true,
            answers,
            commands: commands_in,
            suspicion: Suspicion::default(),
            counters: Arc::default(),
            told: Told::default(),
            is_settled: false,
            last_end: String::new(),
        };
        Self { driver, commands, replies: replies_driver, inbox, outcomes }
    }

    /// The numbers.
    pub fn counters(&self) -> Arc<Counters> {
        self.driver.counters.clone()
    }

    /// Forwards until `stop`. What was not acknowledged by then stays in the queue.
    pub async fn run(self, stop: CancellationToken) {
        let Self { driver, commands, replies, inbox, outcomes } = self;
        // The commands end with the driver, whose end closes their way in.
        let driving = async {
            driver.run(&stop).await;
            stop.cancel();
        };
        tokio::join!(driving, replies.run(stop.clone()), async {
            let _ = stop.run_until_cancelled(commands.run(inbox, outcomes)).await;
        });
    }
}

impl Driver {
    async fn run(mut self, stop: &CancellationToken) {
        let (mut backoff, mut rng) = (Backoff::new(FIRST_WAIT, LONGEST_WAIT, LASTING), fastrand::Rng::new());
        let tls = tls::Lazy::default();
        let mut told: Option<(String, Instant)> = None;
        loop {
            let wait = backoff.next_wait(&mut rng);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
            }
            let opened = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                opened = open(&self.dsn, &tls) => opened,
            };
            let (text, needs_a_person) = match opened {
                Ok(socket) => {
                    let since = Instant::now();
                    let ended = link::serve(&mut self, socket, stop).await;
                    backoff.lasted(since.elapsed());
                    if self.is_settled {
                        // It holds up what is behind it for as short as can be.
                        backoff.lasted(LASTING);
                        let _at_once = backoff.next_wait(&mut rng);
                    }
                    if matches!(ended, Ended::Stopped) {
                        return;
                    }
                    if ended.says_taken() {
                        self.taken += 1;
                    }
                    self.last_end = ended.to_string();
                    (ended.to_string(), matches!(ended, Ended::Session(End::Restricted(_))))
                }
                Err(error) => (error.to_string(), error.needs_a_person()),
            };
            if told.as_ref().is_none_or(|(last, at)| *last != text || at.elapsed() >= TELL_AGAIN) {
                let (dsn, reason) = (&self.dsn, text.as_str());
                let queue = Queue::forward(&self.group);
                let asked = timeout(ASKED, topology::messages(&self.consumption, &queue)).await;
                let (queue, waiting) = (queue.name(), asked.ok().and_then(Result::ok));
                if needs_a_person {
                    error!(
                        %dsn, reason, queue, waiting,
                        "no events are forwarded, and they wait in RabbitMQ: trying again alone will not help"
                    );
                } else {
                    warn!(%dsn, reason, queue, waiting, "not connected to the other 신경 server: events wait in RabbitMQ");
                }
                told = Some((text, Instant::now()));
            }
        }
    }

    pub(super) fn session(&self, now: Instant) -> Session {
        let client = match self.taken {
            0 => self.client.clone(),
            n => format!("{}-{n}", self.client),
        };
        let who =
            Identity { application: self.dsn.application().to_owned(), client, password: self.dsn.password().cloned() };
        Session::new(who, self.encoding(), self.told(), now)
    }

    pub(super) const fn encoding(&self) -> Encoding {
        self.dsn.encoding()
    }

    /// What we say of ourselves.
    pub(super) fn told(&self) -> Value {
        self.metadata.borrow().as_ref().map_or(Value::Null, Gateway::told)
    }

    pub(super) fn registered(&self) {
        info!(dsn = %self.dsn, "registered at the other 신경 server: events are forwarded");
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unreadable(&mut self, why: &str) {
        self.counters.unreadable.fetch_add(1, Ordering::Relaxed);
        self.told.unreadable(why);
    }

    pub(super) fn heard(&mut self, message: Message) {
        if self.commands.try_send(message).is_err() {
            self.told.dropped();
        }
    }

    pub(super) fn no_route(&mut self) {
        self.counters.no_route.fetch_add(1, Ordering::Relaxed);
        self.told.no_route();
    }

    pub(super) fn refused(&mut self, error: &str) {
        self.told.refused(error);
    }

    pub(super) fn set_aside(&mut self, reason: &str) {
        self.counters.set_aside.fetch_add(1, Ordering::Relaxed);
        self.told.aside(reason);
    }

    pub(super) fn why_condemned(&self) -> String {
        format!("the other server's connection ended each time that it was sent: {}", self.last_end)
    }
}

async fn open(dsn: &Dsn, tls: &tls::Lazy) -> Result<WebSocketStream<Stream>, NotOpened> {
    let stream = connect::dial(dsn.address(), tls).await?;
    let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let handshake = tokio_tungstenite::client_async_with_config(dsn.address().as_str(), stream, Some(config));
    match timeout(HANDSHAKE, handshake).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response))) => Err(NotOpened::Http(response.status().as_u16())),
        Ok(Err(error)) => Err(NotOpened::Handshake(error)),
        Err(_) => Err(NotOpened::TimedOut),
    }
}

impl NotOpened {
    /// Whether trying again alone will not help.
    fn needs_a_person(&self) -> bool {
        match self {
            // Too slow, too often: that passes, as what fails on the server's side may.
            Self::Http(status) => (400..500).contains(status) && !matches!(status, 408 | 429),
            Self::Connect(error) => matches!(error, ConnectError::Tls(_)),
            Self::Handshake(_) | Self::TimedOut => false,
        }
    }
}

impl Ended {
    /// Whether another has our client's id: be it ourselves, over a connection that the server does not know to be lost yet.
    fn says_taken(&self) -> bool {
        matches!(self, Self::Session(End::Error(error)) if error.contains("already registered"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped => f.write_str("it was stopped"),
            Self::Session(end) => end.fmt(f),
            // The original's, which writes no refusal for such a target.
            Self::Closed(Some((1011, _))) => f.write_str(
                "it closed the websocket with 1011, as servers do that fail: the original also when nobody matches a target \
                 with \"ops\" or a \"selector\", unless \"droppable\": true is in it",
            ),
            Self::Closed(None) => f.write_str("it closed the websocket"),
            Self::Closed(Some((code, reason))) if reason.is_empty() => write!(f, "it closed the websocket with {code}"),
            Self::Closed(Some((code, reason))) => write!(f, "it closed the websocket with {code}: {reason}"),
            Self::NotKept => f.write_str("it could not keep a message"),
            Self::Lost(why) => write!(f, "the connection was lost: {why}"),
        }
    }
}

impl Counters {
    /// Messages sent, those sent again included.
    pub fn total_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Messages that the server is known to have taken.
    pub fn total_covered(&self) -> u64 {
        self.covered.load(Ordering::Relaxed)
    }

    /// Messages that waited for that when a connection was lost.
    pub fn total_sent_again(&self) -> u64 {
        self.sent_again.load(Ordering::Relaxed)
    }

    /// Messages that the server can never take.
    pub fn total_set_aside(&self) -> u64 {
        self.set_aside.load(Ordering::Relaxed)
    }

    /// Messages that matched no client there.
    pub fn total_no_route(&self) -> u64 {
        self.no_route.load(Ordering::Relaxed)
    }

    /// Frames that cannot be read.
    pub fn total_unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// How often we were registered.
    pub fn total_connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn covered(&self, count: usize) {
        self.covered.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn sent_again(&self, count: usize) {
        self.sent_again.fetch_add(count as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_passes_needs_nobody() {
        for (status, needs) in
            [(400, true), (401, true), (404, true), (408, false), (429, false), (502, false), (503, false)]
        {
            assert_eq!(NotOpened::Http(status).needs_a_person(), needs, "{status}");
        }
        assert!(!NotOpened::TimedOut.needs_a_person());
    }
}
