//! Selectors: of those that match, the ones with the least or the greatest of something, or the nearest to the mean.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Subject;
use super::path::{Found, Path};
use super::term::Term;
use crate::encoding::Value;
use crate::singyeong::client::Client;

/// A selector. What a client does not have is null, which is above all numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Selector {
    kind: Kind,
    /// A key, not a path.
    key: Path,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Min,
    Max,
    Avg,
}

impl Selector {
    /// Reads one. The first name decides; of what is no selector there is none.
    pub fn read(selector: &Value) -> Option<Self> {
        let (name, key) = selector.as_map()?.iter().next()?;
        let kind = match name {
            "$min" => Kind::Min,
            "$max" => Kind::Max,
            "$avg" => Kind::Avg,
            _ => return None,
        };
        // No client has a key that is no text: all are equal, as without a selector.
        Some(Self { kind, key: Path::of_key(key.as_str()?) })
    }

    /// As it is read.
    pub fn to_value(&self) -> Value {
        Value::map([(self.name(), Value::string(self.key()))])
    }

    /// `$min`, or another.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Min => "$min",
            Kind::Max => "$max",
            Kind::Avg => "$avg",
        }
    }

    /// What it looks at.
    pub fn key(&self) -> &str {
        self.key.key()
    }

    /// What a client has of that.
    pub fn value<'a>(&self, client: &'a Client) -> Term<'a> {
        self.find(client).term
    }

    /// Leaves those that it selects: one, or several that are equal. Nobody only of nobody.
    pub fn narrow(&self, clients: &mut Vec<&Arc<Client>>) {
        match self.kind {
            Kind::Min => self.keep_extreme(clients, Ordering::Less),
            Kind::Max => self.keep_extreme(clients, Ordering::Greater),
            Kind::Avg => self.keep_nearest(clients),
        }
    }

    /// Those that all others are at the other side of.
    fn keep_extreme(&self, clients: &mut Vec<&Arc<Client>>, side: Ordering) {
        let mut best: Vec<&Arc<Client>> = Vec::new();
        for client in clients.drain(..) {
            let order = best.first().map(|best| self.find(client).compare(self.find(best).term));
            if order.is_none_or(|order| order == side) {
                best.clear();
                best.push(client);
            } else if order == Some(Ordering::Equal) {
                best.push(client);
            }
        }
        *clients = best;
    }

    /// Those with a number that is nearest to the mean of all; without any number, all.
    fn keep_nearest(&self, clients: &mut Vec<&Arc<Client>>) {
        let number = |client: &Client| self.find(client).term.as_float();
        let numbers: Vec<f64> = clients.iter().filter_map(|client| number(client)).collect();
        #[expect(clippy::cast_precision_loss, reason = "there are not so many clients")]
        let count = numbers.len() as f64;
        // Divided first: the sum may be beyond what a float holds.
        let mean: f64 = numbers.iter().map(|number| number / count).sum();
        let distance = |number: f64| (number - mean).abs();
        let Some(least) = numbers.into_iter().map(distance).min_by(f64::total_cmp) else { return };
        clients.retain(|client| number(client).is_some_and(|number| distance(number) <= least));
    }

    fn find<'a>(&self, client: &'a Client) -> Found<'a> {
        self.key.find(Subject::of(client)).unwrap_or(Found { term: Term::Null, is_version: false })
    }
}
