//! Hop `admission`: what may pass, decided on bytes, in both directions.
//!
//! The hub is the only HTTP parser between client and workload, and a strict one. Everything here is pure: bytes in, a verdict
//! out; no I/O, no clock. The inbound half asks it about requests, the outbound half about responses. A message that two
//! parsers could read in two ways is refused, never repaired; what is normalised instead is listed in [`path`].
//!
//! - [`head`], [`framing`], [`chunked`], [`connection`]: where a message begins and ends, and what comes then (RFC 9112)
//! - [`host`], [`path`], [`target`]: one authority and one canonical path, used for match and forward alike
//! - [`fragment`]: the one thing that h2 hides of a path
//! - `section`, `names`, [`marks`]: a field section, read once, with all that the next hop asks of it
//! - [`fields`], [`forwarded`]: what a field section may carry across a hop, and who the client is
//! - [`request`]: all of it for one request; [`stream`]: all of it for a connection's bytes
//! - [`reject`]: the one table of refusals

pub mod chunked;
pub mod connection;
pub mod fields;
pub mod forwarded;
pub mod fragment;
pub mod framing;
pub mod head;
pub mod host;
pub mod marks;
mod names;
pub mod path;
pub mod reject;
pub mod request;
mod section;
pub mod stream;
pub mod syntax;
pub mod target;

pub use framing::Framing;
pub use head::HeadLimits;
pub use marks::Marks;
pub use reject::Reject;
pub use stream::{fuzz_request, fuzz_response};
