//! The hub's control path.
//!
//! ```text
//! agent probe -> agent advertise -> discovery (gRPC) -> registry -> publish -> snapshot -> (data picks)
//! ```
//! Beside it: enrolment and the CA (`enrol`, `trust`), operators' weights (`weights`), the drain proof, what is kept on disk
//! (`store`) and what happened (`events`). All of it runs on the hub's control thread; the data path meets it in the
//! published snapshot and the shared counters only, and never waits for it.

mod config;
mod context;
mod control;
mod core;
mod discovery;
mod drain_proof;
mod enrol;
mod events;
mod ledger;
mod limiter;
mod operate;
mod problem;
mod publish;
mod registry;
mod shared;
mod store;
#[cfg(test)]
mod testing;
mod trust;
mod weights;

pub use config::{CaFiles, Clock, ControlConfig};
pub use control::{Control, StartError, StatusParts};
pub use shared::Ready;
