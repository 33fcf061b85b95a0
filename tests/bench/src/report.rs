//! The report: what was measured, how, on what, as a page of the documentation with its pictures.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::chain::Chain;
use crate::figure::{Figure, Results};
use crate::peers::{Failed, PACED, Work};
use crate::{picture, table};

/// What is drawn.
const DRAWN: [Figure; 5] = [Figure::SmallRate, Figure::SmallCpu, Figure::PacedP99, Figure::BulkCpu, Figure::MediumCpu];

/// Lines between which a page holds what was measured.
const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Tables and what is missing, as Markdown.
pub fn data(chains: &[Chain], absent: &[(&str, String)], results: &Results, failed: &[Failed], work: &Work) -> String {
    let mut text = format!(
        "{} rounds, every chain in turn; a closed loop lasts {} s, the open loop {} s at {} requests/s. Medians, with the least and the greatest of the rounds.\n{}.\n\n",
        work.rounds,
        work.time.as_secs(),
        (work.time * PACED).as_secs(),
        work.rate,
        machine()
    );
    text.push_str(&table::ratios(chains, results));
    text.push('\n');
    text.push_str(&table::medians(chains, results));
    for (name, why) in absent {
        writeln!(text, "\nAbsent: {name} ({why}).").expect("a string");
    }
    for (chain, work, why) in failed {
        writeln!(text, "\nNot measured: {work} through {chain}: {why}.").expect("a string");
    }
    text
}

/// Kernel, cores and processor.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|line| line.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, Linux {}, loopback", kernel.trim())
}

/// Puts text between the marks of a page, and the pictures beside it.
pub fn write(page: &Path, measured: &str, chains: &[Chain], results: &Results) -> anyhow::Result<()> {
    let folder = page.with_extension("");
    fs::create_dir_all(&folder)?;
    let mut pictures = String::new();
    for figure in DRAWN {
        if let Some(picture) = picture::bars(chains, results, figure) {
            let name = format!("{figure:?}.svg").to_lowercase();
            fs::write(folder.join(&name), picture)?;
            let inside = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            writeln!(pictures, "![{}]({inside}/{name})\n", figure.label())?;
        }
    }
    let text = fs::read_to_string(page)?;
    fs::write(page, between(&text, &format!("{pictures}{measured}"))?)?;
    Ok(())
}

fn between(text: &str, measured: &str) -> anyhow::Result<String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else { anyhow::bail!("the page has no lines `{BEGIN}` and `{END}`") };
    Ok(format!("{before}{BEGIN}\n{measured}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_the_marks_is_replaced() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(between(&page, "new\n").unwrap(), format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert!(between("no marks", "new").is_err());
    }
}
