//! How full the queues are, for the page and the metrics: asked of RabbitMQ slowly, and only while somebody wants to know.
//!
//! One passive declare after the other on a channel of their own; a round begins every 15 s at most. A queue that is not there
//! closes the channel, so it is looked for seldom.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::amqp::admin::Admin;
use crate::amqp::depths::{Depth, Depths};
use crate::amqp::topology::queue_name;
use crate::seen::Reporter;
use crate::seen::report::{Fate, QueueReport, Report};
use crate::seen::whole::Whole;

/// Between the beginnings of two rounds.
const EVERY: Duration = Duration::from_secs(15);

/// As long as somebody asked in this time, queues are looked at. Prometheus asks once a minute, unless told otherwise.
const WANTED: Duration = Duration::from_secs(90);

/// A queue that is not there is looked for again in the next round, for it may be about to be declared, then after twice as
/// many, and so on, up to so many rounds: two hours. RabbitMQ's log has a line of each.
const SELDOM: u32 = 480;

/// After so many rounds in vain nothing is known any more.
const MOST_FAILURES: u32 = 2;

/// So many are looked at: a round of them takes well under a second.
const MOST: usize = 200;
/// Of these, so many are of shards' commands.
const MOST_SHARDS: usize = 64;

/// Between two questions: leases are kept on the same connection.
const PAUSE: Duration = Duration::from_millis(2);

/// What is known of queues. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct QueueBook(Arc<Book>);

#[derive(Debug, Default)]
struct Book {
    entries: Mutex<Entries>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    asked: Option<Instant>,
    /// What was seen of all processes last, where somebody looks at them.
    looked: Option<Looked>,
    /// Somebody looks who did not before: what was not there is looked for at once.
    anew: bool,
    latest: Vec<QueueReport>,
    /// Rounds in vain since.
    failures: u32,
}

#[derive(Debug)]
struct Looked {
    at: Instant,
    /// What any of them publishes.
    events: BTreeSet<String>,
}

/// Looks at queues: to be run by whoever owns the task.
pub struct QueueWatch {
    book: QueueBook,
    group: String,
    /// Those that there are by configuration.
    configured: Vec<Named>,
    reporter: Arc<dyn Reporter>,
    depths: Depths,
    absent: Absent,
}

/// A queue that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// The event whose default queue it is.
    pub event: Option<String>,
}

/// Queues that are not there.
#[derive(Debug, Default)]
struct Absent(HashMap<String, Away>);

/// In so many rounds it is looked for again, the last time after so many.
#[derive(Clone, Copy, Debug, Default)]
struct Away {
    rounds: u32,
    of: u32,
}

impl QueueBook {
    /// Somebody wants to know: queues are looked at from now on, for a while.
    pub fn note_asked(&self) {
        lock(&self.0.entries).asked = Some(Instant::now());
        self.0.wanted.notify_one();
    }

    /// The same by who looks at all processes: what these publish is looked at, too.
    pub fn note_looked(&self, whole: &Whole) {
        let events: BTreeSet<&str> = whole.processes.iter().flat_map(|process| published(&process.report)).collect();
        let events = events.into_iter().map(str::to_owned).collect();
        {
            let mut entries = lock(&self.0.entries);
            entries.anew |= !entries.is_looked_at();
            entries.looked = Some(Looked { at: Instant::now(), events });
        }
        self.note_asked();
    }

    /// What was found last; nothing, if nobody asked for a while.
    pub fn latest(&self) -> Vec<QueueReport> {
        lock(&self.0.entries).latest.clone()
    }

    fn is_wanted(&self) -> bool {
        lock(&self.0.entries).asked.is_some_and(|asked| asked.elapsed() < WANTED)
    }

    /// What all processes publish, for as long as somebody looks at them. Metrics that are scraped do not prolong it.
    fn looked_at(&self) -> Option<BTreeSet<String>> {
        let mut entries = lock(&self.0.entries);
        if !entries.is_looked_at() {
            entries.looked = None;
        }
        entries.looked.as_ref().map(|looked| looked.events.clone())
    }

    /// Whether somebody looks who did not before; asked once.
    fn is_anew(&self) -> bool {
        std::mem::take(&mut lock(&self.0.entries).anew)
    }

    fn set(&self, latest: Vec<QueueReport>) {
        let mut entries = lock(&self.0.entries);
        (entries.latest, entries.failures) = (latest, 0);
    }

    /// RabbitMQ did not answer.
    fn failed(&self) {
        let mut entries = lock(&self.0.entries);
        entries.failures = entries.failures.saturating_add(1);
        if entries.failures >= MOST_FAILURES {
            entries.latest.clear();
        }
    }

    /// What was true long ago is not shown as if it were so now.
    fn clear(&self) {
        *lock(&self.0.entries) = Entries::default();
    }
}

