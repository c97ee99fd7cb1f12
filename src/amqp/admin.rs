//! A supervised connection for everything but publishing events: declaring, session storage, consumers.
//!
//! [`Admin`] is a cheap handle; [`AdminDriver::run`] owns the connection and makes it anew for as long as it runs. lapin's
//! own recovery stays off: it gives up after some tries, does not recover channels, and would hide from us what was lost.
//! Who needs a channel asks for one, keeps it while it works, and asks again after an error; every purpose has its own,
//! because an error closes the channel for all its users.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::options::ConfirmSelectOptions;
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{Connection, ConnectionProperties, DefaultConnectionBuilder, ErrorKind};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::address::{Address, AuthMechanism};
use super::error::AdminError;
use crate::secret::Secret;

/// How long one operation may take before the connection is held to be dead or stuck.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent connection's state is looked at.
const LOOK_AFTER: Duration = Duration::from_secs(5);
/// The pause after the first failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// RabbitMQ takes some 10 s to start, and processes that come back late find their shards taken.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The largest frame: lapin allocates 32 of them for each direction, and what goes over this connection is small.
const FRAME_MAX: u32 = 8192;
/// The largest frame once a larger one came. RabbitMQ sends a message's properties and headers in one frame, however large it
/// is: with less, such a message would close each connection that it is delivered to.
const FRAME_MAX_FOR_LARGE_HEADERS: u32 = 131_072;
/// Seconds between heartbeats, unless the address says otherwise: a dead peer is noticed after two. The same as where events are
/// published.
const HEARTBEAT: u16 = 10;
/// The same for the connection that holds the leases.
const HEARTBEAT_FOR_LEASES: u16 = 15;
/// The shortest on a connection that holds leases: RabbitMQ must free those of a silent process only when its fence
/// ([`crate::cluster::fence`]) has long been closed.
const SHORTEST_FOR_LEASES: u16 = 8;

/// A handle on the connection. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    link: watch::Receiver<Link>,
}

/// Keeps the connection of its [`Admin`]s: to be run by whoever owns the task.
pub struct AdminDriver {
    uri: AMQPUri,
    tls: OwnedTLSConfig,
    timeout: Duration,
    name: String,
    link: watch::Sender<Link>,
}

/// How the connection is.
#[derive(Clone)]
enum Link {
    /// Not connected; why the last try failed, if there was one.
    Down(Option<AdminError>),
    /// Connected; how many connections there were before counts up, so that no two are taken for one.
    Up(Arc<Connection>, Generation),
}

/// Which connection it is, in the order in which they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation(u64);

impl Admin {
    /// A handle and the driver that it needs. `name` is what RabbitMQ's management shows for the connection.
    ///
    /// # Errors
    /// [`AdminError::Address`] when the address is not one of RabbitMQ.
    pub fn new(address: &Secret, name: &str) -> Result<(Self, AdminDriver), AdminError> {
        let address = Address::parse(address.expose()).map_err(|error| AdminError::Address(error.to_string()))?;
        Self::at(&address, name)
    }

    /// The same for an address already read.
    ///
    /// # Errors
    /// [`AdminError::Address`] when a file for TLS that it names cannot be read.
    pub fn at(address: &Address, name: &str) -> Result<(Self, AdminDriver), AdminError> {
        Self::with_heartbeat(address, name, address.heartbeat().unwrap_or(HEARTBEAT))
    }

    /// The same for the connection that holds the leases: RabbitMQ drops it later than one that publishes, when the process is
    /// silent, so that no event of ours comes after somebody else's lease.
    ///
    /// # Errors
    /// [`AdminError::Address`] when a file for TLS that it names cannot be read.
    pub fn for_leases(address: &Address, name: &str) -> Result<(Self, AdminDriver), AdminError> {
        let seconds = match address.heartbeat() {
            None => HEARTBEAT_FOR_LEASES,
            Some(0) => 0,
            Some(seconds) => seconds.saturating_add(seconds / 2).max(SHORTEST_FOR_LEASES),
        };
        Self::with_heartbeat(address, name, seconds)
    }

