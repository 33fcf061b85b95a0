//! Hop `admission`: finds the fragment in an HTTP/2 request's `:path`, which the `h2` crate drops before anybody sees it. Pure.
//!
//! Reads the client's frames along with `h2` and remembers the streams whose path has a `#`. Keeps no field and decides
//! nothing else. Where it cannot follow, every later request counts as one with a fragment: better refused than misread.

mod hpack;

use std::collections::VecDeque;

use figspan_proto::hpack::Malformed;
use hpack::Hpack;

const PREFACE: usize = 24;
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Streams with a fragment that nobody has asked for yet. `h2` hands requests over in the order of their arrival and bounds
/// how many wait, far below this.
const MAX_MARKED: usize = 4096;

/// Bytes of one unfinished field that are held at least: a frame of the usual size.
const MIN_TAIL: usize = 16 * 1024;

/// Reads one client's frames.
pub struct Fragments {
    /// Bytes before the next frame.
    skip: usize,
    head: [u8; FRAME_HEAD],
    head_held: usize,
    /// The frame with a header block that is being read.
    frame: Option<Frame>,
    /// The stream of the header block under way.
    stream: u32,
    hpack: Hpack,
    /// The beginning of a representation that goes on in the next bytes.
    tail: Vec<u8>,
    most_tail: usize,
    marked: VecDeque<u32>,
    /// What comes cannot be followed any more.
    lost: bool,
}

struct Frame {
    flags: u8,
    /// Whether the length of the padding is still to come.
    padded: bool,
    /// Bytes before the block.
    lead: usize,
    /// Bytes of the block that are still to come.
    left: usize,
    padding: usize,
}

impl Fragments {
    /// For a connection at its first byte; `header_bytes` is the largest head that is served.
    pub fn new(header_bytes: usize) -> Self {
        Self {
            skip: PREFACE,
            head: [0; FRAME_HEAD],
            head_held: 0,
            frame: None,
            stream: 0,
            hpack: Hpack::new(),
            tail: Vec::new(),
            most_tail: header_bytes.saturating_mul(2).max(MIN_TAIL),
            marked: VecDeque::new(),
            lost: false,
        }
    }

    /// Takes the next bytes of the connection.
    pub fn read(&mut self, mut bytes: &[u8]) {
        while !self.lost && !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
            } else if let Some(frame) = self.frame.take() {
                bytes = self.read_frame(frame, bytes);
            } else {
                let wanted = (FRAME_HEAD - self.head_held).min(bytes.len());
                self.head[self.head_held..self.head_held + wanted].copy_from_slice(&bytes[..wanted]);
                self.head_held += wanted;
                bytes = &bytes[wanted..];
                if self.head_held == FRAME_HEAD {
                    self.head_held = 0;
                    self.begin();
                }
            }
        }
    }

    /// Whether the request on this stream had a fragment, or might have had one. Asked once for each request, in their order.
    pub fn take(&mut self, stream: u32) -> bool {
        let mut found = self.lost;
        while let Some(first) = self.marked.front().filter(|first| **first <= stream) {
            found |= *first == stream;
            self.marked.pop_front();
        }
        found
    }

    /// A frame's head is there.
    fn begin(&mut self) {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let padded = kind == HEADERS && flags & PADDED != 0;
        let lead = if kind == HEADERS && flags & PRIORITY != 0 { 5 } else { 0 };
        match kind {
            HEADERS => self.stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            CONTINUATION => {}
            _ => {
                self.skip = length;
                return;
            }
        }
        match length.checked_sub(lead + usize::from(padded)) {
            Some(left) => self.advance(Frame { flags, padded, lead, left, padding: 0 }),
            None => self.lose(),
        }
    }

    fn read_frame<'b>(&mut self, mut frame: Frame, bytes: &'b [u8]) -> &'b [u8] {
        let rest;
        if frame.padded {
            frame.padded = false;
            frame.padding = usize::from(bytes[0]);
            rest = &bytes[1..];
            let Some(left) = frame.left.checked_sub(frame.padding) else {
                self.lose();
                return rest;
            };
            frame.left = left;
        } else if frame.lead > 0 {
            let skipped = frame.lead.min(bytes.len());
            frame.lead -= skipped;
            rest = &bytes[skipped..];
        } else {
            let (block, behind) = bytes.split_at(frame.left.min(bytes.len()));
            frame.left -= block.len();
            self.read_block(block);
            rest = behind;
        }
        self.advance(frame);
        rest
    }

    /// Goes on with a frame, or ends it where all of it was read.
    fn advance(&mut self, frame: Frame) {
        if frame.padded || frame.lead > 0 || frame.left > 0 {
            self.frame = Some(frame);
            return;
        }
        self.skip = frame.padding;
        if frame.flags & END_HEADERS != 0 && !self.tail.is_empty() {
            self.lose();
        }
    }

    fn read_block(&mut self, block: &[u8]) {
        let read = if self.tail.is_empty() {
            self.hpack.read(block).map(|read| {
                self.tail.extend_from_slice(&block[read.used..]);
                read.fragment
            })
        } else {
            self.tail.extend_from_slice(block);
            self.hpack.read(&self.tail).map(|read| {
                self.tail.drain(..read.used);
                read.fragment
            })
        };
        match read {
            Ok(true) if self.marked.back() != Some(&self.stream) => self.marked.push_back(self.stream),
            Ok(_) => {}
            Err(Malformed) => self.lose(),
        }
        if self.tail.len() > self.most_tail || self.marked.len() > MAX_MARKED {
            self.lose();
        }
        if self.tail.is_empty() {
            // A long name once is no reason to hold its room for ever.
            self.tail.shrink_to(256);
        }
    }

    fn lose(&mut self) {
        self.lost = true;
        self.tail = Vec::new();
        self.marked = VecDeque::new();
    }
}

#[cfg(test)]
mod tests;
