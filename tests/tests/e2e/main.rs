//! figspan's promises, each through the real programs: hub, agents and `figspanctl` as processes, workloads and clients on loopback.
#![allow(unreachable_pub, reason = "modules of a test binary, split for reading")]

mod admission;
mod certificates;
mod configuration;
mod drain;
mod failure;
mod faults;
mod identity;
mod limits;
mod operators;
mod routes;
mod secure;
mod services;
mod names;
mod probes;
mod shards;
mod signals;
mod streams;
mod traffic;
mod weights;
