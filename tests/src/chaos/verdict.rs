//! What came of a run, and all that is needed to understand a request that went wrong.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::process::Output;

use figspan_ledger::{Findings, Outcome, Recorder, Row, Sent, join};

use super::acts::Act;
use super::{NOTICED, Plan};
use crate::process::text;

/// Requests shown in full, acts shown around each, and lines of the hub's log.
const SHOWN: usize = 12;

/// Slowest requests told.
const SLOWEST: usize = 5;

/// Of all requests, at most so many may fail by what was done on purpose: more means that failures spread.
const MOST_EXCUSED: f64 = 0.05;

/// Of what arrives until a killed agent is missed, so much cannot be sent again. Policies may bring all requests to that one agent,
/// which in a short run is much of the whole: once, it is allowed beside the above.
const UNREPEATABLE: f64 = 0.45;

/// Of all requests, at most so many may lose the race that nobody can decide; see [`race`].
/// Few requests may have a few by chance.
const MOST_RACES: f64 = 0.0005;
const FEW_RACES: f64 = 4.0;

/// The race in which nothing arrives and yet the hub must not, or cannot, send a request again: a workload ends a kept
/// connection while a request is on its way to it. Where it shuts its side down and closes an instant later, its kernel still
/// acknowledges what comes in between, and to everybody else that is a request that may have been read: a POST is not
/// repeated. And a body that is longer than a hub keeps is gone with the first connection that it left for.
fn race(sent: &Sent, acts: &[Act]) -> bool {
    let closed = sent.why.as_deref().is_some_and(|why| why.contains("workload-closed"));
    closed && (!sent.verb.is_idempotent() || !sent.replayable) && acts.iter().any(|act| act.kind == "restless" && act.at <= sent.time.1)
}

/// The counts of a run.
#[derive(Debug)]
pub struct Verdict {
    /// What it was.
    pub plan: Plan,
    /// What the join found.
    pub findings: Findings,
    /// Requests that lost the one race that nobody can decide.
    pub raced: usize,
    /// Requests not sent in time because too many were under way.
    pub held_back: u64,
    /// What was done, and how often.
    pub acts: BTreeMap<&'static str, usize>,
    /// Answers by workload.
    pub by: BTreeMap<String, u64>,
    /// Longest and median time of an answer, in milliseconds.
    pub latency: (f64, f64),
    /// The slowest requests, in words.
    slowest: Vec<String>,
    faults: Vec<String>,
}

impl Verdict {
    pub(super) fn of(plan: Plan, record: &Recorder, rows: &HashMap<u64, Row>, acts: &[Act], drained: &Output, log: &str) -> Self {
        let excused = |sent: &Sent, row: Option<&Row>| {
            row.is_some_and(|row| row.cut)
                || row.is_none() && race(sent, acts)
                || acts.iter().any(|act| act.brutal && sent.time.0 <= act.at + NOTICED && sent.time.1 + NOTICED / 10 >= act.at)
        };
        let findings = join(record.kept(), Some(rows), excused);
        let mut faults: Vec<String> = findings.faults().iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
        if findings.requests != plan.requests {
            faults.push(format!("{} requests ended of {}", findings.requests, plan.requests));
        }
        let raced = record.kept().iter().filter(|sent| !rows.contains_key(&sent.id) && race(sent, acts)).count();
        if raced as f64 > (plan.requests as f64 * MOST_RACES).max(FEW_RACES) {
            faults.push(format!("{raced} requests lost a race that hardly any should"));
        }
        let most = plan.requests as f64 * MOST_EXCUSED + f64::from(plan.rate) * NOTICED.as_secs_f64() * UNREPEATABLE;
        if findings.excused as f64 > most {
            faults.push(format!("{} failures are excused, more than {most:.0}", findings.excused));
        }
        if !drained.status.success() {
            faults.push(format!("not drained at the end: {}", text(drained)));
        }
        if !faults.is_empty() {
            faults.extend(suspects(record.kept(), rows, acts, excused));
            let last: Vec<&str> = log.lines().filter(|line| !line.contains("access")).collect();
            faults.extend(last[last.len().saturating_sub(SHOWN)..].iter().map(|line| format!("hub: {line}")));
        }
        let mut counts = BTreeMap::new();
        acts.iter().for_each(|act| *counts.entry(act.kind).or_default() += 1);
        let stage = record.stage(0);
        let latency = |part| stage.map_or(0.0, |stage| stage.latency(part).as_secs_f64() * 1000.0);
        Self {
            plan,
            findings,
            raced,
            held_back: record.held_back,
            acts: counts,
            by: stage.map(|stage| stage.by.clone()).unwrap_or_default(),
            latency: (latency(1.0), latency(0.5)),
            slowest: slowest(record.kept()),
            faults,
        }
    }

