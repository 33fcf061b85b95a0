//! The figspan agent: offers a VM's workloads to hubs and carries bytes to them.
//!
//! In path order: [`settings`] say what there is; [`probe`] asks workloads how they are; [`advertise`] tells hubs;
//! [`tunnels`] keep the way to them open; [`receive`] takes their streams and [`forward`] gives them to workloads. [`service`] is the other direction.
//! [`identity`] is who the agent is. [`Agent::start`] puts it together, in process or for the daemon in [`run`].
//!
//! ```text
//! CONTROL  workload -> probe -> advertise -> (tunnel) -> hub discovery
//! DATA     hub dial -> (tunnel stream) -> receive -> forward -> workload
//! DATA     process -> service -> (tunnel stream) -> hub call -> service of the cluster
//! ```

pub mod advertise;
pub mod agent;
pub mod bundle;
pub mod command;
pub mod connect;
pub mod doctor;
pub mod enrol;
pub mod forward;
pub mod identity;
mod manual;
pub mod probe;
pub mod receive;
pub mod run;
pub mod service;
pub mod settings;
pub mod status;
pub mod tunnels;
pub mod uplinks;
pub mod workers;

#[cfg(test)]
mod scripted;

pub use agent::{Agent, Running, StartError};
pub use settings::Settings;
