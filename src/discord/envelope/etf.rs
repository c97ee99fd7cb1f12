//! The envelope of a packet in Erlang's term format: a map whose keys are atoms or binaries, in any order.
//!
//! Discord's is sorted (`d`, `op`, `s`, `t`), so that all of `d` is passed over before it is known whose it is: a few compares
//! for each term in it ([`terms::end`]), where JSON takes one for each byte.

use std::borrow::Cow;

use super::{Envelope, MAX_EVENT_NAME, MalformedEnvelope};
use crate::discord::ids::Seq;
use crate::encoding::etf::{EtfError, VERSION};
use crate::encoding::terms::{self, Entries};

pub(super) fn scan(packet: &[u8]) -> Result<Envelope<'_>, MalformedEnvelope> {
    let (version, term) = packet.split_first().ok_or(EtfError::Incomplete)?;
    if *version != VERSION {
        return Err(EtfError::Version.into());
    }
    let mut entries = Entries::of(term)?;
    // Of a key twice the last holds.
    let (mut op, mut seq, mut event, mut data) = (terms::NULL, terms::NULL, terms::NULL, terms::NULL);
    while let Some((key, value)) = entries.next_entry()? {
        match key {
            b"d" => data = value,
            b"op" => op = value,
            b"s" => seq = value,
            b"t" => event = value,
            _ => {}
        }
    }
    match entries.rest().len() {
        0 => Ok(Envelope {
            op: terms::unsigned(op).ok_or(MalformedEnvelope::NoOpcode)?,
            seq: sequence(seq)?,
            event: name(event)?,
            data,
        }),
        excess => Err(EtfError::Excess(excess).into()),
    }
}

fn sequence(term: &[u8]) -> Result<Option<Seq>, MalformedEnvelope> {
    match terms::unsigned(term) {
        None if terms::is_null(term) => Ok(None),
        None => Err(MalformedEnvelope::BadSequence),
        Some(seq) => Ok(Some(Seq::new(seq))),
    }
}

