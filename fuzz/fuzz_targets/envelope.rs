//! Whatever Discord sends, in either encoding: finding its envelope does not panic, and what is found is in the packet; of a term
//! that a decoder reads, the envelope is what the decoder found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use optic::discord::compression::Encoding;
use optic::discord::envelope;
use optic::discord::payload;
use optic::encoding::{Value, etf};

fuzz_target!(|input: (bool, &[u8])| {
    let (is_etf, packet) = input;
    let encoding = if is_etf { Encoding::Etf } else { Encoding::Json };
    let Ok(found) = envelope::scan(encoding, packet) else { return };
    let _ = payload::hello(encoding, found.data);
    let _ = payload::ready(encoding, found.data);
    let _ = payload::invalid_session(encoding, found.data);
    if !is_etf {
        return;
    }
    if let Ok(read) = etf::read(packet) {
        let alone = [&[etf::VERSION], found.data].concat();
        let data = etf::read(&alone).expect("a part of what is read");
        assert_eq!(read.get("d").unwrap_or(&Value::Null), &data);
        let name = read.get("t").filter(|name| !name.is_null());
        assert_eq!(name.and_then(Value::as_str), found.event.as_deref());
    }
});
