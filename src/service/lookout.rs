//! How all processes of the group are, for as long as somebody looks: asked every other second, and put together.
//!
//! ```text
//! look() ── round, every 2 s ── our own report, from the Reporter
//!                            └─ all others', over the survey ── merge ── watch::Receiver<Arc<Whole>>
//! hear() ── what others ask: our report and samples, or 신경's clients
//! ```
//!
//! Nobody looks: nothing is sent, and nothing is kept for longer than a minute. Without RabbitMQ it is this process alone.
//! Nothing waits for long: who has not answered yet is shown as it was.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::queues::QueueBook;
use crate::amqp::survey::{Asked, Heard, Survey, Waiting};
use crate::clock::unix_millis;
use crate::cluster::node::NodeId;
use crate::http::{ClientsError, Lookout};
use crate::seen::Reporter;
use crate::seen::clients::{ClientsAnswer, ClientsQuestion, Nerve};
use crate::seen::merge::Merge;
use crate::seen::question::{Ask, Message, Question, Since, Told, ToldClients, Unreadable, VERSION};
use crate::seen::whole::Whole;

/// How often all are asked.
const EVERY: Duration = Duration::from_secs(2);

/// Who has not answered after this part of a round is shown as it was.
const WAIT: u32 = 4;

/// For so long after an answer another may be just behind it.
const SETTLE: Duration = Duration::from_millis(50);

/// At first, who answers late is shown before the next round: somebody has just opened the page.
const FIRST: Duration = Duration::from_secs(1);

/// How long answers about clients are waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// After so long without anybody who looks the history is forgotten, too.
const KEPT: Duration = Duration::from_secs(60);

/// So many questions are being answered at a time, and of them so many about clients, which takes longer; what comes beyond
/// that is passed over, and asked again.
const MOST_ANSWERS: usize = 32;
const MOST_CLIENTS: usize = 4;

/// What the `correlation_id`s of questions about clients begin with; those of reports are bare numbers.
const CLIENTS: &str = "clients-";

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Watch(Arc<Shared>);

struct Shared {
    node: NodeId,
    every: Duration,
    reporter: Arc<dyn Reporter>,
    queues: QueueBook,
    /// Set once it is known that they are served here.
    nerve: OnceLock<Arc<dyn Nerve>>,
    /// Set once there are connections to RabbitMQ.
    survey: OnceLock<Survey>,
    merge: Mutex<Merge>,
    whole: watch::Sender<Arc<Whole>>,
    /// Somebody began to look.
    looked: Notify,
    /// An answer was taken in.
    answered: Notify,
    /// Numbers questions.
    asked: AtomicU64,
    /// Who waits for clients.
    waiting: Mutex<HashMap<String, oneshot::Sender<ClientsAnswer>>>,
    unreadable: AtomicU64,
}

impl Watch {
    /// How the process `node` of this reporter is. Others are seen once it is [connected](Self::connect). As long as somebody
    /// looks, `queues` are.
    pub fn new(node: NodeId, reporter: Arc<dyn Reporter>, queues: QueueBook) -> Self {
        Self::in_rounds_of(EVERY, node, reporter, queues)
    }

    /// The same at another pace.
    pub fn in_rounds_of(every: Duration, node: NodeId, reporter: Arc<dyn Reporter>, queues: QueueBook) -> Self {
        let nobody = Whole::nobody(node.clone());
        Self(Arc::new(Shared {
            merge: Mutex::new(Merge::new(node.clone())),
            node,
            every,
            reporter,
            queues,
            nerve: OnceLock::new(),
            survey: OnceLock::new(),
            whole: watch::Sender::new(Arc::new(nobody)),
            looked: Notify::new(),
            answered: Notify::new(),
            asked: AtomicU64::new(0),
            waiting: Mutex::default(),
            unreadable: AtomicU64::new(0),
        }))
    }

    /// From now on others are asked by this, which must be the only one that ever is given. What it hears is to be given to
    /// [`hear`](Self::hear).
    pub fn connect(&self, survey: Survey) {
        let _ = self.0.survey.set(survey);
    }

    /// From now on this process answers about clients. The first that is given counts.
    pub fn serve_clients(&self, nerve: Arc<dyn Nerve>) {
        let _ = self.0.nerve.set(nerve);
    }

    /// How many messages of others could not be read.
    pub fn unreadable(&self) -> u64 {
        self.0.unreadable.load(Ordering::Relaxed)
    }

