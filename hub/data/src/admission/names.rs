//! Hop `admission`: names of fields as the types of `http` hold them, with their marks.
//!
//! Nearly all names that ever come are on one short list, so that a name is found by a few of its bytes and one comparison,
//! instead of being checked, allocated and asked for its meaning again in each head. What is not on the list is read the long
//! way, to the same result.

use http::HeaderName;

use super::marks::Marks;
use super::syntax::{every, token};

/// No name on the list is longer.
const LONGEST: usize = 32;

/// Places on the list, many times its names, so that few share one. A power of two.
const PLACES: usize = 512;

macro_rules! known {
    ($($name:literal $($mark:ident)?,)*) => {
        const NAMES: &[&str] = &[$($name),*];
        static KNOWN: [(HeaderName, Marks); NAMES.len()] = [$((HeaderName::from_static($name), known!(@ $($mark)?))),*];
    };
    (@) => { Marks::NONE };
    (@ $mark:ident) => { Marks::$mark };
}

known! {
    "accept",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "access-control-allow-origin",
    "age",
    "authorization" AUTHENTICATION,
    "cache-control",
    "connection" CONNECTION,
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length" CONTENT_LENGTH,
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "dnt",
    "etag",
    "expect" EXPECT,
    "expires",
    "forwarded" TRUSTED,
    "host",
    "if-modified-since",
    "if-none-match",
    "keep-alive" HOP,
    "last-modified",
    "link",
    "location",
    "origin",
    "pragma",
    "priority",
    "range",
    "referer",
    "referrer-policy",
    "retry-after",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-websocket-key",
    "sec-websocket-version",
    "server",
    "server-timing",
    "set-cookie",
    "strict-transport-security",
    "te" TE,
    "traceparent",
    "tracestate",
    "transfer-encoding" TRANSFER_ENCODING,
    "upgrade" UPGRADE,
    "upgrade-insecure-requests",
    "user-agent",
    "vary",
    "via",
    "www-authenticate" AUTHENTICATION,
    "x-content-type-options",
    "x-forwarded-for" TRUSTED,
    "x-forwarded-host" TRUSTED,
    "x-forwarded-port" TRUSTED,
    "x-forwarded-proto" TRUSTED,
    "x-frame-options",
    "x-powered-by",
    "x-real-ip" TRUSTED,
    "x-request-id",
    "x-requested-with",
    "x-xss-protection",
}

/// A name in words of the processor, with zeros behind it.
type Words = [u64; LONGEST / 8];

const fn words(name: &[u8]) -> Words {
    assert!(name.len() <= LONGEST);
    let (mut words, mut at) = ([0; LONGEST / 8], 0);
    while at < name.len() {
        words[at / 8] |= (name[at] as u64) << (at % 8 * 8);
        at += 1;
    }
    words
}

/// Each name on the list, and the bit of each of its letters that tells upper from lower case.
static SPELT: [(Words, Words); NAMES.len()] = {
    let (mut spelt, mut number) = ([([0; LONGEST / 8], [0; LONGEST / 8]); NAMES.len()], 0);
    while number < NAMES.len() {
        let name = NAMES[number].as_bytes();
        let (mut cases, mut at) = ([0; LONGEST], 0);
        while at < name.len() {
            cases[at] = if name[at].is_ascii_lowercase() { CASE } else { 0 };
            at += 1;
        }
        spelt[number] = (words(name), words(&cases));
        number += 1;
    }
    spelt
};

const CASE: u8 = b'a' ^ b'A';

/// Where a name is looked for first, however its letters are spelt.
const fn place(name: &Words) -> usize {
    let (mut mix, mut at) = (0u64, 0);
    while at < name.len() {
        mix = (mix ^ (name[at] & !every(CASE))).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        at += 1;
    }
    (mix >> 32) as usize % PLACES
}

/// For each place the number of a name from 1 on; 0 where there is none. A name whose place is taken stands at the next free one.
static PLACED: [u8; PLACES] = {
    let (mut placed, mut number) = ([0; PLACES], 0);
    while number < NAMES.len() {
        let mut at = place(&words(NAMES[number].as_bytes()));
        while placed[at] != 0 {
            at = (at + 1) % PLACES;
        }
        number += 1;
        placed[at] = number as u8;
    }
    placed
};

/// Reads the name at the front of a field line; `None` where there is none. Behind it stands what is no part of a token.
#[inline]
pub(super) fn take(line: &[u8]) -> Option<(HeaderName, Marks, usize)> {
    match known(line) {
        Some((name, marks, length)) => Some((name.clone(), marks, length)),
        None => unknown(line),
    }
}

#[inline]
fn known(line: &[u8]) -> Option<(&'static HeaderName, Marks, usize)> {
    let (name, length) = before_colon(line)?;
    let mut at = place(&name);
    loop {
        let number = usize::from(PLACED[at]).checked_sub(1)?;
        let (spelt, cases) = &SPELT[number];
        let other = (0..name.len()).fold(0, |other, at| other | ((name[at] ^ spelt[at]) & !cases[at]));
        if other == 0 && length == NAMES[number].len() {
            let (name, marks) = &KNOWN[number];
            return Some((name, *marks, length));
        }
        at = (at + 1) % PLACES;
    }
}

/// The bytes before the first colon, and how many they are; `None` where they are more than any name on the list has, or the
/// line is about to end.
#[inline]
fn before_colon(line: &[u8]) -> Option<(Words, usize)> {
    let mut name = Words::default();
    for (at, word) in name.iter_mut().enumerate() {
        let bytes = u64::from_le_bytes(*line.get(at * 8..)?.first_chunk()?);
        // The lowest bit that is set is the highest one of the first colon.
        let other = bytes ^ every(b':');
        let colons = other.wrapping_sub(every(1)) & !other & every(0x80);
        if colons != 0 {
            let bits = colons.trailing_zeros() / 8 * 8;
            *word = bytes & ((1 << bits) - 1);
            return Some((name, at * 8 + (bits / 8) as usize));
        }
        *word = bytes;
    }
    None
}

fn unknown(line: &[u8]) -> Option<(HeaderName, Marks, usize)> {
    let length = token(line);
    let name = HeaderName::from_bytes(&line[..length]).ok()?;
    let marks = Marks::of_name(name.as_str().as_bytes());
    Some((name, marks, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_on_the_list_and_off_it() {
        for name in NAMES.iter().copied().chain(["x-other", "x_forwarded_for", "proxy", "x-a-name-that-is-longer-than-all-on-the-list"]) {
            for spelt in [name.to_owned(), name.to_uppercase()] {
                let line = format!("{spelt}: x");
                let (found, marks, length) = take(line.as_bytes()).unwrap();
                assert_eq!((found, marks, length), unknown(line.as_bytes()).unwrap());
                assert_eq!((length, marks), (name.len(), Marks::of_name(name.as_bytes())), "{name}");
            }
        }
        assert!(NAMES.iter().all(|name| known(format!("{name}: some value").as_bytes()).is_some()));
        assert!(known(b"x-other: some value").is_none());
        assert!(known(b"te\0: some value").is_none() && known(b"keep\ralive: some value").is_none());
        assert!(take(b"").is_none() && take(b": x").is_none() && take(b" x: y").is_none());
    }
}
