//! Admission has one verdict on any bytes, however they are split, and never panics: requests, responses, PROXY headers, paths.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    figspan_data::admission::fuzz_request(bytes);
    figspan_data::admission::fuzz_response(bytes);
    figspan_data::client::proxy::fuzz_proxy(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(once) = figspan_data::admission::path::canonical(text)
    {
        assert_eq!(figspan_data::admission::path::canonical(&once).as_deref(), Ok(&*once));
    }
});
