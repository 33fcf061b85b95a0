//! Hop `inbound`: bounds that `h2` enforces by itself, seen in the frames that it writes. Pure.
//!
//! `h2` refuses streams beyond the limit, heads that are too large and floods of frames without a word to its caller. The
//! frames that it answers with say which of these it was. Reads heads of frames and two short payloads, nothing else.

use crate::metrics::Limit;

const HEAD: usize = 9;
/// Bytes of a payload that are looked at: enough for the words that `h2` puts into a GOAWAY.
const NOTE: usize = 40;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Reads the frames that a server writes.
pub(super) struct Refusals {
    head: [u8; HEAD],
    head_held: usize,
    /// Bytes of the frame's payload that are still to come.
    left: usize,
    length: usize,
    note: [u8; NOTE],
    note_held: usize,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self { head: [0; HEAD], head_held: 0, left: 0, length: 0, note: [0; NOTE], note_held: 0 }
    }

    /// Takes the next bytes that were written; tells each bound that was reached.
    pub(super) fn wrote(&mut self, mut bytes: &[u8], tell: &dyn Fn(Limit)) {
        while !bytes.is_empty() {
            if self.head_held < HEAD {
                let taken = (HEAD - self.head_held).min(bytes.len());
                self.head[self.head_held..self.head_held + taken].copy_from_slice(&bytes[..taken]);
                self.head_held += taken;
                bytes = &bytes[taken..];
                if self.head_held < HEAD {
                    return;
                }
                self.left = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize;
                self.length = self.left;
                self.note_held = 0;
            } else {
                let (payload, behind) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= payload.len();
                bytes = behind;
                if matches!(self.head[3], HEADERS | RST_STREAM | GOAWAY) {
                    let noted = payload.len().min(NOTE - self.note_held);
                    self.note[self.note_held..self.note_held + noted].copy_from_slice(&payload[..noted]);
                    self.note_held += noted;
                }
            }
            if self.left == 0 {
                self.head_held = 0;
                if let Some(limit) = self.reached() {
                    tell(limit);
                }
            }
        }
    }

    /// Whether a header block has one field only (RFC 7541, section 6): by its index, or its value behind the name's index.
    fn is_bare_status(&self) -> bool {
        let indexed = self.note[0] & 0x80 != 0;
        let value = usize::from(self.note[1] & 0x7f);
        if indexed { self.length == 1 } else { self.length == 2 + value }
    }

    /// What a whole frame says.
    fn reached(&self) -> Option<Limit> {
        let number = |at: usize| self.note[at..at + 4].try_into().map_or(0, u32::from_be_bytes);
        let [_, _, _, kind, flags, ..] = self.head;
        match kind {
            // The one answer that h2 gives by itself is 431. Ours are dated; this one is nothing but its status.
            HEADERS if flags & END_STREAM != 0 && self.is_bare_status() => Some(Limit::HeaderBytes),
            RST_STREAM if number(0) == REFUSED_STREAM => Some(Limit::H2Streams),
            // A GOAWAY of our own making has no words.
            GOAWAY if self.note_held > 8 && number(4) == ENHANCE_YOUR_CALM => match &self.note[8..self.note_held] {
                words if words.starts_with(b"header_list") => Some(Limit::HeaderBytes),
                words if words.windows(6).any(|word| word == b"resets") => Some(Limit::H2Resets),
                _ => Some(Limit::H2Frames),
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn goaway(code: u32, words: &[u8]) -> Vec<u8> {
        frame(GOAWAY, 0, 0, &[&9_u32.to_be_bytes()[..], &code.to_be_bytes(), words].concat())
    }

    /// What is told of these frames; the same however they are cut.
    fn told(frames: &[Vec<u8>]) -> Vec<Limit> {
        let bytes = frames.concat();
        let mut all = Vec::new();
        for cut in [bytes.len(), 1, 7] {
            let (mut refusals, found) = (Refusals::new(), RefCell::new(Vec::new()));
            bytes.chunks(cut).for_each(|piece| refusals.wrote(piece, &|limit| found.borrow_mut().push(limit)));
            all.push(found.into_inner());
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
        all.remove(0)
    }

    #[test]
    fn a_refused_stream_is_one_too_many_unless_it_was_answered() {
        let reset = |stream, code: u32| frame(RST_STREAM, 0, stream, &code.to_be_bytes());
        let (data, settings) = (frame(0, END_STREAM, 3, &[7; 300]), frame(4, 0, 0, &[]));
        assert_eq!(told(&[settings, reset(1, 8), reset(3, 7), data, reset(5, 7)]), [Limit::H2Streams; 2]);
        // 431 written out, 431 by index; answers of ours have more than a status, or a body.
        let bare = [frame(HEADERS, 5, 9, &[0x48, 0x82, 0x68, 0x01]), frame(HEADERS, 5, 11, &[0xbe]), reset(9, 1)];
        assert_eq!(told(&bare), [Limit::HeaderBytes; 2]);
        let ours =
            [frame(HEADERS, 5, 9, &[0x89, 0xbe]), frame(HEADERS, 4, 11, &[0xbe]), frame(HEADERS, 5, 13, &[0x48, 0x82, 0x68, 0x01, 0xbe])];
        assert_eq!(told(&ours), []);
    }

    #[test]
    fn a_goaway_says_which_flood_it_was() {
        let frames = [
            goaway(0, b""),
            goaway(11, b""),
            goaway(1, b"too_many_resets"),
            goaway(11, b"too_many_continuations"),
            goaway(11, b"too_many_internal_resets"),
            goaway(11, b"header_list_way_too_large"),
            goaway(11, &[b'x'; 100]),
        ];
        assert_eq!(told(&frames), [Limit::H2Frames, Limit::H2Resets, Limit::HeaderBytes, Limit::H2Frames]);
    }
}