    fn with_heartbeat(address: &Address, name: &str, seconds: u16) -> Result<(Self, AdminDriver), AdminError> {
        let (sender, link) = watch::channel(Link::Down(None));
        let driver = AdminDriver {
            uri: uri(address, seconds),
            tls: tls(address)?,
            timeout: address.connection_timeout(),
            name: name.to_owned(),
            link: sender,
        };
        Ok((Self { link }, driver))
    }

    /// Waits for a connection for as long as one operation may take.
    ///
    /// # Errors
    /// Why there is none: at once when RabbitMQ refuses us for a reason that only a person can change.
    pub async fn connected(&self) -> Result<(), AdminError> {
        self.connection().await.map(drop)
    }

    /// Whether RabbitMQ takes messages on this connection now: connected and no alarm.
    pub fn is_taking_messages(&self) -> bool {
        matches!(&*self.link.borrow(), Link::Up(connection, _) if !connection.status().blocked())
    }

    /// Whether RabbitMQ has told this connection that an alarm is on. It tells a connection only once it publishes.
    pub fn is_blocked(&self) -> bool {
        matches!(&*self.link.borrow(), Link::Up(connection, _) if connection.status().blocked())
    }

    /// What was agreed upon as the interval of heartbeats; `None` where there are none, or no connection.
    pub(super) fn heartbeat(&self) -> Option<Duration> {
        match &*self.link.borrow() {
            Link::Up(connection, _) => Some(connection.configuration().heartbeat())
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(seconds.into())),
            Link::Down(_) => None,
        }
    }

    /// The connection there is now; `None` also when it is lost and only the driver has not noticed yet.
    pub(super) fn generation(&self) -> Option<Generation> {
        match &*self.link.borrow() {
            Link::Up(connection, generation) if connection.status().connected() => Some(*generation),
            Link::Up(..) | Link::Down(_) => None,
        }
    }

    /// Waits until there is another connection than `known`, or none where there was one.
    pub(super) async fn changed_from(&self, known: Option<Generation>) -> Option<Generation> {
        let mut link = self.link.clone();
        let of = |link: &Link| match link {
            Link::Up(_, generation) => Some(*generation),
            Link::Down(_) => None,
        };
        let changed = link.wait_for(|link| of(link) != known).await.map(|link| of(&link));
        match changed {
            Ok(generation) => generation,
            // The driver has ended: there will be no connection any more.
            Err(_) if known.is_some() => None,
            Err(_) => std::future::pending().await,
        }
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<lapin::Channel, AdminError> {
        let connection = self.connection().await?;
        bounded("open a channel", connection.create_channel()).await
    }

    /// A new channel whose publishes are confirmed.
    pub(super) async fn confirming_channel(&self) -> Result<lapin::Channel, AdminError> {
        let channel = self.channel().await?;
        bounded("turn confirms on", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    /// Waits for a connection and refuses while an alarm is on.
    pub(super) async fn unblocked(&self) -> Result<(), AdminError> {
        if self.connection().await?.status().blocked() { Err(AdminError::Blocked) } else { Ok(()) }
    }

    async fn connection(&self) -> Result<Arc<Connection>, AdminError> {
        let mut link = self.link.clone();
        let decided = link.wait_for(|link| match link {
            Link::Up(..) => true,
            Link::Down(Some(why)) => !why.is_passing(),
            Link::Down(None) => false,
        });
        let why = match timeout(OPERATION_TIMEOUT, decided).await {
            Ok(Ok(link)) => match &*link {
                Link::Up(connection, _) => return Ok(connection.clone()),
                Link::Down(why) => why.clone(),
            },
            Ok(Err(_)) => Some(AdminError::Unreachable("the connection was closed, Optic is stopping".to_owned())),
            Err(_) => match &*self.link.borrow() {
                Link::Down(why) => why.clone(),
                Link::Up(..) => None,
            },
        };
        Err(why.unwrap_or_else(|| AdminError::Unreachable("not connected yet".to_owned())))
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.link.borrow() {
            Link::Down(_) => "down",
            Link::Up(..) => "up",
        };
        f.debug_struct("Admin").field("link", &state).finish_non_exhaustive()
    }
}

impl AdminDriver {
    /// Connects, and again whenever the connection is lost, until `stop`; then closes it in order.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        let mut generation = Generation(0);
        loop {
            let connected = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                connected = self.connect() => connected,
            };
            let why = match connected {
                Ok(connection) => {
                    info!(connection = %self.name, "connected to RabbitMQ");
                    pause = FIRST_PAUSE;
                    // Listens before anybody can use the connection: lapin tells its end only to who listens already.
                    let mut events = Box::pin(connection.events_listener());
                    let connection = Arc::new(connection);
                    generation.0 += 1;
                    self.link.send_replace(Link::Up(connection.clone(), generation));
                    let lost = tokio::select! {
                        biased;
                        () = stop.cancelled() => None,
                        ended = end_of(&connection, &mut events) => Some(ended),
                    };
                    let Some(ended) = lost else {
                        self.link.send_replace(Link::Down(None));
                        // Lost or refused, it is closed all the same.
                        let _ = bounded("close the connection", connection.close(200, "OK".into())).await;
                        return;
                    };
                    let why = match &ended {
                        Some(error) => AdminError::of("keep the connection", error),
                        None => AdminError::Unreachable("the connection was closed".to_owned()),
                    };
                    self.link.send_replace(Link::Down(Some(why.clone())));
                    warn!(connection = %self.name, %why, "lost the connection to RabbitMQ");
                    if ended.is_some_and(|error| self.takes_larger_frames_after(&error)) {
                        warn!(
                            connection = %self.name, frame_max = FRAME_MAX_FOR_LARGE_HEADERS,
                            "a message came with more headers than fit in a frame of {FRAME_MAX} bytes: connecting anew \
                             with larger frames, which cost some MiB of memory until Optic is started again"
                        );
                    }
                    why
                }
                Err(why) => {
                    let known = matches!(&*self.link.borrow(), Link::Down(Some(former)) if *former == why);
                    if !known {
                        warn!(connection = %self.name, %why, "no connection to RabbitMQ, trying on");
                    }
                    why
                }
            };
            self.link.send_replace(Link::Down(Some(why)));
            tokio::select! {
                () = stop.cancelled() => return,
                // Half of it by chance, so that many processes do not come back in one moment.
                () = sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether a connection that ended by this is made anew with larger frames.
    fn takes_larger_frames_after(&mut self, error: &lapin::Error) -> bool {
        let is_cause = match error.kind() {
            ErrorKind::ProtocolError(error) => *error.kind() == AMQPErrorKind::Hard(AMQPHardError::FRAMEERROR),
            _ => false,
        };
        let larger = Some(FRAME_MAX_FOR_LARGE_HEADERS);
        is_cause && self.uri.query.frame_max.replace(FRAME_MAX_FOR_LARGE_HEADERS) != larger
    }

    async fn connect(&self) -> Result<Connection, AdminError> {
        let properties = ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let builder = DefaultConnectionBuilder::new().map_err(|error| AdminError::of_connect(&error))?;
        let builder = builder.with_uri(self.uri.clone()).with_tls_config(self.tls.clone()).with_properties(properties);
        match timeout(self.timeout, builder.connect()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(AdminError::of_connect(&error)),
            Err(_) => Err(AdminError::Unreachable(format!("no answer within {} ms", self.timeout.as_millis()))),
        }
    }
}

/// Waits until the connection is no more; the error that ended it, if lapin told.
async fn end_of(
    connection: &Connection,
    events: &mut (impl futures_util::Stream<Item = lapin::Event> + Unpin),
) -> Option<lapin::Error> {
    while connection.status().connected() {
        // Not every end is told (an unknown close code is not), so the state is looked at from time to time.
        let Ok(event) = timeout(LOOK_AFTER, events.next()).await else { continue };
        match event {
            // Also a channel's error comes here; the state tells which it was.
            Some(lapin::Event::Error(error)) if !connection.status().connected() => {
                return Some(error);
            }
            Some(lapin::Event::ConnectionBlocked(reason)) => warn!(%reason, "RabbitMQ takes no messages (alarm)"),
            Some(lapin::Event::ConnectionUnblocked) => info!("RabbitMQ takes messages again"),
            Some(_) => {}
            None => return None,
        }
    }
    // It ended while something else was told: why may be behind that.
    while let Some(Some(event)) = events.next().now_or_never() {
        if let lapin::Event::Error(error) = event {
            return Some(error);
        }
    }
    None
}

/// An operation with its limit in time and its error classified.
pub(super) async fn bounded<T>(
    action: &str,
    operation: impl Future<Output = lapin::Result<T>>,
) -> Result<T, AdminError> {
    match timeout(OPERATION_TIMEOUT, operation).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(AdminError::of(action, &error)),
        Err(_) => {
            Err(AdminError::Unreachable(format!("no answer within {} s to: {action}", OPERATION_TIMEOUT.as_secs())))
        }
    }
}

/// Where and as whom lapin connects, from the address that the publisher uses too.
fn uri(address: &Address, heartbeat: u16) -> AMQPUri {
    AMQPUri {
        scheme: if address.is_tls() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: address.user().to_owned(),
                password: address.password().expose().to_owned(),
            },
            host: address.host(),
            port: address.port(),
        },
        vhost: address.vhost().to_owned(),
        query: AMQPQueryString {
            heartbeat: Some(heartbeat),
            frame_max: Some(FRAME_MAX),
            connection_timeout: u64::try_from(address.connection_timeout().as_millis()).ok(),
            auth_mechanism: Some(match address.auth_mechanism() {
                AuthMechanism::Plain => SASLMechanism::Plain,
                AuthMechanism::External => SASLMechanism::External,
            }),
            ..AMQPQueryString::default()
        },
    }
}

