//! Metadata: what a client says of itself, typed.

use crate::encoding::Value;

/// The types of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A text.
    String,
    /// An integer of any size; not `1.0`.
    Integer,
    /// A float; not `1`.
    Float,
    /// A version as semver.org has them.
    Version,
    /// A list.
    List,
    /// A map.
    Map,
    /// True or false.
    Boolean,
}

/// What a client says of itself: values by key, each with its type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {}

/// New values for some keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {}

/// Why changes are refused.
#[derive(Clone, Debug, PartialEq)]
pub enum InvalidMetadata {
    /// It is no map of `{type, value}`: `internal server error` in the original.
    Malformed,
    /// By key, what is wrong with its value, as the original words it.
    Keys(Value),
}

impl Changes {
    /// Reads `{key: {type, value}}`.
    ///
    /// # Errors
    /// Nothing is applied if one key is wrong.
    pub fn read(_value: &Value) -> Result<Self, InvalidMetadata> {
        unimplemented!()
    }
}

impl Metadata {
    /// Takes changes in: their keys' values and types are replaced, the others stay.
    pub fn merge(&mut self, _changes: Changes) {
        unimplemented!()
    }

    /// The value of a key.
    pub fn get(&self, _key: &str) -> Option<(Type, &Value)> {
        unimplemented!()
    }

    /// In the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Type, &Value)> {
        std::iter::empty()
    }

    /// How many bytes it takes, about as JSON writes it.
    pub fn size(&self) -> usize {
        unimplemented!()
    }
}
