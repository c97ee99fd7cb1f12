//! What is on its way to one client: bounded, and each message's fate is told.

use std::collections::VecDeque;
use std::fmt;
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::close_code::CloseCode;
use super::limits::Limits;
use super::packet::outgoing::{Outgoing, Refusal};
use crate::encoding::{Map, Value};

/// So many packets may wait for one client, however small they are: what waits for a client that does not read holds places
/// that others need.
pub const MOST_WAITING: usize = 512;

/// A client that has not taken a packet after so long does not read.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Packets come in bursts; but where more than so many wait for one client, they do not wait as long.
const CROWD: usize = 128;

/// How long a packet may wait among so many.
const CROWD_PATIENCE: Duration = Duration::from_secs(2);

/// A client that sends nothing for so long after a ping is taken for dead.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Room for more packets than these is given back once the outbox is empty.
const KEPT: usize = 16;

/// Called once, with whether the packet was written to the client's socket.
pub type Fate = Box<dyn FnOnce(bool) + Send>;

/// The way to a client's connection. Cheap to clone; one connection takes out of it.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

/// Why nothing can be put into an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undeliverable {
    /// Its client does not read fast enough; it is being closed.
    #[error("the client does not read")]
    Full,
    /// Its connection is gone, or going.
    #[error("the connection is gone")]
    Closed,
}

/// A packet on its way.
pub struct Parcel {
    /// What to write.
    pub packet: Outgoing,
    /// About how many bytes.
    weight: usize,
    /// Since when it waits.
    since: Instant,
    /// Who wants to know.
    fate: Option<Fate>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// About so many bytes may wait.
    most_bytes: usize,
    /// Tells the connection that there is something.
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Parcel>,
    bytes: usize,
    closing: Option<CloseCode>,
    /// Who wants to know whether the client is alive.
    probes: Vec<oneshot::Sender<()>>,
    /// Of these probes one has not been pinged for.
    ping: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new(Limits::default().client_buffer)
    }
}

