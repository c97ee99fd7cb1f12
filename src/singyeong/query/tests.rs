use std::cmp::Ordering;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::operator::{Comparison, Fixed, Operand};
use super::term::Term;
use super::*;
use crate::cluster::node::NodeId;
use crate::encoding::{BigInteger, Encoding, MOST_DEPTH, Map, json};
use crate::singyeong::client::Kind;
use crate::singyeong::ids::ClientKey;
use crate::singyeong::metadata::{Changes, Metadata};

pub(super) fn value(text: &str) -> Value {
    json::read(text.as_bytes()).expect("JSON")
}

pub(super) fn query(target: &str) -> Query {
    Query::compile(&value(target), 8).unwrap_or_else(|error| panic!("{target}: {error}"))
}

pub(super) fn client(metadata: &str) -> Client {
    let mut of_client = Metadata::default();
    of_client.merge(Changes::read(&value(metadata)).expect("valid metadata"));
    Client {
        key: ClientKey::new("app", "one"),
        node: NodeId::of_run("test", 1),
        since: 1,
        kind: Kind::Websocket,
        restricted: false,
        encoding: Encoding::Etf,
        ip: None,
        namespace: value(r#"{"colours": ["red", "blue"]}"#).into(),
        receives_client_updates: true,
        last_heartbeat: 1_600_000_000_000,
        queues: BTreeSet::new(),
        metadata: of_client,
    }
}

/// One of each type.
pub(super) fn example() -> Client {
    client(
        r#"{"s": {"type": "string", "value": "text"}, "n": {"type": "integer", "value": 5},
            "f": {"type": "float", "value": 1.5}, "v": {"type": "version", "value": "1.10.0"},
            "l": {"type": "list", "value": [1, "a", null, {"k": [7]}]}, "m": {"type": "map", "value": {"a": {"b": 1}}},
            "b": {"type": "boolean", "value": true}, "a/b": {"type": "integer", "value": 3},
            "op": {"type": "integer", "value": 4}, "plain": {"type": "string", "value": "1.10.0"}}"#,
    )
}

