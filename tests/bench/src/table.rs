//! The table: a row per figure, a column per chain; and the ratios that carry over between machines.

use std::fmt::Write;

use crate::chain::{Chain, Kind};
use crate::figure::{Figure, Results};

/// Our own chain.
pub const OURS: &str = "figspan";

/// Medians with their spread, in Markdown.
pub fn medians(chains: &[Chain], results: &Results) -> String {
    let mut text = String::from("| figure |");
    chains.iter().for_each(|chain| write!(text, " {} |", chain.name).expect("a string"));
    text.push_str("\n|---|");
    chains.iter().for_each(|_| text.push_str("---|"));
    text.push_str("\n| what it is |");
    chains.iter().for_each(|chain| write!(text, " {} |", chain.kind.word()).expect("a string"));
    for figure in Figure::ALL.into_iter().filter(|figure| chains.iter().any(|chain| results.spread(chain.name, *figure).is_some())) {
        write!(text, "\n| {} |", figure.label()).expect("a string");
        for chain in chains {
            let cell = results
                .spread(chain.name, figure)
                .map_or("-".into(), |spread| cell(spread.median, spread.least, spread.greatest, figure.digits()));
            write!(text, " {cell} |").expect("a string");
        }
    }
    text.push('\n');
    text
}

fn cell(median: f64, least: f64, greatest: f64, digits: usize) -> String {
    let (median, least, greatest) = (format!("{median:.digits$}"), format!("{least:.digits$}"), format!("{greatest:.digits$}"));
    if least == greatest { median } else { format!("{median} ({least}-{greatest})") }
}

/// Ours beside direct, the best gateway and the best that carries bytes only. Above 1 is better for ours, whatever the figure.
pub fn ratios(chains: &[Chain], results: &Results) -> String {
    let mut text = String::from(
        "| figure | figspan | of direct | best gateway | ahead by | best of bytes only | ahead by |\n|---|---|---|---|---|---|---|\n",
    );
    let peers = |kind| chains.iter().filter(move |chain| chain.kind == kind && chain.name != OURS).map(|chain| chain.name);
    for figure in Figure::ALL {
        let Some(ours) = results.spread(OURS, figure).map(|spread| spread.median) else { continue };
        let digits = figure.digits();
        let direct = results.spread("direct", figure).map_or("-".into(), |direct| format!("{:.2}", ours / direct.median));
        let against = |kind| match results.best(peers(kind), figure) {
            Some((name, best)) => {
                let ahead = if figure.more_is_better() { ours / best } else { best / ours };
                format!("{name}: {best:.digits$} | {ahead:.2} x")
            }
            None => "- | -".into(),
        };
        let (gateway, bytes) = (against(Kind::Gateway), against(Kind::Bytes));
        writeln!(text, "| {} | {ours:.digits$} | {direct} | {gateway} | {bytes} |", figure.label()).expect("a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Fronts;

    fn chain(name: &'static str, kind: Kind) -> Chain {
        let nowhere = "127.0.0.1:1".parse().unwrap();
        Chain::of(name, kind, Fronts { http: nowhere, https: None, h2: None, websocket: None, grpc: None, tcp: None }, Vec::new())
    }

    #[test]
    fn ahead_means_better_whatever_the_figure() {
        let chains = [chain("direct", Kind::Direct), chain(OURS, Kind::Gateway), chain("other", Kind::Gateway)];
        let mut results = Results::default();
        for (name, rate) in [("direct", 100.0), (OURS, 50.0), ("other", 25.0)] {
            results.note(name, Figure::SmallRate, rate);
        }
        results.note(OURS, Figure::SmallCpu, 20.0);
        results.note("other", Figure::SmallCpu, 30.0);
        let table = ratios(&chains, &results);
        assert!(table.contains("requests/s | 50 | 0.50 | other: 25 | 2.00 x | - | - |"), "{table}");
        assert!(table.contains("CPU us per request | 20.0 | - | other: 30.0 | 1.50 x | - | - |"), "{table}");
    }

    #[test]
    fn a_chain_that_cannot_carry_a_thing_has_a_dash() {
        let chains = [chain(OURS, Kind::Gateway)];
        let mut results = Results::default();
        [1.0, 2.0, 4.0].into_iter().for_each(|value| results.note(OURS, Figure::BulkCpu, value));
        let table = medians(&chains, &results);
        assert!(table.contains("| one stream of 1 GiB: CPU s per GB | 2.00 (1.00-4.00) |"), "{table}");
        assert!(!table.contains("TCP: round trips/s"), "nobody was asked for it: {table}");
    }
}
