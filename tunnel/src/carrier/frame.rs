//! Datagrams in a byte stream: two bytes of length, most significant first, then the datagram. Pure.
//!
//! Promises to hold no more than was given to it and never to hand out more than [`LONGEST`] bytes; a length of zero or above
//! that is an end. What comes in may be anybody's bytes.

use bytes::{Buf, BufMut, BytesMut};

use crate::transport::MTU_CAP;

/// Longest datagram in bytes.
pub const LONGEST: usize = MTU_CAP as usize;

/// Bytes before each datagram.
const HEAD: usize = 2;

/// The peer broke the framing; nothing after it can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadFrame;

/// Appends a datagram. One that is empty or too long is left out: no QUIC packet is.
pub fn append(out: &mut BytesMut, datagram: &[u8]) {
    if let (1..=LONGEST, Ok(length)) = (datagram.len(), u16::try_from(datagram.len())) {
        out.reserve(HEAD + datagram.len());
        out.put_u16(length);
        out.put_slice(datagram);
    }
}

/// Takes datagrams out of what came.
#[derive(Debug, Default)]
pub struct Deframer(BytesMut);

impl Deframer {
    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.0.len()
    }

    /// Copies the next datagram into `into` and returns its length; `None` where the rest of it has still to come. One that
    /// is longer than `into` is a bad frame as well.
    pub fn next(&mut self, into: &mut [u8]) -> Result<Option<usize>, BadFrame> {
        let Some((&[high, low], rest)) = self.0.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > LONGEST || length > into.len() {
            return Err(BadFrame);
        }
        let Some(datagram) = rest.get(..length) else { return Ok(None) };
        into[..length].copy_from_slice(datagram);
        self.0.advance(HEAD + length);
        Ok(Some(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(deframer: &mut Deframer, got: &mut Vec<Vec<u8>>) -> Result<(), BadFrame> {
        let mut into = [0; LONGEST];
        while let Some(length) = deframer.next(&mut into)? {
            got.push(into[..length].to_vec());
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn datagrams_come_out_as_they_went_in_however_the_stream_is_cut(
            datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..2000), 0..12),
            cut in 1usize..700,
        ) {
            let mut stream = BytesMut::new();
            datagrams.iter().for_each(|datagram| append(&mut stream, datagram));
            let (mut deframer, mut got) = (Deframer::default(), Vec::new());
            for piece in stream.chunks(cut) {
                deframer.push(piece);
                prop_assert!(all(&mut deframer, &mut got).is_ok());
            }
            prop_assert_eq!(&got, &datagrams);
            prop_assert_eq!(deframer.held(), 0);
        }

        #[test]
        fn any_bytes_give_bounded_datagrams_or_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let (mut deframer, mut got) = (Deframer::default(), Vec::new());
            deframer.push(&bytes);
            let ended = all(&mut deframer, &mut got);
            prop_assert!(got.iter().all(|datagram| (1..=LONGEST).contains(&datagram.len())));
            let taken: usize = got.iter().map(|datagram| HEAD + datagram.len()).sum();
            prop_assert_eq!(taken + deframer.held(), bytes.len());
            // Whatever remains without an end is less than one whole frame.
            prop_assert!(ended.is_err() || deframer.held() < HEAD + LONGEST);
        }
    }

    #[test]
    fn lengths_of_zero_and_above_the_longest_are_an_end() {
        for head in [[0, 0], [0xff, 0xff], ((LONGEST + 1) as u16).to_be_bytes()] {
            let mut deframer = Deframer::default();
            deframer.push(&head);
            assert_eq!(deframer.next(&mut [0; LONGEST]), Err(BadFrame), "{head:?}");
        }
        let mut deframer = Deframer::default();
        deframer.push(&[0, 9]);
        assert_eq!(deframer.next(&mut [0; 8]), Err(BadFrame), "it would not fit");
        let mut out = BytesMut::new();
        append(&mut out, &[]);
        append(&mut out, &[1; LONGEST + 1]);
        assert!(out.is_empty());
    }
}
