//! Whatever a websocket client sends, in any encoding: reading it does not panic, and what it is told can be written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use optic::encoding::Encoding;
use optic::singyeong::packet::incoming::{Op, Packet};
use optic::singyeong::packet::outgoing::Outgoing;
use optic::singyeong::packet::refusal::Refused;
use optic::websocket::frames::FrameKind;

const ALL: [Encoding; 3] = [Encoding::Json, Encoding::Msgpack, Encoding::Etf];

fuzz_target!(|input: (u8, &[u8])| {
    let (encoding, bytes) = input;
    let encoding = ALL[usize::from(encoding) % ALL.len()];
    let told = match Packet::read(encoding, FrameKind::of(encoding), bytes) {
        Err(refusal) => Some(Outgoing::Error(refusal)),
        Ok(packet) if packet.op == Op::Identify => packet.identify().err().map(Outgoing::Error),
        Ok(packet) => packet.dispatch(32).err().map(|refused| match refused {
            Refused::Invalid(refusal) => Outgoing::Invalid(refusal),
            Refused::Error(refusal) => Outgoing::Error(refusal),
        }),
    };
    if let Some(told) = told {
        let mut out = Vec::new();
        told.write(encoding, 0, &mut out);
        assert!(!out.is_empty());
    }
});
