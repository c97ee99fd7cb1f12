//! A shard's driver: owns the connection, carries the session's actions out, and decides what comes first.
//!
//! ```text
//! socket ─► link ─► intake (websocket, inflate, envelope, session) ─► broker
//!             ▲                          │
//!             └──── outgoing ◄── session's actions, commands      store ◄── committed number
//! ```
//!
//! One task a shard. It never waits for the broker: while the window is full it does not read, and goes on heartbeating; if
//! that lasts, it closes the connection, keeps the session, and resumes when there is room (spec/discord.md, "Backpressure").

mod intake;
mod link;
mod orders;
mod outgoing;
mod parting;
pub mod status;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};
use url::Url;

use self::intake::Intake;
pub use self::intake::Scratch;
use self::link::{Link, LinkEvent, Open};
pub use self::orders::Orders;
use self::status::guilds::Guilds;
use self::status::{Now, Status};
use super::compression::{Compression, Encoding};
use super::connect;
use super::envelope;
use super::gateway::Gateway;
use super::identify_gate::IdentifyGate;
use super::ids::{Seq, SessionId, Shard};
use super::session::{Action, CommandWait, End, Session, State};
use super::turnstile::Pass;
use crate::broker::{Broker, Wait};
use crate::cluster::fence::Fence;
use crate::ledger::Ledger;
use crate::session_store::{SessionStore, StoreError, StoredSession};
use crate::tls;

/// How long a shard keeps its connection without reading. Discord buffers for it meanwhile, and how much is not known.
const PAUSE_GRACE: Duration = Duration::from_secs(30);

/// How often the session is stored while its committed number grows, beside the heartbeats: what is committed and not
/// stored comes twice after a crash.
const STORE_INTERVAL: Duration = Duration::from_secs(10);

/// A new session is stored with its first number at 0. When that number is confirmed is looked at after this.
const STORE_SOON: Duration = Duration::from_millis(500);

/// At shutdown, how long the broker has for the last confirms, and the store for the last record. With the goodbyes after
/// them everything is over in less than 5 s.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
const LAST_STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// What shards of a process share.
#[derive(Clone)]
pub struct Shared {
    /// Where events go.
    pub broker: Arc<dyn Broker>,
    /// Where sessions outlive the process.
    pub store: Arc<dyn SessionStore>,
    /// While it is closed, no session is stored: another process may have the shard, and its record would be overwritten.
    pub fence: Fence,
    /// Whose turn it is to identify.
    pub gate: IdentifyGate,
    /// Where the gateway is.
    pub gateway: Arc<Gateway>,
    /// For `wss`.
    pub tls: Arc<tls::Lazy>,
    /// The transport compression.
    pub compression: Compression,
    /// Buffers in use only while bytes are taken in.
    pub scratch: Arc<Mutex<Scratch>>,
}

/// A packet that a worker wants sent, checked by [`super::command::check`].
#[derive(Debug)]
pub struct Command {
    /// The packet as it is to be sent, in the connection's encoding.
    pub packet: Vec<u8>,
    /// Told once it is written to Discord's socket; dropped when the shard ends before that.
    pub written: oneshot::Sender<()>,
}

/// From where a session is taken up; by default, a new one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beginning {
    /// The committed number.
    pub committed: Seq,
    /// How many guilds were there at that, if it is known.
    pub guilds: Option<u32>,
}

impl Beginning {
    /// From what was stored of it, if anything was.
    pub fn of(stored: Option<&StoredSession>) -> Self {
        stored.map_or_else(Self::default, |stored| Self { committed: stored.sequence, guilds: stored.guilds })
    }
}

