//! Whatever is read in an encoding is written in all of them, and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use optic::encoding::{self, Encoding};

const ALL: [Encoding; 3] = [Encoding::Json, Encoding::Msgpack, Encoding::Etf];

fuzz_target!(|input: (u8, &[u8])| {
    let (encoding, bytes) = input;
    let Ok(value) = encoding::read(ALL[usize::from(encoding) % ALL.len()], bytes) else { return };
    for encoding in ALL {
        let mut out = Vec::new();
        encoding::write(encoding, &value, &mut out);
        encoding::read(encoding, &out).expect("what is written can be read");
    }
});
