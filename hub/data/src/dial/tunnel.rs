//! Hop: dial -> agent. Opens a stream on an endpoint's tunnel and says, in its preamble, whom it is for.
//!
//! Prefers the shard's own tunnel. A tunnel that turns out to be dead is passed over for the endpoint's next one: nothing was
//! sent yet, so nothing can be lost.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use figspan_model::snapshot::{Endpoint, TunnelAt};
use figspan_model::state::Shard;
use figspan_proto::name::UplinkName;
use figspan_proto::preamble::{Kind, Preamble, TraceContext};
use figspan_tunnel::{Stream, Tunnel};
use http::HeaderName;

use crate::client::Client;
use crate::reply::Failure;

/// W3C Trace Context, section 3.2.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A fresh stream, its preamble not yet written.
pub struct Opened {
    /// The stream.
    pub stream: Stream,
    /// What must be written first.
    pub preamble: Bytes,
    /// The tunnel.
    pub tunnel: Tunnel,
}

/// Opens a stream to a workload. Nothing is sent.
pub async fn open(
    endpoint: &Endpoint,
    shard: Shard,
    uplink: &UplinkName,
    kind: Kind,
    client: &Client,
    trace: Option<TraceContext>,
    wait: Duration,
) -> Result<Opened, Failure> {
    let preamble = Preamble { kind, uplink: uplink.clone(), client: Some(client.address), server: Some(client.local), trace };
    let mut bytes = BytesMut::with_capacity(128);
    preamble.encode(&mut bytes);
    let preamble = bytes.freeze();
    let mut failure = Failure::NoTunnel;
    for tunnel in candidates(endpoint, shard) {
        match tokio::time::timeout(wait, tunnel.open()).await {
            Ok(Ok(stream)) => return Ok(Opened { stream, preamble, tunnel: tunnel.clone() }),
            Ok(Err(_)) => failure = Failure::TunnelLost,
            Err(_) => return Err(Failure::StreamTimeout),
        }
    }
    Err(failure)
}

/// Live tunnels of the endpoint: those that speak before those that are silent, and the shard's own first.
fn candidates(endpoint: &Endpoint, shard: Shard) -> impl Iterator<Item = &Tunnel> {
    let of = move |own: bool, silent: bool| {
        let fits = move |at: &&TunnelAt| (at.shard == shard) == own && at.tunnel.suspect() == silent && !at.tunnel.is_closed();
        endpoint.tunnels.iter().filter(fits)
    };
    of(true, false).chain(of(false, false)).chain(of(true, true)).chain(of(false, true)).map(|at| &at.tunnel)
}

/// Reads a `traceparent` header (W3C Trace Context, section 3.2); `None` where there is none or it is not valid.
pub fn trace_context(headers: &http::HeaderMap) -> Option<TraceContext> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let mut fields = text.split('-');
    let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if version != "00" || fields.next().is_some() {
        return None;
    }
    let context = TraceContext { trace: hex(trace)?, span: hex(span)?, flags: hex::<1>(flags)?[0] };
    (context.trace != [0; 16] && context.span != [0; 8]).then_some(context)
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let lower = |digit: &u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit);
    if digits.len() != 2 * N || !digits.iter().all(lower) {
        return None;
    }
    let value = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (value(pair[0]) << 4) | value(pair[1]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<TraceContext> {
        let mut headers = http::HeaderMap::new();
        headers.insert("traceparent", text.parse().unwrap());
        trace_context(&headers)
    }

    #[test]
    fn a_valid_trace_context_is_handed_on_and_others_are_not() {
        let context = read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        assert_eq!((context.trace[0], context.span[7], context.flags), (0x0a, 0x31, 1));
        for text in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-\u{e9}af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            if text.is_ascii() {
                assert!(read(text).is_none(), "{text}");
            }
        }
    }
}
