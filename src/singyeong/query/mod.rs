//! Queries: which clients are meant, compiled once (spec/singyeong.md, "Queries").
//!
//! ```text
//! compile ── operator ── path ── term     ops: read, asked of a client, where they look, how values compare
//! members                                 long lists in which something is looked for
//! selector                                the best of those that match
//! key                                     one of those that match, always the same for a key
//! explain                                 why somebody does not match, in words
//! ```

mod compile;
mod explain;
pub mod key;
mod members;
mod operator;
mod path;
mod selector;
mod term;

use std::sync::Arc;

use self::compile::{Compiler, malformed};
pub use self::compile::{MOST_BYTES, MOST_OPERATORS, MOST_SEARCHES};
use self::key::KeyHash;
use self::operator::Operator;
use self::selector::Selector;
use super::client::Client;
use super::metadata::Metadata;
use crate::encoding::Value;

/// A compiled query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    application: Scope,
    restricted: bool,
    key: Option<Box<Key>>,
    droppable: bool,
    optional: bool,
    /// All have to hold.
    operators: Box<[Operator]>,
    selector: Option<Selector>,
}

/// Where clients are looked for.
#[derive(Clone, Debug, PartialEq)]
enum Scope {
    Everywhere,
    In(Box<str>),
    /// In what is no application's id: a list of tags, once. Told back as it came.
    Nowhere(Value),
}

#[derive(Clone, Debug, PartialEq)]
struct Key {
    value: Value,
    hash: KeyHash,
}

/// A query that the packet it is in is refused for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// Operators deeper in each other than is allowed.
    #[error("the query's operators lie more than {0} deep in each other")]
    TooDeep(usize),
    /// More operators than are allowed.
    #[error("the query has more than {0} operators")]
    TooMany(usize),
    /// More operators that go through what clients have than are allowed.
    #[error("the query has more than {0} operators that look into clients' values")]
    TooManySearches(usize),
    /// Larger than is allowed: each value of it may be compared with what thousands of clients have.
    #[error("the query's values have more than {0} bytes")]
    TooLarge(usize),
    /// Anything else; in words.
    #[error("{0}")]
    Malformed(String),
}

/// Whom operators are asked of. The metadata may lie elsewhere than in the client, where it is faster reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub metadata: &'a Metadata,
    /// For what the server says of it.
    pub client: &'a Client,
}

impl<'a> Subject<'a> {
    pub fn of(client: &'a Client) -> Self {
        Self { metadata: &client.metadata, client }
    }
}

impl Query {
    /// Compiles a target.
    ///
    /// # Errors
    /// What of it is no query.
    pub fn compile(target: &Value, most_depth: usize) -> Result<Self, InvalidQuery> {
        if !matches!(target, Value::Map(_) | Value::Null) {
            return Err(malformed("a target is neither an object nor null"));
        }
        let get = |key| target.get(key).unwrap_or(&Value::Null);
        let mut compiler = Compiler::new(most_depth);
        for other in ["application", "key", "selector"] {
            compiler.take(get(other))?;
        }
        let flag = |key| match get(key) {
            Value::Bool(is) => *is,
            Value::String(text) => &**text == "true",
            _ => false,
        };
        let operators = match get("ops") {
            Value::Null | Value::Bool(false) => Vec::new(),
            Value::Map(map) if map.is_empty() => Vec::new(),
            Value::List(operators) => compiler.operators(operators, 1)?,
            _ => return Err(malformed("a target's \"ops\" is no list")),
        };
        if get("selector").as_map().is_some_and(|selector| selector.is_empty()) {
            return Err(malformed("a target's selector is empty"));
        }
        Ok(Self {
            application: match get("application") {
                Value::Null => Scope::Everywhere,
                Value::String(application) => Scope::In(application.clone()),
                other => Scope::Nowhere(other.clone()),
            },
            restricted: flag("restricted"),
            key: Some(get("key"))
                .filter(|key| !key.is_null())
                .map(|key| Box::new(Key { value: key.clone(), hash: KeyHash::of(key) })),
            droppable: flag("droppable"),
            optional: flag("optional"),
            operators: operators.into(),
            selector: Selector::read(get("selector")),
        })
    }

    /// The application that it asks for; none for all.
    pub fn application(&self) -> Option<&str> {
        if let Scope::In(application) = &self.application { Some(application) } else { None }
    }

    /// Whether it matches no application whatever is registered, as with a list of them.
    pub fn is_for_nobody(&self) -> bool {
        matches!(self.application, Scope::Nowhere(_))
    }

    /// Whether nobody is told that none matched.
    pub fn is_droppable(&self) -> bool {
        self.droppable
    }

    /// Whether it is asked again without operators and selector when nobody matches.
    pub fn is_optional(&self) -> bool {
        self.optional
    }

    /// The key by which one of those that match is chosen.
    pub fn key(&self) -> Option<KeyHash> {
        self.key.as_ref().map(|key| key.hash)
    }

    /// Whether it says nothing but an application: every unrestricted client of it matches.
    pub fn is_plain(&self) -> bool {
        self.operators.is_empty()
            && self.selector.is_none()
            && self.key.is_none()
            && !self.restricted
            && !self.droppable
            && !self.optional
    }

    /// Whether it has no operators.
    pub fn has_operators(&self) -> bool {
        !self.operators.is_empty()
    }

    /// Whether it has a selector.
    pub fn has_selector(&self) -> bool {
        self.selector.is_some()
    }

    /// Whether this client is of the application, may be found, and its metadata matches; selector and `optional` are nothing
    /// of one client's.
    pub fn admits(&self, client: &Client) -> bool {
        (match &self.application {
            Scope::Everywhere => true,
            Scope::In(application) => client.key.application.as_str() == &**application,
            Scope::Nowhere(_) => false,
        }) && self.is_visible(client.restricted)
            && self.holds_for(Subject::of(client))
    }

    /// Whether it may find such a client at all.
    pub(super) fn is_visible(&self, restricted: bool) -> bool {
        self.restricted || !restricted
    }

    /// Whether the operators hold.
    pub(super) fn holds_for(&self, subject: Subject<'_>) -> bool {
        operator::all(&self.operators, subject) == Some(true)
    }

    /// Whether this is another question without its operators, which is asked when nobody matches.
    pub(super) fn asks_again(&self) -> bool {
        self.optional && self.has_operators()
    }

    /// Leaves those that the selector selects.
    pub(super) fn select(&self, clients: &mut Vec<&Arc<Client>>) {
        if let Some(selector) = &self.selector {
            selector.narrow(clients);
        }
    }

    /// With all seven keys, as it is told back. Compiled, it is the same query.
    pub fn to_value(&self) -> Value {
        let selector = self.selector.as_ref().map_or(Value::Null, Selector::to_value);
        Value::map([
            (
                "application",
                match &self.application {
                    Scope::Everywhere => Value::Null,
                    Scope::In(application) => Value::String(application.clone()),
                    Scope::Nowhere(other) => other.clone(),
                },
            ),
            ("restricted", Value::Bool(self.restricted)),
            ("key", self.key.as_ref().map_or(Value::Null, |key| key.value.clone())),
            ("droppable", Value::Bool(self.droppable)),
            ("optional", Value::Bool(self.optional)),
            ("ops", Value::List(self.operators.iter().map(Operator::to_value).collect())),
            ("selector", selector),
        ])
    }
}

#[cfg(test)]
mod tests;
