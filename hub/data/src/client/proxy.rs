//! PROXY protocol, versions 1 and 2: what a load balancer says about a connection before the connection's own bytes.
//!
//! The parser is pure and strict, and the reader takes not one byte more than the header. Versions 1 and 2 are told apart by
//! their first bytes; version 1 has at most 107 bytes, version 2 at most [`MAX_V2`] with its extensions, which are passed over.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Longest line of version 1, its CRLF included.
pub const MAX_V1: usize = 107;

/// Longest header of version 2 that is read: addresses, and extensions of any sane size.
pub const MAX_V2: usize = 16 + 2048;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The proxy speaks for itself (health checks), or does not know.
    Local,
    /// It speaks for a client.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// The address that the client called.
        destination: SocketAddr,
    },
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no valid PROXY protocol header ({0}); does the proxy in front send one?")]
pub struct ProxyError(&'static str);

/// Looks for a header at the start of `bytes`: `None` while more bytes are needed, else the header and its length.
pub fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let start = bytes.len().min(12);
    if bytes[..start] == SIGNATURE[..start] {
        return v2(bytes);
    }
    let start = bytes.len().min(6);
    if bytes[..start] != b"PROXY "[..start] {
        return Err(ProxyError("no signature"));
    }
    let window = &bytes[..bytes.len().min(MAX_V1)];
    match memchr::memchr(b'\n', window) {
        Some(end) => {
            let line = window[..end].strip_suffix(b"\r").ok_or(ProxyError("line end"))?;
            let line = std::str::from_utf8(line).map_err(|_| ProxyError("characters"))?;
            Ok(Some((v1(line)?, end + 1)))
        }
        None if window.len() == MAX_V1 => Err(ProxyError("length")),
        None => Ok(None),
    }
}

fn v1(line: &str) -> Result<ProxyHeader, ProxyError> {
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(ProxyHeader::Local);
    }
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(ProxyError("fields"));
    };
    let address = |text: &str| -> Result<IpAddr, ProxyError> {
        match family {
            Some("TCP4") => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| ProxyError("address")),
            Some("TCP6") => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| ProxyError("address")),
            _ => Err(ProxyError("family")),
        }
    };
    let port = |text: &str| match text.as_bytes() {
        [b'0', _, ..] | [b'+', ..] => Err(ProxyError("port")),
        _ => text.parse::<u16>().map_err(|_| ProxyError("port")),
    };
    Ok(ProxyHeader::Proxied {
        source: SocketAddr::new(address(source)?, port(source_port)?),
        destination: SocketAddr::new(address(destination)?, port(destination_port)?),
    })
}

fn v2(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let Some((head, rest)) = bytes.split_at_checked(16) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if 16 + length > MAX_V2 {
        return Err(ProxyError("length"));
    }
    let local = match head[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError("version or command")),
    };
    let needed = match head[13] {
        0x11 => 12,
        0x21 => 36,
        // Unspecified, datagrams and Unix sockets: no address of use to a workload behind TCP.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => 0,
        _ => return Err(ProxyError("family")),
    };
    if !local && length < needed {
        return Err(ProxyError("length"));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let header = match needed {
        _ if local => ProxyHeader::Local,
        12 => {
            let address = |at: usize| Ipv4Addr::new(body[at], body[at + 1], body[at + 2], body[at + 3]);
            ProxyHeader::Proxied {
                source: SocketAddr::new(address(0).into(), port(8)),
                destination: SocketAddr::new(address(4).into(), port(10)),
            }
        }
        36 => {
            let address = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&body[at..at + 16]);
                Ipv6Addr::from(octets)
            };
            ProxyHeader::Proxied {
                source: SocketAddr::new(address(0).into(), port(32)),
                destination: SocketAddr::new(address(16).into(), port(34)),
            }
        }
        _ => ProxyHeader::Local,
    };
    Ok(Some((header, 16 + length)))
}

/// Reads the header and nothing behind it. Not cancel-safe: a connection whose header was not read whole is closed.
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<ProxyHeader> {
    let mut held = [0u8; MAX_V2];
    let mut length = 0;
    loop {
        // Version 1 ends somewhere in a line, so beyond its shortest form it is read byte by byte; version 2 says how long it is.
        let want = match length {
            0..15 => 15 - length,
            _ if held[..12] != SIGNATURE => 1,
            15 => 1,
            _ => usize::from(u16::from_be_bytes([held[14], held[15]])) + 16 - length,
        };
        let read = io.read(&mut held[length..(length + want).min(MAX_V2)]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += read;
        if let Some((header, end)) = parse(&held[..length]).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            debug_assert_eq!(end, length, "a header is read exactly");
            return Ok(header);
        }
    }
}

/// For fuzzing: no input may panic, and more input may not change a verdict.
pub fn fuzz_proxy(data: &[u8]) {
    let whole = parse(data);
    for length in 0..data.len() {
        match parse(&data[..length]) {
            Ok(None) => {}
            verdict => assert_eq!(verdict, whole, "the verdict depends on the split"),
        }
    }
}

#[cfg(test)]
mod tests;
