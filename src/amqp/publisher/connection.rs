//! The driver: connects, hands the connection to [`Link`], and begins again when it is lost, for ever.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Observer;
use super::codec::frame::FrameDecoder;
use super::error::{ConnectError, ConnectionError};
use super::handle::{Publisher, Shared};
use super::handshake::{Handshake, Ready};
use super::link::{Link, tell_abandoned, watch};
use super::outbox::Window;
use super::transport::Transport;
use crate::amqp::address::Address;
use crate::broker::BrokerState;
use crate::cluster::fence::Fence;
use crate::tls;

/// The first wait after a connection is lost; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest wait.
const MAX_DELAY: Duration = Duration::from_secs(3);
/// A connection that lasted this long makes the next wait a first one again.
const LASTING: Duration = Duration::from_secs(10);
/// The same failure is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(30);
/// How long the broker may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a publisher needs to know.
#[derive(Clone, Debug)]
pub struct PublisherSettings {
    /// Where RabbitMQ is.
    pub address: Address,
    /// The exchange that is declared, durable and direct, before anything is published.
    pub exchange: String,
    /// What the connection is called in RabbitMQ's overviews.
    pub connection_name: String,
    /// How much may be in flight.
    pub window: Window,
    /// While it is closed nothing is written, but for the rest of a message that was begun.
    pub fence: Fence,
}

/// Owns the connection. Nothing is sent unless [`run`](Self::run) is running.
pub struct Driver {
    shared: Arc<Shared>,
    settings: PublisherSettings,
    observer: Arc<dyn Observer>,
    /// Made with the first try, as it reads files.
    tls: Option<Arc<ClientConfig>>,
}

impl Publisher {
    /// A publisher, and the driver that carries its messages.
    pub fn new(settings: PublisherSettings, observer: Arc<dyn Observer>) -> (Self, Driver) {
        let shared = Arc::new(Shared::new(settings.window, settings.fence.clone()));
        (Self { shared: shared.clone() }, Driver { shared, settings, observer, tls: None })
    }
}

