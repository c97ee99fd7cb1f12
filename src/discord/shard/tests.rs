//! The driver and its intake against a broker whose confirms the test gives, and a simulated Discord.

use std::sync::atomic::AtomicU64;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::intake::Taken;
use super::outgoing::Outgoing;
use super::*;
use crate::broker::{BrokerState, Event, Gap, Position};
use crate::discord::compression::Encoding;
use crate::discord::gateway_url::GatewayUrl;
use crate::discord::identify_queue::{IdentifyQueue, PACE};
use crate::discord::ids::ShardId;
use crate::discord::inflate::{Buffer, Inflater};
use crate::discord::intents::Intents;
use crate::discord::rest_types::SessionStartLimit;
use crate::discord::session::Settings;
use crate::discord::turnstile::{Entering, Turnstile};
use crate::discord::websocket::Reader;
use crate::secret::Secret;
use crate::session_store::{MemorySessionStore, StoredSession};
use crate::simulator::{self, Simulator};

/// Takes everything, and settles it when it is told to.
#[derive(Default)]
struct Confirming {
    /// Names, in order; gaps among them.
    taken: watch::Sender<Vec<String>>,
    gaps: Mutex<Vec<Gap>>,
    settled: AtomicU64,
    at_once: bool,
    discarded: Mutex<Vec<ShardId>>,
}

impl Confirming {
    fn take(&self, name: &str) -> Option<Position> {
        let mut position = 0;
        self.taken.send_modify(|taken| {
            position = taken.len() as u64;
            taken.push(name.to_owned());
        });
        Some(Position::new(position))
    }

    fn settle(&self, before: u64) {
        self.settled.store(before, std::sync::atomic::Ordering::Relaxed);
    }

    fn taken(&self) -> Vec<String> {
        self.taken.borrow().clone()
    }
}

impl Broker for Confirming {
    fn publish(&self, event: &Event<'_>) -> Option<Position> {
        self.take(event.name)
    }

    fn publish_gap(&self, gap: &Gap) -> Option<Position> {
        self.gaps.lock().expect("no panic").push(gap.clone());
        self.take(crate::broker::GAP_EVENT)
    }

    fn discard(&self, shard: ShardId) {
        self.discarded.lock().expect("no panic").push(shard);
    }

    fn settled(&self) -> Position {
        match self.at_once {
            true => Position::new(self.taken.borrow().len() as u64),
            false => Position::new(self.settled.load(std::sync::atomic::Ordering::Relaxed)),
        }
    }

    fn has_room(&self) -> bool {
        true
    }

    fn room(&self) -> Wait<'_> {
        Box::pin(std::future::ready(()))
    }

    fn flushed(&self) -> Wait<'_> {
        Box::pin(std::future::ready(()))
    }

    fn state(&self) -> BrokerState {
        BrokerState::Connected
    }
}

fn shard() -> Shard {
    Shard::new(ShardId::new(0), 1).expect("the only one")
}

fn settings() -> Settings {
    Settings {
        shard: shard(),
        token: Secret::new("any"),
        intents: Intents::GUILDS,
        large_threshold: None,
        presence: None,
        api_version: 10,
        encoding: Encoding::Json,
        compression: Compression::None,
    }
}

/// Session "old", of which everything up to 5 is stored.
fn stored() -> StoredSession {
    StoredSession {
        version: StoredSession::VERSION,
        shard_id: shard().id(),
        shard_count: 1,
        intents: Intents::GUILDS,
        session_id: SessionId::new("old"),
        resume_url: "ws://127.0.0.1:1".to_owned(),
        sequence: Seq::new(5),
        saved_at: 1_700_000_000_000,
        guilds: None,
    }
}

/// An intake whose session waits for Hello.
fn connected(broker: &Arc<Confirming>) -> Intake {
    let gateway = GatewayUrl::parse("ws://127.0.0.1:1").expect("an address");
    let now = Instant::now();
    let mut session = Session::new(settings(), gateway, Some(stored()), 7, now);
    session.handle_timeout(now);
    session.connected(now);
    Intake {
        shard: shard(),
        session,
        ledger: Ledger::new(Seq::new(5)),
        notice: None,
        broker: broker.clone(),
        guilds: Guilds::default(),
        status: Arc::new(Status::new(shard())),
        actions: VecDeque::new(),
    }
}

/// Each packet as a chunk of its own, and then what the session wants done.
fn receives(intake: &mut Intake, packets: &[&str]) {
    let (mut reader, mut inflater) = (Reader::default(), Inflater::new(Compression::None));
    let (mut inflated, mut out) = (Buffer::default(), Outgoing::default());
    for packet in packets {
        let length = u8::try_from(packet.len()).ok().filter(|length| *length <= 125).expect("a short frame");
        let frame = [&[0x81, length], packet.as_bytes()].concat();
        let taken = intake.chunk(&frame, &mut reader, &mut inflater, &mut inflated, &mut out);
        if taken == Taken::Stopped {
            assert_eq!(intake.chunk(&[], &mut reader, &mut inflater, &mut inflated, &mut out), Taken::All);
        }
        while intake.poll_action().is_some() {}
    }
    assert_eq!(intake.status.malformed(), 0, "all of it can be read");
}

