//! The wire format: exact bytes, round trips, garbage.

use proptest::prelude::*;

use super::frame::{Frame, FrameDecoder, FrameKind};
use super::method::{self, CloseReason, Method};
use super::publish::{self, Field, Message, Properties, Unpublishable};
use super::*;

fn message<'a>(key: &'a str, body: &'a [u8]) -> Message<'a> {
    Message {
        exchange: "gateway",
        routing_key: key,
        mandatory: true,
        properties: Properties::default(),
        prefix: None,
        body,
        shard: 0,
        seq: 0,
    }
}

fn frames(mut bytes: &[u8], max: usize) -> Vec<(FrameKind, u16, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some((frame, size)) = Frame::first(bytes, max).expect("frames") {
        all.push((frame.kind, frame.channel, frame.payload.to_vec()));
        bytes = &bytes[size..];
    }
    assert!(bytes.is_empty(), "whole frames only");
    all
}

fn body_of(framed: &[u8], max: usize) -> Vec<u8> {
    frames(framed, max).into_iter().filter(|f| f.0 == FrameKind::Body).flat_map(|f| f.2).collect()
}

#[test]
fn a_message_is_method_header_and_body() {
    let mut out = Vec::new();
    publish::encode(&message("READY", b"{}"), FRAME_MAX_SIZE, &mut out).expect("fits");
    let expected = b"\x01\x00\x01\x00\x00\x00\x15\x00\x3c\x00\x28\x00\x00\x07gateway\x05READY\x01\xce\
                     \x02\x00\x01\x00\x00\x00\x0f\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x10\x00\x01\xce\
                     \x03\x00\x01\x00\x00\x00\x02{}\xce";
    assert_eq!(out, expected);
    assert_eq!(publish::routing_key(&out), "READY");
    assert_eq!(publish::body_size(&out), 2);
}

#[test]
fn a_prefix_is_a_part_of_the_body() {
    for (body, expected) in [(&b"{}"[..], &b"\x83{}"[..]), (b"", b"\x83")] {
        let mut out = Vec::new();
        let message = Message { prefix: Some(131), ..message("READY", body) };
        publish::encode(&message, FRAME_MAX_SIZE, &mut out).expect("fits");
        assert_eq!(body_of(&out, FRAME_MAX_SIZE), expected);
        assert_eq!(publish::body_size(&out), expected.len() as u64);
    }
}

#[test]
fn properties_follow_their_flags_in_the_order_of_the_specification() {
    let properties = Properties {
        content_type: Some("a"),
        headers: &[("shard", Field::Int(7)), ("x", Field::Text("yz"))],
        persistent: true,
        expiration: Some("b"),
        message_id: Some("c"),
        timestamp: Some(258),
        kind: Some("d"),
        app_id: Some("e"),
    };
    let mut out = Vec::new();
    publish::encode(&Message { properties, ..message("K", b"") }, FRAME_MAX_SIZE, &mut out).expect("fits");
    let frames = frames(&out, FRAME_MAX_SIZE);
    assert_eq!(frames.len(), 2, "an empty body has no body frame");
    assert_eq!(
        frames[1].2[12..],
        *b"\xb1\xe8\x01a\x00\x00\x00\x18\x05shardl\0\0\0\0\0\0\0\x07\x01xS\0\0\0\x02yz\x02\x01b\x01c\0\0\0\0\0\0\x01\x02\x01d\x01e"
    );
}

#[test]
fn what_does_not_fit_is_named_and_leaves_nothing_behind() {
    let long = "x".repeat(256);
    let mut out = b"before".to_vec();
    assert_eq!(
        publish::encode(&message(&long, b""), FRAME_MAX_SIZE, &mut out),
        Err(Unpublishable::TooLong { field: "routing key", length: 256 })
    );
    let text = "x".repeat(4090);
    let headers = [("h", Field::Text(&text))];
    let properties = Properties { headers: &headers, ..Properties::default() };
    let result = publish::encode(&Message { properties, ..message("k", b"") }, FRAME_MAX_SIZE, &mut out);
    assert!(matches!(result, Err(Unpublishable::PropertiesTooLarge { .. })), "{result:?}");
    assert_eq!(out, b"before");
}

#[test]
fn a_frame_above_the_agreed_size_is_refused_by_its_head() {
    let mut decoder = FrameDecoder::default();
    decoder.set_max(4096);
    decoder.space()[..7].copy_from_slice(b"\x03\x00\x01\x7f\xff\xff\xff");
    decoder.filled(7);
    assert_eq!(decoder.next_frame(), Err(ProtocolError::FrameTooLarge { size: 0x8000_0007, max: 4096 }));
}

