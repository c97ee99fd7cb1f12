//! The keys of metadata with their types, once for all clients that have the same.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::Type;

/// Keys with their types, sorted by the keys. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(Arc<[(Box<str>, Type)]>);

/// The shapes that are in use.
#[derive(Debug, Default)]
pub struct Shapes {
    known: HashSet<Shape>,
    /// Those that nobody has any more are looked for when there are so many.
    sweep_at: usize,
}

/// Where a key was found last: most clients of an application have one shape. It is no part of what has it: all are equal.
#[derive(Debug, Default)]
pub struct Hint(AtomicUsize);

/// Fewer shapes are not worth a search.
const FEW: usize = 64;

impl Shape {
    /// Of entries that are sorted, each key once.
    pub(super) fn new(sorted: Vec<(Box<str>, Type)>) -> Self {
        debug_assert!(sorted.is_sorted_by(|(a, _), (b, _)| a < b), "sorted, each key once");
        Self(sorted.into())
    }

    /// Where a key is.
    pub(super) fn find(&self, key: &str) -> Option<(usize, Type)> {
        let at = self.0.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
        Some((at, self.0[at].1))
    }

    /// As [`find`](Self::find), looking first where it was found last.
    #[inline]
    pub(super) fn find_near(&self, key: &str, Hint(hint): &Hint) -> Option<(usize, Type)> {
        let at = hint.load(Relaxed);
        if let Some((name, of)) = self.0.get(at)
            && **name == *key
        {
            return Some((at, *of));
        }
        let found = self.find(key)?;
        hint.store(found.0, Relaxed);
        Some(found)
    }

    /// Whether it is the very same.
    #[cfg(test)]
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Type)> {
        self.0.iter().map(|(key, of)| (&**key, *of))
    }
}

impl Clone for Hint {
    fn clone(&self) -> Self {
        Self(self.0.load(Relaxed).into())
    }
}

impl PartialEq for Hint {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Shapes {
    /// Makes a shape the one that is known, if one like it is; else it is known from now on.
    pub fn share(&mut self, shape: &mut Shape) {
        if let Some(known) = self.known.get(shape) {
            *shape = known.clone();
            return;
        }
        if self.known.len() >= self.sweep_at.max(FEW) {
            self.known.retain(|shape| Arc::strong_count(&shape.0) > 1);
            self.sweep_at = self.known.len() * 2;
        }
        self.known.insert(shape.clone());
    }

    /// How many are known, in use or not.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}
