//! Metadata: what a client says of itself, typed.
//!
//! Thousands of clients say the same few things: they share a [`Shape`], the keys with their types, and each has but its values.

mod shape;
pub mod version;

use std::sync::Arc;

pub use self::shape::{Hint, Shape, Shapes};
use crate::encoding::{Map, Value};

/// The types of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// What the server says of a client beside its metadata: queries find it there, clients cannot set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// Where REST requests to it go.
    Ip,
    /// Whether it may only be looked at.
    Restricted,
    /// What it speaks.
    Encoding,
    /// Whatever it said at identify.
    Namespace,
    /// In Unix milliseconds.
    LastHeartbeatTime,
    /// Whether it is told of others that come and go.
    ReceiveClientUpdates,
}

/// What a client says of itself: values by key, each with its type. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    shape: Shape,
    /// In the order of the shape's keys.
    values: Arc<[Value]>,
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        // Mostly it is asked whether something changed, and nothing did.
        self.shape == other.shape && (Arc::ptr_eq(&self.values, &other.values) || self.values == other.values)
    }
}

/// New values for some keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Sorted by key, each key once.
    entries: Vec<Entry>,
}

type Entry = (Box<str>, Type, Value);

/// Why changes are refused.
#[derive(Clone, Debug, PartialEq)]
pub enum InvalidMetadata {
    /// It is no map of `{type, value}`: `internal server error` in the original.
    Malformed,
    /// By key, what is wrong with its value, as the original words it.
    Keys(Value),
}

impl Type {
    const ALL: [Self; 7] =
        [Self::String, Self::Integer, Self::Float, Self::Version, Self::List, Self::Map, Self::Boolean];

    /// As clients write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Version => "version",
            Self::List => "list",
            Self::Map => "map",
            Self::Boolean => "boolean",
        }
    }

    /// The type of this name, written exactly so.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|of_all| of_all.name() == name)
    }

    /// Whether a value is of it. Null is of none.
    pub fn accepts(self, value: &Value) -> bool {
        match self {
            Self::String => matches!(value, Value::String(_)),
            Self::Integer => matches!(value, Value::Integer(_) | Value::Big(_)),
            Self::Float => matches!(value, Value::Float(_)),
            Self::Version => value.as_str().is_some_and(version::is_version),
            Self::List => matches!(value, Value::List(_)),
            Self::Map => matches!(value, Value::Map(_)),
            Self::Boolean => matches!(value, Value::Bool(_)),
        }
    }
}

impl Reserved {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 6] = [
        Self::Encoding,
        Self::Ip,
        Self::LastHeartbeatTime,
        Self::Namespace,
        Self::ReceiveClientUpdates,
        Self::Restricted,
    ];

    /// Its key.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Restricted => "restricted",
            Self::Encoding => "encoding",
            Self::Namespace => "namespace",
            Self::LastHeartbeatTime => "last_heartbeat_time",
            Self::ReceiveClientUpdates => "receive_client_updates",
        }
    }

    /// The one of this key.
    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reserved| reserved.key() == key)
    }
}

impl Changes {
    /// Reads `{key: {type, value}}`.
    ///
    /// # Errors
    /// Nothing is applied if one key is wrong.
    pub fn read(value: &Value) -> Result<Self, InvalidMetadata> {
        let Value::Map(map) = value else { return Err(InvalidMetadata::Malformed) };
        let (mut entries, mut refused) = (Vec::with_capacity(map.len()), Vec::new());
        for (key, said) in map.iter() {
            let (Some(name), Some(value)) = (said.get("type"), said.get("value")) else {
                return Err(InvalidMetadata::Malformed);
            };
            match check(key, name, value)? {
                Ok(of) => entries.push((key.into(), of, value.clone())),
                Err(why) => refused.push((key.into(), Value::string(&format!("{key}: {why}")))),
            }
        }
        if refused.is_empty() {
            Ok(Self { entries })
        } else {
            Err(InvalidMetadata::Keys(Value::Map(Map::new(refused))))
        }
    }
}

