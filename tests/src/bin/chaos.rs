//! The ledger under chaos: `chaos [requests] [requests per second]`, 200,000 at 1,500 by default. Exits 0 only if every count
//! that must be 0 is 0. The programs are those beside this one.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use figspan_tests::chaos::{Plan, run, seed};

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Ok(requests), Ok(rate)) = (numbers.next().unwrap_or(Ok(200_000)), numbers.next().unwrap_or(Ok(1_500))) else {
        let _ = writeln!(std::io::stderr(), "usage: chaos [requests] [requests per second]");
        return ExitCode::from(2);
    };
    let plan = Plan { requests, rate: rate.clamp(1, 100_000) as u32, seed: seed(), pause: Duration::from_millis(150) };
    let mut out = std::io::stdout();
    let _ = writeln!(out, "seed {}", plan.seed);
    let verdict = run(plan);
    let _ = write!(out, "{verdict}");
    if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
