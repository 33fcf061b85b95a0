//! What was sent against what arrived: the join that says whether anything was lost.
//!
//! Pure. Workloads write a row before they answer and echo what they wrote; the client keeps what came of each request. Every
//! count of [`Findings`] but the totals must be 0, under whatever was done to the parts in between.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// The methods of the load. More make no difference to the join: it only asks whether one may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    Get,
    Post,
}

impl Verb {
    pub(crate) const fn is_idempotent(self) -> bool {
        matches!(self, Self::Get)
    }
}

/// What a workload wrote about one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) verb: Verb,
    /// How often it arrived.
    pub(crate) count: u32,
    /// Sum of the body as it arrived last.
    pub(crate) body: u64,
}

/// The workloads' book, shared by all of them.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<HashMap<u64, Row>>);

impl Ledger {
    /// Written before the answer is begun.
    pub(crate) fn enter(&self, id: u64, verb: Verb, body: u64) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows.entry(id).or_insert(Row { verb, count: 0, body });
        row.count += 1;
        row.body = body;
    }

    /// All rows.
    pub(crate) fn rows(&self) -> HashMap<u64, Row> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One request of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) id: u64,
    pub(crate) verb: Verb,
    /// Sum of the body sent.
    pub(crate) body: u64,
    pub(crate) outcome: Outcome,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A whole answer of one of our workloads.
    Answered(Echo),
    /// A whole answer of somebody else's workload, which echoes nothing.
    Foreign { status: u16 },
    /// An answer of the hub itself. `explained`: it has a Proxy-Status. `untouched`: it claims that no workload saw it.
    Refused { status: u16, explained: bool, untouched: bool },
    /// The connection or the answer broke off, for all to see. `untouched`: before anything was sent.
    Broken { untouched: bool },
}

/// What the workload said about the request, and how its own body arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Echo {
    /// The id as the workload read it.
    pub(crate) id: u64,
    /// Sum of the request's body as the workload read it.
    pub(crate) received: u64,
    /// Length and sum of the answer's body as the workload wrote it.
    pub(crate) wrote: (u64, u64),
    /// Length and sum as the client read it, without an error.
    pub(crate) read: (u64, u64),
}

/// The counts. All but the first two must be 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Findings {
    /// Requests sent.
    pub(crate) requests: u64,
    /// Answered well.
    pub(crate) answered: u64,
    /// Answered well, but no workload knows of it.
    pub(crate) lost: u64,
    /// Said not to have reached a workload, or never sent, but it did.
    pub(crate) phantom: u64,
    /// Not to be repeated, but arrived more than once.
    pub(crate) duplicate: u64,
    /// A body arrived otherwise than it was sent, either way.
    pub(crate) corrupt: u64,
    /// An answer ended early and looked whole.
    pub(crate) truncated: u64,
    /// The answer to another request.
    pub(crate) wrong: u64,
    /// Requests that may be repeated and yet failed.
    pub(crate) failed_idempotent: u64,
    /// Others that failed.
    pub(crate) failed_other: u64,
    /// Failures without a Proxy-Status that says why.
    pub(crate) unexplained: u64,
}

impl Findings {
    /// The counts that must be 0, by name.
    pub(crate) fn faults(&self) -> [(&'static str, u64); 9] {
        [
            ("lost", self.lost),
            ("phantom", self.phantom),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
            ("truncated", self.truncated),
            ("wrong", self.wrong),
            ("failed idempotent", self.failed_idempotent),
            ("failed other", self.failed_other),
            ("unexplained", self.unexplained),
        ]
    }
}

/// Joins what was sent with what arrived. `rows`: `None` where the workloads keep no ledger; what needs one then stays 0.
pub(crate) fn join(sent: &[Sent], rows: Option<&HashMap<u64, Row>>) -> Findings {
    let mut found = Findings { requests: sent.len() as u64, ..Findings::default() };
    let mut known = std::collections::HashSet::with_capacity(sent.len());
    for request in sent {
        known.insert(request.id);
        let row = rows.and_then(|rows| rows.get(&request.id));
        found.add(request, row, rows.is_some());
    }
    let strangers = rows.map_or(0, |rows| rows.keys().filter(|id| !known.contains(id)).count());
    found.phantom += strangers as u64;
    found
}

impl Findings {
    fn add(&mut self, request: &Sent, row: Option<&Row>, has_ledger: bool) {
        let arrived = row.map_or(0, |row| row.count);
        self.duplicate += u64::from(!request.verb.is_idempotent() && arrived > 1);
        self.corrupt += u64::from(row.is_some_and(|row| row.body != request.body || row.verb != request.verb));
        match &request.outcome {
            Outcome::Answered(echo) => {
                self.answered += 1;
                self.lost += u64::from(has_ledger && arrived == 0);
                self.wrong += u64::from(echo.id != request.id);
                let (wrote, read) = (echo.wrote, echo.read);
                self.truncated += u64::from(read.0 < wrote.0);
                // A row already counts its own difference.
                let garbled = echo.received != request.body && row.is_none_or(|row| row.body == request.body);
                self.corrupt += u64::from(garbled || (read.0 >= wrote.0 && read != wrote));
            }
            Outcome::Foreign { status } if *status < 500 => self.answered += 1,
            Outcome::Foreign { .. } => self.fail(request.verb, true),
            Outcome::Refused { explained, untouched, .. } => {
                self.phantom += u64::from(*untouched && arrived > 0);
                self.fail(request.verb, *explained);
            }
            Outcome::Broken { untouched } => {
                self.phantom += u64::from(*untouched && arrived > 0);
                self.fail(request.verb, false);
            }
        }
    }

    fn fail(&mut self, verb: Verb, explained: bool) {
        *(if verb.is_idempotent() { &mut self.failed_idempotent } else { &mut self.failed_other }) += 1;
        self.unexplained += u64::from(!explained);
    }
}

/// The sum by which bodies are compared. Both ends live in one process, so any good hash serves.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests;
