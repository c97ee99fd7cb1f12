use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::encoding::etf::EtfError;
use crate::encoding::msgpack::MsgpackError;
use crate::encoding::tests::{ALL, as_it_comes_back, has_big, hex, json, of_eetf, of_rmpv, values, written};
use crate::encoding::{MOST_DEPTH, MOST_VALUES, read};

/// A body as it comes in: a term without its version.
fn body(encoding: Encoding, value: &Value) -> Vec<u8> {
    let mut bytes = written(encoding, value);
    bytes.drain(..usize::from(encoding == Encoding::Etf));
    bytes
}

fn converted(from: Encoding, bytes: &[u8], to: Dialect, taking: Taking) -> Result<Vec<u8>, ReadError> {
    let mut out = b"before".to_vec();
    let result = convert(from, bytes, to, taking, &mut out);
    assert!(out.starts_with(b"before"));
    let converted = out.split_off(6);
    result.map(|()| converted).inspect_err(|_| assert_eq!(out, b"before"))
}

fn plainly(from: Encoding, bytes: &[u8], to: Encoding) -> Result<Vec<u8>, ReadError> {
    converted(from, bytes, Dialect::Plain(to), Taking::EXACT)
}

/// There and back again, as text.
fn round(text: &str, over: Encoding) -> String {
    let there = plainly(Encoding::Json, text.as_bytes(), over).unwrap_or_else(|error| panic!("{text}: {error}"));
    let version = usize::from(over == Encoding::Etf);
    let back = plainly(over, &there[version..], Encoding::Json).expect("what we write can be read");
    String::from_utf8(back).expect("text")
}

// ---- properties ----

/// Values as Discord's JSON can have them.
fn of_discord() -> impl Strategy<Value = Value> {
    values().prop_map(|value| as_it_comes_back(Encoding::Json, &value))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn json_comes_back_from_etf_byte_for_byte(value in of_discord()) {
        let text = String::from_utf8(written(Encoding::Json, &value))?;
        prop_assert_eq!(round(&text, Encoding::Etf), text);
    }

    #[test]
    fn json_comes_back_from_message_pack_byte_for_byte(value in of_discord().prop_filter("64 bits", |v| !has_big(v))) {
        let text = String::from_utf8(written(Encoding::Json, &value))?;
        prop_assert_eq!(round(&text, Encoding::Msgpack), text);
    }

    #[test]
    fn what_is_converted_is_what_the_tree_says(value in values()) {
        for (from, to) in pairs() {
            let bytes = plainly(from, &body(from, &value), to).expect("it is well formed");
            let expected = as_it_comes_back(to, &as_it_comes_back(from, &value));
            prop_assert_eq!(read(to, &bytes), Ok(expected), "{:?} to {:?}", from, to);
        }
    }

    #[test]
    fn other_peoples_decoders_read_what_is_converted(value in of_discord()) {
        let text = written(Encoding::Json, &value);
        let term = plainly(Encoding::Json, &text, Encoding::Etf).expect("a term");
        let decoded = eetf::Term::decode(Cursor::new(term)).expect("a term");
        prop_assert_eq!(of_eetf(&decoded), value.clone());
        let packed = plainly(Encoding::Json, &text, Encoding::Msgpack).expect("MessagePack");
        let decoded = rmpv::decode::read_value(&mut Cursor::new(packed))?;
        prop_assert_eq!(of_rmpv(&decoded), as_it_comes_back(Encoding::Msgpack, &value));
    }

    #[test]
    fn what_other_peoples_encoders_write_is_converted(value in of_discord()) {
        let theirs = eetf::Term::decode(Cursor::new(written(Encoding::Etf, &value))).expect("a term");
        let mut term = Vec::new();
        theirs.encode(&mut term).expect("a term");
        // Its maps have an order of their own, and -1 in a list becomes 255.
        let theirs = of_eetf(&eetf::Term::decode(Cursor::new(&term)).expect("a term"));
        let text = plainly(Encoding::Etf, &term[1..], Encoding::Json).expect("a term");
        prop_assert_eq!(read(Encoding::Json, &text), Ok(theirs));
        let theirs = rmpv::decode::read_value(&mut Cursor::new(written(Encoding::Msgpack, &value)))?;
        let mut packed = Vec::new();
        rmpv::encode::write_value(&mut packed, &theirs)?;
        let expected = written(Encoding::Json, &as_it_comes_back(Encoding::Msgpack, &value));
        prop_assert_eq!(plainly(Encoding::Msgpack, &packed, Encoding::Json), Ok(expected));
    }

    #[test]
    fn what_is_cut_short_or_has_something_behind_it_is_refused(value in values(), cut in any::<prop::sample::Index>()) {
        for (from, to) in pairs() {
            let mut bytes = body(from, &Value::List([value.clone()].into()));
            let cut = cut.index(bytes.len());
            prop_assert!(plainly(from, &bytes[..cut], to).is_err());
            bytes.push(b'1');
            prop_assert!(plainly(from, &bytes, to).is_err());
        }
    }

    #[test]
    fn what_the_tree_refuses_is_refused_and_what_it_takes_is_taken(
        value in values(), at in any::<prop::sample::Index>(), junk in prop::collection::vec(any::<u8>(), 0..6), over in 0..4_usize
    ) {
        for (from, to) in pairs() {
            let mut bytes = body(from, &value);
            let at = at.index(bytes.len());
            let end = (at + over).min(bytes.len());
            bytes.splice(at..end, junk.iter().copied());
            agree(from, &bytes, to)?;
        }
    }

    #[test]
    fn garbage_is_refused_or_converted_but_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for (from, to) in pairs() {
            agree(from, &bytes, to)?;
        }
    }
}

