//! The table of measured faults: a line each, printed where it was measured and kept in `target/hosts/faults.tsv` for the recipe.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// Notes a line: what was done, and what was seen.
#[allow(clippy::print_stdout, reason = "the table is what a run of the tier is for")]
pub fn row(fault: &str, seen: impl Display) {
    println!("{fault}: {seen}");
    let folder = crate::architecture::root().join("target/hosts");
    let file = std::fs::create_dir_all(&folder).and_then(|()| OpenOptions::new().create(true).append(true).open(folder.join("faults.tsv")));
    file.and_then(|mut file| writeln!(file, "{fault}\t{seen}")).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}
