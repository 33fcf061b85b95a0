//! The header of a data stream: which uplink it is for and whose bytes follow.
//!
//! It travels in the same flight as the bytes behind it and needs no answer. Layout, all numbers big-endian:
//!
//! ```text
//! length  u16   bytes that follow this field (at most 255)
//! version u8    1
//! kind    u8    0 TCP, 1 HTTP
//! flags   u8    bit 0: client address, bit 1: server address, bit 2: trace context; others must be 0
//! uplink  u8 + bytes
//! client  u8 family (4|6), 4|16 bytes, u16 port         if flagged
//! server  the same                                       if flagged
//! trace   16 bytes trace id, 8 bytes span id, u8 flags   if flagged (W3C Trace Context, section 3.2)
//! ```
//!
//! Streams that agents open have headers of their own: [`call`].

pub mod call;

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BufMut};

use crate::name::UplinkName;

/// Version of the layout above.
pub const VERSION: u8 = 1;

/// Longest preamble behind its length field, in bytes.
pub const MAX_LEN: usize = 255;

/// What the bytes behind a preamble are. It decides how the workload's end of file is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any bytes: each direction ends on its own.
    Tcp,
    /// HTTP of any version: once the workload has ended its side, it reads no further request.
    Http,
}

/// W3C trace context, as the hub hands it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Trace id; not all zero.
    pub trace: [u8; 16],
    /// Span id of the hub's own span.
    pub span: [u8; 8],
    /// Trace flags; bit 0 is "sampled".
    pub flags: u8,
}

/// The header of a data stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preamble {
    /// What the bytes are.
    pub kind: Kind,
    /// The uplink whose workload shall get them.
    pub uplink: UplinkName,
    /// The client that the hub serves, for PROXY protocol.
    pub client: Option<SocketAddr>,
    /// The hub's address that the client called.
    pub server: Option<SocketAddr>,
    /// Trace context, where the request carries one.
    pub trace: Option<TraceContext>,
}

/// Why bytes are not a preamble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PreambleError {
    /// The length field is 0 or above [`MAX_LEN`].
    #[error("preamble of {0} bytes; the limit is 255")]
    Length(u16),
    /// The bytes end before the fields do.
    #[error("preamble ends too early")]
    Short,
    /// Bytes are left over behind the last field.
    #[error("preamble has {0} bytes too many")]
    Long(usize),
    /// A layout that this build does not know.
    #[error("preamble version {0}; this build knows 1")]
    Version(u8),
    /// A kind, flag or address family that this build does not know.
    #[error("preamble has an unknown {0}")]
    Unknown(&'static str),
    /// The uplink's name is not a name.
    #[error("preamble names no valid uplink")]
    Uplink,
    /// The service's name is not a name.
    #[error("preamble names no valid service")]
    Service,
}

const HAS_CLIENT: u8 = 1;
const HAS_SERVER: u8 = 2;
const HAS_TRACE: u8 = 4;

impl Preamble {
    /// Appends the preamble, its length field included.
    pub fn encode(&self, out: &mut impl BufMut) {
        // Names are at most 63 bytes and addresses at most 19, so the whole fits a length of one byte with room to spare.
        let mut body = Vec::with_capacity(128);
        body.put_u8(VERSION);
        body.put_u8(match self.kind {
            Kind::Tcp => 0,
            Kind::Http => 1,
        });
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        body.put_u8(
            flag(self.client.is_some(), HAS_CLIENT) | flag(self.server.is_some(), HAS_SERVER) | flag(self.trace.is_some(), HAS_TRACE),
        );
        let name = self.uplink.as_str().as_bytes();
        body.put_u8(name.len() as u8);
        body.put_slice(name);
        for address in [self.client, self.server].into_iter().flatten() {
            put_address(&mut body, address);
        }
        if let Some(trace) = &self.trace {
            body.put_slice(&trace.trace);
            body.put_slice(&trace.span);
            body.put_u8(trace.flags);
        }
        out.put_u16(body.len() as u16);
        out.put_slice(&body);
    }

    /// Checks the length field of a preamble that is still to be read.
    pub fn length(field: [u8; 2]) -> Result<usize, PreambleError> {
        match u16::from_be_bytes(field) {
            length @ 1..=255 => Ok(length.into()),
            length => Err(PreambleError::Length(length)),
        }
    }

