//! All checks of one look, for people and for programs. Pure.

use std::fmt;
use std::time::SystemTime;

use serde::Serialize;

use super::{Check, Mark};
use crate::advertise::{SOFTWARE, unix_ms};

/// Grows when a reader of older reports could misread a new one; new fields and new checks are no such change.
const SCHEMA: u32 = 1;

/// All checks.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The layout's number.
    pub schema: u32,
    /// The program that looked.
    pub software: &'static str,
    /// When, in Unix milliseconds of this machine's clock.
    pub time_ms: u64,
    /// The agent's name, where this VM has joined.
    pub agent: Option<String>,
    /// The worst of all marks; PASS where checks were only skipped.
    pub worst: Mark,
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(now: SystemTime, agent: Option<String>, checks: Vec<Check>) -> Self {
        let worst = checks.iter().map(|check| check.mark).filter(|mark| *mark != Mark::Skip).max().unwrap_or(Mark::Pass);
        Self { schema: SCHEMA, software: SOFTWARE, time_ms: unix_ms(now), agent, worst, checks }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = |check: &Check| format!("{} {}", check.check.as_str(), check.subject);
        let width = self.checks.iter().map(|check| title(check).chars().count()).max().unwrap_or(0);
        for check in &self.checks {
            writeln!(f, "{}  {:width$}  {}", check.mark.as_str(), title(check), check.seen)?;
            if !check.mend.is_empty() {
                writeln!(f, "      {:width$}  mend: {}", "", check.mend)?;
            }
        }
        let count = |mark| self.checks.iter().filter(|check| check.mark == mark).count();
        write!(
            f,
            "\n{} passed, {} warned, {} failed, {} skipped",
            count(Mark::Pass),
            count(Mark::Warn),
            count(Mark::Fail),
            count(Mark::Skip)
        )
    }
}
