//! The envelope of a packet in JSON.
//!
//! Discord writes the fields in the order `t`, `s`, `op`, `d`; that order has a path of its own, any other is right too.

use std::borrow::Cow;

use super::{Envelope, MAX_EVENT_NAME, MalformedEnvelope};
use crate::discord::ids::Seq;

pub(super) fn scan(packet: &[u8]) -> Result<Envelope<'_>, MalformedEnvelope> {
    match scan_in_order(packet) {
        Some(envelope) => Ok(envelope),
        None => scan_any_order(packet),
    }
}

/// The path for `{"t":"NAME","s":1,"op":0,"d":...}` without white space; `None` for whatever else.
fn scan_in_order(packet: &[u8]) -> Option<Envelope<'_>> {
    let rest = packet.strip_prefix(b"{\"t\":\"")?;
    let (name, rest) = rest.split_at(memchr::memchr2(b'"', b'\\', rest.get(..=MAX_EVENT_NAME).unwrap_or(rest))?);
    let rest = rest.strip_prefix(b"\",\"s\":")?;
    let (seq, rest) = number(rest)?;
    let rest = rest.strip_prefix(b",\"op\":")?;
    let (op, rest) = number(rest)?;
    let data = rest.strip_prefix(b",\"d\":")?;
    let end = value_end(data)?;
    if &data[end..] != b"}" {
        return None;
    }
    Some(Envelope {
        op,
        seq: Some(Seq::new(seq)),
        event: Some(Cow::Borrowed(std::str::from_utf8(name).ok()?)),
        data: &data[..end],
    })
}

fn scan_any_order(packet: &[u8]) -> Result<Envelope<'_>, MalformedEnvelope> {
    let mut cursor = Cursor { packet, at: 0 };
    let (mut op, mut seq, mut event, mut data) = (None, None, None, &b"null"[..]);
    cursor.expect(b'{')?;
    if cursor.peek() == Some(b'}') {
        return Err(MalformedEnvelope::NoOpcode);
    }
    loop {
        let key = cursor.value()?;
        if key.first() != Some(&b'"') {
            return Err(cursor.not_an_object());
        }
        cursor.expect(b':')?;
        let value = cursor.value()?;
        // A key may be written with escapes; only a tree could tell every spelling, and serde_json reads this one string.
        match &*string(key).ok_or_else(|| cursor.not_an_object())? {
            "op" => op = whole(value),
            "s" if value == b"null" => seq = None,
            "s" => seq = Some(Seq::new(whole(value).ok_or(MalformedEnvelope::BadSequence)?)),
            "t" if value == b"null" => event = None,
            "t" => {
                let name = string(value).filter(|name| name.len() <= MAX_EVENT_NAME);
                event = Some(name.ok_or(MalformedEnvelope::BadEventName)?);
            }
            "d" => data = value,
            _ => {}
        }
        match cursor.next() {
            Some(b',') => {}
            Some(b'}') => break,
            _ => return Err(cursor.not_an_object()),
        }
    }
    if cursor.peek().is_some() {
        return Err(cursor.not_an_object());
    }
    Ok(Envelope { op: op.ok_or(MalformedEnvelope::NoOpcode)?, seq, event, data })
}

/// The members of the JSON object at the start of a text, for who looks for one of them and passes over the rest.
pub(in crate::discord) struct Members<'a> {
    cursor: Cursor<'a>,
    begun: bool,
}

impl<'a> Members<'a> {
    pub(in crate::discord) const fn of(text: &'a [u8]) -> Self {
        Self { cursor: Cursor { packet: text, at: 0 }, begun: false }
    }
}

impl<'a> Iterator for Members<'a> {
    /// A key with its quotation marks, as it is written, and its value.
    type Item = (&'a [u8], &'a [u8]);