    /// Reads a preamble from exactly the bytes that its length field announced.
    pub fn decode(mut body: &[u8]) -> Result<Self, PreambleError> {
        let version = byte(&mut body)?;
        if version != VERSION {
            return Err(PreambleError::Version(version));
        }
        let kind = match byte(&mut body)? {
            0 => Kind::Tcp,
            1 => Kind::Http,
            _ => return Err(PreambleError::Unknown("kind")),
        };
        let flags = byte(&mut body)?;
        if flags & !(HAS_CLIENT | HAS_SERVER | HAS_TRACE) != 0 {
            return Err(PreambleError::Unknown("flag"));
        }
        let uplink = name(&mut body)?.ok_or(PreambleError::Uplink)?;
        let client = if flags & HAS_CLIENT != 0 { Some(address(&mut body)?) } else { None };
        let server = if flags & HAS_SERVER != 0 { Some(address(&mut body)?) } else { None };
        let trace = if flags & HAS_TRACE != 0 {
            Some(TraceContext { trace: array(&mut body)?, span: array(&mut body)?, flags: byte(&mut body)? })
        } else {
            None
        };
        match body.len() {
            0 => Ok(Self { kind, uplink, client, server, trace }),
            rest => Err(PreambleError::Long(rest)),
        }
    }
}

/// A length and so many bytes; `None` where they are no name.
fn name<T: std::str::FromStr>(body: &mut &[u8]) -> Result<Option<T>, PreambleError> {
    let length = byte(body)?.into();
    let name = body.split_off(..length).ok_or(PreambleError::Short)?;
    Ok(std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()))
}

fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16(address.port());
}

fn address(body: &mut &[u8]) -> Result<SocketAddr, PreambleError> {
    let ip = match byte(body)? {
        4 => IpAddr::from(array::<4>(body)?),
        6 => IpAddr::from(array::<16>(body)?),
        _ => return Err(PreambleError::Unknown("address family")),
    };
    Ok(SocketAddr::new(ip, u16::from_be_bytes(array(body)?)))
}

fn byte(body: &mut &[u8]) -> Result<u8, PreambleError> {
    body.try_get_u8().map_err(|_| PreambleError::Short)
}

fn array<const N: usize>(body: &mut &[u8]) -> Result<[u8; N], PreambleError> {
    let (head, rest) = body.split_first_chunk::<N>().ok_or(PreambleError::Short)?;
    *body = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn preambles() -> impl Strategy<Value = Preamble> {
        let trace = (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<u8>()).prop_map(|(trace, span, flags)| TraceContext { trace, span, flags });
        ("[a-z0-9]{1,63}", any::<bool>(), any::<Option<([u8; 4], u16)>>(), any::<Option<([u8; 16], u16)>>(), proptest::option::of(trace))
            .prop_map(|(name, http, client, server, trace)| Preamble {
                kind: if http { Kind::Http } else { Kind::Tcp },
                uplink: name.parse().unwrap(),
                client: client.map(SocketAddr::from),
                server: server.map(SocketAddr::from),
                trace,
            })
    }

    #[test]
    fn the_layout_on_the_wire_is_fixed() {
        let preamble = Preamble {
            kind: Kind::Http,
            uplink: "orders".parse().unwrap(),
            client: Some(([10, 0, 0, 9], 4321).into()),
            server: None,
            trace: None,
        };
        let mut wire = Vec::new();
        preamble.encode(&mut wire);
        assert_eq!(wire, b"\x00\x11\x01\x01\x01\x06orders\x04\x0a\x00\x00\x09\x10\xe1");
    }

    proptest! {
        #[test]
        fn a_preamble_reads_back_as_written(preamble in preambles()) {
            let mut wire = Vec::new();
            preamble.encode(&mut wire);
            let length = Preamble::length([wire[0], wire[1]]).unwrap();
            prop_assert_eq!(length, wire.len() - 2);
            prop_assert_eq!(Preamble::decode(&wire[2..]).unwrap(), preamble);
        }

        #[test]
        fn a_cut_or_lengthened_preamble_is_refused(preamble in preambles(), extra in 1usize..8) {
            let mut wire = Vec::new();
            preamble.encode(&mut wire);
            for end in 2..wire.len() {
                prop_assert!(Preamble::decode(&wire[2..end]).is_err());
            }
            wire.extend(std::iter::repeat_n(0, extra));
            prop_assert_eq!(Preamble::decode(&wire[2..]), Err(PreambleError::Long(extra)));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Preamble::decode(&bytes);
        }
    }
}
