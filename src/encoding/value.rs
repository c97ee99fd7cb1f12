//! A value of any encoding: what JSON has, and bytes beside.

use data_encoding::BASE64;

/// A value. What only other forms have becomes what JSON has: atoms are texts (`true`, `false`, `nil` and `null` are what
/// they say), tuples are lists, keys are texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// An integer that fits.
    Integer(i64),
    /// An integer that does not fit [`Value::Integer`].
    Big(Box<BigInteger>),
    /// Never NaN nor infinite.
    Float(f64),
    /// A text.
    String(Box<str>),
    /// Bytes that are no text; JSON has none.
    Bytes(Box<[u8]>),
    /// Values in a row.
    List(Box<[Value]>),
    /// Values by key.
    Map(Map),
}

/// Values by key, each key once, sorted by the keys' bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(Box<[(Box<str>, Value)]>);

/// An integer beyond 64 bits: its sign and its digits in base 256, the lowest first, without zeros at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BigInteger {
    /// Below zero.
    pub negative: bool,
    /// The digits; at least 8, since smaller ones are [`Value::Integer`] (but for some of exactly 8).
    pub magnitude: Box<[u8]>,
}

impl Map {
    /// Of these; of several with one key the last holds.
    pub fn new(mut entries: Vec<(Box<str>, Value)>) -> Self {
        // Stable: of equal keys the later stays behind the earlier.
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Self(entries.into())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let at = self.0.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// In the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// The entries, in the order of the keys.
    pub fn into_entries(self) -> Vec<(Box<str>, Value)> {
        self.0.into_vec()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<const N: usize> From<[(&str, Value); N]> for Map {
    fn from(entries: [(&str, Value); N]) -> Self {
        Self::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }
}

impl Value {
    /// A map of these.
    pub fn map<const N: usize>(entries: [(&str, Value); N]) -> Self {
        Self::Map(entries.into())
    }

    /// A text.
    pub fn string(text: &str) -> Self {
        Self::String(text.into())
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The map, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }

    /// What it is as a key: a text. Lists and maps are none.
    pub(super) fn into_key(self) -> Option<Box<str>> {
        match self {
            Self::String(text) => Some(text),
            Self::Null => Some("null".into()),
            Self::Bool(bool) => Some(bool.to_string().into()),
            Self::Integer(integer) => Some(integer.to_string().into()),
            Self::Big(big) => Some(big.to_string().into()),
            Self::Float(float) => Some(format!("{float:?}").into()),
            Self::Bytes(bytes) => Some(BASE64.encode(&bytes).into()),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// Whether it is nothing.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_sorted_and_of_equal_keys_the_last_holds() {
        let map = Map::from([("b", Value::Integer(1)), ("a", Value::Integer(2)), ("b", Value::Integer(3))]);
        let entries: Vec<_> = map.iter().collect();
        assert_eq!(entries, [("a", &Value::Integer(2)), ("b", &Value::Integer(3))]);
        assert_eq!((map.get("b"), map.get("c")), (Some(&Value::Integer(3)), None));
    }
}
