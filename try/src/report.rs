//! What a journey came to, for people and as JSON, and whether it went well. Pure.

use std::fmt::Write;
use std::time::Duration;

use figspan_ledger::Findings;
use figspan_proto::admin::DrainVerdict;
use serde::Serialize;

/// How far an observed share may be from the wanted one: exact shares, but requests at the edges of a stage belong to both.
const SHARE_TOLERANCE: f64 = 0.015;

/// Fewest answers of a stage for its share to mean anything.
const MIN_ANSWERS: u64 = 50;

/// A whole journey.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) uplink: String,
    pub(crate) service: String,
    pub(crate) agents: usize,
    /// Requests per second asked for.
    pub(crate) rate: u32,
    pub(crate) seconds: f64,
    pub(crate) steps: Vec<Step>,
    /// What the join found.
    pub(crate) findings: Findings,
    /// Whether the workloads kept a ledger; without one, only what the client sees is judged.
    pub(crate) ledger: bool,
    /// Requests not sent because too many were under way.
    pub(crate) held_back: u64,
    /// The first failures in words.
    pub(crate) failures: Vec<String>,
    pub(crate) drain: Option<Drain>,
    /// What ended the journey before its end.
    pub(crate) broken_off: Option<String>,
}

/// One step.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Step {
    pub(crate) name: String,
    /// What was done to get there.
    pub(crate) how: String,
    /// Share of the uplink, 0 to 1.
    pub(crate) wanted: f64,
    pub(crate) observed: f64,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// From the command to the answer that every shard works with it.
    pub(crate) effective_ms: f64,
}

/// The drain and its proof.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Drain {
    pub(crate) verdict: DrainVerdict,
    /// From the command to the proof.
    pub(crate) took_ms: f64,
    /// Requests that the drained workloads saw after the proof, by their own count.
    pub(crate) requests_after: Option<u64>,
}

impl Report {
    /// What did not go as it must; empty when all went well.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.broken_off.iter().map(|why| format!("the journey broke off: {why}")).collect();
        faults.extend(self.findings.faults().iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")));
        if self.findings.requests == 0 {
            faults.push("no request was sent".to_owned());
        }
        if self.held_back > 0 {
            faults.push(format!("{} requests were held back: the answers came too slowly for the rate", self.held_back));
        }
        for step in &self.steps {
            if step.requests < MIN_ANSWERS {
                faults.push(format!("step {} had {} requests; {MIN_ANSWERS} are needed for a share", step.name, step.requests));
            } else if (step.wanted - step.observed).abs() > SHARE_TOLERANCE {
                faults.push(format!("step {}: share {} wanted, {} observed", step.name, percent(step.wanted), percent(step.observed)));
            }
        }
        match &self.drain {
            Some(drain) if !drain.verdict.drained => {
                faults.push(format!("not drained: waits for {}", drain.verdict.waiting_for.join(", ")))
            }
            Some(Drain { requests_after: Some(n @ 1..), .. }) => faults.push(format!("{n} requests reached the workload after `drained`")),
            Some(_) => {}
            None if self.broken_off.is_none() => faults.push("the drain was not proven".to_owned()),
            None => {}
        }
        faults
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{} on {} agents -> {}, {} requests/s for {:.1} s\n",
            self.uplink, self.agents, self.service, self.rate, self.seconds
        );
        let width = self.steps.iter().map(|step| step.how.len()).max().unwrap_or(0).max(3);
        let _ = writeln!(
            text,
            "{:<8} {:<width$} {:>8} {:>9} {:>9} {:>7} {:>9} {:>9} {:>10}",
            "STEP", "HOW", "WANTED", "OBSERVED", "REQUESTS", "FAILED", "P50", "P99", "EFFECTIVE"
        );
        for step in &self.steps {
            let _ = writeln!(
                text,
                "{:<8} {:<width$} {:>8} {:>9} {:>9} {:>7} {:>9} {:>9} {:>10}",
                step.name,
                step.how,
                percent(step.wanted),
                percent(step.observed),
                step.requests,
                step.failed,
                ms(step.p50_ms),
                ms(step.p99_ms),
                ms(step.effective_ms)
            );
        }
        let found = &self.findings;
        let _ = writeln!(text, "\nrequests {}, answered {}", found.requests, found.answered);
        let faults: Vec<_> = found.faults().iter().map(|(name, n)| format!("{name} {n}")).collect();
        let _ = writeln!(text, "{}", faults.join(", "));
        if !self.ledger {
            text.push_str("(your workloads keep no ledger: lost, phantom, duplicate, corrupt, truncated and wrong are not judged)\n");
        }
        for failure in &self.failures {
            let _ = writeln!(text, "  {failure}");
        }
        if let Some(drain) = &self.drain {
            text.push('\n');
            text.push_str(&drain.text());
        }
        let faults = self.faults();
        text.push_str(match (faults.is_empty(), self.ledger) {
            (true, true) => "\nPASS: nothing was lost, and the drain is proven\n",
            (true, false) => "\nPASS: no request failed, and the drain is proven\n",
            (false, _) => "\nFAIL\n",
        });
        for fault in faults {
            let _ = writeln!(text, "  {fault}");
        }
        text
    }
}