impl Outbox {
    /// An outbox for about so many bytes.
    pub fn new(most_bytes: usize) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), most_bytes, filled: Notify::new() }))
    }

    /// Puts a packet in. Without success `fate` is not called.
    ///
    /// # Errors
    /// There is too much already: the connection is told to close, or the connection is gone.
    pub fn push(&self, packet: Outgoing, fate: Option<Fate>) -> Result<(), Undeliverable> {
        let weight = weight(&packet);
        let mut state = self.lock();
        if state.closing.is_some() {
            return Err(Undeliverable::Closed);
        }
        // One packet alone is always taken: how large it may be was decided where it came in.
        let is_full = state.waiting.len() >= MOST_WAITING
            || (!state.waiting.is_empty() && state.bytes.saturating_add(weight) > self.0.most_bytes);
        if is_full {
            state.closing = Some(CloseCode::TooSlow);
        } else {
            state.bytes += weight;
            state.waiting.push_back(Parcel { packet, weight, since: Instant::now(), fate });
        }
        drop(state);
        self.0.filled.notify_one();
        if is_full { Err(Undeliverable::Full) } else { Ok(()) }
    }

    /// Tells the connection to close with this code once it has written what is in; nothing more gets in.
    pub fn close(&self, code: CloseCode) {
        self.lock().closing.get_or_insert(code);
        self.0.filled.notify_one();
    }

    /// The next packet, for the connection.
    pub fn take(&self) -> Option<Parcel> {
        let mut state = self.lock();
        let parcel = state.waiting.pop_front()?;
        state.bytes -= parcel.weight;
        if state.waiting.is_empty() && state.waiting.capacity() > KEPT {
            state.waiting = VecDeque::new();
        }
        Some(parcel)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// When its client is given up, if what waits is not taken before.
    pub fn deadline(&self) -> Option<Instant> {
        let state = self.lock();
        let patience = if state.waiting.len() > CROWD { CROWD_PATIENCE } else { PATIENCE };
        state.waiting.front().map(|oldest| oldest.since + patience)
    }

    /// With what the connection is to close, if it is.
    pub fn closing(&self) -> Option<CloseCode> {
        self.lock().closing
    }

    /// Waits until there may be something to take, a ping to be sent, or the connection is to close. For one task.
    pub async fn filled(&self) {
        self.0.filled.notified().await;
    }

    /// Whether the client is alive: pings it, and waits a short while for any frame of it.
    pub async fn is_healthy(&self) -> bool {
        let (heard, hears) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.closing.is_some() {
                return false;
            }
            // Of those before, some have given up.
            state.probes.retain(|probe| !probe.is_closed());
            state.probes.push(heard);
            state.ping = true;
        }
        self.0.filled.notify_one();
        matches!(tokio::time::timeout(PROBE_TIMEOUT, hears).await, Ok(Ok(())))
    }

    /// Whether the connection is to ping its client now, and to tell of the next frame by [`heard`](Self::heard).
    pub fn take_ping(&self) -> bool {
        std::mem::take(&mut self.lock().ping)
    }

    /// The connection had a frame from its client.
    pub fn heard(&self) {
        let probes = std::mem::take(&mut self.lock().probes);
        for probe in probes {
            // Who asked may have given up.
            let _ = probe.send(());
        }
    }

    /// Whether both are the way to the same connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The connection is gone: whatever is left was not written, and nothing more gets in.
    pub fn end(&self) {
        let mut state = self.lock();
        state.closing.get_or_insert(CloseCode::Gone);
        state.bytes = 0;
        let left = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.probes));
        drop(state);
        // Outside of the lock: fates may come back to this outbox.
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parcel {
    /// Since when it waits.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// It was written to the socket.
    pub fn written(mut self) {
        if let Some(fate) = self.fate.take() {
            fate(true);
        }
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if let Some(fate) = self.fate.take() {
            fate(false);
        }
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").field("packet", &self.packet).finish_non_exhaustive()
    }
}

/// About how many bytes a packet takes in memory: what it is on the wire is not much more.
fn weight(packet: &Outgoing) -> usize {
    let of_refusal = |refusal: &Refusal| refusal.error.len() + refusal.extra_info.as_ref().map_or(0, value_weight);
    let contents = match packet {
        Outgoing::Message { contents, .. } => {
            let sender = contents.sender.as_deref().map_or(0, str::len);
            value_weight(&contents.nonce) + value_weight(&contents.payload) + sender
        }
        Outgoing::Queue { queue, id, nonce, payload, sender } => {
            let texts = queue.0.len() + id.len() + sender.as_deref().map_or(0, str::len);
            texts + value_weight(nonce) + value_weight(payload)
        }
        Outgoing::QueueConfirm(queue) => queue.0.len(),
        Outgoing::Nodes(nodes) => value_weight(nodes),
        Outgoing::Invalid(refusal) | Outgoing::Error(refusal) => of_refusal(refusal),
        Outgoing::Hello { .. }
        | Outgoing::Ready { .. }
        | Outgoing::Connected(_)
        | Outgoing::Disconnected(_)
        | Outgoing::HeartbeatAck(_)
        | Outgoing::Goodbye => 0,
    };
    size_of::<Parcel>() + contents
}

/// About how many bytes a value takes in memory. Goes as deep as the value: decoders bound that.
pub(super) fn value_weight(value: &Value) -> usize {
    let contents = match value {
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => 0,
        Value::Big(integer) => integer.magnitude.len(),
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(values) => values.iter().map(value_weight).sum(),
        Value::Map(map) => map_weight(map),
    };
    size_of::<Value>() + contents
}

