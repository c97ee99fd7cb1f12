//! The identify gate: shards ask, and are let through as this process's [`IdentifyQueue`] says and then, where there are
//! other processes, when the [`Turnstile`] between them does.
//!
//! Of each bucket at most one shard of this process is at the turnstile at a time, the lowest: a place there costs something.
//! A shard waits for its turn by a future; dropping the future withdraws. One task, owned by the service, lets through.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::identify_queue::IdentifyQueue;
use super::ids::ShardId;
use super::rest_types::SessionStartLimit;
use super::turnstile::{Pass, Turnstile};

/// How long this process's own grant is good: what [`PACE`](super::identify_queue::PACE) is longer than Discord's 5 s.
const VALID: Duration = Duration::from_millis(500);

/// The gate, shared by all shards of the process.
#[derive(Clone, Debug)]
pub struct IdentifyGate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    /// Where there are other processes.
    turnstile: Option<Arc<dyn Turnstile>>,
    limit_doubted: Notify,
}

#[derive(Debug)]
struct State {
    queue: IdentifyQueue,
    /// In the order of their coming.
    waiting: HashMap<ShardId, VecDeque<(Ticket, oneshot::Sender<Granted>)>>,
    /// Who was let through, and has not given up its place.
    through: HashMap<ShardId, Ticket>,
    tickets: Ticket,
}

/// Tells those apart who wait for the same shard: Optic's own driver and a service may.
type Ticket = u64;

/// How many sessions may be started, as far as this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// So many are left,
    pub remaining: u32,
    /// of so many.
    pub total: u32,
    /// When they are all there again.
    pub resets_at: Instant,
    /// How many shards may identify at a time.
    pub max_concurrency: u32,
    /// How many of this process's shards wait for their turn, here or at the turnstile.
    pub waiting: usize,
}

/// This process's own leave to identify.
#[derive(Clone, Copy, Debug)]
struct Granted {
    bucket: u32,
    at: Instant,
}

impl IdentifyGate {
    /// The gate of a bot's only process.
    pub fn new(queue: IdentifyQueue) -> Self {
        Self::with(queue, None)
    }

    /// The gate of one process of several. Discord was asked for the queue's limit at `asked`.
    pub fn shared(queue: IdentifyQueue, asked: Instant, turnstile: Arc<dyn Turnstile>) -> Self {
        Self::with(queue.shared(asked), Some(turnstile))
    }

    fn with(queue: IdentifyQueue, turnstile: Option<Arc<dyn Turnstile>>) -> Self {
        let state = Mutex::new(State { queue, waiting: HashMap::new(), through: HashMap::new(), tickets: 0 });
        let (changed, limit_doubted) = Default::default();
        Self { shared: Arc::new(Shared { state, changed, turnstile, limit_doubted }) }
    }

    /// Waits for the shard's turn. The pass is to be spent at once; the start is counted whether it is or not.
    pub async fn turn(&self, shard: ShardId) -> Pass {
        loop {
            // Until the pass is here, or nobody waits for it any more, no other shard of this bucket goes.
            let (place, turn) = self.ask(shard);
            let Granted { bucket, at } = turn.await.expect("it is kept until it is sent, or its place given up");
            let Some(turnstile) = &self.shared.turnstile else { return Pass::until(at + VALID) };
            let pass = turnstile.enter(bucket, shard).await;
            drop(place);
            // The others start sessions as well: their number is asked for while any are started.
            self.shared.limit_doubted.notify_one();
            let state = self.state();
            let fits = state.queue.bucket(shard) == bucket && !state.queue.is_in_doubt(Instant::now());
            if fits {
                return pass;
            }
            // Waited so long that the limit may be used up, or the buckets are others now: from the beginning.
        }
    }

    /// Takes a place in this process's own queue, and is told when that lets the shard through.
    fn ask(&self, shard: ShardId) -> (Place<'_>, oneshot::Receiver<Granted>) {
        let (sender, turn) = oneshot::channel();
        let mut state = self.state();
        let ticket = state.tickets;
        state.tickets += 1;
        state.queue.ask(shard);
        state.waiting.entry(shard).or_default().push_back((ticket, sender));
        drop(state);
        self.shared.changed.notify_one();
        (Place { gate: self, shard, ticket }, turn)
    }

    /// Waits until somebody has to know how many sessions may be started, and what is known may be too old.
    pub async fn limit_doubted(&self) {
        self.shared.limit_doubted.notified().await;
    }

    /// How many sessions may still be started before the limit is reset.
    pub fn remaining(&self) -> u32 {
        self.state().queue.remaining()
    }

    /// How many shards may identify at a time, as Discord told last.
    pub fn max_concurrency(&self) -> u32 {
        self.state().queue.max_concurrency()
    }

    /// The limit as it is known here, and how many shards of this process wait to identify.
    pub fn limit(&self) -> Limit {
        let state = self.state();
        let (waiting, through) = (state.queue.waiting(), state.through.len());
        Limit {
            remaining: state.queue.remaining_at(Instant::now()),
            total: state.queue.total(),
            resets_at: state.queue.resets_at(),
            max_concurrency: state.queue.max_concurrency(),
            waiting: waiting + through,
        }
    }

