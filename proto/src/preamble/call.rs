//! The header of a stream that an agent opens: which service a process on the VM calls, or that the agent ends.
//!
//! Versioned and bounded as the header of a data stream is, with kinds of its own, so that neither end takes one for the
//! other. The first two bytes of an identity exchange are 0, which is the length of no header: both may share a tunnel.
//! A call is answered before anything follows: [`TAKEN`], or a reset that says why not. Layout behind the length field:
//!
//! ```text
//! version u8    1
//! kind    u8    2 TCP, 3 HTTP, 4 the agent ends (nothing follows)
//! flags   u8    bit 0: client address; others must be 0
//! service u8 + bytes
//! client  u8 family (4|6), 4|16 bytes, u16 port         if flagged
//! ```

use std::net::SocketAddr;

use bytes::BufMut;

use super::{HAS_CLIENT, Kind, PreambleError, VERSION, address, byte, name, put_address};
use crate::name::ServiceName;

/// The hub's answer to a call that it takes: bytes follow in both directions from here on.
pub const TAKEN: u8 = 1;

const LEAVING: u8 = 4;

/// One connection of a process on the VM to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What the bytes are.
    pub kind: Kind,
    /// The service called.
    pub service: ServiceName,
    /// Where the process calls from, as the agent sees it; none on a Unix socket.
    pub client: Option<SocketAddr>,
}

/// Why an agent opened a stream, other than for its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// To call a service.
    Call(Call),
    /// To say that it ends: calls that run go on, and their clients are asked to come again on another connection.
    Leaving,
}

impl Opening {
    /// Appends the header, its length field included.
    pub fn encode(&self, out: &mut impl BufMut) {
        let mut body = Vec::with_capacity(96);
        body.put_u8(VERSION);
        match self {
            Self::Leaving => body.put_u8(LEAVING),
            Self::Call(call) => {
                body.put_u8(match call.kind {
                    Kind::Tcp => 2,
                    Kind::Http => 3,
                });
                body.put_u8(if call.client.is_some() { HAS_CLIENT } else { 0 });
                let name = call.service.as_str().as_bytes();
                body.put_u8(name.len() as u8);
                body.put_slice(name);
                if let Some(client) = call.client {
                    put_address(&mut body, client);
                }
            }
        }
        out.put_u16(body.len() as u16);
        out.put_slice(&body);
    }

    /// Reads a header from exactly the bytes that its length field announced.
    pub fn decode(mut body: &[u8]) -> Result<Self, PreambleError> {
        let version = byte(&mut body)?;
        if version != VERSION {
            return Err(PreambleError::Version(version));
        }
        let kind = match byte(&mut body)? {
            2 => Some(Kind::Tcp),
            3 => Some(Kind::Http),
            LEAVING => None,
            _ => return Err(PreambleError::Unknown("kind")),
        };
        let opening = match kind {
            None => Self::Leaving,
            Some(kind) => {
                let flags = byte(&mut body)?;
                if flags & !HAS_CLIENT != 0 {
                    return Err(PreambleError::Unknown("flag"));
                }
                let service = name(&mut body)?.ok_or(PreambleError::Service)?;
                let client = if flags & HAS_CLIENT != 0 { Some(address(&mut body)?) } else { None };
                Self::Call(Call { kind, service, client })
            }
        };
        match body.len() {
            0 => Ok(opening),
            rest => Err(PreambleError::Long(rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preamble::Preamble;
    use proptest::prelude::*;

    fn openings() -> impl Strategy<Value = Opening> {
        let call = ("[a-z0-9]{1,63}", any::<bool>(), any::<Option<([u8; 16], u16)>>()).prop_map(|(service, http, client)| {
            let kind = if http { Kind::Http } else { Kind::Tcp };
            Opening::Call(Call { kind, service: service.parse().unwrap(), client: client.map(SocketAddr::from) })
        });
        prop_oneof![Just(Opening::Leaving), call]
    }

    fn wire(opening: &Opening) -> Vec<u8> {
        let mut wire = Vec::new();
        opening.encode(&mut wire);
        wire
    }

    #[test]
    fn the_layout_on_the_wire_is_fixed() {
        let call = Call { kind: Kind::Http, service: "orders".parse().unwrap(), client: Some(([127, 0, 0, 1], 4321).into()) };
        assert_eq!(wire(&Opening::Call(call)), b"\x00\x11\x01\x03\x01\x06orders\x04\x7f\x00\x00\x01\x10\xe1");
        assert_eq!(wire(&Opening::Leaving), b"\x00\x02\x01\x04");
    }

    #[test]
    fn neither_end_takes_the_header_of_the_other() {
        let data = Preamble { kind: Kind::Http, uplink: "orders".parse().unwrap(), client: None, server: None, trace: None };
        let mut bytes = Vec::new();
        data.encode(&mut bytes);
        assert_eq!(Opening::decode(&bytes[2..]), Err(PreambleError::Unknown("kind")));
        let call = Opening::Call(Call { kind: Kind::Http, service: "orders".parse().unwrap(), client: None });
        assert_eq!(Preamble::decode(&wire(&call)[2..]), Err(PreambleError::Unknown("kind")));
    }

    proptest! {
        #[test]
        fn a_header_reads_back_as_written_and_never_begins_as_an_identity_exchange_does(opening in openings()) {
            let wire = wire(&opening);
            let length = Preamble::length([wire[0], wire[1]]).unwrap();
            prop_assert_eq!(length, wire.len() - 2);
            prop_assert_eq!(Opening::decode(&wire[2..]).unwrap(), opening);
        }

        #[test]
        fn a_cut_or_lengthened_header_is_refused(opening in openings(), extra in 1usize..8) {
            let mut wire = wire(&opening);
            for end in 2..wire.len() {
                prop_assert!(Opening::decode(&wire[2..end]).is_err());
            }
            wire.extend(std::iter::repeat_n(0, extra));
            prop_assert_eq!(Opening::decode(&wire[2..]), Err(PreambleError::Long(extra)));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Opening::decode(&bytes);
        }

        #[test]
        fn bytes_behind_a_good_beginning_do_not_either(kind in 2u8..5, bytes in proptest::collection::vec(any::<u8>(), 0..260)) {
            let _ = Opening::decode(&[&[VERSION, kind][..], &bytes].concat());
        }
    }
}