/// From each encoding to each other one.
fn pairs() -> impl Iterator<Item = (Encoding, Encoding)> {
    ALL.into_iter().flat_map(|from| ALL.into_iter().map(move |to| (from, to))).filter(|(from, to)| from != to)
}

/// Tree and conversion are of one opinion: what is wrong, or what it is.
fn agree(from: Encoding, bytes: &[u8], to: Encoding) -> Result<(), TestCaseError> {
    let version = if from == Encoding::Etf { &[VERSION][..] } else { &[] };
    let tree = read(from, &[version, bytes].concat());
    let converted = plainly(from, bytes, to);
    match (tree, converted) {
        (Ok(value), Ok(bytes)) => prop_assert_eq!(read(to, &bytes), Ok(as_it_comes_back(to, &value))),
        (tree, converted) => {
            let (tree, converted) = (tree.err(), converted.err());
            // What is wrong first within a list that is a key, the tree says; that it is one, the conversion.
            let key = [ReadError::Etf(EtfError::BadKey), ReadError::Msgpack(MsgpackError::BadKey)].map(Some);
            if tree.is_none() || !key.contains(&converted) {
                prop_assert_eq!(tree, converted);
            }
        }
    }
    Ok(())
}

// ---- numbers ----

#[test]
fn integers_stay_exact() {
    for number in [
        "0",
        "-1",
        "255",
        "256",
        "-129",
        "2147483647",
        "-2147483649",
        "4294967296",
        "9007199254740993",
        "41771983423143937",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
    ] {
        for over in [Encoding::Etf, Encoding::Msgpack] {
            assert_eq!(round(number, over), number, "{over:?}");
        }
    }
    for big in ["18446744073709551616", "-9223372036854775809", &"9".repeat(1000)] {
        assert_eq!(round(big, Encoding::Etf), *big);
        assert_eq!(round(big, Encoding::Msgpack), format!("{big:?}"), "MessagePack has no such integers");
    }
}

#[test]
fn floats_stay_floats_and_exact() {
    for number in ["0.0", "-0.0", "1.0", "0.1", "1e16", "1e-7", "5e-324", "1.7976931348623157e308", "72.19999999999999"]
    {
        for over in [Encoding::Etf, Encoding::Msgpack] {
            assert_eq!(round(number, over), number, "{over:?}");
        }
    }
}

#[test]
fn ids_become_texts_where_that_is_wanted_and_nothing_else_does() {
    let text = r#"{"id":41771983423143937,"most":9007199254740991,"more":9007199254740992,"least":-9007199254740991,"less":-9007199254740992,"u64":18446744073709551615,"f":1e300,"list":[41771983423143937]}"#;
    let expected = r#"{"id":"41771983423143937","most":9007199254740991,"more":"9007199254740992","least":-9007199254740991,"less":"-9007199254740992","u64":"18446744073709551615","f":1e300,"list":["41771983423143937"]}"#;
    for from in ALL {
        let bytes = match from {
            Encoding::Json => text.as_bytes().to_vec(),
            from => plainly(Encoding::Json, text.as_bytes(), from).expect("well formed"),
        };
        let bytes = &bytes[usize::from(from == Encoding::Etf)..];
        let ids = converted(from, bytes, Dialect::Plain(Encoding::Json), Taking::IDS_AS_TEXT).expect("well formed");
        assert_eq!(String::from_utf8(ids).expect("text"), expected, "{from:?}");
        let packed =
            converted(from, bytes, Dialect::Plain(Encoding::Msgpack), Taking::IDS_AS_TEXT).expect("well formed");
        assert_eq!(read(Encoding::Msgpack, &packed), Ok(json(expected)), "{from:?}");
    }
}

