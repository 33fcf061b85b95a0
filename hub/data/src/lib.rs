//! The hub's data path, in the order of its hops:
//!
//! ```text
//! client -> listen -> (inbound::h1 | inbound::h2 | tcp) -> admission -> route -> balance -> forward -> dial -> agent
//! agent -> call -> (inbound::h1 | inbound::h2 | call::tcp) -> ... -> dial -> service
//! ```
//!
//! Reads snapshots, never writes them; knows nothing of control. Everything runs on the thread of one shard, so that state is
//! `Rc` and `Cell` and nothing waits for another shard.

pub mod admission;
pub mod affinity;
mod alarm;
pub mod balance;
pub mod body;
pub mod call;
pub mod client;
pub mod dial;
mod door;
pub mod exchange;
pub mod filters;
pub mod forward;
pub mod health;
pub mod inbound;
pub mod jwt;
pub mod limit;
pub mod listen;
pub mod metrics;
pub mod pins;
pub mod reply;
pub mod retry;
pub mod route;
mod scratch;
pub mod seal;
pub mod shard;
mod spare;
pub mod tcp;
