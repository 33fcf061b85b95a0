//! Hop: backend -> dial. Pure: takes the head of a workload's response from the bytes that came, by the rules of `admission`.
//!
//! There is one reading of a message in the hub, for both directions. What it refuses becomes a failure of the workload.

use bytes::BytesMut;
use figspan_model::routing::Limits;
use http::{HeaderMap, Method, StatusCode, header};

use crate::admission::head::{HeadScan, ResponseHead, Side};
use crate::admission::{Framing, HeadLimits, Marks, Reject, connection, fields, framing, head};
use crate::reply::Failure;

/// A response's head, hop-by-hop fields removed (but those of a 101, which its reader needs).
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Where its body ends. Meaningless for 1xx.
    pub framing: Framing,
    /// Whether the workload keeps the connection after the body.
    pub keep_alive: bool,
    /// What was among its fields.
    pub marks: Marks,
}

/// A scan at the first byte of a head.
pub fn scan() -> HeadScan {
    HeadScan::new(Side::Response)
}

/// What a refused message is called.
pub fn refused(reject: Reject) -> Failure {
    match reject {
        Reject::HeadTooLarge => Failure::HeadTooLarge,
        Reject::TooManyFields => Failure::TooManyFields,
        _ => Failure::Malformed,
    }
}

/// The limits of a head.
pub fn limits(limits: &Limits) -> HeadLimits {
    HeadLimits { bytes: limits.header_bytes, count: limits.header_count }
}

/// Takes a whole head from the front of the buffer; `None` while it is incomplete. `scan` goes with the head. `upgrade` says
/// whether the request asked for one.
pub fn take(
    input: &mut BytesMut,
    scan: &mut HeadScan,
    method: &Method,
    upgrade: bool,
    limits: HeadLimits,
) -> Result<Option<Head>, Failure> {
    let Some(head) = head::take_response(input, scan, limits).map_err(refused)? else { return Ok(None) };
    read(head, method, upgrade).map(Some).map_err(refused)
}

fn read(head: ResponseHead, method: &Method, upgrade: bool) -> Result<Head, Reject> {
    let ResponseHead { status, version, mut headers, marks } = head;
    let framing = framing::of_response(method, status, version, &headers, marks, upgrade)?;
    let keep_alive = framing != Framing::UntilClose && connection::stays(version, marks);
    if status != StatusCode::SWITCHING_PROTOCOLS {
        fields::remove_hop_by_hop(&mut headers, marks)?;
    }
    Ok(Head { status, headers, framing, keep_alive, marks })
}

/// Whether a list field has that item.
pub fn has(headers: &HeaderMap, name: header::HeaderName, item: &[u8]) -> bool {
    let mut items = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    items.any(|found| found.trim_ascii().eq_ignore_ascii_case(item))
}

#[cfg(test)]
mod tests;
