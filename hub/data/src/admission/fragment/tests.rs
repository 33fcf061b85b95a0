use figspan_proto::hpack::{self, huffman};
use proptest::prelude::*;

use super::*;

const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn preface() -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])].concat()
}

/// A text as HPACK writes it.
fn text(text: &str, huffman: bool) -> Vec<u8> {
    let bytes = if huffman { huffman::encode(text.as_bytes()) } else { text.as_bytes().to_vec() };
    [integer(bytes.len(), 7, if huffman { 0x80 } else { 0 }), bytes].concat()
}

fn integer(number: usize, prefix: u32, first: u8) -> Vec<u8> {
    let mut out = Vec::new();
    hpack::put_integer(&mut out, first, prefix, number);
    out
}

/// A literal with its name written out: kept (0x40), not kept (0x00) or never kept (0x10).
fn literal(kind: u8, name: &str, value: &str, huffman: bool) -> Vec<u8> {
    [vec![kind], text(name, huffman), text(value, huffman)].concat()
}

fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
}

/// After these bytes: at once, and one by one.
fn after(bytes: &[u8]) -> [Fragments; 2] {
    let mut whole = Fragments::new(1024);
    whole.read(bytes);
    let mut pieces = Fragments::new(1024);
    bytes.chunks(1).for_each(|piece| pieces.read(piece));
    [whole, pieces]
}

fn check(frames: &[Vec<u8>], wanted: &[(u32, bool)]) {
    for mut fragments in after(&[preface(), frames.concat()].concat()) {
        for (stream, wanted) in wanted {
            assert_eq!(fragments.take(*stream), *wanted, "stream {stream}");
        }
    }
}

#[test]
fn a_path_with_a_fragment_is_found_in_every_way_of_writing_it() {
    for kind in [0x00, 0x10, 0x40] {
        for huffman in [false, true] {
            check(&[headers(1, &literal(kind, ":path", "/a?b#c", huffman))], &[(1, true), (3, false)]);
            check(&[headers(1, &literal(kind, ":path", "/a?b%23c", huffman))], &[(1, false)]);
            // The name by its index in the static table.
            for index in [4, 5] {
                check(&[headers(1, &[vec![kind | index], text("/#", huffman)].concat())], &[(1, true)]);
            }
        }
    }
}

#[test]
fn a_number_sign_elsewhere_is_none() {
    let block = [literal(0, ":pat", "#", false), literal(0x40, ":paths", "#", true), literal(0, "x#y", "#", false), vec![0x84]].concat();
    check(&[headers(1, &block), headers(3, &[0xbe])], &[(1, false), (3, false)]);
}

#[test]
fn an_entry_of_the_dynamic_table_is_followed() {
    let first = [literal(0x40, ":path", "/a#b", true), literal(0x40, ":path", "/plain", false), literal(0x40, "x", "y", true)].concat();
    // From the newest on: x, /plain, /a#b.
    let frames =
        [headers(1, &first), headers(3, &[0xbf]), headers(5, &[0xc0]), headers(7, &[integer(62 + 2, 6, 0x40), text("/p", false)].concat())];
    check(&frames, &[(1, true), (3, false), (5, true), (7, false)]);
}

#[test]
fn an_evicted_entry_is_gone() {
    let first = [literal(0x40, ":path", "/a#b", true), literal(0x40, ":path", "/plain", false)].concat();
    // Room for one entry, then for the whole table again.
    let smaller = [integer(50, 5, 0x20), integer(4096, 5, 0x20)].concat();
    check(&[headers(1, &first), headers(3, &smaller), headers(5, &[0xbe])], &[(1, true), (3, false), (5, false)]);
    // What an index means is not known any more: refuse.
    check(&[headers(1, &first), headers(3, &smaller), headers(5, &[0xbf])], &[(5, true), (7, true)]);
}

#[test]
fn an_entry_too_large_for_the_table_empties_it() {
    let large = "a".repeat(4096);
    let frames = [headers(1, &literal(0x40, ":path", "/#", false)), headers(3, &literal(0x40, "x", &large, true)), headers(5, &[0xbe])];
    check(&frames[..2], &[(1, true), (3, false)]);
    check(&frames, &[(5, true), (7, true)]);
}

#[test]
fn blocks_may_be_padded_prioritised_and_continued() {
    let block = [literal(0x40, "x", "y", true), literal(0, ":path", "/a#b", true)].concat();
    let (a, b) = block.split_at(7);
    let padded = [&[3][..], &[0, 0, 0, 0, 16], a, &[0; 3]].concat();
    let frames = [
        frame(0, 0, 9, b"a body with a # in it"),
        frame(HEADERS, PADDED | PRIORITY, 11, &padded),
        frame(CONTINUATION, 0, 11, &[]),
        frame(CONTINUATION, END_HEADERS, 11, b),
        frame(0, END_STREAM, 11, &[]),
        headers(13, &[0x84]),
    ];
    check(&frames, &[(9, false), (11, true), (13, false)]);
}

