//! One connection to another server: its frames, what is sent on it, and what waits for its acknowledgement.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tokio_util::sync::CancellationToken;

use super::commands::Answer;
use super::driver::{Driver, Ended};
use super::packet;
use super::session::{Action, End, Session};
use super::suspicion::{Blame, Print};
use super::window::{Sent, Window};
use crate::amqp::consumer::Consumer;
use crate::amqp::delivery::Delivery;
use crate::amqp::topology::Queue;
use crate::discord::connect::Stream;
use crate::encoding::convert::{Taking, convert};
use crate::encoding::{Dialect, Encoding, Term};
use crate::websocket::frames::FrameKind;

type Socket = WebSocketStream<Stream>;

/// So many messages are under way: what is not acknowledged yet. Each is in memory.
const PREFETCH: u16 = 128;
/// At the end: until what is under way is acknowledged.
const LAST_ANSWERS: Duration = Duration::from_millis(400);
/// For the consumer's goodbye: what was not acknowledged goes back to the queue.
const GIVE_BACK: Duration = Duration::from_secs(10);
/// A server that was lost, or was started with us, has lost its other clients, too. What nobody matches yet it would throw away:
/// so long they have to come back.
const SETTLE: Duration = Duration::from_secs(2);
/// For the websocket's.
const GOODBYE: Duration = Duration::from_millis(100);

/// See the module.
struct Link<'a> {
    driver: &'a mut Driver,
    session: Session,
    sink: SplitSink<Socket, Frame>,
    stream: SplitStream<Socket>,
    /// What is to be written.
    out: VecDeque<Frame>,
    /// Something was given to the socket, and may not be written.
    unflushed: bool,
    window: Window<Delivery>,
}

/// What takes messages out of the queue, while we are registered.
struct Feed {
    consuming: Pin<Box<dyn Future<Output = ()> + Send>>,
    deliveries: mpsc::Receiver<Delivery>,
    /// What was not acknowledged goes back, and only then another process gets any: a consumer that is cancelled while messages
    /// are under way hands over at once, and those would come behind what follows them.
    over: CancellationToken,
}

/// A message that can never be sent, and why.
struct Unsendable {
    delivery: Delivery,
    /// Taken out of it.
    body: Vec<u8>,
    reason: String,
}

/// Serves a connection until it ends, or until `stop`.
pub(super) async fn serve(driver: &mut Driver, socket: Socket, stop: &CancellationToken) -> Ended {
    let session = driver.session(Instant::now());
    let (sink, stream) = socket.split();
    let (out, window) = Default::default();
    let mut link = Link { driver, session, sink, stream, out, unflushed: false, window };
    let mut feed = None;
    let ended = link.run(&mut feed, stop).await;
    link.say_goodbye().await;
    let Link { driver, window, .. } = link;
    let blame = ended.blame();
    driver.suspicion.ended(window.len(), || Some(Print::of(&window.oldest()?.body)), blame);
    driver.is_settled = blame.is_of_a_message() && !window.is_empty();
    driver.counters.sent_again(window.len());
    drop(window);
    if let Some(Feed { consuming, deliveries, over, .. }) = feed {
        over.cancel();
        drop(deliveries);
        // Before the next connection: what was not acknowledged is in the queue again then, in its place.
        let _ = timeout(GIVE_BACK, consuming).await;
    }
    ended
}