/// The address's authorities and certificate, as lapin takes them.
fn tls(address: &Address) -> Result<OwnedTLSConfig, AdminError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| AdminError::Address(format!("cannot read {}: {error}", path.display())))
    };
    let cert_chain = match address.ca_file() {
        Some(path) => Some(
            String::from_utf8(read(path)?)
                .map_err(|_| AdminError::Address(format!("{} holds no certificate in PEM", path.display())))?,
        ),
        None => None,
    };
    let identity = match address.client_certificate() {
        Some(own) => Some(OwnedIdentity::PKCS8 { pem: read(&own.certificate)?, key: read(&own.key)? }),
        None => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused_without_being_shown() {
        for address in ["hunter2", "http://user:hunter2@host/", "amqp:hunter2"] {
            let error = Admin::new(&Secret::new(address), "test").err().expect("refused");
            assert!(matches!(error, AdminError::Address(_)), "{error:?}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_ipv6_host_is_kept() {
        let address = Address::parse("amqp://guest:guest@[::1]:5673/%2f").expect("valid");
        assert_eq!(uri(&address, HEARTBEAT).authority.host, "::1");
    }

    #[test]
    fn a_silent_process_loses_its_leases_later_than_what_publishes() {
        let heartbeats = |parameters: &str| {
            let address = Address::parse(&format!("amqp://host{parameters}")).expect("valid");
            let seconds = |made: Result<(Admin, AdminDriver), AdminError>| made.expect("valid").1.uri.query.heartbeat;
            (seconds(Admin::at(&address, "test")), seconds(Admin::for_leases(&address, "test")))
        };
        assert_eq!(heartbeats("/%2f"), (Some(10), Some(15)));
        assert_eq!(heartbeats("/%2f?heartbeat=20"), (Some(20), Some(30)));
        assert_eq!(heartbeats("/%2f?heartbeat=2"), (Some(2), Some(8)), "not before the fence is closed");
        assert_eq!(heartbeats("/%2f?heartbeat=0"), (Some(0), Some(0)));
        assert_eq!(heartbeats("/%2f?heartbeat=65535"), (Some(65535), Some(65535)));
    }

    #[test]
    fn a_file_for_tls_that_is_not_there_is_named() {
        let address = Secret::new("amqps://me:hunter2@host?cacertfile=/nowhere/ca.pem");
        let error = Admin::new(&address, "test").err().expect("refused").to_string();
        assert!(error.contains("/nowhere/ca.pem") && !error.contains("hunter2"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_driver_nothing_waits_for_ever() {
        let (admin, driver) = Admin::new(&Secret::new("amqp://127.0.0.1:1/%2f"), "test").expect("valid");
        assert!(matches!(admin.connected().await, Err(AdminError::Unreachable(_))));
        drop(driver);
        assert!(matches!(admin.connected().await, Err(AdminError::Unreachable(_))));
        assert!(!admin.is_taking_messages());
    }
}
