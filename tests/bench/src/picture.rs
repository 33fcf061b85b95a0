//! Pictures of a figure: horizontal bars as SVG, one per chain, ours in another colour. No library: forty lines of text do.

use std::fmt::Write;

use crate::chain::Chain;
use crate::figure::{Figure, Results};
use crate::table::OURS;

const ROW: usize = 26;
const LEFT: usize = 230;
const WIDTH: usize = 760;

/// One picture; `None` when no chain has the figure.
pub fn bars(chains: &[Chain], results: &Results, figure: Figure) -> Option<String> {
    let rows: Vec<(&str, f64)> = chains.iter().filter_map(|chain| Some((chain.name, results.spread(chain.name, figure)?.median))).collect();
    let greatest = rows.iter().map(|(_, value)| *value).fold(f64::NAN, f64::max);
    if greatest.is_nan() {
        return None;
    }
    let height = 40 + rows.len() * ROW;
    let better = if figure.more_is_better() { "more is better" } else { "less is better" };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text x=\"10\" y=\"22\" font-weight=\"bold\" fill=\"#222\">{} ({better})</text>\n",
        escaped(figure.label())
    );
    let digits = figure.digits();
    for (index, (name, value)) in rows.iter().enumerate() {
        let (y, colour) = (36 + index * ROW, if *name == OURS { "#7b3f98" } else { "#9aa5b1" });
        let bar = (value / greatest.max(f64::MIN_POSITIVE) * (WIDTH - LEFT - 90) as f64).max(1.0);
        writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#222\">{}</text><rect x=\"{LEFT}\" y=\"{y}\" width=\"{bar:.1}\" height=\"18\" rx=\"2\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{}\" fill=\"#222\">{value:.digits$}</text>",
            LEFT - 8,
            y + 14,
            escaped(name),
            LEFT as f64 + bar + 6.0,
            y + 14,
        )
        .expect("a string");
    }
    text.push_str("</svg>\n");
    Some(text)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Fronts, Kind};

    #[test]
    fn the_longest_bar_is_the_greatest_value_and_ours_has_its_colour() {
        let nowhere = "127.0.0.1:1".parse().unwrap();
        let fronts = Fronts { http: nowhere, https: None, h2: None, websocket: None, grpc: None, tcp: None };
        let chains = [OURS, "other"].map(|name| Chain::of(name, Kind::Gateway, fronts, Vec::new()));
        let mut results = Results::default();
        results.note(OURS, Figure::SmallRate, 50.0);
        results.note("other", Figure::SmallRate, 100.0);
        let picture = bars(&chains, &results, Figure::SmallRate).unwrap();
        assert!(picture.contains("width=\"220.0\" height=\"18\" rx=\"2\" fill=\"#7b3f98\""), "{picture}");
        assert!(picture.contains("width=\"440.0\" height=\"18\" rx=\"2\" fill=\"#9aa5b1\""), "{picture}");
        assert_eq!(bars(&chains, &results, Figure::TcpCpu), None);
    }
}
