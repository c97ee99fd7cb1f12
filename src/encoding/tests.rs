use std::io::Cursor;

use proptest::prelude::*;

use super::*;

pub(super) const ALL: [Encoding; 3] = [Encoding::Json, Encoding::Msgpack, Encoding::Etf];

pub(super) fn written(encoding: Encoding, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(encoding, value, &mut out);
    out
}

pub(super) fn json(text: &str) -> Value {
    read(Encoding::Json, text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The bytes of `83 6a` and the like.
pub(super) fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.replace(' ', "").as_bytes()).expect("hexadecimal digits")
}

// ---- properties ----

pub(super) fn values() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Integer),
        (-300i64..300).prop_map(Value::Integer),
        any::<u64>().prop_map(Value::from),
        "-?[1-9][0-9]{18,700}".prop_map(|digits| json(&digits)),
        any::<f64>().prop_filter_map("finite", |float| float.is_finite().then_some(Value::Float(float))),
        (-5i32..5).prop_map(|float| Value::Float(float.into())),
        any::<String>().prop_map(|text| Value::String(text.into())),
        "[a-z]{0,300}".prop_map(|text| Value::String(text.into())),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|mut bytes| {
            bytes.push(0xff);
            Value::Bytes(bytes.into())
        }),
    ];
    scalar.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(|items| Value::List(items.into())),
            prop::collection::vec((any::<String>(), inner), 0..20)
                .prop_map(|entries| Value::Map(Map::new(entries.into_iter().map(|(k, v)| (k.into(), v)).collect()))),
        ]
    })
}

/// What a value becomes in this encoding: JSON has no bytes, MessagePack no integers beyond 64 bits.
pub(super) fn as_it_comes_back(encoding: Encoding, value: &Value) -> Value {
    match value {
        Value::Bytes(bytes) if encoding == Encoding::Json => Value::String(data_encoding::BASE64.encode(bytes).into()),
        Value::Big(big) if encoding == Encoding::Msgpack && big.as_u64().is_none() => {
            Value::String(big.to_string().into())
        }
        Value::List(items) => Value::List(items.iter().map(|item| as_it_comes_back(encoding, item)).collect()),
        Value::Map(map) => {
            let entry = |(key, value): (&str, &Value)| (key.into(), as_it_comes_back(encoding, value));
            Value::Map(Map::new(map.iter().map(entry).collect()))
        }
        other => other.clone(),
    }
}

fn of_serde(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(bool) => Value::Bool(*bool),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::Integer(integer),
            (None, Some(integer)) => integer.into(),
            _ => Value::Float(number.as_f64().expect("a float")),
        },
        serde_json::Value::String(text) => Value::string(text),
        serde_json::Value::Array(items) => Value::List(items.iter().map(of_serde).collect()),
        serde_json::Value::Object(map) => {
            Value::Map(Map::new(map.iter().map(|(key, value)| (key.as_str().into(), of_serde(value))).collect()))
        }
    }
}

pub(super) fn of_rmpv(value: &rmpv::Value) -> Value {
    match value {
        rmpv::Value::Nil => Value::Null,
        rmpv::Value::Boolean(bool) => Value::Bool(*bool),
        rmpv::Value::Integer(integer) => match (integer.as_i64(), integer.as_u64()) {
            (Some(integer), _) => Value::Integer(integer),
            (None, integer) => integer.expect("an unsigned one").into(),
        },
        rmpv::Value::F32(float) => Value::Float((*float).into()),
        rmpv::Value::F64(float) => Value::Float(*float),
        rmpv::Value::String(text) => Value::string(text.as_str().expect("UTF-8")),
        rmpv::Value::Binary(bytes) => Value::Bytes(bytes[..].into()),
        rmpv::Value::Array(items) => Value::List(items.iter().map(of_rmpv).collect()),
        rmpv::Value::Map(entries) => {
            let entry =
                |(key, value): &(rmpv::Value, rmpv::Value)| (key.as_str().expect("a text").into(), of_rmpv(value));
            Value::Map(Map::new(entries.iter().map(entry).collect()))
        }
        rmpv::Value::Ext(..) => panic!("never written"),
    }
}