// ---- forms ----

#[test]
fn from_json_lengths_are_filled_in() {
    for (text, etf, msgpack) in [
        ("[]", "83 6a", "90"),
        (" [ ] ", "83 6a", "90"),
        ("{}", "83 74 00000000", "80"),
        (
            r#"{"a":[1,null]}"#,
            "83 74 00000001 6d 00000001 61 6c 00000002 61 01 64 0003 6e696c 6a",
            "de 0001 a1 61 dc 0002 01 c0",
        ),
        (r#""\n\u00e9\ud83d\ude00""#, "83 6d 00000007 0a c3a9 f09f9880", "a7 0a c3a9 f09f9880"),
        (
            "[[],[true],false]",
            "83 6c 00000003 6a 6c 00000001 64 0004 74727565 6a 64 0005 66616c7365 6a",
            "dc 0003 90 dc 0001 c3 c2",
        ),
    ] {
        assert_eq!(plainly(Encoding::Json, text.as_bytes(), Encoding::Etf), Ok(hex(etf)), "{text}");
        assert_eq!(plainly(Encoding::Json, text.as_bytes(), Encoding::Msgpack), Ok(hex(msgpack)), "{text}");
    }
    // What may have more than 65,535 items has a length of four bytes, whether it has or not.
    for items in [1, 0xffff, 0x1_0000, 0x2_0000] {
        let text = format!("[{}0]{}", "0,".repeat(items - 1), " ".repeat(0x2_0000));
        let packed = plainly(Encoding::Json, text.as_bytes(), Encoding::Msgpack).expect("JSON");
        assert_eq!(packed[..5], [&[0xdd], &(items as u32).to_be_bytes()[..]].concat());
        assert_eq!(packed.len(), 5 + items);
    }
    let text = format!("[{}0]", "0,".repeat(0xfffe));
    let packed = plainly(Encoding::Json, text.as_bytes(), Encoding::Msgpack).expect("JSON");
    assert_eq!((&packed[..3], packed.len()), (&[0xdc, 0xff, 0xff][..], 3 + 0xffff));
}

#[test]
fn what_discord_writes_in_etf_becomes_its_json() {
    // {'d': {id: 41771983423143937, shard: [0, 1], guild_id: nil, bot: true, type: normal, <<"u">>: <<"é">>}}, keys as atoms.
    let term = hex("74 00000006 \
         64 0002 6964 6e 08 00 0100000000 68 94 00 \
         64 0005 7368617264 6b 0002 00 01 \
         64 0008 6775696c645f6964 77 03 6e696c \
         64 0003 626f74 76 0004 74727565 \
         64 0004 74797065 64 0006 6e6f726d616c \
         6d 00000001 75 6d 00000002 c3a9");
    let json = r#"{"id":41771983423143937,"shard":[0,1],"guild_id":null,"bot":true,"type":"normal","u":"é"}"#;
    let converted = plainly(Encoding::Etf, &term, Encoding::Json).expect("a term");
    let id = u64::from_le_bytes([1, 0, 0, 0, 0, 0x68, 0x94, 0]);
    assert_eq!(String::from_utf8(converted).expect("text"), json.replace("41771983423143937", &id.to_string()));
}

#[test]
fn terms_that_are_not_taken_are_refused() {
    use crate::encoding::etf::EtfError::*;

    for (bytes, error) in [
        ("", Incomplete),
        ("6a 6a", Excess(1)),
        ("50 00 00 00 01 78 9c", Compressed),
        ("67", Kind(103)),
        ("6c 00 00 00 01 61 01 61 02", ImproperList),
        ("6c ff ff ff ff", Incomplete),
        ("6d ff ff ff ff 00", Incomplete),
        ("77 01 ff", BadAtom),
        ("46 7f f0 00 00 00 00 00 00", BadFloat),
        ("6e 01 02 05", BadSign),
        ("74 00 00 00 01 6a 6a", BadKey),
        ("74 00 00 00 01 6b 00 01 61 6a", BadKey),
    ] {
        for to in [Encoding::Json, Encoding::Msgpack] {
            assert_eq!(plainly(Encoding::Etf, &hex(bytes), to), Err(error.into()), "{bytes}");
        }
    }
}

#[test]
fn keys_are_texts() {
    for (bytes, json) in [
        ("74 00000003 77 03 6e696c 61 01 6d 00000001 ff 61 02 6e 01 01 07 61 03", r#"{"nil":1,"/w==":2,"-7":3}"#),
        ("74 00000001 46 3ff0000000000000 6a", r#"{"1.0":[]}"#),
    ] {
        let converted = plainly(Encoding::Etf, &hex(bytes), Encoding::Json).expect("a term");
        assert_eq!(String::from_utf8(converted).expect("text"), json);
    }
    let packed = hex("84 01 02 c0 c3 c4 01 ff 03 cb 3ff0000000000000 04");
    let converted = plainly(Encoding::Msgpack, &packed, Encoding::Json).expect("MessagePack");
    assert_eq!(String::from_utf8(converted).expect("text"), r#"{"1":2,"null":true,"/w==":3,"1.0":4}"#);
}

#[test]
fn half_characters_and_other_bytes_are_a_sign_of_their_own_where_that_is_wanted() {
    for (text, expected) in [
        (&br#""\ud83d""#[..], "\u{fffd}"),
        (br#""\udc00 \uDBFFx""#, "\u{fffd} \u{fffd}x"),
        (br#""\ud83d\ud83d\ude00\n""#, "\u{fffd}\u{1f600}\n"),
        (br#""\ud83d\u00e9""#, "\u{fffd}é"),
        (br#""\ud83d\n""#, "\u{fffd}\n"),
        (b"\"a\xff\xf0\x9f\"", "a\u{fffd}\u{fffd}"),
        (b"\"\xe9\\ud83d\"", "\u{fffd}\u{fffd}"),
    ] {
        let text = [b"{\"k\":", text, b"}"].concat();
        let expected = Value::map([("k", Value::string(expected))]);
        for to in [Encoding::Etf, Encoding::Msgpack] {
            assert!(plainly(Encoding::Json, &text, to).is_err(), "{text:?}");
            let taking = Taking::event_in(Encoding::Json);
            let bytes = converted(Encoding::Json, &text, Dialect::Plain(to), taking).expect("it is mended");
            assert_eq!(read(to, &bytes), Ok(expected.clone()));
        }
        assert_eq!(read(Encoding::Json, &mended(&text)), Ok(expected));
    }
    for text in [&b"\"\xff"[..], b"\xff", b"\"\\ud83d\\u12\"", b"[\"\\ud83d\",1e400]"] {
        let taking = Taking::event_in(Encoding::Json);
        assert!(converted(Encoding::Json, text, Dialect::Plain(Encoding::Etf), taking).is_err());
        assert_eq!(mended(text), text, "what is no JSON stays");
    }
    for text in [&b" { \"a\":1e400, "[..], br#"["\\ud83d", "\ud83d\ude00"]"#, "\"é\"".as_bytes()] {
        assert_eq!(read(Encoding::Json, &mended(text)), read(Encoding::Json, text));
    }
}

#[test]
fn bytes_are_the_text_that_they_are_or_refused_where_nobody_wants_them() {
    let json = |from, bytes: &str| converted(from, &hex(bytes), Dialect::Plain(Encoding::Json), Taking::NO_BYTES);
    assert_eq!(json(Encoding::Msgpack, "82 c4 01 61 c4 02 c3a9 a1 62 c4 00"), Ok("{\"a\":\"é\",\"b\":\"\"}".into()));
    for bytes in ["c4 01 ff", "a1 ff", "81 c4 01 ff 01", "91 c4 01 ff"] {
        assert_eq!(json(Encoding::Msgpack, bytes), Err(MsgpackError::NoText.into()), "{bytes}");
    }
    assert_eq!(json(Encoding::Etf, "6d 00000001 61"), Ok("\"a\"".into()));
    for bytes in ["6d 00000001 ff", "74 00000001 6d 00000001 ff 6a"] {
        assert_eq!(json(Encoding::Etf, bytes), Err(EtfError::NoText.into()), "{bytes}");
    }
}

#[test]
fn message_pack_text_holds_json() {
    let value = json(r#"{"a":[1,"é\n"],"b":1.5}"#);
    let text = written(Encoding::Json, &value);
    for from in ALL {
        for taking in [Taking::EXACT, Taking::IDS_AS_TEXT] {
            let bytes = converted(from, &body(from, &value), Dialect::MsgpackText, taking).expect("well formed");
            assert_eq!(read(Encoding::Msgpack, &bytes).expect("a text").as_str().map(str::as_bytes), Some(&*text));
            assert_eq!(bytes[0], 0xa0 | text.len() as u8, "the shortest form");
        }
    }
}

#[test]
fn what_is_in_its_encoding_already_is_copied() {
    for (encoding, bytes) in [(Encoding::Json, &b" {} x"[..]), (Encoding::Msgpack, b"\xdf\0"), (Encoding::Etf, b"P")] {
        let copied = plainly(encoding, bytes, encoding).expect("it is not looked at");
        assert_eq!(copied.strip_prefix(&[VERSION]).unwrap_or(&copied), bytes);
        assert_eq!(copied.len(), bytes.len() + usize::from(encoding == Encoding::Etf));
    }
}

#[test]
fn bodies_of_all_dialects_become_json() {
    let value = json(r#"{"a":[1,"é"]}"#);
    let text = written(Encoding::Json, &value);
    for dialect in Dialect::ALL {
        let body = converted(Encoding::Json, &text, dialect, Taking::EXACT).expect("JSON");
        assert_eq!(Dialect::of_body(Some(dialect.content_type()), &body), dialect);
        assert_eq!(Dialect::of_body(None, &body), dialect);
        assert_eq!(to_json(dialect, &body, Taking::EXACT).as_deref(), Ok(&*text), "{dialect}");
        let short = &body[..body.len() - 1];
        assert_eq!(
            to_json(dialect, short, Taking::EXACT).is_ok(),
            dialect == Dialect::Plain(Encoding::Json),
            "{dialect}"
        );
    }
    for (body, error) in [("", EtfError::Incomplete), ("74 00000000", EtfError::Version)] {
        assert_eq!(to_json(Dialect::Plain(Encoding::Etf), &hex(body), Taking::EXACT), Err(error.into()));
    }
    for body in ["", "a1 7b 7d", "80", "c0"] {
        assert!(to_json(Dialect::MsgpackText, &hex(body), Taking::EXACT).is_err(), "{body}");
    }
}

// ---- limits ----

#[test]
fn lists_and_maps_may_be_so_deep_and_no_deeper() {
    let nested = |depth: usize| {
        let text = format!("{}{}", r#"{"a":["#.repeat(depth / 2), "]}".repeat(depth / 2));
        if depth.is_multiple_of(2) { text } else { format!("[{text}]") }
    };
    for over in [Encoding::Etf, Encoding::Msgpack] {
        assert_eq!(round(&nested(MOST_DEPTH), over), nested(MOST_DEPTH));
        assert!(plainly(Encoding::Json, nested(MOST_DEPTH + 1).as_bytes(), over).is_err());
    }
    for (from, opening) in
        [(Encoding::Json, "5b"), (Encoding::Msgpack, "dd ff ff ff ff"), (Encoding::Etf, "69 ff ff ff ff")]
    {
        let to = if from == Encoding::Json { Encoding::Etf } else { Encoding::Json };
        let error = plainly(from, &hex(&opening.repeat(100_000)), to).expect_err("too deep").to_string();
        assert!(error.contains("deep"), "{error}");
    }
    // As deep as a list of its own, though it has no length to say so.
    let term = format!("{} 6a", "68 01".repeat(MOST_DEPTH));
    assert!(plainly(Encoding::Etf, &hex(&term), Encoding::Json).is_err());
}

#[test]
fn there_may_be_more_values_than_a_tree_may_have() {
    let many = MOST_VALUES + 1;
    let text = format!("[{}null]", "null,".repeat(many - 1));
    assert!(read(Encoding::Json, text.as_bytes()).is_err());
    for over in [Encoding::Etf, Encoding::Msgpack] {
        assert_eq!(round(&text, over).len(), text.len());
    }
}

#[test]
fn a_length_that_lies_reserves_nothing() {
    let lies = [(Encoding::Msgpack, "dd ff ff ff ff c0"), (Encoding::Etf, "74 ff ff ff ff 6d 00000000 6a")];
    for (from, bytes) in lies {
        let mut out = Vec::new();
        convert(from, &hex(bytes), Dialect::Plain(Encoding::Json), Taking::EXACT, &mut out).expect_err("a lie");
        assert!(out.is_empty() && out.capacity() < 1024, "{}", out.capacity());
    }
}
