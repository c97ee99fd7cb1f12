//! The port: HTTP as bots ask it, the control interface, upgrades to the gateway, and the pacer of events.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;

use super::compress::Transport;
use super::config::Settings;
use super::connection::{Command, Connection, Opening, encoded};
use super::control::{self, ControlError, Verb};
use super::received::Received;
use super::session::{ConnectionId, SessionView, What};
use super::shards::ShardView;
use super::stats::Stats;
use super::traffic::Catalogue;
use super::world::{self, World};
use crate::discord::compression::Encoding;
use crate::discord::ids::SessionId;

/// A simulated Discord that listens.
pub struct Simulator {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Watches and controls a simulator from within the process.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// A command as `/control/commands` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CommandView {
    /// When it came in, in microseconds since 1970.
    pub at_us: u64,
    /// The number of the connection that sent it; no two have the same.
    pub connection: ConnectionId,
    /// Its session's shard.
    pub shard: u32,
    /// Its opcode.
    pub op: u8,
    /// Its `d`.
    pub d: serde_json::Value,
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) catalogue: Arc<Catalogue>,
    world: Mutex<World>,
    connections: Mutex<Connections>,
    /// Traffic was started or stopped.
    traffic_changed: Notify,
}

#[derive(Default)]
struct Connections {
    last: ConnectionId,
    open: HashMap<ConnectionId, Open>,
}

struct Open {
    shard: Option<u32>,
    commands: mpsc::Sender<Command>,
}

/// Commands that a connection may be behind with; more are dropped, as it is stuck in building a flood.
const COMMANDS: usize = 64;
/// The longest `d` that an event may be given.
const BODY: usize = 8 << 20;
/// How often expired sessions are swept.
const SWEEP: Duration = Duration::from_secs(1);

impl Simulator {
    /// Listens.
    ///
    /// # Errors
    ///
    /// If the address cannot be had.
    pub async fn bind(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.address).await?;
        let catalogue = Arc::new(Catalogue::new(&settings));
        let shared = Shared {
            world: Mutex::new(World::new(settings.clone(), Arc::clone(&catalogue))),
            catalogue,
            settings,
            connections: Mutex::default(),
            traffic_changed: Notify::new(),
        };
        Ok(Self { address: listener.local_addr()?, listener, shared: Arc::new(shared) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// To watch and control it.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Serves until `stop`; then connections are closed with 1001.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        tasks.spawn(pace(Arc::clone(&self.shared), stop.clone()));
        loop {
            select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        tasks.spawn(serve(Arc::clone(&self.shared), stream, stop.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(ended) = tasks.join_next() => examine(ended),
            }
        }
        while let Some(ended) = tasks.join_next().await {
            examine(ended);
        }
    }
}

impl Handle {
    /// The counts so far.
    pub fn stats(&self) -> Stats {
        let connected = self.0.connections().open.len() as u64;
        Stats { connected, ..self.0.world().stats.clone() }
    }

    /// The sessions there are.
    pub fn sessions(&self) -> Vec<SessionView> {
        self.0.world().views()
    }

    /// How each shard fares.
    pub fn shards(&self) -> Vec<ShardView> {
        self.0.world().shards.views(Instant::now())
    }

    /// The last commands that came in, in order.
    pub fn commands(&self) -> Vec<CommandView> {
        let (now, time) = (Instant::now(), SystemTime::now());
        let view = |received: &Received| CommandView {
            at_us: (time - now.duration_since(received.at))
                .duration_since(UNIX_EPOCH)
                .map_or(0, |t| t.as_micros() as u64),
            connection: received.connection,
            shard: received.shard,
            op: received.op.code(),
            d: received.d.clone(),
        };
        self.0.world().commands.iter().map(view).collect()
    }

    /// The packets that a session holds for a resume, in order, as connections in this encoding get them; RESUMED is not among
    /// them, since it was one connection's.
    pub fn held(&self, session: &SessionId, encoding: Encoding) -> Vec<Vec<u8>> {
        /// Nobody has this number.
        const NOBODY: ConnectionId = ConnectionId::MAX;
        let Some((plan, held)) = self.0.world().session(session).map(|session| (session.plan.clone(), session.held()))
        else {
            return Vec::new();
        };
        let packet = |(seq, what)| self.0.packet(&plan, &what, seq, NOBODY);
        held.into_iter().filter_map(packet).map(|json| encoded(encoding, &json).into_owned()).collect()
    }

    /// As `POST /control/<verb>?<query>`.
    ///
    /// # Errors
    ///
    /// If there is no such verb, a parameter is wrong, or there is no connection or session to do it to.
    pub fn control(&self, verb: &str, query: &str, body: &[u8]) -> Result<(), ControlError> {
        let request = control::Request::parse(verb, query)?;
        let shard = request.shard;
        match request.verb {
            Verb::Connection(asked) => match self.0.command_all(shard, &Command::Misbehave(asked)) {
                0 => return Err(ControlError::NoConnection),
                _ => return Ok(()),
            },
            Verb::Event { name, count } => return self.event(shard, &name, count, body),
            Verb::Start { rate, events } => {
                let mut world = self.0.world();
                let rate = rate.unwrap_or(world.settings.rate);
                let events = events.or(world.settings.events);
                world.start(rate, events);
            }
            Verb::Stop => self.0.world().stop(),
            Verb::Forget => self.0.world().forget_all(shard),
            Verb::RefuseNextResumes(count) => self.0.world().refuse_resumes = count,
            Verb::HelloReconnect(count) => self.0.world().reconnect_at_hello = count,
        }
        self.0.traffic_changed.notify_one();
        Ok(())
    }

    fn event(&self, shard: Option<u32>, name: &str, count: u64, body: &[u8]) -> Result<(), ControlError> {
        let body = match name {
            "SIMULATOR_NULL" if body.is_empty() => b"null",
            _ => body,
        };
        if !body.is_empty() && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
            return Err(ControlError::Body);
        }
        let name: Arc<str> = name.into();
        let body: Arc<[u8]> = body.into();
        let mut world = self.0.world();
        let ids: Vec<_> = world.ids(shard).collect();
        if ids.is_empty() {
            return Err(ControlError::NoSession);
        }
        for id in ids {
            for n in 0..count {
                let what = match body.is_empty() {
                    true => What::Example(Arc::clone(&name), n),
                    false => What::Literal(Arc::clone(&name), Arc::clone(&body)),
                };
                world.push(&id, &name, what);
            }
        }
        Ok(())
    }
}

impl Shared {
    /// What the protocol's rules work on. Never held over an await.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells one connection.
    pub(super) fn command(&self, to: ConnectionId, command: Command) {
        if let Some(open) = self.connections().open.get(&to) {
            open.tell(command);
        }
    }

