//! Who a client says it is, by op 1.

use super::incoming::fields;
use super::refusal::{INTERNAL_ERROR, INVALID_INITIAL_METADATA, NO_DATA, Refusal, UNRECOVERABLE};
use crate::encoding::Value;
use crate::secret::Secret;
use crate::singyeong::ids::ClientKey;
use crate::singyeong::metadata::{Changes, InvalidMetadata};

/// The original makes one atom of both ids, and an atom has no more characters than these and what it puts around them.
const MOST_CHARACTERS: usize = 216;

/// An identify.
#[derive(Clone, Debug, PartialEq)]
pub struct Identify {
    /// Who.
    pub key: ClientKey,
    /// The password.
    pub auth: Auth,
    /// Where REST requests to it go, if it says so.
    pub ip: Option<Box<str>>,
    /// Whatever it says.
    pub namespace: Value,
    /// What it says of itself; or the op 8 for it, which is due once all else is well.
    pub metadata: Result<Changes, Refusal>,
    /// Whether it wants to hear of others that come and go.
    pub receives_client_updates: bool,
}

/// What stands where the password is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Nothing.
    Absent,
    /// A text.
    Password(Secret),
    /// Something else.
    Malformed,
}

impl Identify {
    /// Reads the `d` of an identify. What it does not know it lets pass.
    ///
    /// # Errors
    /// Nobody can be registered by it: op 8.
    pub(super) fn read(d: Value) -> Result<Self, Refusal> {
        let names = ["application_id", "application_name", "client_id", "auth", "ip", "namespace", "metadata", UPDATES];
        let [application, old_application, client, auth, ip, namespace, metadata, updates] = fields(d, names);
        let application = application.filter(|id| !id.is_null() || old_application.is_none()).or(old_application);
        let (Some(application), Some(client)) = (application, client) else {
            return Err(Refusal::new(UNRECOVERABLE));
        };
        let (Value::String(application), Value::String(client)) = (application, client) else {
            return Err(Refusal::new(NO_DATA));
        };
        if application.chars().count() + client.chars().count() > MOST_CHARACTERS {
            return Err(Refusal::new(INTERNAL_ERROR));
        }
        let auth = match auth {
            None | Some(Value::Null) => Auth::Absent,
            Some(Value::String(text)) => Auth::Password(Secret::new(text)),
            Some(_) => Auth::Malformed,
        };
        let ip = match ip {
            Some(Value::String(ip)) => Some(ip),
            _ => None,
        };
        let metadata = match metadata {
            None | Some(Value::Null) => Ok(Changes::default()),
            Some(metadata) => Changes::read(&metadata).map_err(|invalid| match invalid {
                InvalidMetadata::Malformed => Refusal::new(INTERNAL_ERROR),
                InvalidMetadata::Keys(keys) => Refusal::with(INVALID_INITIAL_METADATA, keys),
            }),
        };
        Ok(Self {
            key: ClientKey::new(&application, &client),
            auth,
            ip,
            namespace: namespace.unwrap_or_default(),
            metadata,
            receives_client_updates: updates == Some(Value::Bool(true)),
        })
    }
}

const UPDATES: &str = "receive_client_updates";
