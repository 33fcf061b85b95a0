//! Hop `admission`: what a header block of HTTP/2 (HPACK, RFC 7541) says of `:path`, without keeping a single field. Pure.
//!
//! The dynamic table holds no text here: the lengths of each entry, and whether it is a path with a fragment. That is all
//! that decides which entry an index means, so that reading along costs little beside the decoding proper.

use std::collections::VecDeque;

use super::huffman;

/// The size of the dynamic table that a server allows unless it says otherwise, and this one does not.
const TABLE: usize = 4096;
/// What an entry counts beside its texts.
const OVERHEAD: usize = 32;
/// Bytes that an integer may have behind its first one; beyond lies nothing that fits a frame.
const MAX_INTEGER: usize = 4;

const PATH: &str = ":path";

/// Names of the static table, from index 1 on.
#[rustfmt::skip]
const NAMES: [&str; 61] = [
    ":authority", ":method", ":method", PATH, PATH, ":scheme", ":scheme", ":status", ":status", ":status", ":status", ":status",
    ":status", ":status", "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "accept",
    "access-control-allow-origin", "age", "allow", "authorization", "cache-control", "content-disposition", "content-encoding",
    "content-language", "content-length", "content-location", "content-range", "content-type", "cookie", "date", "etag", "expect",
    "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since",
    "last-modified", "link", "location", "max-forwards", "proxy-authenticate", "proxy-authorization", "range", "referer",
    "refresh", "retry-after", "server", "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent", "vary",
    "via", "www-authenticate",
];

/// No header block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What was read: how many bytes, and whether a path with a fragment was among them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// Bytes of whole representations; the rest is the beginning of one.
    pub(super) used: usize,
    /// A path with a fragment.
    pub(super) fragment: bool,
}

/// The state of a connection's compression, as far as it matters here.
pub(super) struct Hpack {
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    name: u32,
    value: u32,
    path: bool,
    fragment: bool,
}

impl Entry {
    fn size(self) -> usize {
        self.name as usize + self.value as usize + OVERHEAD
    }
}

/// A text as it was measured.
#[derive(Default)]
struct Text {
    length: u32,
    hash: bool,
    path: bool,
}

impl Hpack {
    /// At the beginning of a connection.
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, most: TABLE }
    }

    /// Reads on. What is not used has to come again, with more behind it.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Read, Malformed> {
        let mut rest = block;
        let mut read = Read { used: 0, fragment: false };
        while let Some(fragment) = self.representation(&mut rest)? {
            read.used = block.len() - rest.len();
            read.fragment |= fragment;
        }
        Ok(read)
    }

    /// One representation; `None` where it is not all there.
    fn representation(&mut self, rest: &mut &[u8]) -> Result<Option<bool>, Malformed> {
        let Some(&first) = rest.first() else { return Ok(None) };
        let prefix = match first {
            0x80.. => 7,
            0x40..0x80 => 6,
            0x20..0x40 => 5,
            0x00..0x20 => 4,
        };
        let Some(number) = integer(rest, prefix)? else { return Ok(None) };
        if prefix == 7 {
            return Ok(Some(self.entry(number)?.fragment));
        }
        if prefix == 5 {
            if number > TABLE {
                return Err(Malformed);
            }
            self.most = number;
            self.evict();
            return Ok(Some(false));
        }
        let literal_name = if number == 0 { Some(string(rest)?) } else { None };
        let Some(value) = string(rest)? else { return Ok(None) };
        let (name, path) = match literal_name {
            None => self.entry(number).map(|entry| (entry.name, entry.path))?,
            Some(None) => return Ok(None),
            Some(Some(raw)) => {
                // A longer name is not `:path`, whichever way it is written.
                let text = if prefix == 6 || raw.bytes.len() <= PATH.len() { raw.measured(true)? } else { Text::default() };
                (text.length, text.path)
            }
        };
        // The length of a value that is not kept does not matter.
        let keeps = prefix == 6;
        let text = if keeps || path { value.measured(false)? } else { Text::default() };
        let entry = Entry { name, value: text.length, path, fragment: path && text.hash };
        if keeps {
            self.size += entry.size();
            self.entries.push_front(entry);
            self.evict();
        }
        Ok(Some(entry.fragment))
    }

    fn entry(&self, index: usize) -> Result<Entry, Malformed> {
        let fixed = |name: &str| Entry { name: name.len() as u32, value: 0, path: name == PATH, fragment: false };
        match index.checked_sub(1).ok_or(Malformed)? {
            at if at < NAMES.len() => Ok(fixed(NAMES[at])),
            at => self.entries.get(at - NAMES.len()).copied().ok_or(Malformed),
        }
    }

    fn evict(&mut self) {
        while self.size > self.most
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.size();
        }
    }
}

/// A text as it was sent.
struct Raw<'b> {
    bytes: &'b [u8],
    huffman: bool,
}

impl Raw<'_> {
    fn measured(&self, name: bool) -> Result<Text, Malformed> {
        let mut text = Text { path: name, ..Text::default() };
        let mut tell = |byte: u8| {
            text.path &= PATH.as_bytes().get(text.length as usize) == Some(&byte);
            text.hash |= byte == b'#';
            text.length += 1;
        };
        if self.huffman {
            huffman::decode(self.bytes, tell).map_err(|_| Malformed)?;
        } else {
            self.bytes.iter().for_each(|byte| tell(*byte));
        }
        text.path &= text.length as usize == PATH.len();
        Ok(text)
    }
}

/// A text; `None` where it is not all there.
fn string<'b>(rest: &mut &'b [u8]) -> Result<Option<Raw<'b>>, Malformed> {
    let Some(&first) = rest.first() else { return Ok(None) };
    let Some(length) = integer(rest, 7)? else { return Ok(None) };
    let Some((bytes, behind)) = rest.split_at_checked(length) else {
        *rest = &[];
        return Ok(None);
    };
    *rest = behind;
    Ok(Some(Raw { bytes, huffman: first & 0x80 != 0 }))
}

/// An integer whose first byte has so many bits of it (RFC 7541, section 5.1); `None` where it is not all there.
fn integer(rest: &mut &[u8], prefix: u32) -> Result<Option<usize>, Malformed> {
    let Some((&first, mut behind)) = rest.split_first() else { return Ok(None) };
    let mask = (1_usize << prefix) - 1;
    let mut number = usize::from(first) & mask;
    if number == mask {
        for shift in (0..).step_by(7).take(MAX_INTEGER + 1) {
            if shift == 7 * MAX_INTEGER {
                return Err(Malformed);
            }
            let Some((&byte, next)) = behind.split_first() else { return Ok(None) };
            behind = next;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = behind;
    Ok(Some(number))
}
