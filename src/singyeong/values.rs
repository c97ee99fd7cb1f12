//! Values for tests, written as JSON.

use crate::encoding::{Map, Value};

/// The value of a JSON text.
pub fn json(text: &str) -> Value {
    of_json(serde_json::from_str(text).expect("JSON"))
}

fn of_json(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(is) => Value::Bool(is),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().expect("a number")), Value::Integer)
        }
        serde_json::Value::String(text) => Value::String(text.into()),
        serde_json::Value::Array(values) => Value::List(values.into_iter().map(of_json).collect()),
        serde_json::Value::Object(map) => {
            Value::Map(Map::new(map.into_iter().map(|(key, value)| (key.into(), of_json(value))).collect()))
        }
    }
}
