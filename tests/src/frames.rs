//! An HTTP/2 client that writes its frames by hand: for what no client library would send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Kinds of frames (RFC 9113, section 6).
pub const DATA: u8 = 0;
/// A header block's first frame.
pub const HEADERS: u8 = 1;
/// The end of a stream, with its reason.
pub const RST_STREAM: u8 = 3;
/// The end of a connection, with its reason.
pub const GOAWAY: u8 = 7;
/// More of a header block.
pub const CONTINUATION: u8 = 9;
const SETTINGS: u8 = 4;

/// Nothing follows on the stream.
pub const END_STREAM: u8 = 1;
/// The header block ends here.
pub const END_HEADERS: u8 = 4;

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: u8,
    /// The stream; 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The reason of a RST_STREAM or GOAWAY.
    pub fn reason(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        self.payload[at..at + 4].try_into().map_or(0, u32::from_be_bytes)
    }

    /// The status of an answer, where it is one that the static table knows or a literal.
    pub fn status(&self) -> u16 {
        match self.payload[..] {
            [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
            // `431` as h2 writes it first: with Huffman codes.
            [0x48, 0x82, 0x68, 0x01, ..] => 431,
            _ => 0,
        }
    }
}

/// The client's end of a connection.
#[derive(Debug)]
pub struct Frames(TcpStream);

impl Frames {
    /// Connects, with prior knowledge.
    pub fn open(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        tcp.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket option");
        tcp.set_nodelay(true).expect("a socket option");
        let mut frames = Self(tcp);
        let _ = frames.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    /// Takes the hub's settings, which widen the windows, before anything else is sent.
    pub fn settled(mut self) -> Self {
        self.next(&[SETTINGS]).expect("the hub's settings");
        self.send(SETTINGS, 1, 0, &[]);
        self
    }

    /// Writes a frame; a hub that has hung up shows when reading.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let _ = self.0.write_all(&[&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat());
    }

    /// Asks for `/` on a stream, with those fields beside the usual; `flags` as for HEADERS.
    pub fn ask(&mut self, stream: u32, method: &str, fields: &[(&str, &str)], flags: u8) {
        let usual = [(":method", method), (":scheme", "http"), (":authority", "shop.example"), (":path", "/")];
        self.send(HEADERS, flags, stream, &block(&[&usual[..], fields].concat()));
    }

    /// The next frame of those kinds; `None` at the end of the connection.
    pub fn next(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.0.read_exact(&mut payload).ok()?;
            if kinds.contains(&head[3]) {
                return Some(Frame { kind: head[3], stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload });
            }
        }
    }
}

/// Literal fields without indexing and without Huffman codes (RFC 7541, section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            let mut rest = text.len();
            if rest < 127 {
                out.push(rest as u8);
            } else {
                out.push(127);
                rest -= 127;
                while rest >= 128 {
                    out.push((rest % 128 + 128) as u8);
                    rest /= 128;
                }
                out.push(rest as u8);
            }
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}