impl Entries {
    fn is_looked_at(&self) -> bool {
        self.looked.as_ref().is_some_and(|looked| looked.at.elapsed() < WANTED)
    }
}

/// The events that a process publishes. Of others it is known that nobody has a queue, or wants them: to ask for that would only
/// fill RabbitMQ's log.
fn published(report: &Report) -> impl Iterator<Item = &str> {
    report.events.iter().filter(|event| event.fate == Fate::Published).map(|event| event.name.as_str())
}

impl QueueWatch {
    /// Looks at the queues of a group over this connection: those of the shards that `reporter` tells of, those of events, of all
    /// processes where somebody looks at them, and those that there are by configuration.
    pub fn new(
        book: QueueBook,
        consumption: Admin,
        group: &str,
        configured: Vec<Named>,
        reporter: Arc<dyn Reporter>,
    ) -> Self {
        let (depths, absent) = (Depths::new(consumption), Absent::default());
        Self { book, group: group.to_owned(), configured, reporter, depths, absent }
    }

    /// Looks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.look()).await;
    }

    async fn look(&mut self) {
        let book = self.book.clone();
        loop {
            book.0.wanted.notified().await;
            while book.is_wanted() {
                let began = Instant::now();
                // The connection has a back-off of its own, and a round its time.
                match timeout(EVERY, self.round()).await.unwrap_or_default() {
                    Some(latest) => book.set(latest),
                    None => book.failed(),
                }
                sleep(EVERY.saturating_sub(began.elapsed())).await;
            }
            book.clear();
            self.depths.rest();
        }
    }

    fn named(&self) -> Vec<Named> {
        let report = self.reporter.report();
        let events = events(&report, self.book.looked_at());
        let shards = report.shards.iter().map(|shard| shard.id);
        named(&self.group, &self.configured, events.iter().map(String::as_str), shards)
    }

    /// Looks at all; nothing, if RabbitMQ does not answer.
    async fn round(&mut self) -> Option<Vec<QueueReport>> {
        if self.book.is_anew() {
            self.absent = Absent::default();
        }
        let named = self.named();
        let mut latest = Vec::new();
        for Named { name, event } in self.absent.without(named) {
            match self.depths.of(&name).await {
                Ok(Some(Depth { messages, consumers })) => {
                    self.absent.found(&name);
                    latest.push(QueueReport { name, event, messages: messages.into(), consumers: consumers.into() });
                }
                Ok(None) => self.absent.missed(name),
                Err(error) if error.is_passing() => {
                    debug!(%error, "queues could not be looked at");
                    return None;
                }
                // A right is missing for this one, say.
                Err(error) => {
                    debug!(%error, queue = %name, "a queue cannot be looked at");
                    self.absent.missed(name);
                }
            }
            sleep(PAUSE).await;
        }
        Some(latest)
    }
}

impl Absent {
    fn missed(&mut self, queue: String) {
        let away = self.0.entry(queue).or_default();
        away.of = (away.of * 2).clamp(1, SELDOM);
        away.rounds = away.of;
    }

    fn found(&mut self, queue: &str) {
        self.0.remove(queue);
    }

    /// Those that are to be looked at in this round.
    fn without(&mut self, named: Vec<Named>) -> Vec<Named> {
        // Bounded by what is asked for now.
        let names: BTreeSet<&str> = named.iter().map(|queue| &*queue.name).collect();
        self.0.retain(|name, _| names.contains(&**name));
        self.0.values_mut().for_each(|away| away.rounds = away.rounds.saturating_sub(1));
        named.into_iter().filter(|queue| self.0.get(&queue.name).is_none_or(|away| away.rounds == 0)).collect()
    }
}

/// The events whose queues are to be looked at. All processes have the same: for metrics, the one that runs shard 0 looks at
/// them. A queue that is not there costs a line of RabbitMQ's log.
fn events(report: &Report, looked_at: Option<BTreeSet<String>>) -> BTreeSet<String> {
    let ours = looked_at.is_some() || report.shards.iter().any(|shard| shard.id == 0);
    let own = published(report).filter(|_| ours).map(str::to_owned);
    own.chain(looked_at.unwrap_or_default()).collect()
}

