//! Sizes: of programs, and of the source by crate.

use figspan_tests::architecture::{files, read, root, without_tests};

/// File sizes and lines.
pub(super) fn measure(say: &mut dyn FnMut(&str, String)) {
    for name in ["figspan-hub", "figspan-agent", "figspanctl"] {
        let size = std::fs::metadata(figspan_tests::process::binary(name)).map_or(0, |file| file.len());
        say(&format!("{name}, program"), format!("{:.1} MiB", size as f64 / 1048576.0));
    }
    for folder in
        ["proto", "settings", "telemetry", "tunnel", "agent", "hub/model", "hub/data", "hub/control", "hub", "ctl", "try", "tests"]
    {
        let source = root().join(folder);
        let (mut code, mut tests) = (0, 0);
        for file in files(&source, ".rs") {
            let inside = file.strip_prefix(&source).unwrap_or(&file);
            if folder == "hub" && ["model", "data", "control"].iter().any(|other| inside.starts_with(other)) {
                continue;
            }
            let text = read(&file);
            let all = text.lines().count();
            let is_test =
                inside.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests")) || inside.ends_with("testing.rs");
            let own = if is_test || folder == "tests" { 0 } else { without_tests(&text).lines().count() };
            code += own;
            tests += all - own;
        }
        say(&format!("lines of {folder}"), format!("{code} and {tests} of tests"));
    }
}