/// What an operator says of the example.
fn says(operator: &str) -> Option<bool> {
    let query = query(&format!(r#"{{"ops": [{operator}]}}"#));
    let [operator] = &query.operators[..] else { panic!("one operator") };
    let said = operator.evaluate(Subject::of(&example()));
    assert_eq!(query.admits(&example()), said == Some(true));
    said
}

#[test]
fn every_operator_on_every_type() {
    // Path, value, and the operators that hold.
    let cases = [
        ("/s", r#""text""#, "$eq $gte $lte"),
        ("/s", r#""tex""#, "$ne $gt $gte"),
        ("/s", "5", "$ne $gt $gte"),
        ("/s", r#"["text"]"#, "$ne $gt $gte $in"),
        ("/s", r#"{"text": 0}"#, "$ne $gt $gte $in"),
        ("/s", r#"["other"]"#, "$ne $gt $gte $nin"),
        ("/n", "5", "$eq $gte $lte"),
        ("/n", "5.0", "$eq $gte $lte"),
        ("/n", "5.5", "$ne $lt $lte"),
        ("/n", "100000000000000000000", "$ne $lt $lte"),
        ("/n", "-100000000000000000000", "$ne $gt $gte"),
        ("/n", "[5]", "$ne $lt $lte $in"),
        ("/n", "[5.0]", "$ne $lt $lte $nin"),
        ("/n", r#"{"5": 1}"#, "$ne $lt $lte $nin"),
        ("/f", "1.5", "$eq $gte $lte"),
        ("/f", "1", "$ne $gt $gte"),
        ("/f", "[1.5]", "$ne $lt $lte $in"),
        ("/v", r#""1.9.0""#, "$ne $gt $gte"),
        ("/v", r#""1.10.0+build""#, "$eq $gte $lte"),
        ("/v", r#""1.9""#, "$ne $lt $lte"),
        ("/plain", r#""1.9.0""#, "$ne $lt $lte"),
        ("/l", r#"[1, "a", null, {"k": [7]}]"#, "$eq $gte $lte $nin $ncontains"),
        ("/l", r#"[1.0, "a", null, {"k": [7.0]}]"#, "$eq $gte $lte $nin $ncontains"),
        ("/l", "[2]", "$ne $lt $lte $nin $ncontains"),
        ("/l", "null", "$ne $gt $gte $contains"),
        ("/l", r#""a""#, "$ne $lt $lte $contains"),
        ("/l", "1", "$ne $gt $gte $contains"),
        ("/l", "1.0", "$ne $gt $gte $ncontains"),
        ("/l", r#"{"k": [7]}"#, "$ne $gt $gte $contains $nin"),
        ("/l", r#"{"k": [7.0]}"#, "$ne $gt $gte $ncontains $nin"),
        ("/m", r#"{"a": {"b": 1.0}}"#, "$eq $gte $lte $ncontains $nin"),
        ("/m", r#""a""#, "$ne $lt $lte $contains"),
        ("/m", r#""b""#, "$ne $lt $lte $ncontains"),
        ("/m", "1", "$ne $gt $gte $ncontains"),
        ("/m", r#"{"a": 1, "b": 1}"#, "$ne $lt $lte $ncontains $nin"),
        ("/b", "true", "$eq $gte $lte"),
        ("/b", "null", "$ne $gt $gte"),
        ("/b", "1", "$ne $gt $gte"),
        ("/b", "[true]", "$ne $lt $lte $in"),
        ("/l/3/k/0", "7", "$eq $gte $lte"),
        ("/m/a/b", "[1]", "$ne $lt $lte $in"),
    ];
    let names = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$contains", "$ncontains"];
    for (path, operand, holding) in cases {
        for name in names {
            let operator = format!(r#"{{"path": "{path}", "op": "{name}", "to": {{"value": {operand}}}}}"#);
            let holds = holding.split(' ').any(|holding| holding == name);
            assert_eq!(says(&operator), Some(holds), "{operator}");
            if path.matches('/').count() == 1 {
                let old = format!(r#"{{"{}": {{"{name}": {operand}}}}}"#, &path[1..]);
                assert_eq!(says(&old), Some(holds), "{old}");
            }
        }
    }
    for path in [
        "/x",
        "/s/x",
        "/l/4",
        "/l/-1",
        "/l/01",
        "/l/+1",
        "/l/",
        "/m/a/b/c",
        "/restricted/x",
        "/l/99999999999999999999999",
    ] {
        for name in names {
            let operator = format!(r#"{{"path": "{path}", "op": "{name}", "to": {{"value": null}}}}"#);
            assert_eq!(says(&operator), None, "{operator}");
        }
    }
}

#[test]
fn long_lists_are_searched_alike() {
    let list = |last: &str| format!("[{}, {last}]", (10..40).map(|n| n.to_string()).collect::<Vec<_>>().join(", "));
    for (name, last, said) in
        [("$in", "5", true), ("$in", "5.0", false), ("$nin", "5", false), ("$nin", "5.0", true), ("$eq", "5", false)]
    {
        let operand = list(last);
        let operator = format!(r#"{{"path": "/n", "op": "{name}", "to": {{"value": {operand}}}}}"#);
        assert_eq!(says(&operator), Some(said), "{operator}");
        assert_eq!(says(&format!(r#"{{"n": {{"{name}": {operand}}}}}"#)), Some(said), "{operator}");
        assert_eq!(says(&operator.replace("/n", "/x")), None, "{operator}");
    }
}

#[test]
fn a_path_deeper_than_any_value_is_refused() {
    let path = |depth: usize| {
        value(&format!(r#"{{"ops": [{{"path": "/a{}", "op": "$eq", "to": {{"value": 1}}}}]}}"#, "/".repeat(depth)))
    };
    assert!(Query::compile(&path(MOST_DEPTH), 8).is_ok());
    assert!(Query::compile(&path(MOST_DEPTH + 1), 8).is_err());
}

#[test]
fn what_the_server_says_of_a_client_is_found_like_metadata() {
    for (path, operand) in [
        ("/ip", "null"),
        ("/restricted", "false"),
        ("/encoding", r#""etf""#),
        ("/namespace", r#"{"colours": ["red", "blue"]}"#),
        ("/namespace/colours/1", r#""blue""#),
        ("/last_heartbeat_time", "1600000000000"),
        ("/receive_client_updates", "true"),
    ] {
        assert_eq!(
            says(&format!(r#"{{"path": "{path}", "op": "$eq", "to": {{"value": {operand}}}}}"#)),
            Some(true),
            "{path}"
        );
    }
}

#[test]
fn the_older_form_says_the_same() {
    for (operator, said) in [
        (r#"{"n": {"$gt": 4, "$lt": 6}}"#, Some(true)),
        (r#"{"n": {"$gt": 4, "$lt": 5}}"#, Some(false)),
        (r#"{"n": {"$eq": 5}, "s": {"$eq": "text"}}"#, Some(true)),
        (r#"{"n": {"$eq": 5}, "s": {"$eq": "other"}}"#, Some(false)),
        (r#"{"n": {"$or": [{"$lt": 1}, {"$gt": 4, "$lt": 6}]}}"#, Some(true)),
        (r#"{"n": {"$nor": [{"$and": [{"$lt": 6}, {"$gt": 4}]}]}}"#, Some(false)),
        (r#"{"a/b": {"$eq": 3}}"#, Some(true)),
        (r#"{"op": {"$eq": 4}}"#, Some(true)),
        (r#"{"x": {"$eq": null}}"#, None),
        (
            r#"{"op": "$and", "with": [{"n": {"$eq": 5}}, {"path": "/s", "op": "$eq", "to": {"value": "text"}}]}"#,
            Some(true),
        ),
    ] {
        assert_eq!(says(operator), said, "{operator}");
    }
}

#[test]
fn what_is_no_query_is_refused() {
    let ops = |ops: &str| format!(r#"{{"ops": {ops}}}"#);
    let mut refused: Vec<String> = ["1", r#""app""#, "[]", "true", r#"{"selector": {}}"#].map(str::to_owned).into();
    refused.extend(["1", "true", r#""x""#, r#"{"a": 1}"#, "[1]", "[null]", "[[]]", "[{}]"].map(ops));
    for operator in [
        r#"{"path": "/n", "to": {"value": 1}}"#,
        r#"{"path": "/n", "op": "$EQ", "to": {"value": 1}}"#,
        r#"{"path": 1, "op": "$eq", "to": {"value": 1}}"#,
        r#"{"op": "$eq", "to": {"value": 1}}"#,
        r#"{"path": "/n", "op": "$eq"}"#,
        r#"{"path": "/n", "op": "$eq", "to": {}}"#,
        r#"{"path": "/n", "op": "$eq", "to": {"default": 1}}"#,
        r#"{"path": "/n", "op": "$eq", "to": {"path": "n", "default": 1}}"#,
        r#"{"op": "$or"}"#,
        r#"{"op": "$or", "with": [1]}"#,
        r#"{"n": {}}"#,
        r#"{"n": {"eq": 1}}"#,
        r#"{"n": {"$or": {"$eq": 1}}}"#,
        r#"{"n": {"$or": [1]}}"#,
        r#"{"n": {"$or": [{}]}}"#,
        r#"{"$or": [{"n": {"$eq": 1}}]}"#,
    ] {
        refused.push(ops(&format!("[{operator}]")));
    }
    for target in refused {
        let compiled = Query::compile(&value(&target), 8);
        assert!(matches!(compiled, Err(InvalidQuery::Malformed(_))), "{target}: {compiled:?}");
    }
}

#[test]
fn depth_and_number_of_operators_are_limited() {
    let leaf = r#"{"path": "/n", "op": "$eq", "to": {"value": 5}}"#;
    let nested = |depth: usize| {
        let (open, close) = (r#"{"op": "$and", "with": ["#.repeat(depth), "]}".repeat(depth));
        value(&format!(r#"{{"ops": [{open}{leaf}{close}]}}"#))
    };
    assert!(Query::compile(&nested(7), 8).is_ok());
    assert_eq!(Query::compile(&nested(8), 8), Err(InvalidQuery::TooDeep(8)));
    let old = |depth: usize| {
        let (open, close) = (r#"{"$or": ["#.repeat(depth), "]}".repeat(depth));
        value(&format!(r#"{{"ops": [{{"n": {open}{{"$eq": 5}}{close}}}]}}"#))
    };
    assert!(Query::compile(&old(7), 8).is_ok());
    assert_eq!(Query::compile(&old(8), 8), Err(InvalidQuery::TooDeep(8)));
    let many = |count: usize| value(&format!(r#"{{"ops": [{}]}}"#, vec![leaf; count].join(",")));
    assert!(Query::compile(&many(MOST_OPERATORS), 8).is_ok());
    assert_eq!(Query::compile(&many(MOST_OPERATORS + 1), 8), Err(InvalidQuery::TooMany(MOST_OPERATORS)));
}

#[test]
fn the_size_of_a_query_and_what_it_goes_through_are_limited() {
    let of = |to: &str| value(&format!(r#"{{"ops": [{{"path": "/none", "op": "$in", "to": {to}}}]}}"#));
    let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    let default = |count: usize| of(&format!(r#"{{"path": "/nowhere", "default": {}}}"#, list(count)));
    assert!(Query::compile(&default(3000), 8).is_ok());
    let version = format!("1.0.0-{}", vec!["a"; MOST_BYTES / 2].join("."));
    let key = Value::map([("key", Value::string(&version))]);
    for large in [
        default(10_000),
        of(&format!(r#"{{"value": {}}}"#, list(10_000))),
        of(&format!(r#"{{"value": "{version}"}}"#)),
        key,
    ] {
        assert_eq!(Query::compile(&large, 8), Err(InvalidQuery::TooLarge(MOST_BYTES)));
    }
    for search in [
        r#"{"path": "/n", "op": "$contains", "to": {"value": 5}}"#,
        r#"{"path": "/n", "op": "$eq", "to": {"path": "/m", "default": 5}}"#,
        r#"{"n": {"$ncontains": 5}}"#,
    ] {
        let many = |count: usize| value(&format!(r#"{{"ops": [{}]}}"#, vec![search; count].join(",")));
        assert!(Query::compile(&many(MOST_SEARCHES), 8).is_ok());
        assert_eq!(Query::compile(&many(MOST_SEARCHES + 1), 8), Err(InvalidQuery::TooManySearches(MOST_SEARCHES)));
    }
}

#[test]
fn a_default_is_prepared_as_a_value_is() {
    for (comparison, given, is_prepared) in [
        (Comparison::In, Value::List((0..100).map(Value::Integer).collect()), true),
        (Comparison::Gt, Value::string("1.2.3-rc.1+7"), true),
        (Comparison::In, Value::string("1.2.3"), false),
        (Comparison::Gt, Value::string(&format!("1.2.3-{}", "a".repeat(300))), false),
    ] {
        let fixed = Fixed::of(comparison, given.clone());
        assert_eq!(!matches!(fixed, Fixed::Value(_)), is_prepared, "{given:?}");
        assert_eq!(fixed.to_value(), given);
        let to = Value::map([("path", Value::string("/nowhere")), ("default", given)]);
        let operator =
            Value::map([("path", Value::string("/n")), ("op", Value::string(comparison.name())), ("to", to)]);
        let query = Query::compile(&Value::map([("ops", Value::List([operator].into()))]), 8).expect("a query");
        let Operator::Compare { to: Operand::Path(_, default), .. } = &query.operators[0] else { panic!("a path") };
        assert_eq!(*default, fixed);
    }
}

#[test]
fn a_target_is_told_back_with_all_seven_keys() {
    let plain = r#"{"application": null, "restricted": false, "key": null, "droppable": false, "optional": false, "ops": [], "selector": null}"#;
    for target in [
        "null",
        "{}",
        r#"{"ops": false, "selector": 5, "restricted": 1, "more": 1}"#,
        r#"{"ops": {}, "selector": {"$sum": "n"}}"#,
    ] {
        assert_eq!(query(target).to_value(), value(plain), "{target}");
        assert!(query(target).is_plain());
    }
    let full = query(
        r#"{"application": "app", "restricted": "true", "key": [1], "droppable": true, "optional": true, "selector": {"$min": "n", "x": 1},
            "ops": [{"path": "/a", "op": "$eq", "to": {"value": 1, "type": "integer"}}, {"b": {"$gt": 1}}, {"c/d": {"$eq": 1}},
                {"op": "$or", "with": [{"path": "/m/0/", "op": "$in", "to": {"path": "/x", "default": 1}}]}]}"#,
    );
    let told = value(
        r#"{"application": "app", "restricted": true, "key": [1], "droppable": true, "optional": true, "selector": {"$min": "n"},
            "ops": [{"path": "/a", "op": "$eq", "to": {"value": 1}}, {"path": "/b", "op": "$gt", "to": {"value": 1}}, {"c/d": {"$eq": 1}},
                {"op": "$or", "with": [{"path": "/m/0/", "op": "$in", "to": {"path": "/x", "default": 1}}]}]}"#,
    );
    assert_eq!(full.to_value(), told);
    assert_eq!(Query::compile(&told, 8), Ok(full));
}

#[test]
fn what_a_target_asks_for_can_be_read() {
    assert_eq!(query("null").application(), None);
    assert_eq!(query(r#"{"application": "app"}"#).application(), Some("app"));
    assert!(query(r#"{"application": "app"}"#).is_plain());
    for target in [r#"{"application": ["app"]}"#, r#"{"application": 1}"#] {
        assert!(query(target).is_for_nobody() && query(target).application().is_none(), "{target}");
        assert!(!query(target).admits(&example()));
    }
    for (field, plain) in [("restricted", false), ("droppable", false), ("optional", false)] {
        assert_eq!(query(&format!(r#"{{"{field}": true}}"#)).is_plain(), plain, "{field}");
        assert!(query(&format!(r#"{{"{field}": "True"}}"#)).is_plain(), "{field}");
    }
    assert!(query(r#"{"droppable": "true"}"#).is_droppable());
    assert!(query(r#"{"optional": true}"#).is_optional());
    assert!(query(r#"{"key": "k"}"#).key().is_some() && query(r#"{"key": null}"#).key().is_none());
}

fn big(text: &str) -> Value {
    let big = value(text);
    assert!(matches!(big, Value::Big(_)), "{text}");
    big
}

#[test]
fn values_are_in_the_order_of_erlang() {
    let mut sorted = vec![
        Value::Float(-1e300),
        big("-18446744073709551617"),
        Value::Integer(i64::MIN),
        Value::Integer(-1),
        Value::Float(-0.5),
        Value::Integer(0),
        Value::Float(0.5),
        Value::Integer(9_007_199_254_740_992),
        Value::Integer(9_007_199_254_740_993),
        Value::Integer(i64::MAX),
        Value::Float(9_223_372_036_854_775_808.0),
        big("9223372036854775809"),
        Value::Float(18_446_744_073_709_551_616.0),
        big("18446744073709551617"),
        Value::Float(f64::MAX),
    ];
    sorted.extend(
        [
            "false",
            "null",
            "true",
            "{}",
            r#"{"b": 0}"#,
            r#"{"c": 0}"#,
            r#"{"c": 1}"#,
            r#"{"a": 9, "b": 0}"#,
            "[]",
            "[0]",
            "[0, 0]",
            "[1]",
        ]
        .map(value),
    );
    sorted.extend([r#""""#, r#""Z""#, r#""a""#, r#""aa""#, r#""ü""#].map(value));
    sorted.push(Value::Bytes([255].into()));
    for (at, a) in sorted.iter().enumerate() {
        for (other, b) in sorted.iter().enumerate() {
            assert_eq!(Term::from(a).compare(b.into()), at.cmp(&other), "{a:?} and {b:?}");
            assert_eq!(Term::from(a).is(b.into()), at == other, "{a:?} and {b:?}");
        }
    }
    for (a, b) in [("1", "1.0"), ("[1]", "[1.0]"), (r#"{"a": 1}"#, r#"{"a": 1.0}"#), ("0", "-0.0")] {
        let (a, b) = (value(a), value(b));
        assert_eq!(Term::from(&a).compare((&b).into()), Ordering::Equal, "{a:?} and {b:?}");
        assert!(!Term::from(&a).is((&b).into()), "{a:?} and {b:?}");
    }
}

/// Values of all kinds, of few texts, so that they meet.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3..4_i64).prop_map(Value::Integer),
        any::<i64>().prop_map(Value::Integer),
        (-3..4_i8).prop_map(|number| Value::Float(f64::from(number) / 2.0)),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::Float),
        (any::<bool>(), prop::collection::vec(any::<u8>(), 9..140)).prop_map(|(negative, mut magnitude)| {
            magnitude.push(1);
            Value::Big(Box::new(BigInteger { negative, magnitude: magnitude.into() }))
        }),
        "[a-c01]{0,2}".prop_map(|text| Value::string(&text)),
        prop::collection::vec(any::<u8>(), 0..3).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|values| Value::List(values.into())),
            prop::collection::vec(("[a-c]{1}", inner), 0..4).prop_map(|entries| Value::Map(Map::new(
                entries.into_iter().map(|(key, value)| (key.into(), value)).collect()
            ))),
        ]
    })
}

/// Operators as clients write them, mostly right.
pub(super) fn operators() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "$eq",
        "$ne",
        "$gt",
        "$gte",
        "$lt",
        "$lte",
        "$in",
        "$nin",
        "$contains",
        "$ncontains",
        "$other",
    ]);
    let paths = prop::sample::select(vec![
        "/n",
        "/s",
        "/l/0",
        "/l/3/k",
        "/m/a",
        "/x",
        "/",
        "/namespace/colours/0",
        "/ip",
        "/v",
        "/encoding",
        "n",
    ]);
    let leaf = (names, paths, values()).prop_map(|(name, path, operand)| {
        Value::map([
            ("op", Value::string(name)),
            ("path", Value::string(path)),
            ("to", Value::map([("value", operand)])),
        ])
    });
    leaf.prop_recursive(4, 24, 4, |inner| {
        (prop::sample::select(vec!["$and", "$or", "$nor"]), prop::collection::vec(inner, 0..4))
            .prop_map(|(name, with)| Value::map([("op", Value::string(name)), ("with", Value::List(with.into()))]))
    })
}

fn compiled(operators: Vec<Value>) -> Option<Query> {
    Query::compile(&Value::map([("ops", Value::List(operators.into()))]), 8).ok()
}

fn combined(name: &str, with: &[Value]) -> Option<bool> {
    let value = Value::map([("op", Value::string(name)), ("with", Value::List(with.into()))]);
    let query = compiled(vec![value])?;
    query.operators[0].evaluate(Subject::of(&example()))
}

proptest! {
    #[test]
    fn whatever_is_compiled_is_asked_without_a_panic(target in values(), ops in values(), selector in values(), key in values()) {
        let _ = Query::compile(&target, 8);
        let target = Value::map([("ops", ops), ("selector", selector), ("key", key)]);
        if let Ok(query) = Query::compile(&target, 8) {
            let client = example();
            query.admits(&client);
            let again = Query::compile(&query.to_value(), 8);
            prop_assert_eq!(again, Ok(query));
        }
    }

    #[test]
    fn what_looks_like_operators_is_asked_without_a_panic_and_told_back(ops in prop::collection::vec(operators(), 0..3)) {
        if let Some(query) = compiled(ops) {
            query.admits(&example());
            let again = Query::compile(&query.to_value(), 8);
            prop_assert_eq!(again, Ok(query));
        }
    }

    #[test]
    fn logic_has_three_values(a in operators(), b in operators()) {
        let said = |operator: &Value| compiled(vec![operator.clone()]).map(|query| query.operators[0].evaluate(Subject::of(&example())));
        if let (Some(x), Some(y)) = (said(&a), said(&b)) {
            let and = match (x, y) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            };
            let or = match (x, y) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            };
            let (forth, back) = ([a.clone(), b.clone()], [b, a]);
            for with in [&forth, &back] {
                prop_assert_eq!(combined("$and", with), and);
                prop_assert_eq!(combined("$or", with), or);
                prop_assert_eq!(combined("$nor", with), or.map(|or| !or));
            }
            prop_assert_eq!(compiled(forth.into()).map(|query| query.admits(&example())), Some(and == Some(true)));
        }
    }

    #[test]
    fn the_order_is_one(a in values(), b in values(), c in values()) {
        let compare = |a: &Value, b: &Value| Term::from(a).compare(b.into());
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        prop_assert_eq!(compare(&a, &a), Ordering::Equal);
        prop_assert!(Term::from(&a).is((&a).into()));
        if Term::from(&a).is((&b).into()) {
            prop_assert_eq!(compare(&a, &b), Ordering::Equal);
        }
        let mut sorted = [&a, &b, &c];
        sorted.sort_by(|a, b| compare(a, b));
        prop_assert!(compare(sorted[0], sorted[2]).is_le());
    }

    #[test]
    fn a_long_list_has_the_members_that_it_would_have_in_parts(members in prop::collection::vec(values(), 17..40), other in values()) {
        let list = Value::List(members.clone().into());
        let Fixed::Members(long) = Fixed::of(Comparison::Nin, list.clone()) else { panic!("it is long") };
        for member in &members {
            prop_assert!(long.contains(member.into()));
        }
        let is_in = members.iter().any(|member| Term::from(member).is((&other).into()));
        prop_assert_eq!(long.contains((&other).into()), is_in);
        prop_assert_eq!(long.to_value(), list);
    }

    #[test]
    fn large_numbers_compare_exactly(whole in any::<i64>(), by in -2..3_i64) {
        let float = whole as f64;
        let near = whole.saturating_add(by);
        let exact = i128::from(near).cmp(&(float as i128));
        prop_assert_eq!(Term::Integer(near).compare(Term::Float(float)), exact);
        prop_assert_eq!(Term::Float(float).compare(Term::Integer(near)), exact.reverse());
    }

    #[test]
    fn big_integers_compare_with_floats_exactly(shift in 64..120_u32, mantissa in 1..(1_u64 << 53), by in -1..2_i128) {
        let whole = i128::from(mantissa) << (shift - 53);
        let near = whole + by;
        let number = BigInteger::value(near < 0, &near.unsigned_abs().to_le_bytes());
        prop_assert_eq!(Term::from(&number).compare(Term::Float(whole as f64)), near.cmp(&whole));
    }
}
