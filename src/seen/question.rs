//! What one process asks all others of its group for the page, and what each of them answers: JSON with a version.
//!
//! Who reads may be older or newer than who wrote: what is not known is passed over, and a question that is not understood is
//! not answered.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::clients::{ClientsAnswer, ClientsQuestion};
use super::report::Report;
use super::sample::Sample;
use crate::cluster::node::NodeId;

/// Read and written.
pub const VERSION: u32 = 1;

/// A question to all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// The layout of this.
    pub version: u32,
    /// Who asks: it hears itself, too.
    pub node: NodeId,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Ask {
    /// How each is, and what happened since.
    Report(Since),
    /// 신경's clients: who serves them answers.
    Clients(ClientsQuestion),
    /// What a newer process may ask.
    #[serde(other)]
    Unknown,
}

/// From when on samples are wanted, in Unix seconds: those that begin later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// From all that are not in `behind`.
    pub samples_after: u64,
    /// From these, because the asker lacks more of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub behind: BTreeMap<NodeId, u64>,
}

impl Since {
    /// After when this process's samples are wanted.
    pub fn after(&self, node: &NodeId) -> u64 {
        self.behind.get(node).copied().unwrap_or(self.samples_after)
    }
}

/// A process's answer to [`Ask::Report`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The layout of this.
    pub version: u32,
    /// How it is.
    pub report: Report,
    /// What it was asked for: all samples later than this are here.
    pub samples_after: u64,
    /// Oldest first.
    pub samples: Vec<Sample>,
}

/// A process's answer to [`Ask::Clients`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToldClients {
    /// The layout of this.
    pub version: u32,
    /// What there is to tell.
    pub clients: ClientsAnswer,
}

/// Why a message is passed over.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is no JSON, or not of this kind.
    #[error("it cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A process of another version wrote it.
    #[error("it is of version {0}, and this process reads version {VERSION}")]
    Version(u32),
}

/// What goes between processes.
pub trait Message: Serialize + DeserializeOwned {
    /// Its layout.
    fn version(&self) -> u32;

    /// As it goes out.
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, texts and tables of them are JSON")
    }

    /// As it came in.
    ///
    /// # Errors
    /// It is of another version, or it is something else.
    fn read(json: &[u8]) -> Result<Self, Unreadable> {
        /// All that a process of another version must have left as it was.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        match serde_json::from_slice::<Self>(json) {
            Ok(read) if read.version() == VERSION => Ok(read),
            Ok(read) => Err(Unreadable::Version(read.version())),
            Err(error) => Err(match serde_json::from_slice(json) {
                Ok(Version { version }) if version != VERSION => Unreadable::Version(version),
                _ => Unreadable::Json(error),
            }),
        }
    }
}

impl Message for Question {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Message for Told {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Message for ToldClients {
    fn version(&self) -> u32 {
        self.version
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::of_run(name, 1)
    }

    #[test]
    fn a_question_is_what_the_specification_shows() {
        let behind = BTreeMap::from([(node("b"), 20)]);
        let ask = Ask::Report(Since { samples_after: 40, behind });
        let question = Question { version: VERSION, node: node("a"), ask };
        let text = r#"{"version":1,"node":"a.00000001","ask":{"kind":"report","samples_after":40,"behind":{"b.00000001":20}}}"#;
        assert_eq!(String::from_utf8(question.to_json()).expect("text"), text);
        assert_eq!(Question::read(text.as_bytes()).expect("read"), question);

        let asked = ClientsQuestion { target: Some(json!({ "application": "a" })), limit: 200 };
        let question = Question { version: VERSION, node: node("a"), ask: Ask::Clients(asked) };
        assert_eq!(Question::read(&question.to_json()).expect("read"), question);
    }

    #[test]
    fn each_is_asked_for_what_is_lacking_of_it() {
        let since = Since { samples_after: 40, behind: BTreeMap::from([(node("b"), 20)]) };
        assert_eq!((since.after(&node("a")), since.after(&node("b"))), (40, 20));
    }

    #[test]
    fn what_a_newer_process_asks_besides_is_passed_over() {
        let text = r#"{"version":1,"node":"a.1","new":[],"ask":{"kind":"report","samples_after":4,"new":{}}}"#;
        let read = Question::read(text.as_bytes()).expect("read");
        assert_eq!(read.ask, Ask::Report(Since { samples_after: 4, behind: BTreeMap::new() }));
        let text = r#"{"version":1,"node":"a.1","ask":{"kind":"weather","where":"here"}}"#;
        assert_eq!(Question::read(text.as_bytes()).expect("read").ask, Ask::Unknown);
    }

    #[test]
    fn another_version_is_told_from_what_is_broken() {
        for text in [r#"{"version":2}"#, r#"{"version":2,"node":"a.1","ask":{"kind":"report","samples_after":4}}"#] {
            assert!(matches!(Question::read(text.as_bytes()), Err(Unreadable::Version(2))), "{text}");
        }
        for text in ["", "{}", "[]", r#"{"version":1}"#, r#"{"version":1,"node":"a b","ask":{"kind":"weather"}}"#] {
            assert!(matches!(Question::read(text.as_bytes()), Err(Unreadable::Json(_))), "{text}");
        }
    }
}
