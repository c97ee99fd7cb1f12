//! What a client identifies as, and whether it may.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Rules;
use crate::cluster::node::NodeId;
use crate::encoding::{Encoding, Value};
use crate::passwords::Verdict;
use crate::singyeong::client::{Client, Kind};
use crate::singyeong::close_code::CloseCode;
use crate::singyeong::ids::ClientKey;
use crate::singyeong::metadata::{Changes, Metadata};
use crate::singyeong::outbox::value_weight;
use crate::singyeong::packet::identify::{Auth, Identify};
use crate::singyeong::packet::refusal::{INTERNAL_ERROR, INVALID_INITIAL_METADATA, INVALID_METADATA, Refusal};

/// Names have no more, and a port or a path may follow.
const MOST_IP: usize = 255;

/// A client that may be registered if nobody has its ids.
#[derive(Debug)]
pub struct Registration {
    /// Who.
    pub key: ClientKey,
    /// Whether it may only be looked at.
    pub restricted: bool,
    /// How long its answer is to wait: it has given a password, and a wrong one.
    pub wait: Duration,
    encoding: Encoding,
    ip: Option<Box<str>>,
    namespace: Value,
    receives_client_updates: bool,
    metadata: Metadata,
}

impl Registration {
    /// The client, connected to this process since a time that the hub's keeper fills in.
    pub fn into_client(self, node: NodeId) -> Client {
        Client {
            key: self.key,
            node,
            since: 0,
            kind: Kind::Websocket,
            restricted: self.restricted,
            encoding: self.encoding,
            ip: self.ip,
            namespace: self.namespace.into(),
            receives_client_updates: self.receives_client_updates,
            last_heartbeat: 0,
            queues: Default::default(),
            metadata: self.metadata,
        }
    }
}

impl Rules {
    /// A client's metadata with changes taken in.
    ///
    /// # Errors
    /// It would be too large.
    pub fn merged(&self, client: &Client, changes: Changes) -> Result<Metadata, Refusal> {
        let mut merged = client.metadata.clone();
        merged.merge(changes);
        let beside =
            Beside { key: &client.key, ip: client.ip.as_deref().unwrap_or_default(), namespace: &client.namespace };
        self.check_size(&merged, &beside).map_err(|why| Refusal::with(INVALID_METADATA, why))?;
        Ok(merged)
    }

    /// The largest key is named, as the one to be made smaller.
    fn check_size(&self, metadata: &Metadata, beside: &Beside<'_>) -> Result<(), Value> {
        let (size, most) = (metadata.size() + beside.size(), self.limits.metadata);
        if size <= most {
            return Ok(());
        }
        let weights = metadata.iter().map(|(key, _, value)| (key.len() + value_weight(value), key));
        let largest = weights.chain([(beside.namespace_size(), "namespace")]).max().map_or("", |(_, key)| key);
        let why = format!("metadata is too large: {size} bytes, and {most} are allowed");
        Err(Value::map([(largest, Value::string(&why))]))
    }
}

/// What every process keeps of a client beside its metadata, and counts with it.
struct Beside<'a> {
    key: &'a ClientKey,
    ip: &'a str,
    namespace: &'a Value,
}

impl Beside<'_> {
    fn size(&self) -> usize {
        let ClientKey { application, client } = self.key;
        application.as_str().len() + client.as_str().len() + self.ip.len() + self.namespace_size()
    }

    fn namespace_size(&self) -> usize {
        if self.namespace.is_null() { 0 } else { value_weight(self.namespace) }
    }
}

/// Whether this may be registered.
///
/// # Errors
/// What the client is told before it is closed, and with which code.
pub(super) fn check(
    identify: Identify,
    rules: &Rules,
    encoding: Encoding,
    peer: IpAddr,
    now: Instant,
) -> Result<Registration, (Refusal, CloseCode)> {
    let bad = |refusal| (refusal, CloseCode::BadIdentify);
    let key = identify.key;
    if key.application == rules.gateway {
        let error = format!("application {} is the gateway's own: nobody can identify as it", key.application);
        return Err(bad(Refusal::new(&error)));
    }
    let given = match &identify.auth {
        Auth::Malformed if rules.passwords.is_set() => return Err(bad(Refusal::new(INTERNAL_ERROR))),
        Auth::Password(given) => Some(given.expose()),
        Auth::Absent | Auth::Malformed => None,
    };
    let (restricted, wait) = match rules.passwords.check(given, peer, now) {
        Verdict::Right => (false, Duration::ZERO),
        Verdict::Wrong(wait) => (true, wait),
        Verdict::TooMany => return Err((Refusal::new("too many wrong passwords"), CloseCode::TryAgainLater)),
    };
    let mut metadata = Metadata::default();
    metadata.merge(identify.metadata.map_err(bad)?);
    let ip = identify.ip.unwrap_or_else(|| peer.to_canonical().to_string().into());
    let invalid = |why| bad(Refusal::with(INVALID_INITIAL_METADATA, why));
    if ip.len() > MOST_IP {
        let why = format!("ip: more than {MOST_IP} bytes");
        return Err(invalid(Value::map([("ip", Value::string(&why))])));
    }
    let beside = Beside { key: &key, ip: &ip, namespace: &identify.namespace };
    rules.check_size(&metadata, &beside).map_err(invalid)?;
    Ok(Registration {
        key,
        restricted,
        wait,
        encoding,
        ip: (!restricted).then_some(ip),
        namespace: identify.namespace,
        receives_client_updates: identify.receives_client_updates && !restricted,
        metadata,
    })
}