    /// Asks all as long as somebody looks, until `stop`: to be run by whoever owns the task.
    pub async fn run(self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.look_whenever_wanted()).await;
    }

    async fn look_whenever_wanted(&self) {
        loop {
            self.0.looked.notified().await;
            loop {
                self.look_around().await;
                lock(&self.0.merge).close();
                if timeout(KEPT, self.0.looked.notified()).await.is_err() {
                    break;
                }
            }
            if self.0.whole.is_closed() {
                *lock(&self.0.merge) = Merge::new(self.0.node.clone());
                self.0.whole.send_replace(Arc::new(Whole::nobody(self.0.node.clone())));
            }
        }
    }

    /// Round by round, until nobody looks.
    async fn look_around(&self) {
        let shared = &*self.0;
        let began = Instant::now();
        let mut rounds = interval(shared.every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting: Option<Waiting> = None;
        // One at most: it takes less than a round.
        let mut asking = FuturesUnordered::new();
        let mut show_at = None;
        // When who has not answered in this round is shown as it was.
        let mut settles = began;
        loop {
            tokio::select! {
                biased;
                () = shared.whole.closed() => return,
                _ = rounds.tick() => {
                    let since = self.begin();
                    settles = Instant::now();
                    if let Some(survey) = shared.survey.get() {
                        waiting.get_or_insert_with(|| survey.wait());
                        if asking.is_empty() {
                            asking.push(self.ask(survey, Ask::Report(since)));
                        }
                        settles += shared.every / WAIT;
                    }
                    show_at = Some(settles);
                }
                Some(is_asked) = asking.next() => {
                    if is_asked {
                        lock(&shared.merge).asked();
                    }
                }
                () = shared.answered.notified() => {
                    let soon = Instant::now() + SETTLE;
                    match show_at {
                        Some(at) if lock(&shared.merge).is_complete() => show_at = Some(soon.min(at)),
                        None if began.elapsed() < FIRST => show_at = Some(soon),
                        _ => {}
                    }
                }
                () = until(show_at) => {
                    let is_settled = Instant::now() >= settles;
                    if is_settled {
                        lock(&shared.merge).settle();
                    }
                    self.show();
                    // At first nobody knows how many will answer: the picture is whole only then.
                    show_at = (!is_settled && lock(&shared.merge).is_asking()).then_some(settles);
                }
            }
        }
    }

    /// Begins a round with our own report: what the others are to be asked.
    fn begin(&self) -> Since {
        let at = unix_millis();
        let mut merge = lock(&self.0.merge);
        let since = merge.begin(at);
        if self.0.survey.get().is_none() {
            merge.cannot_ask();
        }
        let own = self.own(merge.own_since());
        merge.take(own, at);
        since
    }

    fn own(&self, samples_after: u64) -> Told {
        let (report, samples) = (self.0.reporter.report(), self.0.reporter.samples(samples_after));
        Told { version: VERSION, report, samples_after, samples }
    }

    /// Whether it went out.
    async fn ask(&self, survey: &Survey, ask: Ask) -> bool {
        let number = self.0.asked.fetch_add(1, Ordering::Relaxed);
        self.ask_as(survey, &number.to_string(), ask).await
    }

    async fn ask_as(&self, survey: &Survey, correlation_id: &str, ask: Ask) -> bool {
        let question = Question { version: VERSION, node: self.0.node.clone(), ask };
        let asked = survey.ask(correlation_id, &question.to_json()).await;
        if let Err(error) = &asked {
            // The connection tells of itself, and the page that nobody answers.
            debug!(%error, "the other processes could not be asked");
        }
        asked.is_ok()
    }

    fn show(&self) {
        let whole = Arc::new(lock(&self.0.merge).whole(unix_millis()));
        self.0.queues.note_looked(&whole);
        self.0.whole.send_replace(whole);
    }

    /// Answers what others ask, and takes their answers in, until `stop` or until nothing is heard any more: to be run by
    /// whoever owns the task, beside the survey's driver.
    pub async fn hear(self, heard: mpsc::Receiver<Heard>, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.answer_and_take(heard)).await;
    }

    async fn answer_and_take(&self, mut heard: mpsc::Receiver<Heard>) {
        let clients = AtomicU64::new(0);
        let mut answering = FuturesUnordered::new();
        loop {
            let heard = tokio::select! {
                Some(()) = answering.next() => continue,
                heard = heard.recv() => heard,
            };
            match heard {
                Some(Heard::Answer { correlation_id, body }) => self.take(&correlation_id, &body),
                Some(Heard::Question(asked)) if answering.len() < MOST_ANSWERS => {
                    if let Some(question) = self.read(Question::read(&asked.body)).filter(|it| it.node != self.0.node) {
                        answering.push(self.answer(asked, question, &clients));
                    }
                }
                Some(Heard::Question(_)) => {}
                None => return,
            }
        }
    }

    async fn answer(&self, asked: Asked, question: Question, clients: &AtomicU64) {
        let body = match question.ask {
            Ask::Report(since) => self.own(since.after(&self.0.node)).to_json(),
            Ask::Clients(question) => {
                let Some(nerve) = self.0.nerve.get() else { return };
                let others = clients.fetch_add(1, Ordering::Relaxed);
                let answer = if others < MOST_CLIENTS as u64 {
                    timeout(PATIENCE, nerve.answer(question)).await.ok().flatten()
                } else {
                    None
                };
                clients.fetch_sub(1, Ordering::Relaxed);
                let Some(clients) = answer else { return };
                ToldClients { version: VERSION, clients }.to_json()
            }
            Ask::Unknown => return,
        };
        // Out of reach: there is nothing to be done, and who asked asks again.
        let answered = self.0.survey.get().expect("heard over it").answer(&asked, &body).await;
        if let Err(error) = answered {
            debug!(%error, "a question of another process was not answered");
        }
    }

    fn take(&self, correlation_id: &str, body: &[u8]) {
        if correlation_id.starts_with(CLIENTS) {
            // The first answer is as good as any.
            if let Some(waits) = lock(&self.0.waiting).remove(correlation_id)
                && let Some(told) = self.read(ToldClients::read(body))
            {
                let _ = waits.send(told.clients);
            }
        } else if let Some(told) = self.read(Told::read(body)).filter(|told| told.report.node != self.0.node) {
            lock(&self.0.merge).take(told, unix_millis());
            self.0.answered.notify_one();
        }
    }

    /// What is passed over is counted, and told once: an older or newer process may run for long.
    fn read<T>(&self, read: Result<T, Unreadable>) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(why) => {
                if self.0.unreadable.fetch_add(1, Ordering::Relaxed) == 0 {
                    warn!(%why, "a message of another process is passed over: is it of another version?");
                }
                None
            }
        }
    }

    async fn find_clients(&self, question: ClientsQuestion) -> Result<ClientsAnswer, ClientsError> {
        if let Some(nerve) = self.0.nerve.get()
            && let Ok(Some(answer)) = timeout(PATIENCE, nerve.answer(question.clone())).await
        {
            return Ok(answer);
        }
        let is_served = || lock(&self.0.merge).serves_singyeong();
        let Some(survey) = self.0.survey.get().filter(|_| is_served() != Some(false)) else {
            return Err(ClientsError::Off);
        };
        let _waiting = survey.wait();
        let correlation_id = format!("{CLIENTS}{}", self.0.asked.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        let _entry = Entry::new(self, &correlation_id, sender);
        let is_asked = AtomicBool::new(false);
        let asking = async {
            is_asked.store(self.ask_as(survey, &correlation_id, Ask::Clients(question)).await, Ordering::Relaxed);
            answer.await
        };
        match timeout(PATIENCE, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            // It reached all, and nobody had anything to say to it who is known to be able to.
            _ if is_asked.into_inner() && self.0.nerve.get().is_none() && is_served() != Some(true) => {
                Err(ClientsError::Off)
            }
            _ => Err(ClientsError::NoAnswer),
        }
    }
}