    /// Takes the limit as Discord just told it; `asked` is when the question was sent.
    pub fn refresh(&self, limit: SessionStartLimit, asked: Instant) {
        self.state().queue.refresh(limit, asked, Instant::now());
        self.shared.changed.notify_one();
    }

    /// Lets shards through until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut told_until = None;
        loop {
            let now = Instant::now();
            let deadline = {
                let mut state = self.state();
                while let Some(shard) = state.queue.poll(now) {
                    let granted = Granted { bucket: state.queue.bucket(shard), at: now };
                    if let Some((ticket, waiter)) = state.waiting.get_mut(&shard).and_then(VecDeque::pop_front) {
                        state.through.insert(shard, ticket);
                        // A waiter that has gone wasted its turn: Discord may have seen the identify.
                        let _ = waiter.send(granted);
                    }
                    state.ask_for_the_next(shard);
                }
                if state.queue.waiting() > 0 && state.queue.is_in_doubt(now) {
                    self.shared.limit_doubted.notify_one();
                }
                let exhausted = state.queue.exhausted_until(now).filter(|_| state.queue.waiting() > 0);
                if exhausted != told_until {
                    told_until = exhausted;
                    if let Some(until) = exhausted {
                        let wait = until - now;
                        warn!(
                            shards = state.queue.waiting(),
                            until = %humane_time(wait),
                            "no session may be started any more (session start limit): shards that must identify wait"
                        );
                    }
                }
                state.queue.deadline()
            };
            let sleep = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.shared.changed.notified() => {}
                () = sleep => {}
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Others may wait for the same shard.
    fn ask_for_the_next(&mut self, shard: ShardId) {
        match self.waiting.get(&shard) {
            Some(waiting) if waiting.is_empty() => _ = self.waiting.remove(&shard),
            Some(_) => self.queue.ask(shard),
            None => {}
        }
    }
}

/// The wall-clock moment `wait` from now, for people.
fn humane_time(wait: Duration) -> String {
    let at = crate::clock::unix_millis() / 1000 + wait.as_secs();
    let (hours, minutes, seconds) = (at / 3600 % 24, at / 60 % 60, at % 60);
    let minutes_left = wait.as_secs().div_ceil(60);
    format!("{hours:02}:{minutes:02}:{seconds:02} UTC, in {} h {} min", minutes_left / 60, minutes_left % 60)
}

/// A shard's place in the queue and at the turnstile, given up when it is dropped.
struct Place<'a> {
    gate: &'a IdentifyGate,
    shard: ShardId,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if state.through.get(&self.shard) == Some(&self.ticket) {
            state.through.remove(&self.shard);
            state.queue.withdraw(self.shard);
        } else if let Some(waiting) = state.waiting.get_mut(&self.shard) {
            waiting.retain(|(ticket, _)| *ticket != self.ticket);
            state.queue.unask(self.shard);
        }
        state.ask_for_the_next(self.shard);
        drop(state);
        self.gate.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::super::identify_queue::PACE;
    use super::super::turnstile::Entering;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limit(remaining: u32, max_concurrency: u32) -> SessionStartLimit {
        SessionStartLimit { total: 1000, remaining, reset_after: 3_600_000, max_concurrency }
    }

    /// Lets through when it is told to, and remembers who came.
    #[derive(Debug, Default)]
    struct Told {
        go: Notify,
        came: Mutex<Vec<(u32, u32)>>,
    }