#[test]
fn what_cannot_be_followed_makes_every_later_request_suspect() {
    for (name, bytes) in [
        ("index 0", headers(1, &[0x80])),
        ("an index beyond the table", headers(1, &[0xbe])),
        ("a table that was never allowed", headers(1, &integer(4097, 5, 0x20))),
        ("an endless integer", headers(1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
        ("a block cut short", headers(1, &literal(0, ":path", "/", false)[..7])),
        ("bad Huffman code", headers(1, &[0x04, 0x81, 0x00])),
        ("more padding than there is", frame(HEADERS, PADDED | END_HEADERS, 1, &[9, 0x84])),
        ("no room for its padding", frame(HEADERS, PADDED | END_HEADERS, 1, &[])),
        (
            "a name without end",
            [frame(HEADERS, 0, 1, &integer(1_000_000, 7, 0)), frame(CONTINUATION, 0, 1, &[0; 16_384]).repeat(3)].concat(),
        ),
    ] {
        for mut fragments in after(&[preface(), bytes, headers(3, &[0x84])].concat()) {
            // The tail of an endless text is bounded.
            assert!(fragments.tail.capacity() <= 64 * 1024, "{name}");
            let endless = fragments.frame.is_some() || !fragments.tail.is_empty();
            assert!(fragments.take(3) || endless, "{name}");
        }
    }
}

#[test]
fn marks_that_nobody_asks_for_are_bounded() {
    let mut fragments = Fragments::new(1024);
    fragments.read(&preface());
    for stream in (1..20_001).step_by(2) {
        fragments.read(&headers(stream, &literal(0, ":path", "/#", false)));
        assert!(fragments.marked.len() <= MAX_MARKED);
    }
    assert!(fragments.take(30_001));
}

/// How an encoder writes one field.
#[derive(Debug, Clone)]
struct Way {
    field: usize,
    kind: u8,
    huffman: bool,
    by_index: bool,
    resize: Option<usize>,
}

/// An encoder that keeps the texts, as h2's decoder does.
#[derive(Default)]
struct Encoder {
    table: VecDeque<(&'static str, &'static str)>,
    most: Option<usize>,
}

impl Encoder {
    fn evict(&mut self) {
        let size = |table: &VecDeque<(&str, &str)>| table.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>();
        while size(&self.table) > self.most.unwrap_or(4096) {
            self.table.pop_back();
        }
    }

    fn write(&mut self, way: &Way, out: &mut Vec<u8>) -> bool {
        let (name, value) = FIELDS[way.field];
        let fragment = name == ":path" && value.contains('#');
        let at = self.table.iter().position(|entry| *entry == (name, value));
        if let (true, Some(at)) = (way.by_index, at) {
            out.extend(integer(62 + at, 7, 0x80));
            return fragment;
        }
        let named = if name == ":path" { Some(4) } else { self.table.iter().position(|(held, _)| *held == name).map(|at| 62 + at) };
        let prefix = if way.kind == 0x40 { 6 } else { 4 };
        match named.filter(|_| way.by_index) {
            Some(index) => out.extend(integer(index, prefix, way.kind)),
            None => {
                out.push(way.kind);
                out.extend(text(name, way.huffman));
            }
        }
        out.extend(text(value, way.huffman));
        if way.kind == 0x40 {
            self.table.push_front((name, value));
            self.evict();
        }
        fragment
    }
}

const LONG: &str = "a value that takes much of the table, so that entries leave it soon: 0123456789 0123456789 0123456789 0123456789";
const FIELDS: [(&str, &str); 7] =
    [(":path", "/"), (":path", "/a#b"), (":path", "/plain?x=y"), ("x-a", "#"), ("x-long", LONG), (":authority", "a.example"), ("#", "")];

prop_compose! {
    fn way()(
        field in 0..FIELDS.len(),
        kind in prop::sample::select(vec![0x00_u8, 0x10, 0x40, 0x40]),
        huffman: bool,
        by_index in prop::bool::weighted(0.7),
        resize in prop::option::weighted(0.1, 0_usize..=300),
    ) -> Way { Way { field, kind, huffman, by_index, resize } }
}

proptest! {
    /// Whatever an encoder does with its table, each request's mark is right, however the bytes arrive.
    #[test]
    fn every_encoder_is_followed(requests in prop::collection::vec(prop::collection::vec(way(), 1..6), 1..20), cuts in prop::collection::vec(1_usize..40, 1..50)) {
        let mut encoder = Encoder::default();
        let mut bytes = preface();
        let mut wanted = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            let stream = number as u32 * 2 + 1;
            let mut block = Vec::new();
            if let Some(most) = request[0].resize {
                block.extend(integer(most, 5, 0x20));
                encoder.most = Some(most);
                encoder.evict();
            }
            let mut found = false;
            for way in request {
                found |= encoder.write(way, &mut block);
            }
            bytes.extend(headers(stream, &block));
            wanted.push((stream, found));
        }
        let mut fragments = Fragments::new(1024);
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at((*cut).min(rest.len()));
            fragments.read(piece);
            rest = behind;
            if rest.is_empty() { break }
        }
        prop_assert!(!fragments.lost);
        for (stream, found) in wanted {
            prop_assert_eq!(fragments.take(stream), found, "stream {}", stream);
        }
    }
}
