//! Values in the JSON that processes write for each other: read back, a value is exactly what it was.
//!
//! What JSON has no form for, or loses digits of, is a text that begins with `~` and a letter; so is every text that begins
//! with `~` itself. Nothing lies deeper than it did, for readers of JSON have a limit of depth that clients may reach.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::value::{BigInteger, Map, Value};

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(is) => serializer.serialize_bool(*is),
            Self::Integer(number) => serializer.serialize_i64(*number),
            // The shortest that reads back, also of whole numbers.
            Self::Float(number) => serializer.collect_str(&format_args!("~f{number:?}")),
            Self::Big(number) => serializer.collect_str(&format_args!(
                "~i{}{}",
                if number.negative { "-" } else { "" },
                HEXLOWER.encode(&number.magnitude)
            )),
            Self::Bytes(bytes) => serializer.collect_str(&format_args!("~b{}", BASE64.encode(bytes))),
            Self::String(text) if text.starts_with('~') => serializer.collect_str(&format_args!("~s{text}")),
            Self::String(text) => serializer.serialize_str(text),
            Self::List(values) => serializer.collect_seq(values),
            Self::Map(map) => serializer.collect_map(map.iter()),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, is: bool) -> Result<Value, E> {
        Ok(Value::Bool(is))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        i64::try_from(number).map(Value::Integer).map_err(|_| E::custom("an integer too large to be written as one"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        let Some(special) = text.strip_prefix('~') else { return Ok(Value::string(text)) };
        read_special(special).ok_or_else(|| E::custom(format_args!("{text:?} stands for no value")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(Map::new(entries)))
    }
}

fn read_special(special: &str) -> Option<Value> {
    let kind = special.chars().next()?;
    let rest = &special[kind.len_utf8()..];
    match kind {
        's' => Some(Value::string(rest)),
        'f' => rest.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float),
        'b' => Some(Value::Bytes(BASE64.decode(rest.as_bytes()).ok()?.into())),
        'i' => {
            let digits = rest.strip_prefix('-');
            let magnitude = HEXLOWER.decode(digits.unwrap_or(rest).as_bytes()).ok()?.into();
            Some(Value::Big(Box::new(BigInteger { negative: digits.is_some(), magnitude })))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let finite = any::<f64>().prop_filter("finite", |number| number.is_finite());
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Integer),
            finite.prop_map(Value::Float),
            (any::<bool>(), proptest::collection::vec(1..=255_u8, 8..12)).prop_map(|(negative, magnitude)| {
                Value::Big(Box::new(BigInteger { negative, magnitude: magnitude.into() }))
            }),
            any_text().prop_map(|text| Value::string(&text)),
            any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|values| Value::List(values.into())),
                proptest::collection::vec((any_text().prop_map(Box::from), inner), 0..4)
                    .prop_map(|entries| Value::Map(Map::new(entries))),
            ]
        })
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof!["~[sfbi~]?.{0,4}", ".{0,8}"]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_exactly(value in any_value()) {
            let written = serde_json::to_string(&value).expect("texts are keys");
            let read: Value = serde_json::from_str(&written).expect("it reads back");
            // Debug tells zeros of both signs apart.
            prop_assert_eq!(format!("{read:?}"), format!("{value:?}"), "{}", written);
        }
    }

    #[test]
    fn values_have_these_forms() {
        let value = Value::map([
            ("a", Value::Integer(-1)),
            ("b", Value::Float(1.0)),
            ("c", Value::Bytes((*b"\x00\xff").into())),
            ("d", Value::string("~tilde")),
            ("~e", Value::List([Value::Null, Value::Bool(true), Value::string("text")].into())),
            ("f", Value::Big(Box::new(BigInteger { negative: true, magnitude: [0, 0, 0, 0, 0, 0, 0, 0, 1].into() }))),
        ]);
        let written = serde_json::to_string(&value).expect("texts are keys");
        let expected =
            r#"{"a":-1,"b":"~f1.0","c":"~bAP8=","d":"~s~tilde","f":"~i-000000000000000001","~e":[null,true,"text"]}"#;
        assert_eq!(written, expected);
    }

    #[test]
    fn what_stands_for_no_value_is_refused() {
        for text in
            [r#""~""#, r#""~x""#, r#""~finf""#, r#""~fone""#, r#""~b?""#, r#""~i0""#, "18446744073709551615", "1.5"]
        {
            serde_json::from_str::<Value>(text).expect_err(text);
        }
    }
}