const HELLO: &str = r#"{"t":null,"s":null,"op":10,"d":{"heartbeat_interval":41250}}"#;

#[test]
fn an_event_with_the_number_of_the_resumed_before_it_is_published() {
    let broker = Arc::new(Confirming::default());
    let mut intake = connected(&broker);
    receives(
        &mut intake,
        &[
            HELLO,
            r#"{"t":"TYPING_START","s":6,"op":0,"d":{}}"#,
            r#"{"t":"RESUMED","s":7,"op":0,"d":{}}"#,
            r#"{"t":"MESSAGE_CREATE","s":7,"op":0,"d":{}}"#,
        ],
    );
    assert_eq!(broker.taken(), ["TYPING_START", "RESUMED", "MESSAGE_CREATE"]);
    broker.settle(2);
    assert_eq!(intake.record().expect("a session").sequence, Seq::new(6), "RESUMED commits nothing");
    broker.settle(3);
    assert_eq!(intake.record().expect("a session").sequence, Seq::new(7));
}

#[test]
fn a_new_session_is_not_stored_before_the_gap_of_the_old_one_is_told() {
    let broker = Arc::new(Confirming::default());
    let mut intake = connected(&broker);
    receives(
        &mut intake,
        &[
            HELLO,
            r#"{"t":"TYPING_START","s":6,"op":0,"d":{}}"#,
            r#"{"t":"READY","s":1,"op":0,"d":{"session_id":"new"}}"#,
        ],
    );
    assert_eq!(broker.taken(), ["TYPING_START", "OPTIC_GAP", "READY"]);
    assert_eq!(broker.gaps.lock().expect("no panic")[0].last_committed, Seq::new(5));
    for settled in [0, 1] {
        broker.settle(settled);
        assert_eq!(intake.record(), None, "a crash now must find the old session's record");
    }
    broker.settle(2);
    let record = intake.record().expect("the gap is told");
    assert_eq!((record.session_id, record.sequence), (SessionId::new("new"), Seq::ZERO));
    broker.settle(3);
    assert_eq!(intake.record().expect("a session").sequence, Seq::new(1));
}

/// A driver at a simulated Discord, with a broker that confirms at once.
struct Running {
    broker: Arc<Confirming>,
    store: Arc<MemorySessionStore>,
    fence: Fence,
    status: Arc<Status>,
    discord: simulator::Handle,
    stop: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
    orders: Orders,
    driver: tokio::task::JoinHandle<End>,
}

impl Running {
    /// Runs until READY and the guilds were published.
    async fn start() -> Self {
        let limit = SessionStartLimit { total: 10, remaining: 10, reset_after: 1000, max_concurrency: 1 };
        Self::with(IdentifyGate::new(IdentifyQueue::new(limit, PACE, Instant::now()))).await
    }

    /// The same behind this gate.
    async fn with(gate: IdentifyGate) -> Self {
        let simulator = Simulator::bind(simulator::Settings::default()).await.expect("a free port");
        let (address, discord) = (simulator.address(), simulator.handle());
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(simulator.run(stop.clone()));

        let broker = Arc::new(Confirming { at_once: true, ..Confirming::default() });
        let store = Arc::new(MemorySessionStore::new());
        let fence = Fence::open();
        let gateway = GatewayUrl::parse(&format!("ws://{address}")).expect("an address");
        let shared = Shared {
            broker: broker.clone(),
            store: store.clone(),
            fence: fence.clone(),
            gate: gate.clone(),
            gateway: Arc::new(Gateway::new(gateway.clone())),
            tls: Arc::default(),
            compression: Compression::None,
            scratch: Arc::default(),
        };
        let session = Session::new(settings(), gateway, None, 7, Instant::now());
        let (_, receiver) = mpsc::channel(1);
        let status = Arc::new(Status::new(shard()));
        let driver = Driver::new(session, Beginning::default(), shared, status.clone(), receiver);
        let until = stop.clone();
        tasks.spawn(async move { gate.run(until).await });
        let orders = Orders::default();
        let driver = tokio::spawn(driver.run(orders.clone()));
        broker.taken.subscribe().wait_for(|taken| taken.len() >= 5).await.expect("the broker is there");
        Self { broker, store, fence, status, discord, stop, tasks, orders, driver }
    }

