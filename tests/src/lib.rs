//! figspan's harness: whole hubs, real agents and workloads with a ledger, on loopback, in a few statements.

pub mod architecture;
pub mod balancer;
pub mod bed;
pub mod chaos;
pub mod clock;
pub mod frames;
pub mod h2;
pub mod hosts;
pub mod mortal;
pub mod names;
pub mod port;
pub mod process;
pub mod relay;
pub mod simulated;
pub mod tokens;
pub mod web;