pub(super) fn of_eetf(term: &eetf::Term) -> Value {
    match term {
        eetf::Term::Atom(atom) => match &*atom.name {
            "nil" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            name => Value::string(name),
        },
        eetf::Term::FixInteger(integer) => Value::Integer(integer.value.into()),
        eetf::Term::BigInteger(integer) => json(&integer.value.to_string()),
        eetf::Term::Float(float) => Value::Float(float.value),
        eetf::Term::Binary(binary) => match std::str::from_utf8(&binary.bytes) {
            Ok(text) => Value::string(text),
            Err(_) => Value::Bytes(binary.bytes[..].into()),
        },
        eetf::Term::ByteList(list) => {
            Value::List(list.bytes.iter().map(|byte| Value::Integer((*byte).into())).collect())
        }
        eetf::Term::List(list) => Value::List(list.elements.iter().map(of_eetf).collect()),
        eetf::Term::Tuple(tuple) => Value::List(tuple.elements.iter().map(of_eetf).collect()),
        eetf::Term::Map(map) => {
            let entry = |(key, value)| match of_eetf(key) {
                Value::String(key) => (key, of_eetf(value)),
                key => panic!("{key:?} is no key of ours"),
            };
            Value::Map(Map::new(map.map.iter().map(entry).collect()))
        }
        other => panic!("{other:?} is never written"),
    }
}

pub(super) fn has_big(value: &Value) -> bool {
    match value {
        Value::Big(big) => big.as_u64().is_none(),
        Value::List(items) => items.iter().any(has_big),
        Value::Map(map) => map.iter().any(|(_, value)| has_big(value)),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read_as_it_was(value in values()) {
        for encoding in ALL {
            let bytes = written(encoding, &value);
            prop_assert_eq!(read(encoding, &bytes), Ok(as_it_comes_back(encoding, &value)));
        }
    }

    #[test]
    fn what_is_cut_short_or_has_something_behind_it_is_refused(value in values(), cut in any::<prop::sample::Index>()) {
        for encoding in ALL {
            let mut bytes = written(encoding, &Value::List([value.clone()].into()));
            let cut = cut.index(bytes.len());
            prop_assert!(read(encoding, &bytes[..cut]).is_err());
            bytes.push(b'1');
            prop_assert!(read(encoding, &bytes).is_err());
        }
    }

    #[test]
    fn json_is_that_of_serde_json(value in values().prop_filter("64 bits", |value| !has_big(value))) {
        let theirs: serde_json::Value = serde_json::from_slice(&written(Encoding::Json, &value))?;
        // Its floats are a little off when it reads them.
        prop_assert_eq!(rounded(&of_serde(&theirs)), rounded(&as_it_comes_back(Encoding::Json, &value)));
        prop_assert_eq!(read(Encoding::Json, &serde_json::to_vec(&theirs)?), Ok(of_serde(&theirs)));
    }

    #[test]
    fn message_pack_is_that_of_rmpv(value in values()) {
        let expected = as_it_comes_back(Encoding::Msgpack, &value);
        let theirs = rmpv::decode::read_value(&mut Cursor::new(written(Encoding::Msgpack, &value)))?;
        prop_assert_eq!(of_rmpv(&theirs), expected.clone());
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &theirs)?;
        prop_assert_eq!(read(Encoding::Msgpack, &bytes), Ok(expected));
    }

    #[test]
    fn etf_is_that_of_eetf(value in values()) {
        let theirs = eetf::Term::decode(Cursor::new(written(Encoding::Etf, &value))).expect("a term");
        prop_assert_eq!(of_eetf(&theirs), value.clone());
        let mut bytes = Vec::new();
        theirs.encode(&mut bytes).expect("a term");
        // It writes negative integers in lists as bytes: what counts is what it reads itself.
        let theirs = eetf::Term::decode(Cursor::new(&bytes)).expect("a term");
        prop_assert_eq!(read(Encoding::Etf, &bytes), Ok(of_eetf(&theirs)));
    }

    #[test]
    fn garbage_is_refused_or_read_but_never_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for encoding in ALL {
            if let Ok(value) = read(encoding, &bytes) {
                prop_assert_eq!(read(encoding, &written(encoding, &value)), Ok(as_it_comes_back(encoding, &value)));
            }
        }
        bytes.insert(0, 131);
        let _ = read(Encoding::Etf, &bytes);
    }

    #[test]
    fn what_is_nearly_json_is_taken_by_both_or_by_none(text in r#"[\[\]{}:,"\\u0-9a-f.eE+\- tn]{0,12}"#, value in values(), at in any::<prop::sample::Index>()) {
        let both = |bytes: &[u8]| {
            (read(Encoding::Json, bytes).is_ok(), serde_json::from_slice::<serde_json::Value>(bytes).is_ok())
        };
        let (ours, theirs) = both(text.as_bytes());
        prop_assert_eq!(ours, theirs);
        if !has_big(&value) {
            let mut bytes = written(Encoding::Json, &Value::List([value].into()));
            let at = at.index(bytes.len());
            bytes.splice(at..at, text.into_bytes());
            let (ours, theirs) = both(&bytes);
            prop_assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&bytes));
        }
    }
}

