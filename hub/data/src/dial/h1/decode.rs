//! Hop: backend -> dial. Pure: takes a response's body out of the bytes behind its head (RFC 9112, sections 6 and 7).
//!
//! Strict about chunks: sizes are hexadecimal digits, every line ends with CRLF. Data is handed on without a copy.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::head::{self, Framing};
use crate::reply::Failure;

/// Longest chunk-size line with its extensions, in bytes. Extensions are read over; nobody needs long ones.
const MAX_CHUNK_LINE: usize = 256;

/// Largest trailer section, in bytes and fields.
const MAX_TRAILERS: usize = 8 * 1024;
const MAX_TRAILER_FIELDS: usize = 64;

/// What a decoder found.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Bytes of the body.
    Data(Bytes),
    /// The trailers; the body has ended.
    Trailers(HeaderMap),
    /// The body has ended.
    End,
    /// More input is needed.
    More,
}

/// Where in a body the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoder {
    /// That many bytes are still to come.
    Length(u64),
    /// A chunk-size line comes next.
    Size,
    /// That many bytes of a chunk are still to come.
    Chunk(u64),
    /// The CRLF behind a chunk comes next.
    ChunkEnd,
    /// The trailer section comes next.
    Trailer,
    /// All bytes until the end of the connection.
    UntilClose,
    /// Nothing more.
    Ended,
}

impl From<Framing> for Decoder {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Ended,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Size,
            Framing::UntilClose => Self::UntilClose,
        }
    }
}

impl Decoder {
    /// Whether the body has ended.
    pub fn ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// Bytes still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Ended => Some(0),
            _ => None,
        }
    }

    /// The connection ended in good order: whether that is a good end of the body too.
    pub fn eof(&mut self) -> Result<(), Failure> {
        match self {
            Self::Ended => Ok(()),
            Self::UntilClose => {
                *self = Self::Ended;
                Ok(())
            }
            _ => Err(Failure::Incomplete),
        }
    }

    /// Takes the next piece from the front of the buffer.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Piece, Failure> {
        loop {
            match *self {
                Self::Ended => return Ok(Piece::End),
                Self::UntilClose if input.is_empty() => return Ok(Piece::More),
                Self::UntilClose => return Ok(Piece::Data(input.split().freeze())),
                Self::Length(left) => return Ok(self.data(input, left, |left| if left == 0 { Self::Ended } else { Self::Length(left) })),
                Self::Chunk(left) => return Ok(self.data(input, left, |left| if left == 0 { Self::ChunkEnd } else { Self::Chunk(left) })),
                Self::ChunkEnd => match input.get(..2) {
                    Some(b"\r\n") => {
                        let _ = input.split_to(2);
                        *self = Self::Size;
                    }
                    Some(_) => return Err(Failure::Malformed),
                    None if input.first().is_some_and(|byte| *byte != b'\r') => return Err(Failure::Malformed),
                    None => return Ok(Piece::More),
                },
                Self::Size => match size_line(input)? {
                    None => return Ok(Piece::More),
                    Some(0) => *self = Self::Trailer,
                    Some(size) => *self = Self::Chunk(size),
                },
                Self::Trailer => return self.trailers(input),
            }
        }
    }

    fn data(&mut self, input: &mut BytesMut, left: u64, next: fn(u64) -> Self) -> Piece {
        if input.is_empty() {
            return Piece::More;
        }
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        *self = next(left - n as u64);
        Piece::Data(input.split_to(n).freeze())
    }

    fn trailers(&mut self, input: &mut BytesMut) -> Result<Piece, Failure> {
        if input.starts_with(b"\r\n") {
            let _ = input.split_to(2);
            *self = Self::Ended;
            return Ok(Piece::End);
        }
        let Some(end) = memchr::memmem::find(&input[..], b"\r\n\r\n") else {
            return if input.len() > MAX_TRAILERS { Err(Failure::Malformed) } else { Ok(Piece::More) };
        };
        let section = input.split_to(end + 4).freeze();
        let mut trailers = head::fields(&section, 0, end, MAX_TRAILER_FIELDS).map_err(|_| Failure::Malformed)?;
        head::strip_hop_by_hop(&mut trailers);
        for framing in [http::header::CONTENT_LENGTH, http::header::HOST, http::header::SET_COOKIE, http::header::TRAILER] {
            trailers.remove(framing);
        }
        *self = Self::Ended;
        Ok(Piece::Trailers(trailers))
    }
}

