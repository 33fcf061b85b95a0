//! What figspan's parts say to each other.
//!
//! Pure: no I/O and no clock. Protobuf messages are generated into [`pb`] and turn into checked types at the edge of this
//! crate; the stream [`preamble`] and the [`reset`] codes are ours, small enough to read in a hex dump.
#![warn(missing_docs)]

pub mod admin;
mod codec;
pub mod control;
pub mod hpack;
pub mod join;
pub mod name;
pub mod permit;
pub mod preamble;
pub mod reset;
pub mod template;
pub mod weight;

/// Generated protobuf and gRPC types. Only the edges (`control`, `join` and the gRPC ends) touch them.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, unreachable_pub, unused_qualifications)]
pub mod pb {
    tonic::include_proto!("figspan.v1");
}

/// The versions of the control protocol that this build speaks, both ends included.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 1..=1;

/// ALPN of a tunnel between two ends that both hold certificates.
pub const ALPN_TUNNEL: &[u8] = b"figspan/1";

/// ALPN of a connection on which a VM redeems a grant; the only kind that is served without a client certificate.
pub const ALPN_JOIN: &[u8] = b"figspan-join/1";

/// The protocol of the TLS connection over TCP that carries the datagrams of tunnels and joins where UDP does not pass.
pub const ALPN_TCP: &[u8] = b"figspan-tcp/1";
