//! Operators: what they are called, and what they say of a client.
//!
//! A path that leads nowhere is neither true nor false, whatever the operator, and only what is true matches.

use super::members::{self, Members};
use super::path::{Found, Path};
use super::term::Term;
use crate::encoding::Value;
use crate::singyeong::client::Client;

/// An operator with what it is about.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operator {
    Compare { path: Path, comparison: Comparison, to: Operand },
    Combine { logic: Logic, with: Box<[Operator]> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
    In,
    Nin,
    Contains,
    Ncontains,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
    Nor,
}

/// What is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Value(Value),
    /// A long list in which something is looked for.
    Members(Members),
    /// What the client has there, or else this.
    Path(Path, Value),
}

impl Operand {
    pub fn of_value(comparison: Comparison, value: Value) -> Self {
        match value {
            Value::List(values)
                if matches!(comparison, Comparison::In | Comparison::Nin) && values.len() > members::FEW =>
            {
                Self::Members(Members::new(values))
            }
            value => Self::Value(value),
        }
    }

    /// The value, unless it is a client's own.
    pub fn value(&self) -> Option<Value> {
        match self {
            Self::Value(value) => Some(value.clone()),
            Self::Members(members) => Some(members.to_value()),
            Self::Path(..) => None,
        }
    }
}

impl Comparison {
    const ALL: [Self; 10] = [
        Self::Eq,
        Self::Ne,
        Self::Gt,
        Self::Gte,
        Self::Lt,
        Self::Lte,
        Self::In,
        Self::Nin,
        Self::Contains,
        Self::Ncontains,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Eq => "$eq",
            Self::Ne => "$ne",
            Self::Gt => "$gt",
            Self::Gte => "$gte",
            Self::Lt => "$lt",
            Self::Lte => "$lte",
            Self::In => "$in",
            Self::Nin => "$nin",
            Self::Contains => "$contains",
            Self::Ncontains => "$ncontains",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|comparison| comparison.name() == name)
    }

    fn holds(self, found: Found<'_>, operand: Term<'_>) -> bool {
        let order = || found.compare(operand);
        match self {
            Self::Eq => order().is_eq(),
            Self::Ne => order().is_ne(),
            Self::Gt => order().is_gt(),
            Self::Gte => order().is_ge(),
            Self::Lt => order().is_lt(),
            Self::Lte => order().is_le(),
            Self::In => is_member(found.term, operand) == Some(true),
            Self::Nin => is_member(found.term, operand) == Some(false),
            Self::Contains => is_member(operand, found.term) == Some(true),
            Self::Ncontains => is_member(operand, found.term) == Some(false),
        }
    }
}

impl Logic {
    const ALL: [Self; 3] = [Self::And, Self::Or, Self::Nor];

    pub const fn name(self) -> &'static str {
        match self {
            Self::And => "$and",
            Self::Or => "$or",
            Self::Nor => "$nor",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|logic| logic.name() == name)
    }
}

impl Operator {
    /// Whether it holds; none if that cannot be said.
    pub fn evaluate(&self, client: &Client) -> Option<bool> {
        match self {
            Self::Compare { path, comparison, to } => {
                let found = path.find(client)?;
                let operand = match to {
                    Operand::Value(value) => value.into(),
                    Operand::Members(members) => {
                        return Some(members.contains(found.term) == (*comparison == Comparison::In));
                    }
                    Operand::Path(path, default) => {
                        path.find(client).map_or_else(|| default.into(), |found| found.term)
                    }
                };
                Some(comparison.holds(found, operand))
            }
            Self::Combine { logic: Logic::And, with } => all(with, client),
            Self::Combine { logic: Logic::Or, with } => any(with, client),
            // As the original has it, though nothing is true of none.
            Self::Combine { logic: Logic::Nor, with } if with.is_empty() => Some(false),
            Self::Combine { logic: Logic::Nor, with } => any(with, client).map(|any| !any),
        }
    }
}

/// Whether all hold; one that does not decides, one that cannot be said leaves it open.
pub(super) fn all(operators: &[Operator], client: &Client) -> Option<bool> {
    let mut result = Some(true);
    for operator in operators {
        match operator.evaluate(client) {
            Some(false) => return Some(false),
            Some(true) => {}
            None => result = None,
        }
    }
    result
}

fn any(operators: &[Operator], client: &Client) -> Option<bool> {
    let mut result = Some(false);
    for operator in operators {
        match operator.evaluate(client) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => result = None,
        }
    }
    result
}

/// Whether it is in a list, or a key of a map; none if the container is neither.
fn is_member(member: Term<'_>, container: Term<'_>) -> Option<bool> {
    match container {
        Term::List(values) => Some(values.iter().any(|value| member.is(value.into()))),
        Term::Map(map) => {
            let Term::Binary(key) = member else { return Some(false) };
            Some(std::str::from_utf8(key).is_ok_and(|key| map.get(key).is_some()))
        }
        _ => None,
    }
}
