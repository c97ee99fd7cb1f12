//! Who is who: applications, clients, connections.

use std::fmt;
use std::sync::Arc;

/// An application's id: any text. It is a Spectacles subgroup.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Application(Arc<str>);

/// A client's id within its application: any text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Arc<str>);

/// A client: no two at a time are of the same application and have the same id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey {
    /// Its application.
    pub application: Application,
    /// Its id there.
    pub client: ClientId,
}

/// One connection to this process; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ClientKey {
    /// The client of these ids.
    pub fn new(application: &str, client: &str) -> Self {
        Self { application: Application::new(application), client: ClientId::new(client) }
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.client, self.application)
    }
}

impl ConnectionId {
    /// The `n`-th connection.
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

macro_rules! text {
    ($($name:ident)+) => {$(
        impl $name {
            /// The id of this text.
            pub fn new(text: &str) -> Self {
                Self(text.into())
            }

            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

text!(Application ClientId);
