//! A simulated Discord on a thread of its own, and what it sent.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;

use optic::discord::compression::Encoding;
use optic::discord::ids::SessionId;
use optic::simulator::{CommandView, Handle, SessionView, Settings, ShardView, Simulator, Stats};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::{Consumer, Received, eventually};

/// Stopped when dropped.
pub struct Gateway {
    handle: Handle,
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// An event that a session has, whether or not it was written to somebody already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub session: String,
    pub shard: u32,
    pub seq: u64,
    pub name: String,
    /// `d` as it goes out.
    pub data: Vec<u8>,
}

impl Sent {
    /// The id that its message must have.
    pub fn message_id(&self) -> String {
        format!("{}:{}", self.session, self.seq)
    }
}

impl Gateway {
    /// Starts it.
    pub fn start(settings: Settings) -> Self {
        let stop = CancellationToken::new();
        let (tell, told) = mpsc::channel();
        let until = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let simulator = Simulator::bind(settings).await.expect("a free port");
                tell.send((simulator.handle(), simulator.address())).expect("the test waits for it");
                simulator.run(until).await;
            });
        });
        let (handle, address) = told.recv().expect("the simulator starts");
        Self { handle, address, stop, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happened.
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// The sessions there are.
    pub fn sessions(&self) -> Vec<SessionView> {
        self.handle.sessions()
    }

    /// How each shard fares.
    pub fn shards(&self) -> Vec<ShardView> {
        self.handle.shards()
    }

    /// How many shards have one connection; one that has two counts for none.
    pub fn live(&self) -> u64 {
        self.shards().iter().filter(|shard| shard.live == 1).count() as u64
    }

    /// The last commands that came in, in order.
    pub fn commands(&self) -> Vec<CommandView> {
        self.handle.commands()
    }

    /// As `POST /control/<verb>?<query>`.
    pub fn control(&self, verb: &str, query: &str) {
        self.handle.control(verb, query, &[]).unwrap_or_else(|error| panic!("{verb}?{query}: {error}"));
    }

    /// An event of this name and `d` to every shard.
    pub fn event(&self, name: &str, data: &[u8]) {
        self.handle.control("event", &format!("name={name}"), data).expect("there are sessions");
    }

    /// So many events more for each session, as fast as they go.
    pub fn flood(&self, events: u64) {
        self.control("start", &format!("rate=0&events={events}"));
    }

    /// Waits until so many connections have a session and its first events are on their way.
    pub async fn connected(&self, shards: usize) {
        let live = |session: &SessionView| session.connected && session.written_seq == session.last_seq;
        eventually("all shards connected", || self.sessions().iter().filter(|session| live(session)).count() >= shards)
            .await;
    }

    /// Waits until somebody holds stored numbers of every session: the heartbeats say so.
    pub async fn stored(&self) {
        eventually("sessions stored", || {
            let sessions = self.sessions();
            !sessions.is_empty() && sessions.iter().all(|session| session.heartbeat_seq.is_some_and(|seq| seq > 0))
        })
        .await;
    }

    /// Every event of every session, but for RESUMED.
    pub fn sent(&self) -> Vec<Sent> {
        self.sessions().iter().flat_map(|session| self.sent_in(&session.id, session.shard)).collect()
    }

    /// The `d` of every event of a session but for RESUMED, as connections in ETF get it.
    pub fn sent_in_etf(&self, session: &SessionId) -> Vec<Vec<u8>> {
        // Discord's order: `d` comes first, behind the version, a map of four and its key; the others' keys tell where it ends.
        let data = |packet: Vec<u8>| {
            let start = b"\x83\x74\0\0\0\x04\x64\0\x01d".len();
            let end = memchr::memmem::rfind(&packet, b"\x64\0\x02op\x61\0\x64\0\x01s").expect("an op and an s");
            packet[start..end].to_vec()
        };
        self.handle.held(session, Encoding::Etf).into_iter().map(data).collect()
    }

    /// How many events there are.
    pub fn count(&self) -> u64 {
        self.sessions().iter().map(|session| session.events).sum()
    }

    /// Waits until there are at least `least` events, and each has reached the consumer; gives everything it has.
    pub async fn reached(&self, consumer: &Consumer, least: u64) -> Vec<Received> {
        // The last event's arrival is looked at after it was sent: no later look is needed.
        let what = format!("{least} events at the consumer, and no hole");
        let mut there = HashSet::new();
        let mut looked = 0;
        consumer
            .wait_until(&what, |received| {
                there.extend(received[looked..].iter().filter_map(|message| message.message_id.clone()));
                looked = received.len();
                // Looking for holes takes long: only once there may be none.
                there.len() as u64 >= self.count().max(least) && self.count() >= least && self.holes(&there).is_empty()
            })
            .await
    }

    /// Which of the events are not among these.
    pub fn holes(&self, message_ids: &HashSet<String>) -> Vec<String> {
        self.sent().iter().map(Sent::message_id).filter(|id| !message_ids.contains(id)).collect()
    }

    fn sent_in(&self, id: &SessionId, shard: u32) -> Vec<Sent> {
        #[derive(Deserialize)]
        struct Packet<'a> {
            t: String,
            s: u64,
            #[serde(borrow)]
            d: &'a RawValue,
        }
        let read = |packet: Vec<u8>| {
            let Packet { t, s, d } = serde_json::from_slice(&packet).expect("packets are JSON");
            Sent { session: id.to_string(), shard, seq: s, name: t, data: d.get().as_bytes().to_vec() }
        };
        self.handle.held(id, Encoding::Json).into_iter().map(read).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(!matches!(ended, Some(Err(_))), "the simulator panicked");
        }
    }
}
