//! What a client identifies as, and whether it may.

use std::net::IpAddr;

use super::Rules;
use crate::cluster::node::NodeId;
use crate::encoding::{Encoding, Value};
use crate::singyeong::client::{Client, Kind};
use crate::singyeong::ids::ClientKey;
use crate::singyeong::metadata::{Changes, Metadata};
use crate::singyeong::outbox::value_weight;
use crate::singyeong::packet::identify::{Auth, Identify};
use crate::singyeong::packet::refusal::{INTERNAL_ERROR, INVALID_INITIAL_METADATA, INVALID_METADATA, Refusal};

/// A client that may be registered if nobody has its ids.
#[derive(Debug)]
pub struct Registration {
    /// Who.
    pub key: ClientKey,
    /// Whether it may only be looked at.
    pub restricted: bool,
    /// Whether it has given a password, and a wrong one: its answer is to wait.
    pub failed: bool,
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
    /// Metadata with changes taken in.
    ///
    /// # Errors
    /// It would be too large.
    pub fn merged(&self, metadata: &Metadata, changes: Changes) -> Result<Metadata, Refusal> {
        let mut merged = metadata.clone();
        merged.merge(changes);
        self.check_size(&merged).map_err(|why| Refusal::with(INVALID_METADATA, why))?;
        Ok(merged)
    }

    /// The largest key is named, as the one to be made smaller.
    fn check_size(&self, metadata: &Metadata) -> Result<(), Value> {
        let (size, most) = (metadata.size(), self.limits.metadata);
        if size <= most {
            return Ok(());
        }
        let weights = metadata.iter().map(|(key, _, value)| (key.len() + value_weight(value), key));
        let largest = weights.max().map_or("", |(_, key)| key);
        let why = format!("metadata is too large: {size} bytes, and {most} are allowed");
        Err(Value::map([(largest, Value::string(&why))]))
    }
}

/// Whether this may be registered.
///
/// # Errors
/// What the client is told before it is closed.
pub(super) fn check(
    identify: Identify,
    rules: &Rules,
    encoding: Encoding,
    peer: IpAddr,
) -> Result<Registration, Refusal> {
    let key = identify.key;
    if key.application == rules.gateway {
        let error = format!("application {} is the gateway's own: nobody can identify as it", key.application);
        return Err(Refusal::new(&error));
    }
    let (restricted, failed) = match &identify.auth {
        _ if !rules.passwords.is_set() => (false, false),
        Auth::Absent => (true, false),
        Auth::Password(given) => {
            let is_wrong = !rules.passwords.accepts(Some(given.expose()));
            (is_wrong, is_wrong)
        }
        Auth::Malformed => return Err(Refusal::new(INTERNAL_ERROR)),
    };
    let mut metadata = Metadata::default();
    metadata.merge(identify.metadata?);
    rules.check_size(&metadata).map_err(|why| Refusal::with(INVALID_INITIAL_METADATA, why))?;
    let ip = identify.ip.unwrap_or_else(|| peer.to_canonical().to_string().into());
    Ok(Registration {
        key,
        restricted,
        failed,
        encoding,
        ip: (!restricted).then_some(ip),
        namespace: identify.namespace,
        receives_client_updates: identify.receives_client_updates && !restricted,
        metadata,
    })
}