/// Takes `1*HEXDIG [chunk-ext] CRLF`; `None` while incomplete.
fn size_line(input: &mut BytesMut) -> Result<Option<u64>, Failure> {
    let scan = &input[..input.len().min(MAX_CHUNK_LINE)];
    let Some(end) = memchr::memchr3(b'\r', b'\n', 0, scan) else {
        return if input.len() >= MAX_CHUNK_LINE { Err(Failure::Malformed) } else { Ok(None) };
    };
    if input[end] != b'\r' {
        return Err(Failure::Malformed);
    }
    match input.get(end + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(Failure::Malformed),
    }
    let line = input.split_to(end + 2);
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // Fifteen digits hold more than any disk; a sixteenth could overflow arithmetic elsewhere.
    let rest = line[digits..end].trim_ascii_start();
    if digits == 0 || digits > 15 || !(rest.is_empty() || rest[0] == b';') {
        return Err(Failure::Malformed);
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| Failure::Malformed)?;
    u64::from_str_radix(text, 16).map(Some).map_err(|_| Failure::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(mut decoder: Decoder, wire: &[u8], step: usize) -> Result<(Vec<u8>, Option<HeaderMap>, usize), Failure> {
        let (mut input, mut body, mut at) = (BytesMut::new(), Vec::new(), 0);
        loop {
            match decoder.take(&mut input)? {
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::Trailers(trailers) => return Ok((body, Some(trailers), input.len() + wire.len() - at)),
                Piece::End => return Ok((body, None, input.len() + wire.len() - at)),
                Piece::More if at == wire.len() => return decoder.eof().map(|()| (body, None, 0)),
                Piece::More => {
                    let next = (at + step).min(wire.len());
                    input.extend_from_slice(&wire[at..next]);
                    at = next;
                }
            }
        }
    }

    #[test]
    fn chunks_and_trailers_read_the_same_however_they_arrive() {
        let wire = b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-T: 1\r\nHost: evil\r\n\r\nrest";
        for step in 1..wire.len() {
            let (body, trailers, left) = read(Decoder::Size, wire, step).unwrap();
            assert_eq!((&body[..], left), (&b"hello world"[..], 4));
            let trailers = trailers.unwrap();
            assert_eq!((trailers.len(), &trailers["x-t"]), (1, &http::HeaderValue::from_static("1")));
        }
    }

    #[test]
    fn bad_chunk_framing_is_refused() {
        for wire in
            [&b"5\nhello"[..], b"\r\n", b"g\r\n", b"+5\r\nhello\r\n", b"5\r\nhelloXX", b"5 5\r\n", b"0x5\r\n", b"1000000000000000\r\n"]
        {
            assert_eq!(read(Decoder::Size, wire, 1), Err(Failure::Malformed), "{wire:?}");
        }
    }

    #[test]
    fn an_early_end_is_never_a_clean_one() {
        assert_eq!(read(Decoder::Length(5), b"hell", 4), Err(Failure::Incomplete));
        assert_eq!(read(Decoder::Size, b"5\r\nhello\r\n", 3), Err(Failure::Incomplete));
        assert_eq!(read(Decoder::Size, b"0\r\n", 3), Err(Failure::Incomplete));
        assert_eq!(read(Decoder::UntilClose, b"hello", 3).unwrap().0, b"hello");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(wire in proptest::collection::vec(any::<u8>(), 0..200), step in 1usize..20) {
            let _ = read(Decoder::Size, &wire, step);
        }
    }
}