/// The type, or what is wrong: a type that is none comes before a key that is forbidden.
fn check(key: &str, name: &Value, value: &Value) -> Result<Result<Type, String>, InvalidMetadata> {
    let Some(of) = name.as_str().and_then(Type::of_name) else {
        let name = match name {
            Value::String(name) => name.to_string(),
            Value::Null => String::new(),
            Value::Bool(is) => is.to_string(),
            Value::Integer(number) => number.to_string(),
            _ => return Err(InvalidMetadata::Malformed),
        };
        return Ok(Err(format!("type '{name}' doesn't exists")));
    };
    Ok(if Reserved::of_key(key).is_some() {
        Err("forbidden metadata key".to_owned())
    } else if of.accepts(value) {
        Ok(of)
    } else {
        Err(format!("value fails validation for '{}'", of.name()))
    })
}

impl Metadata {
    /// Takes changes in: their keys' values and types are replaced, the others stay.
    pub fn merge(&mut self, changes: Changes) {
        let mut changed = changes.entries.into_iter().peekable();
        let mut merged: Vec<Entry> = Vec::with_capacity(self.values.len() + changed.len());
        for (key, of, value) in self.iter() {
            while let Some(entry) = changed.next_if(|(new, ..)| **new < *key) {
                merged.push(entry);
            }
            let entry = changed.next_if(|(new, ..)| **new == *key);
            merged.push(entry.unwrap_or_else(|| (key.into(), of, value.clone())));
        }
        merged.extend(changed);
        let same_shape = self.iter().map(|(key, of, _)| (key, of)).eq(merged.iter().map(|(key, of, _)| (&**key, *of)));
        let mut values = Vec::with_capacity(merged.len());
        let shape = merged.into_iter().map(|(key, of, value)| {
            values.push(value);
            (key, of)
        });
        let shape = shape.collect();
        if !same_shape {
            self.shape = Shape::new(shape);
        }
        self.values = values.into();
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<(Type, &Value)> {
        let (at, of) = self.shape.find(key)?;
        Some((of, &self.values[at]))
    }

    /// As [`get`](Self::get), where it was found before if it is there again.
    pub fn get_near(&self, key: &str, hint: &Hint) -> Option<(Type, &Value)> {
        let (at, of) = self.shape.find_near(key, hint)?;
        Some((of, &self.values[at]))
    }

    /// In the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Type, &Value)> {
        self.shape.iter().zip(&*self.values).map(|((key, of), value)| (key, of, value))
    }

    /// As [`Changes::read`] reads it.
    pub fn to_value(&self) -> Value {
        let entry = |(key, of, value): (&str, Type, &Value)| {
            (key.into(), Value::map([("type", Value::string(of.name())), ("value", value.clone())]))
        };
        Value::Map(Map::new(self.iter().map(entry).collect()))
    }

    /// How many bytes it takes, about as JSON writes it.
    pub fn size(&self) -> usize {
        2 + self.iter().map(|(key, _, value)| key.len() + 4 + size(value)).sum::<usize>()
    }

    /// Takes the shape that others have, if one has the same.
    pub fn share(&mut self, shapes: &mut Shapes) {
        shapes.share(&mut self.shape);
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Null => 4,
        Value::Bool(is) => 5 - usize::from(*is),
        Value::Integer(number) => {
            number.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1 + usize::from(*number < 0)
        }
        // 256 is 10 to the power of 2.408...
        Value::Big(number) => number.magnitude.len() * 5 / 2 + 1,
        // More than most, and not the most: those have 24.
        Value::Float(_) => 18,
        Value::String(text) => text.len() + 2,
        Value::Bytes(bytes) => bytes.len().div_ceil(3) * 4 + 2,
        Value::List(values) => 2 + values.iter().map(|value| size(value) + 1).sum::<usize>(),
        Value::Map(map) => 2 + map.iter().map(|(key, value)| key.len() + 4 + size(value)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests;