fn rounded(value: &Value) -> Value {
    match value {
        Value::Float(float) => Value::string(&format!("{float:.12e}")),
        Value::List(items) => Value::List(items.iter().map(rounded).collect()),
        Value::Map(map) => Value::Map(Map::new(map.iter().map(|(key, value)| (key.into(), rounded(value))).collect())),
        other => other.clone(),
    }
}

// ---- JSON ----

#[test]
fn json_that_is_none_is_refused_in_the_originals_words() {
    for (text, words) in [
        (r#"{"op":"#, "unexpected end of input at position 6"),
        ("nope", "unexpected byte at position 0: 0x6E (\"n\")"),
        ("", "unexpected end of input at position 0"),
        ("  ", "unexpected end of input at position 2"),
        ("{} x", "unexpected byte at position 3: 0x78 (\"x\")"),
        ("-", "unexpected end of input at position 1"),
        ("01", "unexpected byte at position 1: 0x31 (\"1\")"),
        ("1.", "unexpected end of input at position 2"),
        ("+1", "unexpected byte at position 0: 0x2B (\"+\")"),
        ("1e999", "unexpected sequence at position 0: \"1e999\""),
        ("[1,]", "unexpected byte at position 3: 0x5D (\"]\")"),
        (r#"{"a"}"#, "unexpected byte at position 4: 0x7D (\"}\")"),
        (r#"{"a":1,}"#, "unexpected byte at position 7: 0x7D (\"}\")"),
        ("{1:2}", "unexpected byte at position 1: 0x31 (\"1\")"),
        (r#"""#, "unexpected end of input at position 1"),
        (r#""\x""#, "unexpected byte at position 2: 0x78 (\"x\")"),
        ("\"a\r\"", "unexpected byte at position 2: 0xD (\"\\r\")"),
        ("\"\u{1}\"", "unexpected byte at position 1: 0x1"),
        (r#""\uzzzz""#, r#"unexpected sequence at position 1: "\\uzzzz""#),
        (r#""\ud8aa\udczz""#, r#"unexpected sequence at position 7: "\\udczz""#),
        (r#""\ud8aa\uda00""#, r#"unexpected sequence at position 1: "\\ud8aa\\uda00""#),
        (r#""\udc00""#, r#"unexpected sequence at position 1: "\\udc00""#),
        (r#""\ud800""#, "unexpected byte at position 7: 0x22 (\"\\\"\")"),
    ] {
        let error = read(Encoding::Json, text.as_bytes()).expect_err(text);
        assert_eq!(error.to_string(), words, "{text}");
    }
    let error = read(Encoding::Json, b"\"\x80\"").expect_err("no UTF-8");
    assert_eq!(error.to_string(), "unexpected byte at position 1: 0x80");
}

#[test]
fn json_numbers_stay_what_they_are() {
    let huge = format!("-{}", "7".repeat(MOST_DIGITS));
    for text in ["0", "-1", "1.0", "-0.0", "1e16", "1e-7", "5e-324", "9223372036854775808", &huge] {
        assert_eq!(written(Encoding::Json, &json(text)), text.as_bytes());
    }
    assert_eq!((json("-0"), json("1E2"), json("1.50")), (Value::Integer(0), Value::Float(100.0), Value::Float(1.5)));
    let error = read(Encoding::Json, format!("{huge}7").as_bytes()).expect_err("too long");
    assert_eq!(error.to_string(), "an integer of more than 1024 digits at position 0");
}

#[test]
fn json_texts_come_through() {
    let text = r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#;
    assert_eq!(json(text), Value::string("\"\\/\u{8}\u{c}\n\r\té😀"));
    assert_eq!(
        written(Encoding::Json, &Value::string("\"\\/\u{8}\né\u{7f}")),
        "\"\\\"\\\\/\\u0008\\né\u{7f}\"".as_bytes()
    );
    assert_eq!(written(Encoding::Json, &Value::Bytes([0xff, 0].into())), br#""/wA=""#);
}

#[test]
fn of_a_key_twice_the_last_holds() {
    assert_eq!(json(r#"{"a":1,"b":2,"a":3}"#), Value::map([("a", Value::Integer(3)), ("b", Value::Integer(2))]));
    assert_eq!(written(Encoding::Json, &json(r#" { "b" : [ ] , "a" : { } } "#)), br#"{"a":{},"b":[]}"#);
}

// ---- MessagePack ----

#[test]
fn message_pack_that_is_none_is_refused_in_the_originals_words() {
    for (bytes, words) in [
        ("", "given binary is incomplete"),
        ("c1", "invalid format, first byte: 193"),
        ("a5 61", "invalid format, first byte: 165"),
        ("92 01", "given binary is incomplete"),
        ("dd ff ff ff ff", "given binary is incomplete"),
        ("dc 01", "invalid format, first byte: 220"),
        ("c6 ff ff ff ff 00", "invalid format, first byte: 198"),
        ("cb 7f f0 00 00 00 00 00 00", "invalid format, first byte: 203"),
        ("01 61 62", "found excess bytes: \"ab\""),
        ("d4 01 00", "extension types are not supported, first byte: 212"),
        ("81 90 01", "a list or a map as a key"),
    ] {
        assert_eq!(read(Encoding::Msgpack, &hex(bytes)).expect_err(bytes).to_string(), words, "{bytes}");
    }
}

#[test]
fn message_pack_is_read_in_all_its_forms() {
    for (bytes, value) in [
        ("d2 ff ff ff ff", Value::Integer(-1)),
        ("d3 00 00 00 00 00 00 00 01", Value::Integer(1)),
        ("cf ff ff ff ff ff ff ff ff", Value::from(u64::MAX)),
        ("ca 3f 80 00 00", Value::Float(1.0)),
        ("a1 ff", Value::Bytes([0xff].into())),
        ("c4 01 61", Value::Bytes([b'a'].into())),
        ("d9 01 61", Value::string("a")),
        ("81 01 c0", Value::map([("1", Value::Null)])),
        ("82 c0 c2 c3 c0", Value::map([("null", Value::Bool(false)), ("true", Value::Null)])),
    ] {
        assert_eq!(read(Encoding::Msgpack, &hex(bytes)), Ok(value), "{bytes}");
    }
}

// ---- ETF ----

#[test]
fn terms_of_all_kinds_are_read() {
    let text = Value::string;
    for (bytes, value) in [
        ("61 ff", Value::Integer(255)),
        ("62 ff ff ff ff", Value::Integer(-1)),
        ("6e 01 01 05", Value::Integer(-5)),
        ("6e 08 01 00 00 00 00 00 00 00 80", Value::Integer(i64::MIN)),
        ("6e 09 00 00 00 00 00 00 00 00 00 01", json("18446744073709551616")),
        ("6f 00 00 00 01 00 07", Value::Integer(7)),
        ("46 3f f0 00 00 00 00 00 00", Value::Float(1.0)),
        ("63 312e3530303030303030303030303030303030303030652b3030 0000000000", Value::Float(1.5)),
        ("64 00 03 6e696c", Value::Null),
        ("73 04 6e756c6c", Value::Null),
        ("76 00 04 74727565", Value::Bool(true)),
        ("77 05 66616c7365", Value::Bool(false)),
        ("77 04 53454e44", text("SEND")),
        ("73 01 e9", text("é")),
        ("77 02 c3a9", text("é")),
        ("6d 00 00 00 01 61", text("a")),
        ("6d 00 00 00 01 ff", Value::Bytes([0xff].into())),
        ("6a", Value::List([].into())),
        ("6b 00 02 01 ff", Value::List([Value::Integer(1), Value::Integer(255)].into())),
        ("6c 00 00 00 01 61 01 6a", Value::List([Value::Integer(1)].into())),
        ("68 02 61 01 6a", Value::List([Value::Integer(1), Value::List([].into())].into())),
        ("69 00 00 00 01 61 01", Value::List([Value::Integer(1)].into())),
        (
            "74 00 00 00 03 77 03 6e696c 61 01 6d 00 00 00 01 62 61 02 61 07 61 03",
            Value::map([("nil", Value::Integer(1)), ("b", Value::Integer(2)), ("7", Value::Integer(3))]),
        ),
    ] {
        assert_eq!(read(Encoding::Etf, &hex(&format!("83 {bytes}"))), Ok(value), "{bytes}");
    }
}

#[test]
fn terms_that_are_not_taken_are_refused() {
    use etf::EtfError::*;

    for (bytes, error) in [
        ("", Incomplete),
        ("82 6a", Version),
        ("83", Incomplete),
        ("83 6a 6a", Excess(1)),
        ("83 50 00 00 00 01 78 9c", Compressed),
        ("83 67", Kind(103)),
        ("83 6c 00 00 00 01 61 01 61 02", ImproperList),
        ("83 6c ff ff ff ff", Incomplete),
        ("83 6d ff ff ff ff 00", Incomplete),
        ("83 77 01 ff", BadAtom),
        ("83 46 7f f0 00 00 00 00 00 00", BadFloat),
        ("83 6e 01 02 05", BadSign),
        ("83 74 00 00 00 01 6a 6a", BadKey),
    ] {
        assert_eq!(read(Encoding::Etf, &hex(bytes)), Err(error.into()), "{bytes}");
    }
    let nan = [&hex("83 63")[..], b"nan", &[0; 28]].concat();
    assert_eq!(read(Encoding::Etf, &nan), Err(BadFloat.into()));
    let long = [&hex("83 6f 00 00 02 00 00")[..], &[1; 512]].concat();
    assert_eq!(read(Encoding::Etf, &long), Err(TooLong.into()));
}

#[test]
fn terms_are_written_as_every_otp_reads_them() {
    for (value, bytes) in [
        (Value::Null, "64 00 03 6e696c"),
        (Value::Bool(true), "64 00 04 74727565"),
        (Value::Integer(256), "62 00 00 01 00"),
        (Value::Integer(1 << 32), "6e 05 00 00 00 00 00 01"),
        (Value::List([].into()), "6a"),
        (Value::List([Value::Null].into()), "6c 00 00 00 01 64 00 03 6e696c 6a"),
        (Value::map([("a", Value::Float(1.0))]), "74 00 00 00 01 6d 00 00 00 01 61 46 3f f0 00 00 00 00 00 00"),
    ] {
        assert_eq!(written(Encoding::Etf, &value), hex(&format!("83 {bytes}")));
    }
}

// ---- all of them ----

#[test]
fn nothing_is_read_that_is_deeper_than_the_limit() {
    let mut value = Value::List([].into());
    for _ in 1..MOST_DEPTH {
        value = Value::List([value].into());
    }
    let deeper = Value::map([("a", value.clone())]);
    for encoding in ALL {
        assert_eq!(read(encoding, &written(encoding, &value)), Ok(value.clone()));
        let mut bytes = written(encoding, &deeper);
        if encoding == Encoding::Etf {
            // Its empty list has no length, and so no depth.
            bytes = written(encoding, &Value::map([("a", deeper.clone())]));
        }
        assert!(read(encoding, &bytes).expect_err("too deep").to_string().contains("deep"), "{encoding:?}");
    }
    for (encoding, opening) in
        [(Encoding::Json, "5b"), (Encoding::Msgpack, "dd ff ff ff ff"), (Encoding::Etf, "69 ff ff ff ff")]
    {
        let start = if encoding == Encoding::Etf { "83" } else { "" };
        assert!(read(encoding, &hex(&format!("{start} {}", opening.repeat(100_000)))).is_err());
    }
}

#[test]
fn encodings_have_content_types() {
    for (declared, encoding) in [
        ("application/json", Some(Encoding::Json)),
        ("Application/JSON; charset=utf-8", Some(Encoding::Json)),
        ("application/msgpack", Some(Encoding::Msgpack)),
        ("application/x-msgpack", Some(Encoding::Msgpack)),
        ("application/vnd.erlang.etf ;version=1", Some(Encoding::Etf)),
        ("text/plain", None),
    ] {
        assert_eq!(Encoding::of_content_type(declared), encoding, "{declared:?}");
    }
}

#[test]
fn bodies_are_known_by_what_they_are_declared_as_or_else_by_their_first_byte() {
    use Dialect::{MsgpackText, Plain};
    const JSON: Dialect = Plain(Encoding::Json);
    const MSGPACK: Dialect = Plain(Encoding::Msgpack);
    const ETF: Dialect = Plain(Encoding::Etf);

    for (declared, body, dialect) in [
        (None, &b"{}"[..], JSON),
        (None, b" \n {}", JSON),
        (None, b"", JSON),
        (None, b"nonsense", JSON),
        (None, b"\x83t\0\0\0\0", ETF),
        (None, b"\x82\xa2op", MSGPACK),
        (None, b"\xde\0\x10", MSGPACK),
        // A map of three in MessagePack, not a term.
        (None, b"\x83\xa2op", MSGPACK),
        (None, b"\xa2{}", MsgpackText),
        (None, b"\xd9\x02{}", MsgpackText),
        (None, b"\xc4\x02{}", MsgpackText),
        (Some("application/octet-stream"), b"\x82\xa2op", MSGPACK),
        (Some("text/plain"), b"{}", JSON),
        (Some("application/msgpack"), b"\x83t", MSGPACK),
        (Some("application/x-msgpack"), b"\xa2{}", MsgpackText),
        (Some("application/etf"), b"\xa2{}", ETF),
        // A wrong name harms nobody.
        (Some("application/json"), b"\x82\xa2op", MSGPACK),
        (Some("application/msgpack"), b"{}", JSON),
        (Some("application/vnd.erlang.etf"), b" {}", JSON),
    ] {
        assert_eq!(Dialect::of_body(declared, body), dialect, "{declared:?} {body:?}");
    }
}

#[test]
fn a_message_holds_so_many_values_and_keys_and_no_more() {
    /// A list of so many nulls, and of so many maps of a key and a null.
    fn of(encoding: Encoding, nulls: usize, maps: usize) -> Vec<u8> {
        let map = || Value::map([("k", Value::Null)]);
        let values = (0..nulls).map(|_| Value::Null).chain((0..maps).map(|_| map()));
        written(encoding, &Value::List(values.collect()))
    }
    for (encoding, expected) in [
        (Encoding::Json, "more than 200000 values and keys at position"),
        (Encoding::Msgpack, "more than 200000 values"),
        (Encoding::Etf, "more than 200000 terms"),
    ] {
        let most = MOST_VALUES - 1;
        for (nulls, maps) in [(most, 0), (most % 3, most / 3)] {
            assert!(read(encoding, &of(encoding, nulls, maps)).is_ok(), "{encoding:?}");
            let error = read(encoding, &of(encoding, nulls + 1, maps)).expect_err("too many").to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
    // Strings of small integers, as ETF packs lists of them.
    let packed = [&[107, 0xff, 0xff][..], &[1; 0xffff]].concat();
    let lists = |count: u8| [&[131, 104, count][..], &packed.repeat(count.into())].concat();
    assert!(read(Encoding::Etf, &lists(3)).is_ok());
    assert_eq!(read(Encoding::Etf, &lists(4)), Err(etf::EtfError::TooMany.into()));
}
