//! Hop `admission`: what a header block of HTTP/2 (HPACK, RFC 7541) says of `:path`, without keeping a single field. Pure.
//!
//! The dynamic table holds no text here: the lengths of each entry, and whether it is a path with a fragment. That is all
//! that decides which entry an index means, so that reading along costs little beside the decoding proper.

use std::collections::VecDeque;

use figspan_proto::hpack::{self, Malformed, STATIC, Text};

/// The size of the dynamic table that a server allows unless it says otherwise, and this one does not.
const TABLE: usize = 4096;
/// What an entry counts beside its texts.
const OVERHEAD: usize = 32;
const PATH: &str = ":path";

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
struct Measure {
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
        let Some(number) = hpack::integer(rest, prefix)? else { return Ok(None) };
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
        let literal_name = if number == 0 { Some(hpack::text(rest)?) } else { None };
        let Some(value) = hpack::text(rest)? else { return Ok(None) };
        let (name, path) = match literal_name {
            None => self.entry(number).map(|entry| (entry.name, entry.path))?,
            Some(None) => return Ok(None),
            Some(Some(raw)) => {
                // A longer name is not `:path`, whichever way it is written.
                let text = if prefix == 6 || raw.bytes.len() <= PATH.len() { measured(&raw, true)? } else { Measure::default() };
                (text.length, text.path)
            }
        };
        // The length of a value that is not kept does not matter.
        let keeps = prefix == 6;
        let text = if keeps || path { measured(&value, false)? } else { Measure::default() };
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
            at if at < STATIC.len() => Ok(fixed(STATIC[at].0)),
            at => self.entries.get(at - STATIC.len()).copied().ok_or(Malformed),
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

/// What matters of a text.
fn measured(text: &Text<'_>, name: bool) -> Result<Measure, Malformed> {
    let mut measure = Measure { path: name, ..Measure::default() };
    text.tell(|byte| {
        measure.path &= PATH.as_bytes().get(measure.length as usize) == Some(&byte);
        measure.hash |= byte == b'#';
        measure.length += 1;
    })?;
    measure.path &= measure.length as usize == PATH.len();
    Ok(measure)
}
