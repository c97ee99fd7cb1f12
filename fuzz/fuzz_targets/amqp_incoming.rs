//! Whatever a broker sends, reading it neither panics nor keeps more than one frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use optic::amqp::address::Address;
use optic::amqp::publisher::codec::frame::FrameDecoder;
use optic::amqp::publisher::handshake::Handshake;
use optic::amqp::publisher::incoming::Incoming;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let address = Address::parse("amqp://localhost").expect("an address");
    let mut out = Vec::new();
    let mut handshake = Handshake::new(&address, "gateway", "fuzz", &mut out);
    let mut incoming = Incoming::default();
    let mut decoder = FrameDecoder::default();
    let mut ready = false;
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = decoder.space();
        let n = rest.len().min(space.len()).min(usize::from(piece) + 1);
        space[..n].copy_from_slice(&rest[..n]);
        decoder.filled(n);
        rest = &rest[n..];
        loop {
            let Ok(frame) = decoder.next_frame() else { return };
            let Some(frame) = frame else { break };
            let went_on = if ready {
                incoming.handle(frame).is_ok()
            } else {
                let result = handshake.handle(frame, &mut out);
                ready = matches!(result, Ok(Some(_)));
                result.is_ok()
            };
            if !went_on {
                return;
            }
        }
    }
});
