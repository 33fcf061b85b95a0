//! Hop: route -> limit -> balance, and balance -> limit -> dial. How much comes from a source, and how much goes to a backend.
//!
//! `source` answers 429 before a backend is chosen; `backend` lets requests to a chosen backend wait for room, in turn and for
//! a bounded time. State is shared by all shards and outlives reloads (`figspan_model::state`); none of it is a lock.

pub mod backend;
pub mod copies;
mod rate;
pub mod source;
