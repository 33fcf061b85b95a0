//! figspan's promises, each through the real programs: hub, agents and `figspanctl` as processes, workloads and clients on loopback.

mod admission;
mod configuration;
mod drain;
mod failure;
mod identity;
mod signals;
mod streams;
mod traffic;
mod weights;