fn name(term: &[u8]) -> Result<Option<Cow<'_, str>>, MalformedEnvelope> {
    match terms::text(term).filter(|name| name.len() <= MAX_EVENT_NAME) {
        None if terms::is_null(term) => Ok(None),
        None => Err(MalformedEnvelope::BadEventName),
        name => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::encoding::etf::EtfError::{Compressed, Excess, Incomplete, Kind, TooDeep, Version};
    use crate::encoding::{self, Encoding, MOST_DEPTH, Map, Value, etf};

    /// The bytes of `83 6a` and the like; letters in quotes stand for themselves.
    fn bytes(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for (n, part) in text.split('\'').enumerate() {
            match n % 2 {
                0 => out.extend(data_encoding::HEXLOWER.decode(part.replace(' ', "").as_bytes()).expect("digits")),
                _ => out.extend(part.bytes()),
            }
        }
        out
    }

    #[test]
    fn discords_own_form_is_read_with_d_untouched() {
        // {d: {id: 1500621592580050945, shard: [0, 1]}, op: 0, s: 42, t: 'READY'}
        let d = "74 00000002 640002 'id' 6e 08 00 0100c0c0b84dd314 640005 'shard' 6b 0002 00 01";
        let packet = bytes(&format!(
            "83 74 00000004 640001 'd' {d} 640002 'op' 61 00 640001 's' 61 2a 640001 't' 640005 'READY'"
        ));
        let envelope = scan(&packet).expect("a packet");
        let event = Some(Cow::Borrowed("READY"));
        assert_eq!(envelope, Envelope { op: 0, seq: Some(Seq::new(42)), event, data: &bytes(d) });
    }

    #[test]
    fn absent_and_null_fields_are_alike() {
        for packet in [
            "83 74 00000001 640002 'op' 61 0b",
            "83 74 00000001 6d 00000002 'op' 62 0000000b",
            "83 74 00000004 7302 'op' 6e 01 00 0b 7301 's' 7303 'nil' 7301 't' 7704 'null' 7301 'd' 640003 'nil'",
        ] {
            let packet = bytes(packet);
            assert_eq!(scan(&packet), Ok(Envelope { op: 11, seq: None, event: None, data: terms::NULL }));
        }
    }

    #[test]
    fn newer_atoms_binaries_and_unknown_keys_are_read() {
        let packet = bytes(concat!(
            "83 74 00000007 6105 6a 7701 't' 6d 00000001 'X' 760001 's' 6e 05 00 0000000001 640007 'unknown' 68 02 6a 6a ",
            "6d 00000001 'd' 46 3ff0000000000000 6e 01 01 05 6107 7702 'op' 6e 04 00 00000000"
        ));
        let data = bytes("46 3ff0000000000000");
        let (seq, event) = (Some(Seq::new(1 << 32)), Some(Cow::Borrowed("X")));
        assert_eq!(scan(&packet), Ok(Envelope { op: 0, seq, event, data: &data }));
    }

    #[test]
    fn what_is_not_a_packet_is_refused() {
        use MalformedEnvelope::*;

        let op = "640002 'op' 6100";
        for (packet, error) in [
            ("", NotATerm(Incomplete)),
            ("83", NotATerm(Incomplete)),
            ("82 6a", NotATerm(Version)),
            ("83 6a", NotATerm(Kind(106))),
            ("83 74 0000", NotATerm(Incomplete)),
            ("83 74 00000000", NoOpcode),
            ("83 74 00000001 640002 'op' 6d 00000001 '1'", NoOpcode),
            ("83 74 00000001 640002 'op' 62 ffffffff", NoOpcode),
            ("83 74 00000001 640002 'op' 46 3ff0000000000000", NoOpcode),
            ("83 74 00000001 640002 'op' 6e 09 00 000000000000000001", NoOpcode),
            ("83 74 ffffffff 640002 'op' 6100", NotATerm(Incomplete)),
            ("83 50 00000010 789c", NotATerm(Compressed)),
            (&format!("83 74 00000001 {op} 6a"), NotATerm(Excess(1))),
            (&format!("83 74 00000002 {op} 640001 's' 62 ffffffff"), BadSequence),
            (&format!("83 74 00000002 {op} 640001 't' 6107"), BadEventName),
            (&format!("83 74 00000002 {op} 640001 't' 640004 'true'"), BadEventName),
            (&format!("83 74 00000002 {op} 640001 't' 7701 ff"), BadEventName),
            (&format!("83 74 00000002 {op} 640001 't' 6d 00000081 '{}'", "X".repeat(129)), BadEventName),
            (&format!("83 74 00000002 {op} 640001 'd' 67"), NotATerm(Kind(103))),
            (&format!("83 74 00000002 {op} 640001 'd' 6d ffffffff 00"), NotATerm(Incomplete)),
            (&format!("83 74 00000002 {op} 640001 'd' 6c ffffffff 6a"), NotATerm(Incomplete)),
            (&format!("83 74 00000002 {op} 640001 'd' 6c 00000001 6a 6100"), NotATerm(EtfError::ImproperList)),
            (&format!("83 74 00000002 {op} 6a 6a"), NotATerm(EtfError::BadKey)),
        ] {
            assert_eq!(scan(&bytes(packet)), Err(error), "{packet}");
        }
    }

    #[test]
    fn what_is_deep_costs_no_stack_and_has_an_end() {
        let packet = |depth: usize| {
            let opening = "6c 00000001".repeat(depth);
            bytes(&format!("83 74 00000002 640002 'op' 6100 640001 'd' {opening} 6a {}", "6a".repeat(depth)))
        };
        assert!(scan(&packet(MOST_DEPTH)).is_ok());
        assert_eq!(scan(&packet(MOST_DEPTH + 1)), Err(MalformedEnvelope::NotATerm(TooDeep)));
        assert_eq!(scan(&packet(1_000_000)), Err(MalformedEnvelope::NotATerm(TooDeep)));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Integer),
            any::<u64>().prop_map(Value::from),
            (0..300_i64).prop_map(Value::Integer),
            any::<f32>().prop_filter_map("finite", |n| n.is_finite().then_some(Value::Float(n.into()))),
            "[a-zé]{0,300}".prop_map(|text| Value::string(&text)),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(|items| Value::List(items.into())),
                prop::collection::vec(("[a-z0-9]{0,6}", inner), 0..6).prop_map(|entries| {
                    Value::Map(Map::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
                }),
            ]
        })
    }

    /// A name as a binary or as one of the four kinds of atoms.
    fn named(name: &str, kind: u8) -> Vec<u8> {
        let (kind, head): (u8, usize) = [(109, 4), (100, 2), (118, 2), (115, 1), (119, 1)][usize::from(kind)];
        let length = (name.len() as u32).to_be_bytes();
        [&[kind], &length[4 - head..], name.as_bytes()].concat()
    }

    fn term(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        encoding::write(Encoding::Etf, value, &mut out);
        out.split_off(1)
    }

    /// A packet's bytes, and those of its `d`.
    fn any_packet() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let fields = (
            any_value(),
            any_value(),
            prop::option::of(any::<u64>()),
            prop::option::of(("[A-Z_]{1,12}", 0..5_u8)),
            0..60_u64,
        );
        let shape = (Just([0, 1, 2, 3, 4]).prop_shuffle(), prop::collection::vec(0..5_u8, 5), 0..6_usize);
        (fields, shape).prop_map(|((d, extra, seq, event, op), (order, kinds, count))| {
            let d = term(&d);
            let event = event.map_or_else(|| terms::NULL.to_vec(), |(event, kind)| named(&event, kind));
            let seq = seq.map_or(Value::Null, Value::from);
            let values = [event, term(&seq), term(&op.into()), d.clone(), term(&extra)];
            let kept = &order[..count.min(5)];
            let mut packet = vec![131, 116, 0, 0, 0, kept.len() as u8];
            for &i in kept {
                packet.extend(named(["t", "s", "op", "d", "x"][i], kinds[i]));
                packet.extend(&values[i]);
            }
            (packet, if kept.contains(&3) { d } else { terms::NULL.to_vec() })
        })
    }

    /// What a decoder makes of a packet: `op`, `s`, `t`.
    fn decoded(packet: &Value) -> Option<(u64, Option<u64>, Option<String>)> {
        let unsigned = |value: &Value| match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Big(big) => big.as_u64(),
            _ => None,
        };
        let optional = |key| packet.get(key).filter(|value| !value.is_null());
        let op = unsigned(packet.get("op")?)?;
        let seq = optional("s").map(|value| unsigned(value).ok_or(())).transpose().ok()?;
        let is_name = |name: &str| (name.len() <= MAX_EVENT_NAME).then(|| name.to_owned());
        let event = optional("t").map(|value| value.as_str().and_then(is_name).ok_or(())).transpose().ok()?;
        Some((op, seq, event))
    }

    /// The scan and the decoder say the same of these bytes, but for what only a decoder looks at.
    fn agree(packet: &[u8]) -> Result<(), TestCaseError> {
        let read = etf::read(packet);
        match scan(packet) {
            Ok(Envelope { op, seq, event, data }) => {
                let alone = [&[131], data].concat();
                let data = etf::read(&alone);
                if let Ok(packet) = &read {
                    let found = (op, seq.map(Seq::get), event.as_deref().map(str::to_owned));
                    prop_assert_eq!(decoded(packet), Some(found));
                    prop_assert_eq!(Ok(packet.get("d").cloned().unwrap_or_default()), data);
                } else if let Err(error) = data {
                    use EtfError::*;
                    prop_assert!(matches!(error, BadAtom | BadFloat | BadSign | BadKey | TooMany | TooLong), "{error}");
                }
            }
            Err(_) => prop_assert!(read.ok().as_ref().and_then(decoded).is_none()),
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn the_scanner_agrees_with_a_decoder((packet, d) in any_packet()) {
            agree(&packet)?;
            if let Ok(envelope) = scan(&packet) {
                prop_assert_eq!(envelope.data, d);
            }
        }

        #[test]
        fn what_is_cut_short_is_refused((packet, _) in any_packet(), cut in any::<prop::sample::Index>()) {
            prop_assert!(scan(&packet[..cut.index(packet.len())]).is_err());
        }

        #[test]
        fn what_is_spoiled_is_told_by_both((mut packet, _) in any_packet(), at in any::<prop::sample::Index>(), byte: u8) {
            let at = at.index(packet.len());
            packet[at] = byte;
            agree(&packet)?;
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut packet in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan(&packet);
            packet.splice(0..0, [131, 116, 0, 0, 0, 4, 100, 0, 1, b'd']);
            agree(&packet)?;
        }
    }
}
