//! Tier 2: the packages on real systemd hosts, and what breaks there. `just e2e-hosts`; needs root, and fails where something is missing.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::print_stdout, reason = "modules of a test binary, split for reading")]

mod calls;
mod clock;
mod dropins;
mod fleet;
mod lifecycle;
mod monolith;
mod network;
mod path;
mod power;
mod repository;
mod resources;
mod secrets;
mod skew;
mod trust;
mod unattended;
mod unit;
mod workloads;

/// The agent's service.
const UNIT: &str = "figspan-agent.service";
