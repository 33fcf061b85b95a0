//! What an agent says over HTTP/2 has one meaning to the hub's call, however it is cut, and never makes it panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| figspan_tunnel::grpc::fuzz_call(bytes));