impl Link<'_> {
    async fn run(&mut self, feed: &mut Option<Feed>, stop: &CancellationToken) -> Ended {
        let mut asides = FuturesUnordered::new();
        let mut last_answers: Option<Instant> = None;
        let aside = self.driver.aside.clone();
        let mut settled: Option<Instant> = None;
        loop {
            while let Some(action) = self.session.poll_action() {
                match action {
                    Action::Send(frame) => self.out.push_back(self.frame(frame)),
                    Action::Ready => {
                        self.driver.registered();
                        let wait = if self.driver.is_settled { Duration::ZERO } else { SETTLE };
                        settled = Some(Instant::now() + wait);
                    }
                    Action::Covered(said) => {
                        let covered = self.window.covered(said);
                        self.driver.suspicion.taken(covered.len());
                        self.driver.counters.covered(covered.len());
                        for Sent { body, receipt, refused, .. } in covered {
                            match refused {
                                None => {
                                    self.driver.suspicion.took(&body);
                                    receipt.ack();
                                }
                                Some(reason) => {
                                    self.driver.set_aside(&reason);
                                    asides.push(put(aside.clone(), receipt, body, reason));
                                }
                            }
                        }
                    }
                    Action::Refused(refused) if refused.is_no_route() => self.driver.no_route(),
                    // Sent again in its place, and all after it: on another connection, after a while.
                    Action::Refused(refused) if refused.is_not_kept() => return Ended::NotKept,
                    Action::Refused(refused) => {
                        self.driver.refused(&refused.error);
                        let reason = format!("the other server refuses it: {}", refused.error);
                        self.window.refused(&refused, &reason);
                    }
                    Action::Unreadable(why) => self.driver.unreadable(&why),
                    Action::Message(message) => self.driver.heard(message),
                    Action::End(end) => return Ended::Session(end),
                }
            }
            if last_answers.is_some() && self.window.is_empty() && asides.is_empty() {
                return Ended::Stopped;
            }
            let room = if self.driver.suspicion.is_careful() { 1 } else { usize::from(PREFETCH) };
            let may_say = self.out.is_empty() && self.session.is_live() && last_answers.is_none();
            let takes = may_say && self.window.len() < room;
            if settled.take_if(|settled| Instant::now() >= *settled).is_some() {
                *feed = Some(Feed::new(self.driver));
            }
            let deadline = [self.session.deadline(), last_answers, settled].into_iter().flatten().min();
            let (consuming, deliveries) = match feed.as_mut() {
                Some(feed) => (Some(&mut feed.consuming), Some(&mut feed.deliveries)),
                None => (None, None),
            };
            tokio::select! {
                biased;
                () = stop.cancelled(), if last_answers.is_none() => last_answers = Some(Instant::now() + LAST_ANSWERS),
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    let now = Instant::now();
                    if last_answers.is_some_and(|until| now >= until) {
                        return Ended::Stopped;
                    }
                    self.session.handle_timeout(now);
                }
                // Dropped in the middle it loses nothing: what the socket has taken has left `out`.
                written = poll_fn(|cx| write(&mut self.sink, &mut self.out, &mut self.unflushed, cx)),
                    if self.unflushed || !self.out.is_empty() =>
                {
                    if let Err(error) = written {
                        // The server may have said why before it closed.
                        return self.last_words(error).await;
                    }
                }
                frame = self.stream.next() => match frame {
                    Some(Ok(frame)) => {
                        if let Some(ended) = self.handle(frame) {
                            return ended;
                        }
                    }
                    Some(Err(error)) => return Ended::Lost(error.to_string()),
                    None => return Ended::Lost("it closed without a word".to_owned()),
                },
                Some(()) = asides.next() => {}
                changed = self.driver.metadata.changed(), if self.driver.is_watching => match changed {
                    Ok(()) => {
                        let told = self.driver.told();
                        self.session.set_metadata(told);
                    }
                    // Nothing changes any more.
                    Err(_) => self.driver.is_watching = false,
                },
                // It ends by its tokens, or when nobody takes its deliveries.
                () = consume(consuming) => return Ended::Lost("the queue's consumer has ended".to_owned()),
                Some(answer) = self.driver.answers.recv(), if may_say => self.answer(&answer),
                Some(delivery) = next(deliveries), if takes => {
                    if let Some(Unsendable { delivery, body, reason }) = self.forward(delivery) {
                        self.driver.set_aside(&reason);
                        asides.push(put(aside.clone(), delivery, body, reason));
                    }
                }
            }
        }
    }

    /// Sends a message out of the queue. What can never be sent comes back.
    fn forward(&mut self, mut delivery: Delivery) -> Option<Unsendable> {
        let body = std::mem::take(&mut delivery.body);
        if self.driver.suspicion.condemns(&body) {
            let reason = self.driver.why_condemned();
            self.driver.suspicion.set_aside(&body, Instant::now());
            return Some(Unsendable { delivery, body, reason });
        }
        if self.driver.suspicion.condemns_target(&body, Instant::now()) {
            let reason = "the other server took no message to its target before".to_owned();
            return Some(Unsendable { delivery, body, reason });
        }
        let frame = match self.encoded(&body) {
            Ok(frame) => frame,
            Err(reason) => return Some(Unsendable { delivery, body, reason }),
        };
        self.out.push_back(frame);
        let number = self.session.say(self.driver.suspicion.is_careful(), Instant::now());
        self.window.push(number, body, delivery);
        self.driver.counters.sent();
        None
    }

    fn encoded(&self, body: &[u8]) -> Result<Frame, String> {
        match self.driver.encoding() {
            Encoding::Json => {
                let text = String::from_utf8(body.to_owned()).map_err(|_| "it is no text".to_owned())?;
                Ok(Frame::text(text))
            }
            encoding @ (Encoding::Msgpack | Encoding::Etf) => {
                let mut out = Vec::new();
                convert(Encoding::Json, body, Dialect::Plain(encoding), Taking::EXACT, &mut out)
                    .map_err(|error| format!("it is no JSON: {error}"))?;
                Ok(Frame::binary(out))
            }
        }
    }

    fn answer(&mut self, Answer { target, nonce, payload }: &Answer) {
        let d = [("target", Term::Value(target)), ("nonce", Term::Value(nonce)), ("payload", Term::Value(payload))];
        let frame = packet::dispatch(self.driver.encoding(), "SEND", &Term::Map(&d));
        self.out.push_back(self.frame(frame));
        self.session.say(false, Instant::now());
    }

    fn frame(&self, packet: Vec<u8>) -> Frame {
        match FrameKind::of(self.driver.encoding()) {
            FrameKind::Text => Frame::text(String::from_utf8(packet).expect("JSON is written as text")),
            FrameKind::Binary => Frame::binary(packet),
        }
    }

    fn handle(&mut self, frame: Frame) -> Option<Ended> {
        let now = Instant::now();
        match frame {
            Frame::Text(text) => self.session.handle(FrameKind::Text, text.as_bytes(), now),
            Frame::Binary(bytes) => self.session.handle(FrameKind::Binary, &bytes, now),
            Frame::Close(close) => {
                let close = close.map(|close| (u16::from(close.code), close.reason.to_string()));
                return Some(Ended::Closed(close));
            }
            // The library answers pings.
            Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => {}
        }
        None
    }

    /// What the server had said before it could not be written to any more.
    async fn last_words(&mut self, error: tungstenite::Error) -> Ended {
        let said = async {
            while let Some(Ok(frame)) = self.stream.next().await {
                if let Some(ended) = self.handle(frame) {
                    return Some(ended);
                }
                while let Some(action) = self.session.poll_action() {
                    if let Action::End(end) = action {
                        return Some(Ended::Session(end));
                    }
                }
            }
            None
        };
        timeout(GOODBYE, said).await.ok().flatten().unwrap_or_else(|| Ended::Lost(error.to_string()))
    }

    /// Closes the websocket, as far as the server listens.
    async fn say_goodbye(&mut self) {
        let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let _ = timeout(GOODBYE, self.sink.send(Frame::Close(Some(goodbye)))).await;
    }
}

