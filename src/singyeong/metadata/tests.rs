use proptest::prelude::*;

use super::*;
use crate::encoding::{self, BigInteger, Encoding, json};

fn value(text: &str) -> Value {
    json::read(text.as_bytes()).expect("JSON")
}

fn metadata(text: &str) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.merge(Changes::read(&value(text)).expect("valid metadata"));
    metadata
}

#[test]
fn every_type_takes_its_own_values_and_no_others() {
    let big = BigInteger { negative: false, magnitude: [0, 0, 0, 0, 0, 0, 0, 0, 1].into() };
    let values = [
        (value(r#""text""#), "string"),
        (value(r#""1.0""#), "string"),
        (value(r#""1.2.3-rc.1+b""#), "string version"),
        (value("1"), "integer"),
        (Value::Big(Box::new(big)), "integer"),
        (value("1.0"), "float"),
        (value("[1]"), "list"),
        (value("{}"), "map"),
        (value("true"), "boolean"),
        (value("null"), ""),
        (Value::Bytes([255].into()), ""),
    ];
    for (value, types) in &values {
        for of in Type::ALL {
            assert_eq!(of.accepts(value), types.split(' ').any(|name| name == of.name()), "{value:?} as {of:?}");
            assert_eq!(Type::of_name(of.name()), Some(of));
        }
    }
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_the_original() {
    let wrong = Changes::read(&value(
        r#"{"good": {"type": "integer", "value": 1}, "n": {"type": "integer", "value": "1"},
            "k": {"type": "x", "value": 1}, "none": {"type": null, "value": 1},
            "ip": {"type": "string", "value": "1"}, "restricted": {"type": "nothing", "value": "1"},
            "encoding": {"type": "integer", "value": "1"}}"#,
    ));
    let said = value(
        r#"{"n": "n: value fails validation for 'integer'", "k": "k: type 'x' doesn't exists",
            "none": "none: type '' doesn't exists", "ip": "ip: forbidden metadata key",
            "restricted": "restricted: type 'nothing' doesn't exists", "encoding": "encoding: forbidden metadata key"}"#,
    );
    assert_eq!(wrong, Err(InvalidMetadata::Keys(said)));
    for reserved in Reserved::ALL {
        let changes = Value::map([(reserved.key(), value(r#"{"type": "string", "value": "x"}"#))]);
        assert!(matches!(Changes::read(&changes), Err(InvalidMetadata::Keys(_))), "{reserved:?}");
    }
}

#[test]
fn what_is_no_map_of_types_and_values_is_malformed() {
    let broken = [
        "null",
        "[]",
        "1",
        r#"{"k": 1}"#,
        r#"{"k": {"type": "list"}}"#,
        r#"{"k": {"value": 1}}"#,
        r#"{"k": {"type": [], "value": 1}}"#,
    ];
    for text in broken {
        assert_eq!(Changes::read(&value(text)), Err(InvalidMetadata::Malformed), "{text}");
    }
}

#[test]
fn changes_replace_values_and_types_and_leave_the_rest() {
    let mut metadata = metadata(r#"{"b": {"type": "map", "value": {"x": 1}}, "d": {"type": "integer", "value": 1}}"#);
    let changes = r#"{"e": {"type": "boolean", "value": true}, "a": {"type": "integer", "value": 1},
        "b": {"type": "map", "value": {"y": 2}}, "d": {"type": "string", "value": "one"}}"#;
    metadata.merge(Changes::read(&value(changes)).expect("valid"));
    let entries: Vec<_> = metadata.iter().map(|(key, of, value)| (key, of, value.clone())).collect();
    assert_eq!(
        entries,
        [
            ("a", Type::Integer, value("1")),
            ("b", Type::Map, value(r#"{"y": 2}"#)),
            ("d", Type::String, value(r#""one""#)),
            ("e", Type::Boolean, value("true")),
        ]
    );
    assert_eq!(metadata.get("d"), Some((Type::String, &Value::string("one"))));
    assert_eq!(metadata.get("c"), None);
    let mut same = Metadata::default();
    same.merge(Changes::read(&metadata.to_value()).expect("what it writes it reads"));
    assert_eq!(same, metadata);
}

#[test]
fn size_is_about_what_json_takes() {
    for text in [
        "{}",
        r#"{"key":{"type":"string","value":"some text"}}"#,
        r#"{"l":{"type":"list","value":[1,-22,333,true,false,null,"x",{"deep":[[]]}]},"n":{"type":"integer","value":0}}"#,
        r#"{"n":{"type":"integer","value":-123456789012345678901234567890}}"#,
    ] {
        let metadata = metadata(text);
        let values = metadata.iter().map(|(key, _, value)| (key.into(), value.clone())).collect();
        let mut written = Vec::new();
        encoding::write(Encoding::Json, &Value::Map(Map::new(values)), &mut written);
        let (size, written) = (metadata.size(), written.len());
        assert!(written <= size && size <= written + 8, "{text}: {size}, written {written}");
    }
}

#[test]
fn clients_that_say_the_same_share_its_shape() {
    let text = |n: usize| format!(r#"{{"n{n}": {{"type": "integer", "value": {n}}}}}"#);
    let mut shapes = Shapes::default();
    let (mut a, mut b, mut other) = (metadata(&text(1)), metadata(&text(1)), metadata(&text(2)));
    for metadata in [&mut a, &mut b, &mut other] {
        metadata.share(&mut shapes);
    }
    assert_eq!((shapes.len(), &a), (2, &b));
    assert!(a.shape.is_same(&b.shape) && !a.shape.is_same(&other.shape));
    for n in 0..10_000 {
        metadata(&text(n)).share(&mut shapes);
    }
    assert!(shapes.len() < 200, "{} are kept", shapes.len());
    let mut again = metadata(&text(1));
    again.share(&mut shapes);
    assert!(again.shape.is_same(&a.shape), "what is in use stays");
}

#[test]
fn versions_compare_as_semver_says() {
    let sorted = "1.0.0-0 1.0.0-9 1.0.0-10 1.0.0-99999999999999999999999 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta \
        1.0.0-rc.1 1.0.0 1.0.1 1.9.0 1.10.0 9.0.0 10.0.0 99999999999999999999999.0.0";
    let sorted: Vec<&str> = sorted.split(' ').collect();
    for (at, a) in sorted.iter().enumerate() {
        for (other, b) in sorted.iter().enumerate() {
            assert_eq!(version::compare(a, b), Some(at.cmp(&other)), "{a} and {b}");
            let parsed = version::Version::parse(&format!("{a}+build")).expect("a version");
            assert_eq!(parsed.compare_with(b), Some(at.cmp(&other)), "{a} and {b}");
        }
    }
    assert_eq!(version::compare("1.0.0+a", "1.0.0+b"), Some(std::cmp::Ordering::Equal));
    for text in [
        "",
        "1",
        "1.0",
        "1.0.0.0",
        "v1.0.0",
        "01.0.0",
        "1.0.0-",
        "1.0.0-01",
        "1.0.0+",
        "1.0.0-a..b",
        "1.0.0 ",
        "1.0.0-ü",
    ] {
        assert!(!version::is_version(text), "{text:?}");
        assert_eq!(version::compare("1.0.0", text), None, "{text:?}");
    }
    let long = |length: usize| format!("1.0.0-{}", "a".repeat(length - 6));
    assert!(version::is_version(&long(version::MOST_BYTES)));
    assert!(!version::is_version(&long(version::MOST_BYTES + 1)));
}

proptest! {
    #[test]
    fn versions_are_those_of_the_crate_semver(a in "[0-2.]{0,3}[0-9.]{3,7}(-[0-9a.-]{0,6})?([+][0a.-]{0,4})?", b in "[0-9][.][0-2][.][0-2](-[0-2a.]{1,4})?") {
        let parsed = |text: &str| semver::Version::parse(text).ok();
        prop_assert_eq!(version::is_version(&a), parsed(&a).is_some());
        let expected = parsed(&a).zip(parsed(&b)).map(|(a, b)| a.cmp_precedence(&b));
        prop_assert_eq!(version::compare(&a, &b), expected);
    }
}