/// A shard and all it needs to run.
pub struct Driver {
    shard: Shard,
    intake: Intake,
    shared: Shared,
    status: Arc<Status>,
    /// None once nobody can send any more.
    commands: Option<mpsc::Receiver<Command>>,
    link: Link,
    /// Connections that are being closed; there is one, unless Discord drops us by the second.
    parting: VecDeque<Pin<Box<dyn Future<Output = ()> + Send>>>,
    turn: Option<Pin<Box<dyn Future<Output = Pass> + Send>>>,
    saving: Option<Saving>,
    /// What the store holds, as far as we know.
    stored: Option<(SessionId, Seq)>,
    /// The session is to be stored once the saving under way is done.
    save_again: bool,
    store_at: Option<Instant>,
    store_is_down: bool,
    /// The wait for the fence: meanwhile no connection is begun.
    fenced: Option<Wait<'static>>,
    /// Since when the window is full, and the wait for room.
    paused: Option<(Instant, Wait<'static>)>,
    command: Option<Command>,
    command_at: Option<Instant>,
    /// Whether `command` was counted as one that had to wait.
    command_waited: bool,
    /// The command that is on its way out, and the mark at which it is out.
    sending: Option<(u64, Command)>,
    end: Option<End>,
    /// Another process has the shard: nothing of it is ours to store.
    abandoned: bool,
}

struct Saving {
    session: SessionId,
    seq: Seq,
    done: Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>,
}

/// What a driver waited for.
enum Happened {
    Abandon,
    Stop,
    Due,
    Fence,
    Room,
    Turn(Pass),
    Saved(Result<(), StoreError>),
    Command(Option<Command>),
    Parted,
    Link(LinkEvent),
}

impl Driver {
    /// A driver for a session.
    pub fn new(
        session: Session,
        begins: Beginning,
        shared: Shared,
        status: Arc<Status>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let shard = status.shard();
        status.set_guilds(begins.guilds);
        let intake = Intake {
            shard,
            session,
            ledger: Ledger::new(begins.committed),
            notice: None,
            broker: shared.broker.clone(),
            guilds: Guilds::stored(begins.guilds),
            status: status.clone(),
            actions: VecDeque::new(),
        };
        Self {
            shard,
            intake,
            shared,
            status,
            commands: Some(commands),
            link: Link::Down,
            parting: VecDeque::new(),
            turn: None,
            saving: None,
            stored: None,
            save_again: false,
            store_at: None,
            store_is_down: false,
            fenced: None,
            paused: None,
            command: None,
            command_at: None,
            command_waited: false,
            sending: None,
            end: None,
            abandoned: false,
        }
    }

