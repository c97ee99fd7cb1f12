//! Queries: which clients are meant, compiled once (spec/singyeong.md, "Queries").

use crate::encoding::Value;

/// A compiled query.
#[derive(Clone, Debug)]
pub struct Query {}

/// A query that the packet it is in is refused for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// Operators deeper in each other than is allowed.
    #[error("the query's operators lie more than {0} deep in each other")]
    TooDeep(usize),
    /// Anything else; in words.
    #[error("{0}")]
    Malformed(String),
}

impl Query {
    /// Compiles a target.
    ///
    /// # Errors
    /// What of it is no query.
    pub fn compile(_target: &Value, _most_depth: usize) -> Result<Self, InvalidQuery> {
        unimplemented!()
    }

    /// The application that it asks for; none for all.
    pub fn application(&self) -> Option<&str> {
        unimplemented!()
    }

    /// Whether it matches no application whatever is registered, as with a list of them.
    pub fn is_for_nobody(&self) -> bool {
        unimplemented!()
    }

    /// Whether nobody is told that none matched.
    pub fn is_droppable(&self) -> bool {
        unimplemented!()
    }

    /// Whether it says nothing but an application: every unrestricted client of it matches.
    pub fn is_plain(&self) -> bool {
        unimplemented!()
    }

    /// With all seven keys, as it is told back.
    pub fn to_value(&self) -> Value {
        unimplemented!()
    }
}
