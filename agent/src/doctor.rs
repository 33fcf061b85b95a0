//! Finds out what stands between this VM and its hubs or workloads, and says how to mend it.
//!
//! Works with and without a running agent, and changes nothing. Each check passes, warns, fails, or is skipped because
//! another one failed first; whatever is not good carries its mend.

mod host;
mod hub;

use std::fmt;

use figspan_tunnel::resolve::Resolver;
use serde::Serialize;

use crate::identity::files::Files;
use crate::probe;
use crate::settings::load::Loaded;
use crate::status::show::counted;

/// What a check led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mark {
    /// Good.
    Pass,
    /// Works, but not as well or not for long.
    Warn,
    /// Does not work.
    Fail,
    /// Could not be looked at.
    Skip,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// What it led to.
    pub mark: Mark,
    /// What was seen.
    pub seen: String,
    /// How to mend it; empty when nothing has to be.
    pub mend: String,
}

impl Check {
    pub(crate) fn pass(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { what: what.into(), mark: Mark::Pass, seen: seen.into(), mend: String::new() }
    }

    pub(crate) fn warn(what: impl Into<String>, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mark: Mark::Warn, seen: seen.into(), mend: mend.into() }
    }

    pub(crate) fn fail(what: impl Into<String>, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mark: Mark::Fail, seen: seen.into(), mend: mend.into() }
    }

    pub(crate) fn skip(what: impl Into<String>, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mark: Mark::Skip, seen: seen.into(), mend: mend.into() }
    }
}

/// All checks.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.mark != Mark::Fail)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.what.chars().count()).max().unwrap_or(0);
        for check in &self.checks {
            let mark = match check.mark {
                Mark::Pass => "PASS",
                Mark::Warn => "WARN",
                Mark::Fail => "FAIL",
                Mark::Skip => "SKIP",
            };
            writeln!(f, "{mark}  {:width$}  {}", check.what, check.seen)?;
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

/// Makes all checks.
pub async fn examine(loaded: &Loaded) -> Report {
    let settings = &loaded.settings;
    let mut checks = vec![Check::pass("version", format!("figspan-agent {}", env!("CARGO_PKG_VERSION")))];
    let uplinks = settings.uplinks.len();
    checks.push(match uplinks {
        0 => Check::warn("settings", "no uplink is declared", "add [[uplink]] with name and address to agent.toml"),
        _ => Check::pass("settings", format!("{}, {}", counted(uplinks, "uplink"), counted(settings.hubs.len(), "hub"))),
    });
    checks.extend(host::limits());
    checks.extend(host::permissions(loaded));
    match Resolver::system() {
        Ok(resolver) => {
            let kept = match Files::new(&settings.state_dir).read() {
                Ok(kept) => kept,
                Err(error) => {
                    checks.push(Check::fail("identity", error.to_string(), "see the message"));
                    None
                }
            };
            checks.extend(hub::examine(settings, kept, &resolver).await);
            for uplink in &settings.uplinks {
                let what = format!("workload {}", uplink.name);
                checks.push(match probe::check(uplink, &resolver).await {
                    Ok(()) => Check::pass(what, format!("{} answers", uplink.address)),
                    Err(error) => {
                        Check::fail(what, format!("{}: {error}", uplink.address), format!("{} in agent.toml", error.mend(uplink)))
                    }
                });
            }
        }
        Err(error) => checks.push(Check::fail("name resolution", error.to_string(), "correct /etc/resolv.conf")),
    }
    Report { checks }
}

#[cfg(test)]
mod tests;