impl Feed {
    fn new(driver: &Driver) -> Self {
        let (consumer, deliveries) = Consumer::new(driver.consumption.clone(), Queue::forward(&driver.group), PREFETCH);
        let over = CancellationToken::new();
        Self { consuming: Box::pin(consumer.run(over.clone())), deliveries, over }
    }
}

impl Ended {
    fn blame(&self) -> Blame {
        match self {
            // What is not kept is all right: it is the server's own broker that is not.
            Self::Stopped | Self::NotKept | Self::Session(End::Goodbye | End::Restricted(_) | End::Silent(_)) => {
                Blame::None
            }
            Self::Session(End::Error(_)) => Blame::Packet,
            Self::Session(End::Unreadable(_)) | Self::Lost(_) => Blame::Unclear,
            Self::Closed(close) => Blame::of_close(close.as_ref().map(|(code, _)| *code)),
        }
    }
}

async fn consume(consuming: Option<impl Future<Output = ()>>) {
    match consuming {
        Some(consuming) => consuming.await,
        None => std::future::pending().await,
    }
}

async fn next(deliveries: Option<&mut mpsc::Receiver<Delivery>>) -> Option<Delivery> {
    deliveries?.recv().await
}

async fn put(aside: std::sync::Arc<super::aside::Aside>, delivery: Delivery, body: Vec<u8>, reason: String) {
    aside.put(delivery, body, &reason).await;
}

/// Gives frames to the socket, and has them written.
fn write(
    sink: &mut SplitSink<Socket, Frame>,
    out: &mut VecDeque<Frame>,
    unflushed: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(), tungstenite::Error>> {
    while !out.is_empty() {
        ready!(sink.poll_ready_unpin(cx))?;
        if let Some(frame) = out.pop_front() {
            *unflushed = true;
            sink.start_send_unpin(frame)?;
        }
    }
    ready!(sink.poll_flush_unpin(cx))?;
    *unflushed = false;
    Poll::Ready(Ok(()))
}
