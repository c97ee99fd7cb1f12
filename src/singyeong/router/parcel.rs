//! What processes send each other, each to the other's own queue: a header that says what is to be done with the body.
//!
//! A parcel that its process does not take in time is dead-lettered, and comes to anybody who routes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::origin::{Address, Op};
use crate::cluster::node::NodeId;

/// The header.
pub(super) const HEADER: &str = "x-singyeong-parcel";
/// Of what we write, and all that we read.
const VERSION: u32 = 1;

/// A parcel's header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Parcel {
    version: u32,
    /// How often it was on its way already, of what is not routed again.
    pub(super) tries: u32,
    /// How long it has waited to be routed again, in milliseconds.
    #[serde(default)]
    waited: u32,
    #[serde(flatten)]
    pub(super) kind: Kind,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Kind {
    /// The body is a `SEND`, chosen to be for this client.
    Send {
        /// Of the process.
        to: Address,
    },
    /// The body is a `BROADCAST`; for those that match there, or those that the body lists.
    Share {
        /// The process.
        node: NodeId,
    },
    /// The body and the other headers are a queue's message, for clients of the process that wait for one.
    Queued {
        /// Whose queue; none, when it is nobody's alone.
        application: Option<String>,
        /// Its name.
        queue: String,
    },
    /// The body is a message that nobody matched.
    NoRoute {
        /// Its sender.
        to: Address,
        /// What it was.
        op: Op,
    },
    /// The body is the gateway's answer.
    Answer {
        /// Who asked.
        to: Address,
    },
    /// Is this client healthy?
    Probe {
        /// Of the question.
        id: u64,
        /// Which.
        to: Address,
        /// Who asks.
        from: NodeId,
    },
    /// The answer.
    Probed {
        /// Of the question.
        id: u64,
        /// Whether it is.
        healthy: bool,
    },
}

/// Why a header is no parcel of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// A later Optic wrote it.
    #[error("it is a parcel of version {0}, and this Optic reads version {VERSION}")]
    Version(u64),
    /// Nobody did.
    #[error("the header \"{HEADER}\" is no parcel: {0}")]
    Malformed(String),
}

impl Parcel {
    pub(super) const fn new(kind: Kind) -> Self {
        Self::again(kind, 0)
    }

    pub(super) const fn again(kind: Kind, tries: u32) -> Self {
        Self { version: VERSION, tries, waited: 0, kind }
    }

    /// The same, that has waited so long.
    pub(super) fn waited(self, waited: Duration) -> Self {
        Self { waited: waited.as_millis().try_into().unwrap_or(u32::MAX), ..self }
    }

    /// How long it has.
    pub(super) const fn has_waited(&self) -> Duration {
        Duration::from_millis(self.waited as u64)
    }

    pub(super) fn read(text: &str) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let malformed = |error: serde_json::Error| Unreadable::Malformed(error.to_string());
        let Version { version } = serde_json::from_str(text).map_err(malformed)?;
        if version != u64::from(VERSION) {
            return Err(Unreadable::Version(version));
        }
        serde_json::from_str(text).map_err(malformed)
    }

    pub(super) fn to_header(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::singyeong::ids::ClientKey;

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        let (to, node) = (Address::of(&ClientKey::new("app", "1")), NodeId::of_run("web", 1));
        let kinds = [
            Kind::Send { to: to.clone() },
            Kind::Share { node: node.clone() },
            Kind::Queued { application: Some("app".to_owned()), queue: "q".to_owned() },
            Kind::Queued { application: None, queue: "q".to_owned() },
            Kind::NoRoute { to: to.clone(), op: Op::Send },
            Kind::Answer { to: to.clone() },
            Kind::Probe { id: u64::MAX, to, from: node },
            Kind::Probed { id: u64::MAX, healthy: true },
        ];
        for kind in kinds {
            let parcel = Parcel::again(kind, 3).waited(Duration::from_millis(75));
            assert_eq!(Parcel::read(&parcel.to_header()), Ok(parcel));
        }
    }

    #[test]
    fn the_words_are_those_of_the_page() {
        let to = Address::of(&ClientKey::new("app", "1"));
        let header = Parcel::new(Kind::Send { to }).to_header();
        assert_eq!(
            header,
            r#"{"version":1,"tries":0,"waited":0,"kind":"send","to":{"application":"app","client":"1"}}"#
        );
    }

    #[test]
    fn another_version_is_told_from_nonsense() {
        assert_eq!(Parcel::read(r#"{"version":2,"kind":"new"}"#), Err(Unreadable::Version(2)));
        for text in ["", "{}", "[1]", r#"{"version":1,"tries":0,"kind":"new"}"#, r#"{"version":1,"tries":0}"#] {
            assert!(matches!(Parcel::read(text), Err(Unreadable::Malformed(_))), "{text}");
        }
    }
}
