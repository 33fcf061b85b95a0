//! How figspan's bytes are carried.
//!
//! QUIC and rustls live here and nowhere else. A [`Tunnel`] is one QUIC connection between an agent and one shard of a hub;
//! a [`Stream`] on it is one connection to a workload. Who may speak is decided by [`identity`] and [`ca`]; who carries, by
//! [`hub`] and [`agent`] endpoints, by UDP or TCP ([`carrier`]); what is copied, by [`splice`]. Control speaks by [`grpc`] and
//! [`exchange`] over streams, processes on VMs by [`call`]; the
//! hub's other TLS is [`front_tls`] and [`backend_tls`]. Numbers and their reasons are in [`transport`]; [`testing`] makes real
//! tunnels over loopback for the tests of all crates.
//!
//! Invariants: no switch turns verification off; a stream never ends silently; nobody says "not delivered" who has not counted;
//! no task outlives its owner; nothing that a peer sends makes us panic or hold more than a named bound.
#![warn(missing_docs)]

pub mod agent;
pub mod backend_tls;
pub mod backoff;
pub mod ca;
pub mod call;
pub mod carrier;
pub mod closed;
mod congestion;
pub mod digest;
pub mod drain;
pub mod exchange;
pub mod front_tls;
pub mod grpc;
mod heard;
pub mod hub;
pub mod identity;
pub mod knock;
pub mod lifetime;
pub mod pin;
mod provider;
pub mod resolve;
pub mod seal;
pub mod splice;
pub mod stream;
mod tasks;
pub mod testing;
mod tls;
pub mod transport;
pub mod tunnel;

pub use carrier::{Carried, MovedTo, Moves, Preference, Transport, Why};
pub use closed::Closed;
pub use identity::{Credentials, Identity, KeyPair, Roots};
pub use stream::{Stream, StreamError, StreamProbe};
pub use tunnel::{Tunnel, TunnelError};