    /// Runs the shard until it is ordered to end, or until Discord refuses it for good.
    pub async fn run(mut self, orders: Orders) -> End {
        let (abandoned, stopped) = (orders.abandoned(), orders.stopped());
        tokio::pin!(abandoned, stopped);
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut armed: Option<Instant> = None;
        loop {
            self.carry_out();
            if let Some(end) = self.end.take() {
                if end != End::ShutDown {
                    // As at a stop: a start with what Discord now wants may take the session up again.
                    self.stop().await;
                }
                self.see_off().await;
                return end;
            }
            let deadline = self.deadline();
            if deadline != armed {
                armed = deadline;
                if let Some(deadline) = deadline {
                    timer.as_mut().reset(deadline.into());
                }
            }
            // Cancel safe, all of it: what is dropped here is only the waiting. Top to bottom: a flood must neither hold
            // up a stop nor silence a heartbeat.
            let happened = {
                let Self {
                    link,
                    intake,
                    shared,
                    parting,
                    turn,
                    saving,
                    fenced,
                    paused,
                    command,
                    commands,
                    sending,
                    ..
                } = &mut self;
                let reading = paused.is_none();
                let takes_commands =
                    command.is_none() && sending.is_none() && intake.session.state() == State::Connected;
                tokio::select! {
                    biased;
                    () = &mut abandoned => Happened::Abandon,
                    () = &mut stopped => Happened::Stop,
                    () = &mut timer, if armed.is_some() => Happened::Due,
                    () = of(fenced.as_mut()) => Happened::Fence,
                    () = of(paused.as_mut().map(|(_, room)| room)) => Happened::Room,
                    pass = of(turn.as_mut()) => Happened::Turn(pass),
                    result = of(saving.as_mut().map(|saving| &mut saving.done)) => Happened::Saved(result),
                    () = of(parting.front_mut()) => Happened::Parted,
                    command = next_command(commands), if takes_commands => Happened::Command(command),
                    event = poll_fn(|cx| {
                        let mut scratch = shared.scratch.lock().unwrap_or_else(PoisonError::into_inner);
                        link.poll(cx, reading, intake, &mut scratch)
                    }) => Happened::Link(event),
                }
            };
            match happened {
                Happened::Abandon => {
                    warn!("the lease is lost: what was not confirmed is left to whoever resumes the session");
                    self.abandon();
                    self.intake.session.shut_down(Instant::now());
                }
                Happened::Stop => {
                    // While the last confirms are awaited, the lease may be lost after all.
                    tokio::select! {
                        biased;
                        () = &mut abandoned => {}
                        () = self.stop() => {}
                    }
                    // Whoever runs the shard next begins from what is stored: nothing of it may come out of here after that.
                    self.abandon();
                    self.intake.session.shut_down(Instant::now());
                }
                Happened::Due => {
                    armed = None;
                    self.due(Instant::now());
                }
                Happened::Fence => {
                    self.fenced = None;
                    self.intake.session.wake(Instant::now());
                    self.show();
                }
                Happened::Room => self.resume_reading(Instant::now()),
                Happened::Turn(pass) => {
                    self.turn = None;
                    let now = Instant::now();
                    if pass.spend(now) {
                        debug!("identifying");
                        self.intake.session.identify_granted(now);
                    } else {
                        debug!("the turn to identify came too late, asking again");
                        self.ask_turn();
                    }
                }
                Happened::Saved(result) => self.saved(result),
                Happened::Parted => {
                    self.parting.pop_front();
                }
                Happened::Command(Some(command)) => {
                    self.command = Some(command);
                    self.try_command(Instant::now());
                }
                Happened::Command(None) => self.commands = None,
                Happened::Link(event) => {
                    let in_a_flood = matches!(event, LinkEvent::Taken { more: true });
                    self.link_event(event);
                    if in_a_flood {
                        // The publisher's turn, and the other shards': one in a flood must not fill the window alone.
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let grace = self.paused.as_ref().map(|(since, _)| *since + PAUSE_GRACE);
        let suspended = self.intake.session.state() == State::Suspended;
        [self.intake.session.deadline(), self.store_at, self.command_at, grace.filter(|_| !suspended)]
            .into_iter()
            .flatten()
            .min()
    }

    fn due(&mut self, now: Instant) {
        self.intake.session.handle_timeout(now);
        if self.store_at.is_some_and(|at| at <= now) {
            self.store_at = None;
            self.store(now);
        }
        if self.command_at.is_some_and(|at| at <= now) {
            self.command_at = None;
            self.try_command(now);
        }
        if let Some((since, _)) = &self.paused
            && *since + PAUSE_GRACE <= now
            && self.intake.session.state() != State::Suspended
        {
            warn!(
                session = self.intake.session.session_id().map(SessionId::as_str),
                broker = %self.shared.broker.state(),
                "the broker takes no events; the connection is closed, and the session resumed when it does"
            );
            // Where the connection was lost meanwhile, its end is counted.
            let is_open = matches!(self.link, Link::Open(_));
            self.status.disconnected("closed by Optic: the broker takes no events".to_owned(), is_open);
            self.intake.session.suspend(now);
        }
    }

    // ---- the link ----

    fn link_event(&mut self, event: LinkEvent) {
        let now = Instant::now();
        match event {
            LinkEvent::Opened(Ok(opened)) => {
                self.link = Link::Open(Box::new(Open::new(opened, self.shared.compression)));
                self.intake.session.connected(now);
            }
            LinkEvent::Opened(Err(error)) => {
                self.link = Link::Down;
                warn!(%error, "no connection to Discord");
                self.shared.gateway.doubt();
                self.intake.session.connect_failed(now);
            }
            LinkEvent::Taken { .. } => {
                if !self.shared.broker.has_room() && self.paused.is_none() {
                    self.pause(now);
                }
            }
            LinkEvent::Written => self.command_written(),
            LinkEvent::Lost(error) => {
                debug!(%error, "the connection is gone");
                self.drop_link();
                self.intake.session.closed(None, now);
            }
        }
    }

    fn drop_link(&mut self) {
        self.link = Link::Down;
        // A command that was not all written is sent again on the next connection: better twice than never.
        if let Some((_, command)) = self.sending.take() {
            self.command = Some(command);
        }
    }

    fn pause(&mut self, now: Instant) {
        let broker = self.shared.broker.clone();
        debug!(broker = %broker.state(), "the broker takes no events for now: not reading");
        self.paused = Some((now, Box::pin(async move { broker.room().await })));
        self.intake.session.reading_paused(true, now);
        self.show();
    }

    fn resume_reading(&mut self, now: Instant) {
        self.paused = None;
        self.intake.session.reading_paused(false, now);
        self.intake.session.wake(now);
        self.show();
    }

    // ---- the session's actions ----

    fn carry_out(&mut self) {
        let mut any = false;
        while let Some(action) = self.intake.poll_action() {
            any = true;
            match action {
                Action::Connect { url, resume } => self.connect(&url, resume),
                Action::Send(packet) => {
                    if let Link::Open(open) = &mut self.link {
                        let encoding = self.intake.session.encoding();
                        open.out.packet(encoding, &packet);
                        count_sent(&self.status, encoding, &packet);
                    }
                }
                Action::AskIdentify => self.ask_turn(),
                Action::WithdrawIdentify => self.turn = None,
                Action::Close { code } => self.close(code),
                Action::Store => self.store(Instant::now()),
                Action::Started { session, resume_url, .. } => info!(%session, resume_url, "session started"),
                Action::Resumed { session } => {
                    self.status.resumed();
                    info!(%session, "session resumed");
                }
                Action::Disconnected { cause, until, resume } => {
                    self.status.disconnected(cause.to_string(), cause.was_open());
                    self.intake.session.set_gateway(self.shared.gateway.url());
                    self.drop_link();
                    let again_in = until.saturating_duration_since(Instant::now());
                    // As it was last shown: the session itself may have forgotten the one that is lost.
                    let session = self.status.now().session;
                    info!(session = session.as_ref().map(SessionId::as_str), reason = %cause, ?again_in, resume, "disconnected");
                }
                Action::Ended(end) => {
                    if end != End::ShutDown {
                        self.status.disconnected(end.to_string(), true);
                    }
                    self.end = Some(end);
                }
            }
        }
        if any {
            self.show();
            if self.command.is_some() {
                self.try_command(Instant::now());
            }
        }
    }

    fn ask_turn(&mut self) {
        debug!("waiting for the turn to identify");
        let (gate, shard) = (self.shared.gate.clone(), self.shard.id());
        self.turn = Some(Box::pin(async move { gate.turn(shard).await }));
    }

    fn connect(&mut self, url: &str, resume: bool) {
        let now = Instant::now();
        if !self.shared.fence.is_open(now) {
            // Another process may have the session, and a resume would take it away from there. Connections that stand go on.
            info!("no connection to Discord is begun while the lease is in doubt");
            let fence = self.shared.fence.clone();
            self.fenced = Some(Box::pin(async move { fence.opened().await }));
            return self.intake.session.suspend(now);
        }
        match Url::parse(url) {
            Ok(url) => {
                debug!(host = url.host_str(), resume, "connecting");
                let tls = self.shared.tls.clone();
                self.link = Link::Opening(Box::pin(async move { connect::open(&url, &tls).await }));
            }
            Err(error) => {
                warn!(%error, url, "the gateway's address is unusable");
                self.intake.session.connect_failed(Instant::now());
            }
        }
    }

    fn close(&mut self, code: u16) {
        let link = std::mem::take(&mut self.link);
        if let Some((_, command)) = self.sending.take() {
            self.command = Some(command);
        }
        if let Link::Open(open) = link {
            let (stream, outgoing) = open.into_parts();
            // More than one at a time means that Discord drops us faster than we can part: the older is cut.
            if self.parting.len() > 1 {
                self.parting.pop_front();
            }
            self.parting.push_back(Box::pin(parting::part(stream, outgoing, code)));
        }
    }

    fn show(&self) {
        let session = &self.intake.session;
        self.status.set(Now {
            state: session.state(),
            session: session.session_id().cloned(),
            latency: session.latency(),
            paused: self.paused.is_some() || self.fenced.is_some(),
        });
    }

    // ---- the store ----

    fn store(&mut self, now: Instant) {
        if self.abandoned {
            return;
        }
        if self.saving.is_some() {
            self.save_again = true;
            return;
        }
        if !self.shared.fence.is_open(now) {
            self.store_at = Some(now + STORE_SOON);
            return;
        }
        let Some(record) = self.intake.record() else {
            self.store_at = self.intake.notice.map(|_| now + STORE_SOON);
            return;
        };
        let committed = record.sequence;
        self.store_at = Some(now + if committed == Seq::ZERO { STORE_SOON } else { STORE_INTERVAL });
        if self.stored.as_ref().is_some_and(|(session, seq)| *session == record.session_id && *seq == committed) {
            return;
        }
        let (session, store) = (record.session_id.clone(), self.shared.store.clone());
        let done = Box::pin(async move { store.save(record).await });
        self.saving = Some(Saving { session, seq: committed, done });
    }

    fn saved(&mut self, result: Result<(), StoreError>) {
        let Some(Saving { session, seq, .. }) = self.saving.take() else { return };
        match result {
            Ok(()) => {
                self.intake.session.stored(&session, seq);
                self.stored = Some((session, seq));
                if std::mem::take(&mut self.store_is_down) {
                    info!("sessions are stored again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.store_is_down, true) {
                    warn!(%error, "the session cannot be stored; after a crash more events would come twice");
                }
            }
        }
        if std::mem::take(&mut self.save_again) {
            self.store(Instant::now());
        }
    }

    // ---- commands ----

    fn try_command(&mut self, now: Instant) {
        let Some(command) = &self.command else { return };
        let Link::Open(open) = &mut self.link else { return };
        match self.intake.session.command_room(now) {
            Ok(()) => {
                let encoding = self.intake.session.encoding();
                let mark = open.out.packet(encoding, &command.packet);
                count_sent(&self.status, encoding, &command.packet);
                self.command_waited = false;
                self.intake.session.command_sent(now);
                self.sending = self.command.take().map(|command| (mark, command));
            }
            Err(CommandWait::Until(at)) => {
                if !std::mem::replace(&mut self.command_waited, true) {
                    self.status.command_delayed();
                }
                self.command_at = Some(at);
            }
            // Tried again when the session's state changes.
            Err(CommandWait::NotConnected) => {}
        }
    }

    fn command_written(&mut self) {
        if let Link::Open(open) = &self.link
            && let Some((_, command)) = self.sending.take_if(|(mark, _)| open.out.written() >= *mark)
        {
            self.status.command_sent();
            // Whoever asked may have gone.
            let _ = command.written.send(());
        }
    }

    // ---- the end ----

    /// What comes before the end: the last confirms, and a last record of the session.
    async fn stop(&mut self) {
        self.turn = None;
        self.fenced = None;
        if tokio::time::timeout(FLUSH_TIMEOUT, self.shared.broker.flushed()).await.is_err() {
            warn!(
                broker = %self.shared.broker.state(),
                "not every event was confirmed in time; Discord sends those again when the session is resumed"
            );
        }
        self.store_last().await;
    }

    /// Another process has the shard, or may have it from now on, and resumes from what is stored: all that was not confirmed
    /// comes to it.
    fn abandon(&mut self) {
        self.abandoned = true;
        self.turn = None;
        self.fenced = None;
        self.saving = None;
        self.shared.broker.discard(self.shard.id());
    }

    async fn store_last(&mut self) {
        let last = async {
            if let Some(saving) = &mut self.saving {
                let result = (&mut saving.done).await;
                self.saved(result);
            }
            self.save_again = false;
            self.shared.fence.opened().await;
            self.store(Instant::now());
            if let Some(saving) = &mut self.saving {
                let result = (&mut saving.done).await;
                self.saved(result);
            }
        };
        if tokio::time::timeout(LAST_STORE_TIMEOUT, last).await.is_err() {
            warn!("the session could not be stored in time; the next start resumes from the record before");
        }
    }

    /// Waits for the connections that are being closed.
    async fn see_off(&mut self) {
        while let Some(mut parting) = self.parting.pop_front() {
            parting.as_mut().await;
        }
    }
}

/// Counts a packet by its opcode. They are few and small: those of the session are read here once more.
fn count_sent(status: &Status, encoding: Encoding, packet: &[u8]) {
    if let Ok(envelope) = envelope::scan(encoding, packet) {
        status.sent(envelope.op);
    }
}

/// The next command; once nobody can send any more, `None`, and then never anything.
async fn next_command(commands: &mut Option<mpsc::Receiver<Command>>) -> Option<Command> {
    match commands {
        Some(commands) => commands.recv().await,
        None => pending().await,
    }
}

/// The future, if there is one; else one that never ends.
async fn of<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
