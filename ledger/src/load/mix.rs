//! Which request each number is. Pure: the same number is always the same request but for its id.

use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;

use crate::chunks::Chunks;
use crate::verb::Verb;

/// Largest body that every hub keeps for another try (its default is 64 KiB; the head does not count).
const KEPT: usize = 60 * 1024;

/// Users of the mix of everything. Each brings its name and the cookies that it was given.
const USERS: u64 = 64;

/// What a load is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// GETs and, every third, a POST of an order; HTTP/1.1.
    Orders,
    /// Every method; HTTP/1.1 and HTTP/2 in turn; bodies from nothing to 300 KiB, with and without a length; users with cookies.
    Everything,
    /// Bodies of 1 to 4 MiB by PUT and POST in turn; HTTP/1.1 and HTTP/2.
    Uploads,
}

/// One request.
pub(super) struct Ask {
    pub(super) id: u64,
    /// Whose it is, where it is anybody's.
    pub(super) user: Option<u64>,
    pub(super) verb: Verb,
    /// Over HTTP/2.
    pub(super) h2: bool,
    pub(super) body: Bytes,
    /// Its length is not announced.
    pub(super) parts: bool,
}

impl Ask {
    pub(super) fn chunks(&self) -> Chunks {
        if self.parts { Chunks::parts(self.body.clone()) } else { Chunks::whole(self.body.clone()) }
    }

    pub(super) fn replayable(&self) -> bool {
        self.body.len() <= KEPT
    }
}

/// The request of that number.
pub(super) fn ask(mix: Option<Mix>, id: u64, number: u64) -> Ask {
    let plain = |verb, body| Ask { id, user: None, verb, h2: false, body, parts: false };
    match mix {
        None => plain(Verb::Get, Bytes::new()),
        Some(Mix::Orders) if number % 3 == 1 => {
            plain(Verb::Post, format!("order {id:016x} ").repeat(1 + usize::try_from(id % 40).unwrap_or(0)).into())
        }
        Some(Mix::Orders) => plain(Verb::Get, Bytes::new()),
        Some(Mix::Everything) => {
            let dice = dice(number);
            let verb = match dice % 100 {
                0..40 => Verb::Get,
                40..45 => Verb::Head,
                45..75 => Verb::Post,
                75..85 => Verb::Put,
                85..93 => Verb::Delete,
                _ => Verb::Patch,
            };
            let length = match (verb.has_body(), (dice >> 8) % 100) {
                (false, _) => 0,
                (true, 0..80) => (dice >> 16) % 4096,
                (true, 80..95) => (dice >> 16) % (40 * 1024),
                // More than a hub keeps for another try.
                (true, _) => 100 * 1024 + (dice >> 16) % (200 * 1024),
            };
            Ask {
                id,
                user: Some((dice >> 48) % USERS),
                verb,
                h2: (dice >> 40).is_multiple_of(2),
                body: body(id, length),
                parts: verb.has_body() && (dice >> 41).is_multiple_of(3),
            }
        }
        Some(Mix::Uploads) => {
            let verb = if number.is_multiple_of(2) { Verb::Put } else { Verb::Post };
            let length = (1 << 20) + dice(number) % (3 << 20);
            Ask { id, user: None, verb, h2: (number / 2).is_multiple_of(2), body: body(id, length), parts: (number / 4).is_multiple_of(2) }
        }
    }
}

/// What looks like chance and is the same each time.
fn dice(number: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&number.to_be_bytes());
    hasher.finish()
}

/// Bytes that follow from the id.
fn body(id: u64, length: u64) -> Bytes {
    (0..length).map(|at| (id.wrapping_mul(17).wrapping_add(at.wrapping_mul(13)) % 253) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_long_and_go_every_way() {
        let asks: Vec<Ask> = (0..8).map(|number| ask(Some(Mix::Uploads), number, number)).collect();
        assert!(asks.iter().all(|ask| (1 << 20..4 << 20).contains(&ask.body.len()) && !ask.replayable()));
        for verb in [Verb::Put, Verb::Post] {
            assert!([false, true].iter().all(|h2| asks.iter().any(|ask| ask.verb == verb && ask.h2 == *h2)));
        }
    }

    #[test]
    fn the_mix_has_everything_in_it_and_never_changes() {
        let asks: Vec<Ask> = (0..2000).map(|number| ask(Some(Mix::Everything), number, number)).collect();
        for verb in Verb::ALL {
            for h2 in [false, true] {
                assert!(asks.iter().any(|ask| ask.verb == verb && ask.h2 == h2), "{verb:?} {h2}");
            }
            assert_eq!(asks.iter().any(|ask| ask.verb == verb && ask.parts), verb.has_body(), "{verb:?}");
        }
        assert!(asks.iter().any(|ask| ask.verb == Verb::Put && !ask.replayable()));
        let again = ask(Some(Mix::Everything), 7, 7);
        assert_eq!((again.verb, again.body.clone()), (asks[7].verb, asks[7].body.clone()));
    }
}