    impl Turnstile for Told {
        fn enter(&self, bucket: u32, shard: ShardId) -> Entering<'_> {
            self.came.lock().expect("no panic").push((bucket, shard.get()));
            Box::pin(async {
                self.go.notified().await;
                Pass::until(Instant::now() + VALID)
            })
        }
    }

    /// Runs the gate for as long as the story takes.
    async fn with<T>(gate: &IdentifyGate, story: impl Future<Output = T>) -> T {
        tokio::select! {
            () = gate.run(CancellationToken::new()) => unreachable!("it is not stopped"),
            told = story => told,
        }
    }

    #[tokio::test]
    async fn without_other_processes_a_grant_is_good_for_half_a_second() {
        let gate = IdentifyGate::new(IdentifyQueue::new(limit(10, 2), PACE, Instant::now()));
        let story = async { (gate.turn(ShardId::new(0)).await, gate.turn(ShardId::new(1)).await) };
        let (first, second) = with(&gate, story).await;
        assert!(first.spend(Instant::now()));
        assert!(!second.spend(Instant::now() + VALID), "the next one's grant may be due");
    }

    #[test]
    fn after_the_reset_all_are_there_though_nobody_identifies() {
        let told = |reset_after| SessionStartLimit { reset_after, ..limit(3, 1) };
        let gate = |reset_after| IdentifyGate::new(IdentifyQueue::new(told(reset_after), PACE, Instant::now()));
        assert_eq!((gate(3_600_000).limit().remaining, gate(0).limit().remaining), (3, 1000));
    }

    #[tokio::test]
    async fn several_may_wait_for_a_shard_and_each_has_its_turn() {
        let gate = IdentifyGate::new(IdentifyQueue::new(limit(10, 1), Duration::from_millis(1), Instant::now()));
        let shard = ShardId::new(0);
        let given_up = gate.ask(shard);
        let story = async {
            let turns = tokio::join!(gate.turn(shard), gate.turn(shard), async { drop(given_up) });
            _ = (turns.0.spend(Instant::now()), turns.1.spend(Instant::now()));
        };
        with(&gate, story).await;
        let state = gate.state();
        assert!(state.waiting.is_empty() && state.through.is_empty() && state.queue.waiting() == 0, "{state:?}");
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_place_to_who_waits_for_the_same_shard_at_the_turnstile() {
        let turnstile = Arc::new(Told::default());
        let (now, pace) = (Instant::now(), Duration::from_millis(1));
        let gate = IdentifyGate::shared(IdentifyQueue::new(limit(100, 1), pace, now), now, turnstile.clone());
        let came = || turnstile.came.lock().expect("no panic").len();
        let shard = ShardId::new(0);
        let story = async {
            let first = gate.turn(shard);
            let others = async {
                while came() == 0 {
                    tokio::task::yield_now().await;
                }
                drop(gate.ask(shard));
                let second = gate.ask(shard);
                assert_eq!(gate.state().queue.poll(Instant::now() + SECOND), None, "the first has the bucket still");
                turnstile.go.notify_one();
                second.1.await.expect("let through").bucket
            };
            tokio::join!(first, others)
        };
        assert_eq!(with(&gate, story).await.1, 0);
        assert_eq!(came(), 1);
    }

    #[tokio::test]
    async fn with_other_processes_the_turnstile_lets_through_and_the_limit_is_asked_for() {
        let turnstile = Arc::new(Told::default());
        let now = Instant::now();
        let gate = IdentifyGate::shared(IdentifyQueue::new(limit(100, 4), PACE, now), now, turnstile.clone());
        turnstile.go.notify_one();
        with(&gate, async { assert!(gate.turn(ShardId::new(6)).await.spend(Instant::now())) }).await;
        assert_eq!(*turnstile.came.lock().expect("no panic"), [(2, 6)]);
        gate.limit_doubted().await;
    }

    #[tokio::test]
    async fn of_each_bucket_one_shard_is_at_the_turnstile_and_the_lowest_goes_next() {
        let turnstile = Arc::new(Told::default());
        let (now, pace) = (Instant::now(), Duration::from_millis(1));
        let gate = IdentifyGate::shared(IdentifyQueue::new(limit(u32::MAX, 1), pace, now), now, turnstile.clone());
        let came =
            || -> Vec<u32> { turnstile.came.lock().expect("no panic").iter().map(|&(_, shard)| shard).collect() };
        let comes = async |expected: &[u32]| {
            while came().len() < expected.len() {
                tokio::task::yield_now().await;
            }
            // The pace would let the next one go.
            tokio::time::sleep(5 * pace).await;
            assert_eq!(came(), expected);
        };
        let asks = |shard| {
            let gate = gate.clone();
            tokio::spawn(async move { gate.turn(ShardId::new(shard)).await })
        };
        let shards = [3, 2, 1, 0].map(asks);
        while gate.state().queue.waiting() < shards.len() {
            tokio::task::yield_now().await;
        }
        let [_, two, one, zero] = shards;
        let story = async {
            comes(&[0]).await;
            turnstile.go.notify_one();
            assert!(zero.await.expect("a pass").spend(Instant::now()));
            comes(&[0, 1]).await;
            // One that no longer waits makes room as well, there and before.
            two.abort();
            one.abort();
            comes(&[0, 1, 3]).await;
        };
        with(&gate, story).await;
    }

    #[tokio::test]
    async fn a_turn_of_a_bucket_that_is_none_any_more_is_given_back() {
        let turnstile = Arc::new(Told::default());
        let (now, pace) = (Instant::now(), Duration::from_millis(10));
        let gate = IdentifyGate::shared(IdentifyQueue::new(limit(100_000, 4), pace, now), now, turnstile.clone());
        let came = || turnstile.came.lock().expect("no panic").clone();
        let story = async {
            let turn = gate.turn(ShardId::new(6));
            let change = async {
                while came().is_empty() {
                    tokio::task::yield_now().await;
                }
                gate.refresh(limit(100_000, 8), Instant::now());
                turnstile.go.notify_one();
                while came().len() < 2 {
                    tokio::task::yield_now().await;
                }
                turnstile.go.notify_one();
            };
            tokio::join!(turn, change).0
        };
        assert!(with(&gate, story).await.spend(Instant::now()));
        assert_eq!(came(), [(2, 6), (6, 6)]);
    }
}
