//! What was sent against what arrived: the join that says whether anything was lost.
//!
//! Pure. Workloads write a row before they answer and echo what they wrote; the client keeps what came of each request. Every
//! count of [`Findings`] but the totals must be 0, under whatever was done to the parts in between. A failure that the caller
//! did on purpose is the caller's to excuse, and only one that nothing in between could have mended is open to that: see [`join`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::verb::Verb;

/// What a workload wrote about one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its method.
    pub verb: Verb,
    /// How often it arrived.
    pub count: u32,
    /// Sum of the body as it arrived last.
    pub body: u64,
    /// Whether the workload broke off on purpose, at any of its arrivals.
    pub cut: bool,
}

/// The workloads' book, shared by all of them.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<HashMap<u64, Row>>);

impl Ledger {
    /// Written before the answer is begun.
    pub fn enter(&self, id: u64, verb: Verb, body: u64) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows.entry(id).or_insert(Row { verb, count: 0, body, cut: false });
        row.count += 1;
        row.body = body;
    }

    /// The workload breaks off what it says about an id, on purpose.
    pub fn cut(&self, id: u64) {
        if let Some(row) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
            row.cut = true;
        }
    }

    /// All rows.
    pub fn rows(&self) -> HashMap<u64, Row> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One request of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Unique.
    pub id: u64,
    /// Its method.
    pub verb: Verb,
    /// Whether all of its body fits what a hub keeps for another try.
    pub replayable: bool,
    /// When it was due and when it ended, from the start of the load.
    pub time: (Duration, Duration),
    /// Sum of the body sent.
    pub body: u64,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it failed, for people.
    pub why: Option<String>,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer of one of our workloads.
    Answered(Echo),
    /// A whole answer of somebody else's workload, which echoes nothing.
    Foreign {
        /// Its status.
        status: u16,
    },
    /// An answer of the hub itself. `explained`: it has a Proxy-Status. `untouched`: it claims that no workload saw it.
    Refused {
        /// Its status.
        status: u16,
        /// See above.
        explained: bool,
        /// See above.
        untouched: bool,
    },
    /// The connection or the answer broke off, for all to see. `untouched`: before anything was sent. `begun`: the answer's head
    /// had come, so that nobody could mend it any more.
    Broken {
        /// See above.
        untouched: bool,
        /// See above.
        begun: bool,
    },
}

/// What the workload said about the request, and how its own body arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo {
    /// The id as the workload read it.
    pub id: u64,
    /// Sum of the request's body as the workload read it.
    pub received: u64,
    /// Length and sum of the answer's body as the workload wrote it.
    pub wrote: (u64, u64),
    /// Length and sum as the client read it, without an error.
    pub read: (u64, u64),
}

/// The counts. All but the first three must be 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Requests sent.
    pub requests: u64,
    /// Answered well.
    pub answered: u64,
    /// Failed, where the one who asked did it on purpose and nobody could have mended it.
    pub excused: u64,
    /// Answered well, but no workload knows of it.
    pub lost: u64,
    /// Said not to have reached a workload, or never sent, but it did.
    pub phantom: u64,
    /// Not to be repeated, but arrived more than once.
    pub duplicate: u64,
    /// A body arrived otherwise than it was sent, either way.
    pub corrupt: u64,
    /// An answer ended early and looked whole.
    pub truncated: u64,
    /// The answer to another request.
    pub wrong: u64,
    /// Requests that may be repeated and yet failed.
    pub failed_idempotent: u64,
    /// Others that failed.
    pub failed_other: u64,
    /// Failures without a Proxy-Status that says why.
    pub unexplained: u64,
}

impl Findings {
    /// The counts that must be 0, by name.
    pub fn faults(&self) -> [(&'static str, u64); 9] {
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
///
/// `excused` is asked about failures that nothing between client and workload can mend: of a method that must not be repeated,
/// of a body that nobody keeps, or in the middle of an answer. It is not asked about any other, and an error without a
/// Proxy-Status is never excused but in the middle of an answer, where none can be sent.
pub fn join(sent: &[Sent], rows: Option<&HashMap<u64, Row>>, excused: impl Fn(&Sent, Option<&Row>) -> bool) -> Findings {
    let mut found = Findings { requests: sent.len() as u64, ..Findings::default() };
    let mut known = std::collections::HashSet::with_capacity(sent.len());
    for request in sent {
        known.insert(request.id);
        let row = rows.and_then(|rows| rows.get(&request.id));
        found.add(request, row, rows.is_some(), &excused);
    }
    let strangers = rows.map_or(0, |rows| rows.keys().filter(|id| !known.contains(id)).count());
    found.phantom += strangers as u64;
    found
}

impl Findings {
    fn add(&mut self, request: &Sent, row: Option<&Row>, has_ledger: bool, excused: &impl Fn(&Sent, Option<&Row>) -> bool) {
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
            Outcome::Foreign { .. } => self.fail(request.verb, true, false),
            Outcome::Refused { explained, untouched, .. } => {
                self.phantom += u64::from(*untouched && arrived > 0);
                let mendable = request.verb.is_idempotent() && request.replayable;
                self.fail(request.verb, *explained, *explained && !mendable && excused(request, row));
            }
            Outcome::Broken { untouched, begun } => {
                self.phantom += u64::from(*untouched && arrived > 0);
                self.fail(request.verb, false, *begun && excused(request, row));
            }
        }
    }

    fn fail(&mut self, verb: Verb, explained: bool, excused: bool) {
        if excused {
            self.excused += 1;
            return;
        }
        *(if verb.is_idempotent() { &mut self.failed_idempotent } else { &mut self.failed_other }) += 1;
        self.unexplained += u64::from(!explained);
    }
}

/// The sum by which bodies are compared: FNV-1a of 64 bits, which a workload in another language can say in three lines.
pub fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests;
