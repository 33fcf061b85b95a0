//! What a run of the tier measured: the table of faults, and single figures. Each line is printed where it was measured and kept in
//! `target/hosts` for the recipe, which prints both tables at its end.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use figspan_ledger::Findings;

use super::Report;

/// The columns of the table of faults.
const COLUMNS: &str = "fault\tnoticed\tserved again\tsent\tfailed\tlost\ttwice\tphantom\twrong\tremarks";

/// What came of the requests that were sent while a fault lasted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Requests.
    pub sent: usize,
    /// Not served, and told so.
    pub failed: usize,
    /// Served, and the workload knows nothing of it.
    pub lost: usize,
    /// Not safe to repeat, and repeated.
    pub twice: usize,
    /// Said not to have been sent, and done.
    pub phantom: usize,
    /// Corrupt, cut short but whole to look at, another's, or failed without a reason.
    pub wrong: usize,
}

impl From<&Report> for Counts {
    fn from(report: &Report) -> Self {
        let Report { sent, failed, lost, duplicate, phantom, unsound, .. } = *report;
        Self { sent, failed, lost, twice: duplicate, phantom, wrong: unsound }
    }
}

impl From<&Findings> for Counts {
    fn from(found: &Findings) -> Self {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            sent: count(found.requests),
            failed: count(found.excused + found.failed_idempotent + found.failed_other),
            lost: count(found.lost),
            twice: count(found.duplicate),
            phantom: count(found.phantom),
            wrong: count(found.corrupt + found.truncated + found.wrong + found.unexplained),
        }
    }
}

/// A line of the table of faults: what was done, how long until somebody noticed, how long from its end until requests were served
/// again (`None`: nobody noticed anything), the counts, and what else is worth a word.
pub fn measured(what: &str, noticed: Option<Duration>, back: Option<Duration>, counts: impl Into<Counts>, remarks: impl Display) {
    let seconds = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()));
    let Counts { sent, failed, lost, twice, phantom, wrong } = counts.into();
    let cells = [sent, failed, lost, twice, phantom, wrong].map(|count| count.to_string()).join("\t");
    line("faults.tsv", COLUMNS, &format!("{what}\t{}\t{}\t{cells}\t{remarks}", seconds(noticed), seconds(back)));
}

/// A figure: what was looked at, and what was seen.
pub fn row(what: &str, seen: impl Display) {
    line("figures.tsv", "figure\tseen", &format!("{what}\t{seen}"));
}

#[allow(clippy::print_stdout, reason = "the tables are what a run of the tier is for")]
fn line(file: &str, columns: &str, text: &str) {
    println!("{}", text.replace('\t', " | "));
    let path = crate::architecture::root().join("target/hosts").join(file);
    let folder = path.parent().expect("a file lies in a folder");
    let open = || OpenOptions::new().create(true).append(true).open(&path);
    let written = std::fs::create_dir_all(folder).and_then(|()| open()).and_then(|mut table| {
        table.lock()?;
        let header = if table.metadata()?.len() == 0 { format!("{columns}\n") } else { String::new() };
        table.write_all(format!("{header}{text}\n").as_bytes())
    });
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
