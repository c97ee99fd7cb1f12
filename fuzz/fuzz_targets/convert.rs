//! Bodies are converted without a panic, to what a tree of them says; what does not fit one, no conversion takes either.
#![no_main]

use libfuzzer_sys::fuzz_target;
use optic::encoding::convert::{self, Taking, convert};
use optic::encoding::{self, Dialect, Encoding, Value};

const ALL: [Encoding; 3] = [Encoding::Json, Encoding::Msgpack, Encoding::Etf];

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (from, ids, bytes) = input;
    let from = ALL[usize::from(from) % ALL.len()];
    let version: &[u8] = if from == Encoding::Etf { &[131] } else { &[] };
    let tree = encoding::read(from, &[version, bytes].concat());
    let taking = if ids { Taking::IDS_AS_TEXT } else { Taking::EXACT };
    for to in Dialect::ALL.into_iter().filter(|to| *to != Dialect::Plain(from)) {
        let mut out = Vec::new();
        let converted = convert(from, bytes, to, taking, &mut out);
        if to == Dialect::MsgpackText && from == Encoding::Json && !ids {
            // It is not looked at.
            continue;
        }
        // A tree has at most so many values, and does not count how deep an empty list of Erlang's lies.
        assert!(out.len() <= 8 * bytes.len() + 64, "{} bytes became {}", bytes.len(), out.len());
        match (&tree, converted) {
            (Ok(_), Ok(())) => {
                let json = as_json(to, &out);
                if !ids {
                    assert_eq!(json, as_json(Dialect::Plain(from), &[version, bytes].concat()));
                }
            }
            (Err(_), Err(_)) => {}
            (tree, converted) => {
                let words = converted.err().map(|error| error.to_string()).or(tree.as_ref().err().map(ToString::to_string));
                assert!(words.is_some_and(|words| words.contains("deep") || words.contains("more than")), "{tree:?}");
            }
        }
    }
});

/// The tree of what it is as JSON: bytes are texts there, and so are integers that MessagePack has not.
fn as_json(dialect: Dialect, body: &[u8]) -> Value {
    let json = convert::to_json(dialect, body, Taking::EXACT).expect("it was read");
    texts(encoding::read(Encoding::Json, &json).expect("JSON"))
}

fn texts(value: Value) -> Value {
    match value {
        Value::Big(big) => Value::string(&big.to_string()),
        Value::List(items) => Value::List(items.into_vec().into_iter().map(texts).collect()),
        Value::Map(map) => {
            Value::Map(encoding::Map::new(map.into_entries().into_iter().map(|(key, value)| (key, texts(value))).collect()))
        }
        other => other,
    }
}
