//! figspan's promises, each through the real programs: hub, agents and `figspanctl` as processes, workloads and clients on loopback.
#![allow(unreachable_pub, reason = "modules of a test binary, split for reading")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics; clippy knows that only of functions marked as tests")]

mod admission;
mod boundary;
mod bounds;
mod calls;
mod calls_end;
mod certificates;
mod choosing;
mod clocks;
mod configuration;
mod connections;
mod decisions;
mod doctor;
mod drain;
mod failover;
mod failure;
mod fallback;
mod faults;
mod filters;
mod handover;
mod health;
mod identity;
mod journal;
mod journey;
mod ledger;
mod limits;
mod names;
mod operators;
mod pins;
mod probes;
mod replicas;
mod requests;
mod retries;
mod routes;
mod secure;
mod services;
mod sessions;
mod shards;
mod signals;
mod sources;
mod streams;
mod support;
mod tokens;
mod traffic;
mod weights;