    /// The next one; none at the end, and where the text is no object any more.
    fn next(&mut self) -> Option<Self::Item> {
        let before = if std::mem::replace(&mut self.begun, true) { b',' } else { b'{' };
        self.cursor.expect(before).ok()?;
        let key = self.cursor.value().ok()?;
        self.cursor.expect(b':').ok()?;
        Some((key, self.cursor.value().ok()?))
    }
}

/// Walks over the packet's outermost tokens.
struct Cursor<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn not_an_object(&self) -> MalformedEnvelope {
        MalformedEnvelope::NotAnObject { at: self.at.min(self.packet.len()) }
    }

    /// The next byte that is not white space, left where it is.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.packet.get(self.at) {
            if !byte.is_ascii_whitespace() {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    fn expect(&mut self, byte: u8) -> Result<(), MalformedEnvelope> {
        if self.next() == Some(byte) { Ok(()) } else { Err(self.not_an_object()) }
    }

    fn value(&mut self) -> Result<&'a [u8], MalformedEnvelope> {
        self.peek();
        let rest = &self.packet[self.at..];
        let end = value_end(rest).filter(|end| *end > 0).ok_or_else(|| self.not_an_object())?;
        self.at += end;
        Ok(&rest[..end])
    }
}

/// What a byte does to the search for a value's end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Quote,
    Open,
    Close,
}

/// Indexed by the byte: one load instead of five compares, for every byte of every event.
static CLASS: [Class; 256] = {
    let mut table = [Class::Plain; 256];
    table[b'"' as usize] = Class::Quote;
    table[b'{' as usize] = Class::Open;
    table[b'[' as usize] = Class::Open;
    table[b'}' as usize] = Class::Close;
    table[b']' as usize] = Class::Close;
    table
};

/// Where the JSON value at the start of `text` ends; `None` if it does not. A number or word ends before `,`, `}`, `]` or white space.
fn value_end(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b'"' => string_end(text, 0),
        b'{' | b'[' => {
            let (mut depth, mut at) = (0usize, 0);
            loop {
                match CLASS[usize::from(*text.get(at)?)] {
                    Class::Plain => {}
                    Class::Quote => {
                        at = string_end(text, at)?;
                        continue;
                    }
                    Class::Open => depth += 1,
                    Class::Close => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(at + 1);
                        }
                    }
                }
                at += 1;
            }
        }
        _ => Some(
            text.iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b':' | b'"') || byte.is_ascii_whitespace())
                .unwrap_or(text.len()),
        ),
    }
}

/// Where the string that opens at `start` ends. Strings are short: a plain loop beats a search by vector.
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// A whole number at the start of `text`, and the rest.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    Some((whole(number)?, rest))
}