fn map_weight(map: &Map) -> usize {
    map.iter().map(|(key, value)| size_of::<Box<str>>() + key.len() + value_weight(value)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Outgoing {
        Outgoing::message(false, Value::Null, Value::string(text), None)
    }

    /// Fates in the order they were told.
    #[derive(Clone, Default)]
    struct Fates(Arc<Mutex<Vec<(u32, bool)>>>);

    impl Fates {
        fn of(&self, number: u32) -> Option<Fate> {
            let fates = Arc::clone(&self.0);
            Some(Box::new(move |written| fates.lock().expect("not poisoned").push((number, written))))
        }

        fn told(&self) -> Vec<(u32, bool)> {
            self.0.lock().expect("not poisoned").clone()
        }
    }

    #[test]
    fn each_packets_fate_is_told_once() {
        let (outbox, fates) = (Outbox::default(), Fates::default());
        for number in 0..3 {
            outbox.push(message("x"), fates.of(number)).expect("there is room");
        }
        outbox.take().expect("the first").written();
        drop(outbox.take().expect("the second"));
        outbox.end();
        assert_eq!(fates.told(), [(0, true), (1, false), (2, false)]);
        assert_eq!(outbox.push(message("x"), fates.of(3)), Err(Undeliverable::Closed));
        assert_eq!(fates.told().len(), 3);
    }

    #[test]
    fn too_many_packets_close_it() {
        let outbox = Outbox::default();
        for _ in 0..MOST_WAITING {
            outbox.push(message(""), None).expect("there is room");
        }
        assert_eq!(outbox.push(message(""), None), Err(Undeliverable::Full));
        assert_eq!(outbox.closing(), Some(CloseCode::TooSlow));
        assert_eq!(outbox.push(message(""), None), Err(Undeliverable::Closed));
    }

    #[test]
    fn the_oldest_sets_the_deadline_and_in_a_crowd_an_early_one() {
        let outbox = Outbox::default();
        assert_eq!(outbox.deadline(), None);
        outbox.push(message(""), None).expect("there is room");
        let oldest = outbox.lock().waiting[0].since;
        for _ in 1..CROWD {
            outbox.push(message(""), None).expect("there is room");
            assert_eq!(outbox.deadline(), Some(oldest + PATIENCE));
        }
        outbox.push(message(""), None).expect("there is room");
        assert_eq!(outbox.deadline(), Some(oldest + CROWD_PATIENCE));
        outbox.take().expect("the oldest");
        assert!(outbox.deadline().is_some_and(|deadline| deadline >= oldest + PATIENCE));
    }

    #[test]
    fn too_many_bytes_close_it_but_one_packet_is_always_taken() {
        let large = "x".repeat(4000);
        let outbox = Outbox::new(10_000);
        for _ in 0..5 {
            outbox.push(message(&large), None).expect("there is room");
            outbox.push(message(&large), None).expect("there is room");
            while outbox.take().is_some() {}
        }
        outbox.push(message(&"x".repeat(20_000)), None).expect("it is alone");
        assert_eq!(outbox.push(message(""), None), Err(Undeliverable::Full));
        assert_eq!(outbox.closing(), Some(CloseCode::TooSlow));
    }

    #[test]
    fn values_weigh_what_is_in_them() {
        let value = Value::map([("key", Value::List([Value::string("text"), Value::Bytes([1, 2].into())].into()))]);
        assert_eq!(value_weight(&value), 4 * size_of::<Value>() + size_of::<Box<str>>() + 3 + 4 + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_healthy_when_any_frame_comes_after_the_ping() {
        let outbox = Outbox::default();
        let asked = outbox.clone();
        let connection = async {
            outbox.filled().await;
            assert!(outbox.take_ping());
            assert!(!outbox.take_ping());
            outbox.heard();
        };
        assert!(tokio::join!(asked.is_healthy(), connection).0);
        // Nobody hears of anything.
        assert!(!asked.is_healthy().await);
        // Gone in the meantime: nobody waits for the time-out.
        let before = tokio::time::Instant::now();
        assert!(!tokio::join!(asked.is_healthy(), async { outbox.end() }).0);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
