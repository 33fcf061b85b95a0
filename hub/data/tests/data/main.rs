//! The data path against real tunnels and sockets, one file per behaviour.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod forward;
mod harness;
mod limits;
mod listeners;
mod mirrors;
mod multiplexed;
mod recovery;
mod retries;
mod services;
mod upgrade;
