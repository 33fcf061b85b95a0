//! Prints figspan's figures: ratios against a direct connection in one run, CPU per request, memory, and control-plane times.
//!
//! `just figures`. Every load is bounded; all of it stays on loopback. Absolute times depend on the machine; the ratios are what
//! to compare.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use figspan_tests::figures;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("workload") => figures::workload::run(),
        Some("quick") => figures::run(1, 60),
        None => figures::run(5, 200),
        Some("tunnels") => {
            let count = std::env::args().nth(2).and_then(|count| count.parse().ok()).unwrap_or(1_000);
            figures::tunnels::measure(count, &mut |what, figure| println!("{what}: {figure}"));
        }
        Some(other) => println!("figures: no such mode: {other}; use none, `quick`, or `tunnels [N]`"),
    }
}
