//! The two ways to speak: answers on standard output, advice on standard error. This program is for people; it prints.

/// A line on standard output. A reader that has gone away is no reason to fail.
pub(crate) fn answer(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line on standard error.
pub(crate) fn advice(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
