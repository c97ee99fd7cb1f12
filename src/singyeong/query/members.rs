//! A long list in which a value is looked for, once for each of thousands of clients: it is sorted when it is compiled.

use std::cmp::Ordering;

use super::term::Term;
use crate::encoding::Value;

/// Shorter lists are gone through.
pub(super) const FEW: usize = 16;

/// A list, and how it is sorted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Members {
    values: Box<[Value]>,
    /// Places in the list, by the order of terms; of neighbours that are the same only one.
    sorted: Box<[usize]>,
}

impl Members {
    pub fn new(values: Box<[Value]>) -> Self {
        let term = |at: usize| Term::from(&values[at]);
        let mut sorted: Vec<usize> = (0..values.len()).collect();
        sorted.sort_by(|a, b| term(*a).compare(term(*b)));
        sorted.dedup_by(|a, b| term(*a).is(term(*b)));
        Self { sorted: sorted.into(), values }
    }

    /// Whether it is in the list; 1 is not 1.0.
    pub fn contains(&self, term: Term<'_>) -> bool {
        let begin = self.sorted.partition_point(|at| self.term(*at).compare(term) == Ordering::Less);
        let equal =
            self.sorted[begin..].iter().map(|at| self.term(*at)).take_while(|found| found.compare(term).is_eq());
        equal.into_iter().any(|found| found.is(term))
    }

    /// The list as it came, looked at.
    pub fn term_of_all(&self) -> Term<'_> {
        Term::List(&self.values)
    }

    /// The list as it came.
    pub fn to_value(&self) -> Value {
        Value::List(self.values.clone())
    }

    fn term(&self, at: usize) -> Term<'_> {
        Term::from(&self.values[at])
    }
}
