//! Hop `admission`: names of fields as the types of `http` hold them, with their marks.
//!
//! Nearly all names that ever come are on one short list, so that a name is found by a few of its bytes and one comparison,
//! instead of being checked, allocated and asked for its meaning again in each head. What is not on the list is read the long
//! way, to the same result.

use http::HeaderName;

use super::marks::Marks;
use super::syntax::LOWER;

/// Longest name that is looked for on the list; all of its names fit.
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

/// Where a name is looked for first.
const fn place(name: &[u8]) -> usize {
    let length = name.len();
    let mix = length * 37 + name[0] as usize * 7 + name[length / 2] as usize * 61 + name[length - 1] as usize * 131;
    mix % PLACES
}

/// For each place the number of a name from 1 on; 0 where there is none. A name whose place is taken stands at the next free one.
static PLACED: [u8; PLACES] = {
    let mut placed = [0; PLACES];
    let mut number = 0;
    while number < NAMES.len() {
        assert!(NAMES[number].len() <= LONGEST);
        let mut at = place(NAMES[number].as_bytes());
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
    let mut lower = [0; LONGEST];
    let mut length = 0;
    for (&byte, lower) in line.iter().zip(&mut lower) {
        *lower = LOWER[usize::from(byte)];
        if *lower == 0 {
            break;
        }
        length += 1;
    }
    match known(&lower[..length]) {
        Some((name, marks)) => Some((name.clone(), *marks, length)),
        None => unknown(line),
    }
}

#[inline]
fn known(lower: &[u8]) -> Option<&'static (HeaderName, Marks)> {
    if lower.is_empty() {
        return None;
    }
    let mut at = place(lower);
    loop {
        let number = usize::from(PLACED[at]).checked_sub(1)?;
        if NAMES[number].as_bytes() == lower {
            return Some(&KNOWN[number]);
        }
        at = (at + 1) % PLACES;
    }
}

fn unknown(line: &[u8]) -> Option<(HeaderName, Marks, usize)> {
    let length = line.iter().position(|&byte| LOWER[usize::from(byte)] == 0).unwrap_or(line.len());
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
        assert!(NAMES.iter().all(|name| known(name.as_bytes()).is_some()) && known(b"x-other").is_none());
        assert!(take(b"").is_none() && take(b": x").is_none() && take(b" x: y").is_none());
    }
}