/// The whole number that is all of `text`.
fn whole(text: &[u8]) -> Option<u64> {
    // 19 digits cannot overflow.
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

/// The JSON string that is all of `text`.
fn string(text: &[u8]) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        return serde_json::from_slice(text).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    #[test]
    fn discords_own_order_is_read_with_d_untouched() {
        let packet = br#"{"t":"MESSAGE_CREATE","s":42,"op":0,"d":{"content":"a \"}\" {[","n": 1.50}}"#;
        let envelope = scan_in_order(packet).expect("the fast path takes it");
        assert_eq!(envelope.op, 0);
        assert_eq!(envelope.seq, Some(Seq::new(42)));
        assert_eq!(envelope.event.as_deref(), Some("MESSAGE_CREATE"));
        assert_eq!(envelope.data, br#"{"content":"a \"}\" {[","n": 1.50}"#);
        assert_eq!(scan_any_order(packet), Ok(envelope));
    }

    #[test]
    fn a_field_after_d_is_not_taken_for_part_of_it() {
        let envelope = scan(br#"{"t":"X","s":1,"op":0,"d":{},"z":{}}"#).expect("a packet");
        assert_eq!(envelope.data, b"{}");
    }

    #[test]
    fn absent_and_null_fields_are_alike() {
        for packet in [&br#"{"op":11}"#[..], br#"{"t":null,"s":null,"op":11,"d":null}"#, br#" { "op" : 11 } "#] {
            let envelope = scan(packet).expect("a packet");
            assert_eq!(envelope, Envelope { op: 11, seq: None, event: None, data: b"null" });
        }
    }

    #[test]
    fn what_is_not_a_packet_is_refused() {
        for packet in ["", "null", "[]", "{", "{}", r#"{"op":"1"}"#, r#"{"op":1"#, r#"{"op":1}x"#, r#"{"op":-1}"#] {
            assert!(scan(packet.as_bytes()).is_err(), "{packet}");
        }
        assert_eq!(scan(br#"{"op":0,"s":1.5}"#), Err(MalformedEnvelope::BadSequence));
        assert_eq!(scan(br#"{"op":0,"t":7}"#), Err(MalformedEnvelope::BadEventName));
        let long = format!(r#"{{"t":"{}","s":1,"op":0,"d":{{}}}}"#, "X".repeat(MAX_EVENT_NAME + 1));
        assert_eq!(scan(long.as_bytes()), Err(MalformedEnvelope::BadEventName));
    }

    #[test]
    fn the_reference_payloads_take_the_fast_path() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/simulator/payloads");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).expect("the payloads") {
            let path = file.expect("an entry").path();
            let is_a_packet = path.extension().is_some_and(|extension| extension == "json");
            // Beside the packets lies how often each comes.
            if !is_a_packet || path.ends_with("traffic-mix.json") {
                continue;
            }
            let packet = std::fs::read(&path).expect("a payload");
            assert!(scan_in_order(&packet).is_some(), "{}", path.display());
            seen += 1;
        }
        assert!(seen > 80, "{seen} payloads");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f32>().prop_map(|x| json!(x)),
            r#"[\PC{}\[\]"\\:,\n]{0,12}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((r#"[\PC{}"\\]{0,6}"#, inner), 0..6)
                    .prop_map(|fields| Value::Object(Map::from_iter(fields))),
            ]
        })
    }

    proptest! {
        /// Whatever the order of the fields, whatever stands beside them and however it is spaced: serde_json finds the same.
        #[test]
        fn the_scanner_agrees_with_a_parser(
            data in any_json(),
            extra in any_json(),
            seq in prop::option::of(0..u64::from(u32::MAX)),
            event in prop::option::of(r#"[A-Z_"\\é]{1,12}"#),
            op in 0..50u64,
            order in Just([0, 1, 2, 3, 4]).prop_shuffle(),
            pretty: bool,
        ) {
            let fields = [("t", json!(event)), ("s", json!(seq)), ("op", json!(op)), ("d", data.clone()), ("x", extra)];
            let text = |value: &Value| if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
            let gap = if pretty { "\n  " } else { "" };
            let body: Vec<String> = order.iter().map(|&i| {
                let (key, value) = &fields[i];
                format!("{gap}\"{key}\":{gap}{}", text(value).expect("JSON"))
            }).collect();
            let packet = format!("{{{}{gap}}}", body.join(","));
            let envelope = scan(packet.as_bytes()).expect("a packet");
            prop_assert_eq!(envelope.op, op);
            prop_assert_eq!(envelope.seq.map(Seq::get), seq);
            prop_assert_eq!(envelope.event.as_deref(), event.as_deref());
            let found = std::str::from_utf8(envelope.data).expect("UTF-8");
            prop_assert_eq!(found, text(&data).expect("JSON"));
        }

        #[test]
        fn arbitrary_bytes_never_panic(packet in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan(&packet);
        }

        /// Bytes that look like packets reach deeper than arbitrary ones.
        #[test]
        fn mangled_packets_never_panic(cut in 0..80usize, byte: u8) {
            let mut packet = br#"{"t":"A\u0041","s":12,"op":0,"d":{"a":["b\"",{}],"c":null},"z":-1.5e3}"#.to_vec();
            let at = cut.min(packet.len() - 1);
            packet[at] = byte;
            let _ = scan(&packet);
            let _ = scan(&packet[..at]);
        }
    }
}
