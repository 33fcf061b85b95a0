//! Tier 2: the packages on real systemd hosts, and what breaks there. `just e2e-hosts`; needs root, and fails where something is missing.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::print_stdout, reason = "modules of a test binary, split for reading")]

mod dropins;
mod fleet;
mod lifecycle;
mod network;
mod power;
mod repository;
mod resources;
mod secrets;
mod unit;

/// The agent's service.
const UNIT: &str = "figspan-agent.service";
