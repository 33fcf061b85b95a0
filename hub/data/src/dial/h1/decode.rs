//! Hop: backend -> dial. Pure: takes a response's body out of the bytes behind its head, by the rules of `admission`.
//!
//! Data is handed on without a copy. A body that ends early is an error, whatever ended it.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::head::refused;
use crate::admission::chunked::{Chunked, Step};
use crate::admission::{Framing, HeadLimits, fields};
use crate::reply::Failure;

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
#[derive(Debug)]
pub enum Decoder {
    /// That many bytes are still to come.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// All bytes until the end of the connection.
    UntilClose,
    /// Nothing more.
    Ended,
}

impl Decoder {
    /// At a body's first byte; `limits` bound its trailer section.
    pub fn new(framing: Framing, limits: HeadLimits) -> Self {
        match framing {
            Framing::None | Framing::Upgrade | Framing::Length(0) => Self::Ended,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::new(limits)),
            Framing::UntilClose => Self::UntilClose,
        }
    }

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

    /// How many bytes may be handed on as they come, where none of them needs to be looked at.
    pub fn plain(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::UntilClose => Some(u64::MAX),
            Self::Chunked(_) | Self::Ended => None,
        }
    }

    /// That many bytes of those were handed on.
    pub fn took(&mut self, count: u64) {
        if let Self::Length(left) = self {
            *left = left.saturating_sub(count);
            if *left == 0 {
                *self = Self::Ended;
            }
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
        match self {
            Self::Ended => Ok(Piece::End),
            _ if input.is_empty() => Ok(Piece::More),
            Self::UntilClose => Ok(Piece::Data(input.split().freeze())),
            Self::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                self.took(n as u64);
                Ok(Piece::Data(input.split_to(n).freeze()))
            }
            Self::Chunked(chunked) => {
                let (framing, step) = chunked.step(input).map_err(|reject| match refused(reject) {
                    // Of a body, not of the head that the word speaks of.
                    Failure::HeadTooLarge | Failure::TooManyFields => Failure::Malformed,
                    failure => failure,
                })?;
                input.advance(framing);
                match step {
                    Step::More => Ok(Piece::More),
                    Step::Data(n) => Ok(Piece::Data(input.split_to(n).freeze())),
                    Step::End(mut trailers) => {
                        *self = Self::Ended;
                        fields::filter_trailers(&mut trailers);
                        Ok(if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) })
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, count: 10 };

    fn read(framing: Framing, wire: &[u8], step: usize) -> Result<(Vec<u8>, Option<HeaderMap>, usize), Failure> {
        let mut decoder = Decoder::new(framing, LIMITS);
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
            let (body, trailers, left) = read(Framing::Chunked, wire, step).unwrap();
            assert_eq!((&body[..], left), (&b"hello world"[..], 4));
            let trailers = trailers.unwrap();
            assert_eq!((trailers.len(), &trailers["x-t"]), (1, &http::HeaderValue::from_static("1")));
        }
    }

    #[test]
    fn bad_chunk_framing_is_refused() {
        for wire in [&b"5\nhello"[..], b"\r\n", b"g\r\n", b"+5\r\nhello\r\n", b"5\r\nhelloXX", b"5 5\r\n", b"0x5\r\n"] {
            assert_eq!(read(Framing::Chunked, wire, 1), Err(Failure::Malformed), "{wire:?}");
        }
    }

    #[test]
    fn an_early_end_is_never_a_clean_one() {
        assert_eq!(read(Framing::Length(5), b"hell", 4), Err(Failure::Incomplete));
        assert_eq!(read(Framing::Chunked, b"5\r\nhello\r\n", 3), Err(Failure::Incomplete));
        assert_eq!(read(Framing::Chunked, b"0\r\n", 3), Err(Failure::Incomplete));
        assert_eq!(read(Framing::UntilClose, b"hello", 3).unwrap().0, b"hello");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(wire in proptest::collection::vec(any::<u8>(), 0..200), step in 1usize..20) {
            let _ = read(Framing::Chunked, &wire, step);
        }
    }
}
