//! Whether anything was lost, counted: load with ids, workloads that keep a book, and the join of both.
//!
//! A client (`load`) sends requests at a fixed rate whatever the answers take. Workloads (`workload`) write a row for each
//! before they answer it and echo what they wrote. [`join`] then says of every request what became of it. Knows nothing of
//! hubs and agents: it goes straight at a workload as well as through whatever stands between.

mod chunks;
mod fields;
mod join;
mod load;
mod local;
mod verb;
mod workload;

pub use join::{Echo, Findings, Ledger, Outcome, Row, Sent, join, sum};
pub use load::{Load, Mix, Recorder, Stage, Target};
pub use verb::Verb;
pub use workload::{Mood, Seen, Workload};