impl Lookout for Watch {
    fn look(&self) -> watch::Receiver<Arc<Whole>> {
        // Who looks first sees us at once, and nothing of the last time.
        if self.0.whole.is_closed() {
            let at = unix_millis();
            let mut merge = lock(&self.0.merge);
            let own = self.own(merge.own_since());
            merge.take(own, at);
            if self.0.survey.get().is_none() {
                merge.cannot_ask();
            }
            let whole = merge.whole(at);
            self.0.whole.send_replace(Arc::new(whole));
        }
        let mut receiver = self.0.whole.subscribe();
        receiver.mark_changed();
        self.0.looked.notify_one();
        receiver
    }

    fn clients(&self, question: ClientsQuestion) -> BoxFuture<'static, Result<ClientsAnswer, ClientsError>> {
        let watch = self.clone();
        Box::pin(async move { watch.find_clients(question).await })
    }
}

/// Who waits for clients is forgotten with this.
struct Entry<'a>(&'a Watch, &'a str);

impl<'a> Entry<'a> {
    fn new(watch: &'a Watch, correlation_id: &'a str, sender: oneshot::Sender<ClientsAnswer>) -> Self {
        lock(&watch.0.waiting).insert(correlation_id.to_owned(), sender);
        Self(watch, correlation_id)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        lock(&self.0.0.waiting).remove(self.1);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("node", &self.0.node).finish_non_exhaustive()
    }
}

/// Never, without a deadline.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