    /// Whether every count that must be 0 is 0.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }
}

/// What the slowest requests were, and what came of them.
fn slowest(sent: &[Sent]) -> Vec<String> {
    let mut all: Vec<&Sent> = sent.iter().collect();
    all.sort_by_key(|sent| std::cmp::Reverse(sent.time.1.saturating_sub(sent.time.0)));
    let words = |sent: &&Sent| {
        let (from, to) = sent.time;
        let why = sent.why.as_deref().unwrap_or("answered");
        format!("{:?} at {:.1} s took {:.1} s: {why}", sent.verb, from.as_secs_f64(), to.saturating_sub(from).as_secs_f64())
    };
    all.iter().take(SLOWEST).map(words).collect()
}

/// The first requests that went wrong, each with what was done around it.
fn suspects(
    sent: &[Sent],
    rows: &HashMap<u64, Row>,
    acts: &[Act],
    excused: impl Fn(&Sent, Option<&Row>) -> bool + Copy,
) -> impl Iterator<Item = String> {
    let wrong = move |sent: &&Sent| {
        let row: HashMap<u64, Row> = rows.get(&sent.id).map(|row| (sent.id, row.clone())).into_iter().collect();
        let alone = join(std::slice::from_ref(*sent), Some(&row), excused);
        alone.faults().iter().any(|(_, n)| *n > 0)
    };
    sent.iter().filter(wrong).take(SHOWN).map(move |sent| {
        let (from, to) = sent.time;
        let near = acts.iter().filter(|act| act.at + NOTICED >= from && act.at <= to + NOTICED / 3);
        let near: Vec<String> = near.map(|act| format!("{:?} {} {}", act.at, act.kind, act.what)).collect();
        let outcome = match &sent.outcome {
            Outcome::Answered(echo) => format!("{echo:?}"),
            other => format!("{other:?}"),
        };
        format!(
            "{:016x} {:?} replayable {}: {from:?} to {to:?}: {outcome} {}; row {:?}\n    {}",
            sent.id,
            sent.verb,
            sent.replayable,
            sent.why.as_deref().unwrap_or_default(),
            rows.get(&sent.id),
            near.join("\n    ")
        )
    })
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, findings, .. } = self;
        writeln!(f, "seed {}: {} requests at {}/s (FIGSPAN_SEED={} sees it again)", plan.seed, plan.requests, plan.rate, plan.seed)?;
        let counts: Vec<String> = findings.faults().iter().map(|(name, n)| format!("{name} {n}")).collect();
        let Findings { answered, excused, .. } = findings;
        writeln!(f, "answered {answered}, excused {excused} ({} raced), held back {}; {}", self.raced, self.held_back, counts.join(", "))?;
        writeln!(f, "by {:?}; median {:.1} ms, longest {:.0} ms", self.by, self.latency.1, self.latency.0)?;
        writeln!(f, "slowest: {}", self.slowest.join("; "))?;
        writeln!(f, "acts {:?}", self.acts)?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "  {fault}"))
    }
}
