//! Hop workload -> **probe**: asks a workload how it is, over a connection that somebody else has made.
//!
//! Agents check what they advertise, the hub checks addresses of services: both with these checks and this [`Judge`]. One
//! exchange, bounded in bytes; the caller bounds its time. Never connects, never decides about traffic.

mod grpc;
mod http;
mod judge;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::http::check as http;
pub use grpc::check as grpc;
pub use judge::Judge;

/// A connection to a workload.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for T {}

/// Why a check failed on a connection that was made.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// An HTTP status outside of those that pass.
    #[error("answered {0}")]
    Status(::http::StatusCode),
    /// The HTTP exchange failed.
    #[error("the HTTP check failed: {0}")]
    Http(String),
    /// The gRPC exchange failed.
    #[error("the gRPC check failed: {0}")]
    Grpc(String),
    /// The gRPC health service says anything but SERVING.
    #[error("grpc.health.v1 says {0}")]
    NotServing(&'static str),
}

/// `interval` give or take a tenth, so that many do not knock in step; `random` is in 0..1.
pub fn jittered(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * random)
}
