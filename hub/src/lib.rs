//! The figspan hub: the gateway that splits traffic between VMs and the cluster.
//!
//! This crate is the process: threads, listeners, reloads, the admin API, metrics, drain. What requests go through is in
//! `figspan-data`, what agents talk to in `figspan-control`; they meet in the snapshot of `figspan-model`, and only this crate
//! knows both. [`Hub::start`] runs a whole hub inside any program.

mod admin;
mod agent_streams;
pub mod args;
mod certificates;
pub mod check;
mod checks;
mod control_thread;
mod face;
mod hub;
mod jwks;
mod listeners;
mod metrics;
mod problem;
mod reload;
pub mod run;
mod running;
mod serve;
mod session_key;
mod shard;
mod standing;
mod threads;
mod watch;

pub use figspan_control::{CaFiles, Clock, Control};
pub use hub::{Hub, Options, StartError};
pub use reload::Config;
pub use running::{PartDied, Running};