    /// Tells a shard's connections, or all; how many.
    pub(super) fn command_all(&self, shard: Option<u32>, command: &Command) -> usize {
        let connections = self.connections();
        let wanted = connections.open.values().filter(|open| shard.is_none() || open.shard == shard);
        wanted.map(|open| open.tell(command.clone())).count()
    }

    /// A connection has a session of this shard now.
    pub(super) fn name_shard(&self, connection: ConnectionId, shard: u32) {
        if let Some(open) = self.connections().open.get_mut(&connection) {
            open.shard = Some(shard);
        }
    }

    fn open(&self) -> (ConnectionId, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        self.world().stats.connections += 1;
        let mut connections = self.connections();
        connections.last += 1;
        let id = connections.last;
        connections.open.insert(id, Open { shard: None, commands });
        (id, receiver)
    }
}

impl Open {
    fn tell(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            tracing::warn!("a connection is too far behind with control requests: one was dropped");
        }
    }
}

/// Makes events at the rate that is set, and sweeps sessions.
async fn pace(shared: Arc<Shared>, stop: CancellationToken) {
    let mut due = Instant::now();
    let mut swept = due;
    loop {
        let now = Instant::now();
        let traffic = shared.world().traffic;
        let is_paced = traffic.running && traffic.rate > 0.0;
        if is_paced {
            let step = Duration::from_secs_f64(1.0 / traffic.rate);
            // After a pause there is nothing to catch up with.
            due = due.max(now.checked_sub(Duration::from_secs(1)).unwrap_or(now));
            while due <= now {
                if !shared.world().produce_next() {
                    due = now + step.max(Duration::from_millis(1));
                    break;
                }
                due += step;
            }
        } else {
            due = now;
        }
        if now >= swept + SWEEP {
            swept = now;
            shared.world().expire(now);
        }
        let next = if is_paced { due.min(swept + SWEEP) } else { swept + SWEEP };
        select! {
            () = stop.cancelled() => return,
            () = sleep_until(next.into()) => {}
            () = shared.traffic_changed.notified() => {}
        }
    }
}

/// An upgrade that was granted.
type Granted = Arc<Mutex<Option<(OnUpgrade, Opening, mpsc::Receiver<Command>)>>>;

/// Serves one TCP connection: requests, and the gateway if it comes to that.
async fn serve(shared: Arc<Shared>, stream: TcpStream, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let granted = Granted::default();
    let service = service_fn(|request| {
        let (shared, granted) = (Arc::clone(&shared), Arc::clone(&granted));
        async move { Ok::<_, Infallible>(respond(&shared, &granted, request).await) }
    });
    let http = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    select! {
        result = http.with_upgrades() => if let Err(error) = result {
            tracing::debug!(%error, "a request broke off");
        },
        () = stop.cancelled() => return,
    }
    let taken = granted.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((upgrade, opening, commands)) = taken else { return };
    let id = opening.id;
    if let Ok(upgraded) = upgrade.await
        && let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>()
    {
        let connection = Connection::new(Arc::clone(&shared), parts.io.into_inner(), &parts.read_buf, opening);
        connection.run(commands, stop).await;
    }
    shared.connections().open.remove(&id);
}

