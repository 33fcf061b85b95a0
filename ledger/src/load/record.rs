//! What came of the load: counts for each stage of a journey, and every outcome for the join.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::exchange::Done;
use crate::join::{Outcome, Sent};

/// Highest latency told apart, in microseconds.
const MAX_LATENCY: u64 = 60_000_000;

/// What came of the requests that *began* within one stage.
#[derive(Debug)]
pub struct Stage {
    /// Requests that began.
    pub begun: u64,
    /// Of those, ended.
    pub ended: u64,
    /// Of those, failed.
    pub failed: u64,
    /// Answers by workload.
    pub by: BTreeMap<String, u64>,
    latency: Histogram<u64>,
}

impl Default for Stage {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, MAX_LATENCY, 3).expect("constant bounds that the histogram takes");
        Self { begun: 0, ended: 0, failed: 0, by: BTreeMap::new(), latency }
    }
}

impl Stage {
    /// The latency below which that part of the answers came, 0 to 1.
    pub fn latency(&self, part: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(part))
    }

    /// The part of the answers that a workload gave, 0 to 1.
    pub fn share(&self, by: &str) -> f64 {
        let all: u64 = self.by.values().sum();
        if all == 0 { 0.0 } else { self.by.get(by).copied().unwrap_or(0) as f64 / all as f64 }
    }
}

/// The record.
#[derive(Debug, Default)]
pub struct Recorder {
    stages: Vec<Stage>,
    /// Every outcome, where they are kept.
    kept: Option<Vec<Sent>>,
    /// Requests not sent because too many were under way.
    pub held_back: u64,
    /// The first few failures, for people.
    pub failures: Vec<String>,
}

/// Most failures told in words.
const TOLD: usize = 8;

impl Recorder {
    pub(super) fn new(keep: bool) -> Self {
        Self { stages: vec![Stage::default()], kept: keep.then(Vec::new), held_back: 0, failures: Vec::new() }
    }

    /// Requests from now on belong to a stage of their own; its number.
    pub fn next_stage(&mut self) -> usize {
        self.stages.push(Stage::default());
        self.stages.len() - 1
    }

    /// What was recorded of one.
    pub fn stage(&self, stage: usize) -> Option<&Stage> {
        self.stages.get(stage)
    }

    /// Everything that was kept for the join.
    pub fn kept(&self) -> &[Sent] {
        self.kept.as_deref().unwrap_or_default()
    }

    pub(super) fn begin(&mut self) -> usize {
        let stage = self.stages.len().saturating_sub(1);
        if let Some(stage) = self.stages.get_mut(stage) {
            stage.begun += 1;
        }
        stage
    }

    pub(super) fn held_back(&mut self) {
        self.held_back += 1;
    }

    pub(super) fn end(&mut self, stage: usize, done: Done, took: Duration) {
        let well = match &done.sent.outcome {
            Outcome::Answered(_) => true,
            Outcome::Foreign { status } => *status < 500,
            Outcome::Refused { .. } | Outcome::Broken { .. } => false,
        };
        if let Some(stage) = self.stages.get_mut(stage) {
            stage.ended += 1;
            stage.failed += u64::from(!well);
            if let Some(by) = done.by.filter(|_| well) {
                *stage.by.entry(by).or_default() += 1;
            }
            stage.latency.saturating_record(took.as_micros().try_into().unwrap_or(MAX_LATENCY));
        }
        if let Some(why) = done.sent.why.as_ref().filter(|_| self.failures.len() < TOLD) {
            self.failures.push(format!("{:?} {:016x}: {why}", done.sent.verb, done.sent.id));
        }
        if let Some(kept) = &mut self.kept {
            kept.push(done.sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verb::Verb;

    fn done(by: Option<&str>, outcome: Outcome) -> Done {
        Done {
            sent: Sent { id: 1, verb: Verb::Get, replayable: true, time: Default::default(), body: 0, outcome, why: None },
            by: by.map(str::to_owned),
        }
    }

    #[test]
    fn a_request_counts_for_the_stage_in_which_it_began() {
        let mut recorder = Recorder::new(true);
        let began = recorder.begin();
        let next = recorder.next_stage();
        recorder.end(began, done(Some("monolith"), Outcome::Foreign { status: 200 }), Duration::from_millis(3));
        let other = recorder.begin();
        recorder.end(other, done(Some("orders"), Outcome::Foreign { status: 200 }), Duration::from_millis(3));
        assert_eq!((began, next, other), (0, 1, 1));
        assert_eq!(recorder.stage(0).unwrap().share("monolith"), 1.0);
        assert_eq!(recorder.stage(1).unwrap().share("monolith"), 0.0);
        assert_eq!(recorder.kept().len(), 2);
        let latency = recorder.stage(0).unwrap().latency(0.5);
        assert!(latency >= Duration::from_micros(2990) && latency <= Duration::from_micros(3010), "{latency:?}");
    }

    #[test]
    fn a_failure_is_counted_and_belongs_to_no_workload() {
        let mut recorder = Recorder::new(false);
        let stage = recorder.begin();
        recorder.end(stage, done(Some("monolith"), Outcome::Broken { untouched: false, begun: false }), Duration::ZERO);
        let seen = recorder.stage(stage).unwrap();
        assert_eq!((seen.begun, seen.ended, seen.failed, seen.by.len()), (1, 1, 1, 0));
        assert!(recorder.kept().is_empty());
    }
}