/// What is to be looked at: those that are configured, of events, of some shards.
fn named<'a>(
    group: &str,
    configured: &[Named],
    events: impl Iterator<Item = &'a str>,
    shards: impl Iterator<Item = u32>,
) -> Vec<Named> {
    let events = events.map(|event| Named { name: queue_name(group, None, event), event: Some(event.to_owned()) });
    let shards = shards.take(MOST_SHARDS).map(|shard| Named { name: format!("{group}:{shard}"), event: None });
    let mut known = BTreeSet::new();
    let all = configured.iter().cloned().chain(events).chain(shards);
    // Longer names cannot be asked for.
    all.filter(|queue| queue.name.len() <= 255 && known.insert(queue.name.clone())).take(MOST).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::report::{EventReport, ShardReport};

    fn plain(name: &str) -> Named {
        Named { name: name.to_owned(), event: None }
    }

    fn event(name: &str) -> Named {
        Named { name: format!("g:{name}"), event: Some(name.to_owned()) }
    }

    #[test]
    fn queues_of_configuration_events_and_shards_are_looked_at_once() {
        let configured = [plain("g:SEND"), event("READY")];
        let found = named("g", &configured, ["MESSAGE_CREATE", "READY"].into_iter(), [3, 4].into_iter());
        assert_eq!(found, [plain("g:SEND"), event("READY"), event("MESSAGE_CREATE"), plain("g:3"), plain("g:4")]);
    }

    #[test]
    fn they_are_bounded() {
        let long = "X".repeat(254);
        let names: Vec<String> = (0..1000).map(|n| format!("E{n}")).chain([long]).collect();
        let events = || names.iter().map(String::as_str);
        assert_eq!(named("g", &[], events(), 0..1000).len(), MOST);
        assert_eq!(named("g", &[], events().rev().take(2), 0..1000).len(), 1 + MOST_SHARDS);
    }

    #[test]
    fn one_that_is_not_there_is_looked_for_more_and_more_seldom() {
        let mut absent = Absent::default();
        let named = || vec![plain("g:a"), plain("g:b")];
        let mut rounds = Vec::new();
        for round in 0..1500 {
            let looked_at = absent.without(named());
            if looked_at == named() {
                rounds.push(round);
                absent.missed("g:a".to_owned());
            } else {
                assert_eq!(looked_at, [plain("g:b")]);
            }
        }
        assert_eq!(rounds, [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 991, 1471]);
        absent.found("g:a");
        assert_eq!(absent.without(named()), named());
        absent.missed("g:a".to_owned());
        absent.without(Vec::new());
        assert!(absent.0.is_empty(), "nobody asks for it any more");
    }

    fn publishes(names: &[&str], shards: &[u32]) -> Report {
        let whole = crate::seen::simulated::whole(1, 4);
        let mut report = (*whole.processes[0].report).clone();
        let (shard, event) = (report.shards[0].clone(), report.events[0].clone());
        let of = |name: &&str| EventReport { name: (*name).to_owned(), fate: Fate::Published, ..event.clone() };
        report.events = names.iter().map(of).collect();
        report.events.push(EventReport { name: "NOT_WANTED".to_owned(), fate: Fate::NoQueue, ..event.clone() });
        report.shards = shards.iter().map(|&id| ShardReport { id, ..shard.clone() }).collect();
        report
    }

    #[test]
    fn for_metrics_one_process_alone_looks_at_the_queues_of_events() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(events(&publishes(&["A"], &[0, 1]), None), set(&["A"]));
        assert_eq!(events(&publishes(&["A"], &[2, 3]), None), set(&[]));
        assert_eq!(events(&publishes(&["A"], &[2, 3]), Some(set(&["B"]))), set(&["A", "B"]));
    }

    #[test]
    fn what_is_known_is_forgotten_when_rabbitmq_does_not_answer() {
        let book = QueueBook::default();
        let found = || vec![QueueReport { name: "g:SEND".to_owned(), event: None, messages: 1, consumers: 1 }];
        book.set(found());
        book.failed();
        assert_eq!(book.latest(), found(), "it may have been busy");
        book.set(found());
        book.failed();
        assert_eq!(book.latest(), found());
        book.failed();
        assert_eq!(book.latest(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_page_saw_is_let_go_though_metrics_are_scraped() {
        let book = QueueBook::default();
        book.note_looked(&crate::seen::simulated::whole(2, 4));
        assert!(book.is_anew(), "somebody came");
        for _ in 0..9 {
            tokio::time::advance(WANTED / 10).await;
            book.note_looked(&crate::seen::simulated::whole(2, 4));
        }
        assert!(!book.is_anew(), "the same one");
        assert!(book.looked_at().is_some_and(|events| !events.is_empty()));
        for _ in 0..10 {
            tokio::time::advance(WANTED / 10).await;
            book.note_asked();
        }
        assert!(book.is_wanted());
        assert_eq!(book.looked_at(), None);
        assert!(lock(&book.0.entries).looked.is_none(), "nothing is kept of it");
        book.note_looked(&crate::seen::simulated::whole(2, 4));
        assert!(book.is_anew());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_while_without_a_question_nothing_is_wanted() {
        let book = QueueBook::default();
        assert!(!book.is_wanted());
        book.note_asked();
        assert!(book.is_wanted());
        tokio::time::advance(WANTED).await;
        assert!(!book.is_wanted());
    }
}