    /// Waits until the shard is as wanted.
    async fn until(&self, wanted: impl Fn(&Now) -> bool) {
        let reached = async {
            while !wanted(&self.status.now()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("in time");
    }

    /// The driver's end, and the number that is stored then.
    async fn end(mut self) -> (End, Option<u64>) {
        let end = self.driver.await.expect("no panic");
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no panic");
        }
        let record = self.store.load(shard().id()).await.expect("never fails");
        (end, record.map(|record| record.sequence.get()))
    }
}

#[tokio::test]
async fn a_shard_that_discord_refuses_stores_its_session_first() {
    let running = Running::start().await;
    running.discord.control("close", "code=4004", b"").expect("a connection is open");
    let broker = running.broker.clone();
    let (end, stored) = running.end().await;
    assert!(matches!(end, End::Fatal { .. }), "{end}");
    assert_eq!(stored, Some(broker.taken().len() as u64));
}

#[tokio::test]
async fn a_shard_that_another_process_has_leaves_no_trace() {
    let running = Running::start().await;
    let (broker, store) = (running.broker.clone(), running.store.clone());
    // What the other process stored.
    store.save(StoredSession { sequence: Seq::new(100), ..stored() }).await.expect("never fails");
    running.orders.abandon();
    let (end, record) = running.end().await;
    assert_eq!((end, record), (End::ShutDown, Some(100)));
    assert_eq!(*broker.discarded.lock().expect("no panic"), [shard().id()]);
}

#[tokio::test]
async fn behind_a_closed_fence_no_session_is_stored() {
    let running = Running::start().await;
    let (store, orders) = (running.store.clone(), running.orders.clone());
    running.fence.set_certain(false);
    store.save(StoredSession { sequence: Seq::new(100), ..stored() }).await.expect("never fails");
    orders.stop();
    assert_eq!(running.end().await, (End::ShutDown, Some(100)));
}

/// Gives a pass that is too late, then one of a lost turn, then good ones.
#[derive(Debug, Default)]
struct LateThenLost(AtomicU64);

impl Turnstile for LateThenLost {
    fn enter(&self, _: u32, _: ShardId) -> Entering<'_> {
        let (now, soon) = (Instant::now(), Instant::now() + Duration::from_secs(600));
        let pass = match self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Pass::until(now),
            1 => Pass::reporting(soon).0,
            _ => Pass::until(soon),
        };
        Box::pin(std::future::ready(pass))
    }
}

#[tokio::test]
async fn a_turn_that_comes_too_late_or_is_lost_is_asked_for_again() {
    let turnstile = Arc::new(LateThenLost::default());
    let limit = SessionStartLimit { total: 0, remaining: u32::MAX, reset_after: 600_000, max_concurrency: 1 };
    let (now, pace) = (Instant::now(), Duration::from_millis(1));
    let gate = IdentifyGate::shared(IdentifyQueue::new(limit, pace, now), now, turnstile.clone());
    let running = Running::with(gate).await;
    assert_eq!(turnstile.0.load(std::sync::atomic::Ordering::Relaxed), 3);
    running.orders.stop();
    assert_eq!(running.end().await.0, End::ShutDown);
}

#[tokio::test]
async fn where_no_connection_is_open_none_counts_as_ended_by_a_broker_that_takes_nothing() {
    let now = Instant::now();
    let gateway = GatewayUrl::parse("ws://127.0.0.1:1").expect("an address");
    let limit = SessionStartLimit { total: 10, remaining: 10, reset_after: 1000, max_concurrency: 1 };
    let shared = Shared {
        broker: Arc::new(Confirming::default()),
        store: Arc::new(MemorySessionStore::new()),
        fence: Fence::open(),
        gate: IdentifyGate::new(IdentifyQueue::new(limit, PACE, now)),
        gateway: Arc::new(Gateway::new(gateway.clone())),
        tls: Arc::default(),
        compression: Compression::None,
        scratch: Arc::default(),
    };
    let session = Session::new(settings(), gateway, None, 7, now);
    let status = Arc::new(Status::new(shard()));
    let mut driver = Driver::new(session, Beginning::default(), shared, status.clone(), mpsc::channel(1).1);
    driver.paused = Some((now, Box::pin(pending())));
    driver.due(now + PAUSE_GRACE);
    assert_eq!(driver.intake.session.state(), State::Suspended);
    assert_eq!(status.history().disconnects, 0);
    assert!(status.history().last_disconnect.is_some_and(|why| why.contains("takes no events")));
}

#[tokio::test]
async fn while_the_lease_is_in_doubt_no_connection_is_begun() {
    let running = Running::start().await;
    let connections = running.discord.stats().connections;
    running.fence.set_certain(false);
    running.discord.control("close", "code=4000", b"").expect("a connection is open");
    running.until(|now| now.state == State::Suspended && now.paused).await;
    assert_eq!(running.discord.stats().connections, connections, "another process may have the session");
    running.fence.set_certain(true);
    running.until(|now| now.state == State::Connected && !now.paused).await;
    let stats = running.discord.stats();
    assert_eq!((stats.connections, stats.resumes), (connections + 1, 1));
    running.orders.stop();
    assert_eq!(running.end().await.0, End::ShutDown);
}
