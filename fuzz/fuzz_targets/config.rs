//! Any text is a configuration or a list of findings.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = figspan_model::settings::parse(text, "fuzz.toml");
});