impl Driver {
    /// Connects and publishes until `stop`. What is to be confirmed first is awaited before, by
    /// [`Publisher::flushed`]: after `stop` nothing more is sent but the goodbye.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut delay = FIRST_DELAY;
        let mut told: Option<(String, Instant)> = None;
        while !stop.is_cancelled() {
            let connected = tokio::select! {
                () = stop.cancelled() => break,
                connected = self.connect() => connected,
            };
            let wait = delay.mul_f64(0.5 + fastrand::f64() / 2.0);
            delay = (delay * 2).min(MAX_DELAY);
            match connected {
                Ok((link, agreed)) => {
                    told = None;
                    let since = Instant::now();
                    tracing::info!(broker = agreed.product, address = %self.settings.address, "publishing connection ready");
                    // Without a failure it was closed in order: by us, or there is nothing to be said but to begin again.
                    let Err(error) = self.serve(link, &agreed, &stop).await else { continue };
                    if since.elapsed() >= LASTING {
                        delay = FIRST_DELAY;
                    }
                    let retry_in_ms = wait.as_millis() as u64;
                    tracing::error!(%error, retry_in_ms, "publishing connection ended; unconfirmed events are sent again on the next");
                }
                Err(error) => {
                    let text = error.to_string();
                    if told.as_ref().is_none_or(|(last, at)| *last != text || at.elapsed() >= TELL_AGAIN) {
                        self.tell(&error, wait);
                        told = Some((text, Instant::now()));
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.shared.state.send_replace(BrokerState::Disconnected);
    }

    fn tell(&self, error: &ConnectError, wait: Duration) {
        let (address, retry_in_ms) = (&self.settings.address, wait.as_millis() as u64);
        if error.needs_a_person() {
            tracing::error!(%address, %error, retry_in_ms, "cannot connect to RabbitMQ, and trying again alone will not help");
        } else {
            tracing::warn!(%address, %error, retry_in_ms, "cannot connect to RabbitMQ");
        }
    }

    /// `Ok` when we closed it ourselves.
    async fn serve(&self, mut link: Link, agreed: &Ready, stop: &CancellationToken) -> Result<(), ConnectionError> {
        let Self { shared, observer, .. } = self;
        {
            let mut queue = shared.lock();
            queue.outbox.connected(agreed.frame_max);
            queue.connections += 1;
        }
        shared.state.send_replace(if agreed.blocked { BrokerState::Blocked } else { BrokerState::Connected });
        let ended = tokio::select! {
            () = stop.cancelled() => None,
            ended = link.serve(shared, &**observer) => Some(ended),
        };
        if ended.is_none() {
            // Its failure is of no interest: all that matters was awaited before.
            let _ = tokio::time::timeout(GOODBYE, link.close(shared, &**observer)).await;
        }
        shared.state.send_replace(BrokerState::Disconnected);
        let mut abandoned = Vec::new();
        {
            let mut queue = shared.lock();
            queue.outbox.connection_lost();
            if let Some(Err(error)) = &ended
                && let Some(limit) = error.message_size_limit()
            {
                queue.outbox.give_up_larger_than(limit);
            }
            while let Some(message) = queue.outbox.next_abandoned() {
                abandoned.push(message);
            }
        }
        tell_abandoned(abandoned, shared, &**observer);
        shared.progress.notify_waiters();
        ended.unwrap_or(Ok(()))
    }

    async fn connect(&mut self) -> Result<(Link, Ready), ConnectError> {
        let limit = self.settings.address.connection_timeout();
        tokio::time::timeout(limit, self.try_connect()).await.unwrap_or(Err(ConnectError::TimedOut(limit)))
    }

    async fn try_connect(&mut self) -> Result<(Link, Ready), ConnectError> {
        let address = &self.settings.address;
        if address.is_tls() && self.tls.is_none() {
            self.tls = Some(tls::client_config(address.ca_file(), address.client_certificate())?);
        }
        let host = address.host();
        let socket = TcpStream::connect((host.as_str(), address.port())).await.map_err(ConnectError::Unreachable)?;
        let dropped = |source| ConnectError::dropped("connecting", source);
        let socket = prepare(socket).map_err(dropped)?;
        let mut transport = match &self.tls {
            None => Transport::plain(socket),
            Some(config) => Transport::tls(socket, config.clone(), &host).map_err(dropped)?,
        };
        let mut decoder = FrameDecoder::default();
        let agreed = self.shake_hands(&mut transport, &mut decoder).await?;
        decoder.set_max(agreed.frame_max);
        let link = Link::new(transport, decoder, &agreed).map_err(dropped)?;
        Ok((link, agreed))
    }

    async fn shake_hands(&self, transport: &mut Transport, decoder: &mut FrameDecoder) -> Result<Ready, ConnectError> {
        let PublisherSettings { address, exchange, connection_name, .. } = &self.settings;
        let mut out = Vec::new();
        let mut handshake = Handshake::new(address, exchange, connection_name, &mut out);
        let both = Interest::READABLE | Interest::WRITABLE;
        let socket = watch(transport.socket().clone(), both)
            .map_err(|source| ConnectError::dropped(handshake.stage(), source))?;
        loop {
            let dropped = |source: io::Error| ConnectError::dropped(handshake.stage(), source);
            // Cleared before the tries: what comes after them wakes us.
            let mut ready = socket.ready(both).await.map_err(dropped)?;
            ready.clear_ready();
            drop(ready);
            loop {
                while !out.is_empty() {
                    match transport.write(&out) {
                        Ok(n) => drop(out.drain(..n)),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(source) => return Err(ConnectError::dropped(handshake.stage(), source)),
                    }
                }
                let during = handshake.stage();
                let dropped = |source: io::Error| ConnectError::dropped(during, source);
                transport.flush().map_err(dropped)?;
                match transport.read(decoder.space()) {
                    Ok(0) => return Err(dropped(io::ErrorKind::UnexpectedEof.into())),
                    Ok(n) => decoder.filled(n),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(source) => return Err(dropped(source)),
                }
                while let Some(frame) = decoder.next_frame().map_err(|error| handshake.bad_bytes(error))? {
                    match handshake.handle(frame, &mut out) {
                        Ok(None) => {}
                        Ok(Some(agreed)) => return Ok(agreed),
                        Err(error) => {
                            // The goodbye goes out if it can.
                            let _ = transport.write(&out);
                            return Err(error);
                        }
                    }
                }
            }
        }
    }
}

/// Small writes go out at once, and a dead peer is noticed below AMQP, too. Still nonblocking, no longer tokio's.
fn prepare(socket: TcpStream) -> io::Result<Arc<std::net::TcpStream>> {
    socket.set_nodelay(true)?;
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    Ok(Arc::new(socket.into_std()?))
}