async fn respond(shared: &Arc<Shared>, granted: &Granted, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    if let Some(verb) = path.strip_prefix("/control/") {
        return respond_to_control(shared, verb, &query, request).await;
    }
    if path.is_empty() && request.headers().contains_key(UPGRADE) {
        return upgrade(shared, granted, &query, request);
    }
    let api = path.strip_prefix("/api/").map(|rest| match rest.split_once('/') {
        Some((version, rest)) if version.starts_with('v') => rest,
        _ => rest,
    });
    let url = gateway_url(shared, request.headers());
    match (request.method(), api) {
        (&Method::GET, Some("gateway")) => json(StatusCode::OK, serde_json::json!({ "url": url }).to_string()),
        (&Method::GET, Some(known @ ("gateway/bot" | "users/@me" | "oauth2/applications/@me"))) => {
            if !is_authorized(shared, request.headers()) {
                return json(StatusCode::UNAUTHORIZED, r#"{"message":"401: Unauthorized","code":0}"#);
            }
            json(
                StatusCode::OK,
                match known {
                    "gateway/bot" => gateway_bot(shared, &url),
                    "users/@me" => world::user(),
                    _ => application(),
                },
            )
        }
        _ => json(StatusCode::NOT_FOUND, r#"{"message":"404: Not Found","code":0}"#),
    }
}

async fn respond_to_control(
    shared: &Arc<Shared>,
    verb: &str,
    query: &str,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let handle = Handle(Arc::clone(shared));
    match (request.method(), verb) {
        (&Method::GET, "stats") => show(&handle.stats()),
        (&Method::GET, "sessions") => show(&handle.sessions()),
        (&Method::GET, "shards") => show(&handle.shards()),
        (&Method::GET, "commands") => show(&handle.commands()),
        (&Method::POST, _) => {
            let Ok(body) = Limited::new(request.into_body(), BODY).collect().await else {
                return refuse("the body is over 8 MiB, or broke off");
            };
            match handle.control(verb, query, &body.to_bytes()) {
                Ok(()) => show(&handle.stats()),
                Err(error) => refuse(&error.to_string()),
            }
        }
        _ => refuse("control requests are POST, but for GET stats, sessions, shards and commands"),
    }
}

fn upgrade(
    shared: &Arc<Shared>,
    granted: &Granted,
    query: &str,
    mut request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let query: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let Some(transport) = Transport::from_query(query.get("compress").map(String::as_str)) else {
        return refuse("compress is zlib-stream, zstd-stream or left out");
    };
    let Some(key) = request.headers().get("sec-websocket-key").cloned() else {
        return refuse("an upgrade to websocket needs a Sec-WebSocket-Key");
    };
    let url = gateway_url(shared, request.headers());
    let (id, commands) = shared.open();
    let opening = Opening {
        id,
        version: query.get("v").and_then(|version| version.parse().ok()).unwrap_or(0),
        encoding: query.get("encoding").map_or(Some(Encoding::Json), |encoding| Encoding::from_name(encoding)),
        transport,
        url,
    };
    let place = (hyper::upgrade::on(&mut request), opening, commands);
    *granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is a header's value");
    headers.insert("sec-websocket-accept", accept);
    response
}

/// As the client called us, unless it is set.
fn gateway_url(shared: &Shared, headers: &HeaderMap) -> String {
    let host = || headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
    shared.settings.public_url.clone().unwrap_or_else(|| format!("ws://{}", host()))
}

fn is_authorized(shared: &Shared, headers: &HeaderMap) -> bool {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bot "));
    token.is_some_and(|token| shared.world().token_is_right(token))
}

fn gateway_bot(shared: &Shared, url: &str) -> String {
    let (total, remaining, reset_after) = shared.world().session_starts(Instant::now());
    serde_json::json!({
        "url": url,
        "shards": shared.settings.recommended_shards,
        "session_start_limit": {
            "total": total,
            "remaining": remaining,
            "reset_after": reset_after.as_millis() as u64,
            "max_concurrency": shared.settings.max_concurrency,
        },
    })
    .to_string()
}

fn application() -> String {
    let bot = super::template::BOT.to_string();
    serde_json::json!({
        "id": bot, "name": "Optician", "icon": null, "description": "", "summary": "", "bot_public": true,
        "bot_require_code_grant": false, "verify_key": "0".repeat(64), "flags": 565_248, "rpc_origins": null,
        "owner": {
            "id": "1158323841088684053", "username": "owner", "discriminator": "0", "avatar": null, "global_name": "Owner",
        },
        "team": null, "tags": [], "hook": true,
    })
    .to_string()
}

fn show(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    json(StatusCode::OK, serde_json::to_string_pretty(value).expect("counts and names are JSON") + "\n")
}

fn refuse(why: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{why}\n")));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A task that panicked says so; the others go on.
fn examine(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a part of the simulator failed");
    }
}