impl Drain {
    fn text(&self) -> String {
        let verdict = &self.verdict;
        let counts = verdict.agents.iter().map(|count| match count.open_connections {
            Some(open) => format!("{} {open}", count.agent),
            None => format!("{} no answer", count.agent),
        });
        let counts = counts.collect::<Vec<_>>().join(", ");
        let headline = if verdict.drained { "drained" } else { "NOT drained" };
        let mut text = format!(
            "{}: {headline} after {}\n  weight is 0: {}; confirmed by: {}; in flight: {}; pooled: {}; open at agents: {counts}\n",
            verdict.uplink,
            ms(self.took_ms),
            if verdict.weight_is_zero { "yes" } else { "no" },
            verdict.confirmed.join(", "),
            verdict.in_flight,
            verdict.pooled,
        );
        if let Some(after) = self.requests_after {
            let _ = writeln!(text, "  requests that the workload itself counted afterwards: {after}");
        }
        text
    }
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn ms(ms: f64) -> String {
    format!("{ms:.1} ms")
}

/// A duration in milliseconds, as reports have them.
pub(crate) fn in_ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(drained: bool) -> DrainVerdict {
        DrainVerdict {
            sessions: None,
            uplink: "monolith".parse().unwrap(),
            agent: None,
            drained,
            weight_is_zero: true,
            confirmed: vec!["try".to_owned()],
            in_flight: u64::from(!drained),
            pooled: 0,
            agents: vec![],
            waiting_for: if drained { vec![] } else { vec!["1 request in flight".to_owned()] },
        }
    }

    fn good() -> Report {
        let step = Step { name: "90/10".to_owned(), wanted: 0.9, observed: 0.902, requests: 600, ..Step::default() };
        Report {
            uplink: "monolith".to_owned(),
            service: "orders".to_owned(),
            agents: 2,
            rate: 300,
            steps: vec![step],
            findings: Findings { requests: 600, answered: 600, ..Findings::default() },
            ledger: true,
            drain: Some(Drain { verdict: verdict(true), took_ms: 12.0, requests_after: Some(0) }),
            ..Report::default()
        }
    }

    #[test]
    fn a_journey_without_a_fault_passes() {
        assert_eq!(good().faults(), Vec::<String>::new());
        let text = good().text();
        assert!(text.contains("PASS") && text.contains("monolith: drained after 12.0 ms"), "{text}");
    }

    #[test]
    fn every_count_that_must_be_zero_fails_the_journey_by_itself() {
        for (name, at) in Findings::default().faults().map(|(name, _)| name).iter().zip(0..) {
            let mut report = good();
            let findings = &mut report.findings;
            let counts = [
                &mut findings.lost,
                &mut findings.phantom,
                &mut findings.duplicate,
                &mut findings.corrupt,
                &mut findings.truncated,
                &mut findings.wrong,
                &mut findings.failed_idempotent,
                &mut findings.failed_other,
                &mut findings.unexplained,
            ];
            *counts.into_iter().nth(at).unwrap() = 2;
            assert_eq!(report.faults(), [format!("2 {name}")]);
            assert!(report.text().contains("FAIL"), "{name}");
        }
    }

    #[test]
    fn a_share_that_is_off_or_rests_on_too_little_fails() {
        let mut report = good();
        report.steps[0].observed = 0.88;
        assert_eq!(report.faults(), ["step 90/10: share 90.0 % wanted, 88.0 % observed"]);
        report.steps[0].requests = 10;
        assert!(report.faults()[0].contains("50 are needed"), "{:?}", report.faults());
    }

    #[test]
    fn without_a_proven_drain_nothing_passes() {
        let mut report = good();
        report.drain = None;
        assert_eq!(report.faults(), ["the drain was not proven"]);
        report.drain = Some(Drain { verdict: verdict(false), took_ms: 0.0, requests_after: None });
        assert_eq!(report.faults(), ["not drained: waits for 1 request in flight"]);
        report.drain = Some(Drain { verdict: verdict(true), took_ms: 0.0, requests_after: Some(3) });
        assert_eq!(report.faults(), ["3 requests reached the workload after `drained`"]);
    }

    #[test]
    fn a_journey_that_broke_off_or_sent_nothing_fails() {
        let report = Report { broken_off: Some("the hub is gone".to_owned()), ..Report::default() };
        assert_eq!(report.faults(), ["the journey broke off: the hub is gone", "no request was sent"]);
        let held = Report { held_back: 5, ..good() };
        assert!(held.faults()[0].contains("held back"));
    }
}
