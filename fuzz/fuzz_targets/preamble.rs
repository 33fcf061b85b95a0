//! A preamble is read or refused, never a panic; what is read is written back to the same bytes' meaning.
#![no_main]

use figspan_proto::preamble::Preamble;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(preamble) = Preamble::decode(bytes) {
        let mut wire = Vec::new();
        preamble.encode(&mut wire);
        assert_eq!(Preamble::decode(&wire[2..]), Ok(preamble));
    }
});
