//! Operators: what they are called, and what they say of a client.
//!
//! A path that leads nowhere is neither true nor false, whatever the operator, and only what is true matches.

use std::cmp::Ordering;

use super::Subject;
use super::members::{self, Members};
use super::path::{Found, Path};
use super::term::Term;
use crate::encoding::Value;
use crate::singyeong::metadata::version::Version;

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
    Fixed(Fixed),
    /// What the client has there, or else this.
    Path(Path, Fixed),
}

/// A value of the query's own: taken apart once, since it is compared with what thousands of clients have.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fixed {
    Value(Value),
    /// A long list in which something is looked for.
    Members(Members),
    /// A text that is a version: compared as one with what is a version, too.
    Version(Version),
}

impl Fixed {
    pub fn of(comparison: Comparison, value: Value) -> Self {
        match value {
            Value::List(values) if comparison.looks_into_operand() && values.len() > members::FEW => {
                Self::Members(Members::new(values))
            }
            Value::String(text) if comparison.is_by_order() => match Version::parse(&text) {
                Some(version) => Self::Version(version),
                None => Self::Value(Value::String(text)),
            },
            value => Self::Value(value),
        }
    }

    /// As it was given, looked at.
    pub fn term(&self) -> Term<'_> {
        match self {
            Self::Value(value) => value.into(),
            Self::Members(members) => members.term_of_all(),
            Self::Version(version) => version.as_str().into(),
        }
    }

    /// As it was given.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Value(value) => value.clone(),
            Self::Members(members) => members.to_value(),
            Self::Version(version) => Value::string(version.as_str()),
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

    /// Whether the list is the operand, and what is looked for the client's.
    const fn looks_into_operand(self) -> bool {
        matches!(self, Self::In | Self::Nin)
    }

    /// Whether the list is the client's.
    pub const fn looks_into_client(self) -> bool {
        matches!(self, Self::Contains | Self::Ncontains)
    }

    const fn is_by_order(self) -> bool {
        !self.looks_into_operand() && !self.looks_into_client()
    }

    #[inline]
    fn holds(self, found: Found<'_>, operand: Term<'_>) -> bool {
        match self {
            Self::In => is_member(found.term, operand) == Some(true),
            Self::Nin => is_member(found.term, operand) == Some(false),
            Self::Contains => is_member(operand, found.term) == Some(true),
            Self::Ncontains => is_member(operand, found.term) == Some(false),
            _ => self.admits(found.compare(operand)),
        }
    }

    /// Whether it holds of what is so to the operand; of those that go by order.
    #[inline]
    fn admits(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Gt => order.is_gt(),
            Self::Gte => order.is_ge(),
            Self::Lt => order.is_lt(),
            Self::Lte => order.is_le(),
            Self::In | Self::Nin | Self::Contains | Self::Ncontains => false,
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
    #[inline]
    pub fn evaluate(&self, subject: Subject<'_>) -> Option<bool> {
        match self {
            Self::Compare { path, comparison, to } => {
                let found = path.find(subject)?;
                let fixed = match to {
                    Operand::Fixed(fixed) => fixed,
                    Operand::Path(path, default) => match path.find(subject) {
                        Some(operand) => return Some(comparison.holds(found, operand.term)),
                        None => default,
                    },
                };
                Some(match fixed {
                    Fixed::Value(value) => comparison.holds(found, value.into()),
                    Fixed::Members(members) => members.contains(found.term) == (*comparison == Comparison::In),
                    Fixed::Version(version) => comparison.admits(found.compare_version(version)),
                })
            }
            Self::Combine { logic, with } => combine(*logic, with, subject),
        }
    }
}

/// Apart from the comparisons, which are nearly all: those are done where they are asked for.
#[inline(never)]
fn combine(logic: Logic, with: &[Operator], subject: Subject<'_>) -> Option<bool> {
    match logic {
        Logic::And => all(with, subject),
        Logic::Or => any(with, subject),
        // As the original has it, though nothing is true of none.
        Logic::Nor if with.is_empty() => Some(false),
        Logic::Nor => any(with, subject).map(|any| !any),
    }
}

/// Whether all hold; one that does not decides, one that cannot be said leaves it open.
#[inline]
pub(super) fn all(operators: &[Operator], subject: Subject<'_>) -> Option<bool> {
    let mut result = Some(true);
    for operator in operators {
        match operator.evaluate(subject) {
            Some(false) => return Some(false),
            Some(true) => {}
            None => result = None,
        }
    }
    result
}

fn any(operators: &[Operator], subject: Subject<'_>) -> Option<bool> {
    let mut result = Some(false);
    for operator in operators {
        match operator.evaluate(subject) {
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
