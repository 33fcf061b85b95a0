//! The hub's model, where its two paths meet.
//!
//! Three things live here and nothing else: *settings* (what was written, in TOML today and Kubernetes objects later), the
//! *routing* that they mean (listeners, routes, backends, with the names of Gateway API), and the *snapshot* that control
//! publishes and data reads, with the long-lived *state* (counters, cursors) that every snapshot points to and that outlives
//! each of them. What decides without the path it serves lives here too: *health* and *jwt*, pure both. No I/O but reading settings files; no tasks; no clock.

pub mod health;
pub mod jwt;
mod map;
pub mod moment;
pub mod routing;
pub mod settings;
pub mod snapshot;
pub mod state;

pub use map::{Map, Set};