#[test]
fn an_unknown_method_is_an_error_with_its_numbers() {
    assert_eq!(Method::parse(b"\x00\x3c\x00\x3c"), Err(ProtocolError::UnknownMethod { class: 60, method: 60 }));
}

#[test]
fn a_close_tells_code_text_and_culprit() {
    let payload = b"\x00\x14\x00\x28\x01\x94\x02no\x00\x3c\x00\x28";
    let reason = CloseReason { code: 404, text: "no", class: 60, method: 40 };
    assert_eq!(Method::parse(payload), Ok(Method::ChannelClose(reason)));
}

#[test]
fn the_broker_is_known_by_product_and_version() {
    let table = b"\x04capsF\0\0\0\x04\x01at\x01\x07productS\0\0\0\x08RabbitMQ\x01nV\x07versionS\0\0\0\x046.23";
    assert_eq!(method::product_of(table).as_deref(), Ok("RabbitMQ 6.23"));
    assert_eq!(method::product_of(b"\x01a?"), Err(ProtocolError::Truncated("a field of an unknown type")));
}

/// Feeds `bytes` cut into `pieces` (used over and over) and gives what came out.
fn decode_in_pieces(bytes: &[u8], pieces: &[usize]) -> Result<Vec<(FrameKind, u16, Vec<u8>)>, ProtocolError> {
    let mut decoder = FrameDecoder::default();
    let mut all = Vec::new();
    let mut rest = bytes;
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() {
        let space = decoder.space();
        let n = (*pieces.next().expect("cycles")).min(rest.len()).min(space.len());
        space[..n].copy_from_slice(&rest[..n]);
        decoder.filled(n);
        rest = &rest[n..];
        while let Some(frame) = decoder.next_frame()? {
            all.push((frame.kind, frame.channel, frame.payload.to_vec()));
        }
    }
    assert!(!decoder.is_mid_frame());
    Ok(all)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut decoder = FrameDecoder::default();
        let space = decoder.space();
        space[..bytes.len()].copy_from_slice(&bytes);
        decoder.filled(bytes.len());
        while let Ok(Some(_)) = decoder.next_frame() {}
        let _ = Method::parse(&bytes);
        let _ = method::content_body_size(&bytes);
        let _ = method::product_of(&bytes);
    }

    #[test]
    fn known_methods_with_arbitrary_fields_never_panic(
        method in prop::sample::select(vec![
            (10u16, 10u16), (10, 30), (10, 50), (10, 60), (20, 20), (20, 40), (60, 50), (60, 80), (60, 120),
        ]),
        fields in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut payload = Vec::new();
        payload.extend_from_slice(&method.0.to_be_bytes());
        payload.extend_from_slice(&method.1.to_be_bytes());
        payload.extend_from_slice(&fields);
        if let Ok(Method::ConnectionStart { properties, .. }) = Method::parse(&payload) {
            let _ = method::product_of(properties);
        }
    }

    #[test]
    fn any_split_of_a_stream_decodes_the_same(
        bodies in proptest::collection::vec(0usize..40_000, 1..6),
        pieces in proptest::collection::vec(1usize..9_000, 1..10),
    ) {
        let mut bytes = Vec::new();
        for (i, size) in bodies.iter().enumerate() {
            let body: Vec<u8> = (0..*size).map(|b| (b * 31 + i) as u8).collect();
            publish::encode(&message("KEY", &body), FRAME_MAX_SIZE, &mut bytes).expect("fits");
            bytes.extend_from_slice(&method::HEARTBEAT);
        }
        prop_assert_eq!(decode_in_pieces(&bytes, &pieces).expect("valid"), frames(&bytes, FRAME_MAX_SIZE));
    }

    #[test]
    fn a_body_is_cut_and_cut_again_without_a_change(
        body in proptest::collection::vec(any::<u8>(), 0..30_000),
        prefix: Option<u8>,
        first in 4096usize..20_000,
        second in 4096usize..20_000,
    ) {
        let (mut framed, mut again) = (Vec::new(), Vec::new());
        let message = Message { prefix, ..message("KEY", &body) };
        let body: Vec<u8> = prefix.into_iter().chain(body.iter().copied()).collect();
        publish::encode(&message, first, &mut framed).expect("fits");
        prop_assert!(framed.len() <= publish::encoded_bound(&message, first));
        prop_assert_eq!(&body_of(&framed, first), &body);
        publish::recut(&framed, second, &mut again);
        prop_assert_eq!(&body_of(&again, second), &body);
        framed.clear();
        publish::encode(&message, second, &mut framed).expect("fits");
        prop_assert_eq!(framed, again, "as if it had been cut that way at once");
    }
}
