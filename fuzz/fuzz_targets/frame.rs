//! Any bytes over TCP give datagrams within bounds or an end, never a panic, and nothing is held that was not given.
#![no_main]

use figspan_tunnel::carrier::frame::{Deframer, LONGEST};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut deframer, mut into) = (Deframer::default(), [0; LONGEST]);
    for piece in bytes.chunks(97) {
        deframer.push(piece);
        loop {
            match deframer.next(&mut into) {
                Ok(Some(length)) => assert!((1..=LONGEST).contains(&length)),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(deframer.held() <= 2 + LONGEST);
    }
});
